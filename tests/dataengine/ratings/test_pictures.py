"""Ratings of pictures, on real photographs and on defects that are put there."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from dataengine.errors import Quarantine
from dataengine.images import grey
from dataengine.ratings.pictures import LONGEST, PictureRatings, rate, rate_pixels

skdata = pytest.importorskip("skimage.data")


def _photo(name: str) -> Image.Image:
    return Image.fromarray(getattr(skdata, name)()).convert("RGB")


def _encoded(picture: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, kind, **options)
    return sink.getvalue()


@pytest.mark.parametrize(("width", "height"), [(640, 427), (255, 100), (2048, 1536), (3, 900), (1, 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_copy_is_as_long_as_said_and_of_the_same_shape(width: int, height: int, kind: str) -> None:
    copy = grey(_encoded(Image.new("RGB", (width, height), (90, 90, 90)), kind), LONGEST)

    longest = max(width, height)
    scale = min(LONGEST / longest, 1)
    assert copy.shape == (max(1, round(height * scale)), max(1, round(width * scale)))
    assert set(np.unique(copy)) <= {89, 90, 91}


def test_a_turned_jpeg_is_rated_upright() -> None:
    photo = _photo("coffee")
    exif = Image.Exif()
    exif[0x0112] = 6
    sink = io.BytesIO()
    photo.save(sink, "JPEG", quality=92, exif=exif)

    assert grey(sink.getvalue(), LONGEST).shape == (LONGEST, round(LONGEST * photo.height / photo.width))


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_sharpness_hardly_depends_on_size_and_format(name: str) -> None:
    photo = _photo(name)
    half = photo.resize((photo.width * 3 // 4, photo.height * 3 // 4), Image.Resampling.LANCZOS)

    found = [rate(_encoded(one, kind)).sharpness for one in (photo, half) for kind in ("PNG", "JPEG")]

    assert max(found) < 1.5 * min(found)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_a_blur_costs_sharpness_and_the_more_the_stronger(name: str) -> None:
    photo = _photo(name)

    found = [rate(_encoded(photo.filter(ImageFilter.GaussianBlur(by)))).sharpness for by in (0, 3, 8)]

    assert found[0] > 4 * found[1] > 8 * found[2]


def test_exposure_and_spread_are_those_of_the_pixels() -> None:
    pixels = np.full((100, 200), 128, np.uint8)
    pixels[:, :20], pixels[:, 20:50] = 0, 255

    found = rate_pixels(pixels)

    assert found.dark == pytest.approx(0.1)
    assert found.bright == pytest.approx(0.15)
    assert found.brightness == pytest.approx((0.15 * 255 + 0.75 * 128) / 255)
    assert found.spread == pytest.approx(float(pixels.std()))
    flat = rate_pixels(np.full((100, 200), 77, np.uint8))
    assert flat == PictureRatings(0, flat.brightness, 0, 0, 0, 0)
    assert flat.brightness == pytest.approx(77 / 255)


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (64, 3), (63, 63)])
def test_tiny_pictures_are_rated(shape: tuple[int, int]) -> None:
    found = rate_pixels(np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape))

    assert found.watermark_like == 0
    assert all(np.isfinite(found))


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(Quarantine):
        rate(b"no picture")


def _marked(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Lay a text over a photo again and again, turned, faintly, as sellers of pictures do."""
    text = rng.choice(["stockphoto", "SAMPLE", "image bank", "preview only"])
    size = max(12, int(max(photo.size) * rng.uniform(0.04, 0.08)))
    font = ImageFont.load_default(size)
    width, height = photo.size
    sheet = Image.new("RGBA", (2 * width, 2 * height))
    pen = ImageDraw.Draw(sheet)
    across = int(pen.textlength(text, font=font) * rng.uniform(1.2, 1.8))
    for number, y in enumerate(range(0, 2 * height, int(size * rng.uniform(2.5, 5)))):
        for x in range(-(across // 2) * (number % 2), 2 * width, across):
            pen.text((x, y), text, font=font, fill=(255, 255, 255, int(255 * rng.uniform(0.3, 0.5))))
    sheet = sheet.rotate(rng.choice([0, 30, -30, 45]), resample=Image.Resampling.BILINEAR)
    cut = sheet.crop((width // 2, height // 2, width // 2 + width, height // 2 + height))
    return Image.alpha_composite(photo.convert("RGBA"), cut).convert("RGB")


def test_most_repeated_marks_are_found_and_few_photographs_are_taken_for_marked(
    samples_dir: Callable[[str], Path],
) -> None:
    """Bounds with room: docs/curate.md has the numbers of more pictures."""
    rng = random.Random(5)
    paths = sorted(samples_dir("voc2007_2012_det").rglob("*.jpg"))
    paths += sorted(samples_dir("mantis_instruct").rglob("coco/**/*.jpg"))
    clean, marked = [], []
    for path in paths:
        photo = Image.open(path).convert("RGB")
        clean.append(rate(path.read_bytes()).watermark_like > 6)
        marked.append(rate(_encoded(_marked(photo, rng), "JPEG", quality=90)).watermark_like > 6)

    assert len(paths) >= 20
    assert sum(clean) <= 0.1 * len(paths)
    assert sum(marked) >= 0.5 * len(paths)
