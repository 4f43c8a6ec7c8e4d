from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Edit,
    Expression,
    Image,
    Instance,
    Origin,
    Question,
    Turn,
)
from dataengine.audit import drawn, state
from dataengine.audit.plain import TextKind, doubtful
from dataengine.audit.rule import Facts, Sizes, Text
from dataengine.audit.state import Audit
from dataengine.audit.table import ANNOTATION_GROUPS, ANNOTATION_RULES
from dataengine.tokens import IMAGE

ORIGIN = Origin(file="f", record="r")
PIECES = st.sampled_from(
    [
        "a", "cat", "Sits", "A", "12", "555", "2025", "212-555-0187", " ", " ", " ", "  ", ".", "..", ",", "?", "!",
        '"', "\n", "-", "nan", "None", "test", "N/A", "'", "(", ")", ";", ":", "&", "/", "$", "%", "=", "*", "_", "#",
        "@", "[", "<", "+", "{", "\t", "\0", "\u00e9", "1,2,3,4,", '""', "very very very very very ", "<image>",
        "a cat sits on a mat and " * 4, "ABCDEFGHIJKLMN", "x" * 50, "one two three four ", "ab-1.5", "#N/A",
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=8).map("".join)
SENTENCES: tuple[TextKind, ...] = ("caption", "expression", "question", "edit")
FREES: tuple[TextKind, ...] = ("answer", "choice", "turn")


def _broken(kind: TextKind, text: str) -> list[str]:
    facts = Facts(Annotation(key="1", images=(), origin=ORIGIN), [], "en")
    facts.odd_texts = [Text(kind, "1", text)]
    return [rule for rule, check in ANNOTATION_GROUPS["odd_texts"] for _ in check(facts)]


@settings(deadline=None, max_examples=400)
@given(st.lists(TEXTS, max_size=6))
def test_no_text_that_breaks_a_rule_passes_with_others(texts: list[str]) -> None:
    sentences = set(doubtful(texts, sentences=True).tolist())
    frees = set(doubtful(texts, sentences=False).tolist())

    for number, text in enumerate(texts):
        for kind in SENTENCES if number not in sentences else ():
            assert _broken(kind, text) == []
        for kind in FREES if number not in frees else ():
            assert _broken(kind, text) == []


@pytest.mark.parametrize("count", [1, 2, 5, 24])
@pytest.mark.parametrize("before", range(0, 30, 7))
def test_what_is_said_again_and_again_is_found_wherever_it_begins(count: int, before: int) -> None:
    rng = np.random.default_rng(count)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(3, 9))) for _ in range(60)]
    text = " ".join([*words[:before], *words[30 : 30 + count] * max(4, 40 // count), "end"])

    assert _broken("caption", f"A {text}") == ["text.repeat"]
    assert doubtful(["A cat.", f"A {text}", "A dog."], sentences=True).tolist() == [1]


def test_usual_texts_pass() -> None:
    sentences = ["A cat sits on a mat, and it's 5 o'clock.", 'What does the "Open" sign say?', "a dog"] * 9
    frees = ["2", "It is a cat.\n\nIt sits.", "yes", f"{IMAGE}\nWhat is it?", "In 2025, 1,000 of them."] * 9

    assert doubtful(sentences, sentences=True).tolist() == []
    assert doubtful(frees, sentences=False, passed_over=IMAGE).tolist() == []
    assert doubtful([], sentences=True).tolist() == []


corners = st.one_of(
    st.sampled_from([0.0, 10.0, 20.0, 64.0, 48.0, -5.0, 70.0]),
    st.integers(0, 480).map(lambda value: value / 10),
)
coordinates = st.one_of(corners, st.sampled_from([float("nan"), float("inf"), 1e300]))
boxes = st.one_of(st.none(), st.tuples(coordinates, coordinates, coordinates, coordinates))
outlines = st.lists(
    # Readers give no outline with other numbers.
    st.lists(st.tuples(corners, corners), min_size=3, max_size=7).map(
        lambda points: tuple(value for point in points for value in point)
    ),
    max_size=3,
).map(tuple)
instances = st.builds(
    Instance,
    id=st.sampled_from(["1", "2", "x"]),
    category=st.sampled_from([None, "dog", "cat", "DontCare", "ignore"]),
    box=boxes,
    polygons=outlines,
    text=st.one_of(st.none(), st.none(), TEXTS),
    crowd=st.booleans(),
    image=st.sampled_from([0, 0, 0, 1, 3]),
    quad=st.one_of(st.none(), st.none(), st.just((0.0, 0.0, 10.0, 10.0, 10.0, 0.0, 0.0, 10.0))),
    keypoints=st.one_of(st.none(), st.none(), st.just(((1.0, 2.0, 0), (90.0, 2.0, 2)))),
)
images = st.lists(
    st.builds(
        Image,
        path=st.sampled_from(["a.jpg", "b\\c.jpg", "e\u0301.jpg", "B.jpg", "a\tb.jpg"]),
        license=st.sampled_from([None, "CC0-1.0", "unknown"]),
    ),
    max_size=2,
).map(tuple)
questions = st.builds(
    Question,
    id=st.just("1"),
    text=TEXTS,
    answers=st.lists(TEXTS, max_size=2).map(tuple),
    choices=st.lists(TEXTS, max_size=2).map(tuple),
    instances=st.sampled_from([(), (0,), (9,)]),
)
turns = st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), TEXTS), max_size=3).map(tuple)
records = st.builds(
    Annotation,
    key=st.sampled_from("abcdefgh"),
    images=images,
    origin=st.just(ORIGIN),
    instances=st.lists(instances, max_size=3).map(tuple),
    captions=st.lists(
        st.builds(Caption, id=st.just("1"), text=TEXTS, lang=st.sampled_from([None, "en", "zh"])), max_size=2
    ).map(tuple),
    expressions=st.lists(
        st.builds(Expression, id=st.just("1"), text=TEXTS, instances=st.sampled_from([(), (0,), (7,)])),
        max_size=1,
    ).map(tuple),
    questions=st.lists(questions, max_size=2).map(tuple),
    dialogs=st.lists(st.builds(Dialog, id=st.just("1"), turns=turns), max_size=1).map(tuple),
    edits=st.lists(st.just(Edit(id="1", instruction="Make it red.", before=0, after=1)), max_size=1).map(
        tuple
    ),
    negatives=st.sampled_from([(), ("dog",)]),
)


@settings(deadline=None, max_examples=60)
@given(
    items=st.lists(st.tuples(records, st.sampled_from([None, (64, 48)])), max_size=8),
    lang=st.sampled_from([None, "en", "zh"]),
    at_once=st.integers(1, 6),
)
def test_an_audit_finds_what_each_rule_finds_by_itself(
    items: list[tuple[Annotation, tuple[int, int] | None]], lang: str | None, at_once: int
) -> None:
    expected: Counter[tuple[str, str]] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "AT_ONCE", 10 * at_once)
        patch.setattr(drawn, "POINTS_AT_ONCE", 4 * at_once)
        audit = Audit("s", lang=lang)
        places: Counter[str] = Counter()
        for item, size in items:
            sizes: Sizes = [size] * len(item.images)
            audit.annotation(item, sizes)
            facts = Facts(item, sizes, lang)
            expected.update(
                (rule, state.one_line(hit.detail)) for rule, check in ANNOTATION_RULES for hit in check(facts)
            )
            places.update(_looked_at(facts))

        found = Counter((one.rule, one.detail) for one in audit.findings if one.rule != "id.duplicate")
        assert found == expected
        assert {name: count for name, count in audit.checked.items() if count} == dict(+places)


SQUARE = (10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0)
# Not once around any centre, and yet nothing crosses.
COMB = (
    0.0,
    0.0,
    40.0,
    0.0,
    40.0,
    40.0,
    30.0,
    40.0,
    30.0,
    10.0,
    20.0,
    10.0,
    20.0,
    40.0,
    10.0,
    40.0,
    10.0,
    10.0,
    0.0,
    10.0,
)


def _outlined(*polygons: tuple[float, ...], **fields: Any) -> Annotation:
    item = Instance(id="1", polygons=polygons, **fields)
    return Annotation(key="k", images=(Image(path="a.jpg"),), origin=ORIGIN, instances=(item,))


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (_outlined((10, 10, 30, 30, 30, 10, 10, 30)), "polygon.self_intersect"),
        (_outlined((0, 0, 40, 0, 40, 40, 20, 5, 0, 40, 30, 30)), "polygon.self_intersect"),
        (_outlined(SQUARE, (12, 12, 14, 12, 14, 14)), "polygon.holes_lost"),
        (_outlined((10, 10, 20, 10, 30, 10)), "polygon.invalid"),
        (_outlined((10, 10, 20, 10, 20)), "polygon.invalid"),
        (_outlined((10, 10, 20, 10, 20, 20, 7)), "polygon.invalid"),
        (_outlined((10, 10, 80, 10, 30, 30)), "polygon.outside"),
        (_outlined(SQUARE, box=(2, 2, 12, 12)), "mask.box_mismatch"),
    ],
)
def test_a_broken_outline_is_found_among_sound_ones(broken: Annotation, rule: str) -> None:
    sound = [_outlined(SQUARE, box=(10, 10, 30, 30)), _outlined(COMB), _outlined(SQUARE, (40, 40, 44, 40, 44, 44)),
             _outlined(SQUARE, box=(2, 2, 12, 12), crowd=True)]  # fmt: skip
    audit = Audit("s")

    for item in (*sound, broken, *sound):
        audit.annotation(item, [(64, 48)])

    assert [one.rule for one in audit.findings] == [rule]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"instances": (Instance(id="1", box=(1, 1, 2, 2), image=1),)}, "id.orphan"),
        ({"instances": (Instance(id="1", box=(1, 1, 2, 2), category="DontCare"),)}, "ignore.used_as_object"),
        ({"images": (Image(path="b\\a.jpg"),)}, "path.separator"),
        ({"images": (Image(path="e\u0301.jpg"),)}, "path.unicode"),
        ({"images": (Image(path="a.jpg", license="unknown"),)}, "license.missing"),
        ({"negatives": ("dog",)}, "label.not_exhaustive_used_as_negative"),
        ({"captions": (Caption(id="1", text="A cat sits.", lang="zh"),)}, "text.script"),
        ({"questions": (Question(id="1", text="Which one is it?", instances=(3,)),)}, "id.orphan"),
    ],
)
def test_a_rule_is_asked_where_there_is_something_to_look_at(fields: dict[str, Any], rule: str) -> None:
    audit = Audit("s")

    audit.annotation(
        Annotation(**{"key": "k", "images": (Image(path="a.jpg"),), "origin": ORIGIN, **fields}), [(64, 48)]
    )

    assert [one.rule for one in audit.findings] == [rule]


def _looked_at(facts: Facts) -> dict[str, Any]:
    return {
        "annotation": 1,
        "box": len(facts.boxes) + len(facts.endless),
        "outline": len(facts.outlined),
        "quad": len(facts.quads),
        "pose": len(facts.posed),
        "text": len(facts.texts),
        "question": len(facts.annotation.questions),
        "expression": len(facts.annotation.expressions),
        "dialog": len(facts.annotation.dialogs),
        "edit": len(facts.annotation.edits),
    }
