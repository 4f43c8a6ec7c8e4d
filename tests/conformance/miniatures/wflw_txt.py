"""WFLW: a line a face with 98 landmarks, a box and six flags; two faces in one picture."""

from __future__ import annotations

from pathlib import Path

from converters.formats.wflw_txt import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures, the second with two faces."""
    landmarks = " ".join(f"{6 + place % 20}.5 {8 + place // 20}.0" for place in range(98))
    lines = [
        f"{landmarks} 5 6 30 20 0 0 0 0 1 0 {name}\n" for name in ("0--P/1.jpg", "0--P/2.jpg", "0--P/2.jpg")
    ]
    write(root / source.annotations, "".join(lines))
    for number in (1, 2):
        draw(root / source.images / f"0--P/{number}.jpg")
    return Made(2, frozenset({"face"}), placed=False)
