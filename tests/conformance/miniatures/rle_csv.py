"""Masks as run lengths in a table: a picture with an object of each class, and one without any."""

from __future__ import annotations

from pathlib import Path

from converters.formats.rle_csv import Source
from dataengine.annotation import Box
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures, the last of which has no object where the table can say so."""
    classes = list(source.names)[:2] or [""]
    columns = [source.image, *([source.class_] if source.class_ else []), source.code]
    lines = [",".join(columns)]
    for number in (1, 2):
        for place, name in enumerate(classes):
            cells = [
                f"{number}.{source.extension}" if source.class_ else str(number),
                *([name] if source.class_ else []),
            ]
            lines.append(",".join([*cells, _code(source, box_of(place))]))
    shown = 2
    if source.category is not None:
        shown = 3
        lines.append("3,-1")
    for number in range(1, shown + 1):
        draw(root / source.images / f"{number}.{source.extension}")
    write(root / source.annotations, "".join(f"{line}\n" for line in lines))
    return Made(
        shown, frozenset({source.category} if source.category else {source.names[one] for one in classes})
    )


def _code(source: Source, box: Box) -> str:
    """Return the runs of a box: down its columns, or along its rows."""
    x0, y0, x1, y1 = map(int, box)
    runs = [(x * HEIGHT + y0, y1 - y0) for x in range(x0, x1)]
    if source.order == "rows":
        runs = [(y * WIDTH + x0, x1 - x0) for y in range(y0, y1)]
    if source.coding == "absolute":
        return " ".join(f"{start + 1} {length}" for start, length in runs)
    said, end = [], 0
    for start, length in runs:
        said.append(f"{start - end} {length}")
        end = start + length
    return " ".join(said)
