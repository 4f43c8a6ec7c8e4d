"""The account of a training run: its plan draws from the shards, and what it was served is its plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dataengine.adapt import follow_log
from dataengine.audit.account_shards import Sharded
from dataengine.audit.counted import NAMED
from dataengine.audit.identity import Count, Identity, by_reason, equal, shortened, unlike, unproven
from dataengine.errors import PlanError, ShardError, SourceError
from dataengine.index import INDEX, Index
from dataengine.mix import Plan, plan
from dataengine.served import (
    CONFIG,
    METRICS,
    SERVED,
    Account,
    Checkpoint,
    account,
    newest_checkpoint,
    recipe_of,
    run_plan,
)
from dataengine.store import StoreSettings
from dataengine.stream import check_index, sources


def account_of_run(run: Path, sharded: Sharded, store: StoreSettings | None) -> Iterator[Identity]:
    """Yield the lines of a run on a set. Raises StoreError for shards at a URL that cannot be read."""
    place, nothing = str(run), Count(0, "positions known")
    try:
        index = Index(sharded.place, store)
        check_index(index)
    except ShardError as error:
        yield unproven("plan", place, nothing, nothing, str(error))
        return
    try:
        made = run_plan(index, run)
    except PlanError as error:
        yield equal("plan", place, nothing, nothing, 1, str(error))
        return
    saved = newest_checkpoint(run)
    yield _drawn_from(run, sharded, made)
    if saved is not None and saved.plan:
        yield _as_noted(run, index, saved)
    try:
        held = account(index, made, run)
    except SourceError as error:
        yield unproven("served", place, nothing, nothing, str(error))
        return
    yield _served(run, made, held, saved)


def _drawn_from(run: Path, sharded: Sharded, made: Plan) -> Identity:
    """Hold the sources that the plan draws from, and the samples of each, against the rows of the index."""
    sizes = dict(zip((source.name for source in made.sources), made.sizes.tolist(), strict=True))
    kept = {entry.name for entry in sharded.set.sources if entry.use != "train"}
    held = {name: len(ids) for name, ids in sharded.ids.items() if name not in kept}
    difference, where = unlike(held, sizes)
    evaluated, drawn = sum(len(sharded.ids[name]) for name in kept & {*sharded.ids}), sum(sizes.values())
    right = (
        f"samples: {drawn} of {len(sizes)} sources that the plan draws from + {evaluated} kept to evaluate"
    )
    left = Count(sharded.num_rows, f"rows of {INDEX}")
    return equal("plan", str(run), left, Count(drawn + evaluated, right), difference, where)


def _as_noted(run: Path, index: Index, saved: Checkpoint) -> Identity:
    """Hold the plan of the run's settings and shards against what a checkpoint noted of the one that was followed."""
    found = sources(index)
    then = {one.name: (one.num_samples, one.fingerprint) for one in saved.sources}
    now = {one.name: (one.num_samples, one.fingerprint) for one in found}
    other = sorted(name for name in then | now if then.get(name) != now.get(name)) if then else []
    try:
        digest = follow_log(plan(found, recipe_of(run)), saved.adapt.decisions, saved.name).digest
        says = f"is {saved.plan[:12]} in {saved.name}, {digest[:12]} of {CONFIG} and the shards"
    except PlanError as error:
        digest, says = "", str(error)
    detail = [f"sources changed since: {shortened(other[:NAMED], len(other))}"] if other else []
    if digest != saved.plan:
        detail.append(f"the plan (recipe, seed, sources) {says}")
    return equal(
        "plan",
        str(run),
        Count(1 + len(then), f"noted in {saved.name}: the plan, {saved.plan[:12]}, and {len(then)} sources"),
        Count(int(digest == saved.plan) + len(then) - len(other), f"the same of {CONFIG} and the shards"),
        int(digest != saved.plan) + len(other),
        "; ".join(detail),
    )


def _served(run: Path, made: Plan, held: Account, saved: Checkpoint | None) -> Identity:
    """Hold what was served and what was skipped, with its reasons, against the plan, sample by sample."""
    served, skipped = (sum(getattr(row, name) for row in held.rows) for name in ("samples", "skipped"))
    positions = held.steps * made.recipe.global_batch
    detail = [shortened(held.differences[:NAMED], len(held.differences))]
    if held.reasons:
        detail.append(f"skipped: {by_reason(held.reasons)}")
    if saved is not None and saved.holes:
        holes = [f"{one.id} ({one.reason}, {one.file} offset {one.offset})" for one in saved.holes]
        detail.append(f"holes that last: {shortened(holes[:NAMED], len(holes))}")
    left = Count(positions, f"positions of {held.steps} steps")
    right = Count(served + skipped, f"ids in {SERVED}: {served} served + {skipped} skipped")
    if not positions:
        return unproven("served", str(run), left, right, f"{SERVED}, {METRICS} and checkpoints name no step")
    difference = max(len(held.differences), abs(left.number - right.number))
    return equal("served", str(run), left, right, difference, "; ".join(filter(None, detail)))
