"""Predictions are written as they come: a call that was stopped goes on, and measures are made of the file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataengine.cli import main
from dataengine.errors import ModelError
from dataengine.shard import shard
from trainer import predictions
from trainer.evaluate import EVALUATION, PAGE, Evaluator, evaluate_predictions, evaluate_run
from trainer.predictions import PREDICTIONS, Header, Prediction, Unusable, Whole, append, read, resume

HOW: dict[str, Any] = {"batch_size": 1, "max_new_tokens": 6}  # a window has two samples


@pytest.fixture
def shards(tiny: Any, tmp_path: Path) -> Path:
    """Three samples as shards."""
    directory, _ = tiny.convert("val")
    shard([directory], tmp_path / "shards")
    return tmp_path / "shards"


class Stopped(Exception):
    """What ends a call in a test."""


def stop(count: int, text: str) -> None:
    raise Stopped


def test_a_call_that_was_stopped_goes_on_and_writes_the_same_bytes(
    straight: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_run(straight, shards, tmp_path / "whole", **HOW)
    with pytest.raises(Stopped):
        evaluate_run(straight, shards, tmp_path / "parts", progress=stop, **HOW)
    path = tmp_path / "parts" / PREDICTIONS
    left = read(path)
    # What a killed call left of its second window: a line, and a part of another.
    append(path, [msgspec.structs.replace(left.lines[0], number=2)])
    with path.open("ab") as file:
        file.write(b'{"type":"answ')
    answered: list[int] = []
    answer = Evaluator.answer

    def watched(evaluator: Evaluator, samples: Any, looks: Any) -> Any:
        answered.extend(number for number, _ in samples)
        return answer(evaluator, samples, looks)

    monkeypatch.setattr(Evaluator, "answer", watched)

    resumed = evaluate_run(straight, shards, tmp_path / "parts", **HOW)
    again = evaluate_run(straight, shards, tmp_path / "parts", **HOW)

    assert (left.whole, len(left.lines)) == (None, 2)
    assert answered == [2]
    assert resumed == again == whole
    for name in (PREDICTIONS, EVALUATION, PAGE):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_more_samples_go_on_behind_fewer(straight: Path, shards: Path, tmp_path: Path) -> None:
    whole = evaluate_run(straight, shards, tmp_path / "whole", **HOW)

    some = evaluate_run(straight, shards, tmp_path / "parts", limit=2, **HOW)
    rest = evaluate_run(straight, shards, tmp_path / "parts", **HOW)

    assert (some["samples"], rest) == (2, whole)
    assert (tmp_path / "whole" / PREDICTIONS).read_bytes() == (tmp_path / "parts" / PREDICTIONS).read_bytes()


def test_measures_and_page_are_made_anew_without_a_model(
    straight: Path, shards: Path, tmp_path: Path
) -> None:
    found = evaluate_run(straight, shards, tmp_path / "run", **HOW)

    anew = evaluate_predictions(tmp_path / "run" / PREDICTIONS, tmp_path / "anew")

    assert anew == found
    for name in (EVALUATION, PAGE):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "anew" / name).read_bytes()


def test_predictions_of_something_else_are_kept_unless_they_may_go(
    straight: Path, shards: Path, tmp_path: Path
) -> None:
    evaluate_run(straight, shards, tmp_path / "run", **HOW)
    before = (tmp_path / "run" / PREDICTIONS).read_bytes()

    with pytest.raises(ModelError, match=r"other settings \(free: True\); give another --out"):
        evaluate_run(straight, shards, tmp_path / "run", free=False, **HOW)
    assert (tmp_path / "run" / PREDICTIONS).read_bytes() == before
    found = evaluate_run(straight, shards, tmp_path / "run", free=False, replace=True, **HOW)

    assert [set(task) & {"free", "forced"} for task in found["tasks"].values()] == [{"forced"}]


def header(**changes: Any) -> Header:
    fields = {
        "version": 1,
        "digest": "d",
        "model": "m",
        "data": "x",
        "settings": {},
        "metrics": {},
        "window": 2,
    }
    return Header(**{**fields, **changes})


def unusable(number: int) -> Unusable:
    return Unusable(number=number, id=str(number), reason="image.corrupt")


def test_another_model_and_other_data_are_named(tmp_path: Path) -> None:
    resume(tmp_path / "p", header(), None)

    with pytest.raises(ModelError, match="another model, m"):
        resume(tmp_path / "p", header(model="n"), None)
    with pytest.raises(ModelError, match="another data, x"):
        resume(tmp_path / "p", header(data="y"), None)


@pytest.mark.parametrize("count", range(5))
def test_only_whole_windows_are_kept_of_what_is_not_finished(tmp_path: Path, count: int) -> None:
    path = tmp_path / "p"
    resume(path, header(), None)
    append(path, [unusable(number) for number in range(count)])

    book = resume(path, header(), None)

    assert [line.number for line in book.lines] == list(range(count - count % 2))
    assert read(path).lines == book.lines


def test_what_is_finished_is_kept_whole_for_the_same_limit(tmp_path: Path) -> None:
    path = tmp_path / "p"
    resume(path, header(), 3)
    append(path, [*map(unusable, range(3)), Whole(samples=3, limit=3)])

    assert len(resume(path, header(), 3).lines) == 3
    assert len(resume(path, header(), 5).lines) == 2


def test_a_file_killed_at_its_first_line_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b'{"type":"hea')

    assert resume(tmp_path / "p", header(), None).lines == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no json\n", "line 1: not a prediction"),
        (b"", "no header"),
        (b'{"type":"whole","samples":1,"limit":null}\n', "no header"),
    ],
)
def test_files_of_another_kind_are_told(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "p").write_bytes(content)

    with pytest.raises(ModelError, match=says):
        read(tmp_path / "p")
    with pytest.raises(ModelError, match="cannot be read"):
        read(tmp_path / "q")


def test_the_lines_are_all_that_a_sample_says(straight: Path, shards: Path, tmp_path: Path) -> None:
    evaluate_run(straight, shards, tmp_path, **HOW)

    (first, *_) = read(tmp_path / PREDICTIONS).lines

    assert isinstance(first, Prediction)
    assert predictions.encode(first) == predictions.encode(
        msgspec.json.decode(predictions.encode(first), type=Prediction)
    )
    assert [len(ask.routes) for ask in first.asks] == [len(first.sample.routes)]
    assert first.look is not None and len(first.look.images) == len(first.sample.images)


def test_the_command_shows_both_ways_and_makes_the_numbers_anew(
    straight: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")

    shown = run(
        capsys, str(straight), str(shards), "--out", out, "--batch-size", "1", "--max-new-tokens", "3"
    )
    anew = run(capsys, "--from", f"{out}/{PREDICTIONS}", "--out", str(tmp_path / "anew"), "--json")

    (title, *rows) = [line.split() for line in shown[0].splitlines()]
    assert title == ["task", "samples", "measure", "own", "answer", "answer", "given"]
    assert {row[2] for row in rows if row[0] == "tiny/detection"} >= {"box_ap", "routing_recall", "text_loss"}
    assert shown[0].splitlines()[-1] == f"page: {out}/{PAGE}"
    assert "evaluate: 3 samples, " in shown[1]
    assert msgspec.json.decode(anew[0]) == msgspec.json.decode((tmp_path / "out" / EVALUATION).read_bytes())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "RUN or DATA is missing"),
        (("run",), "RUN or DATA is missing"),
        (("run", "--from", "p.jsonl"), "--from needs no RUN"),
        (("--from", "nowhere.jsonl"), "cannot be read"),
    ],
)
def test_what_the_command_lacks_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])

    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith("error: ") and says in line


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Return what `dataengine evaluate` writes to stdout and stderr, when all is well."""
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    assert ended.value.code == 0
    written = capsys.readouterr()
    return written.out, written.err
