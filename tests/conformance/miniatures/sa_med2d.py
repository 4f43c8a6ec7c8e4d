"""SA-Med2D-20M: slices with masks whose class stands in their names; one of another modality."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from converters.formats.sa_med2d import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, png, write

CLASSES = {"liver": 1, "left_kidney": 2, "union_kidney": 3}


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two slices of the modality that is read, and one of another."""
    listed = {}
    start = source.modalities[0] if source.modalities else "mr_"
    for number, modality in enumerate((f"{start}t1w", f"{start}t1w", "ct_00"), start=1):
        stem = f"{modality}--CHAOS_Task_4--{number:03d}--x_0042"
        draw(root / f"images/{stem}.png")
        masks = []
        for place, code in enumerate(CLASSES.values()):
            name = f"masks/{stem}--{code:04d}_000.png"
            pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
            x0, y0, x1, y1 = map(int, box_of(place))
            pixels[y0:y1, x0:x1] = 255
            png(root / name, pixels)
            masks.append(name)
        listed[f"images/{stem}.png"] = masks
    write(root / source.annotations, json.dumps(listed))
    write(root / source.classes, json.dumps({"CHAOS_Task_4": CLASSES}))
    return Made(2 if source.modalities else 3, frozenset({"liver", "left_kidney"}))
