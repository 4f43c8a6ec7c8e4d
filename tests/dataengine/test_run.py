from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine.convert import convert as convert_split
from dataengine.errors import BudgetBroken
from dataengine.index import Index
from dataengine.pipeline import Pipeline
from dataengine.run import run_pipeline
from dataengine.strict import convert

if TYPE_CHECKING:
    from tests.conftest import Tiny

Said = list[tuple[str, int, str]]


def pipeline(tiny: Tiny, **fields: Any) -> Pipeline:
    """Return a pipeline over the tiny dataset, without audit and report of losses unless asked for."""
    chosen = {
        "title": "small",
        "out": str(tiny.root.parent / "run"),
        "roots": {"here": str(tiny.root)},
        "convert": [{"spec": str(tiny.spec), "root": "here", "splits": ["train"]}],
        "shard": {"runner": "local", "samples_per_shard": 2},
        "audit": False,
        "workers": 1,
        **fields,
    }
    return convert(chosen, Pipeline, "test", [])


def bar_into(said: Said, act: Callable[[str, str], None] = lambda title, text: None) -> Any:
    """Return a progress bar that writes down what it was told."""

    @contextmanager
    def bar(title: str, unit: str) -> Iterator[Callable[[int, str], None]]:
        def update(count: int, text: str) -> None:
            said.append((title, count, text))
            act(title, text)

        yield update

    return bar


def test_a_second_run_does_nothing_again_and_mends_a_deleted_tar(tiny: Tiny) -> None:
    made, said = pipeline(tiny), Said()
    first = run_pipeline("small", made, bar_into([]))
    tars = sorted((Path(made.out) / "shards").glob("*.tar"))
    before = [tar.read_bytes() for tar in tars]

    run_pipeline("small", made, bar_into(said))
    tars[1].unlink()
    run_pipeline("small", made, bar_into([]))

    assert first.shards == len(tars) == 3
    assert ("shard (local)", 0, "unchanged") in said
    assert [tar.read_bytes() for tar in tars] == before


def test_conversion_has_the_workers_of_the_pipeline(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched(*given: Any, workers: int = 1, **named: Any) -> Any:
        seen.append(workers)
        return convert_split(*given, workers=workers, **named)

    monkeypatch.setattr("dataengine.run.convert", watched)

    run_pipeline("small", pipeline(tiny, workers=2), bar_into([]))

    assert seen and set(seen) == {2}


def test_a_signal_in_training_saves_and_ends_the_pipeline(tiny: Tiny) -> None:
    train = {
        "model": "tiny",
        "stage": "joint",
        "steps": 3,
        "global_batch": 2,
        "log_every": 1,
        "num_workers": 0,
    }
    made, said = pipeline(tiny, train=train), Said()

    def stop(title: str, text: str) -> None:
        if title == "train" and text.startswith("step 1 "):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run_pipeline("small", made, bar_into(said, stop))
    stopped_in = {title for title, _, _ in said}
    summary = run_pipeline("small", made, bar_into(said))

    assert "evaluate" not in stopped_in
    assert sum(count for title, count, _ in said if title == "train") == 3
    assert [task.task for task in summary.tasks] == ["detection"]


def test_what_is_never_to_be_trained_on_ends_the_run_or_is_left_out(tiny: Tiny, tmp_path: Path) -> None:
    sets = tmp_path / "exam.txt"
    sets.write_text("coco:42\n")
    document = tiny.document()
    old, name = tiny.root / "images/003.jpg", "COCO_val2014_000000000042.jpg"
    old.rename(old.with_name(name))
    document["images"][2]["file_name"] = name
    tiny.write(document)
    said = Said()

    with pytest.raises(
        BudgetBroken, match=r"1 samples to train on leak.*coco:42 of exam.*never\.action: drop"
    ):
        run_pipeline("small", pipeline(tiny, never={"sets": [str(sets)]}), bar_into([]))
    assert not (tmp_path / "run/shards").exists()
    made = pipeline(tiny, never={"sets": [str(sets)], "action": "drop"})
    summary = run_pipeline("small", made, bar_into([]))
    run_pipeline("small", made, bar_into(said))

    assert (summary.ledger.samples, summary.dropped) == (6, 1)
    assert ("never", 0, "unchanged") in said
    index = Index(tmp_path / "run/shards")
    assert [one.reason for one in index.set.dropped] == ["selected.leak.image"]
    assert len(index) == 5
