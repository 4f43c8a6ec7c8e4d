"""Decisions on a mixture take effect where they say, are in the log before, and are made again from it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataengine.adapt import Adapt, Adapter, Decision, Memory, check_adapt, follow_log, read_log
from dataengine.errors import PlanError, SpecError
from dataengine.mix import Plan, adapted, plan, task_shares
from dataengine.shares import Recipe, Source

Choose = Callable[[int, Mapping[str, float], Mapping[str, float]], Mapping[str, float] | None]


def made(**changes: Any) -> Plan:
    """Return a plan of three tasks of two families; the first task has two sources."""
    sources = [
        Source(name=f"d{i}/{task}/train", task=task, dataset=f"d{i}", family=family, num_samples=size)
        for i, (task, family, size) in enumerate(
            [
                ("vqa", "text", 30),
                ("vqa", "text", 10),
                ("caption", "text", 40),
                ("detection", "detection", 80),
            ]
        )
    ]
    chosen = {"seed": 1, "global_batch": 4, "policy": "proportional", "mode": "unmixed", **changes}
    return plan(sources, Recipe(**chosen))


def towards_losses(
    step: int, losses: Mapping[str, float], weights: Mapping[str, float]
) -> Mapping[str, float] | None:
    """Weigh tasks by their losses; keep the mixture where there are none."""
    return {task: losses.get(task, 0.0) + 0.01 for task in weights} if losses else None


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[[Choose], str]:
    """Return a function that makes another one importable and returns its name."""

    def offer(choose: Choose) -> str:
        module = types.ModuleType("chooser_of_test")
        module.choose = choose  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "chooser_of_test", module)
        return "chooser_of_test:choose"

    return offer


def drawn(one: Plan, start: int, stop: int) -> list[Any]:
    found = one.slice(start, stop)
    return [found.source.tolist(), found.epoch.tolist(), found.index.tolist()]


@pytest.mark.parametrize("mode", ["mixed", "unmixed", "stratified", "accumulate"])
def test_a_decision_changes_shares_from_its_step_on_and_nothing_before(mode: Any) -> None:
    before = made(mode=mode)

    after = adapted(before, 50, {"vqa": 1, "caption": 0, "detection": 3})

    assert drawn(after, 0, 200) == drawn(before, 0, 200)
    assert after.digest != before.digest
    assert after.segments[-1].order.shares == tuple(Fraction(n, 16) for n in (3, 1, 0, 12))
    served = after.counts(200 + 1600) - after.counts(200)
    assert served.tolist() == [300, 100, 0, 1200]


def test_passes_go_on_over_decisions() -> None:
    changed = adapted(adapted(made(), 13, {"vqa": 5, "caption": 1, "detection": 1}), 31,
                      {"vqa": 1, "caption": 5.5, "detection": 0.25})  # fmt: skip

    found = changed.slice(0, 1000)

    for source, size in enumerate(changed.sizes.tolist()):
        indices = found.index[found.source == source].tolist()
        for epoch in range(len(indices) // size):
            assert sorted(indices[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_the_function_is_asked_every_so_often_with_means_and_the_weights_in_effect(
    tmp_path: Path, offered: Callable[[Choose], str]
) -> None:
    asked: list[tuple[int, dict[str, float], dict[str, float]]] = []

    def choose(
        step: int, losses: Mapping[str, float], weights: Mapping[str, float]
    ) -> Mapping[str, float] | None:
        asked.append((step, dict(losses), dict(weights)))
        return {"vqa": 1.0, "caption": 2.0, "detection": 1.0} if step == 4 else None

    adapter = Adapter(Adapt(function=offered(choose), every=2, delay=3), made(), tmp_path / "log", Memory())

    changed = [
        adapter.after(1, {"vqa": 1.0}, {"text": 1.0}),
        adapter.after(2, {"vqa": 2.0, "caption": 5.0}, {"text": 3.0}),
        adapter.after(3, {"detection": 1.0}, {"text": 1.0, "detection/l1": 2.0, "detection/giou": 0.5}),
        adapter.after(4, {}, {}),
        adapter.after(5, {}, {}),
        adapter.after(6, {}, {}),
    ]

    shares = {"caption": 0.25, "detection": 0.5, "vqa": 0.25}
    chosen = {"caption": 2.0, "detection": 1.0, "vqa": 1.0}
    assert asked == [
        (2, {"caption": 5.0, "vqa": 1.5}, shares),
        (4, {"detection": 3.5}, shares),
        (6, {}, chosen),
    ]
    assert changed == [False, False, False, True, False, False]
    (decision,) = read_log(tmp_path / "log")
    assert decision == Decision(step=4, start=7, weights=chosen, plan=adapter.plan.digest)
    assert adapter.plan.segments[-1].start == 7 * 4


def test_a_decision_is_in_the_log_before_anybody_hears_of_it(
    tmp_path: Path, offered: Callable[[Choose], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = Adapter(Adapt(function=offered(towards_losses), every=1), made(), tmp_path / "log", Memory())

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(OSError, match="no space"):
        adapter.after(1, {"vqa": 2.0}, {})
    assert adapter.memory.decisions == ()


def run(adapter: Adapter, first: int, last: int) -> None:
    for step in range(first, last + 1):
        adapter.after(step, {"vqa": 1 / step, "caption": step / 7}, {})


def test_a_run_goes_on_from_its_memory_as_if_it_had_not_stopped(
    tmp_path: Path, offered: Callable[[Choose], str]
) -> None:
    settings = Adapt(function=offered(towards_losses), every=5, delay=4)
    whole = Adapter(settings, made(), tmp_path / "whole", Memory())
    run(whole, 1, 30)

    killed = Adapter(settings, made(), tmp_path / "log", Memory())
    run(killed, 1, 13)
    kept = msgspec.json.decode(msgspec.json.encode(killed.memory), type=Memory)
    run(killed, 14, 22)  # what is lost
    again = Adapter(settings, made(), tmp_path / "log", kept)
    run(again, 14, 30)

    assert (tmp_path / "log").read_bytes() == (tmp_path / "whole").read_bytes()
    assert again.plan.digest == whole.plan.digest
    assert drawn(again.plan, 0, 400) == drawn(whole.plan, 0, 400)


def test_processes_that_keep_no_log_decide_the_same_and_write_nothing(
    tmp_path: Path, offered: Callable[[Choose], str]
) -> None:
    settings = Adapt(function=offered(towards_losses), every=5, delay=4)
    keeper = Adapter(settings, made(), tmp_path / "log", Memory())
    run(keeper, 1, 12)
    before = (tmp_path / "log").read_bytes()

    other = Adapter(settings, made(), tmp_path / "log", Memory(), keep_log=False)
    assert (tmp_path / "log").read_bytes() == before
    run(other, 1, 12)

    assert (tmp_path / "log").read_bytes() == before
    assert len(read_log(tmp_path / "log")) == 2
    assert other.memory == keeper.memory
    assert other.plan.digest == keeper.plan.digest


def test_a_log_leads_to_the_same_positions_without_the_function(
    tmp_path: Path, offered: Callable[[Choose], str]
) -> None:
    whole = Adapter(
        Adapt(function=offered(towards_losses), every=5, delay=4), made(), tmp_path / "whole", Memory()
    )
    run(whole, 1, 30)

    replayed = Adapter(Adapt(replay=str(tmp_path / "whole"), every=3), made(), tmp_path / "log", Memory())
    for step in range(1, 31):
        replayed.after(step, {}, {})

    assert (tmp_path / "log").read_bytes() == (tmp_path / "whole").read_bytes()
    assert drawn(replayed.plan, 0, 400) == drawn(whole.plan, 0, 400)
    assert follow_log(made(), read_log(tmp_path / "log"), "log").digest == whole.plan.digest


def test_a_log_of_another_mixture_is_refused(tmp_path: Path, offered: Callable[[Choose], str]) -> None:
    adapter = Adapter(Adapt(function=offered(towards_losses), every=5), made(), tmp_path / "log", Memory())
    run(adapter, 1, 5)

    with pytest.raises(
        PlanError, match=r"log: the decision after step 5 leads to plan '\w+', expected '\w+'"
    ):
        follow_log(made(seed=2), read_log(tmp_path / "log"), "log")


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"vqa": 1, "caption": 1}, "task 'detection' has none, expected one for each"),
        ({"vqa": 1, "captoin": 1}, "'captoin' is no task of the mixture; did you mean 'caption'"),
        ({"vqa": -1, "caption": 1, "detection": 1}, "'vqa' is -1.0, expected a number from 0 on"),
        ({"vqa": float("nan"), "caption": 1, "detection": 1}, "'vqa' is nan"),
        ({"vqa": 0, "caption": 0, "detection": 0}, "all are 0"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_with_function_and_step(
    tmp_path: Path, offered: Callable[[Choose], str], weights: dict[str, float], told: str
) -> None:
    name = offered(lambda step, losses, now: weights)
    adapter = Adapter(Adapt(function=name, every=1), made(), tmp_path / "log", Memory())

    with pytest.raises(PlanError, match=f"^adapt {name}: after step 1: weights: .*{told}"):
        adapter.after(1, {}, {})
    assert (tmp_path / "log").read_bytes() == b""


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: ["vqa"], r"the answer is \['vqa'\], expected a weight for each task"),
        (lambda: {"vqa": "much"}, "the answer is {'vqa': 'much'}, expected a weight"),
        (
            lambda: dict[str, float]()["vqa"],
            r"KeyError: 'vqa' \(.*test_adapt.py:\d+\), expected weights or None",
        ),
    ],
)
def test_a_function_that_fails_or_answers_with_no_weights_is_one_line(
    tmp_path: Path, offered: Callable[[Choose], str], answer: Callable[[], Any], told: str
) -> None:
    name = offered(lambda step, losses, now: answer())
    adapter = Adapter(Adapt(function=name, every=1), made(), tmp_path / "log", Memory())

    with pytest.raises(PlanError, match=f"^adapt {name}: after step 1: {told}"):
        adapter.after(1, {}, {})


def test_a_loss_that_is_not_finite_says_nothing(tmp_path: Path, offered: Callable[[Choose], str]) -> None:
    adapter = Adapter(Adapt(function=offered(towards_losses)), made(), tmp_path / "log", Memory())

    adapter.after(1, {"vqa": float("nan"), "caption": 2.0}, {})
    adapter.after(2, {"detection": 1.0, "caption": 3.0}, {"detection/l1": float("inf")})

    assert adapter.memory.losses == {"caption": (5.0, 2)}


def test_a_run_cannot_replay_the_log_that_it_writes(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"")

    with pytest.raises(
        PlanError, match="is the log of this run, which begins anew, expected another file; copy it"
    ):
        Adapter(Adapt(replay=str(tmp_path / "log")), made(), tmp_path / "log", Memory())


def test_decisions_come_in_the_order_of_their_steps() -> None:
    weights = dict.fromkeys(task_shares(made()), 1.0)

    with pytest.raises(PlanError, match="step 9 lies before step 10, from which others hold"):
        adapted(adapted(made(), 10, weights), 9, weights)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "function None and replay None, expected one of them"),
        ({"function": "a:b", "replay": "c"}, "expected one of them"),
        ({"function": "a:b", "every": 0}, "adapt.every is 0"),
        ({"function": "a:b", "delay": 3}, "takes effect 3 steps later and 4 steps are read ahead"),
        ({"replay": "nowhere.jsonl"}, "nowhere.jsonl: not a log of a mixture"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(PlanError, match=told):
        check_adapt(Adapt(**fields), 4, "train")


def test_a_function_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="adapt: no module 'nowhere_at_all'"):
        Adapter(Adapt(function="nowhere_at_all:choose"), made(), tmp_path / "log", Memory())
