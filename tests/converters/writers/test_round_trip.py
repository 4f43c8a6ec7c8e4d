"""What a writer writes, the reader of the same name gives back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Image,
    Instance,
    Label,
    LabelSpace,
    Origin,
    Turn,
)
from dataengine.files import Root
from dataengine.geometry import rle_of_box
from dataengine.modules import WRITERS_PACKAGE, load_reader, load_writer, names

LABELS = LabelSpace(id="some", labels=(Label(name="cat"), Label(name="dog"), Label(name="potted plant")))
WIDTH, HEIGHT = 64, 48
TEXT = st.text(
    st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20
).filter(lambda text: text == " ".join(text.split()) and "<" not in text)


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
        key=str(number), images=(image(number),), origin=Origin(file="x", record=str(number)), **facts
    )


@st.composite
def boxed(draw: st.DrawFn, *, masks: bool, difficult: bool) -> list[Annotation]:
    made = []
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
        made.append(annotation(number, instances=tuple(instances)))
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
    "voc_xml": boxed(masks=False, difficult=True),
    "llava_json": spoken(),
}


# Layouts that do not state the size of a picture.
SIZELESS = {"llava_json"}


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
        questions=renamed(item.questions),
        dialogs=renamed(item.dialogs),
    )


def test_every_writer_is_tried() -> None:
    assert set(names(WRITERS_PACKAGE)) - {"tables"} == set(FACTS)


@pytest.mark.parametrize("name", sorted(FACTS))
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_reader_gives_back_what_the_writer_wrote(name: str, data: st.DataObject) -> None:
    facts = data.draw(FACTS[name])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        reader = load_reader(name, "test")

        written = load_writer(name, "test").write(facts, LABELS, folder)

        source = msgspec.convert(written.source, reader.Source)
        found = list(reader.read(source, Root(folder)))
    assert written.left_out == {}
    sized = name not in SIZELESS
    assert [plain(item) for item in found if isinstance(item, Annotation)] == [
        plain(item, sized=sized) for item in facts
    ]
    assert len(found) == len(facts)


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


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        (
            "coco_instances",
            {"caption": 1, "dialog": 1, "negative": 1, "instance without category or place": 2},
        ),
        ("coco_captions", {"instance": 3, "dialog": 1, "negative": 1}),
        (
            "voc_xml",
            {
                "caption": 1,
                "dialog": 1,
                "negative": 1,
                "mask": 1,
                "instance without category or box, or crowd": 2,
            },
        ),
        ("llava_json", {"instance": 3, "caption": 1, "negative": 1, "dialog about regions": 1}),
    ],
)
def test_what_a_layout_has_no_place_for_is_counted(
    name: str, left_out: dict[str, int], tmp_path: Path
) -> None:
    assert load_writer(name, "test").write([ALL_KINDS], LABELS, tmp_path).left_out == left_out
