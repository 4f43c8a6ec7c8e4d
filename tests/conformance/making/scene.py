"""What every miniature shows: small real pictures, and objects whose places and classes are known."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow

from dataengine.annotation import Annotation, Box, Image, Instance, Label, LabelSpace, Origin
from dataengine.geometry import rle_from_polygons
from dataengine.images import EXTENSIONS
from dataengine.modules import load_writer
from dataengine.spec import Resolved

WIDTH, HEIGHT = 48, 40
# Classes of a source that states its own: a spec that names them in another way has a label space.
CLASSES = ("red thing", "blue thing", "green thing")


class Made(NamedTuple):
    """What a miniature holds: `items` records, and the words (classes, answers, sentences) that must come back.

    `placed` says that every object with a box stands at the place that `box_of` gives for one of three numbers.
    """

    items: int
    words: frozenset[str]
    placed: bool = True


@cache
def picture(
    ending: str, size: tuple[int, int] = (WIDTH, HEIGHT), mode: str = "RGB", shade: int = 128
) -> bytes:
    """Return a picture of (width, height) in the format that a file's ending names."""
    kind = EXTENSIONS.get(ending.lower().removeprefix("."), "png")
    data = io.BytesIO()
    color = (shade, 128, 128) if mode == "RGB" else shade
    made = Pillow.new(mode, size, color)
    made.save(data, "jpeg" if kind == "jpeg" else kind)
    return data.getvalue()


def draw(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), mode: str = "RGB", shade: int = 128) -> None:
    """Write a picture, with the folders above it."""
    write(path, picture(path.suffix, size, mode, shade))


def write(path: Path, data: bytes | str) -> None:
    """Write a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def box_of(number: int) -> Box:
    """Return the place of a picture's object by its number: whole pixels, apart from the others."""
    left = 3.0 + 15 * number
    return (left, 6.0 + number, left + 12, 26.0 + number)


def corners(box: Box) -> tuple[float, float, float, float, float, float, float, float]:
    """Return the four corners of a box, clockwise from the upper left."""
    x0, y0, x1, y1 = box
    return (x0, y0, x1, y0, x1, y1, x0, y1)


def objects(categories: Sequence[str], **facts: Any) -> tuple[Instance, ...]:
    """Return an object with box and mask for each category."""
    return tuple(
        Instance(
            id=str(number),
            category=category,
            box=box_of(number),
            mask=rle_from_polygons([corners(box_of(number))], WIDTH, HEIGHT),
            **facts,
        )
        for number, category in enumerate(categories)
    )


def annotation(path: str, **facts: Any) -> Annotation:
    """Return the annotation of a picture of the usual size."""
    return Annotation(
        key=path,
        images=(Image(path=path, width=WIDTH, height=HEIGHT),),
        origin=Origin(file="miniature", record=path),
        **facts,
    )


def classes_of(spec: Resolved, declared: Sequence[str] = ()) -> tuple[str, ...]:
    """Return up to three classes as the source writes them: declared ones, codes of the label space, or our own."""
    if declared:
        return tuple(declared[:3])
    if spec.labels is not None:
        return tuple(label.codes[0] if label.codes else label.name for label in spec.labels.labels[:3])
    return CLASSES


def named(spec: Resolved, category: str) -> str:
    """Return a class as samples name it."""
    return spec.labels.codes.get(category, category) if spec.labels is not None else category


def space(categories: Sequence[str]) -> LabelSpace:
    """Return the label space of some categories."""
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in categories))


def drawn(spec: Resolved, categories: Sequence[str], ending: str = "jpg") -> list[Annotation]:
    """Return four pictures: one with all of the classes, one each with the first and the last, and one with none."""
    shown = (tuple(categories), tuple(categories[:1]), tuple(categories[-1:]), ())
    return [
        annotation(f"{number}.{ending}", instances=objects([named(spec, one) for one in names]))
        for number, names in enumerate(shown, start=1)
    ]


def words_of(spec: Resolved, categories: Sequence[str]) -> frozenset[str]:
    """Return the names that some classes must come back under."""
    return frozenset(named(spec, one) for one in categories)


def written(
    format_name: str, annotations: Sequence[Annotation], categories: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Write annotations with the writer of a format into a new folder; return the source keys that it gives."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = load_writer(format_name, "miniature").write(annotations, space(categories), folder).source
    assert keys is not None
    return keys


def move(source: Path, target: Path) -> None:
    """Move a file or a folder to where a spec looks for it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def png(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    """Write pixels as a PNG file, whatever its name ends with."""
    data = io.BytesIO()
    Pillow.fromarray(pixels).save(data, "png")
    write(path, data.getvalue())
