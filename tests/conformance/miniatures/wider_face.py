"""WIDER FACE: a picture with two faces, of which one is invalid, and one without any."""

from __future__ import annotations

from pathlib import Path

from converters.formats.wider_face import CATEGORY, Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures."""
    faces = [" ".join(f"{value:.0f}" for value in to_xywh(box_of(place))) for place in range(2)]
    lines = ["0--P/1.jpg", "2", f"{faces[0]} 1 0 0 0 1 0", f"{faces[1]} 2 0 0 1 0 0"]
    lines += ["0--P/2.jpg", "0", "0 0 0 0 0 0 0 0 0 0"]
    write(root / source.annotations, "".join(f"{line}\n" for line in lines))
    for number in (1, 2):
        draw(root / source.images / f"0--P/{number}.jpg")
    return Made(2, frozenset({CATEGORY}))
