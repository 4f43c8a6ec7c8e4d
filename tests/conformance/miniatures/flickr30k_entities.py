"""Flickr30k Entities: captions with marked phrases, boxes of their chains, and one caption that is unrelated."""

from __future__ import annotations

from pathlib import Path

from converters.formats.flickr30k_entities import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, write

MARKED = "[/EN#1/animals A brown dog] runs after [/EN#2/other a ball] in [/EN#0/notvisual the sun] ."


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with a caption each, and another caption that does not fit the second."""
    objects = ""
    for place, chain in enumerate((1, 2)):
        x0, y0, x1, y1 = map(int, box_of(place))
        bounds = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        objects += f"<object><name>{chain}</name><bndbox>{bounds}</bndbox></object>"
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    for name in ("101", "102"):
        xml = f"<annotation><filename>{name}.jpg</filename>{size}{objects}</annotation>"
        write(root / source.annotations / f"{name}.xml", xml)
        write(
            root / source.sentences / f"{name}.txt",
            f"{MARKED}\n" + ("Two boats .\n" if name == "102" else ""),
        )
        draw(root / source.images / f"{name}.jpg")
    if source.image_set is not None:
        write(root / source.image_set, "101\n102\n")
    if source.unrelated is not None:
        write(root / source.unrelated, "102 2\n")
    return Made(2, frozenset({"A brown dog", "a ball", "A brown dog runs after a ball in the sun ."}))
