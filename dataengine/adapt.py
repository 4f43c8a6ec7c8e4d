"""Mixtures that a training run changes on its way: who decides, what was decided, and the plan that follows from it.

A decision takes effect a fixed number of steps after it was made, so that no step is read before its mixture is known;
it is in the log, and on disk, before that. A run that has the log makes the same decisions, and serves the same samples
at the same positions. With several ranks, each asks with the same numbers (losses summed over all of them) and gets the
same answer, since the function that is asked knows nothing else; rank 0 keeps the log.
"""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from dataengine.errors import PlanError
from dataengine.files import write_atomic
from dataengine.mix import Plan, adapted, task_shares
from dataengine.modules import load_function


class Adapt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who changes the mixture, and when: `function` (`package.module:function`, see `Chooser`) or the log `replay`.

    The function is asked after every `every` steps, and its answer holds from `delay` steps later on: at least as many
    as are read ahead. A log says itself what was decided when.
    """

    function: str | None = None
    replay: str | None = None
    every: int = 100
    delay: int = 16


class Chooser(Protocol):
    """Decides on a mixture. The answer follows from what it is given alone: no chance, no clock, no memory."""

    def __call__(
        self, step: int, losses: Mapping[str, float], weights: Mapping[str, float]
    ) -> Mapping[str, float] | None:
        """Return a new weight (from 0 on, any sum) for every task in `weights`, or None to keep those in effect.

        `step` counts the steps done. `losses` are the means of each task, over the steps that served it since it was
        last asked; a task that none served is not there. `weights` are the tasks' shares of samples decided on last.
        """
        ...


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of the log: made after `step` steps, holds from step number `start` (from 0) on; `plan` is the digest."""

    step: int
    start: int
    weights: dict[str, float]
    plan: str


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a checkpoint keeps: all decisions, and of each task the (sum, number) of its losses since the last one."""

    decisions: tuple[Decision, ...] = ()
    losses: dict[str, tuple[float, int]] = {}


def read_log(path: Path) -> tuple[Decision, ...]:
    """Return the decisions of a log. Raises PlanError where it cannot be read."""
    try:
        return tuple(
            msgspec.json.decode(line, type=Decision) for line in path.read_bytes().splitlines() if line
        )
    except (OSError, msgspec.DecodeError) as error:
        raise PlanError(
            f"{path}: not a log of a mixture: {error}; give the mixture.jsonl of a run"
        ) from error


def follow_log(plan: Plan, decisions: tuple[Decision, ...], place: str) -> Plan:
    """Return the plan that follows from decisions. Raises PlanError where it is not the one that they were made of."""
    for decision in decisions:
        plan = adapted(plan, decision.start, decision.weights)
        if plan.digest != decision.plan:
            raise PlanError(
                f"{place}: the decision after step {decision.step} leads to plan {plan.digest!r}, expected "
                f"{decision.plan!r}; restore the shards and the mixture that it was made with"
            )
    return plan


class Adapter:
    """The mixture of a run that may change: holds the plan, asks for decisions and logs them.

    Of the processes of a run one writes the log, the others do not `keep_log`.
    """

    def __init__(
        self, settings: Adapt, plan: Plan, log: Path, memory: Memory, *, keep_log: bool = True
    ) -> None:
        if settings.replay is not None and Path(settings.replay).resolve() == log.resolve():
            raise PlanError(
                f"adapt: replay {settings.replay!r} is the log of this run, which begins anew, expected another file; "
                "copy it, and replay the copy"
            )
        self._settings = settings
        self._log = log if keep_log else None
        self._place = f"adapt {settings.function or settings.replay}"
        replayed = read_log(Path(settings.replay)) if settings.replay is not None else ()
        self._replayed = {decision.step: decision for decision in replayed}
        self._choose: Callable[..., Any] | None = None
        if settings.function is not None:
            self._choose = cast(Chooser, load_function(settings.function, "adapt"))
        self._family_of = {source.task: source.family for source in plan.sources}
        self._decisions, self._losses = list(memory.decisions), dict(memory.losses)
        self.plan = follow_log(plan, memory.decisions, str(log))
        if keep_log:
            # What a killed run decided after its last checkpoint is decided again.
            write_atomic(log, b"".join(msgspec.json.encode(one) + b"\n" for one in memory.decisions))

    @property
    def memory(self) -> Memory:
        """What a checkpoint must keep to go on from here."""
        return Memory(decisions=tuple(self._decisions), losses=self._losses.copy())

    def after(self, step: int, tasks: Mapping[str, float], terms: Mapping[str, float]) -> bool:
        """Take the losses of a step, the `step`-th; return whether a decision made `plan` another one.

        `tasks` are mean text losses; `terms` whose names begin with a family (`detection/l1`) are added to its tasks.
        Positions before the decision's start stay as they were. A loss that is not finite says nothing of a task.
        """
        for task, loss in tasks.items():
            family = f"{self._family_of.get(task)}/"
            whole = loss + sum(value for name, value in terms.items() if name.startswith(family))
            if not math.isfinite(whole):
                continue
            total, count = self._losses.get(task, (0.0, 0))
            self._losses[task] = (total + whole, count + 1)
        decision = self._replay(step) if self._choose is None else self._ask(step)
        if decision is None:
            return False
        if self._log is not None:
            # On disk before any step is read by it.
            with self._log.open("ab") as file:
                file.write(msgspec.json.encode(decision) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        self._decisions.append(decision)
        return True

    def _ask(self, step: int) -> Decision | None:
        if step % self._settings.every or self._choose is None:
            return None
        losses = {task: total / count for task, (total, count) in sorted(self._losses.items())}
        self._losses.clear()
        now = self._decisions[-1].weights if self._decisions else task_shares(self.plan)
        weights = self._chosen(step, losses, dict(now))
        if weights is None:
            return None
        start = step + self._settings.delay
        try:
            self.plan = adapted(self.plan, start, weights)
        except PlanError as error:
            raise PlanError(f"{self._place}: after step {step}: {error}") from error
        return Decision(step=step, start=start, weights=weights, plan=self.plan.digest)

    def _chosen(self, *told: Any) -> dict[str, float] | None:
        """Return what the function answers. Raises PlanError where it fails, or answers with no weights."""
        assert self._choose is not None
        try:
            answer = self._choose(*told)
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            raise PlanError(
                f"{self._place}: after step {told[0]}: {type(error).__name__}: {error} ({at.filename}:{at.lineno}),"
                " expected weights or None; mend the function"
            ) from error
        try:
            weights = msgspec.convert(answer, dict[str, float] | None)
        except msgspec.ValidationError as error:
            raise PlanError(
                f"{self._place}: after step {told[0]}: the answer is {answer!r}, expected a weight for each task, or"
                " None; mend the function"
            ) from error
        return None if weights is None else dict(sorted(weights.items()))

    def _replay(self, step: int) -> Decision | None:
        decision = self._replayed.get(step)
        if decision is not None:
            self.plan = follow_log(self.plan, (decision,), self._place)
        return decision


def check_adapt(settings: Adapt, prefetch: int, place: str) -> None:
    """Raise PlanError for settings under which a step could be read before its mixture is known."""
    if (settings.function is None) == (settings.replay is None):
        raise PlanError(
            f"{place}: adapt has function {settings.function!r} and replay {settings.replay!r}, expected one of them; "
            "leave the other out"
        )
    if settings.every < 1:
        raise PlanError(f"{place}: adapt.every is {settings.every!r}, expected at least 1 step; raise it")
    decisions = read_log(Path(settings.replay)) if settings.replay is not None else ()
    delays = [decision.start - decision.step for decision in decisions] or [settings.delay]
    if min(delays) < prefetch:
        raise PlanError(
            f"{place}: a decision takes effect {min(delays)} steps later and {prefetch} steps are read ahead, expected "
            "at most as many; lower prefetch, or raise adapt.delay"
        )
