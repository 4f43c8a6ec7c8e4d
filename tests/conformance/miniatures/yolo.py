"""YOLO's text files in the four kinds, beside their pictures; names in a file where the spec looks for one."""

from __future__ import annotations

from pathlib import Path

from converters.formats.yolo import Source
from dataengine.annotation import Box
from dataengine.spec import Resolved
from tests.conformance.making.scene import (
    CLASSES,
    HEIGHT,
    WIDTH,
    Made,
    box_of,
    corners,
    draw,
    named,
    write,
)


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with objects and one without."""
    names = CLASSES if isinstance(source.classes, str) else source.classes
    numbers = list(range(min(3, len(names))))
    shown: tuple[list[int], ...] = (numbers, numbers[:1], numbers[-1:], [])
    for picture, classes in enumerate(shown, start=1):
        draw(root / source.images / f"{picture}.jpg")
        lines = [f"{one} {_cells(source, box_of(place))}" for place, one in enumerate(classes)]
        if lines or source.missing == "unknown":
            write(root / source.annotations / f"{picture}.txt", "".join(f"{line}\n" for line in lines))
    if isinstance(source.classes, str):
        _write_names(root / source.classes, names)
    if source.image_set is not None:
        write(root / source.image_set, "".join(f"{source.strip}{one}.jpg\n" for one in range(1, 5)))
    return Made(len(shown), frozenset(named(spec, names[one]) for one in numbers))


def _cells(source: Source, box: Box) -> str:
    x0, y0, x1, y1 = box
    middle = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
    if source.kind in ("segment", "obb"):
        return _shares(corners(box))
    if source.kind == "detect":
        return _shares(middle)
    points = [_shares([x0 + 1 + number % 10, y0 + 1]) for number in range(len(source.keypoints))]
    visible = " 2" if source.dims == 3 else ""
    return " ".join([_shares(middle), *(f"{point}{visible}" for point in points)])


def _shares(values: list[float] | tuple[float, ...]) -> str:
    return " ".join(repr(value / (HEIGHT if place % 2 else WIDTH)) for place, value in enumerate(values))


def _write_names(path: Path, names: tuple[str, ...]) -> None:
    if path.suffix in (".yaml", ".yml"):
        write(path, "names:\n" + "".join(f"  {number}: {name}\n" for number, name in enumerate(names)))
    else:
        write(path, "".join(f"{name}\n" for name in names))
