"""What the writers of boxes and maps write, the readers of the same names give back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.formats.visdrone import CATEGORIES as VISDRONE
from converters.mask_outlines import outline
from dataengine.annotation import (
    Annotation,
    Caption,
    Image,
    Instance,
    Label,
    LabelSpace,
    Measure,
    Origin,
    Rejected,
)
from dataengine.files import Root
from dataengine.geometry import quad_box, rle_box, rle_from_mask, rle_from_polygons, rle_of_box
from dataengine.modules import load_reader, load_writer, source_labels

LABELS = LabelSpace(id="source", labels=tuple(Label(name=name) for name in ("cat", "dog", "potted plant")))
WIDTH, HEIGHT = 64, 48
Box = tuple[float, float, float, float]
Numbers = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@st.composite
def box(draw: st.DrawFn) -> Box:
    # Steps of 1/64 pixel: their sums and differences are exact.
    x0, y0 = draw(st.integers(0, 64 * (WIDTH - 2))), draw(st.integers(0, 64 * (HEIGHT - 2)))
    x1, y1 = draw(st.integers(x0 + 64, 64 * WIDTH)), draw(st.integers(y0 + 64, 64 * HEIGHT))
    return (x0 / 64, y0 / 64, x1 / 64, y1 / 64)


@st.composite
def numbered(draw: st.DrawFn, most: int) -> Numbers:
    """Return a small picture of numbers, with parts, holes and corners that touch, somewhere in a whole one."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    cells = draw(st.lists(st.integers(0, most), min_size=height * width, max_size=height * width))
    whole = np.zeros((HEIGHT, WIDTH), np.uint8)
    y, x = draw(st.integers(0, HEIGHT - height)), draw(st.integers(0, WIDTH - width))
    whole[y : y + height, x : x + width] = np.array(cells, np.uint8).reshape(height, width)
    return whole


def annotation(number: int, **facts: Any) -> Annotation:
    image = Image(path=f"images/{number}.png", width=WIDTH, height=HEIGHT)
    return Annotation(**{"key": "", "images": (image,), "origin": Origin(file="", record=""), **facts})


Draw = Callable[[st.DrawFn, str], Instance]


@st.composite
def objects(
    draw: st.DrawFn,
    make: Draw,
    *,
    names: tuple[str, ...] = LABELS.names,
    least: int = 0,
    partial: bool = False,
) -> list[Annotation]:
    """Return annotations of one picture each with objects that `make` makes of a category."""
    exhaustive = not (partial and draw(st.booleans()))
    return [
        annotation(
            number,
            instances=tuple(
                msgspec.structs.replace(make(draw, draw(st.sampled_from(names))), id=str(place))
                for place in range(draw(st.integers(least, 4)))
            ),
            exhaustive=exhaustive,
        )
        for number in range(draw(st.integers(1, 4)))
    ]


def boxed(draw: st.DrawFn, name: str) -> Instance:
    return Instance(id="", category=name, box=draw(box()))


def masked(draw: st.DrawFn, name: str) -> Instance:
    mask = rle_from_mask(draw(numbered(1).filter(lambda whole: bool(whole.any()))))
    return Instance(id="", category=name, box=rle_box(mask), mask=mask)


def with_attributes(draw: st.DrawFn, one: Instance, **values: tuple[str, ...]) -> Instance:
    drawn = {key: draw(st.sampled_from(words)) for key, words in values.items()}
    return msgspec.structs.replace(one, attributes={key: word for key, word in drawn.items() if word})


def in_traffic(draw: st.DrawFn, name: str) -> Instance:
    return with_attributes(draw, boxed(draw, name), truncated=("-1", "0.5"), occluded=("-1", "0", "3"))


def from_above(draw: st.DrawFn, name: str) -> Instance:
    one = msgspec.structs.replace(boxed(draw, name), ignore=draw(st.booleans()))
    return with_attributes(draw, one, truncation=("-1", "0", "1"), occlusion=("-1", "0", "2"))


def followed(draw: st.DrawFn, name: str) -> Instance:
    one = msgspec.structs.replace(boxed(draw, name), ignore=draw(st.booleans()))
    return with_attributes(draw, one, track=("-1", "1", "27"))


def in_a_crowd(draw: st.DrawFn, name: str) -> Instance:
    return msgspec.structs.replace(boxed(draw, name), ignore=draw(st.booleans()))


@st.composite
def federated(draw: st.DrawFn) -> list[Annotation]:
    """Return annotations whose categories are there, there in part (ignored objects alone), absent, or unknown."""
    made = []
    for item in draw(objects(lambda draw, name: draw(st.sampled_from([boxed, masked]))(draw, name))):
        partial = {name for name in LABELS.names if draw(st.booleans())}
        instances = tuple(
            msgspec.structs.replace(one, ignore=one.category in partial) for one in item.instances
        )
        present = {one.category for one in instances}
        negatives = tuple(
            sorted(name for name in LABELS.names if name not in present and draw(st.booleans()))
        )
        made.append(msgspec.structs.replace(item, instances=instances, negatives=negatives, exhaustive=False))
    return made


def faced(draw: st.DrawFn, name: str) -> Instance:
    one = msgspec.structs.replace(boxed(draw, name), ignore=draw(st.booleans()))
    words = {"blur": ("", "normal", "heavy"), "pose": ("", "atypical"), "occlusion": ("", "partial")}
    return with_attributes(draw, one, **words)


@st.composite
def with_regions(draw: st.DrawFn, names: tuple[str, ...]) -> list[Annotation]:
    """Return annotations with regions that are ignored for all categories, behind the objects."""
    made = []
    for item in draw(objects(in_traffic, names=names)):
        regions = draw(st.lists(box(), max_size=2, unique=True))
        ignored = (Instance(id="", category=name, box=one, ignore=True) for one in regions for name in names)
        made.append(msgspec.structs.replace(item, instances=(*item.instances, *ignored)))
    return made


def turned(draw: st.DrawFn, name: str) -> Instance:
    a, b, c, d, e, f, g, h = (
        draw(st.integers(0, 64 * (HEIGHT if number % 2 else WIDTH))) / 64 for number in range(8)
    )
    quad = (a, b, c, d, e, f, g, h)
    mask = rle_from_polygons([quad], WIDTH, HEIGHT)
    return Instance(
        id="", category=name, box=quad_box(quad), quad=quad, mask=mask, difficult=draw(st.booleans())
    )


def drawn_by_hand(draw: st.DrawFn, name: str) -> Instance:
    one = masked(draw, name) if draw(st.booleans()) else boxed(draw, name)
    if draw(st.booleans()):
        one = msgspec.structs.replace(one, category=None, ignore=True)
    return with_attributes(draw, one, description=("", "half hidden"))


def grouped(draw: st.DrawFn, name: str) -> Instance:
    one = msgspec.structs.replace(boxed(draw, name), crowd=draw(st.booleans()))
    return with_attributes(draw, one, occluded=("", "1"), inside=("", "1"))


@st.composite
def confirmed(draw: st.DrawFn) -> list[Annotation]:
    """Return annotations with boxes and then some without, each with classes that are there or are not."""
    made = []
    for item in [*draw(objects(grouped, least=1)), annotation(4), annotation(5)]:
        present = [name for name in LABELS.names if draw(st.booleans())]
        absent = [name for name in LABELS.names if name not in present and draw(st.booleans())]
        if item.instances or present or absent:
            made.append(
                msgspec.structs.replace(
                    item, labels=tuple(present), negatives=tuple(absent), exhaustive=False
                )
            )
    return made


def shown(whole: Numbers, number: int, **facts: Any) -> Instance:
    mask = rle_from_mask((whole == number).astype(np.uint8))
    return Instance(id="", box=rle_box(mask), mask=mask, **facts)


@st.composite
def parted(draw: st.DrawFn) -> list[Annotation]:
    """Return annotations whose masks share all pixels of a picture; the rest is nothing of all that."""
    made = []
    for item in draw(objects(boxed)):
        whole = draw(numbered(3))
        parts = [
            shown(whole, number, category=draw(st.sampled_from(LABELS.names)), crowd=draw(st.booleans()))
            for number in sorted({*whole.flat} - {0})
        ]
        made.append(msgspec.structs.replace(item, instances=(*parts, shown(whole, 0, ignore=True))))
    return made


@st.composite
def classed(draw: st.DrawFn) -> list[Annotation]:
    """Return annotations of which a mask shows all objects of a class; 4 is neither object nor background."""
    made = []
    for item in draw(objects(boxed, partial=True)):
        whole = draw(numbered(4))
        numbers = sorted({*whole.flat} - {0})
        parts = (
            shown(whole, number, ignore=True)
            if number == 4
            else shown(whole, number, category=LABELS.names[number - 1])
            for number in numbers
        )
        made.append(msgspec.structs.replace(item, instances=tuple(parts)))
    return made


TRAFFIC = ("Car", "Person_sitting")
# The categories of layouts that have their own, or that cannot have any name.
SPACES = {
    "dota": TRAFFIC,
    "kitti": TRAFFIC,
    "visdrone": VISDRONE,
    "wider_face": ("face",),
    "crowdhuman": ("person",),
}

# What each layout can hold.
FACTS: dict[str, st.SearchStrategy[list[Annotation]]] = {
    "coco_panoptic": parted(),
    "crowdhuman": objects(in_a_crowd, names=("person",), partial=True),
    "dota": objects(turned, names=TRAFFIC, partial=True),
    "label_maps": classed(),
    "labelme": objects(drawn_by_hand, partial=True),
    "openimages_csv": confirmed(),
    "kitti": with_regions(TRAFFIC),
    "lvis": federated(),
    "mot": objects(followed, least=1),
    "visdrone": objects(from_above, names=VISDRONE),
    "wider_face": objects(faced, names=("face",)),
    "yolo": objects(boxed, partial=True) | objects(masked, partial=True),
}


def rounded(box: Box | None) -> Box | None:
    """Return a box to a millionth of a pixel: shares of a picture's sides are not exact."""
    return None if box is None else tuple(round(value, 6) for value in box)  # type: ignore[return-value]


def plain(item: Annotation) -> Annotation:
    """Return an annotation without what its file decides: names of records and places, and sizes not all state."""
    return msgspec.structs.replace(
        item,
        key="",
        images=tuple(msgspec.structs.replace(image, width=None, height=None) for image in item.images),
        exhaustive=item.exhaustive if item.instances else True,
        origin=Origin(file="", record=""),
        instances=tuple(
            msgspec.structs.replace(one, id=str(number), box=rounded(one.box))
            for number, one in enumerate(item.instances)
        ),
    )


def pictures(facts: list[Annotation], folder: Path) -> None:
    """Write a picture for each path; its first pixel says which it is."""
    for path in {image.path for item in facts for image in item.images}:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (WIDTH, HEIGHT), int(Path(path).stem)).save(folder / path, format="PNG")


def back_in_place(item: Annotation, folder: Path) -> Annotation:
    """Return an annotation with the path that each picture had before, as its pixels tell it."""
    images = []
    for image in item.images:
        with PIL.Image.open(folder / image.path) as picture:
            images.append(msgspec.structs.replace(image, path=f"images/{picture.getpixel((0, 0))}.png"))
    return msgspec.structs.replace(item, images=tuple(images))


def read_back(
    name: str, facts: list[Annotation], folder: Path, labels: LabelSpace = LABELS
) -> tuple[list[Annotation | Rejected], dict[str, int]]:
    written = load_writer(name, "test").write(facts, labels, folder)
    reader = load_reader(written.format or name, "test")
    read = list(reader.read(msgspec.convert(written.source, reader.Source), Root(folder)))
    return [
        back_in_place(item, folder) if isinstance(item, Annotation) else item for item in read
    ], written.left_out


@pytest.mark.parametrize("name", sorted(FACTS))
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_reader_gives_back_what_the_writer_wrote(name: str, data: st.DataObject) -> None:
    facts = data.draw(FACTS[name])
    with tempfile.TemporaryDirectory() as scratch:
        pictures(facts, Path(scratch))

        names = SPACES.get(name, LABELS.names)
        labels = LabelSpace(id="source", labels=tuple(Label(name=one) for one in names))
        found, left_out = read_back(name, facts, Path(scratch), labels)

    assert left_out == {}
    assert [plain(item) if isinstance(item, Annotation) else item for item in found] == [
        plain(item) for item in facts
    ]


@given(whole=numbered(1))
@settings(deadline=None, max_examples=200)
def test_one_polygon_draws_all_parts_and_holes_of_a_mask(
    whole: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> None:
    mask = rle_from_mask(whole)

    points = outline(mask)

    if points is None:
        assert not whole.any()
    else:
        assert rle_from_polygons([points], WIDTH, HEIGHT) == mask


MASK = rle_from_mask(np.pad(np.ones((3, 3), np.uint8), ((2, HEIGHT - 5), (2, WIDTH - 5))))
BOX = (1.0, 2.0, 3.5, 4.0)
SAID = annotation(
    0,
    images=(
        Image(path="images/0.png", width=WIDTH, height=HEIGHT),
        Image(path="images/1.png", width=WIDTH, height=HEIGHT),
    ),
    instances=(
        Instance(id="0", category="cat", box=BOX, attributes={"colour": "red"}, text="cat"),
        Instance(id="1", category="potted plant", box=BOX, mask=MASK),
        Instance(id="2", category="dog", box=BOX, ignore=True),
        Instance(id="3", category="dog", box=BOX, crowd=True),
        Instance(id="4", category="dog"),
        Instance(id="5", box=BOX),
        Instance(id="6", category="cat", mask=MASK, image=1),
    ),
    captions=(Caption(id="0", text="a cat"),),
    negatives=("potted plant",),
    exhaustive=False,
)


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        (
            "coco_panoptic",
            {
                "instance without category or mask of the picture's size": 4,
                "category of an ignored instance": 1,
                "ignored instance without mask": 1,
                "box that is not its mask's": 1,
                "negative": 1,
            },
        ),
        ("crowdhuman", {"instance without box, or that is no person": 7, "negative": 1}),
        (
            "dota",
            {
                "blanks in the name of a category": 1,
                "attributes": 1,
                "text": 1,
                "ignore": 1,
                "mask": 1,
                "instance without category or box, or crowd": 4,
                "negative": 1,
            },
        ),
        (
            "kitti",
            {
                "blanks in the name of a category": 1,
                "attributes": 1,
                "text": 1,
                "mask": 1,
                "category of an ignored instance": 1,
                "instance without category or box, or crowd": 4,
                "exhaustive": 1,
                "negative": 1,
            },
        ),
        (
            "label_maps",
            {
                "instance without category or mask of the picture's size": 5,
                "box that is not its mask's": 1,
                "negative": 1,
            },
        ),
        (
            "labelme",
            {
                "attributes": 1,
                "text": 1,
                "box that is not its mask's": 1,
                "category of an ignored instance": 1,
                "instance without category or place, or crowd": 3,
                "negative": 1,
            },
        ),
        (
            "lvis",
            {"attributes": 1, "text": 1, "instance without category or place, or crowd": 3, "negative": 1},
        ),
        (
            "mot",
            {
                "attributes": 1,
                "text": 1,
                "mask": 1,
                "picture without objects": 1,
                "instance without category or box, or crowd": 4,
                "exhaustive": 1,
                "negative": 1,
            },
        ),
        (
            "openimages_csv",
            {
                "attributes": 1,
                "text": 1,
                "mask": 1,
                "instance without category, box or size of its picture, or that is ignored": 4,
            },
        ),
        (
            "visdrone",
            {
                "instance without box or one of VisDrone's categories, or crowd": 7,
                "exhaustive": 1,
                "negative": 1,
            },
        ),
        (
            "wider_face",
            {"instance without box, that is no face, or crowd": 7, "exhaustive": 1, "negative": 1},
        ),
        (
            "yolo",
            {
                "attributes": 1,
                "text": 1,
                "mask": 2,
                "instance that is ignored, or a crowd": 2,
                "instance without category or place": 2,
                "negative": 1,
            },
        ),
    ],
)
def test_what_a_layout_has_no_place_for_is_counted(
    name: str, left_out: dict[str, int], tmp_path: Path
) -> None:
    pictures([SAID], tmp_path)

    found = load_writer(name, "test").write([SAID], LABELS, tmp_path).left_out

    assert found == {**left_out, "caption": 1}


@pytest.mark.parametrize("name", ["coco_panoptic", "label_maps"])
def test_a_pixel_belongs_to_the_first_mask_that_claims_it(name: str, tmp_path: Path) -> None:
    below = rle_from_mask(np.pad(np.ones((3, 4), np.uint8), ((2, HEIGHT - 5), (2, WIDTH - 6))))
    item = annotation(
        0,
        instances=(
            Instance(id="0", category="cat", mask=MASK),
            Instance(id="1", category="dog", mask=below),
        ),
    )
    pictures([item], tmp_path)

    (found, *_), left_out = read_back(name, [item], tmp_path)

    assert isinstance(found, Annotation)
    assert left_out == {"pixels under another mask": 9}
    assert [one.box for one in found.instances if one.category] == [
        (2.0, 2.0, 5.0, 5.0),
        (5.0, 2.0, 6.0, 5.0),
    ]


def test_names_of_several_words_become_one_word_that_is_no_other_name(tmp_path: Path) -> None:
    names = ("traffic light", "traffic_light", "DontCare")
    labels = LabelSpace(id="source", labels=tuple(Label(name=name) for name in names))
    item = annotation(
        0, instances=tuple(Instance(id=name, category=name, box=BOX) for name in [*names, "a b"])
    )
    pictures([item], tmp_path)

    (found,), left_out = read_back("kitti", [item], tmp_path, labels)

    assert isinstance(found, Annotation)
    assert [one.category for one in found.instances] == [
        "traffic_light_",
        "traffic_light",
        "DontCare_",
        "a_b",
    ]
    assert left_out == {"blanks in the name of a category": 3}


def test_an_object_without_corners_gets_those_of_its_box(tmp_path: Path) -> None:
    item = annotation(0, instances=(Instance(id="0", category="dog", box=BOX),))
    pictures([item], tmp_path)

    (found,), left_out = read_back("dota", [item], tmp_path)

    assert isinstance(found, Annotation)
    assert (found.instances[0].box, found.instances[0].quad) == (
        BOX,
        (1.0, 2.0, 3.5, 2.0, 3.5, 4.0, 1.0, 4.0),
    )
    assert left_out["blanks in the name of a category"] == 1


def test_yolo_labels_are_where_tools_look_for_them(tmp_path: Path) -> None:
    image = Image(path="images/coco/images/7.png", width=WIDTH, height=HEIGHT)
    item = annotation(0, images=(image,), instances=(Instance(id="0", category="dog", box=BOX),))
    pictures([item], tmp_path)

    load_writer("yolo", "test").write([item], LABELS, tmp_path)

    (line,) = (tmp_path / "split.txt").read_text().split()
    # Ultralytics, img2label_paths: the last /images/ of a path becomes /labels/.
    label = "/labels/".join(line.rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt"
    assert (tmp_path / line).is_file()
    assert (tmp_path / label).read_text().split()[0] == "1"


def test_the_frames_of_a_folder_are_a_video(tmp_path: Path) -> None:
    paths = ["images/a/1.png", "images/a/2.png", "images/b/3.png"]
    items = [
        annotation(
            0,
            images=(Image(path=path, width=WIDTH, height=HEIGHT),),
            instances=(Instance(id="0", category="dog", box=BOX),),
        )
        for path in paths
    ]
    pictures(items, tmp_path)

    load_writer("mot", "test").write(items, LABELS, tmp_path)

    infos = [path.read_text().split() for path in sorted((tmp_path / "train").glob("*/seqinfo.ini"))]
    assert [info[3] for info in infos] == ["seqLength=2", "seqLength=1"]


@pytest.mark.parametrize("name", ["dota", "kitti", "labelme", "mot", "openimages_csv", "yolo"])
def test_a_reader_gives_back_the_label_space(name: str, tmp_path: Path) -> None:
    labels = LabelSpace(id="source", labels=tuple(Label(name=name) for name in TRAFFIC))

    written = load_writer(name, "test").write([], labels, tmp_path)

    reader = load_reader(name, "test")
    found = source_labels(reader, msgspec.convert(written.source, reader.Source), Root(tmp_path))
    assert found is not None
    assert found.names == TRAFFIC


def test_a_picture_can_have_more_segments_than_a_byte_counts(tmp_path: Path) -> None:
    whole = np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    item = annotation(
        0,
        instances=tuple(
            Instance(id="", category="cat", mask=rle_from_mask((whole == pixel).astype(np.uint8)))
            for pixel in range(300)
        ),
    )
    pictures([item], tmp_path)

    (found,), left_out = read_back("coco_panoptic", [item], tmp_path)

    assert isinstance(found, Annotation)
    assert left_out == {}
    assert [one.mask for one in found.instances[:-1]] == [one.mask for one in item.instances]
    record = msgspec.json.decode((tmp_path / "panoptic.json").read_bytes())["annotations"][0]
    with PIL.Image.open(tmp_path / "panoptic" / record["file_name"]) as picture:
        assert record["segments_info"][299]["id"] == 300
        assert picture.getpixel((299 % WIDTH, 299 // WIDTH)) == (300 - 256, 1, 0)


def test_the_points_of_a_labelme_mask_are_its_first_and_last_pixel(tmp_path: Path) -> None:
    item = annotation(0, instances=(Instance(id="0", category="cat", mask=MASK),))
    pictures([item], tmp_path)

    load_writer("labelme", "test").write([item], LABELS, tmp_path)

    (shape,) = msgspec.json.decode((tmp_path / "images/0.json").read_bytes())["shapes"]
    assert shape["points"] == [[2.0, 2.0], [4.0, 4.0]]


def test_yolo_writes_boxes_where_one_object_has_no_mask(tmp_path: Path) -> None:
    both = (
        Instance(id="0", category="cat", box=BOX, mask=MASK),
        Instance(id="1", category="dog", box=BOX),
    )
    items = [annotation(0, instances=both[:1]), annotation(1, instances=both)]
    pictures(items, tmp_path)

    written = load_writer("yolo", "test").write(items, LABELS, tmp_path)

    assert written.source is not None
    assert written.source["kind"] == "detect"
    assert written.left_out == {"mask": 2}
    lines = [line for file in (tmp_path / "labels").iterdir() for line in file.read_text().splitlines()]
    assert [len(line.split()) for line in lines] == [5, 5, 5]
    assert {path.name for path in tmp_path.iterdir()} == {"data.yaml", "images", "labels", "split.txt"}


def test_a_map_is_written_for_the_last_picture_and_an_earlier_one_and_what_it_measures_are_counted(
    tmp_path: Path,
) -> None:
    mask = rle_of_box((0.0, 0.0, 2.0, 2.0), 8, 6)
    item = Annotation(
        key="1",
        images=(
            Image(path="a.png", width=8, height=6, measure=Measure(quantity="depth", unit="m")),
            Image(path="b.png", width=8, height=6),
        ),
        instances=(Instance(id="1", category="cat", mask=mask, box=(0.0, 0.0, 2.0, 2.0), image=1),),
        origin=Origin(file="f", record="r"),
    )

    found = load_writer("label_maps", "test").write([item], LABELS, tmp_path)

    assert found.left_out == {"picture shown before another": 1, "measure": 1}
    assert (tmp_path / "split.txt").read_text() == "b.png\tmaps/0000001.png\n"


def test_a_crowd_of_persons_is_ignored_in_a_crowdhuman_file(tmp_path: Path) -> None:
    item = annotation(0, instances=(Instance(id="0", category="person", box=BOX, crowd=True),))
    pictures([item], tmp_path)

    (found,), left_out = read_back("crowdhuman", [item], tmp_path)

    assert isinstance(found, Annotation)
    assert found.instances == (Instance(id="0", category="person", box=BOX, ignore=True),)
    assert left_out == {"crowd": 1}


def test_crowdhuman_pictures_of_one_name_keep_their_boxes_apart(tmp_path: Path) -> None:
    paths = ["images/a/1.png", "images/b/1.png", "images/1~2.png"]
    items = [annotation(0, images=(Image(path=path, width=WIDTH, height=HEIGHT),)) for path in paths]
    pictures([annotation(0)], tmp_path)
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes((tmp_path / "images/0.png").read_bytes())

    found, _ = read_back("crowdhuman", items, tmp_path)

    assert [item.key for item in found] == ["1", "1~2", "1~2~2"]
    assert len([*(tmp_path / "Images").iterdir()]) == 3


def test_lvis_says_of_a_picture_that_is_annotated_whole_what_is_absent(tmp_path: Path) -> None:
    cat, crowd, thing = (
        Instance(id="0", category="cat", box=BOX),
        Instance(id="1", category="dog", box=BOX, crowd=True),
        Instance(id="2", box=BOX, ignore=True),
    )
    items = [
        annotation(0, instances=(cat,)),
        annotation(1, instances=(crowd,)),
        annotation(2, instances=(thing,)),
    ]

    pictures(items, tmp_path)

    found, left_out = read_back("lvis", items, tmp_path)

    assert left_out == {"instance without category or place, or crowd": 2}
    assert [(item.negatives, item.exhaustive) for item in found if isinstance(item, Annotation)] == [
        (("dog", "potted plant"), False),
        (("cat", "potted plant"), False),
        ((), False),
    ]
    images = msgspec.json.decode((tmp_path / "lvis.json").read_bytes())["images"]
    assert [one["not_exhaustive_category_ids"] for one in images] == [[], [2], []]


def test_lvis_ignores_the_other_objects_of_a_category_with_an_ignored_one(tmp_path: Path) -> None:
    both = tuple(
        Instance(id=str(number), category="cat", box=BOX, ignore=bool(number)) for number in range(2)
    )

    pictures([annotation(0)], tmp_path)

    (found,), left_out = read_back("lvis", [annotation(0, instances=both)], tmp_path)

    assert isinstance(found, Annotation)
    assert left_out == {"instance beside an ignored one of its category": 1}
    assert [one.ignore for one in found.instances] == [True, True]


@pytest.mark.parametrize(("count", "says"), [(10, "r"), (11, "c"), (100, "c"), (101, "f")])
def test_lvis_counts_pictures_to_say_how_frequent_a_category_is(
    count: int, says: str, tmp_path: Path
) -> None:
    twice = tuple(Instance(id=str(number), category="cat", box=BOX) for number in range(2))

    load_writer("lvis", "test").write(
        [annotation(n, instances=twice) for n in range(count)], LABELS, tmp_path
    )

    first = msgspec.json.decode((tmp_path / "lvis.json").read_bytes())["categories"][0]
    assert first == {
        "id": 1, "name": "cat", "image_count": count, "instance_count": 2 * count, "frequency": says,
    }  # fmt: skip
