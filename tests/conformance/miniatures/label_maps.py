"""Label maps: pictures beside maps with a block of each number or colour that the spec names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from PIL import Image as Pillow

from converters import path_patterns
from converters.formats.label_maps import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write

# Blocks that JPEG keeps apart.
BLOCK = 16


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures, each with a map of all classes."""
    pattern = getattr(source, source.each) if source.image_set is None else source.line
    lines = []
    pixels = _pixels(source)
    for number in (7, 8):
        parts = {word: f"{word}{number}" for word in path_patterns.fields(pattern)}
        parts |= {word: f"{word}/{number}.png" for word in ("image", "map") if word in parts}
        for place in (source.images, *source.before):
            draw(root / path_patterns.fill(place, parts), (pixels.shape[1], pixels.shape[0]))
        _save(root / path_patterns.fill(source.maps, parts), pixels, source.variable)
        lines.append(f"{path_patterns.fill(source.line, parts)}\n" if source.image_set is not None else "")
    if source.image_set is not None:
        write(root / source.image_set, "".join(lines))
    names = source.classes.values() if isinstance(source.classes, dict) else source.classes
    return Made(2, frozenset(name for name in names if name is not None), placed=False)


Map = np.ndarray[tuple[int, ...], np.dtype[Any]]


def _pixels(source: Source) -> Map:
    """Return a map with a block of each number that the spec names."""
    keys = list(source.classes) if isinstance(source.classes, dict) else list(range(len(source.classes)))
    found = [str(key) for key in (*keys, *source.ignore)]
    if source.encoding == "color":
        row = np.array([[[int(key[at : at + 2], 16) for at in (1, 3, 5)] for key in found]], np.uint8)
    elif source.encoding == "binary":
        row = np.array([[255 * int(key) for key in found]], np.uint8)
    elif source.encoding == "index":
        kind = np.uint8 if source.objects is None else np.uint16
        row = np.array([[_number(int(key), source) for key in found]], kind)
    else:
        row = np.zeros((1, len(found), 3), np.uint8)
        row[0, :, ("red", "green", "blue").index(source.encoding)] = [int(key) for key in found]
    return row.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def _number(key: int, source: Source) -> int:
    """Return what stands in a map for a class: where the map tells objects apart, for the first object of it."""
    if source.objects is None:
        return key
    return key * source.objects + (1 if key and key not in source.ignore else 0)


def _save(path: Path, pixels: Map, variable: str | None) -> None:
    data = io.BytesIO()
    if variable is not None:
        value: Any = pixels
        for name in reversed(variable.split(".")):
            value = {name: value}
        scipy.io.savemat(data, value)
        write(path, data.getvalue())
        return
    kind = {".jpg": "jpeg", ".bmp": "bmp", ".gif": "gif", ".tif": "tiff"}.get(path.suffix.lower(), "png")
    Pillow.fromarray(pixels).save(data, kind, **({"quality": 95} if kind == "jpeg" else {}))
    write(path, data.getvalue())
