from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import (
    Annotation,
    Box,
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
from dataengine.audit.plain import TextKind, is_plain
from dataengine.audit.rule import Facts, Text
from dataengine.audit.table import ANNOTATION_GROUPS, ANNOTATION_RULES
from dataengine.files import Root

ODD_TEXT_RULES = ANNOTATION_GROUPS["odd_texts"]
ORIGIN = Origin(file="f", record="r")
INPUT, TARGET = Image(path="a.jpg"), Image(path="b.jpg", role="target")


def _annotation(**fields: Any) -> Annotation:
    return Annotation(**{"key": "1", "images": (INPUT,), "origin": ORIGIN, **fields})


def _hits(annotation: Annotation, lang: str | None = "en", root: Root | None = None) -> list[str]:
    facts = Facts(annotation, [(64, 48)] * len(annotation.images), lang, root)
    return [rule for rule, check in ANNOTATION_RULES for _ in check(facts)]


def _caption(text: str, lang: str | None = None) -> Annotation:
    return _annotation(captions=(Caption(id="1", text=text, lang=lang),))


def _question(text: str, *answers: str, **fields: Any) -> Annotation:
    return _annotation(questions=(Question(id="1", text=text, answers=answers, **fields),))


def _word(text: str) -> Annotation:
    return _annotation(instances=(Instance(id="1", text=text),))


def _talk(*texts: str) -> Annotation:
    turns = [Turn("assistant" if number % 2 else "user", text) for number, text in enumerate(texts)]
    return _annotation(dialogs=(Dialog(id="1", turns=tuple(turns)),))


@pytest.mark.parametrize(
    ("annotation", "rule"),
    [
        (_caption("HOLD"), "text.placeholder"),
        (_caption("None"), "text.placeholder"),
        (_question("nan", "a dog"), "text.placeholder"),
        (_question("what is it?", "nan"), "text.placeholder"),
        (_word("NaN"), "text.placeholder"),
        (_caption("a caf\u00c3\u00a9 in Paris"), "text.mojibake"),
        (_caption("the dog\u00e2\u20ac\u2122s ball"), "text.mojibake"),
        (_caption("\u00d0\u0161\u00d0\u00be\u00d1\u201a"), "text.mojibake"),
        (_caption("a caf\ufffd in Paris"), "text.mojibake"),
        (_question("what\u00b4s the name of this?", "it"), "text.mojibake"),
        (_caption("a cat\0 on a mat"), "text.control"),
        (_word("\ufeffTiredness"), "text.control"),
        (_caption("a cat\u200b on a mat"), "text.control"),
        (_caption("a cat \u202eon a mat"), "text.control"),
        (_caption("a cat "), "text.whitespace"),
        (_caption("a  cat"), "text.whitespace"),
        (_caption("a cat\nsits"), "text.whitespace"),
        (_question("what\tis it?", "cat"), "text.whitespace"),
        (_question("what is it?", "cat "), "text.whitespace"),
        (_caption("A CAT SITS ON A MAT"), "text.case"),
        (_caption("a cat sits ."), "text.terminal"),
        (_caption("a cat sits,."), "text.terminal"),
        (_caption("a cat sits.."), "text.terminal"),
        (_word("377,117,463,117,465,130,378,130,Genaxis"), "text.delimiter_in_field"),
        (_word('the ""best"" place'), "text.delimiter_in_field"),
        (_caption("['a cat', 'a dog']"), "text.stringified"),
        (_caption("[2, 10, 1]"), "text.stringified"),
        (_question("what is it?", '{"answer": "cat"}'), "text.stringified"),
        (_question("which are there?", '["cat", "dog"]'), "text.stringified"),
        (_caption("\u4e00\u53ea\u732b\u5750\u5728\u57ab\u5b50\u4e0a"), "text.script"),
        (_caption("a cat sits on a mat", lang="zh"), "text.script"),
        (_caption("a \u0441at sits on a mat"), "text.script"),
        (_caption("a cat sits on \u0430 mat"), "text.script"),
        (_caption("a"), "text.length"),
        (_caption("word and other words, " * 400 + "the end"), "text.length"),
        (_caption("a cat sits on a mat and " * 6 + "sleeps"), "text.repeat"),
        (_talk("<image>\nWhat is it?", "It is " + "very " * 40 + "large."), "text.repeat"),
        (_caption("\u732b\u72d7\u9e1f" * 20, lang="zh"), "text.repeat"),
        (_word("call 212-555-0187"), "text.pii"),
        (_word("(415) 555-0132"), "text.pii"),
        (_word("+41 44 668 18 00"), "text.pii"),
        (_caption("a sign with jane.doe@gmail.com on it"), "text.pii"),
    ],
)
def test_each_rule_of_text_is_hit_by_what_breaks_it(annotation: Annotation, rule: str) -> None:
    assert rule in _hits(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        _question("How many dogs are there?", "none", "None", "N/A"),
        _word("null"),
        _caption("a test of strength"),
        _caption("S\u00c3O PAULO at night, na\u00efve caf\u00e9 \u2013 20 \u00b0C"),
        _caption("un panneau \u00ab\u00c9\u00bb", lang="fr"),
        _caption("\u05d7\u05ea\u05d5\u05dc\u200f yoshev", lang="he"),
        _caption("a family \U0001f468\u200d\U0001f469\u200d\U0001f467 on a beach"),
        _talk("<image>\nWhat is it?", "It is:\n\n1. a cat\n2.  a dog\n\n```\nx\t= 1\n```"),
        _talk("What is it?\n<image>", "A cat."),
        _caption("STOP"),
        _caption("ABC\u7684" + "\u4e24\u5185\u89d2" * 6 + "OABCDEFGHIJK", lang="zh"),
        _question("Which?\nChoices:\n1. a cat\n2. a dog", "It is a cat.\n\nIt  sits."),
        _caption("A long caption has paragraphs. " * 2 + "\n\n" + " ".join(map(str, range(100)))),
        _word("NO PARKING ANY TIME"),
        _caption("a cat sits..."),
        _caption("does it sit?!"),
        _question("What is the time in Washington D.C.?", "noon"),
        _caption("le chat dort \u00e0 midi !", lang="fr"),
        _word("1,250.00"),
        _word('a 12" pizza'),
        _word("3, 5, 7"),
        _question("what is the interval?", "[2, 10]"),
        _question("what is the list?", "[unknown]"),
        _caption("[a cat] and (a dog)"),
        _caption("\u4e00\u53ea\u732b", lang="zh"),
        _caption("T-shirt \u4e0a\u5199\u7740 NBA \u7684\u4eba", lang="zh"),
        _caption("a bottle of \u5317\u4eac\u5564\u9152 beer"),
        _caption("5 \u03bcm of \u0394x"),
        _caption("\u732b", lang="zh"),
        _caption("no no no, said the man"),
        _caption("the cat and the dog and the bird and the fish and the horse"),
        _word("Total ........................................ 12"),
        _word("1995-2005, ISBN 978-3-16-148410-0, 192.168.100.1, 2015-10-12, 3.14159265"),
        _word("@home at 12:30"),
        _word("name@example.com"),
    ],
)
def test_sound_text_breaks_no_rule(annotation: Annotation) -> None:
    assert _hits(annotation) == []


def test_a_language_that_nothing_declares_is_in_no_other_letters() -> None:
    assert _hits(_caption("\u4e00\u53ea\u732b\u5750\u5728\u57ab\u5b50\u4e0a"), lang=None) == []


def test_a_report_does_not_repeat_what_can_be_traced_to_a_person() -> None:
    facts = Facts(_caption("a sign with jane.doe@gmail.com on it"), [None])

    (detail,) = (hit.detail for rule, check in ANNOTATION_RULES if rule == "text.pii" for hit in check(facts))

    assert detail == "caption 1: holds an e-mail address"


BOXES: tuple[Box, Box] = ((1, 1, 9, 9), (20, 20, 29, 29))


def _named(first: str, second: str, boxes: tuple[Box, Box] = BOXES, **fields: Any) -> Annotation:
    return _annotation(
        instances=tuple(Instance(id=str(number), box=box) for number, box in enumerate(boxes)),
        expressions=(
            Expression(id="1", text=first, instances=(0,), **fields),
            Expression(id="2", text=second, instances=(1,), **fields),
        ),
    )


def _edit(before: int = 0, after: int = 1, **fields: Any) -> Annotation:
    edit = Edit(id="1", instruction="make it blue", before=before, after=after)
    return _annotation(images=(INPUT, TARGET), edits=(edit,), **fields)


@pytest.mark.parametrize(
    ("annotation", "rule"),
    [
        (_question("which?", choices=("cat", "dog"), answer_index=2), "qa.format"),
        (_question("which?", choices=("cat", "dog"), answer_index=-1), "qa.format"),
        (_question("which?", "bird", choices=("cat", "dog")), "qa.format"),
        (_question("which?", "cat", choices=("cat", "Cat.")), "qa.format"),
        (_question("which? A. cat B. dog", "cat", choices=("cat", "dog")), "qa.format"),
        (_question("which?\n(A) cat\n(B) dog", "cat", choices=("cat", "dog")), "qa.format"),
        (_question("Is the cat black?", "two"), "qa.format"),
        (_question("are there dogs", "red", "blue"), "qa.format"),
        (_question("who?", "dakota", "nous", votes=(5, 1), stated="nous"), "qa.consensus"),
        (_question("who?", "dakota", votes=(5,), stated="somebody"), "qa.consensus"),
        (_talk("<image>\nWhat is it?"), "turn.structure"),
        (
            _annotation(dialogs=(Dialog(id="", turns=(Turn("assistant", "a"), Turn("user", "b"))),)),
            "turn.structure",
        ),
        (_talk("<image>\n<image>\nWhat is it?", "A cat."), "media.placeholder"),
        (_named("the left cat", "The left  cat"), "ref.ambiguous"),
        (_edit(0, 0), "edit.noop"),
    ],
)
def test_each_rule_of_questions_is_hit_by_what_breaks_it(annotation: Annotation, rule: str) -> None:
    assert rule in _hits(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        _question("which?", "a cat, of course", "cat", choices=("cat", "dog")),
        _question("which?", "feline", choices=("cat", "dog"), answer_index=0),
        _question("Which is vitamin A: this or B?", "cat", choices=("cat", "dog")),
        _question("Is it a cat or a dog?", "dog"),
        _question("Is the cat black?", "No, it is white", "maybe"),
        _question("Is the cat black?", "unanswerable"),
        _question("Are you able to tell me what this says?", "milk"),
        _question("Is there any text, and what does it say?", "milk"),
        _question("who?", "dakota", "nous", votes=(5, 5), stated="nous"),
        _question("who?", "dakota", "nous", votes=(5, 1), stated="dakota"),
        _question("who?", "dakota", "nous"),
        _talk("<image>\nWhat is it?", "A cat.", "And this?", "A dog."),
        _named("the left cat", "the right cat"),
        _named("the cat", "the cat", (BOXES[0], BOXES[0])),
        _named("a man", "a man", spans=((0, 5),)),
        _edit(),
    ],
)
def test_sound_questions_break_no_rule(annotation: Annotation) -> None:
    assert _hits(annotation) == []


def test_an_edit_whose_two_files_are_copies_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "b.jpg").write_bytes(b"two")
    assert _hits(_edit(), root=Root(tmp_path)) == []

    (tmp_path / "b.jpg").write_bytes(b"one")

    assert _hits(_edit(), root=Root(tmp_path)) == ["edit.noop"]


def test_files_that_are_not_there_are_no_copies_of_each_other(tmp_path: Path) -> None:
    assert _hits(_edit(), root=Root(tmp_path)) == []


PIECES = st.sampled_from(
    [
        "a", "cat", "Sits", "A", "12", "555", "2025", "212-555-0187", " ", " ", "  ", ".", "..", ",", "?", "!", '"',
        "\n", "-", "nan", "None", "test", "N/A", "'", "(", ")", ";", ":", "&", "/", "$", "%", "=", "*", "_", "#", "@",
        "[", "<", "+", "{", "\t", "\u00e9", "1,2,3,4,", '""', "very very very very very ",
    ]
)  # fmt: skip
KINDS: st.SearchStrategy[TextKind] = st.sampled_from(
    ["caption", "expression", "question", "answer", "choice", "edit", "word", "turn"]
)


@settings(deadline=None, max_examples=1500)
@given(KINDS, st.lists(PIECES, max_size=12).map("".join))
def test_a_text_that_is_plainly_sound_breaks_no_rule(kind: TextKind, text: str) -> None:
    facts = Facts(_annotation(), [None], "en")
    # As if it were not plain, so that every rule looks at it.
    facts.odd_texts = [Text(kind, "1", text)]

    if is_plain(kind, text):
        assert [rule for rule, check in ODD_TEXT_RULES for _ in check(facts)] == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("caption", "A cat sits on a mat, and it's 5 o'clock."),
        ("question", 'What does the "Open" sign say?'),
        ("answer", "2"),
        ("answer", "It is a cat.\n\nIt sits."),
        ("word", "Genaxis Theatre"),
        ("turn", "x\nWhat is it?"),
    ],
)
def test_usual_texts_are_plain(kind: str, text: str) -> None:
    assert is_plain(kind, text)


@pytest.mark.parametrize("text", ["the letter \u0416 on a wall", "it says \u0432 \u0434\u043e\u043c\u0435"])
def test_letters_of_cyrillic_that_are_meant_are_no_stand_ins(text: str) -> None:
    assert _hits(_caption(text)) == []
