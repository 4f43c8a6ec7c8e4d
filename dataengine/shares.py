"""How a mixture divides among its sources: a policy turns sizes into exact shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Literal, assert_never, get_args

import msgspec
import xxhash

from dataengine.errors import PlanError, nearest
from dataengine.permute import MAX_SIZE

Policy = Literal["proportional", "sqrt", "temperature", "unimax", "explicit", "uniform"]
Mode = Literal["mixed", "unmixed", "stratified", "accumulate"]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One split of one task spec, as the mixture sees it.

    `name` is `dataset/task/split`; `family` is the decoder that its batches need; `num_tokens` is the sum of its
    text lengths, 0 where unknown (it is printed, never used to choose).
    """

    name: str
    task: str
    dataset: str
    family: str
    num_samples: int
    num_tokens: int = 0


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to mix.

    `temperature` belongs to policy `temperature`: share ~ num_samples ** (1 / temperature). `cap_epochs` and
    `budget` (samples; all sources once if unset) belong to `unimax`. `weights` belongs to `explicit`: a key is
    the name of a source, or the id of a task, whose weight its sources without a weight of their own divide by
    size; every source needs one, and 0 leaves it out. `global_batch` counts samples over all ranks. `loss_weights`
    belong to mode `accumulate`: a key is a family, or `family/task` for a task that gets a part of every batch of its
    own; the others weigh 1.
    """

    seed: int
    global_batch: int
    policy: Policy = "unimax"
    mode: Mode = "mixed"
    temperature: float = 3.0
    # Repeating text up to four times costs little (Muennighoff et al. 2023, arXiv 2305.16264).
    cap_epochs: float = 4.0
    budget: int | None = None
    weights: dict[str, float] = {}
    loss_weights: dict[str, float] = {}


# Fields that recipes did not always have: left out of a digest where they are not used, so that digests stay.
_LATER_FIELDS = ("loss_weights",)


def recipe_digest(recipe: Recipe) -> str:
    """Return xxh3-128 of the recipe as hex: equal recipes, equal digests, on every machine."""
    # Read back with its types, so that 4 and 4.0 are one number.
    typed = msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe)
    fields = msgspec.structs.asdict(typed)
    for name in _LATER_FIELDS:
        if not fields[name]:
            del fields[name]
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(fields, order="sorted"))


def shares(sources: Sequence[Source], recipe: Recipe) -> list[Fraction]:
    """Return the share of each source, in the order given; they are exact and sum to 1.

    Roots are rounded to 28 decimal digits, the same on every machine. UniMax is section 3 of arXiv 2304.09151,
    in samples: smallest source first, each takes an even part of the budget that is left, or `cap_epochs`
    passes if that is less. Raises PlanError for a source that is listed twice or empty, and for settings that are
    out of range or belong to another policy.
    """
    _check(sources, recipe)
    sizes = [source.num_samples for source in sources]
    match recipe.policy:
        case "proportional":
            weights = [Fraction(size) for size in sizes]
        case "uniform":
            weights = [Fraction(1) for _ in sizes]
        case "sqrt":
            weights = _roots(sizes, 2.0)
        case "temperature":
            weights = _roots(sizes, recipe.temperature)
        case "unimax":
            budget = sum(sizes) if recipe.budget is None else recipe.budget
            weights = _fill(sources, Fraction(budget), _decimal(recipe.cap_epochs))
        case "explicit":
            weights = _explicit(sources, recipe.weights)
        case _:
            assert_never(recipe.policy)
    total = sum(weights, Fraction(0))
    return [weight / total for weight in weights]


def _check(sources: Sequence[Source], recipe: Recipe) -> None:
    if not sources:
        raise PlanError("mixture: no source, expected at least one; check the shards that are mixed")
    seen: set[str] = set()
    for source in sources:
        if source.name in seen:
            raise PlanError(f"mixture: source {source.name!r} is listed twice, expected once; remove one")
        seen.add(source.name)
        if not 1 <= source.num_samples <= MAX_SIZE:
            raise PlanError(
                f"mixture: source {source.name!r} has {source.num_samples} samples to serve, "
                "expected 1 to 2**48; leave it out"
            )
    for name, value, known in (
        ("policy", recipe.policy, get_args(Policy)),
        ("mode", recipe.mode, get_args(Mode)),
    ):
        if value not in known:
            raise PlanError(f"recipe: unknown {name} {value!r}{nearest(value, known)}")
    if recipe.global_batch < 1:
        raise PlanError(f"recipe: global_batch is {recipe.global_batch!r}, expected at least 1; raise it")
    if recipe.policy == "temperature" and not 0.01 <= recipe.temperature < math.inf:
        raise PlanError(
            f"recipe: temperature is {recipe.temperature!r}, expected 0.01 or more; 1 is proportional to size"
        )
    if recipe.policy == "unimax" and not 0 < recipe.cap_epochs < math.inf:
        raise PlanError(
            f"recipe: cap_epochs is {recipe.cap_epochs!r}, expected a number above 0; "
            "use policy 'uniform' to cap nothing"
        )
    if recipe.policy == "unimax" and recipe.budget is not None and recipe.budget < 1:
        raise PlanError(f"recipe: budget is {recipe.budget!r}, expected at least 1 sample; leave it out")
    if recipe.weights and recipe.policy != "explicit":
        raise PlanError(
            f"recipe: policy {recipe.policy!r} reads no weights, expected 'explicit' with them; "
            "change the policy or remove the weights"
        )
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


def _roots(sizes: Sequence[int], degree: float) -> list[Fraction]:
    """Return the degree-th root of each size; ln and exp of `decimal` are correctly rounded, those of libm not."""
    with localcontext() as context:
        context.prec = 28
        return [Fraction((Decimal(size).ln() / Decimal(str(degree))).exp()) for size in sizes]


def _fill(sources: Sequence[Source], budget: Fraction, cap_epochs: Fraction) -> list[Fraction]:
    """Return the samples that UniMax gives each source out of the budget."""
    given = [Fraction(0)] * len(sources)
    by_size = sorted(range(len(sources)), key=lambda i: sources[i].num_samples)
    for num_done, i in enumerate(by_size):
        given[i] = min(budget / (len(sources) - num_done), cap_epochs * sources[i].num_samples)
        budget -= given[i]
    return given


def _explicit(sources: Sequence[Source], weights: Mapping[str, float]) -> list[Fraction]:
    """Return the weight of each source: its own, or its part by size of its task's."""
    names = {source.name for source in sources}
    task_samples = {source.task: 0 for source in sources if source.name not in weights}
    for source in sources:
        if source.name not in weights:
            task_samples[source.task] += source.num_samples
    for name, weight in weights.items():
        if name not in names and name not in task_samples:
            known = names | {source.task for source in sources}
            hint = (
                "; each source of that task has its own: remove one"
                if name in known
                else nearest(name, known)
            )
            raise PlanError(f"weights: {name!r} is no source and no task that needs a weight{hint}")
        if not 0 <= weight < math.inf:
            raise PlanError(f"weights: {name!r} is {weight!r}, expected a number from 0 on; 0 leaves it out")
    given = []
    for source in sources:
        if source.name in weights:
            given.append(_decimal(weights[source.name]))
        elif source.task in weights:
            part = Fraction(source.num_samples, task_samples[source.task])
            given.append(_decimal(weights[source.task]) * part)
        else:
            raise PlanError(
                f"weights: source {source.name!r} has none, expected {source.name!r} or its task {source.task!r}; "
                "add one, 0 leaves it out"
            )
    if not any(given):
        raise PlanError("weights: all are 0, expected one above 0; give the sources to serve a weight")
    return given


def _decimal(number: float) -> Fraction:
    """Return the number as it is written: 0.1 is a tenth, so that cycles stay short."""
    return Fraction(str(number))
