"""VisDrone: objects of three classes, and a region that does not count."""

from __future__ import annotations

from pathlib import Path

from converters.formats.visdrone import CATEGORIES, Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write a picture with three objects, and one with an object and a region of no class."""
    for stem, numbers in (("0001", (1, 4, 9)), ("0002", (1, 0))):
        lines = []
        for place, number in enumerate(numbers):
            box = ",".join(f"{value:.0f}" for value in to_xywh(box_of(place)))
            lines.append(f"{box},{int(number > 0)},{number},0,0\n")
        write(root / source.annotations / f"{stem}.txt", "".join(lines))
        draw(root / source.images / f"{stem}.{source.extension}")
    if source.image_set is not None:
        write(root / source.image_set, "0001\n0002\n")
    return Made(2, frozenset(CATEGORIES[number - 1] for number in (1, 4, 9)))
