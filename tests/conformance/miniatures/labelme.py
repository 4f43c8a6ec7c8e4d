"""labelme, by hand: a rectangle and polygons; the picture by its own name or by the file's."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.labelme import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import (
    HEIGHT,
    WIDTH,
    Made,
    box_of,
    classes_of,
    corners,
    draw,
    words_of,
    write,
)


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with objects and one without."""
    names = classes_of(spec, source.labels)
    for number, shown in enumerate((names, names[:1], names[-1:], ()), start=1):
        points = [corners(box_of(place)) for place in range(len(shown))]
        shapes = [
            {"label": name, "points": [flat[at : at + 2] for at in range(0, 8, 2)], "shape_type": "polygon"}
            for name, flat in zip(shown, points, strict=True)
        ]
        name = f"{number}.{source.extension}"
        document = {"shapes": shapes, "imagePath": name, "imageWidth": WIDTH, "imageHeight": HEIGHT}
        write(root / source.annotations / f"{number}.json", json.dumps(document))
        draw(root / (source.annotations if source.images is None else source.images) / name)
    return Made(4, words_of(spec, names))
