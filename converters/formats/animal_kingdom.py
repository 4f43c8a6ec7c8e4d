"""Animal Kingdom, pose estimation: a JSON list with one animal of one frame a record, as MPII's lists have people.

Conventions (sutdcv/Animal-Kingdom, README_pose_estimation.md): 23 joints in pixels, those that are not visible at
[-1, -1] with 0 in `joints_vis`; `image` is the frame in the folder of its clip. `animal` is the species, above which
stand `animal_subclass`, `animal_class` and `animal_parent_class`. There is no box: `center` and `scale` are the middle
and the longer side, over 200 pixels, of the smallest box around the joints, so that one is taken. MMPose's COCO files
of the same frames have the same numbers, so pixels count from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from converters import json_files
from converters.formats.coco_keypoints import flip_pairs
from converters.landmarks import box_around
from dataengine.annotation import Annotation, Image, Instance, Keypoint, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root

VERSION = "1"

NAMES = (
    "Head_Mid_Top", "Eye_Left", "Eye_Right", "Mouth_Front_Top", "Mouth_Back_Left", "Mouth_Back_Right",
    "Mouth_Front_Bottom", "Shoulder_Left", "Shoulder_Right", "Elbow_Left", "Elbow_Right", "Wrist_Left", "Wrist_Right",
    "Torso_Mid_Back", "Hip_Left", "Hip_Right", "Knee_Left", "Knee_Right", "Ankle_Left", "Ankle_Right",
    "Tail_Top_Back", "Tail_Mid_Back", "Tail_End_Back",
)  # fmt: skip
_ABSENT = (0.0, 0.0, 0)


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the JSON file, `images` the folder of the clips; `category` the level that names an animal."""

    annotations: str
    images: str = "dataset"
    category: Literal["animal", "animal_subclass", "animal_class", "animal_parent_class"] = (
        "animal_parent_class"
    )


class RawAnimal(msgspec.Struct):
    image: str
    joints: list[tuple[float, float]]
    joints_vis: list[float]
    animal: str | None = None
    animal_subclass: str | None = None
    animal_class: str | None = None
    animal_parent_class: str | None = None


_animal = msgspec.json.Decoder(RawAnimal)


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the names of animals in alphabetical order, each with the 23 joints."""
    found = set[str]()
    for _, data in json_files.records(source.annotations, root, "annotations"):
        try:
            found.add(_name(json_files.decode(data, _animal), source))
        except Quarantine:
            continue  # told when it is read
    pairs = flip_pairs(NAMES)
    return LabelSpace(
        id="source",
        labels=tuple(Label(name=name, keypoints=NAMES, flip_pairs=pairs) for name in sorted(found)),
    )


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation a frame, in the order of their first animals, and a rejection for each bad record."""
    frames: dict[str, list[tuple[str, Instance]]] = {}
    rejected: dict[str, list[Rejected]] = {}
    for place, data in json_files.records(source.annotations, root, "annotations"):
        image = ""
        try:
            raw = json_files.decode(data, _animal)
            image = raw.image
            if not image:
                raise Quarantine("schema", "image is empty, expected the path of a frame")
            made = Instance(id=place, ignore=True)
            frames.setdefault(image, []).append((place, made))
            frames[image][-1] = (place, _instance(raw, source, place))
        except Quarantine as error:
            origin = Origin(file=source.annotations, record=place)
            bad = Rejected(key=place, reason=error.reason, detail=error.detail, origin=origin)
            rejected.setdefault(image, []).append(bad)
    yield from rejected.pop("", ())
    for image, animals in frames.items():
        yield Annotation(
            key=image.rpartition(".")[0] or image,
            images=(Image(path=f"{source.images}/{image}" if source.images else image),),
            # An animal that cannot be used stays in its frame as one of which nothing is known.
            instances=tuple(made for _, made in animals),
            exhaustive=False,
            origin=Origin(file=source.annotations, record=animals[0][0]),
        )
        yield from rejected.pop(image, ())


def _name(raw: RawAnimal, source: Source) -> str:
    name = (getattr(raw, source.category) or "").strip()
    if not name:
        raise Quarantine("schema", f"{source.category} is empty")
    return name


def _instance(raw: RawAnimal, source: Source, place: str) -> Instance:
    if len(raw.joints) != len(NAMES) or len(raw.joints_vis) != len(NAMES):
        detail = f"{len(raw.joints)} joints, {len(raw.joints_vis)} flags; expected {len(NAMES)} of each"
        raise Quarantine("keypoint.count", detail)
    points: tuple[Keypoint, ...] = tuple(
        (x, y, 2) if flag else _ABSENT for (x, y), flag in zip(raw.joints, raw.joints_vis, strict=True)
    )
    box = box_around(points)
    if box is None:
        raise Quarantine("keypoint.none", "no joint is visible")
    return Instance(id=place, category=_name(raw, source), box=box, keypoints=points)
