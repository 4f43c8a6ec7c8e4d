"""Defects of pictures as files."""

from __future__ import annotations

import random
import struct
import zlib

import numpy as np
from PIL import Image

from tests.dataengine.audit.planted_corpora import SIDE, Corpus
from tests.dataengine.audit.planting import (
    Planted,
    encoded,
    noise,
    pixels_of,
    redrawn,
    resized,
)


def missing(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: len(one["images"]) == 1)
    (corpus.folder / row["images"][0]["path"]).unlink()
    return Planted(row["images"][0]["path"])


def corrupt(corpus: Corpus, chance: random.Random) -> Planted:
    def change(picture: Image.Image) -> bytes:
        data = encoded(picture, chance.choice(("PNG", "JPEG")))
        return data[: chance.randrange(12, len(data) - 30)]

    return redrawn(corpus, chance, change, chance.choice((".png", ".jpg", ".bin")))


def too_large(corpus: Corpus, chance: random.Random) -> Planted:
    side = chance.randrange(20_000, 2**31)
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    # The rest is that of a small picture, whose header ends at byte 33.
    return redrawn(
        corpus, chance, lambda picture: b"\x89PNG\r\n\x1a\n" + chunk + encoded(picture, "PNG")[33:]
    )


def other_format(corpus: Corpus, chance: random.Random) -> Planted:
    kind, suffix = chance.choice(
        (("JPEG", ".png"), ("WEBP", ".png"), ("PNG", ".jpg"), ("BMP", ".jpeg"), ("PNG", ".webp"))
    )
    return redrawn(corpus, chance, lambda picture: encoded(picture, kind), suffix)


def turned(corpus: Corpus, chance: random.Random) -> Planted:
    exif = Image.Exif()
    exif[0x0112] = chance.randrange(2, 9)
    return redrawn(corpus, chance, lambda picture: encoded(picture, "JPEG", exif=exif), ".jpg")


def unread_format(corpus: Corpus, chance: random.Random) -> Planted:
    return redrawn(
        corpus, chance, lambda picture: encoded(picture, chance.choice(("PPM", "TGA", "PCX", "ICO"))), ".pic"
    )


def cmyk(corpus: Corpus, chance: random.Random) -> Planted:
    return redrawn(corpus, chance, lambda picture: encoded(picture.convert("CMYK"), "JPEG"), ".jpg")


def sixteen_bit(corpus: Corpus, chance: random.Random) -> Planted:
    def change(picture: Image.Image) -> bytes:
        # The channel that shows most.
        grey = max(map(np.asarray, picture.split()), key=lambda pixels: pixels.std())
        return encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")

    return redrawn(corpus, chance, change)


def palette(corpus: Corpus, chance: random.Random) -> Planted:
    return redrawn(corpus, chance, lambda picture: encoded(picture.quantize(chance.choice((16, 200))), "PNG"))


def alpha(corpus: Corpus, chance: random.Random) -> Planted:
    def change(picture: Image.Image) -> bytes:
        seen = picture.copy()
        veil = Image.new("L", seen.size, 255)
        veil.putpixel((chance.randrange(SIDE), chance.randrange(SIDE)), chance.randrange(255))
        seen.putalpha(veil)
        return encoded(seen, "PNG")

    return redrawn(corpus, chance, change)


def animated(corpus: Corpus, chance: random.Random) -> Planted:
    kind, suffix = chance.choice((("GIF", ".gif"), ("WEBP", ".webp"), ("PNG", ".png")))

    def change(picture: Image.Image) -> bytes:
        more = [picture.rotate(90 * turn) for turn in range(1, chance.randrange(2, 4))]
        return encoded(picture, kind, save_all=True, append_images=more)

    return redrawn(corpus, chance, change, suffix)


def several_pages(corpus: Corpus, chance: random.Random) -> Planted:
    def change(picture: Image.Image) -> bytes:
        return encoded(picture, "TIFF", save_all=True, append_images=[picture.rotate(90)])

    return redrawn(corpus, chance, change, chance.choice((".tif", ".tiff")))


def tiny(corpus: Corpus, chance: random.Random) -> Planted:
    size = (chance.randrange(2, 16), chance.randrange(16, 30))
    size = size if chance.random() < 0.5 else (size[1], size[0])
    return resized(
        corpus, chance, size, encoded(noise(*size, seed=chance.randrange(9999)).rotate(1), "PNG"), ".png"
    )


def aspect(corpus: Corpus, chance: random.Random) -> Planted:
    size = (chance.randrange(16, 40), chance.randrange(841, 1000))
    size = size if chance.random() < 0.5 else (size[1], size[0])
    return resized(corpus, chance, size, encoded(noise(*size, seed=chance.randrange(9999)), "PNG"), ".png")


def size_extreme(corpus: Corpus, chance: random.Random) -> Planted:
    size = chance.choice(((850, 16_400), (16_400, 850)))
    data = encoded(noise(*size, seed=chance.randrange(9999)), "JPEG", quality=40)
    return resized(corpus, chance, size, data, ".jpg")


def blank(corpus: Corpus, chance: random.Random) -> Planted:
    def change(picture: Image.Image) -> bytes:
        color = np.array([chance.randrange(250) for _ in range(3)])
        pixels = color + np.random.default_rng(chance.randrange(9999)).integers(0, 6, (SIDE, SIDE, 1))
        return encoded(Image.fromarray(pixels.astype(np.uint8)), "PNG")

    return redrawn(corpus, chance, change)


def same_pixels(corpus: Corpus, chance: random.Random) -> Planted:
    row, other = (corpus.bare(chance) for _ in range(2))
    later, first = sorted((row, other), key=corpus.rows.index, reverse=True)
    kind, suffix = chance.choice((("PNG", ".png"), ("WEBP", ".webp"), ("BMP", ".bmp")))
    options = {"lossless": True} if kind == "WEBP" else {}
    corpus.picture(
        later["images"][0], encoded(pixels_of(corpus, first["images"][0]), kind, **options), suffix
    )
    return Planted(later["images"][0]["path"])


def depth_unit(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: len(one["images"]) == 2 and one["images"][1]["scale"])
    depth = row["images"][1]
    if chance.random() < 0.5:
        depth["scale"] = chance.choice((1, 1_000_000))
    else:
        data = corpus.folder / depth["path"]
        with Image.open(data) as picture:
            grey = Image.fromarray((np.asarray(picture) // 40).astype(np.uint8))
        corpus.picture(depth, encoded(grey, "PNG"))
    return Planted(depth["path"])


def unlicensed(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance)
    row["images"][0]["license"] = chance.choice(("", "unknown", "Unspecified", "none", "other"))
    return Planted(row["key"])
