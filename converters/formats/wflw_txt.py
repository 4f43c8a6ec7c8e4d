"""WFLW: one line a face with 98 landmarks, a box, six flags and the picture's name.

Conventions (wywu.github.io/projects/LAB/WFLW.html and the README of the annotations): x y of each landmark in pixels
(taken as they stand: from 0), `x_min y_min x_max y_max` of the detection box, then pose, expression, illumination,
make-up, occlusion and blur as 0 or 1. The short lists hold landmarks and name alone; their box is the smallest one
around the landmarks. Nothing says what hides a landmark, nor that all faces of a picture are annotated. Faces of one
picture stand in several lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from converters import text_files
from converters.landmarks import box_around, numbers, visible
from dataengine.annotation import Annotation, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.images import EXTENSIONS

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the list, `images` the folder of the pictures; a label space with `face` names the landmarks."""

    annotations: str
    images: str = "WFLW_images"


_NUMBERS, _BOX = 196, 4
_FLAGS = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a picture, in the order of their first lines, and a rejection for each defective line."""
    faces: dict[str, list[Instance]] = {}
    places: dict[str, str] = {}
    rejected = []
    empty = True
    for number, line in text_files.lines(source.annotations, root, "annotations"):
        empty, place = False, f"line {number}"
        words = line.split()
        name = words[-1]
        try:
            face = _face(words, str(len(faces.get(name, []))))
        except Quarantine as error:
            origin = Origin(file=source.annotations, record=place)
            rejected.append(Rejected(key=place, reason=error.reason, detail=error.detail, origin=origin))
            if PurePosixPath(name).suffix[1:].lower() not in EXTENSIONS:
                continue  # it does not even say whose face it would be
            face = Instance(id=str(len(faces.get(name, []))), category="face", ignore=True)
        places.setdefault(name, place)
        faces.setdefault(name, []).append(face)
    if empty:
        raise SourceError(f"{source.annotations}: no line; expected one face a line")
    for name, found in faces.items():
        yield Annotation(
            key=name,
            images=(Image(path=f"{source.images}/{name}" if source.images else name),),
            instances=tuple(found),
            exhaustive=False,
            origin=Origin(file=source.annotations, record=places[name]),
        )
    yield from rejected


def _face(words: list[str], key: str) -> Instance:
    """Return the face of a line. Raises Quarantine `keypoint.count`, `keypoint.nonfinite` or `schema`."""
    if len(words) not in (_NUMBERS + 1, _NUMBERS + _BOX + len(_FLAGS) + 1):
        raise Quarantine(
            "keypoint.count", f"{len(words)} columns, expected 207, or 197 without box and flags"
        )
    values = numbers(words[:-1])
    points = visible(values[:_NUMBERS], 0)
    if len(values) == _NUMBERS:
        return Instance(id=key, category="face", box=box_around(points), keypoints=points)
    x0, y0, x1, y1 = values[_NUMBERS : _NUMBERS + _BOX]
    flags = zip(_FLAGS, values[_NUMBERS + _BOX :], strict=True)
    return Instance(
        id=key,
        category="face",
        box=(x0, y0, x1, y1),
        keypoints=points,
        attributes={name: "1" for name, value in flags if value},
    )
