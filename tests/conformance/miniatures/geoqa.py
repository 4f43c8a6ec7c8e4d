"""GeoQA: a pickle of problems whose diagrams are arrays."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from converters.formats.geoqa import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, write

TEXT, CHOICES = "如图，求角度。", ["30°", "40°", "50°", "60°"]


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two problems."""
    problems = [
        {"id": number, "subject": TEXT, "choices": CHOICES, "label": number,
         "image": np.full((HEIGHT, WIDTH), 200 + number, np.uint8)}
        for number in range(2)
    ]  # fmt: skip
    write(root / source.annotations, pickle.dumps(problems, protocol=2))
    return Made(2, frozenset({TEXT, *CHOICES}))
