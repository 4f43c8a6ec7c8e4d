"""What a writer writes, the reader that it names gives back."""

from __future__ import annotations

import runpy
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import webdataset
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
    Label,
    LabelSpace,
    Origin,
    Question,
    Turn,
)
from dataengine.files import Root
from dataengine.geometry import rle_of_box
from dataengine.modules import WRITERS_PACKAGE, load_reader, load_writer, names, source_labels

CAT = Label(
    name="cat",
    keypoints=("left ear", "right ear", "nose"),
    skeleton=((0, 2), (1, 2)),
    flip_pairs=((0, 1),),
)
LABELS = LabelSpace(id="source", labels=(CAT, Label(name="dog"), Label(name="potted plant")))
WIDTH, HEIGHT = 64, 48
TEXT = st.text(
    st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20
).filter(lambda text: text == " ".join(text.split()) and "<" not in text)
ANY_TEXT = st.text(max_size=20)


@st.composite
def box(draw: st.DrawFn) -> tuple[float, float, float, float]:
    # Steps of 1/64 pixel: their sums and differences are exact.
    x0, y0 = draw(st.integers(0, 64 * (WIDTH - 2))), draw(st.integers(0, 64 * (HEIGHT - 2)))
    x1, y1 = draw(st.integers(x0 + 64, 64 * WIDTH)), draw(st.integers(y0 + 64, 64 * HEIGHT))
    return (x0 / 64, y0 / 64, x1 / 64, y1 / 64)


def image(number: int) -> Image:
    return Image(path=f"images/{number}.jpg", width=WIDTH, height=HEIGHT)


def annotation(number: int, **facts: Any) -> Annotation:
    return Annotation(
        **{"key": str(number), "images": (image(number),), "origin": Origin(file="x", record=""), **facts}
    )


@st.composite
def boxed(draw: st.DrawFn, *, masks: bool, difficult: bool, partial: bool = True) -> list[Annotation]:
    made = []
    exhaustive = not (partial and draw(st.booleans()))
    for number in range(draw(st.integers(1, 4))):
        instances: list[Instance] = []
        for _ in range(draw(st.integers(0, 4))):
            where = draw(box())
            mask = rle_of_box(where, WIDTH, HEIGHT) if masks and draw(st.booleans()) else None
            flag = draw(st.booleans())
            instances.append(
                Instance(
                    id=str(len(instances)),
                    category=draw(st.sampled_from(LABELS.names)),
                    box=where,
                    mask=mask,
                    difficult=flag and difficult,
                    ignore=flag and not difficult,
                )
            )
        made.append(annotation(number, instances=tuple(instances), exhaustive=exhaustive))
    return made


@st.composite
def posed(draw: st.DrawFn) -> list[Annotation]:
    def with_keypoints(one: Instance) -> Instance:
        count = 3 if one.category == "cat" else draw(st.integers(1, 4))
        points = tuple(
            (draw(st.integers(0, 64 * WIDTH)) / 64, draw(st.integers(0, 64 * HEIGHT)) / 64, v)
            for v in draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
        )
        stated = {"num_keypoints": str(sum(v > 0 for _, _, v in points))}
        if not draw(st.booleans()):
            return msgspec.structs.replace(one, attributes={"num_keypoints": "0"})
        return msgspec.structs.replace(one, keypoints=points, attributes=stated)

    return [
        msgspec.structs.replace(item, instances=tuple(map(with_keypoints, item.instances)))
        for item in draw(boxed(masks=True, difficult=False))
    ]


@st.composite
def referred(draw: st.DrawFn) -> list[Annotation]:
    made = []
    for item in draw(boxed(masks=True, difficult=False, partial=False)):
        instances = tuple(
            msgspec.structs.replace(one, category=one.category if draw(st.booleans()) else None)
            for one in item.instances
        )
        groups = draw(st.lists(st.sets(st.sampled_from(range(len(instances))))) if instances else st.just([]))
        # Every object is named, some twice or in company, and some expressions name none.
        named = [*(tuple(sorted(group)) for group in groups), tuple(range(len(instances)))]
        expressions = tuple(Expression(id="", text=draw(TEXT), instances=group) for group in named)
        made.append(
            msgspec.structs.replace(item, instances=instances, expressions=expressions, exhaustive=False)
        )
    return made


@st.composite
def asked(draw: st.DrawFn) -> list[Annotation]:
    some = st.lists(TEXT, unique=True, max_size=12).map(tuple)
    return [
        annotation(
            number,
            questions=tuple(
                Question(id="", text=draw(TEXT), answers=draw(some)) for _ in range(draw(st.integers(1, 3)))
            ),
        )
        for number in range(draw(st.integers(1, 4)))
    ]


@st.composite
def edited(draw: st.DrawFn) -> list[Annotation]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        edits = tuple(
            Edit(id="", instruction=draw(TEXT), before=0, after=1) for _ in range(draw(st.integers(1, 2)))
        )
        caption = (Caption(id="0", text=draw(TEXT)),) if len(edits) == 1 and draw(st.booleans()) else ()
        images = (image(2 * number), msgspec.structs.replace(image(2 * number + 1), role="target"))
        made.append(annotation(number, images=images, edits=edits, captions=caption))
    return made


@st.composite
def imagined(draw: st.DrawFn) -> list[Annotation]:
    return [
        annotation(
            number,
            images=(msgspec.structs.replace(image(number), role="target"),),
            captions=tuple(Caption(id="", text=draw(TEXT)) for _ in range(draw(st.integers(1, 3)))),
        )
        for number in range(draw(st.integers(1, 4)))
    ]


@st.composite
def tabled(draw: st.DrawFn) -> list[Annotation]:
    """Everything but masks, keypoints, attributes and relations."""
    made = []
    for item in draw(boxed(masks=False, difficult=True)):
        instances = tuple(
            msgspec.structs.replace(
                one,
                category=draw(st.sampled_from([one.category, None])),
                box=draw(st.sampled_from([one.box, None])),
                text=draw(ANY_TEXT | st.none()),
                crowd=draw(st.booleans()),
                ignore=draw(st.booleans()),
            )
            for one in item.instances
        )
        positions = st.lists(st.sampled_from(range(len(instances)))) if instances else st.just([])
        choices = tuple(draw(st.lists(ANY_TEXT, max_size=3)))
        index = draw(st.sampled_from([None, *range(len(choices))]))
        lang = draw(st.sampled_from([None, "en", "it's"]))
        made.append(
            msgspec.structs.replace(
                item,
                images=(
                    *item.images,
                    Image(path=f"images/{item.key}{{0}}.jpg", role="target", license="CC0-1.0"),
                ),
                instances=instances,
                captions=tuple(Caption(id="", text=text, lang=lang) for text in draw(st.lists(ANY_TEXT))),
                expressions=tuple(
                    Expression(id=str(number), text=draw(ANY_TEXT), instances=tuple(draw(positions)))
                    for number in range(draw(st.integers(0, 2)))
                ),
                questions=(
                    Question(
                        id="",
                        text=draw(ANY_TEXT),
                        answers=(draw(ANY_TEXT),),
                        choices=choices,
                        answer_index=index,
                        rationale=draw(ANY_TEXT | st.none()),
                    ),
                ),
                dialogs=(Dialog(id="", turns=(Turn("user", draw(ANY_TEXT)), Turn("assistant", ""))),),
                edits=(Edit(id="", instruction=draw(ANY_TEXT), before=draw(st.integers(0, 1)), after=1),),
                labels=tuple(draw(st.lists(st.sampled_from(LABELS.names)))),
                negatives=tuple(draw(st.lists(ANY_TEXT))),
            )
        )
    return made


@st.composite
def captioned(draw: st.DrawFn) -> list[Annotation]:
    return [
        annotation(
            number,
            captions=tuple(Caption(id=str(i), text=draw(TEXT)) for i in range(draw(st.integers(1, 3)))),
        )
        for number in range(draw(st.integers(1, 4)))
    ]


@st.composite
def spoken(draw: st.DrawFn) -> list[Annotation]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        turns = [Turn("user", "<image>\n" + draw(TEXT)), Turn("assistant", draw(TEXT))]
        for _ in range(draw(st.integers(0, 2))):
            turns += [Turn("user", draw(TEXT)), Turn("assistant", draw(TEXT))]
        made.append(annotation(number, dialogs=(Dialog(id="0", turns=tuple(turns)),)))
    return made


# What each layout can hold.
FACTS: dict[str, st.SearchStrategy[list[Annotation]]] = {
    "coco_instances": boxed(masks=True, difficult=False),
    "coco_captions": captioned(),
    "coco_keypoints": posed(),
    "image_prompt_jsonl": imagined(),
    "ip2p_folders": edited(),
    "llava_json": spoken(),
    "records_csv": tabled(),
    "records_jsonl": tabled(),
    "records_parquet": tabled(),
    "refcoco": referred(),
    "voc_xml": boxed(masks=False, difficult=True, partial=False),
    "vqa_v2": asked(),
}


def as_it_is(item: Annotation) -> list[Annotation]:
    return [item]


def each(kind: str) -> Callable[[Annotation], list[Annotation]]:
    """Return what makes an annotation of each fact of a kind: the layout has a record for each."""

    def split(item: Annotation) -> list[Annotation]:
        return [msgspec.structs.replace(item, **{kind: (one,)}) for one in getattr(item, kind)]

    return split


def by_objects(item: Annotation) -> list[Annotation]:
    """Return an annotation for all expressions of the same objects, with these objects alone."""
    groups: dict[tuple[int, ...], list[Expression]] = {}
    for one in item.expressions:
        groups.setdefault(one.instances, []).append(one)
    return [
        msgspec.structs.replace(
            item,
            instances=tuple(item.instances[place] for place in places),
            expressions=tuple(
                msgspec.structs.replace(one, instances=tuple(range(len(places)))) for one in said
            ),
        )
        for places, said in groups.items()
    ]


# Layouts whose records hold less than an annotation.
RECORDS: dict[str, Callable[[Annotation], list[Annotation]]] = {
    "image_prompt_jsonl": each("captions"),
    "ip2p_folders": each("edits"),
    "refcoco": by_objects,
    "vqa_v2": each("questions"),
}

# Layouts that do not state the size of a picture, that put pictures elsewhere, and that no reader reads.
SIZELESS = {"llava_json", "image_prompt_jsonl", "ip2p_folders", "vqa_v2"}
MOVED = {"ip2p_folders"}
READERLESS = {"webdataset"}


def plain(item: Annotation, *, sized: bool = True) -> Annotation:
    """Return an annotation without what its file decides: names of records and places, and what no fact needs."""

    def renamed(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(msgspec.structs.replace(one, id=str(number)) for number, one in enumerate(items))

    return msgspec.structs.replace(
        item,
        key="",
        images=tuple(
            msgspec.structs.replace(
                image, width=image.width if sized else None, height=image.height if sized else None
            )
            for image in item.images
        ),
        exhaustive=item.exhaustive if item.instances else True,
        origin=Origin(file="", record=""),
        instances=renamed(item.instances),
        captions=renamed(item.captions),
        expressions=renamed(item.expressions),
        # How many people gave an answer is no fact that a sample keeps.
        questions=renamed(
            tuple(msgspec.structs.replace(one, votes=(), stated=None) for one in item.questions)
        ),
        dialogs=renamed(item.dialogs),
        edits=renamed(item.edits),
    )


def pictures(facts: list[Annotation], folder: Path) -> None:
    """Write a file for each picture, which holds its own path."""
    for path in {image.path for item in facts for image in item.images}:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def back_in_place(item: Annotation, folder: Path) -> Annotation:
    """Return an annotation with each picture's path as its file says it."""
    images = (msgspec.structs.replace(image, path=(folder / image.path).read_text()) for image in item.images)
    return msgspec.structs.replace(item, images=tuple(images))


def test_every_writer_is_tried() -> None:
    boxes = runpy.run_path(str(Path(__file__).with_name("test_box_writers.py")))["FACTS"]
    assert set(names(WRITERS_PACKAGE)) == set(FACTS) | READERLESS | set(boxes)


@pytest.mark.parametrize("name", sorted(FACTS))
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_reader_gives_back_what_the_writer_wrote(name: str, data: st.DataObject) -> None:
    facts = data.draw(FACTS[name])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if name in MOVED:
            pictures(facts, folder)

        written = load_writer(name, "test").write(facts, LABELS, folder)

        reader = load_reader(written.format or name, "test")
        source = msgspec.convert(written.source, reader.Source)
        read = list(reader.read(source, Root(folder)))
        found = [item for item in read if isinstance(item, Annotation)]
        if name in MOVED:
            found = [back_in_place(item, folder) for item in found]
    assert written.left_out == {}
    sized = name not in SIZELESS
    wanted = [one for item in facts for one in RECORDS.get(name, as_it_is)(item)]
    assert [plain(item) for item in found] == [plain(item, sized=sized) for item in wanted]
    assert len(found) == len(read)


@pytest.mark.parametrize("name", ["coco_keypoints", "records_csv", "records_jsonl", "records_parquet"])
def test_a_reader_gives_back_the_label_space(name: str, tmp_path: Path) -> None:
    written = load_writer(name, "test").write([], LABELS, tmp_path)

    reader = load_reader(written.format or name, "test")
    found = source_labels(reader, msgspec.convert(written.source, reader.Source), Root(tmp_path))
    assert found is not None
    assert found.names == LABELS.names
    assert name != "coco_keypoints" or found.labels[0] == CAT


def test_a_ref_names_its_objects_as_the_tools_expect_it(tmp_path: Path) -> None:
    instances = tuple(Instance(id=str(number), box=(1.0, 2.0, 3.0, 4.0)) for number in range(2))
    item = annotation(
        0,
        instances=instances,
        expressions=(
            Expression(id="", text="the Left one", instances=(0,)),
            Expression(id="", text="both", instances=(0, 1)),
            Expression(id="", text="the dog", instances=()),
            Expression(id="", text="one", instances=(0,)),
        ),
        exhaustive=False,
    )

    load_writer("refcoco", "test").write([item], LABELS, tmp_path)

    refs = msgspec.json.decode((tmp_path / "refs.json").read_bytes())
    assert [(ref["ann_id"], ref["sent_ids"]) for ref in refs] == [(1, [0, 1]), ([1, 2], [2]), ([-1], [3])]
    assert refs[0]["sentences"][0] == {
        "sent_id": 0,
        "sent": "the Left one",
        "raw": "the Left one",
        "tokens": ["the", "left", "one"],
    }


def test_the_ten_answers_keep_their_order_and_count_for_the_official_score(tmp_path: Path) -> None:
    accepted = ("blue", "navy", "dark blue")
    item = annotation(0, questions=(Question(id="0", text="what colour?", answers=accepted),))

    load_writer("vqa_v2", "test").write([item], LABELS, tmp_path)

    (record,) = msgspec.json.decode((tmp_path / "annotations.json").read_bytes())["annotations"]
    given = [one["answer"] for one in record["answers"]]
    assert Counter(given).most_common() == [("blue", 4), ("navy", 3), ("dark blue", 3)]
    # VQA's evaluation: an answer is right as far as three of the nine others say it, over all choices of nine.
    for answer in accepted:
        others = [given[:place] + given[place + 1 :] for place in range(10)]
        assert sum(min(1, nine.count(answer) / 3) for nine in others) / 10 >= 0.9


def test_answers_of_people_are_written_as_often_as_they_were_given(tmp_path: Path) -> None:
    question = Question(id="0", text="what colour?", answers=("blue", "navy"), votes=(7, 3))

    load_writer("vqa_v2", "test").write([annotation(0, questions=(question,))], LABELS, tmp_path)

    (record,) = msgspec.json.decode((tmp_path / "annotations.json").read_bytes())["annotations"]
    assert [one["answer"] for one in record["answers"]] == ["blue"] * 7 + ["navy"] * 3


@given(facts=tabled())
@settings(deadline=None, max_examples=20)
def test_a_webdataset_tar_holds_every_fact_and_every_picture(facts: list[Annotation]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pictures(facts, Path(scratch))

        written = load_writer("webdataset", "test").write(facts, LABELS, Path(scratch))

        with tarfile.open(Path(scratch) / "annotations.tar") as file:
            members = {one.name: opened.read() for one in file if (opened := file.extractfile(one))}
    assert written == (None, {}, None)
    assert [
        msgspec.json.decode(members.pop(f"{number:09d}.json"), type=Annotation)
        for number in range(len(facts))
    ] == facts
    assert members == {
        f"{number:09d}{f'.{place}' if place else ''}.jpg": image.path.encode()
        for number, item in enumerate(facts)
        for place, image in enumerate(item.images)
    }


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_webdataset_tar_opens_in_webdataset(tmp_path: Path) -> None:
    items = [annotation(number, captions=(Caption(id="0", text=f"number {number}"),)) for number in range(3)]
    pictures(items, tmp_path)
    load_writer("webdataset", "test").write(items, LABELS, tmp_path)

    found = list(webdataset.WebDataset(str(tmp_path / "annotations.tar"), shardshuffle=False))

    assert [(one["__key__"], one["jpg"]) for one in found] == [
        (f"{number:09d}", f"images/{number}.jpg".encode()) for number in range(3)
    ]


MASK = rle_of_box((2.0, 2.0, 5.0, 7.0), WIDTH, HEIGHT)
ALL_KINDS = annotation(
    0,
    instances=(
        Instance(id="0", category="cat", box=(1.0, 2.0, 3.0, 4.0), mask=MASK),
        Instance(id="1", box=(1.0, 2.0, 3.0, 4.0)),
        Instance(id="2", category="dog"),
    ),
    captions=(Caption(id="0", text="a cat"),),
    dialogs=(Dialog(id="0", turns=(Turn("user", "<image>\nwhat is <region>?"), Turn("assistant", "a cat"))),),
    negatives=("potted plant",),
)

SAID = annotation(
    0,
    instances=(
        Instance(
            id="0", category="cat", box=(1.0, 2.0, 3.0, 4.0), keypoints=((1.0, 2.0, 2),) * 4, text="cat"
        ),
        Instance(id="1", attributes={"colour": "red"}),
    ),
    expressions=(
        Expression(id="0", text="the cat", instances=(0,), spans=((0, 3),), answer="yes"),
        Expression(id="1", text="the other", instances=(0, 1)),
        Expression(id="2", text=" ", instances=()),
    ),
    questions=(
        Question(id="0", text="what?", choices=("a", "b"), answer_index=1, rationale="so", instances=(0,)),
        Question(id="1", text=""),
    ),
    labels=("dog",),
    relations=((0, "on", 1),),
    maps={"depth": "d.png"},
)
MADE = annotation(
    0,
    images=(image(0), image(1), image(2)),
    captions=(Caption(id="0", text="after"), Caption(id="1", text="too")),
    edits=(
        Edit(id="0", instruction="make it red", before=0, after=1),
        Edit(id="1", instruction="", before=0, after=1),
    ),
)
TWICE = annotation(
    0,
    images=(image(0), image(1)),
    captions=(Caption(id="0", text="after one of them"),),
    edits=(
        Edit(id="0", instruction="warmer", before=0, after=1),
        Edit(id="1", instruction="colder", before=1, after=0),
    ),
)
PROMPTS = annotation(
    0, captions=(Caption(id="0", text="a"), Caption(id="1", text="b", lang="de"), Caption(id="2", text=" "))
)
SAID_ELSEWHERE = {"relation": 1, "map": 1}


@pytest.mark.parametrize(
    ("name", "item", "left_out"),
    [
        (
            "coco_instances",
            ALL_KINDS,
            {"caption": 1, "dialog": 1, "negative": 1, "instance without category or place": 2},
        ),
        ("coco_captions", ALL_KINDS, {"instance": 3, "dialog": 1, "negative": 1}),
        (
            "voc_xml",
            ALL_KINDS,
            {
                "caption": 1,
                "dialog": 1,
                "negative": 1,
                "mask": 1,
                "instance without category or box, or crowd": 2,
            },
        ),
        ("llava_json", ALL_KINDS, {"instance": 3, "caption": 1, "negative": 1, "dialog about regions": 1}),
        (
            "coco_keypoints",
            SAID,
            {
                **SAID_ELSEWHERE,
                "expression": 3,
                "question": 2,
                "label": 1,
                "keypoints, not as many as are named": 1,
                "text": 1,
                "instance without category or place": 1,
            },
        ),
        (
            "refcoco",
            SAID,
            {
                **SAID_ELSEWHERE,
                "question": 2,
                "label": 1,
                "exhaustive": 1,
                "expression of an object without a place": 1,
                "expression without text": 1,
                "instance that no expression names": 1,
                "spans of an expression": 1,
                "answer of an expression": 1,
                "keypoints": 1,
                "text": 1,
            },
        ),
        ("refcoco", MADE, {"caption": 2, "edit": 2}),
        (
            "vqa_v2",
            SAID,
            {
                **SAID_ELSEWHERE,
                "instance": 2,
                "expression": 3,
                "label": 1,
                "question without text or of several pictures": 1,
                "choices of a question": 1,
                "rationale of a question": 1,
                "regions of a question": 1,
            },
        ),
        ("ip2p_folders", MADE, {"caption": 1, "edit without instruction": 1, "picture without edit": 1}),
        ("ip2p_folders", TWICE, {"caption": 1}),
        ("image_prompt_jsonl", MADE, {"edit": 2, "caption without text or of several pictures": 2}),
        (
            "image_prompt_jsonl",
            PROMPTS,
            {
                "picture to look at, not to make": 2,
                "language of a caption": 1,
                "caption without text or of several pictures": 1,
            },
        ),
        *(
            (
                name,
                SAID,
                {
                    **SAID_ELSEWHERE,
                    "spans of an expression": 1,
                    "answer of an expression": 1,
                    "regions of a question": 1,
                    "keypoints": 1,
                    "attributes": 1,
                },
            )
            for name in ("records_csv", "records_jsonl", "records_parquet")
        ),
        ("webdataset", SAID, {"map": 1}),
    ],
)
def test_what_a_layout_has_no_place_for_is_counted(
    name: str, item: Annotation, left_out: dict[str, int], tmp_path: Path
) -> None:
    pictures([item], tmp_path)

    assert load_writer(name, "test").write([item], LABELS, tmp_path).left_out == left_out


@pytest.mark.parametrize("name", ["coco_instances", "coco_keypoints", "records_jsonl"])
def test_if_some_pictures_are_annotated_in_part_the_file_says_so_of_all(name: str, tmp_path: Path) -> None:
    items = [annotation(number, exhaustive=bool(number)) for number in range(3)]

    written = load_writer(name, "test").write(items, LABELS, tmp_path)

    reader = load_reader(written.format or name, "test")
    found = list(reader.read(msgspec.convert(written.source, reader.Source), Root(tmp_path)))
    assert written.left_out == {"exhaustive": 2}
    assert [item.exhaustive for item in found if isinstance(item, Annotation)] == [False] * 3


def test_rows_that_name_two_objects_alike_still_point_to_the_right_one(tmp_path: Path) -> None:
    instances = tuple(Instance(id="same", category=name) for name in ("cat", "dog"))
    items = [
        annotation(0, instances=instances, expressions=(Expression(id="0", text="it", instances=(1,)),)),
        # A picture to make stands before the one to look at.
        annotation(
            0,
            images=(msgspec.structs.replace(image(1), role="target"), image(2)),
            instances=(Instance(id="0", image=1), Instance(id="1", image=0)),
            edits=(Edit(id="0", instruction="do", before=1, after=0),),
        ),
    ]

    written = load_writer("records_jsonl", "test").write(items, LABELS, tmp_path)

    reader = load_reader("records", "test")
    first, second = reader.read(msgspec.convert(written.source, reader.Source), Root(tmp_path))
    assert isinstance(first, Annotation)
    assert isinstance(second, Annotation)
    assert first.expressions[0].instances == (1,)
    assert [one.path for one in second.images] == ["images/2.jpg", "images/1.jpg"]
    assert [one.image for one in second.instances] == [0, 1]
    assert (second.edits[0].before, second.edits[0].after) == (0, 1)
    assert second.key == "0~2"
