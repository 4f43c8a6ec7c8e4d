"""300-W: two faces in each folder, with a file of landmarks beside the picture."""

from __future__ import annotations

from pathlib import Path

from converters.formats.pts_300w import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two faces in each of the folders."""
    for folder in source.annotations:
        for number in (1, 2):
            file = root / folder / f"face_{number}.pts"
            points = "".join(f"{5 + one % 30}.0 {7 + one // 30}.5\n" for one in range(source.num_points))
            write(file, f"version: 1\nn_points: {source.num_points}\n{{\n{points}}}\n")
            draw(
                file.parent
                / source.images
                / f"face_{number}.{source.extensions[number % len(source.extensions)]}"
            )
    return Made(2 * len(source.annotations), frozenset({source.category}), placed=False)
