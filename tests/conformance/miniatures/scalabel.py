"""Scalabel: frames with boxes and outlines, in one file or a file a video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters.formats.scalabel import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, corners, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three frames: with objects of four classes, of old names and ignored ones, and with none."""
    size = (source.width or WIDTH, source.height or HEIGHT)
    shown: tuple[Sequence[str], ...] = (source.labels[:3], [*source.rename, *source.ignored][:3], [])
    frames = []
    for number, names in enumerate(shown, start=1):
        name = f"b{number}.jpg"
        video = {"videoName": "v1"} if source.media == "video" else {}
        draw(root / source.images / "/".join([*video.values(), name]), size)
        labels = [_label(source, place, one) for place, one in enumerate(names)]
        frames.append({"name": name, **video, "labels": labels})
    write(root / source.annotations.replace("*", "v1"), json.dumps(frames))
    return Made(len(frames), frozenset(source.labels[:3]))


def _label(source: Source, place: int, name: str) -> dict[str, Any]:
    x0, y0, x1, y1 = box_of(place)
    past = 1 if source.end == "inclusive" else 0
    points = corners(box_of(place))
    outline = {
        "vertices": [points[at : at + 2] for at in range(0, 8, 2)],
        "types": "LLLL",
        "closed": not source.open_areas,
    }
    return {
        "id": str(place),
        "category": name,
        "box2d": {"x1": x0, "y1": y0, "x2": x1 - past, "y2": y1 - past},
        "poly2d": [outline],
    }
