from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.io
from PIL import Image as Pillow

from converters.formats.label_maps import Source, labels, read
from dataengine.annotation import Annotation, Instance, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle

Samples = Callable[[str], Root]
PLACES: dict[str, Any] = {"maps": "maps/{name}.png", "images": "images/{name}.jpg"}


def _save(path: Path, rows: Any, mode: str | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Pillow.fromarray(np.asarray(rows, np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        picture = picture.convert("L")
        palette = Pillow.new("P", picture.size)
        palette.putpalette([value for number in range(256) for value in (255 - number, 7, 7)])
        palette.putdata(list(picture.tobytes()))
        picture = palette
    picture.save(path, **options)


def _split(folder: Path, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(msgspec.convert({**PLACES, **options}, Source), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _mask(item: Instance) -> list[list[int]]:
    assert item.mask is not None
    rows: list[list[int]] = mask_from_rle(item.mask).tolist()
    return rows


def test_a_class_is_one_instance_with_all_its_pixels(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[1, 1, 0, 2], [0, 1, 0, 1]])

    (found,), rejected = _split(tmp_path, classes=[None, "cat", "dog"])

    assert rejected == []
    assert (found.key, found.images[0].path, found.origin.file) == ("a", "images/a.jpg", "maps/a.png")
    cat, dog = found.instances
    assert (cat.category, cat.box, dog.category, dog.box) == ("cat", (0, 0, 4, 2), "dog", (3, 0, 4, 1))
    assert _mask(cat) == [[1, 1, 0, 0], [0, 1, 0, 1]]
    assert _mask(dog) == [[0, 0, 0, 1], [0, 0, 0, 0]]
    assert found.exhaustive


def test_numbers_to_ignore_are_one_instance_without_a_class(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[0, 1], [255, 2]])

    (found,), _ = _split(tmp_path, classes={"1": "wall", "2": "sky"}, ignore=[0, 255])

    assert [(item.category, item.ignore) for item in found.instances] == [
        ("wall", False),
        ("sky", False),
        (None, True),
    ]
    assert _mask(found.instances[2]) == [[1, 0], [1, 0]]


def test_numbers_of_one_name_are_one_class(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[3, 4, 5]])

    (found,), _ = _split(tmp_path, classes={"3": "road", "4": "car", "5": "road"})

    assert [(item.category, _mask(item)) for item in found.instances] == [
        ("road", [[1, 0, 1]]),
        ("car", [[0, 1, 0]]),
    ]


def test_a_number_of_no_class_rejects_the_map_or_is_ignored(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[1, 1, 9, 8]])

    found, (rejected,) = _split(tmp_path, classes=["wall", "sky"])
    (ignored,), _ = _split(tmp_path, classes=["wall", "sky"], unknown="ignore")

    assert found == []
    assert (rejected.key, rejected.reason) == ("a", "category.unknown")
    assert rejected.detail == "1 pixels are 8, which is no class; 2 such numbers"
    assert [(item.category, _mask(item)) for item in ignored.instances] == [
        ("sky", [[1, 1, 0, 0]]),
        (None, [[0, 0, 1, 1]]),
    ]


def test_a_palette_is_read_by_index(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[0, 1, 2]], "P")

    (found,), _ = _split(tmp_path, classes=[None, "cat", "dog"])

    assert [(item.category, item.box) for item in found.instances] == [
        ("cat", (1, 0, 2, 1)),
        ("dog", (2, 0, 3, 1)),
    ]


def test_a_palette_is_read_by_colour_where_the_spec_says_so(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[0, 1, 2]], "P")

    (found,), _ = _split(
        tmp_path, encoding="color", classes={"#fe0707": "cat", "#FF0707": None}, ignore=["#fd0707"]
    )

    assert [(item.category, item.box) for item in found.instances] == [
        ("cat", (1, 0, 2, 1)),
        (None, (2, 0, 3, 1)),
    ]


def test_numbers_of_16_bits_stay(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[26001, 300, 44]], "I;16")

    (found,), _ = _split(tmp_path, classes={"300": "a", "44": "b", "26001": "c"})

    assert [(item.category, item.box) for item in found.instances] == [
        ("a", (1, 0, 2, 1)),
        ("b", (2, 0, 3, 1)),
        ("c", (0, 0, 1, 1)),
    ]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_is_read_as_stored(tmp_path: Path, bits: int) -> None:
    (tmp_path / "maps").mkdir()
    small = io.BytesIO()
    Pillow.fromarray(np.array([[0, 1, 1, 0]], np.uint8)).convert("P").save(small, "PNG", bits=bits)
    assert small.getvalue()[24] == bits
    (tmp_path / "maps/a.png").write_bytes(_as_grey(small.getvalue()))

    (found,), _ = _split(tmp_path, classes=[None, "cat"])

    assert [(item.category, item.box) for item in found.instances] == [("cat", (1, 0, 3, 1))]


def _as_grey(png: bytes) -> bytes:
    """Return a palette picture as a grey one of as many bits: other type in the header, no palette."""
    made, place = png[:8], 8
    while place < len(png):
        size = int.from_bytes(png[place : place + 4], "big")
        kind, body = png[place + 4 : place + 8], png[place + 8 : place + 8 + size]
        place += size + 12
        if kind == b"IHDR":
            body = body[:9] + b"\0" + body[10:]
        if kind != b"PLTE":
            crc = zlib.crc32(kind + body).to_bytes(4, "big")
            made += size.to_bytes(4, "big") + kind + body + crc
    return made


@pytest.mark.parametrize(("channel", "number"), [("red", 2), ("green", 9), ("blue", 7)])
def test_the_channel_is_the_one_that_the_spec_names(tmp_path: Path, channel: str, number: int) -> None:
    _save(tmp_path / "maps/a.png", [[[2, 9, 7]]])

    (found,), _ = _split(tmp_path, encoding=channel, classes={str(number): "rice"})

    assert [item.category for item in found.instances] == ["rice"]


def test_one_channel_can_hold_the_numbers(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[[2, 9, 7], [1, 2, 3]]])
    _save(tmp_path / "maps/b.png", [[1, 2]])

    (found,), (rejected,) = _split(tmp_path, encoding="red", classes=[None, "rice", "miso"])

    assert [(item.category, item.box) for item in found.instances] == [
        ("rice", (1, 0, 2, 1)),
        ("miso", (0, 0, 1, 1)),
    ]
    assert (rejected.key, rejected.reason) == ("b", "map.encoding")


def test_a_grey_map_saved_as_colour_is_a_grey_map_and_colours_are_none(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[[1, 1, 1], [0, 0, 0]]])
    _save(tmp_path / "maps/b.png", [[[1, 1, 1], [0, 1, 0]]])

    (found,), (rejected,) = _split(tmp_path, classes=[None, "house"])

    assert [item.box for item in found.instances] == [(0, 0, 1, 1)]
    assert (rejected.key, rejected.reason) == ("b", "map.encoding")


def test_black_and_white_is_cut_at_the_threshold(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[0, 127, 128, 255]])
    _save(tmp_path / "maps/b.png", [[0, 0]])
    _save(tmp_path / "maps/c.png", [[[255, 255, 255], [0, 0, 0]]])
    _save(tmp_path / "maps/d.png", [[0, 65535, 32768]], "I;16")
    options = {"encoding": "binary", "classes": [None, "salient object"]}

    found, _ = _split(tmp_path, **options)
    early, _ = _split(tmp_path, **options, threshold=1)

    assert [[_mask(one) for one in item.instances] for item in found] == [
        [[[0, 0, 1, 1]]],
        [],
        [[[1, 0]]],
        [[[0, 1, 1]]],
    ]
    assert _mask(early[0].instances[0]) == [[0, 1, 1, 1]]


def test_a_mask_of_one_bit_is_black_and_white(tmp_path: Path) -> None:
    (tmp_path / "maps").mkdir()
    Pillow.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "maps/a.png")

    (found,), _ = _split(tmp_path, encoding="binary", classes=["membrane", "cell"])

    assert [(item.category, item.box) for item in found.instances] == [
        ("membrane", (0, 0, 1, 1)),
        ("cell", (1, 0, 2, 1)),
    ]


def test_words_in_braces_stand_for_the_same_part_of_both_paths(tmp_path: Path) -> None:
    for part in ("Urban", "Rural"):
        _save(tmp_path / f"Train/{part}/masks [1]/01.png", [[1]])

    found, _ = _split(
        tmp_path,
        maps="Train/{area}/masks [1]/{name}.png",
        images="Train/{area}/images/{area}_{name}.jpg",
        classes=[None, "road"],
    )

    assert [(item.key, item.images[0].path) for item in found] == [
        ("Rural/01", "Train/Rural/images/Rural_01.jpg"),
        ("Urban/01", "Train/Urban/images/Urban_01.jpg"),
    ]


def test_a_word_that_stands_twice_must_agree(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a/a_1.png", [[1]])
    _save(tmp_path / "maps/a/b_1.png", [[1]])

    found, _ = _split(
        tmp_path, maps="maps/{seq}/{seq}_{n}.png", images="{seq}/{n}.png", classes=[None, "road"]
    )

    assert [item.key for item in found] == ["a/1"]


def test_the_list_says_which_maps_are_read(tmp_path: Path) -> None:
    for name in ("a", "b.5", "c"):
        _save(tmp_path / f"maps/{name}.png", [[1]])
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbfc\r\n\r\nb.5\r\n")

    found, rejected = _split(tmp_path, image_set="val.txt", classes=[None, "x"])

    assert [item.key for item in found] == ["c", "b.5"]
    assert rejected == []


def test_a_line_can_name_picture_and_map(tmp_path: Path) -> None:
    _save(tmp_path / "CamVid/trainannot/a.png", [[1]])
    (tmp_path / "train.txt").write_text("/SegNet/CamVid/train/a.png /SegNet/CamVid/trainannot/a.png\nodd\n")

    (found,), (rejected,) = _split(
        tmp_path,
        image_set="train.txt",
        line="/SegNet/{image} /SegNet/{map}",
        images="{image}",
        maps="{map}",
        classes=[None, "x"],
    )

    assert (found.key, found.images[0].path) == ("CamVid/train/a", "CamVid/train/a.png")
    assert (rejected.key, rejected.reason) == ("line 2", "schema")


def test_a_folder_of_maps_can_serve_several_splits(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _save(tmp_path / f"GT/{name}.png", [[1]])
    for name in ("Train/a", "Test/b", "Test/c"):
        _save(tmp_path / f"Images/{name}.jpg", [[1]])

    found, (rejected,) = _split(
        tmp_path, each="images", images="Images/Test/{name}.jpg", maps="GT/{name}.png", classes=[None, "x"]
    )

    assert [(item.key, item.images[0].path) for item in found] == [("b", "Images/Test/b.jpg")]
    assert (rejected.key, rejected.reason) == ("c", "map.missing")


def test_a_line_can_be_json(tmp_path: Path) -> None:
    _save(tmp_path / "m/a.png", [[1]])
    (tmp_path / "list.odgt").write_text('{"fpath_img": "i/a.jpg", "fpath_segm": "m/a.png", "width": 1}\n')

    (found,), _ = _split(
        tmp_path,
        image_set="list.odgt",
        line='{{"fpath_img": "{image}", "fpath_segm": "{map}", {rest}}}',
        images="{image}",
        maps="{map}",
        classes=[None, "x"],
    )

    assert found.images[0].path == "i/a.jpg"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "map.missing"),
        ("../a", "path.outside"),
        ("x" * 300, "path.invalid"),
        ("x" * 5000, "schema"),
        ("\udcff", "schema"),
    ],
)
def test_a_line_that_leads_nowhere_costs_no_other(tmp_path: Path, line: str, reason: str) -> None:
    _save(tmp_path / "maps/good.png", [[1]])
    (tmp_path / "val.txt").write_bytes(f"{line}\ngood\n".encode(errors="surrogateescape"))

    found, (rejected,) = _split(tmp_path, image_set="val.txt", classes=[None, "x"])

    assert [item.key for item in found] == ["good"]
    assert rejected.reason == reason


def test_a_map_that_is_listed_twice_is_rejected_once(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[1]])
    (tmp_path / "val.txt").write_text("a\na\n")

    found, (rejected,) = _split(tmp_path, image_set="val.txt", classes=[None, "x"])

    assert len(found) == 1
    assert (rejected.reason, rejected.origin.record) == ("id.duplicate", "line 2")


def test_files_that_are_no_maps_are_rejected(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", np.arange(250).reshape(10, 25))
    whole = (tmp_path / "maps/a.png").read_bytes()
    (tmp_path / "maps/a.png").write_bytes(whole[:-60])
    (tmp_path / "maps/b.png").write_bytes(b"GIF89a")
    (tmp_path / "maps/c.png").write_bytes(b"")
    Pillow.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "maps/d.png", "TIFF")
    bomb = bytearray(whole)
    bomb[16:24] = (200_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (tmp_path / "maps/e.png").write_bytes(bomb)

    found, rejected = _split(tmp_path, classes=[None, "x"])

    assert found == []
    assert [(item.key, item.reason) for item in rejected] == [
        ("a", "map.corrupt"),
        ("b", "map.corrupt"),
        ("c", "map.corrupt"),
        ("d", "map.format"),
        ("e", "map.too_large"),
    ]


def test_noise_is_no_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converters.pixel_maps.MAX_RUNS", 10)
    _save(tmp_path / "maps/a.png", np.arange(12).reshape(3, 4))

    _, (rejected,) = _split(tmp_path, classes=[None, "x"])

    assert rejected.reason == "map.noise"


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.maps"):
        _split(tmp_path, classes=[None, "x"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "i/{other}.jpg"}, "images needs {other}, which maps does not have"),
        ({"each": "images", "maps": "m/{other}.png"}, "maps needs {other}, which images does not have"),
        ({"image_set": "a.txt", "line": "{x}"}, "images needs {name}, which line does not have"),
        ({"images": "one.jpg"}, "images has no word in braces"),
        ({"classes": []}, "names no class"),
        ({"classes": {"seven": "x"}}, "'seven' is no number"),
        ({"encoding": "color"}, "'0' is no colour"),
        ({"ignore": [-1]}, "'-1' is no number"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_before_it_is(options: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({**PLACES, "classes": ["x"], **options}, Source)


def test_the_label_space_is_the_classes_in_order(tmp_path: Path) -> None:
    source = Source(**PLACES, classes=(None, "sky", "road", "sky"))

    assert labels(source, Root(tmp_path)).names == ("sky", "road")


def test_real_maps_of_ade20k(samples: Samples) -> None:
    root = samples("ade20k_sceneparsing150")
    names = [f"class {number}" for number in range(1, 151)]
    source = Source(
        maps="annotations/validation/{name}.png",
        images="images/validation/{name}.jpg",
        classes=(None, *names),
        ignore=(0,),
    )

    first, second = read(source, root)

    assert isinstance(first, Annotation)
    assert isinstance(second, Annotation)
    assert [item.category for item in first.instances] == [
        f"class {number}" for number in (1, 2, 3, 5, 7, 10, 18)
    ] + [None]
    covered = sum(int(np.sum(_mask(item))) for item in first.instances)
    assert covered == 683 * 512


def test_real_maps_of_saliency(samples: Samples) -> None:
    source = Source(
        maps="masks/{name}.png",
        images="images/{name}.jpg",
        encoding="binary",
        classes=(None, "salient object"),
    )

    found = {item.key: item for item in read(source, samples("sod_masks"))}

    counts = {key: len(item.instances) for key, item in found.items() if isinstance(item, Annotation)}
    assert counts == {"0001": 1, "19": 1, "aerial-1867541__340": 0}


def test_pictures_before_the_map_s_own_come_first_and_its_objects_lie_on_the_last(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[1, 0]])

    (found,), _ = _split(
        tmp_path, classes=[None, "changed"], before=["old/{name}.jpg"], images="new/{name}.jpg"
    )

    assert [image.path for image in found.images] == ["old/a.jpg", "new/a.jpg"]
    assert [(item.category, item.image) for item in found.instances] == [("changed", 1)]
    assert found.key == "a"


def test_a_number_can_be_a_class_and_an_object_of_it(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[0, 1001, 2001, 1002, 1001, 10000]], mode="I;16")
    classes = {"1": "car", "2": "person"}

    (found,), rejected = _split(tmp_path, classes=classes, objects=1000, ignore=[10])

    assert rejected == []
    assert [(item.id, item.category, item.ignore) for item in found.instances] == [
        ("1001", "car", False), ("1002", "car", False), ("2001", "person", False), ("10000", None, True),
    ]  # fmt: skip
    assert _mask(found.instances[0]) == [[0, 1, 0, 0, 1, 0]]


def test_an_object_of_no_class_rejects_the_map_or_is_ignored(tmp_path: Path) -> None:
    _save(tmp_path / "maps/a.png", [[0, 1001, 3001]], mode="I;16")

    _, (rejected,) = _split(tmp_path, classes={"1": "car"}, objects=1000)
    (found,), _ = _split(tmp_path, classes={"1": "car"}, objects=1000, unknown="ignore")

    assert rejected.reason == "category.unknown" and "3001" in rejected.detail
    assert [(item.category, item.ignore) for item in found.instances] == [("car", False), (None, True)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objects": 1}, "objects: 1 of encoding 'index'"),
        ({"objects": 1000, "encoding": "binary"}, "objects: 1000 of encoding 'binary'"),
        ({"before": ["old/{other}.jpg"]}, "before old/{other}.jpg needs {other}"),
    ],
)
def test_objects_and_earlier_pictures_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(words)):
        msgspec.convert({**PLACES, "classes": [None, "a"], **options}, Source)


def _matlab(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    (folder / "maps").mkdir()
    scipy.io.savemat(folder / "maps/a.mat", content)
    return {"maps": "maps/{name}.mat", "classes": {"1": None, "2": "crack"}}


def test_a_map_may_be_a_matrix_of_a_matlab_file(tmp_path: Path) -> None:
    cells = np.empty((1, 1), dtype=object)
    cells[0, 0] = {
        "Segmentation": np.array([[1, 2, 2], [1, 1, 2]], np.uint16),
        "Boundaries": np.zeros((2, 3)),
    }
    options = _matlab(tmp_path, {"groundTruth": cells})

    (found,), rejected = _split(tmp_path, **options, variable="groundTruth.Segmentation")

    assert rejected == []
    assert [(item.category, _mask(item)) for item in found.instances] == [("crack", [[0, 1, 1], [0, 0, 1]])]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"S": np.array([[1.5, 2], [1, 1]])}, "map.format"),
        ({"S": "text"}, "map.format"),
        ({"other": np.ones((2, 2))}, "map.format"),
        ({"S": np.array([[1, 7], [1, 1]])}, "category.unknown"),
    ],
)
def test_a_matlab_file_without_such_a_matrix_is_rejected(
    tmp_path: Path, content: dict[str, Any], reason: str
) -> None:
    found, (rejected,) = _split(tmp_path, **_matlab(tmp_path, content), variable="S")

    assert found == []
    assert rejected.reason == reason


def test_a_matlab_file_that_is_torn_is_rejected(tmp_path: Path) -> None:
    options = _matlab(tmp_path, {"S": np.ones((20, 20))})
    file = tmp_path / "maps/a.mat"
    file.write_bytes(file.read_bytes()[:-40])

    _, (rejected,) = _split(tmp_path, **options, variable="S")

    assert rejected.reason == "map.corrupt"
