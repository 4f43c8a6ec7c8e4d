"""DeepPoseKit: an HDF5 file with two pictures and their keypoints."""

from __future__ import annotations

from pathlib import Path

import h5py  # type: ignore[import-untyped]  # it has no stubs
import numpy as np

from converters.formats.deepposekit import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures."""
    count = len(source.keypoints)
    points = np.array([[[4 + place, 6 + place % 9] for place in range(count)]] * 2, np.float64)
    path = root / source.annotations
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["images"] = np.arange(2, dtype=np.uint8).repeat(HEIGHT * WIDTH).reshape(2, HEIGHT, WIDTH, 1)
        file["annotations"] = points
        file["annotated"] = np.ones((2, count), bool)
        file["skeleton"] = np.full((count, 2), -1, np.int32)
    return Made(2, frozenset({source.category}), placed=False)
