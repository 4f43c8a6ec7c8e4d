"""InterHand2.6M: joints of two hands in space, projected into each camera's picture.

Conventions (the dataset's page and its toolbox): three JSON files a split. `data` lists pictures and for each, which
of 42 joints are valid; `joint_3d` has their places in millimetres by capture and frame; `camera` has, by capture and
camera, the centre `campos`, the rotation `camrot`, `focal` and `princpt`, so that a joint X lies at f * (R (X -
centre)) / depth + principal point, in pixels from 0. The first 21 joints are those of the right hand, the others of
the left: from the tip of each finger to its root, thumb first, the wrist last. Here they follow the label space
`hand21`, from the wrist on. A hand is an object with the box around its joints; what hides a joint is not told.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from converters.json_files import decode, load
from converters.landmarks import box_around
from dataengine.annotation import Annotation, Image, Instance, Keypoint, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits

VERSION = "1"

_HAND = 21
# Where the wrist and each finger's joints from root to tip stand among the joints of a hand.
_ORDER = (20, *(tip + joint for tip in range(0, 20, 4) for joint in (3, 2, 1, 0)))
_SIDES = {"right": 0, "left": _HAND}
_ENDINGS = {"data": "_data.json", "camera": "_camera.json", "joints": "_joint_3d.json"}


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`data`, `camera` and `joints` are the three files of a split, `images` the folder of the pictures."""

    data: str
    camera: str
    joints: str
    images: str = ""


class RawData(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]


class RawImage(msgspec.Struct):
    id: int
    file_name: str
    width: int
    height: int
    capture: int
    camera: str
    frame_idx: int


class RawAnnotation(msgspec.Struct):
    image_id: int
    joint_valid: list[list[float]]


class RawCamera(msgspec.Struct):
    campos: dict[str, tuple[float, float, float]]
    camrot: dict[str, list[tuple[float, float, float]]]
    focal: dict[str, tuple[float, float]]
    princpt: dict[str, tuple[float, float]]


class RawJoints(msgspec.Struct):
    world_coord: list[tuple[float, float, float]]


_image = msgspec.json.Decoder(RawImage)
_annotation = msgspec.json.Decoder(RawAnnotation)
Cameras = dict[str, RawCamera]
Joints = dict[str, dict[str, RawJoints]]
Places = npt.NDArray[np.float64]


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds InterHand's three files: `…_data.json`, `…_camera.json`, `…_joint_3d.json`."""
    splits = []
    for file in listing.ending(_ENDINGS["data"]):
        stem = file[: -len(_ENDINGS["data"])]
        found = {key: f"{stem}{ending}" for key, ending in _ENDINGS.items()}
        if all(name in listing.files for name in found.values()):
            splits.append((stem, found))
    if not splits:
        return "no three files ending in _data.json, _camera.json and _joint_3d.json"
    why = f"{len(splits)} times _data.json, _camera.json and _joint_3d.json of one name"
    return Fit(splits=name_splits(splits), tasks=("keypoints",), why=why, certainty=3)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a record of `data`, in its order. Raises SourceError."""
    data = load(source.data, root, "data", RawData, "an object with images and annotations")
    cameras = load(source.camera, root, "camera", Cameras, "cameras by capture")
    joints = load(source.joints, root, "joints", Joints, "joints by capture and frame")
    images: dict[int, RawImage] = {}
    for number, raw in enumerate(data.images):
        try:
            image = decode(raw, _image)
        except Quarantine as error:
            yield _reject(source, f"images[{number}]", error)
        else:
            images[image.id] = image
    seen = set[int]()
    for number, raw in enumerate(data.annotations):
        place = f"annotations[{number}]"
        try:
            item = decode(raw, _annotation)
            if item.image_id not in images:
                raise Quarantine("id.orphan", f"no image has id {item.image_id}")
            if item.image_id in seen:
                raise Quarantine("id.duplicate", f"image {item.image_id} came before")
            seen.add(item.image_id)
            image = images[item.image_id]
            hands = _hands(item.joint_valid, _projected(image, cameras, joints))
        except Quarantine as error:
            yield _reject(source, place, error)
            continue
        path = f"{source.images}/{image.file_name}" if source.images else image.file_name
        yield Annotation(
            key=str(image.id),
            images=(Image(path=path, width=image.width, height=image.height),),
            instances=hands,
            origin=Origin(file=source.data, record=place),
        )
    for lost in images.keys() - seen:
        yield _reject(source, f"image {lost}", Quarantine("id.orphan", "no annotation names it"))


def _reject(source: Source, place: str, error: Quarantine) -> Rejected:
    origin = Origin(file=source.data, record=place)
    return Rejected(key=place, reason=error.reason, detail=error.detail, origin=origin)


def _projected(image: RawImage, cameras: Cameras, joints: Joints) -> Places:
    """Return x, y and depth of the 42 joints in a picture, in pixels and millimetres [42, 3]. Raises Quarantine."""
    capture, frame = str(image.capture), str(image.frame_idx)
    if capture not in cameras or image.camera not in cameras[capture].campos:
        raise Quarantine("id.orphan", f"no camera {image.camera} of capture {capture}")
    if frame not in joints.get(capture, {}):
        raise Quarantine("id.orphan", f"no joints of capture {capture}, frame {frame}")
    camera = cameras[capture]
    try:
        turned = np.array(camera.camrot[image.camera], np.float64)
        focal, centre = camera.focal[image.camera], camera.princpt[image.camera]
    except KeyError as error:
        raise Quarantine("id.orphan", f"camera {image.camera} of capture {capture} lacks numbers") from error
    world = np.array(joints[capture][frame].world_coord, np.float64)
    if world.shape != (2 * _HAND, 3) or turned.shape != (3, 3):
        raise Quarantine("keypoint.count", f"{len(world)} joints, expected {2 * _HAND}")
    seen = (world - np.array(camera.campos[image.camera])) @ turned.T
    depth = np.where(seen[:, 2] > 0, seen[:, 2], np.nan)
    return np.stack(
        (seen[:, 0] / depth * focal[0] + centre[0], seen[:, 1] / depth * focal[1] + centre[1], depth), axis=1
    )


def _hands(valid: list[list[float]], places: Places) -> tuple[Instance, ...]:
    """Return the hands that have a joint; one behind the camera is not labelled. Raises Quarantine."""
    flags = [flag for row in valid for flag in row]
    if len(flags) != 2 * _HAND:
        raise Quarantine("keypoint.count", f"{len(flags)} joints are said to be valid or not, expected 42")
    made = []
    for side, first in _SIDES.items():
        points = tuple(_point(flags[first + place], places[first + place]) for place in _ORDER)
        box = box_around(points)
        if box is not None:
            made.append(Instance(id=side, category="hand", box=box, keypoints=points))
    if not made:
        raise Quarantine("keypoint.none", "no joint of either hand is valid")
    return tuple(made)


def _point(flag: float, place: Places) -> Keypoint:
    if not flag or not np.isfinite(place).all():
        return (0.0, 0.0, 0)
    return (float(place[0]), float(place[1]), 2)
