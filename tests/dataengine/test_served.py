"""A run's account names every sample that its plan does not have, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataengine.errors import PlanError, SourceError
from dataengine.index import Index
from dataengine.served import Account, account, run_plan, served_totals
from dataengine.stream import Stream, recipe

STEPS, BATCH = 300, 3
Lines = list[dict[str, Any]]


@pytest.fixture
def write(tiny_shards: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run of the plan, its lines changed by a function; the first sample is skipped."""

    def run(change: Callable[[Lines], object] = lambda lines: None, **mixture: Any) -> Path:
        fields = {"policy": "uniform", **mixture}
        config = {"seed": 4, "global_batch": BATCH, "mixture": fields, "steps": STEPS, "model": "tiny"}
        stream = Stream(tiny_shards, recipe(mode="unmixed", seed=4, global_batch=BATCH, **fields))
        lines: Lines = []
        for step in range(STEPS):
            first, *ids = [
                stream.entry(position)["id"] for position in range(step * BATCH, (step + 1) * BATCH)
            ]
            lines.append({"step": step + 1, "ids": ids, "skipped": [[first, "image.corrupt"]]})
        change(lines)
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "served.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return tmp_path

    return run


def held(shards: Path, run: Path) -> Account:
    index = Index(shards)
    return account(index, run_plan(index, run), run)


def test_a_run_of_its_plan_has_no_difference(tiny_shards: Path, write: Callable[..., Path]) -> None:
    found = held(tiny_shards, write())

    assert (found.steps, found.differences) == (STEPS, ())
    assert sum(row.skipped for row in found.rows) == STEPS
    assert [row.samples + row.skipped for row in found.rows] == [row.planned for row in found.rows]
    assert sum(row.planned for row in found.rows) == STEPS * BATCH
    assert {row.epochs for row in found.rows} == {row.samples / row.size for row in found.rows}
    ((name, planned, served, skipped, _, epochs),) = served_totals(found.rows, "task")
    assert (name, planned, served, skipped) == ("detection", STEPS * BATCH, STEPS * (BATCH - 1), STEPS)
    assert epochs == served / 9


def test_what_was_skipped_is_read_as_earlier_runs_wrote_it(
    tiny_shards: Path, write: Callable[..., Path]
) -> None:
    def as_mapping(lines: Lines) -> None:
        for line in lines:
            line["skipped"] = dict(line["skipped"])

    assert held(tiny_shards, write(as_mapping)).differences == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[270]["ids"].pop(), ["step 271: {last} is missing"]),
        (lambda lines: lines[270]["skipped"].pop(), ["step 271: {first} is missing"]),
        (lambda lines: lines[270]["ids"].append("no/such#one"), [
            "step 271: no/such#one is not in the plan of this step",
        ]),
        (lambda lines: lines[270]["ids"].append(lines[270]["ids"][-1]), [
            "step 271: {last} is there 2 times, planned 1",
        ]),
        (lambda lines: lines.insert(271, lines[270]), [
            "step 271: {first} is there 2 times, planned 1", "step 271: {middle} is there 2 times, planned 1",
            "step 271: {last} is there 2 times, planned 1",
        ]),
        (lambda lines: lines.append(lines[270]), [
            "step 271: {first} is there again after step 300", "step 271: {middle} is there again after step 300",
            "step 271: {last} is there again after step 300",
        ]),
        (lambda lines: lines.pop(270), [
            "step 271: {first} is missing", "step 271: {middle} is missing", "step 271: {last} is missing",
        ]),
    ],
)  # fmt: skip
def test_a_difference_of_one_sample_is_told(
    tiny_shards: Path, write: Callable[..., Path], change: Callable[[Lines], object], told: list[str]
) -> None:
    kept: Lines = []

    def keep_and_change(lines: Lines) -> None:
        kept.append({"ids": [*lines[270]["ids"]]})
        change(lines)

    run = write(keep_and_change)
    first, (middle, last) = (
        Stream(tiny_shards, recipe(mode="unmixed", seed=4, global_batch=BATCH, policy="uniform")).entry(
            270 * BATCH
        )["id"],
        kept[0]["ids"],
    )

    found = held(tiny_shards, run)

    names = {"first": first, "middle": middle, "last": last}
    assert sorted(found.differences) == sorted(line.format(**names) for line in told)
    assert found.steps == STEPS


@pytest.mark.parametrize(
    ("checkpoints", "metrics", "missing_steps"),
    [
        (["step-00000299", f"step-{STEPS:08d}", ".step-00000400.tmp7"], STEPS, 3),
        ([f"step-{STEPS - 2:08d}"], STEPS, 1),
        ([], STEPS, 3),
        ([], None, 0),
    ],
)
def test_steps_that_the_record_does_not_reach_are_missing(
    tiny_shards: Path,
    write: Callable[..., Path],
    checkpoints: list[str],
    metrics: int | None,
    missing_steps: int,
) -> None:
    run = write(lambda lines: lines.__delitem__(slice(-3, None)))
    for name in checkpoints:
        (run / "checkpoints" / name).mkdir(parents=True)
    if metrics is not None:
        (run / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 2}}\n{{"step": {metrics}, "loss": 1}}\n')

    found = held(tiny_shards, run)

    assert found.steps == STEPS - 3 + missing_steps
    assert len(found.differences) == BATCH * missing_steps
    assert all(line.endswith(" is missing") for line in found.differences)
    assert sum(row.planned - row.samples - row.skipped for row in found.rows) == BATCH * missing_steps


def test_differences_say_whether_the_shards_are_those_of_the_run(
    tiny_shards: Path, write: Callable[..., Path]
) -> None:
    run = write(lambda lines: lines.pop())
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    folder.mkdir(parents=True)
    marks = msgspec.to_builtins(run_plan(Index(tiny_shards), run).marks)

    (folder / "checkpoint.json").write_text(json.dumps({"sources": marks}))
    same = held(tiny_shards, run)
    (folder / "checkpoint.json").write_text(
        json.dumps({"sources": [marks[0], {"name": "a/b/c", "num_samples": 4}]})
    )
    other = held(tiny_shards, run)

    assert len(same.differences) == BATCH
    assert other.differences[0] == (
        f"the shards are not those of the run: a/b/c is gone, {marks[1]['name']} is new"
    )
    assert other.differences[1:] == same.differences


def test_two_samples_in_each_others_steps_are_four_differences(
    tiny_shards: Path, write: Callable[..., Path]
) -> None:
    def swap(lines: Lines) -> None:
        a = next(n for n in range(50) if lines[n]["ids"][0] not in lines[n + 1]["ids"] + [lines[n + 1]["skipped"][0][0]]
                 and lines[n + 1]["ids"][0] not in lines[n]["ids"] + [lines[n]["skipped"][0][0]])  # fmt: skip
        one, other = lines[a]["ids"], lines[a + 1]["ids"]
        one[0], other[0] = other[0], one[0]

    found = held(tiny_shards, write(swap)).differences

    assert len([line for line in found if "is missing" in line]) == 2
    assert len([line for line in found if "is not in the plan of this step" in line]) == 2
    assert len(found) == 4


def test_a_run_of_another_mixture_differs(tiny_shards: Path, write: Callable[..., Path]) -> None:
    run = write(policy="proportional")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "mixture": {"policy": "uniform"}}))

    assert held(tiny_shards, run).differences


def test_the_account_of_a_schedule_has_no_difference(tiny_shards: Path, write: Callable[..., Path]) -> None:
    run = write(schedule=[{"step": 20, "over": 30, "policy": "proportional"}])

    assert held(tiny_shards, run).differences == ()


def test_a_folder_that_is_no_run_is_told(
    tiny_shards: Path, write: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"config\.json: cannot be read: .*; expected the folder of a"):
        held(tiny_shards, tmp_path / "nowhere")
    run = write()
    (run / "served.jsonl").write_bytes((run / "served.jsonl").read_bytes() + b'{"step": 3')
    with pytest.raises(SourceError, match=r"served\.jsonl: cannot be read"):
        held(tiny_shards, run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "adapt": {"function": "a:b"}}))
    with pytest.raises(PlanError, match=r"mixture\.jsonl: not a log of a mixture: .*No such file"):
        held(tiny_shards, run)
