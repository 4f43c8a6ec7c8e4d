from __future__ import annotations

import io
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from dataengine.annotation import Measure
from dataengine.errors import Quarantine
from dataengine.images import MAX_PIXELS, Pixels, Probe, decode, measured, numbers, probe, reduction, show

RED, GREEN, BLUE, WHITE = (220, 20, 20), (20, 200, 20), (20, 20, 220), (255, 255, 255)


def corners(width: int = 24, height: int = 16) -> Pixels:
    """A picture whose four quarters tell every turn and mirror apart."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = RED
    pixels[: height // 2, width // 2 :] = GREEN
    pixels[height // 2 :, : width // 2] = BLUE
    pixels[height // 2 :, width // 2 :] = WHITE
    return pixels


def encode(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def refused(data: bytes | Path) -> str:
    """Return the reason for which a picture is refused."""
    with pytest.raises(Quarantine) as caught:
        decode(data) if isinstance(data, bytes) else probe(data)
    return caught.value.reason


@pytest.mark.parametrize(
    ("file_format", "name", "options"),
    [
        ("JPEG", "jpeg", {"quality": 95, "subsampling": 0}),
        ("JPEG", "jpeg", {"quality": 95, "progressive": True, "subsampling": 0}),
        ("PNG", "png", {}),
        ("WEBP", "webp", {"lossless": True}),
        ("BMP", "bmp", {}),
        ("TIFF", "tiff", {"compression": "tiff_lzw"}),
        ("GIF", "gif", {}),
    ],
)
def test_every_format_gives_its_size_and_its_pixels(
    file_format: str, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    pixels = corners()
    data = encode(Image.fromarray(pixels), file_format, **options)
    (tmp_path / "picture").write_bytes(data)

    found = decode(data)

    assert (probe(data).width, probe(data).height, probe(data).format) == (24, 16, name)
    assert probe(tmp_path / "picture") == probe(data)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - pixels).max() <= (12 if name == "jpeg" else 0)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_seen_as_its_orientation_says(file_format: str, orientation: int) -> None:
    pixels = corners()
    # EXIF 2.3, tag 0x0112: where row 0 and column 0 of the stored picture stand in the one to be seen.
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: pixels.transpose(1, 0, 2)[:, ::-1],
        7: pixels.transpose(1, 0, 2)[::-1, ::-1],
        8: pixels.transpose(1, 0, 2)[::-1],
    }[orientation]
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {}
    options |= {"lossless": True} if file_format == "WEBP" else {}

    data = encode(Image.fromarray(pixels), file_format, exif=exif(orientation), **options)

    header, found = probe(data), decode(data)
    assert header.orientation == orientation
    assert found.shape == (header.height, header.width, 3) == upright.shape
    assert np.abs(found.astype(int) - upright).max() <= 12


def photograph(width: int, height: int) -> Image.Image:
    """Soft shapes, as cameras see them, that tell every turn apart."""
    coarse = np.random.default_rng(5).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_whole_jpeg_is_what_pillow_makes_of_it(
    orientation: int, subsampling: int, progressive: bool
) -> None:
    options = {"subsampling": subsampling, "progressive": progressive, "exif": exif(orientation)}
    data = encode(photograph(123, 77), "JPEG", quality=80, **options)

    pillow = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))

    assert np.array_equal(decode(data), pillow)
    assert decode(data).flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("at_least", "by"), [((40, 60), 4), ((41, 1), 2), ((1, 61), 2), ((81, 1), 1), ((9, 9), 8)]
)
def test_a_jpeg_is_decoded_smaller_where_less_is_needed(
    orientation: int, at_least: tuple[int, int], by: int
) -> None:
    # To be seen 160 pixels high and 240 wide.
    size = (160, 240) if orientation >= 5 else (240, 160)
    data = encode(photograph(*size), "JPEG", quality=90, exif=exif(orientation))
    whole = decode(data)

    found = decode(data, at_least)

    assert whole.shape == (160, 240, 3)
    assert found.shape == (160 // by, 240 // by, 3)
    means = whole.reshape(160 // by, by, 240 // by, by, 3).mean(axis=(1, 3))
    assert np.abs(found - means).mean() < 5


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 2000), st.integers(1, 2000))
@example(1920, 1080, 448, 448)
def test_no_reduction_goes_below_what_is_needed_or_shifts_a_pixel(
    height: int, width: int, high: int, wide: int
) -> None:
    by = reduction(height, width, (high, wide))

    fits = [one for one in (2, 4, 8) if height % one == width % one == 0 and height // one >= high]
    assert by == max((one for one in fits if width // one >= wide), default=1)


def test_only_a_jpeg_comes_smaller() -> None:
    picture = photograph(160, 120)

    assert decode(encode(picture, "PNG"), (10, 10)).shape == (120, 160, 3)
    assert show(encode(picture, "JPEG"), None, (30, 40)).shape == (30, 40, 3)
    with pytest.raises(Quarantine, match=r"image\.corrupt"):
        decode(encode(picture, "JPEG")[:-400], (30, 40))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    data = encode(Image.fromarray(corners()), "JPEG", exif=exif(orientation), quality=95, subsampling=0)

    assert probe(data).orientation == 1
    assert np.abs(decode(data).astype(int) - corners()).max() <= 12


@pytest.mark.parametrize("late", [False, True])
def test_header_and_pixels_agree_wherever_a_png_keeps_its_orientation(late: bool) -> None:
    data = encode(Image.fromarray(corners()), "PNG")
    told = chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0"))
    cut = data.index(b"IEND" if late else b"IDAT") - 4

    turned = data[:cut] + told + data[cut:]

    assert (probe(turned).width, probe(turned).height, probe(turned).orientation) == (16, 24, 6)
    assert (decode(turned) == corners().transpose(1, 0, 2)[:, ::-1]).all()


def test_the_header_of_a_png_is_read_without_its_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), np.uint8)
    data = encode(Image.fromarray(noise), "PNG", compress_level=1)

    start = time.process_time()
    for _ in range(10):
        probe(data)
    ten_probes_s = time.process_time() - start
    start = time.process_time()
    decode(data)
    one_decode_s = time.process_time() - start

    assert ten_probes_s < one_decode_s


def test_what_follows_the_end_of_a_png_is_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.new("RGB", (24, 16)), "PNG"))
    with path.open("ab") as file:
        file.truncate(1 << 40)  # blocks that take no room, and would take hours

    assert (probe(path).width, probe(path).height) == (24, 16)


def test_what_is_transparent_stands_on_white() -> None:
    rgba = np.dstack([corners(), np.full((16, 24), 255, np.uint8)])
    rgba[:8, :12, 3] = 0
    rgba[:8, 12:, 3] = 128
    palette = Image.fromarray(corners()).quantize(4)
    red = palette.getpixel((0, 0))

    found = decode(encode(Image.fromarray(rgba), "PNG"))
    indexed = decode(encode(palette, "PNG", transparency=red))

    assert (found[:8, :12] == WHITE).all()
    assert np.abs(found[0, 20].astype(int) - (np.array(GREEN) + 255) // 2).max() <= 2
    assert (found[8:] == corners()[8:]).all()
    assert (indexed[:8, :12] == WHITE).all()
    assert (indexed[8:, :12] == BLUE).all()


def test_gray_and_deep_pictures_keep_their_brightness() -> None:
    ramp = np.linspace(0, 255, 24).astype(np.uint8)[None, :].repeat(16, axis=0)
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)

    for data in (encode(Image.fromarray(ramp), "PNG"), encode(deep, "PNG"), encode(deep, "TIFF")):
        assert np.abs(decode(data).astype(int) - ramp[:, :, None]).max() <= 1


def test_floating_point_pixels_are_scaled_to_their_brightest_even_where_one_is_no_number() -> None:
    values = np.full((4, 4), 0.25, np.float32)
    values[0, 0] = 0.5

    found = decode(encode(Image.fromarray(values), "TIFF"))

    assert found[0, 0].tolist() == [255] * 3
    assert found[3, 3].tolist() == [127] * 3


def test_a_print_jpeg_is_decoded_to_rgb() -> None:
    data = encode(Image.fromarray(corners()).convert("CMYK"), "JPEG", quality=95)

    assert np.abs(decode(data).astype(int) - corners()).mean() < 12


def test_the_first_picture_of_an_animation_is_taken() -> None:
    first, second = Image.fromarray(corners()), Image.new("RGB", (24, 16), BLUE)

    data = encode(first, "GIF", save_all=True, append_images=[second])

    assert (decode(data) == corners()).all()


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"])
def test_what_is_no_picture_is_corrupt(data: bytes) -> None:
    assert refused(data) == "image.corrupt"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_picture_that_ends_early_is_corrupt(file_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    data = encode(Image.fromarray(noise), file_format)

    assert refused(data[: len(data) // 2]) == "image.corrupt"


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.jpg") == "image.missing"
    assert refused(tmp_path) == "image.corrupt"


def test_a_format_that_pillow_knows_but_we_do_not_is_refused() -> None:
    assert refused(encode(Image.fromarray(corners()), "PPM")) == "image.format"


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (MAX_PIXELS + 1, 1)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")

    assert refused(data) == "image.too_large"


def test_a_text_chunk_that_unpacks_without_end_is_refused() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * (4 * 2**20), zip=True)
    data = encode(Image.new("RGB", (4, 4)), "PNG", pnginfo=info)

    assert len(data) < 2**14
    assert refused(data) == "image.corrupt"


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damaged_bytes_give_pixels_or_a_reason_and_never_a_crash(
    file_format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(5)
    whole = encode(Image.fromarray(corners(40, 30)), file_format)
    reasons = set()

    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3, 12))):
            place = rng.randrange(min(len(data), rng.choice((40, 300, len(data)))))
            match rng.randrange(3):
                case 0:
                    data[place] = rng.randrange(256)
                case 1:
                    del data[place : place + 3]
                case 2:
                    data[place:place] = rng.randbytes(4)
        try:
            header = probe(bytes(data))
            if header.width * header.height < 1_000_000:
                assert decode(bytes(data)).shape == (header.height, header.width, 3)
        except Quarantine as error:
            reasons.add(error.reason)

    assert reasons <= {"image.corrupt", "image.too_large", "image.format"}
    assert "image.corrupt" in reasons


DEPTH = Measure(quantity="depth", unit="m", scale=256, invalid=(0,))


def grey16(*rows: list[int]) -> bytes:
    return encode(Image.fromarray(np.array(rows, np.uint16)), "PNG")


def test_the_numbers_of_a_picture_are_those_that_it_stores() -> None:
    stored = numbers(grey16([0, 1, 65535], [256, 257, 511]))

    assert stored.tolist() == [[0, 1, 65535], [256, 257, 511]]
    assert numbers(encode(Image.fromarray(corners()), "PNG")).tolist() == corners().tolist()
    turned = numbers(encode(Image.fromarray(np.array([[1, 2], [3, 4]], np.uint8)), "PNG", exif=exif(3)))
    assert turned.tolist() == [[4, 3], [2, 1]]


def test_a_measure_makes_values_of_numbers_and_says_which_are_valid() -> None:
    values, valid = measured(grey16([0, 256, 384]), DEPTH)

    assert values.tolist() == [[0.0, 1.0, 1.5]] and valid.tolist() == [[False, True, True]]


def test_numbers_that_were_turned_are_turned_back() -> None:
    # Turned by three bits to the left, as SUN RGB-D stores them: the highest bits come in from below.
    turned = [(number << 3 | number >> 13) & 65535 for number in (2344, 40001)]

    values, _ = measured(grey16(turned), Measure(quantity="depth", unit="m", rotated=3))

    assert values.tolist() == [[2344.0, 40001.0]]


def test_a_vector_has_three_channels_and_is_invalid_where_all_of_them_are() -> None:
    normal = Measure(quantity="normal", unit="none", scale=127.5, offset=-1, invalid=(0,))
    pixels = np.array([[(0, 0, 0), (255, 0, 0)]], np.uint8)

    values, valid = measured(encode(Image.fromarray(pixels), "PNG"), normal)

    assert values.tolist() == [[[-1.0, -1.0, -1.0], [1.0, -1.0, -1.0]]] and valid.tolist() == [[False, True]]
    assert show(encode(Image.fromarray(pixels), "PNG"), normal).tolist() == pixels.tolist()


@pytest.mark.parametrize(
    ("data", "measure"),
    [
        (encode(Image.fromarray(corners()), "PNG"), DEPTH),
        (grey16([1, 2]), Measure(quantity="normal", unit="none")),
        (
            encode(Image.fromarray(np.zeros((2, 2), np.uint8)), "PNG"),
            Measure(quantity="depth", unit="m", rotated=3),
        ),
    ],
)
def test_a_picture_that_cannot_hold_the_numbers_is_quarantined(data: bytes, measure: Measure) -> None:
    with pytest.raises(Quarantine) as caught:
        measured(data, measure)

    assert caught.value.reason == "map.encoding"


def test_depth_is_shown_from_dark_to_bright_with_invalid_pixels_black() -> None:
    # Metric depth of 16 bits lies in the lowest of 255 steps: shown as it is stored, it would be black.
    ramp = list(range(1000, 1100))

    shown = show(grey16([0, *ramp]), DEPTH)[0, :, 0].astype(int)

    assert shown[0] == 0 and shown[1] == 1 and shown[-1] == 255
    assert (np.diff(shown[1:]) >= 0).all() and len(set(shown.tolist())) > 90
    assert decode(grey16(ramp)).max() == 4
    assert show(grey16([0, 0]), DEPTH).max() == 0


def _small_jpegs() -> list[bytes]:
    picture = Image.fromarray(corners())
    plain: list[dict[str, Any]] = [
        {}, {"progressive": True}, {"comment": b"hello"}, {"dpi": (72, 72)}, {"optimize": True, "quality": 5},
    ]  # fmt: skip
    odd: list[dict[str, Any]] = [{"exif": exif(6)}, {"icc_profile": b"x" * 300}]
    made = [encode(picture, "JPEG", **options) for options in plain + odd]
    return [*made, *(encode(picture.convert(mode), "JPEG") for mode in ("L", "CMYK"))]


SMALL_JPEGS = _small_jpegs()
BYTES = st.sampled_from([0, 1, 2, 3, 4, 8, 15, 16, 0xC0, 0xC3, 0xD8, 0xDA, 0xE1, 0xFF]) | st.integers(0, 255)


@given(
    number=st.integers(0, len(SMALL_JPEGS) - 1),
    changes=st.lists(
        st.tuples(st.integers(3, 640), st.sampled_from(["put", "cut", "end"]), BYTES), max_size=3
    ),
)
@example(number=0, changes=[(24, "put", 16)])  # a table of 16 bits that is too short for them
@example(number=0, changes=[(23, "put", 0x41), (30, "cut", 1)])  # a table that ends early
@settings(deadline=None, max_examples=150)
def test_a_jpegs_header_says_what_pillow_reads_in_it(
    number: int, changes: list[tuple[int, str, int]]
) -> None:
    data = bytearray(SMALL_JPEGS[number])
    for place, change, value in changes:
        data[place : {"put": place + 1, "cut": place + 3, "end": len(data)}[change]] = bytes([value])
    # A colour profile that is none means nothing, and leaves the picture to Pillow.
    left_to_pillow = data[:2] + b"\xff\xe2\x00\x04ab" + data[2:]

    assert _told(bytes(data)) == _told(bytes(left_to_pillow))


def _told(data: bytes) -> Probe | str:
    try:
        return probe(data)
    except Quarantine as error:
        return error.reason
