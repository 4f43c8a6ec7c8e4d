"""Anomaly sets: a sound and a defective picture of an object, with a mask for the defect, or several."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converters import path_patterns
from converters.formats.mvtec import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, png


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures, one of them with a defect."""
    for defect in (source.sound[0], "scratch"):
        parts = {word: {"defect": defect, "ending": "png"}.get(word, f"{word}1")
                 for word in path_patterns.fields(source.images)}  # fmt: skip
        draw(root / path_patterns.fill(source.images, parts))
        if defect == "scratch":
            for number in range(source.masks.count("*") + 1):
                mask = np.zeros((HEIGHT, WIDTH), np.uint8)
                x0, y0, x1, y1 = map(int, box_of(number))
                mask[y0:y1, x0:x1] = 255
                png(root / path_patterns.fill(source.masks, parts).replace("*", f"00{number}"), mask)
    return Made(2, frozenset({source.category}), placed=False)
