"""Classes in MATLAB files: structs with boxes, numbers of pictures with lists of a split, or files side by side."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from converters.formats.mat_classes import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import CLASSES, Made, box_of, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures of each of three classes."""
    names = source.labels or CLASSES
    numbers = [1, 1, 2, 2, 3, 3]
    files = [_file(source, names, place, number) for place, number in enumerate(numbers, start=1)]
    for file in files:
        draw(root / source.images / file)
    content: dict[str, Any] = {source.classes: np.array(numbers, np.uint8).reshape(-1, 1)}
    if source.rows is not None:
        keys = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
        x0, y0, x1, y1 = box_of(0)
        rows = [(x0 + 1, y0 + 1, x1, y1, number, file) for number, file in zip(numbers, files, strict=True)]
        content = {source.rows: np.array([rows], dtype=[(key, object) for key in keys])}
    elif source.files is not None:
        content[source.files] = np.array(files, object).reshape(-1, 1)
    _save(root / source.annotations, content)
    if source.ids is not None:
        _save(root / source.ids, {source.ids_of: np.arange(1, 7, dtype=np.uint16).reshape(1, -1)})
    if source.names is not None:
        _save(root / source.names, {source.names_of: np.array(CLASSES, object).reshape(1, -1)})
    return Made(len(files), frozenset(names[:3]))


def _file(source: Source, names: tuple[str, ...], place: int, number: int) -> str:
    if source.numbered is not None:
        return source.numbered.format(place)
    return (
        f"n0208{number}-{names[number - 1]}/{place}.jpg" if source.files is not None else f"{place:05d}.jpg"
    )


def _save(path: Path, content: dict[str, Any]) -> None:
    data = io.BytesIO()
    scipy.io.savemat(data, content)
    write(path, data.getvalue())
