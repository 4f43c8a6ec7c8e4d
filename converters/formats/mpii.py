"""MPII Human Pose: the MATLAB file of its authors, or the JSON lists of people that HRNet and MMPose train on.

Conventions (human-pose.mpi-inf.mpg.de, annotation description): pixels from 1; 16 joints with ids from 0; `scale` is
the person's height over 200 pixels, and `objpos` (`center` in the lists) the rough middle; `is_visible` is empty for
the two joints of the head, which are the ends of its box. The lists hold one person a record; `joints_vis` says that a
joint is annotated, and not whether something hides it. No box of the person is given.

In the MATLAB file a person without joints is one whom nobody annotated: neither to be found nor background. The test
pictures have such people alone. Which pictures are for training is said by `img_train`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from converters import json_files, mat_files
from converters.formats.coco_keypoints import flip_pairs
from dataengine.annotation import (
    Annotation,
    Box,
    Image,
    Instance,
    Keypoint,
    Label,
    LabelSpace,
    Origin,
    Rejected,
)
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the MATLAB or JSON file, `images` the folder of the pictures.

    `part` takes the pictures of the MATLAB file that are for training (or for testing); the others are reported as
    `split.other`. `box: joints` is the smallest box around a person's joints; `scale` the square that `scale` and
    the middle state.
    """

    annotations: str
    images: str = "images"
    part: Literal["train", "test"] | None = None
    box: Literal["joints", "scale"] = "joints"


class RawPerson(msgspec.Struct):
    image: str
    joints: list[tuple[float, float]]
    joints_vis: list[float]
    center: tuple[float, float] | None = None
    scale: float | None = None


NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax", "upper_neck",
    "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
)  # fmt: skip
SKELETON = (
    (0, 1), (1, 2), (2, 6), (3, 6), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (8, 12), (11, 12), (10, 11), (8, 13),
    (13, 14), (14, 15),
)  # fmt: skip
PERSON = "person"
_ABSENT = (0.0, 0.0, 0)
_person = msgspec.json.Decoder(RawPerson)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the one category with its 16 joints."""
    label = Label(name=PERSON, keypoints=NAMES, skeleton=SKELETON, flip_pairs=flip_pairs(NAMES))
    return LabelSpace(id="mpii", labels=(label,))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a picture, and a rejection for each person or picture that cannot be used."""
    if source.annotations.endswith(".mat"):
        yield from _read_mat(source, root)
    else:
        yield from _read_list(source, root)


def _read_list(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield the pictures of a list in the order of their first people."""
    by_image: dict[str, list[tuple[str, Instance | Rejected]]] = {}
    for place, data in json_files.records(source.annotations, root, "annotations"):
        origin = Origin(file=source.annotations, record=place)
        try:
            raw = json_files.decode(data, _person)
        except Quarantine as error:
            yield Rejected(key=place, reason=error.reason, detail=error.detail, origin=origin)
            continue
        made: Instance | Rejected
        try:
            made = _from_list(source, raw, place)
        except Quarantine as error:
            made = Rejected(key=place, reason=error.reason, detail=error.detail, origin=origin)
        by_image.setdefault(raw.image, []).append((place, made))
    for name, people in by_image.items():
        yield from _annotate(source, name, people[0][0], people)


def _from_list(source: Source, raw: RawPerson, place: str) -> Instance:
    if len(raw.joints) != len(NAMES) or len(raw.joints_vis) != len(NAMES):
        raise Quarantine(
            "keypoint.count", f"{len(raw.joints)} joints, {len(raw.joints_vis)} flags; expected 16 of each"
        )
    points = tuple(
        (x - 1.0, y - 1.0, 2) if flag else _ABSENT
        for (x, y), flag in zip(raw.joints, raw.joints_vis, strict=True)
    )
    return _instance(source, place, points, raw.center, raw.scale)


def _read_mat(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    content = mat_files.load(source.annotations, root, "annotations").get("RELEASE")
    if not isinstance(content, dict) or "annolist" not in content:
        raise SourceError(f"{source.annotations}: no RELEASE.annolist; expected MPII's own file")
    pictures = mat_files.as_list(content["annolist"])
    parts = mat_files.as_list(content.get("img_train"))
    seen = set[str]()
    for number, picture in enumerate(pictures):
        place = f"annolist[{number}]"
        origin = Origin(file=source.annotations, record=place)
        try:
            name = _get(picture, "image", "name")
            if not isinstance(name, str) or not name:
                raise Quarantine("schema", "no image.name")
            if source.part is not None:
                flag = parts[number] if len(parts) == len(pictures) else None
                if flag != (source.part == "train"):
                    raise Quarantine("split.other", f"img_train is {flag!r}")
            if name in seen:
                raise Quarantine("id.duplicate", f"{name!r} came before")
            seen.add(name)
        except Quarantine as error:
            yield Rejected(key=place, reason=error.reason, detail=error.detail, origin=origin)
            continue
        people: list[tuple[str, Instance | Rejected]] = []
        for index, person in enumerate(mat_files.as_list(_get(picture, "annorect"))):
            where = f"{place}.annorect[{index}]"
            try:
                people.append((where, _from_mat(source, person, str(index))))
            except Quarantine as error:
                record = Origin(file=source.annotations, record=where)
                people.append(
                    (where, Rejected(key=where, reason=error.reason, detail=error.detail, origin=record))
                )
        yield from _annotate(source, name, place, people)


def _from_mat(source: Source, person: Any, key: str) -> Instance:
    center = (_get(person, "objpos", "x"), _get(person, "objpos", "y"))
    scale = _get(person, "scale")
    middle = (
        (_number(center[0]), _number(center[1])) if center[0] is not None and center[1] is not None else None
    )
    size = _number(scale) if scale is not None else None
    points: list[Keypoint] = [_ABSENT] * len(NAMES)
    joints = mat_files.as_list(_get(person, "annopoints", "point"))
    for joint in joints:
        number = _number(_get(joint, "id"))
        if number not in range(len(NAMES)):
            raise Quarantine("keypoint.count", f"joint {number!r}, expected 0 to 15")
        # Older editions write the flag as text, and none for the head.
        hidden = str(_get(joint, "is_visible")) in ("0", "0.0", "False")
        x, y = _number(_get(joint, "x")), _number(_get(joint, "y"))
        points[int(number)] = (x - 1.0, y - 1.0, 1 if hidden else 2)
    if not joints:
        square = _square(middle, size) if middle and size else None
        return Instance(id=key, category=PERSON, box=square, ignore=True)
    return _instance(source, key, tuple(points), middle, size)


def _get(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Quarantine("schema", f"{value!r:.60} is no number")
    return float(value)


def _instance(
    source: Source,
    key: str,
    points: tuple[Keypoint, ...],
    middle: tuple[float, float] | None,
    scale: float | None,
) -> Instance:
    seen = [(x, y) for x, y, v in points if v]
    if not seen:
        raise Quarantine("keypoint.none", "no joint is annotated")
    if not all(math.isfinite(value) for point in seen for value in point):
        raise Quarantine("keypoint.nonfinite", "a joint's place is no finite number")
    if source.box == "scale":
        if middle is None or not scale:
            raise Quarantine("box.missing", "no scale or no middle, which make the box")
        box = _square(middle, scale)
    else:
        xs, ys = zip(*seen, strict=True)
        box = (min(xs), min(ys), max(xs) + 1.0, max(ys) + 1.0)
    return Instance(id=key, category=PERSON, box=box, keypoints=points)


def _square(middle: tuple[float, float], scale: float) -> Box:
    x, y, half = middle[0] - 1.0, middle[1] - 1.0, scale * 100.0
    return (x - half, y - half, x + half, y + half)


def _annotate(
    source: Source, name: str, place: str, people: list[tuple[str, Instance | Rejected]]
) -> Iterator[Annotation | Rejected]:
    """Yield a picture's annotation; a person who is rejected stays in it as somebody of whom nothing is known."""
    yield Annotation(
        key=name,
        images=(Image(path=f"{source.images}/{name}" if source.images else name),),
        instances=tuple(
            made if isinstance(made, Instance) else Instance(id=where, category=PERSON, ignore=True)
            for where, made in people
        ),
        # People whom nobody annotated may be in any picture.
        exhaustive=False,
        origin=Origin(file=source.annotations, record=place),
    )
    yield from (made for _, made in people if isinstance(made, Rejected))
