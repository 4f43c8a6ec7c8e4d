"""What planters share: what one is, and the places and changes that several of them choose."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.dataengine.audit.planted_corpora import Corpus, Row

SUBJECT = ""


class Planted(NamedTuple):
    """Where a defect is: a key, picture, record or sample (SUBJECT: the whole), and what the finding has to say."""

    place: str
    says: str = ""


class Planter(NamedTuple):
    """What plants a rule's defect, in which data."""

    rule: str
    plant: Callable[[Any, random.Random], Planted]


def an_object(corpus: Corpus, chance: random.Random, kind: str = "objects") -> tuple[Row, Row]:
    """Return a row with nothing planted and one of its objects."""
    row = corpus.take(chance, lambda one: one[kind])
    return row, chance.choice(row[kind])


def a_sentence(corpus: Corpus, chance: random.Random) -> tuple[Row, Row, str]:
    """Return a row, and where a sentence of it stands: what holds it, and the key."""
    row = corpus.take(chance, lambda one: one["captions"] or one["edits"])
    places = [(one, "text") for kind in ("captions", "expressions", "questions") for one in row[kind]]
    places += [(one, "instruction") for one in row["edits"]]
    holder, key = chance.choice(places)
    return row, holder, key


def a_text(corpus: Corpus, chance: random.Random) -> tuple[Row, Row, str]:
    """Return a row, and where a sentence, an answer's choice, a turn or a word of it stands."""
    row, holder, key = a_sentence(corpus, chance)
    if row["dialogs"] and chance.random() < 0.3:
        return row, chance.choice(row["dialogs"][0]["turns"][1:]), "text"
    return row, holder, key


def insert(text: str, piece: str, chance: random.Random) -> str:
    """Return a text with a word between two of its words."""
    words = text.split(" ")
    place = chance.randrange(1, len(words) + 1)
    return " ".join([*words[:place], piece, *words[place:]])


def changed(
    corpus: Corpus, chance: random.Random, change: Callable[[str], str], pick: Callable[..., Any] = a_text
) -> Planted:
    """Change a text of some row."""
    row, holder, key = pick(corpus, chance)
    holder[key] = change(holder[key])
    return Planted(row["key"])


def pixels_of(corpus: Corpus, image: Row) -> Image.Image:
    with Image.open(corpus.folder / image["path"]) as picture:
        return picture.convert("RGB")


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def redrawn(
    corpus: Corpus, chance: random.Random, change: Callable[[Image.Image], bytes], suffix: str = ""
) -> Planted:
    """Put what is made of a picture in its place."""
    row = corpus.take(chance, lambda one: len(one["images"]) == 1)
    corpus.picture(row["images"][0], change(pixels_of(corpus, row["images"][0])), suffix)
    return Planted(row["images"][0]["path"])


def resized(
    corpus: Corpus, chance: random.Random, size: tuple[int, int], data: bytes, suffix: str
) -> Planted:
    """Put a picture of another size in the place of one without objects, and state its size."""
    row = corpus.bare(chance)
    row["images"][0].update(width=size[0], height=size[1])
    corpus.picture(row["images"][0], data, suffix)
    return Planted(row["images"][0]["path"])


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    step = 16 if width * height > 10_000 else 1
    pixels = np.random.default_rng(seed).integers(0, 256, (-(-height // step), -(-width // step), 3))
    return Image.fromarray(pixels.astype(np.uint8)).resize((width, height))
