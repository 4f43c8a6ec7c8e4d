"""Visual Relationship Detection: the original JSON with its lists of names."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.vrd import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, draw, write

OBJECTS, PREDICATES = ("dog", "ball"), ("next to", "chases")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with a relationship each."""
    ends = []
    for place in range(2):
        x0, y0, x1, y1 = map(int, box_of(place))
        ends.append({"category": place, "bbox": [y0, y1, x0, x1]})
    names = ("1.jpg", "2.jpg")
    for name in names:
        draw(root / source.images / name)
    said = [{"subject": ends[0], "predicate": 1, "object": ends[1]}]
    write(root / source.annotations, json.dumps(dict.fromkeys(names, said)))
    for file, words in ((source.objects, OBJECTS), (source.predicates, PREDICATES)):
        write(root / file, "\n".join(words) if file.endswith(".txt") else json.dumps(words))
    return Made(2, frozenset({*OBJECTS, "chases"}))
