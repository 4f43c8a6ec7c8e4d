"""Colour and depth in HDF5: two frames, one of which has pixels without depth."""

from __future__ import annotations

from pathlib import Path

import h5py  # type: ignore[import-untyped]  # it has no stubs
import numpy as np

from converters.formats.rgbd_hdf5 import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two frames."""
    for number in (1, 2):
        path = root / source.frames.replace("*", f"part{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        depth = np.linspace(0.0, 4.0 * number, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
        with h5py.File(path, "w") as file:
            file["rgb"] = np.full((3, HEIGHT, WIDTH), 100 * number, np.uint8)
            file["depth"] = depth
    return Made(2, frozenset(), placed=False)
