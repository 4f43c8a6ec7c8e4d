from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from converters.formats.icdar_quads import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

Samples = Callable[[str], Root]
LINE = "10,20,50,22,48,40,9,38,Exit"


def _folder(folder: Path, picture: bool = True, **files: str | bytes) -> Root:
    (folder / "gt").mkdir()
    (folder / "images").mkdir()
    for stem, text in files.items():
        (folder / "gt" / f"gt_{stem}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        if picture:
            Image.new("RGB", (100, 60)).save(folder / "images" / f"{stem}.jpg")
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    source = msgspec.convert({"annotations": "gt", "images": "images", **options}, Source)
    found = list(read(source, root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_line_is_a_word_with_its_corners_box_and_pixels(tmp_path: Path) -> None:
    root = _folder(tmp_path, img_1=LINE)

    (found,), rejected = _split(root)

    (item,) = found.instances
    assert rejected == []
    assert (found.key, found.images[0].path) == ("img_1", "images/img_1.jpg")
    assert (item.id, item.category, item.text) == ("1", "text", "Exit")
    assert item.quad == (10, 20, 50, 22, 48, 40, 9, 38)
    assert item.box == (9, 20, 50, 40)
    assert item.mask is not None and item.mask.size == (60, 100)
    assert rle_area(item.mask) == pytest.approx(712, abs=30)
    assert not item.ignore
    assert found.origin.file == "gt/gt_img_1.txt"


def test_without_the_picture_there_is_no_mask_and_the_words_stay(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, picture=False, a=LINE))

    assert rejected == []
    assert found.instances[0].mask is None
    assert found.instances[0].box == (9, 20, 50, 40)


def test_marks_and_line_ends_of_windows_and_blank_lines_are_no_text(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + f"{LINE}\r\n\r\n{LINE} \r\n".encode()

    (found,), rejected = _split(_folder(tmp_path, a=text))

    assert rejected == []
    assert [(item.id, item.text) for item in found.instances] == [("1", "Exit"), ("3", "Exit")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NO.53 55,57 & 59, JALAN", "NO.53 55,57 & 59, JALAN"),
        ("12,50", "12,50"),
        (" two  words ", "two words"),
        ('"quoted"', '"quoted"'),
        ("中文，字", "中文，字"),
    ],
)
def test_the_text_is_all_that_follows_the_corners(tmp_path: Path, text: str, said: str) -> None:
    (found,), _ = _split(_folder(tmp_path, a=f"10,20,50,22,48,40,9,38,{text}"))

    assert found.instances[0].text == said


@pytest.mark.parametrize("ending", [",###", ",", ""])
def test_a_word_that_nobody_can_read_is_ignored_where_it_stands(tmp_path: Path, ending: str) -> None:
    (found,), rejected = _split(_folder(tmp_path, a=f"10,20,50,22,48,40,9,38{ending}"))

    (item,) = found.instances
    assert rejected == []
    assert (item.text, item.ignore, item.box) == (None, True, (9, 20, 50, 40))


def test_the_script_of_a_word_is_kept(tmp_path: Path) -> None:
    root = _folder(tmp_path, a="1,2,3,2,3,4,1,4,Arabic,a,b\n1,2,3,2,3,4,1,4,Latin,###")

    (found,), _ = _split(root, columns=["quad", "script", "text"])

    assert [(item.attributes, item.text) for item in found.instances] == [
        ({"script": "Arabic"}, "a,b"),
        ({"script": "Latin"}, None),
    ]


def test_a_word_that_is_hard_to_read_is_difficult(tmp_path: Path) -> None:
    root = _folder(tmp_path, a='1,2,3,2,3,4,1,4,1,"a"\n1,2,3,2,3,4,1,4,0,"b,c"')

    (found,), _ = _split(root, columns=["quad", "difficult", "text"], quoted=True)

    assert [(item.difficult, item.text) for item in found.instances] == [(True, "a"), (False, "b,c")]


@pytest.mark.parametrize(
    ("delimiter", "line"), [(" ", '38 43 92 50 "Tired man"'), (",", '38, 43, 92, 50, "Tired man"')]
)
def test_an_upright_box_has_two_corners(tmp_path: Path, delimiter: str, line: str) -> None:
    root = _folder(tmp_path, a=line)

    (found,), _ = _split(root, columns=["rect", "text"], delimiter=delimiter, quoted=True)

    (item,) = found.instances
    assert (item.box, item.text) == ((38, 43, 92, 50), "Tired man")
    assert item.quad == (38, 43, 92, 43, 92, 50, 38, 50)
    assert item.mask is not None and rle_area(item.mask) == 54 * 7


def test_the_picture_is_the_first_that_is_there(tmp_path: Path) -> None:
    root = _folder(tmp_path, picture=False, a=LINE, b=LINE)
    (tmp_path / "more").mkdir()
    Image.new("RGB", (100, 60)).save(tmp_path / "more" / "a.png")

    found, _ = _split(root, images=["images", "more"], extensions=["jpg", "png"])

    assert [item.images[0].path for item in found] == ["more/a.png", "images/b.jpg"]


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_that_its_header_turns_is_rejected(tmp_path: Path, orientation: int) -> None:
    root = _folder(tmp_path, a=LINE, b=LINE)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (100, 60)).save(tmp_path / "images" / "a.jpg", exif=exif)

    (found,), (rejected,) = _split(root)

    assert (found.key, rejected.key, rejected.reason) == ("b", "a", "image.exif_orientation")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"10,20,50,22,48,40,9", "schema"),
        (b"10,20,50,22,48,40,nine,38,Exit", "schema"),
        (b"10,20,50,22,48,40,9,38,\xff\xfe", "schema"),
        (b"10,20,50,22,48,40,nan,38,Exit", "polygon.invalid"),
        (b"10,20,50,22,48,40,1e400,38,Exit", "polygon.invalid"),
        (b"10,20,50,22,48,40,99999999,38,Exit", "polygon.invalid"),
        (b"\0\0\0", "schema"),
    ],
)
def test_a_line_that_is_no_word_is_rejected_and_ignored(tmp_path: Path, line: bytes, reason: str) -> None:
    root = _folder(tmp_path, a=LINE.encode() + b"\n" + line)

    (found,), (rejected,) = _split(root)

    assert (rejected.key, rejected.reason, rejected.origin.record) == ("a.line 2", reason, "line 2")
    assert [(item.id, item.ignore, item.box is None) for item in found.instances] == [
        ("1", False, False),
        ("2", True, True),
    ]


def test_other_bytes_are_read_as_the_spec_says(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, a=f"{LINE}\xe9".encode("latin-1")), encoding="latin-1")

    assert rejected == []
    assert found.instances[0].text == "Exité"


def test_an_empty_file_is_a_picture_without_text(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, a=""))

    assert (found.instances, found.exhaustive, rejected) == ((), True, [])


@pytest.mark.parametrize("folder", ["gt", "missing", "../elsewhere"])
def test_a_folder_without_text_files_is_an_error(tmp_path: Path, folder: str) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(_folder(tmp_path), annotations=folder)


@pytest.mark.parametrize(
    "columns", [[], ["quad"], ["text", "quad"], ["quad", "rect", "text"], ["quad", "text", "text"]]
)
def test_columns_that_no_line_can_have_are_refused(columns: list[str]) -> None:
    with pytest.raises(msgspec.ValidationError, match="columns"):
        msgspec.convert({"annotations": "gt", "columns": columns}, Source)


@given(data=st.binary(max_size=80))
@settings(deadline=None, max_examples=60)
def test_no_line_of_any_bytes_raises(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    root = _folder(tmp_path_factory.mktemp("x"), a=b"1,2,3,2,3,4,1,4,a\n" + data)

    (found,), rejected = _split(root)

    assert found.instances[0].text
    assert len(rejected) == sum(item.box is None for item in found.instances)


def test_real_files_of_2015(samples: Samples) -> None:
    root = samples("icdar2015_text")

    found, rejected = _split(root, annotations="", images="", prefix="")

    assert rejected == []
    assert [[item.text for item in one.instances] for one in found] == [
        ["Genaxis Theatre", "[06]", None, "62-03", "Carpark", None, None],
        ["EXIT", "I2R"],
    ]
    assert found[0].instances[0].box == (377, 117, 465, 130)
    assert all(item.mask is not None for one in found for item in one.instances)
    assert labels(Source(annotations=""), root).names == ("text",)
