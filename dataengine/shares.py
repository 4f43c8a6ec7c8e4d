"""How a mixture divides among its sources: a policy turns sizes into exact shares."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Literal, assert_never, get_args

import msgspec
import xxhash

from dataengine.errors import PlanError, nearest
from dataengine.permute import MAX_SIZE

Policy = Literal[
    "proportional",
    "sqrt",
    "temperature",
    "unimax",
    "cap",
    "repeats",
    "explicit",
    "token_weighted",
    "hierarchical",
    "uniform",
]
Mode = Literal["mixed", "unmixed", "stratified", "accumulate"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One split of one task spec, as the mixture sees it.

    `name` is `dataset/task/split`; `family` is the decoder that its batches need; `num_tokens` is the sum of its
    text lengths, 0 where unknown (policy `token_weighted` alone chooses by it). `fingerprint` is that of its manifest:
    another one means other samples.
    """

    name: str
    task: str
    dataset: str
    family: str
    num_samples: int
    num_tokens: int = 0
    fingerprint: str = ""


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Other settings of a recipe from a step on; they mean what they mean in `Recipe`.

    A change that names a policy starts from that policy's defaults; one that does not keeps policy and settings but
    for those that it gives. Over the first `over` steps (0: at once) the shares go to the new ones along a line.
    """

    step: int
    over: int = 0
    policy: Policy | None = None
    temperature: float | None = None
    cap_epochs: float | None = None
    cap_samples: int | None = None
    budget: int | None = None
    tasks: Policy | None = None
    datasets: Policy | None = None
    weights: dict[str, float] | None = None


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to mix. `global_batch` counts samples over all ranks.

    Settings belong to policies. `temperature`: share ~ num_samples ** (1 / temperature). `unimax`: `cap_epochs` and
    `budget` (samples; all sources once if unset). `cap`: share ~ min(num_samples, cap_samples). `hierarchical`: one
    policy among `tasks`, and one among the `datasets` of each task, whose splits divide by size.

    `weights` belong to three policies; a key is the name of a source, or the id of a task for its sources without a
    number of their own. `explicit`: shares of samples; a task's is divided by size; every source needs one, and 0
    leaves it out. `token_weighted`: the same of tokens. `repeats`: how often a source is served while a source with 1
    is served once; who has no number has 1. Under `hierarchical` a key is a task, or `dataset/task`.

    `loss_weights` belong to mode `accumulate`: a key is a family, or `family/task` for a task that gets a part of every
    batch of its own; the others weigh 1. `schedule` changes the settings of the policy along the run.
    """

    seed: int
    global_batch: int
    policy: Policy = "unimax"
    mode: Mode = "mixed"
    temperature: float = 3.0
    # Repeating text up to four times costs little (Muennighoff et al. 2023, arXiv 2305.16264).
    cap_epochs: float = 4.0
    cap_samples: int | None = None
    budget: int | None = None
    tasks: Policy | None = None
    datasets: Policy | None = None
    weights: dict[str, float] = {}
    loss_weights: dict[str, float] = {}
    schedule: tuple[Change, ...] = ()


# What a change may set.
_CHANGED = ("temperature", "cap_epochs", "cap_samples", "budget", "tasks", "datasets", "weights")
# The policies that read a setting.
_READ_BY: dict[str, tuple[Policy, ...]] = {
    "weights": ("explicit", "repeats", "token_weighted"),
    "cap_samples": ("cap",),
    "tasks": ("hierarchical",),
    "datasets": ("hierarchical",),
    "temperature": ("temperature",),
    "cap_epochs": ("unimax",),
    "budget": ("unimax",),
}
_DEFAULTS = {name: getattr(Recipe(seed=0, global_batch=1), name) for name in _READ_BY}
# Fields that recipes did not always have: left out of a digest where they are not used, so that digests stay.
_LATER_FIELDS = ("cap_samples", "tasks", "datasets", "loss_weights", "schedule")


def recipe_digest(recipe: Recipe) -> str:
    """Return xxh3-128 of the recipe as hex: equal recipes, equal digests, on every machine."""
    # Read back with its types, so that 4 and 4.0 are one number.
    typed = msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe)
    fields = msgspec.structs.asdict(typed)
    for name in _LATER_FIELDS:
        if not fields[name]:
            del fields[name]
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(fields, order="sorted"))


def changed(recipe: Recipe, change: Change) -> Recipe:
    """Return the recipe that holds from a change on."""
    given = {name: getattr(change, name) for name in _CHANGED if getattr(change, name) is not None}
    if change.policy is None:
        return msgspec.structs.replace(recipe, **given)
    kept = {name: getattr(recipe, name) for name in recipe.__struct_fields__ if name not in _CHANGED}
    return Recipe(**{**kept, "policy": change.policy, **given})


class _Unit(msgspec.Struct, frozen=True):
    """What shares are given to: a source, or a task or dataset as a whole.

    `group` is the task that may hold a weight for it; `mean_tokens` are those of a sample, 0 where unknown.
    """

    name: str
    group: str
    size: int
    mean_tokens: Fraction


def shares(sources: Sequence[Source], recipe: Recipe, sizes: Sequence[int] | None = None) -> list[Fraction]:
    """Return the share of each source at step 0 of a recipe without schedule, in the order given; their sum is 1.

    `sizes` are the samples to serve of each source, all by default. Shares are exact; roots are rounded to 28 decimal
    digits, the same on every machine. Sources:

    * cap: examples-proportional mixing with an artificial limit (section 3.5.2 of arXiv 1910.10683).
    * unimax: section 3 of arXiv 2304.09151, in samples: smallest source first, each takes an even part of the budget
      that is left, or `cap_epochs` passes if that is less.
    * token_weighted: a weight w is a share of tokens, so the share of samples is ~ w / mean tokens of a sample.

    Raises PlanError for a source that is listed twice or empty, and for settings that are out of range or belong to
    another policy.
    """
    sizes = [source.num_samples for source in sources] if sizes is None else sizes
    _check_sources(sources, sizes)
    _check_recipe(recipe)
    units = [
        _Unit(source.name, source.task, size, Fraction(source.num_tokens, source.num_samples))
        for source, size in zip(sources, sizes, strict=True)
    ]
    if recipe.policy == "hierarchical":
        return _hierarchical(sources, units, recipe)
    if recipe.weights:
        _check_weights(units, recipe.weights)
    return _normalised(_weights(units, recipe.policy, recipe))


def _normalised(weights: Sequence[Fraction]) -> list[Fraction]:
    total = sum(weights, Fraction(0))
    return [weight / total for weight in weights]


def _weights(units: Sequence[_Unit], policy: Policy | None, recipe: Recipe) -> list[Fraction]:
    """Return the weight that a policy gives each unit; any sum."""
    sizes = [unit.size for unit in units]
    match policy:
        case "proportional":
            return [Fraction(size) for size in sizes]
        case "uniform":
            return [Fraction(1) for _ in sizes]
        case "sqrt":
            return _roots(sizes, 2.0)
        case "temperature":
            return _roots(sizes, recipe.temperature)
        case "cap":
            return [Fraction(min(size, recipe.cap_samples or size)) for size in sizes]
        case "unimax":
            budget = sum(sizes) if recipe.budget is None else recipe.budget
            return _fill(sizes, Fraction(budget), _decimal(recipe.cap_epochs))
        case "repeats":
            return _repeated(units, recipe.weights)
        case "explicit":
            return _explicit(units, recipe.weights, [Fraction(size) for size in sizes])
        case "token_weighted":
            return _token_weighted(units, recipe.weights)
        case "hierarchical" | None:
            raise PlanError(
                f"recipe: a level of policy 'hierarchical' has {policy!r}, expected another policy for tasks and one "
                "for datasets; 'uniform' and 'proportional' are the usual ones"
            )
        case _:
            assert_never(policy)


def _hierarchical(sources: Sequence[Source], units: Sequence[_Unit], recipe: Recipe) -> list[Fraction]:
    """Return shares by task, within it by dataset, and within that by size."""
    members: dict[str, dict[str, list[int]]] = {}
    for i, source in enumerate(sources):
        members.setdefault(source.task, {}).setdefault(f"{source.dataset}/{source.task}", []).append(i)
    tasks = [
        _joined(task, [units[i] for places in datasets.values() for i in places])
        for task, datasets in members.items()
    ]
    inner = {
        task: [_joined(name, [units[i] for i in places]) for name, places in datasets.items()]
        for task, datasets in members.items()
    }
    levels = ((recipe.tasks, tasks), (recipe.datasets, [unit for some in inner.values() for unit in some]))
    readers = [unit for policy, some in levels if policy in _READ_BY["weights"] for unit in some]
    _check_weights(readers, recipe.weights)
    result = [Fraction(0)] * len(sources)
    for task, share in zip(tasks, _normalised(_weights(tasks, recipe.tasks, recipe)), strict=True):
        datasets = inner[task.name]
        # A task that is left out needs no weights inside.
        parts = _normalised(_weights(datasets, recipe.datasets, recipe)) if share else [share] * len(datasets)
        for dataset, part in zip(datasets, parts, strict=True):
            for i in members[task.name][dataset.name]:
                result[i] = share * part * Fraction(units[i].size, dataset.size)
    return result


def _joined(name: str, units: Sequence[_Unit]) -> _Unit:
    size = sum(unit.size for unit in units)
    known = all(unit.mean_tokens for unit in units)
    tokens = sum((unit.mean_tokens * unit.size for unit in units), Fraction(0)) if known else Fraction(0)
    return _Unit(name, "", size, tokens / size)


def _check_sources(sources: Sequence[Source], sizes: Sequence[int]) -> None:
    if not sources:
        raise PlanError("mixture: no source, expected at least one; check the shards that are mixed")
    seen: set[str] = set()
    for source, size in zip(sources, sizes, strict=True):
        if source.name in seen:
            raise PlanError(f"mixture: source {source.name!r} is listed twice, expected once; remove one")
        seen.add(source.name)
        if not 1 <= size <= MAX_SIZE:
            raise PlanError(
                f"mixture: source {source.name!r} has {size} samples to serve, expected 1 to 2**48; leave it out"
            )


def _check_recipe(recipe: Recipe) -> None:
    policies = {recipe.policy, recipe.tasks, recipe.datasets} - {None}
    for name, value, known in (
        *(("policy", policy, get_args(Policy)) for policy in sorted(map(str, policies))),
        ("mode", recipe.mode, get_args(Mode)),
    ):
        if value not in known:
            raise PlanError(f"recipe: unknown {name} {value!r}{nearest(value, known)}")
    if recipe.global_batch < 1:
        raise PlanError(f"recipe: global_batch is {recipe.global_batch!r}, expected at least 1; raise it")
    for name, readers in _READ_BY.items():
        # What has its default's value changes nothing.
        if getattr(recipe, name) != _DEFAULTS[name] and not policies & set(readers):
            expected = " or ".join(repr(reader) for reader in readers)
            raise PlanError(
                f"recipe: policy {recipe.policy!r} reads no {name}, expected {expected} with it; "
                f"change the policy or remove {name}"
            )
    if "temperature" in policies and not 0.01 <= recipe.temperature < math.inf:
        raise PlanError(
            f"recipe: temperature is {recipe.temperature!r}, expected 0.01 or more; 1 is proportional to size"
        )
    if "cap" in policies and (recipe.cap_samples is None or recipe.cap_samples < 1):
        raise PlanError(
            f"recipe: cap_samples is {recipe.cap_samples!r}, expected at least 1 sample for policy 'cap'; "
            "policy 'proportional' caps nothing"
        )
    _check_unimax(recipe, policies)
    if recipe.loss_weights and recipe.mode != "accumulate":
        raise PlanError(
            f"recipe: mode {recipe.mode!r} reads no loss_weights, expected 'accumulate' with them: alone in its step, "
            "a family has nothing to weigh against; change the mode or remove them"
        )
    for name, weight in recipe.loss_weights.items():
        if not 0 < weight < math.inf:
            raise PlanError(
                f"loss_weights: {name!r} is {weight!r}, expected a number above 0; 1 is the default"
            )


def _check_unimax(recipe: Recipe, policies: Collection[str | None]) -> None:
    if "unimax" in policies and not 0 < recipe.cap_epochs < math.inf:
        raise PlanError(
            f"recipe: cap_epochs is {recipe.cap_epochs!r}, expected a number above 0; "
            "use policy 'uniform' to cap nothing"
        )
    if recipe.budget is None:
        return
    if recipe.policy == "unimax" and recipe.budget < 1:
        raise PlanError(f"recipe: budget is {recipe.budget!r}, expected at least 1 sample; leave it out")
    if recipe.policy == "hierarchical":
        raise PlanError(
            f"recipe: budget is {recipe.budget!r}, expected none under policy 'hierarchical', whose levels have "
            "budgets of their own; leave it out"
        )


def _roots(sizes: Sequence[int], degree: float) -> list[Fraction]:
    """Return the degree-th root of each size; ln and exp of `decimal` are correctly rounded, those of libm not."""
    with localcontext() as context:
        context.prec = 28
        return [Fraction((Decimal(size).ln() / Decimal(str(degree))).exp()) for size in sizes]


def _fill(sizes: Sequence[int], budget: Fraction, cap_epochs: Fraction) -> list[Fraction]:
    """Return the samples that UniMax gives each size out of the budget."""
    given = [Fraction(0)] * len(sizes)
    for num_done, i in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        given[i] = min(budget / (len(sizes) - num_done), cap_epochs * sizes[i])
        budget -= given[i]
    return given


def _check_weights(units: Sequence[_Unit], weights: Mapping[str, float]) -> None:
    """Raise PlanError for a weight of nothing, and for one that is no weight."""
    names = {unit.name for unit in units}
    groups = {unit.group for unit in units if unit.name not in weights}
    for name, weight in weights.items():
        if name not in names and name not in groups:
            known = names | {unit.group for unit in units} - {""}
            hint = (
                "; each source of that task has its own: remove one"
                if name in known
                else nearest(name, known)
            )
            raise PlanError(f"weights: {name!r} is no source and no task that needs a weight{hint}")
        if not 0 <= weight < math.inf:
            raise PlanError(f"weights: {name!r} is {weight!r}, expected a number from 0 on; 0 leaves it out")


def _repeated(units: Sequence[_Unit], weights: Mapping[str, float]) -> list[Fraction]:
    numbers = [_decimal(weights.get(unit.name, weights.get(unit.group, 1))) for unit in units]
    _require_any(numbers)
    return [number * unit.size for number, unit in zip(numbers, units, strict=True)]


def _explicit(
    units: Sequence[_Unit], weights: Mapping[str, float], measures: Sequence[Fraction]
) -> list[Fraction]:
    """Return the weight of each unit: its own, or its part by measure of its group's."""
    of_group: dict[str, Fraction] = {}
    for unit, measure in zip(units, measures, strict=True):
        if unit.name not in weights:
            of_group[unit.group] = of_group.get(unit.group, Fraction(0)) + measure
    given = []
    for unit, measure in zip(units, measures, strict=True):
        if unit.name in weights:
            given.append(_decimal(weights[unit.name]))
        elif unit.group in weights:
            given.append(_decimal(weights[unit.group]) * measure / of_group[unit.group])
        else:
            place = f"source {unit.name!r}" if unit.group else repr(unit.name)
            expected = f"{unit.name!r} or its task {unit.group!r}" if unit.group else "a weight for each"
            raise PlanError(f"weights: {place} has none, expected {expected}; add one, 0 leaves it out")
    _require_any(given)
    return given


def _token_weighted(units: Sequence[_Unit], weights: Mapping[str, float]) -> list[Fraction]:
    unknown = [unit.name for unit in units if not unit.mean_tokens]
    if unknown:
        raise PlanError(
            f"mixture: the tokens of {unknown[0]!r} are not known (num_tokens is 0), expected a number for policy "
            "'token_weighted'; shard the source again, or use policy 'explicit'"
        )
    of_tokens = _explicit(units, weights, [unit.mean_tokens * unit.size for unit in units])
    return [weight / unit.mean_tokens for weight, unit in zip(of_tokens, units, strict=True)]


def _require_any(weights: Sequence[Fraction]) -> None:
    if not any(weights):
        raise PlanError("weights: all are 0, expected one above 0; give the sources to serve a weight")


def _decimal(number: float) -> Fraction:
    """Return the number as it is written: 0.1 is a tenth, so that cycles stay short."""
    return Fraction(str(number))
