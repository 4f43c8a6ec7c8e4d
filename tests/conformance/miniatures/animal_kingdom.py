"""Animal Kingdom: a record an animal of a frame, with 23 joints, of which some are not visible."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.animal_kingdom import NAMES, Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write

KINDS = ("Mammal", "Bird")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two frames with an animal each."""
    rows = []
    for number, kind in enumerate(KINDS, start=1):
        image = f"CLIP/CLIP_f{number:06d}.jpg"
        draw(root / source.images / image)
        joints = [[-1, -1] if place == 0 else [5 + place, 8 + place % 5] for place in range(len(NAMES))]
        visible = [float(place > 0) for place in range(len(NAMES))]
        rows.append({"image": image, source.category: kind, "joints": joints, "joints_vis": visible})
    write(root / source.annotations, json.dumps(rows))
    return Made(len(rows), frozenset(KINDS), placed=False)
