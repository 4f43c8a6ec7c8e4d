from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from dataengine.annotation import Annotation, Edit, Image, Measure, Origin
from dataengine.audit.pictures import check_picture, duplicates
from dataengine.audit.report import write
from dataengine.audit.rule import Facts, Hit
from dataengine.audit.run import audit
from dataengine.audit.state import Audit
from dataengine.audit.table import ANNOTATION_RULES
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import Pixels, Stored, decode, probe, survey
from dataengine.shard import shard
from dataengine.spill import Rows

if TYPE_CHECKING:
    from tests.conftest import Tiny

DEPTH = Measure(quantity="depth", unit="m", scale=1000.0, invalid=(0,))


def _slope(width: int = 64, height: int = 48) -> Pillow.Image:
    """A picture that goes from dark to bright."""
    return Pillow.linear_gradient("L").resize((width, height)).convert("RGB")


def _file(picture: Pillow.Image, file_format: str = "PNG", **options: Any) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, file_format, **options)
    return sink.getvalue()


def _turned(orientation: int) -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    return _file(_slope(), "JPEG", exif=exif)


def _numbers(values: Any) -> bytes:
    return _file(Pillow.fromarray(np.asarray(values, np.uint16)))


def _rules(data: bytes, path: str, measure: Measure | None = None) -> list[str]:
    return [rule for rule, _ in check_picture(data, path, measure).found]


RAMP = np.arange(64 * 48).reshape(48, 64)
SEVERAL = {"save_all": True, "append_images": [_slope().rotate(180)]}
HALF_CLEAR = _slope().convert("RGBA")
HALF_CLEAR.putalpha(Pillow.linear_gradient("L").resize((64, 48)))


@pytest.mark.parametrize(
    ("path", "data", "rules"),
    [
        ("a.jpg", _file(_slope(), "JPEG"), []),
        ("a.JPEG", _file(_slope(), "JPEG"), []),
        ("a", _file(_slope()), []),
        ("a.png", _file(_slope()), []),
        ("a.webp", _file(_slope(), "WEBP"), []),
        ("a.jpg", _file(_slope().convert("L"), "JPEG"), []),
        ("a.jpg", _file(_slope(), "JPEG", progressive=True), []),
        ("a.jpg", _file(_slope()), ["image.format_vs_extension"]),
        ("a.jpg", _turned(6), ["image.exif_orientation"]),
        ("a.png", _turned(3), ["image.format_vs_extension", "image.exif_orientation"]),
        ("a.jpg", _file(_slope().convert("CMYK"), "JPEG"), ["image.cmyk"]),
        ("a.tif", _file(_slope().convert("CMYK"), "TIFF"), ["image.cmyk"]),
        ("a.png", _numbers(RAMP * 20), ["image.16bit"]),
        ("a.png", _file(_slope().quantize(64)), ["image.palette"]),
        ("a.gif", _file(_slope().quantize(64), "GIF"), []),
        ("a.png", _file(HALF_CLEAR), ["image.alpha"]),
        ("a.png", _file(_slope().convert("RGBA")), []),
        ("a.gif", _file(_slope(), "GIF", **SEVERAL), ["image.animated"]),
        ("a.webp", _file(_slope(), "WEBP", **SEVERAL), ["image.animated"]),
        ("a.png", _file(_slope(), "PNG", **SEVERAL), ["image.animated"]),
        ("a.tif", _file(_slope(), "TIFF", **SEVERAL), ["image.multi_page"]),
        ("a.tif", _file(_slope(), "TIFF"), []),
        ("a.png", _file(_slope(64, 15)), ["image.tiny"]),
        ("a.png", _file(_slope(28, 28)), []),
        ("a.png", _file(_slope(640, 31)), ["image.aspect"]),
        ("a.png", _file(_slope(640, 32)), []),
        ("a.png", _file(_slope(16_400, 1000), compress_level=1), ["image.size_extreme"]),
        ("a.png", _file(Pillow.new("RGB", (64, 48), (90, 90, 90))), ["image.blank"]),
        ("a.jpg", _file(Pillow.new("RGB", (64, 48), (90, 90, 90)), "JPEG"), ["image.blank"]),
        ("a.jpg", _file(_slope(), "JPEG")[:-200], ["image.corrupt"]),
        ("a.png", _file(_slope())[:-60], ["image.corrupt"]),
        ("a.jpg", b"<html>no such file</html>", ["image.corrupt"]),
    ],
)
def test_each_rule_of_pictures_is_hit_by_what_breaks_it_and_by_that_alone(
    path: str, data: bytes, rules: list[str]
) -> None:
    assert _rules(data, path) == rules


def test_sixteen_bits_of_colour_are_more_than_eight() -> None:
    # Pillow writes none: one grey row of 16-bit RGB by hand, through the filter of no filter.
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes(range(192)) for _ in range(32))
    head = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )

    assert _rules(data, "a.png") == ["image.16bit"]


@pytest.mark.parametrize(
    ("data", "measure", "rules"),
    [
        (_numbers(RAMP + 500), DEPTH, []),
        (_numbers(np.full((48, 64), 700)), DEPTH, []),
        (_numbers(np.zeros((48, 64))), DEPTH, []),
        (_numbers(RAMP // 64), DEPTH, ["depth.unit"]),
        (_numbers(RAMP + 9000), Measure(quantity="depth", unit="m"), ["depth.unit"]),
        (_numbers(RAMP + 9000), Measure(quantity="depth", unit="none"), []),
        (_numbers(RAMP), Measure(quantity="disparity", unit="px", scale=256), []),
        (_file(_slope().convert("L")), DEPTH, ["depth.unit"]),
        (_file(_slope()), DEPTH, ["depth.unit"]),
    ],
)
def test_depths_are_held_against_their_unit(data: bytes, measure: Measure, rules: list[str]) -> None:
    assert _rules(data, "a.png", measure) == rules


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([{}, {"progressive": True}, {"subsampling": 0, "restart_marker_rows": 1}]),
    st.integers(0, 255),
    st.floats(0.05, 1),
    st.booleans(),
)
def test_damage_is_found_in_the_small_copy_as_in_the_whole(
    options: dict[str, Any], byte: int, place: float, cut: bool
) -> None:
    data = bytearray(_file(Pillow.effect_noise((97, 61), 80).convert("RGB"), "JPEG", **options))
    at = int(place * (len(data) - 1))
    damaged = bytes(data[:at]) if cut else bytes(data[:at]) + bytes([byte]) + bytes(data[at + 1 :])

    assert _fails(_surveyed, damaged) == _fails(decode, damaged)


def _surveyed(data: bytes) -> tuple[Stored, Pixels]:
    return survey(data, probe(data))


def _fails(look: Callable[[bytes], object], data: bytes) -> bool:
    try:
        look(data)
    except Quarantine:
        return True
    return False


def test_the_small_copy_is_that_of_the_whole() -> None:
    whole = np.asarray(_slope(128, 96).convert("RGB"), np.float64)

    for data in (_file(_slope(128, 96)), _file(_slope(128, 96), "JPEG", quality=95)):
        small = _surveyed(data)[1]
        assert small.shape == (12, 16, 3)
        assert np.abs(whole.reshape(12, 8, 16, 8, 3).mean((1, 3)) - small).max() < 4


ORIGIN = Origin(file="f", record="r")


def _sizes_hits(first: tuple[int, int], second: tuple[int, int], **target: Any) -> list[str]:
    images = (Image(path="a.png"), Image(path="b.png", role="target", **target))
    edits = () if target else (Edit(id="1", instruction="make it blue", before=0, after=1),)
    facts = Facts(Annotation(key="1", images=images, edits=edits, origin=ORIGIN), [first, second])
    return [rule for rule, check in ANNOTATION_RULES for _ in check(facts)]


@pytest.mark.parametrize(
    ("first", "second", "rules"),
    [
        ((64, 48), (64, 48), []),
        ((64, 48), (256, 192), []),
        ((510, 339), (127, 84), []),
        ((64, 48), (48, 64), ["pair.misaligned"]),
        ((64, 48), (60, 48), ["pair.misaligned"]),
        ((512, 512), (256, 384), ["pair.misaligned"]),
    ],
)
def test_pictures_of_one_view_are_of_one_shape(
    first: tuple[int, int], second: tuple[int, int], rules: list[str]
) -> None:
    assert _sizes_hits(first, second) == rules
    assert _sizes_hits(second, first) == rules
    assert _sizes_hits(first, second, measure=DEPTH) == rules


def test_a_label_map_is_of_its_pictures_shape(tmp_path: Path) -> None:
    item = Annotation(key="1", images=(Image(path="a.png"),), maps={"semantic": "m.png"}, origin=ORIGIN)

    for size, rules in (((64, 48), []), ((64, 40), ["pair.misaligned"])):
        Pillow.new("L", size).save(tmp_path / "m.png")
        facts = Facts(item, [(64, 48)], root=Root(tmp_path))
        assert [rule for rule, check in ANNOTATION_RULES for _ in check(facts)] == rules


def test_a_picture_that_stands_twice_under_other_names_is_found(tiny: Tiny, tmp_path: Path) -> None:
    copy = tiny.root / "images/003.jpg"
    copy.write_bytes((tiny.root / "images/001.jpg").read_bytes())
    with Pillow.open(tiny.root / "images/002.png") as picture:
        picture.save(tiny.root / "images/004.png", compress_level=1)
    tiny.convert()
    shard([tiny.out], tmp_path / "s")

    for path in (tiny.out, tmp_path / "s"):
        assert [(finding.rule, finding.image, finding.detail) for finding in audit([path]).findings] == [
            ("image.duplicate_exact", "images/003.jpg", "images/003.jpg: has the pixels of images/001.jpg"),
            ("image.duplicate_exact", "images/004.png", "images/004.png: has the pixels of images/002.png"),
        ]


def test_pictures_that_differ_in_one_pixel_are_no_duplicates(tiny: Tiny) -> None:
    with Pillow.open(tiny.root / "images/002.png") as picture:
        picture.putpixel((5, 5), (1, 2, 3))
        picture.putpixel((6, 5), (3, 2, 1))
        picture.save(tiny.root / "images/004.png")
    tiny.convert()

    assert list(audit([tiny.out]).findings) == []


def test_pictures_whose_small_copies_agree_are_duplicates_only_if_all_pixels_do() -> None:
    coarse = Rows(2)
    for place, digest in enumerate([7, 5, 7, 0, 0, 7, 5]):
        coarse.add((digest, place))
    exact = [b"a", b"b", b"c", b"d", b"d", b"a", None]

    assert list(duplicates(coarse, lambda place: exact[place])) == [(5, 0)]


def test_a_jpeg_says_its_colours_without_pillow() -> None:
    data = _file(_slope().convert("L"), "JPEG")

    assert _surveyed(data)[0].mode == "L"
    assert simplejpeg.decode_jpeg_header(data)[2] == "Gray"


@pytest.mark.parametrize("side", [8, 15, 96])
def test_a_pattern_that_a_small_copy_does_not_show_is_not_blank(side: int) -> None:
    board = np.indices((side, side)).sum(axis=0) % 2 * 200

    found = _rules(_file(Pillow.fromarray(board.astype(np.uint8))), "a.png")

    assert "image.blank" not in found


def test_a_finding_is_one_line_whatever_a_name_holds(tmp_path: Path) -> None:
    state = Audit("here")

    state.add("image.tiny", Hit("a\nb\x1b[31m\udcff\u202e.png: 4 x 2"), image="a.png")

    assert [one.detail for one in state.findings] == [r"a\nb\x1b[31m\udcff\u202e.png: 4 x 2"]


def test_a_picture_larger_than_any_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}'
    )
    (tmp_path / "a.png").write_bytes(_file(_slope()))
    with (tmp_path / "a.png").open("ab") as file:
        file.truncate(1 << 40)

    report = audit([tmp_path / "a.json"], format_name="coco_instances", root=tmp_path)
    write(report, tmp_path / "report")

    assert "image.too_large" in [one.rule for one in report.findings]
