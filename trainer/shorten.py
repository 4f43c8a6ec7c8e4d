"""Length control: shorten what was asked, never cut between a routing token and its targets."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection

import msgspec
from transformers import PreTrainedTokenizerFast

from dataengine import tokens
from dataengine.annotation import Turn
from dataengine.errors import Skip
from dataengine.sample import ImageTargets, InstanceTargets, KeypointTargets, Route, Sample, TextTargets
from dataengine.wording import joined
from trainer.settings import EncodeSettings, tiles_per_image
from trainer.text import Text, encode_text


def fit(
    sample: Sample, tokenizer: PreTrainedTokenizerFast, settings: EncodeSettings
) -> tuple[Sample, Text, dict[str, int]]:
    """Return the sample, shortened where its text exceeds `max_length`, its text, and what was taken away.

    A class list loses classes without targets, the last ones first; a conversation of several rounds its last rounds,
    with all that they refer to. Pictures stay. Raises Skip `text.too_long` where that is not enough.
    """

    def coded(candidate: Sample) -> Text:
        return encode_text(candidate.conversation, tiles_per_image(candidate, settings), tokenizer, settings)

    text = coded(sample)
    if len(text.input_ids_L) <= settings.max_length:
        return sample, text, {}
    for kind, most, shorten in (
        ("classes", len(_absent(sample)), without_classes),
        ("rounds", sum(turn.role == "user" for turn in sample.conversation) - 1, without_rounds),
    ):
        count = _fewest(sample, most, shorten, lambda s: len(coded(s).input_ids_L) <= settings.max_length)
        if count is not None:
            shorter = shorten(sample, count)
            assert shorter is not None
            return shorter, coded(shorter), {kind: count}
    raise Skip("text.too_long", f"{len(text.input_ids_L)} tokens, at most {settings.max_length} fit")


def _fewest(
    sample: Sample,
    most: int,
    shorten: Callable[[Sample, int], Sample | None],
    fits: Callable[[Sample], bool],
) -> int | None:
    """Return the smallest count in [1, most] whose shortened sample fits, by bisection, or None."""

    def good(count: int) -> bool:
        shorter = shorten(sample, count)
        return shorter is not None and fits(shorter)

    if most < 1 or not good(most):
        return None
    return 1 + bisect_left(range(1, most), True, key=good)


def _absent(sample: Sample) -> list[Route]:
    """Return the routes of classes without any target, in order; one is kept back where all are such."""
    if not isinstance(sample.targets, InstanceTargets | KeypointTargets):
        return []
    asked = [route for route in sample.routes if route.kind == "category"]
    present = {item.label for item in sample.targets.instances}
    absent = [route for route in asked if route.name not in present]
    return absent[1:] if len(absent) == len(asked) else absent


def without_classes(sample: Sample, count: int) -> Sample | None:
    """Return the sample without the last `count` classes that have no target, in question, answer and routes.

    None where the conversation does not spell the list so that it can be changed.
    """
    gone = {route.name for route in _absent(sample)[-count:]}
    return with_classes(sample, {route.name for route in sample.routes} - gone)


def with_classes(sample: Sample, names: Collection[str]) -> Sample | None:
    """Return the sample with the named classes alone, in question, answer, routes and targets.

    None where the conversation does not spell the list as `a, b` and `a[DET], b[DET]` (in Chinese with `、`): it cannot
    be changed then.
    """
    asked = [route for route in sample.routes if route.kind == "category"]
    kept = [route for route in asked if route.name in names]
    gone = {route.name for route in asked} - {route.name for route in kept}
    lang = {"user": sample.prompt.question[:2], "assistant": sample.prompt.answer[:2]}
    named, still_named = [joined((one.name for one in part), lang["user"]) for part in (asked, kept)]
    routed, still_routed = [
        joined((one.name + one.token for one in part), lang["assistant"]) for part in (asked, kept)
    ]
    turns, changed = [], set()
    for turn in sample.conversation:
        pairs = [(routed, still_routed)]
        if turn.role == "user":
            # The semantic segmentation of the paper asks in lower case.
            pairs = [(named, still_named), (named.lower(), still_named.lower())]
        for old, new in pairs:
            if turn.role not in changed and turn.text.count(old) == 1:
                turn = Turn(turn.role, turn.text.replace(old, new))
                changed.add(turn.role)
        turns.append(turn)
    if changed != {"user", "assistant"}:
        return None
    targets = sample.targets
    if isinstance(targets, InstanceTargets | KeypointTargets):
        left = tuple(item for item in targets.instances if item.label not in gone)
        targets = msgspec.structs.replace(targets, instances=left)
    if isinstance(targets, InstanceTargets):
        remaining = tuple(name for name in targets.negatives if name not in gone)
        targets = msgspec.structs.replace(targets, negatives=remaining)
    routes = tuple(route for route in sample.routes if route.kind != "category" or route.name not in gone)
    return msgspec.structs.replace(sample, conversation=tuple(turns), routes=routes, targets=targets)


def without_rounds(sample: Sample, count: int) -> Sample | None:
    """Return the sample without its last `count` rounds, and without the routes, regions and targets that they had.

    None where a lost round shows a picture, or where nothing would be left for the decoder to answer.
    """
    turns = sample.conversation[: len(sample.conversation) - 2 * count]
    lost = tokens.placeholders("\n".join(turn.text for turn in sample.conversation[len(turns) :]))
    if tokens.IMAGE in lost:
        return None
    num_lost_routes = sum(token in tokens.ROUTING_TOKENS for token in lost)
    routes = sample.routes[: len(sample.routes) - num_lost_routes]
    regions = sample.regions[: len(sample.regions) - lost.count(tokens.REGION)]
    targets = sample.targets
    if not isinstance(targets, TextTargets):
        if not routes:
            return None
        if isinstance(targets, ImageTargets):
            return (
                None
                if num_lost_routes
                else msgspec.structs.replace(sample, conversation=turns, regions=regions)
            )
        names = {route.name for route in routes}
        kept = tuple(item for item in targets.instances if item.label in names)
        targets = msgspec.structs.replace(targets, instances=kept)
    return msgspec.structs.replace(
        sample, conversation=turns, routes=routes, regions=regions, targets=targets
    )
