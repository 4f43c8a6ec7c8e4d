"""SODA-A: turned objects, and a region that is neither object nor background."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.soda import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import CLASSES, HEIGHT, WIDTH, Made, box_of, corners, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with an object of each of two classes and a region to be ignored."""
    names = (*CLASSES[:2], source.ignored)
    categories = [{"id": place, "name": name} for place, name in enumerate(names)]
    objects = [{"poly": corners(box_of(place)), "category_id": place} for place in range(len(names))]
    for stem in ("00001", "00002"):
        draw(root / source.images / f"{stem}.jpg")
        picture = {"file_name": f"{stem}.jpg", "width": WIDTH, "height": HEIGHT}
        document = {"images": picture, "annotations": objects, "categories": categories}
        write(root / source.annotations / f"{stem}.json", json.dumps(document))
    return Made(2, frozenset(CLASSES[:2]))
