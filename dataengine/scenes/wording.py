"""What can truly be said and asked of a scene. Every phrase is checked against all objects before it is used.

"left of", "above" and the like compare the centers of boxes. A phrase that uses them holds by a margin for the object
that it means, and for no other object that fits its noun, not even by a hair.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np

from dataengine.annotation import Box, Caption, Dialog, Expression, Question, Turn
from dataengine.scenes.layout import View
from dataengine.scenes.objects import CATEGORIES, COLORS, FIGURE, SHAPES, SIZES, Background, Thing
from dataengine.tokens import IMAGE

MARGIN_RATIO = 0.1
MAX_EXPRESSIONS = 8
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the center", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)

Relation = Literal["left of", "right of", "above", "below"]
# Axis (0: x, 1: y) and direction: an object is left of another where its x is smaller.
RELATIONS: dict[Relation, tuple[int, int]] = {
    "left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1),
}  # fmt: skip
_EXTREMES = {"leftmost": (0, -1), "rightmost": (0, 1), "topmost": (1, -1), "bottommost": (1, 1)}


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An object with the tight box of its visible pixels, xyxy."""

    thing: Thing
    box: Box

    @property
    def center(self) -> tuple[float, float]:
        """The center of the box, (x, y)."""
        return ((self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2)


class Noun(msgspec.Struct, frozen=True):
    """A phrase for objects, such as "large red star"; a part that is None is left out, "object" fits every category."""

    size: str | None = None
    color: str | None = None
    category: str | None = None

    def fits(self, thing: Thing) -> bool:
        """Say whether the phrase is true of the object."""
        return (
            self.size in (None, thing.size)
            and self.color in (None, thing.color)
            and self.category in (None, thing.category)
        )

    @property
    def text(self) -> str:
        """The phrase in the singular, without an article."""
        return " ".join(word for word in (self.size, self.color, self.category or "object") if word)

    def count(self, number: int) -> str:
        """The phrase with a number word: "one red star", "two red stars"."""
        return f"{NUMBERS[number]} {self.text if number == 1 else plural(self.text)}"


def see(view: View) -> tuple[Seen, ...]:
    """Return the objects with their boxes, in the scene's order. All of them are seen."""
    found = []
    for number, thing in enumerate(view.scene.things):
        mask = view.ids == number + 1
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        found.append(Seen(thing=thing, box=box))
    return tuple(found)


def plural(noun: str) -> str:
    """Return the plural of a category's or a noun's name."""
    return f"{noun}es" if noun.endswith(("s", "x")) else f"{noun}s"


def with_article(noun: str) -> str:
    """Return the noun with "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def join(parts: Sequence[str]) -> str:
    """Return "a", "a and b", or "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def place(center: tuple[float, float], side: int) -> str:
    """Return where a point lies, by thirds of the picture: "at the top left", "in the center"."""
    column, row = (min(int(3 * value / side), 2) for value in center)
    return PLACES[row][column]


def setting(background: Background) -> str:
    """Return what the background looks like: "a gray background", "a striped beige background"."""
    striped = "striped " if background.texture == "striped" else ""
    return with_article(f"{striped}{background.tint} background")


def nouns(seen: Sequence[Seen], target: int) -> list[Noun]:
    """Return the phrases that fit the target and no other object, the shortest first."""
    thing = seen[target].thing
    options = (
        Noun(None, None, thing.category),
        Noun(None, thing.color, thing.category),
        Noun(thing.size, None, thing.category),
        Noun(thing.size, thing.color, thing.category),
        Noun(None, thing.color, None),
        Noun(thing.size, thing.color, None),
    )
    return [noun for noun in options if sum(noun.fits(other.thing) for other in seen) == 1]


def name(seen: Sequence[Seen], target: int) -> str | None:
    """Return a phrase that means the target alone, or None where only its place could tell it apart.

    The category is always part of it; the color is, too, where that alone is not enough.
    """
    found = [noun for noun in nouns(seen, target) if noun.category is not None]
    return f"the {found[0].text}" if found else None


def relates(a: Seen, b: Seen, relation: Relation, margin: float = 0.0) -> bool:
    """Say whether `a` is left of (right of, above, below) `b` by more than `margin` pixels between their centers."""
    axis, sign = RELATIONS[relation]
    return sign * (a.center[axis] - b.center[axis]) > margin


def located(seen: Sequence[Seen], target: int, side: int) -> Iterator[str]:
    """Yield phrases that mean the target by where it stands among the objects that its noun fits."""
    margin, thing = MARGIN_RATIO * side, seen[target].thing
    for noun in (Noun(None, thing.color, thing.category), Noun(None, None, thing.category)):
        rivals = [number for number, other in enumerate(seen) if number != target and noun.fits(other.thing)]
        if not rivals:
            continue
        for word, (axis, sign) in _EXTREMES.items():
            here = sign * seen[target].center[axis]
            if all(here - sign * seen[other].center[axis] > margin for other in rivals):
                yield f"the {word} {noun.text}"
        for anchor in range(len(seen)):
            anchor_name = name(seen, anchor) if anchor != target else None
            if anchor_name is None:
                continue
            for relation in RELATIONS:
                if relates(seen[target], seen[anchor], relation, margin) and not any(
                    relates(seen[other], seen[anchor], relation) for other in rivals if other != anchor
                ):
                    yield f"the {noun.text} {relation} {anchor_name}"


def expressions(seen: Sequence[Seen], side: int, rng: random.Random) -> tuple[Expression, ...]:
    """Return phrases that each mean one object: for each, by its looks and by its place, where that is possible."""
    found = []
    for target in rng.sample(range(len(seen)), len(seen)):
        by_looks = [f"the {noun.text}" for noun in nouns(seen, target) if noun.size or noun.color]
        by_place = list(located(seen, target, side))
        found += [(rng.choice(texts), target) for texts in (by_looks, by_place) if texts]
    return tuple(
        Expression(id=f"e{number}", text=text, instances=(target,))
        for number, (text, target) in enumerate(found[:MAX_EXPRESSIONS])
    )


def listing(seen: Sequence[Seen]) -> str:
    """Return all objects by color and category: "a red star and two blue circles"."""
    counts: dict[Noun, int] = {}
    for one in seen:
        noun = Noun(None, one.thing.color, one.thing.category)
        counts[noun] = counts.get(noun, 0) + 1
    return join([noun.count(n) if n > 1 else with_article(noun.text) for noun, n in counts.items()])


def description(seen: Sequence[Seen], background: Background, side: int) -> str:
    """Return a sentence from which the picture could be drawn: every object with size, color and place."""
    parts = [
        f"{with_article(f'{one.thing.size} {one.thing.color} {one.thing.category}')} {place(one.center, side)}"
        for one in seen
    ]
    text = f"{join(parts)}, on {setting(background)}."
    return text[0].upper() + text[1:]


def captions(
    seen: Sequence[Seen], background: Background, side: int, rng: random.Random
) -> tuple[Caption, ...]:
    """Return one to three true sentences about the whole picture."""
    texts = [f"A picture of {listing(seen)} on {setting(background)}."]
    by_category: dict[Noun, int] = {}
    for one in seen:
        noun = Noun(None, None, one.thing.category)
        by_category[noun] = by_category.get(noun, 0) + 1
    if len(seen) > 1 and rng.random() < 0.7:
        parts = [noun.count(number) for noun, number in by_category.items()]
        head = f"There are {NUMBERS[len(seen)]} objects"
        texts.append(f"{head}: {join(parts)}." if len(parts) > 1 else f"There are {parts[0]}.")
    related = [
        f"{first} is {relation} {second}."
        for a in range(len(seen))
        for b in range(len(seen))
        if a != b and (first := name(seen, a)) and (second := name(seen, b))
        for relation in RELATIONS
        if relates(seen[a], seen[b], relation, MARGIN_RATIO * side)
    ]
    if related and rng.random() < 0.7:
        text = rng.choice(related)
        texts.append(text[0].upper() + text[1:])
    return tuple(Caption(id=f"c{number}", text=text) for number, text in enumerate(texts))


def questions(seen: Sequence[Seen], side: int, rng: random.Random) -> tuple[Question, ...]:
    """Return one question of each kind that the scene allows; each has choices, so it can be asked either way."""
    kinds = (_ask_count, _ask_color, _ask_presence, _ask_shape, _ask_size, _ask_side)
    found = [question for ask in kinds if (question := ask(seen, side, rng)) is not None]
    return tuple(msgspec.structs.replace(one, id=f"q{number}") for number, one in enumerate(found))


def dialogs(
    seen: Sequence[Seen], background: Background, side: int, rng: random.Random
) -> tuple[Dialog, ...]:
    """Return a conversation of two or three rounds about the picture."""
    many = len(seen) != 1
    rounds = [
        rng.choice(
            (
                ("What is in the picture?", f"The picture shows {listing(seen)}."),
                ("Please describe the picture.", f"It shows {listing(seen)} on {setting(background)}."),
                (
                    "How many objects are there?",
                    f"There {'are' if many else 'is'} {Noun().count(len(seen))}: {listing(seen)}.",
                ),
            )
        )
    ]
    target = rng.randrange(len(seen))
    called = name(seen, target)
    if called is None:
        striped = background.texture == "striped"
        rounds.append(
            ("Is the background striped?", "Yes, it has stripes." if striped else "No, it has no stripes.")
        )
        return (_dialog(rounds),)
    thing = seen[target].thing
    asked = rng.choice(("where", "color", "size"))
    if asked == "where":
        rounds.append((f"Where is {called}?", f"It is {place(seen[target].center, side)}."))
    elif asked == "color" and thing.color not in called:
        rounds.append((f"What color is {called}?", f"It is {thing.color}."))
    elif thing.size not in called:
        rounds.append((f"Is {called} small, medium or large?", f"It is {thing.size}."))
    else:
        rounds.append((f"Where is {called}?", f"It is {place(seen[target].center, side)}."))
    others = [
        (other_name, relation)
        for other in range(len(seen))
        if other != target and (other_name := name(seen, other))
        for relation in ("left of", "right of")
        if relates(seen[target], seen[other], relation, MARGIN_RATIO * side)
    ]
    if others and rng.random() < 0.6:
        other_name, relation = rng.choice(others)
        answer = relation.removesuffix(" of")
        rounds.append((f"Is it left or right of {other_name}?", f"It is to the {answer} of {other_name}."))
    return (_dialog(rounds),)


def _dialog(rounds: list[tuple[str, str]]) -> Dialog:
    turns = [
        turn for question, answer in rounds for turn in (Turn("user", question), Turn("assistant", answer))
    ]
    turns[0] = Turn("user", f"{IMAGE}\n{turns[0].text}")
    return Dialog(id="d0", turns=tuple(turns))


Ask = Callable[[Sequence[Seen], int, random.Random], Question | None]


def _question(
    text: str, answer: str, choices: Sequence[str], instances: Sequence[int] = (), also: tuple[str, ...] = ()
) -> Question:
    return Question(
        id="",
        text=text,
        answers=(answer, *also),
        choices=tuple(choices),
        answer_index=choices.index(answer),
        instances=tuple(instances),
    )


def _offer(answer: str, words: Sequence[str], rng: random.Random, number: int = 4) -> list[str]:
    """Return the answer among other words, shuffled."""
    choices = [answer, *rng.sample([word for word in words if word != answer], number - 1)]
    rng.shuffle(choices)
    return choices


def _ask_count(seen: Sequence[Seen], side: int, rng: random.Random) -> Question:
    one = rng.choice(seen).thing
    noun = rng.choice(
        (
            Noun(),
            Noun(None, None, one.category),
            Noun(None, one.color, None),
            Noun(None, None, rng.choice(CATEGORIES)),
        )
    )
    counted = [number for number, other in enumerate(seen) if noun.fits(other.thing)]
    answer = len(counted)
    low = max(answer - rng.randint(0, 3), 0)
    return _question(
        f"How many {plural(noun.text)} are there?",
        str(answer),
        [str(number) for number in range(low, low + 4)],
        counted,
        also=(NUMBERS[answer],),
    )


def _ask_color(seen: Sequence[Seen], side: int, rng: random.Random) -> Question | None:
    options = [
        (target, noun)
        for target in range(len(seen))
        for noun in nouns(seen, target)
        if noun.color is None and noun.category is not None
    ]
    if not options:
        return None
    target, noun = rng.choice(options)
    color = seen[target].thing.color
    return _question(f"What color is the {noun.text}?", color, _offer(color, list(COLORS), rng), (target,))


def _ask_presence(seen: Sequence[Seen], side: int, rng: random.Random) -> Question:
    """Ask after a pair of color and category that is there, or, as often, one that nearly is."""
    there = {(one.thing.color, one.thing.category) for one in seen}
    color, category = rng.choice(sorted(there))
    if rng.random() < 0.5:
        near = [(other, category) for other in COLORS] + [(color, other) for other in CATEGORIES]
        color, category = rng.choice([pair for pair in near if pair not in there])
    noun = Noun(None, color, category)
    found = [number for number, one in enumerate(seen) if noun.fits(one.thing)]
    return _question(
        f"Is there {with_article(noun.text)} in the picture?", "yes" if found else "no", ["yes", "no"], found
    )


def _ask_shape(seen: Sequence[Seen], side: int, rng: random.Random) -> Question | None:
    options = [
        (target, noun)
        for target, one in enumerate(seen)
        if one.thing.category != FIGURE
        for noun in nouns(seen, target)
        if noun.category is None
    ]
    if not options:
        return None
    target, noun = rng.choice(options)
    shape = seen[target].thing.category
    return _question(f"What shape is the {noun.text}?", shape, _offer(shape, SHAPES, rng), (target,))


def _ask_size(seen: Sequence[Seen], side: int, rng: random.Random) -> Question | None:
    options = [
        (target, noun) for target in range(len(seen)) for noun in nouns(seen, target) if noun.size is None
    ]
    if not options:
        return None
    target, noun = rng.choice(options)
    return _question(
        f"Is the {noun.text} small, medium or large?", seen[target].thing.size, list(SIZES), (target,)
    )


def _ask_side(seen: Sequence[Seen], side: int, rng: random.Random) -> Question | None:
    options = [
        (a, b, relation)
        for a in range(len(seen))
        for b in range(len(seen))
        if a != b and name(seen, a) and name(seen, b)
        for relation in RELATIONS
        if relates(seen[a], seen[b], relation, MARGIN_RATIO * side)
    ]
    if not options:
        return None
    a, b, relation = rng.choice(options)
    axis, _ = RELATIONS[relation]
    words = [word for word, (other, _) in RELATIONS.items() if other == axis]
    choices = [word.removesuffix(" of") for word in words]
    ending = " of" if axis == 0 else ""
    return _question(
        f"Is {name(seen, a)} {' or '.join(choices)}{ending} {name(seen, b)}?",
        relation.removesuffix(" of"),
        choices,
        (a, b),
    )
