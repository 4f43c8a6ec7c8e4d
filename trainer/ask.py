"""How a sample is asked: a conversation round by round, a class list that is too long in parts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import msgspec

from dataengine import tokens
from dataengine.annotation import Turn
from dataengine.images import Pixels
from dataengine.sample import Sample
from trainer.answer import Question
from trainer.predictions import Ask
from trainer.shorten import with_classes


def parts_of(sample: Sample, most: int | None, fits: Callable[[Sample], bool]) -> list[Sample]:
    """Return a sample as samples of parts of its class list: of at most `most` classes, and each one fits.

    All parts show the same pictures, and are as few and as even as can be. The sample itself comes back where one is
    enough, and where its conversation does not spell the list so that it can be divided.
    """
    names = [route.name for route in sample.routes if route.kind == "category"]
    count = 1 if most is None else -(-len(names) // most)
    while count <= len(names):
        if count <= 1:
            if fits(sample):
                return [sample]
        else:
            parts = [with_classes(sample, chunk) for chunk in _even(names, count)]
            divided = [part for part in parts if part is not None]
            if len(divided) < len(parts):
                return [sample]
            if all(map(fits, divided)):
                return divided
        count += 1
    return [sample]


def _even(names: Sequence[str], count: int) -> list[Sequence[str]]:
    ends = [len(names) * k // count for k in range(count + 1)]
    return [names[start:end] for start, end in itertools.pairwise(ends)]


def asks_of(sample: Sample, parts: Sequence[Sample]) -> list[Ask]:
    """Return the asks of a sample: the rounds of each of its parts, with routes as positions in the sample's own."""
    places = {(route.token, route.name, route.kind): number for number, route in enumerate(sample.routes)}
    asks = []
    for part in parts:
        first = 0
        for turn in part.conversation:
            count = sum(token in tokens.ROUTING_TOKENS for token in tokens.placeholders(turn.text))
            routes = part.routes[first : first + count]
            numbers = (
                tuple(range(first, first + count))
                if len(parts) == 1
                else tuple(places[route.token, route.name, route.kind] for route in routes)
            )
            first += count
            if turn.role == "assistant":
                asks.append(Ask(wanted=turn.text, routes=numbers))
    return asks


def questions_of(sample: Sample, parts: Sequence[Sample], images: Sequence[Pixels]) -> list[Question]:
    """Return what the model is asked, one question for each of `asks_of`; earlier rounds have their true answers.

    `images` are the decoded pictures of the sample, all of them; those to be made are not shown.
    """
    inputs = [number for number, stated in enumerate(sample.images) if stated.role == "input"]
    shown = [images[number] for number in inputs]
    place = {number: k for k, number in enumerate(inputs)}
    questions = []
    for part in parts:
        for number, turn in enumerate(part.conversation):
            if turn.role == "assistant":
                questions.append(
                    _question(part, f"{sample.id}/{len(questions)}", part.conversation[:number], shown, place)
                )
    return questions


def _question(
    part: Sample, name: str, turns: tuple[Turn, ...], shown: Sequence[Pixels], place: Mapping[int, int]
) -> Question:
    said = tokens.placeholders("\n".join(turn.text for turn in turns))
    return Question(
        id=name,
        turns=turns,
        pictures=tuple(shown[: said.count(tokens.IMAGE)]),
        regions=tuple(
            msgspec.structs.replace(region, image=place[region.image])
            for region in part.regions[: said.count(tokens.REGION)]
        ),
    )
