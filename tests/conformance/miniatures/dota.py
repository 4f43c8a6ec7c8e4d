"""DOTA, by the writer of that name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from converters.formats.dota import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import (
    Made,
    box_of,
    classes_of,
    corners,
    draw,
    drawn,
    move,
    words_of,
    written,
)


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with objects and one without."""
    categories = classes_of(spec, source.labels)
    annotations = [
        msgspec.structs.replace(
            item,
            instances=tuple(
                msgspec.structs.replace(one, quad=corners(box_of(place)))
                for place, one in enumerate(item.instances)
            ),
        )
        for item in drawn(spec, categories, source.extensions[0])
    ]
    for item in annotations:
        draw(root / "written" / item.images[0].path)
    keys = written("dota", annotations, categories, root / "written")
    folder = source.images if isinstance(source.images, str) else source.images[0]
    move(root / "written" / keys["annotations"], root / source.annotations)
    move(root / "written" / keys["images"], root / folder)
    return Made(len(annotations), words_of(spec, categories))
