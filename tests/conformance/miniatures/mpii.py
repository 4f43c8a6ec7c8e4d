"""MPII Human Pose: the MATLAB file with a picture for training and one for testing."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from converters.formats.mpii import NAMES, PERSON, Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures of a person each, of which a part of the file has one."""
    names = ("015601864.jpg", "086617615.jpg")
    for name in names:
        draw(root / source.images / name)
    if source.annotations.endswith(".json"):
        joints = [_place(number) for number in range(len(NAMES))]
        people = [{"image": name, "joints": joints, "joints_vis": [1] * len(NAMES)} for name in names]
        write(root / source.annotations, json.dumps(people))
        return Made(2, frozenset({PERSON}), placed=False)
    pictures = [{"image": {"name": name}, "annorect": _person()} for name in names]
    release = {"annolist": _structs(pictures), "img_train": np.array([[1, 0]], np.uint8)}
    data = io.BytesIO()
    scipy.io.savemat(data, {"RELEASE": release})
    write(root / source.annotations, data.getvalue())
    return Made(1 if source.part else 2, frozenset({PERSON}), placed=False)


def _place(number: int) -> tuple[float, float]:
    return (6.0 + 2 * (number % 8), 8.0 + 3 * (number % 7))


def _person() -> dict[str, Any]:
    points = []
    for number in range(len(NAMES)):
        x, y = _place(number)
        points.append({"x": x, "y": y, "id": number, "is_visible": 1})
    middle = {"x1": 8.0, "y1": 4.0, "x2": 14.0, "y2": 10.0, "scale": 0.2, "objpos": {"x": 14.0, "y": 18.0}}
    return {**middle, "annopoints": {"point": _structs(points)}}


def _structs(rows: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """Return an array of structs, as MATLAB has them."""
    made = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]])
    for place, row in enumerate(rows):
        made[0, place] = tuple(row.values())
    return made
