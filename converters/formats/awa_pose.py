"""AwA Pose: one pickle a picture with the keypoints of its animals, on the pictures of Animals with Attributes 2.

Conventions (github.com/prinik/AwA-Pose): a dictionary of animals (`a1`, …), each a dictionary from the name of a
keypoint to x and y in pixels, (-1, -1) where it is not annotated, and `bbox`, its corners. The folder is the class,
with `+` for blanks. The list of keypoints begins with `_background_`, which is none. Other animals of a picture are not
annotated, and nothing says what hides a keypoint. Nor does anything say whether pixels count from 0 or 1 and whether
the end belongs to a box: numbers are taken as they stand, from 0 and with an exclusive end.
"""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from pathlib import PurePosixPath
from typing import Any

import msgspec

from converters import plain_pickle, text_files
from converters.formats.coco_keypoints import flip_pairs
from dataengine.annotation import Annotation, Image, Instance, Keypoint, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` holds a folder of pickles a class, `names` the keypoints one a line, `images` the pictures."""

    annotations: str = "Annotations"
    names: str = "Annotations/class_names.txt"
    images: str = "Animals_with_Attributes2/JPEGImages"


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the classes by the names of their folders, all with the same keypoints."""
    points = tuple(_names(source, root))
    pairs = flip_pairs(points)
    classes = dict.fromkeys(_class(file) for file in _files(source, root))
    return LabelSpace(
        id="source", labels=tuple(Label(name=name, keypoints=points, flip_pairs=pairs) for name in classes)
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a pickle, in the order of their paths."""
    names = _names(source, root)
    for file in _files(source, root):
        path = PurePosixPath(file)
        key = f"{path.parent.name}/{path.stem}"
        origin = Origin(file=file, record="pickle")
        try:
            content = plain_pickle.load(file, root.read(file, "annotations"))
            if not isinstance(content, dict) or not content:
                raise Quarantine("schema", "holds no animal, expected a dictionary of them")
            animals = tuple(_animal(str(name), value, _class(file), names) for name, value in content.items())
        except SourceError as error:
            # One broken file of thousands costs no other.
            yield Rejected(key=key, reason="schema", detail=str(error), origin=origin)
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
        else:
            picture = f"{path.parent.name}/{path.stem}.jpg"
            yield Annotation(
                key=key,
                images=(Image(path=f"{source.images}/{picture}" if source.images else picture),),
                instances=animals,
                exhaustive=False,
                origin=origin,
            )


def _files(source: Source, root: Root) -> list[str]:
    root.annotation(source.annotations or ".", "annotations")
    folder = f"{escape(source.annotations)}/" if source.annotations else ""
    found = [file for file in root.glob(f"{folder}*/*.pickle") if file.isprintable()]
    if not found:
        raise SourceError(
            f"{root.directory / source.annotations}: no pickle; the spec needs it as source.annotations"
        )
    return found


def _names(source: Source, root: Root) -> list[str]:
    lines = (line for _, line in text_files.lines(source.names, root, "names"))
    found = list(dict.fromkeys(name for name in lines if name != "_background_"))
    if not found:
        raise SourceError(f"{source.names}: no line; expected the name of a keypoint each")
    return found


def _class(file: str) -> str:
    return PurePosixPath(file).parent.name.replace("+", " ")


def _animal(key: str, value: Any, category: str, names: list[str]) -> Instance:
    """Return one animal. Raises Quarantine `schema`, `keypoint.none` or `keypoint.unknown`."""
    if not isinstance(value, dict):
        raise Quarantine("schema", f"animal {key!r} is no dictionary")
    unknown = sorted(str(name) for name in value if name not in names and name != "bbox")
    if unknown:
        raise Quarantine("keypoint.unknown", f"{unknown[0]!r} is not among the keypoints")
    points = tuple(_point(value.get(name)) for name in names)
    if not any(v for _, _, v in points):
        raise Quarantine("keypoint.none", f"animal {key!r} has no keypoint")
    x0, y0, x1, y1 = _numbers(value.get("bbox"), 4)
    return Instance(id=key, category=category, box=(x0, y0, x1, y1), keypoints=points)


def _point(value: Any) -> Keypoint:
    if value is None:
        return (0.0, 0.0, 0)
    x, y = _numbers(value, 2)
    return (x, y, 2) if (x, y) != (-1, -1) else (0.0, 0.0, 0)


def _numbers(value: Any, count: int) -> list[float]:
    good = isinstance(value, list | tuple) and len(value) == count
    if not good or not all(type(one) in (int, float) and abs(one) < 1e9 for one in value):
        raise Quarantine("schema", f"{value!r:.60} is no list of {count} numbers")
    return [float(one) for one in value]
