"""Every phrase is read back by a grammar of its own and checked against all objects."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Question
from dataengine.scenes import wording
from dataengine.scenes.layout import View, compose, render
from dataengine.scenes.objects import CATEGORIES, COLORS, SIZES, Background, Scene, Size, Thing

SIDE = 120
SEEDS = st.integers(0, 2**40)
CHANCE = st.integers(0, 2**32).map(random.Random)
NOUN = rf"(?:({'|'.join(SIZES)}) )?(?:({'|'.join(COLORS)}) )?({'|'.join(CATEGORIES)}|object)"
RELATION = "left of|right of|above|below"
EXTREME = "leftmost|rightmost|topmost|bottommost"
NUMBER = {word: number for number, word in enumerate(wording.NUMBERS)}

Fact = tuple[str, str, str, float, float]


def facts(view: View) -> list[Fact]:
    """List (size, color, category, x, y) of each object, measured on the ids."""
    found: list[Fact] = []
    for number, thing in enumerate(view.scene.things):
        rows, columns = np.nonzero(view.ids == number + 1)
        x, y = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
        found.append((thing.size, thing.color, thing.category, float(x), float(y)))
    return found


def fitting(noun: tuple[str | None, str | None, str], known: list[Fact]) -> set[int]:
    size, color, category = noun
    return {
        number
        for number, fact in enumerate(known)
        if size in (None, "", fact[0]) and color in (None, "", fact[1]) and (category in ("object", fact[2]))
    }


def before(a: Fact, b: Fact, relation: str) -> bool:
    return {
        "left of": a[3] < b[3],
        "right of": a[3] > b[3],
        "above": a[4] < b[4],
        "below": a[4] > b[4],
    }[relation]


def meant(phrase: str, known: list[Fact]) -> set[int]:
    """Return the objects that a phrase can mean."""
    match = re.fullmatch(rf"the (?:({EXTREME}) )?{NOUN}(?: ({RELATION}) (the .+))?", phrase)
    assert match, phrase
    extreme, size, color, category, relation, anchor = match.groups()
    found = fitting((size, color, category), known)
    if extreme:
        key: dict[str, Callable[[int], float]] = {
            "leftmost": lambda n: known[n][3],
            "rightmost": lambda n: -known[n][3],
            "topmost": lambda n: known[n][4],
            "bottommost": lambda n: -known[n][4],
        }
        best = min(map(key[extreme], found))
        found = {number for number in found if key[extreme](number) <= best}
    if relation:
        anchors = meant(anchor, known)
        assert len(anchors) == 1, phrase
        found = {number for number in found if before(known[number], known[min(anchors)], relation)}
    return found


def singular(word: str) -> str:
    return {"crosses": "cross"}.get(word, word.removesuffix("s"))


def listed(text: str) -> Counter[tuple[str | None, str | None, str]]:
    """Count what a list such as "a red star and two blue circles" names."""
    counts: Counter[tuple[str | None, str | None, str]] = Counter()
    for part in re.split(r", | and ", text):
        match = re.fullmatch(rf"(an?|{'|'.join(NUMBER)}) (.+)", part)
        assert match, part
        number = 1 if match[1] in ("a", "an") else NUMBER[match[1]]
        noun = re.fullmatch(NOUN, match[2] if number == 1 else " ".join(map(singular, match[2].split(" "))))
        assert noun, part
        counts[noun[1], noun[2], noun[3]] += number
    return counts


def scene(*things: tuple[Size, str, str, float, float]) -> View:
    made = tuple(
        Thing(
            category=category,  # type: ignore[arg-type]
            color=color,
            rgb=COLORS[color],
            size=size,
            center=(x, y),
            radius=6.0,
        )
        for size, color, category, x, y in things
    )
    background = Background(tint="beige", texture="striped", seed=0)
    return render(Scene(side=SIDE, background=background, things=made))


@given(seed=SEEDS, chance=CHANCE)
@settings(deadline=None, max_examples=150)
def test_an_expression_means_one_object_and_no_other(seed: int, chance: random.Random) -> None:
    view = compose(seed, 0, SIDE, 10)

    found = wording.expressions(wording.see(view), SIDE, chance)

    for expression in found:
        assert meant(expression.text, facts(view)) == set(expression.instances)
        assert len(expression.text.split()) >= 3
    assert len({expression.text for expression in found}) == len(found)
    assert len({expression.id for expression in found}) == len(found)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_a_place_among_others_holds_by_a_margin(seed: int) -> None:
    view = compose(seed, 0, SIDE, 10)
    known, seen = facts(view), wording.see(view)
    margin = wording.MARGIN_RATIO * SIDE

    for target in range(len(seen)):
        for phrase in wording.located(seen, target, SIDE):
            assert meant(phrase, known) == {target}
            match = re.fullmatch(rf"(?:the {NOUN}) ({RELATION}) (the .+)", phrase)
            if match:
                anchor = known[min(meant(match[5], known))]
                fact = known[target]
                gap = fact[3] - anchor[3] if "of" in match[4] else fact[4] - anchor[4]
                assert abs(gap) > margin


def true_answer(question: Question, known: list[Fact]) -> str:
    """Answer a question by looking at all objects."""
    text = question.text
    if match := re.fullmatch(r"How many (.+) are there\?", text):
        words = [
            singular(word) if n == match[1].count(" ") else word for n, word in enumerate(match[1].split())
        ]
        noun = re.fullmatch(NOUN, " ".join(words))
        assert noun
        return str(len(fitting((noun[1], noun[2], noun[3]), known)))
    if match := re.fullmatch(rf"Is there an? {NOUN} in the picture\?", text):
        return "yes" if fitting((match[1], match[2], match[3]), known) else "no"
    asked = {r"What color is (.+)\?": 1, r"What shape is (.+)\?": 2, r"Is (.+) small, medium or large\?": 0}
    for pattern, part in asked.items():
        if match := re.fullmatch(pattern, text):
            (target,) = meant(match[1], known)
            return str(known[target][part])
    match = re.fullmatch(r"Is (the .+) (left or right of|above or below) (the .+)\?", text)
    assert match, text
    (a,), (b,) = meant(match[1], known), meant(match[3], known)
    pair = ("left of", "right of") if "of" in match[2] else ("above", "below")
    (answer,) = [word for word in pair if before(known[a], known[b], word)]
    return answer.removesuffix(" of")


@given(seed=SEEDS, chance=CHANCE)
@settings(deadline=None, max_examples=150)
def test_an_answer_is_right_and_the_only_right_choice(seed: int, chance: random.Random) -> None:
    view = compose(seed, 0, SIDE, 10)
    known = facts(view)

    for question in wording.questions(wording.see(view), SIDE, chance):
        assert question.answers[0] == true_answer(question, known)
        assert len(set(question.choices)) == len(question.choices)
        assert question.answer_index is not None
        assert question.choices[question.answer_index] == question.answers[0]
        assert all(answer == wording.NUMBERS[int(question.answers[0])] for answer in question.answers[1:])
        # A question never tells its own answer.
        if question.text.startswith("What"):
            assert not set(question.answers[0].split()) & set(re.findall("[a-z]+", question.text))


@given(seed=SEEDS, chance=CHANCE)
@settings(deadline=None, max_examples=100)
def test_a_caption_is_true(seed: int, chance: random.Random) -> None:
    view = compose(seed, 0, SIDE, 10)
    known, background = facts(view), view.scene.background
    by_color = Counter((None, color, category) for _, color, category, _, _ in known)
    by_category = Counter((None, None, category) for _, _, category, _, _ in known)

    found = wording.captions(wording.see(view), background, SIDE, chance)

    assert 1 <= len(found) <= 3
    for caption in found:
        text = caption.text
        if match := re.fullmatch(r"A picture of (.+) on an? (.+) background\.", text):
            assert listed(match[1]) == by_color
            striped = "striped " if background.texture == "striped" else ""
            assert match[2] == striped + background.tint
        elif match := re.fullmatch(r"There are (?:(\w+) objects: )?(.+)\.", text):
            assert listed(match[2]) == by_category
            assert match[1] is None or NUMBER[match[1]] == len(known)
        else:
            match = re.fullmatch(rf"(The .+) is ({RELATION}) (the .+)\.", text)
            assert match, text
            (a,), (b,) = meant(match[1].lower(), known), meant(match[3], known)
            assert before(known[a], known[b], match[2])


def where(fact: Fact) -> str:
    column = "left" if fact[3] < SIDE / 3 else "right" if fact[3] >= 2 * SIDE / 3 else ""
    row = "top" if fact[4] < SIDE / 3 else "bottom" if fact[4] >= 2 * SIDE / 3 else ""
    if not row:
        return f"on the {column}" if column else "in the center"
    return f"at the {row} {column}".strip()


@given(seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_a_description_names_every_object_with_its_place(seed: int) -> None:
    view = compose(seed, 0, SIDE, 10)

    text = wording.description(wording.see(view), view.scene.background, SIDE)

    objects, background = text.removesuffix(".").rsplit(", on ", 1)
    parts = re.split(r", | and ", objects[0].lower() + objects[1:])
    expected = [
        f"{size} {color} {category} {where(fact)}"
        for fact in facts(view)
        for size, color, category in [fact[:3]]
    ]
    assert [part.split(" ", 1)[1] for part in parts] == expected
    assert view.scene.background.tint in background
    assert ("striped" in background) == (view.scene.background.texture == "striped")


@given(seed=SEEDS, chance=CHANCE)
@settings(deadline=None, max_examples=150)
def test_a_dialog_is_true_from_turn_to_turn(seed: int, chance: random.Random) -> None:
    view = compose(seed, 0, SIDE, 10)
    known, background = facts(view), view.scene.background
    by_color = Counter((None, color, category) for _, color, category, _, _ in known)

    (dialog,) = wording.dialogs(wording.see(view), background, SIDE, chance)

    turns = [turn.text for turn in dialog.turns]
    assert [turn.role for turn in dialog.turns] == ["user", "assistant"] * (len(turns) // 2)
    assert 2 <= len(turns) // 2 <= 3
    assert turns[0].startswith("<image>\n")
    assert not any("<image>" in turn for turn in turns[1:])
    first = re.fullmatch(
        r"(?:The picture shows|It shows|There (?:is|are) (\w+) objects?:) (.+?)(?: on an? (.+) background)?\.",
        turns[1],
    )
    assert first, turns[1]
    assert listed(first[2]) == by_color
    assert first[1] is None or NUMBER[first[1]] == len(known)
    assert first[3] is None or first[3].endswith(background.tint)
    subject = None
    for question, answer in zip(turns[2::2], turns[3::2], strict=True):
        if question == "Is the background striped?":
            assert answer.startswith("Yes") == (background.texture == "striped")
            continue
        if match := re.fullmatch(r"Is it left or right of (the .+)\?", question):
            assert subject is not None
            (other,) = meant(match[1], known)
            said = "left of" if answer == f"It is to the left of {match[1]}." else "right of"
            assert said == "left of" or answer == f"It is to the right of {match[1]}."
            assert before(known[subject], known[other], said)
            continue
        match = re.fullmatch(r"(Where|What color|Is) (?:is )?(the .+?)( small, medium or large)?\?", question)
        assert match, question
        (subject,) = meant(match[2], known)
        size, color, *_ = known[subject]
        right = {"Where": where(known[subject]), "What color": color, "Is": size}[match[1]]
        assert answer == f"It is {right}."


def test_what_cannot_be_told_apart_gets_no_expression() -> None:
    view = scene(("small", "red", "circle", 30, 60), ("small", "red", "circle", 33, 60))
    apart = scene(("small", "red", "circle", 30, 60), ("small", "red", "circle", 80, 60))

    assert wording.expressions(wording.see(view), SIDE, random.Random(0)) == ()
    assert {one.text for one in wording.expressions(wording.see(apart), SIDE, random.Random(0))} <= {
        "the leftmost red circle", "the rightmost red circle", "the leftmost circle", "the rightmost circle",
    }  # fmt: skip


def test_a_rival_that_is_also_left_of_the_anchor_forbids_left_of() -> None:
    things: list[tuple[Size, str, str, float, float]] = [
        ("small", "red", "circle", 20, 60),
        ("small", "blue", "square", 60, 60),
        ("small", "red", "circle", 59, 100),
    ]

    phrases = list(wording.located(wording.see(scene(*things)), 0, SIDE))
    things[2] = ("small", "red", "circle", 61, 100)
    freed = list(wording.located(wording.see(scene(*things)), 0, SIDE))

    assert "the red circle left of the square" not in phrases
    assert "the red circle left of the square" in freed


@pytest.mark.parametrize(
    ("noun", "many", "one"),
    [
        ("cross", "crosses", "a cross"),
        ("ellipse", "ellipses", "an ellipse"),
        ("orange star", "orange stars", "an orange star"),
    ],
)
def test_nouns_have_their_plural_and_article(noun: str, many: str, one: str) -> None:
    assert wording.plural(noun) == many
    assert wording.with_article(noun) == one


def test_lists_read_as_people_write_them() -> None:
    view = scene(
        ("small", "red", "star", 20, 20),
        ("small", "red", "star", 60, 60),
        ("large", "orange", "ring", 100, 100),
    )

    seen = wording.see(view)

    assert wording.listing(seen) == "two red stars and an orange ring"
    assert wording.description(seen, view.scene.background, SIDE) == (
        "A small red star at the top left, a small red star in the center and a large orange ring at the bottom right, "
        "on a striped beige background."
    )


def test_yes_and_no_come_equally_often_and_every_kind_is_asked() -> None:
    kinds: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for number in range(250):
        seen = wording.see(compose(2, number, SIDE, 6))
        for question in wording.questions(seen, SIDE, random.Random(number)):
            kinds[" ".join(question.text.split()[:2])] += 1
            if question.choices == ("yes", "no"):
                answers[question.answers[0]] += 1

    assert set(kinds) >= {"How many", "What color", "What shape", "Is there", "Is the"}
    assert 0.4 < answers["yes"] / answers.total() < 0.6
