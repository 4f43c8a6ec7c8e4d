"""Mapillary Vistas: a map of instances beside each picture, and the configuration of its labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from converters import path_patterns
from converters.formats.mapillary import OBJECTS, Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, png, write

LABELS = (
    {"name": "construction--flat--road", "readable": "Road", "instances": False, "evaluate": True},
    {"name": "object--vehicle--car", "readable": "Car", "instances": True, "evaluate": True},
    {"name": "void--ego-vehicle", "readable": "Ego Vehicle", "instances": False, "evaluate": False},
)


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures of a road with two cars and the hood of the one that looks."""
    write(root / source.config, json.dumps({"labels": LABELS}))
    for name in ("a1", "b2"):
        parts = dict.fromkeys(path_patterns.fields(source.maps), name)
        pixels = np.zeros((HEIGHT, WIDTH), np.uint16)
        for place, number in enumerate((OBJECTS, OBJECTS + 1, 2 * OBJECTS)):
            x0, y0, x1, y1 = map(int, box_of(place))
            pixels[y0:y1, x0:x1] = number
        png(root / path_patterns.fill(source.maps, parts), pixels)
        draw(root / path_patterns.fill(source.images, parts))
    return Made(2, frozenset({"Car"} if source.view == "objects" else {"Road", "Car"}), placed=False)
