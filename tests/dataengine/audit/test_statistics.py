from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine import conventions
from dataengine import sample as samples
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
from dataengine.audit import drawn, state, statistics
from dataengine.audit.plain import Joined
from dataengine.audit.rule import Facts, Sizes
from dataengine.audit.state import Audit
from dataengine.audit.statistics import (
    BINS,
    COUNTS,
    LENGTHS,
    MOST_LETTERS,
    MOST_NAMES,
    RATIOS,
    REST,
    SCRIPTS,
    SHARES,
    SIDES,
    Bins,
    Collected,
    looked_at,
    merge,
    most,
    sorted_in,
)
from dataengine.sample import (
    KeypointTargets,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
    TextTargets,
)
from dataengine.tokens import IMAGE

ORIGIN = Origin(file="f", record="r")
ALL_BINS = {"lengths": LENGTHS, "counts": COUNTS, "shares": SHARES, "ratios": RATIOS, "sides": SIDES}
INF, NAN = math.inf, math.nan


def _plain_bin(bins: Bins, value: float) -> int:
    return sum(edge <= value for edge in bins.edges)


@pytest.mark.parametrize("bins", ALL_BINS.values(), ids=ALL_BINS)
def test_a_value_on_an_edge_begins_a_bin(bins: Bins) -> None:
    edges = np.array(bins.edges)

    on, below = sorted_in(bins, edges), sorted_in(bins, np.nextafter(edges, -INF))

    assert on.tolist() == [0] + [1] * len(edges)
    assert below.tolist() == [1] * len(edges) + [0]


@pytest.mark.parametrize("bins", ALL_BINS.values(), ids=ALL_BINS)
@given(values=st.lists(st.floats(), max_size=20))
def test_each_number_lies_in_one_bin_and_what_is_none_in_none(bins: Bins, values: list[float]) -> None:
    expected = Counter(_plain_bin(bins, value) for value in values if not math.isnan(value))

    found = sorted_in(bins, np.array(values, float))

    assert found.tolist() == [expected[place] for place in range(len(bins.edges) + 1)]


def test_endless_numbers_lie_in_the_outer_bins() -> None:
    assert sorted_in(SHARES, np.array([-INF, INF, NAN])).tolist() == [1, *[0] * (len(SHARES.edges) - 1), 1]


@pytest.mark.parametrize("bins", ALL_BINS.values(), ids=ALL_BINS)
def test_edges_rise_and_each_bin_has_a_name_of_its_own(bins: Bins) -> None:
    assert all(low < high for low, high in pairwise(bins.edges))
    assert len(set(bins.names())) == len(bins.names()) == len(bins.edges) + 1


def test_names_of_bins_are_in_their_unit_and_whole_numbers_end_with_the_last() -> None:
    whole, shares = Bins((0.0, 1.0, 2.0, 10.0)), Bins((0.02, 0.05, 1.0), whole=False)

    assert whole.names() == ["< 0", "0", "1", "2–9", "≥ 10"]
    assert shares.names() == ["< 0.02", "0.02–0.05", "0.05–1", "≥ 1"]
    assert shares.names(0.01) == ["< 2", "2–5", "5–100", "≥ 100"]


def _annotation(**fields: Any) -> Annotation:
    return Annotation(**{"key": "k", "images": (Image(path="a.jpg"),), "origin": ORIGIN, **fields})


def _described(*items: tuple[Annotation, Sizes], lang: str | None = None) -> Collected:
    audit = Audit("s", lang=lang)
    for item, sizes in items:
        audit.annotation(item, sizes)
    return audit.described


def _bins(name: str, *values: float) -> list[int]:
    found = [0] * (len(BINS[name].edges) + 1)
    for value in values:
        found[_plain_bin(BINS[name], value)] += 1
    return found


def test_what_has_no_side_has_no_shape_and_what_has_no_picture_no_share() -> None:
    boxes: list[Box] = [(0, 0, 50, 20), (0, 0, 0, 20), (9, 9, 3, 12), (0, 0, NAN, 5), (0, 0, INF, 5)]
    objects = tuple(Instance(id=str(number), box=box) for number, box in enumerate(boxes))

    found = _described(
        (_annotation(instances=objects), [(100, 100)]), (_annotation(instances=objects), [None])
    )

    assert found.histograms["box.aspect"] == _bins("box.aspect", 2.5, 2.5)
    assert found.histograms["box.share"] == _bins("box.share", 0.1, 0, 0)
    assert found.histograms["boxes"] == _bins("boxes", 3, 3)
    assert found.histograms["aspect"] == _bins("aspect", 1)


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0), (-5, 10), (-5, -10), (0, 0)])
def test_a_picture_without_an_area_has_a_size_alone(width: int, height: int) -> None:
    item = _annotation(instances=(Instance(id="1", box=(0, 0, 5, 5)),))

    found = _described((item, [(width, height)]))

    row, column = _plain_bin(SIDES, height), _plain_bin(SIDES, width)
    assert found.histograms["size"][row * (len(SIDES.edges) + 1) + column] == 1
    assert sum(found.histograms["size"]) == 1
    assert not {"aspect", "box.share"} & set(found.histograms)


def test_a_size_that_no_float_holds_lies_in_the_last_bin() -> None:
    item = _annotation(instances=(Instance(id="1", box=(0, 0, 5, 5)),))

    found = _described((item, [(10**400, 10)]))

    assert found.histograms["size"][len(SIDES.edges)] == 1
    assert found.histograms["box.share"] == _bins("box.share", 0)


def test_a_box_lies_on_its_own_picture() -> None:
    objects = tuple(Instance(id=str(number), box=(0, 0, 10, 10), image=number) for number in (0, 1, 7))
    item = _annotation(images=(Image(path="a.jpg"), Image(path="b.jpg")), instances=objects)

    found = _described((item, [(100, 100), (20, 20)]))

    assert found.histograms["box.share"] == _bins("box.share", 0.01, 0.25)


def test_the_script_is_that_of_most_letters() -> None:
    texts = {
        "A cat.": "Latin",
        "2 cats": "Latin",
        "café": "Latin",
        "": "none",
        "12:30!": "none",
        "😀 …": "none",
        "Кот": "Cyrillic",
        "Кот и dog, жить": "Cyrillic",
        "猫がいる": "Kana",
        "一只猫 cat": "Latin",
        "一只猫": "Han",
        "𠀀𠀁": "Han",
        "고양이": "Hangul",
        "قطة": "Arabic",
        "बिल्ली": "Devanagari",
        "γάτα": "Greek",
        "aЖ": "Latin",
        "Жa": "Latin",
        "a\0b": "Latin",
        "\0": "none",
        "\ud800Ж": "Cyrillic",
        "1" * MOST_LETTERS + "a": "none",
        "1" * (MOST_LETTERS - 1) + "a": "Latin",
        "é" * MOST_LETTERS + "Ж" * 2 * MOST_LETTERS: "Latin",
    }
    for some in (list(texts), [text for text in texts if "\0" not in text]):
        lengths, found = looked_at(Joined(some))

        assert lengths.tolist() == list(map(len, some))
        expected = Counter(texts[text] for text in some)
        assert {
            name or "none": count for name, count in zip(SCRIPTS, found.tolist(), strict=True) if count
        } == expected
    for text, script in texts.items():
        assert _plain_script(text) == script


# Letters of scripts that the table knows, as Unicode names them.
NAMES = {"LATIN": "Latin", "GREEK": "Greek", "CYRILLIC": "Cyrillic", "HEBREW": "Hebrew", "ARABIC": "Arabic",
         "DEVANAGARI": "Devanagari", "THAI": "Thai", "HANGUL": "Hangul", "HIRAGANA": "Kana", "KATAKANA": "Kana",
         "CJK": "Han", "ARMENIAN": "Armenian", "GEORGIAN": "Georgian", "TAMIL": "Tamil", "ETHIOPIC": "Ethiopic",
         "KHMER": "Khmer"}  # fmt: skip


def test_letters_are_of_the_script_that_unicode_names_them_by() -> None:
    letters = [
        (chr(point), NAMES[name])
        for point in (
            *range(0x2000),
            *range(0x3041, 0x3100),
            *range(0x4E00, 0x9F00, 97),
            *range(0xAC00, 0xD7A4, 97),
        )
        if unicodedata.category(chr(point)) in ("Lu", "Ll", "Lo")
        and (name := unicodedata.name(chr(point), "").partition(" ")[0]) in NAMES
        # Letters of Greek for phonetics, and the supplement of Georgian, stand among others.
        and not 0x1C80 <= point < 0x1E00
    ]
    assert len(letters) > 2000

    wrong = [
        (letter, name, _plain_script(letter)) for letter, name in letters if _plain_script(letter) != name
    ]

    assert wrong == []
    for name in set(NAMES.values()):
        some = [letter for letter, script in letters if script == name]
        assert looked_at(Joined(some))[1][SCRIPTS.index(name)] == len(some)


def test_what_stands_for_a_picture_is_one_character_and_no_letter() -> None:
    texts = [IMAGE, f"{IMAGE}\n猫猫", f"{IMAGE}{IMAGE} Why?", "x", f"{IMAGE}\0", "xé"]
    for some in (texts, [text for text in texts if "\0" not in text]):
        lengths, found = looked_at(Joined(some, IMAGE))

        shown = [text.replace(IMAGE, "*") for text in some]
        assert lengths.tolist() == list(map(len, shown))
        assert Counter(
            {name or "none": count for name, count in zip(SCRIPTS, found.tolist(), strict=True) if count}
        ) == Counter(map(_plain_script, shown))


@given(
    st.lists(
        st.one_of(st.text(max_size=20), st.sampled_from(["", IMAGE, f"x{IMAGE}", "A dog.", "\0"])), max_size=9
    )
)
def test_texts_looked_at_together_are_as_each_by_itself(texts: list[str]) -> None:
    for passed_over in ("", IMAGE):
        shown = [text.replace(passed_over, "*") if passed_over else text for text in texts]

        lengths, found = looked_at(Joined(texts, passed_over))

        assert lengths.tolist() == list(map(len, shown))
        expected = Counter(map(_plain_script, shown))
        assert found.tolist() == [expected[name or "none"] for name in SCRIPTS]


def test_names_beyond_the_most_are_counted_as_the_rest() -> None:
    few = {f"name {number:05}": number + 1 for number in range(MOST_NAMES)}
    many = {f"name {number:05}": number + 1 for number in range(3 * MOST_NAMES)}

    assert most(few) == few
    found = most(many)

    assert len(found) == MOST_NAMES + 1
    assert list(found)[-1] == REST
    assert sum(found.values()) == sum(many.values())
    assert all(many[name] == count for name, count in found.items() if name != REST)


@settings(deadline=None, max_examples=40)
@given(chance=st.randoms(use_true_random=False), num_parts=st.integers(1, 6))
def test_names_are_the_same_in_whatever_parts_they_are_counted(chance: Any, num_parts: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "MOST_NAMES", 5)
        names = [chance.choice("abcdefghijklmnop") for _ in range(60)] + [REST]
        expected = most(Counter(names))
        chance.shuffle(names)
        parts = [
            Collected(counts={"lang": most(Counter(names[start::num_parts]))}) for start in range(num_parts)
        ]
        gathered: Counter[str] = Counter()
        for name in names:
            statistics._count(gathered, [name])

        assert merge(parts).counts["lang"] == expected
        assert most(gathered) == expected
        assert len(expected) <= 6


def test_merged_statistics_are_in_the_order_of_their_names() -> None:
    one = Collected(histograms={"b": [1, 2], "a": [3]}, counts={"x": {"q": 1, "p": 2}})
    other = Collected(histograms={"c": [5], "b": [10, 20]}, counts={"w": {REST: 1}, "x": {"p": 5}})

    found = merge([one, other])

    assert found == Collected(
        histograms={"a": [3], "b": [11, 22], "c": [5]}, counts={"w": {REST: 1}, "x": {"p": 7, "q": 1}}
    )
    assert [list(found.histograms), list(found.counts), list(found.counts["x"])] == [
        ["a", "b", "c"],
        ["w", "x"],
        ["p", "q"],
    ]
    assert merge([]) == Collected()


KEYPOINTS = ((1.0, 2.0, 0), (9.0, 2.0, 2), (3.0, 3.0, 1))


def _sample(number: int = 0) -> Sample:
    target = TargetInstance(label="dog", box=(0, 0, 30, 20), area=600.0, keypoints=KEYPOINTS)
    return Sample(
        id=f"d/train/{number}#pose",
        task="pose",
        dataset="d",
        split="train",
        images=(SampleImage(path="a.jpg", width=640, height=480, format="jpeg"),),
        conversation=(Turn("user", f"{IMAGE}\nWhere?"), Turn("assistant", "там")),
        targets=KeypointTargets(names=("a", "b", "c"), instances=(target,)),
        origin=SampleOrigin(dataset="d", file="f", record="r", spec="s", spec_hash="h", reader="x"),
        license=SampleLicense(annotations="CC0-1.0", images="CC0-1.0"),
    )


def _source() -> Annotation:
    item = Instance(id="1", category="dog", box=(0, 0, 30, 20), keypoints=KEYPOINTS)
    return _annotation(instances=(item,), captions=(Caption(id="1", text="A dog."),))


@pytest.mark.parametrize("samples_first", [False, True])
def test_what_an_annotation_and_its_sample_show_counts_once(samples_first: bool) -> None:
    audit = Audit("s")
    for is_sample in (samples_first, not samples_first):
        if is_sample:
            audit.sample(samples.encode(_sample()))
        else:
            audit.annotation(_source(), [(640, 480)])

    found, alone = audit.described, _described((_source(), [(640, 480)]))

    assert {name: found.histograms[name] for name in alone.histograms} == alone.histograms
    assert set(found.histograms) - set(alone.histograms) == {
        "text/user of a sample",
        "text/assistant of a sample",
    }
    assert found.counts == {**alone.counts, "task": {"d/pose": 1}}
    assert sum(found.histograms["box.share"]) == 1
    assert found.counts["script"] == {"Latin": 1}


def test_samples_alone_show_what_annotations_would() -> None:
    audit = Audit("s")
    audit.sample(samples.encode(_sample()))
    audit.sample(samples.encode(_changed(_sample(1), targets=TextTargets(answers=("там",)))))

    found = audit.described

    assert found.histograms["boxes"] == _bins("boxes", 1, 0)
    assert found.histograms["box.share"] == _bins("box.share", 600 / (640 * 480))
    assert found.histograms["box.aspect"] == _bins("box.aspect", 1.5)
    assert found.histograms["keypoints"] == _bins("keypoints", 2)
    assert found.counts["visibility"] == {"not labelled": 1, "hidden": 1, "visible": 1}
    assert found.counts["task"] == {"d/pose": 2}
    assert found.counts["script"] == {"Latin": 2, "Cyrillic": 2}
    assert found.histograms["text/user of a sample"][_plain_bin(LENGTHS, len("*\nWhere?"))] == 2


def _changed(one: Sample, **fields: Any) -> Sample:
    return Sample(**{name: fields.get(name, getattr(one, name)) for name in Sample.__struct_fields__})


def test_languages_are_those_that_texts_or_else_their_split_state() -> None:
    stated = _annotation(
        captions=(
            Caption(id="1", text="Un chat.", lang="fr"),
            Caption(id="2", text="A cat."),
            Caption(id="3", text="A", lang=""),
        ),
        questions=(Question(id="1", text="Which?", answers=("yes", "no"), choices=("a",)),),
    )

    assert _described((stated, [None])).counts["lang"] == {"fr": 1, "not stated": 6}
    assert _described((stated, [None]), lang="en").counts["lang"] == {"en": 6, "fr": 1}


# What a plain loop counts, to hold the arrays to.
def _plain_script(text: str) -> str:
    starts = [start for start, _ in statistics._BLOCKS]
    letters: Counter[str] = Counter()
    for char in text[:MOST_LETTERS]:
        letters[statistics._BLOCKS[sum(start <= ord(char) for start in starts) - 1][1]] += 1
    del letters[""]
    return max(letters, key=lambda name: (letters[name], -SCRIPTS.index(name))) if letters else "none"


def _plain_texts(item: Annotation) -> Iterator[tuple[str, str, str | None]]:
    yield from (("caption", one.text, one.lang) for one in item.captions)
    yield from (("expression", one.text, None) for one in item.expressions)
    for question in item.questions:
        yield "question", question.text, None
        yield from (("answer", text, None) for text in question.answers)
        yield from (("choice", text, None) for text in question.choices)
    yield from (("edit", one.instruction, None) for one in item.edits)
    yield from (("word", one.text, None) for one in item.instances if one.text is not None)
    for dialog in item.dialogs:
        yield from (("turn", turn.text.replace(IMAGE, "*"), None) for turn in dialog.turns)


def _plain_numbers(item: Annotation, sizes: Sizes) -> Iterator[tuple[str, float]]:
    finite = [one for one in item.instances if one.box is not None and all(map(math.isfinite, one.box))]
    yield "boxes", len(finite)
    for width, height in filter(None, sizes):
        if width > 0 and height > 0:
            yield "aspect", width / height
    for one in finite:
        x0, y0, x1, y1 = one.box or (0, 0, 0, 0)
        wide, high = max(x1 - x0, 0), max(y1 - y0, 0)
        if wide > 0 and high > 0:
            yield "box.aspect", wide / high
        shown = sizes[one.image] if 0 <= one.image < len(sizes) else None
        if shown is not None and min(shown) > 0:
            yield "box.share", wide * high / (float(shown[0]) * shown[1])
    for one in item.instances:
        if one.polygons:
            yield "polygons", len(one.polygons)
            yield from (("polygon.points", len(polygon) // 2) for polygon in one.polygons)
        if one.keypoints is not None:
            yield "keypoints", sum(v > 0 for _, _, v in one.keypoints)


def _plainly(items: Sequence[tuple[Annotation, Sizes]], lang: str | None) -> Collected:
    places: dict[str, Counter[int]] = {}
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("lang", "script", "task", "visibility")}
    bins: dict[str, Bins] = dict(BINS)
    for item, sizes in items:
        for name, value in _plain_numbers(item, sizes):
            if not math.isnan(value):
                places.setdefault(name, Counter())[_plain_bin(BINS[name], value)] += 1
        for width, height in filter(None, sizes):
            place = _plain_bin(SIDES, height) * (len(SIDES.edges) + 1) + _plain_bin(SIDES, width)
            places.setdefault("size", Counter())[place] += 1
        for kind, text, stated in _plain_texts(item):
            bins[f"text/{kind}"] = LENGTHS
            places.setdefault(f"text/{kind}", Counter())[_plain_bin(LENGTHS, len(text))] += 1
            counts["lang"][stated or lang or "not stated"] += 1
            counts["script"][_plain_script(text)] += 1
        visible = [v for one in item.instances for _, _, v in one.keypoints or ()]
        names = ("not labelled", "hidden", "visible")
        counts["visibility"].update([names[v] if v in (0, 1, 2) else "none of 0, 1, 2" for v in visible])
    sides = len(SIDES.edges) + 1
    return Collected(
        histograms={
            name: [found[place] for place in range(sides**2 if name == "size" else len(bins[name].edges) + 1)]
            for name, found in places.items()
        },
        counts={name: dict(named) for name, named in counts.items()},
    )


TEXTS = st.one_of(
    st.sampled_from(
        ["", "A cat.", "猫", "кот 12", "x", IMAGE, f"{IMAGE} a", "a\0b", "é" * 300, "7", "a " * 70]
    ),
    st.text(max_size=8),
)
NUMBERS = st.one_of(
    st.integers(-5, 99).map(float), st.sampled_from([0.0, 32.0, INF, NAN, 1e308, -1e308, 0.1])
)


def _some(one: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(one, max_size=most).map(tuple)


ID = st.just("1")
INSTANCES = st.builds(
    Instance,
    id=st.sampled_from("12"),
    box=st.one_of(st.none(), st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS)),
    polygons=_some(_some(st.integers(0, 30).map(float), 9)),
    keypoints=st.one_of(st.none(), _some(st.tuples(NUMBERS, NUMBERS, st.sampled_from([0, 1, 2, 3, -1])), 3)),
    text=st.one_of(st.none(), TEXTS),
    image=st.sampled_from([0, 0, 0, 1, -1, 3]),
    crowd=st.booleans(),
)
TURNS = st.builds(Turn, st.sampled_from(["user", "assistant"]), TEXTS)
EDITS = st.builds(Edit, id=ID, instruction=TEXTS, before=st.just(0), after=st.just(0))
RECORDS = st.builds(
    Annotation,
    key=st.sampled_from("abcd"),
    images=st.just(()),
    origin=st.just(ORIGIN),
    instances=_some(INSTANCES, 3),
    captions=_some(
        st.builds(Caption, id=ID, text=TEXTS, lang=st.sampled_from([None, "", "en", "zh"])),
    ),
    expressions=_some(st.builds(Expression, id=ID, text=TEXTS, instances=st.just(())), 1),
    questions=_some(
        st.builds(Question, id=ID, text=TEXTS, answers=_some(TEXTS), choices=_some(TEXTS)),
    ),
    dialogs=_some(st.builds(Dialog, id=ID, turns=_some(TURNS, 3)), 1),
    edits=_some(EDITS, 1),
)
SIZES = st.lists(
    st.one_of(st.none(), st.tuples(st.sampled_from([0, -3, 16, 640, 10**9]), st.integers(0, 70))), max_size=2
)


def _pictured(pair: tuple[Annotation, Sizes]) -> tuple[Annotation, Sizes]:
    item, sizes = pair
    images = tuple(Image(path=f"{number}.jpg") for number in range(len(sizes)))
    fields = {name: getattr(item, name) for name in Annotation.__struct_fields__}
    return Annotation(**{**fields, "images": images}), sizes


@settings(deadline=None, max_examples=80)
@given(
    items=st.lists(st.tuples(RECORDS, SIZES).map(_pictured), max_size=6),
    lang=st.sampled_from([None, "en", "zh"]),
    at_once=st.integers(1, 5),
    parts=st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_any_split_of_the_records_shows_what_a_plain_loop_counts(
    items: list[tuple[Annotation, Sizes]], lang: str | None, at_once: int, parts: list[int]
) -> None:
    expected = _plainly(items, lang)
    assert _plainly(items, lang) == expected
    with pytest.MonkeyPatch.context() as patch:
        whole = _described(*items, lang=lang)
        patch.setattr(state, "AT_ONCE", 10 * at_once)
        patch.setattr(drawn, "POINTS_AT_ONCE", at_once)
        patch.setattr(conventions, "_BLOCK", at_once)
        patch.setattr(statistics, "NUMBERS_AT_ONCE", at_once)
        patch.setattr(statistics, "LENGTHS_AT_ONCE", at_once)
        patch.setattr(statistics, "TABLES_AT_ONCE", at_once)
        little_by_little = _described(*items, lang=lang)
        split = [
            [one for one, part in zip(items, parts, strict=False) if part == number] for number in range(3)
        ]
        merged = merge(_described(*some, lang=lang) for some in reversed(split))

    assert whole == expected
    assert little_by_little == expected
    assert merged == expected


@settings(deadline=None, max_examples=30)
@given(numbers=st.permutations(range(7)), at_once=st.integers(1, 4), cut=st.integers(0, 7))
def test_any_split_of_the_samples_shows_the_same(numbers: list[int], at_once: int, cut: int) -> None:
    some = [
        _changed(
            _sample(number),
            dataset=f"d{number % 3}",
            conversation=(Turn("user", "a" * number), Turn("assistant", "кот" * number)),
            images=(SampleImage(path="a.jpg", width=10 * number, height=48, format="jpeg"),) * (number % 2),
        )
        for number in range(7)
    ]

    def described(which: Sequence[int]) -> Collected:
        audit = Audit("s")
        for number in which:
            audit.sample(samples.encode(some[number]))
        return audit.described

    whole = described(range(7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "NUMBERS_AT_ONCE", at_once)
        patch.setattr(statistics, "TURNS_AT_ONCE", at_once)
        patch.setattr(statistics, "LENGTHS_AT_ONCE", at_once)

        assert described(numbers) == whole
        assert merge([described(numbers[:cut]), described(numbers[cut:])]) == whole


def test_boxes_of_crowds_are_boxes_too() -> None:
    crowd = Instance(id="1", box=(0, 0, 10, 10), crowd=True)

    found = _described((_annotation(instances=(crowd,)), [(100, 100)]))

    assert found.histograms["box.share"] == _bins("box.share", 0.01)
    assert len(Facts(_annotation(instances=(crowd,)), [(100, 100)]).boxes) == 1
