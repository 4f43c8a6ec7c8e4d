"""MOTChallenge: a video of two frames, with an object of each class, one to be ignored and one left out."""

from __future__ import annotations

from pathlib import Path

from converters.formats.mot import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write one video."""
    file = root / source.annotations.replace("*", "video1")
    numbers: list[str | int] = [
        next(iter(source.classes)),
        *list(source.ignored)[:1],
        *list(source.left_out)[:1],
    ]
    lines = []
    for frame in (1, 2):
        draw(file.parent.parent / source.images / f"{frame:0{source.digits}d}.{source.extension}")
        for place, number in enumerate(numbers):
            x, y, width, height = to_xywh(box_of(place))
            lines.append(f"{frame},{place + 1},{x + 1:g},{y + 1:g},{width:g},{height:g},1,{number},1.0\n")
    write(file, "".join(lines))
    return Made(2, frozenset({source.classes[str(numbers[0])]}))
