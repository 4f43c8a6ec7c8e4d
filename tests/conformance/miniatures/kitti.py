"""KITTI: objects of three types and a region where nobody labelled anything."""

from __future__ import annotations

from pathlib import Path

from converters.formats.kitti import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, draw, write

SPACE = "1.5 1.6 3.9 1.0 1.7 20.0 -1.5"


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write a picture with objects, and one with a region to be ignored and an object."""
    names = source.categories[:3]
    for stem, shown in (("000001", names), ("000002", (names[0], "DontCare"))):
        lines = []
        for place, name in enumerate(shown):
            corners = " ".join(f"{value:.2f}" for value in box_of(place))
            lines.append(f"{name} 0.00 0 -1.50 {corners} {SPACE}\n")
        write(root / source.annotations / f"{stem}.txt", "".join(lines))
        draw(root / source.images / f"{stem}.{source.extension}")
    if source.image_set is not None:
        write(root / source.image_set, "000001\n000002\n")
    return Made(2, frozenset(names))
