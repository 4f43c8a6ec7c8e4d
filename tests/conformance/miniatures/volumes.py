"""Volumes: two scans with a volume of labels each, a plane of them with every class."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel
import numpy as np

from converters import path_patterns
from converters.formats.volumes import Source, meanings
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, write

SIDE, BLOCK = 24, 3


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two volumes of as many planes as are taken, twice."""
    meant = meanings(source)
    planes = 2 * source.every
    marked = np.zeros((SIDE, SIDE, planes), np.uint8)
    for place, number in enumerate(number for number, item in meant.items() if item is not None):
        row, column = divmod(place, SIDE // BLOCK)
        marked[BLOCK * column :, BLOCK * row :][:BLOCK, :BLOCK] = number
    scan = np.random.default_rng(0).integers(0, 1000, (*marked.shape, source.channel + 1), "i2")
    for number in (1, 2):
        parts = {word: f"{word}{number}" for word in path_patterns.fields(source.maps)}
        several = scan if source.channel else scan[..., 0]
        for pattern, values in ((source.maps, marked), (source.images, several)):
            _save(root / path_patterns.fill(pattern, parts), values, source)
    names = frozenset(item.category for item in meant.values() if item is not None and item.category)
    return Made(2 * planes // source.every, names, placed=False)


def _save(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], source: Source) -> None:
    order = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (2, 0, 1)}[source.plane]
    turned = np.moveaxis(values, (0, 1, 2), order)
    if path.suffix == ".npy":
        file = io.BytesIO()
        np.save(file, np.moveaxis(turned, -1, 0) if turned.ndim == 4 else turned)
        write(path, file.getvalue())
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(turned, np.eye(4)), path)
