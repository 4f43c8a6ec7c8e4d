"""COCO-WholeBody: COCO keypoints whose records add feet, a face and two hands.

Conventions (github.com/jin-s13/COCO-WholeBody, data_format.md): boxes are x, y, width, height, and keypoints x, y, v,
in pixels from 0, as in COCO. `foot_kpts`, `face_kpts`, `lefthand_kpts` and `righthand_kpts` count where `foot_valid`
and so on say so; the others are of too small or too blurred a part, and zeros. Flags of these groups may be
fractions: a keypoint counts above 0.

The groups are more keypoints than one question can ask for, so a split is one part: the person with body and feet (23),
faces (68) or hands (21 each, side by side as an attribute). A part that nobody could annotate is somewhere inside its
person: that region is neither an object nor background.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from converters.formats import coco_instances as coco
from converters.formats.coco_keypoints import keypoints
from converters.json_files import UNREADABLE
from dataengine.annotation import Annotation, Instance, Keypoint, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.geometry import from_xywh

VERSION = "2"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations`, `images` and `strip` as in `coco_instances`; `part` is also the name of the class.

    The keypoints are named by a label space: `person23`, `face68` or `hand21`.
    """

    annotations: str
    images: str = ""
    strip: str = ""
    part: Literal["person", "face", "hand"] = "person"


class RawPerson(coco.RawAnnotation):
    keypoints: msgspec.Raw = msgspec.Raw(b"")
    foot_kpts: msgspec.Raw = msgspec.Raw(b"")
    face_kpts: msgspec.Raw = msgspec.Raw(b"")
    lefthand_kpts: msgspec.Raw = msgspec.Raw(b"")
    righthand_kpts: msgspec.Raw = msgspec.Raw(b"")
    face_box: tuple[float, float, float, float] | None = None
    lefthand_box: tuple[float, float, float, float] | None = None
    righthand_box: tuple[float, float, float, float] | None = None
    foot_valid: bool | None = None
    face_valid: bool | None = None
    lefthand_valid: bool | None = None
    righthand_valid: bool | None = None


_BODY, _FEET, _FACE, _HAND = 17, 6, 68, 21
_person = msgspec.json.Decoder(RawPerson)
_flat = msgspec.json.Decoder(list[float])


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation an image, in file order, and a rejection for every record that fits nowhere."""
    raw = coco.load(source.annotations, root)
    names = coco.category_names(raw)
    naming = coco.Naming(source.images, source.strip)
    for item in coco.join(raw, source.annotations, naming, _person):
        if isinstance(item, Rejected):
            yield item
            continue
        instances: list[Instance] = []
        rejected = []
        for place, record in item.records:
            person = Instance(id=place)
            try:
                person = coco.instance(record, place, names, item.image.width, item.image.height)
                instances += _parts(source, record, person)
            except Quarantine as error:
                rejected.append(coco.reject(source.annotations, place, error.reason, error.detail))
                instances.append(Instance(id=person.id, category=source.part, box=person.box, ignore=True))
        yield Annotation(
            key=item.key,
            images=(item.image,),
            instances=tuple(instances),
            # A face may look out of a crowd that nobody took apart.
            exhaustive=item.whole and source.part == "person",
            origin=Origin(file=source.annotations, record=item.place),
        )
        yield from rejected


def _parts(source: Source, record: RawPerson, person: Instance) -> list[Instance]:
    """Return the objects that one record stands for. Raises Quarantine as `coco_keypoints.keypoints` does."""
    if person.crowd or person.ignore:
        return [msgspec.structs.replace(person, category=source.part)]
    match source.part:
        case "person":
            body = keypoints(record.keypoints, _BODY)
            if body is None:
                return [msgspec.structs.replace(person, category="person")]
            feet = _group(record.foot_kpts, record.foot_valid, _FEET) or ((0.0, 0.0, 0),) * _FEET
            return [msgspec.structs.replace(person, category="person", keypoints=(*body, *feet))]
        case "face":
            points = _group(record.face_kpts, record.face_valid, _FACE)
            return [_part(person, "face", "face", record.face_box, points)]
        case "hand":
            left = _group(record.lefthand_kpts, record.lefthand_valid, _HAND)
            right = _group(record.righthand_kpts, record.righthand_valid, _HAND)
            return [
                _part(person, "hand", "left", record.lefthand_box, left),
                _part(person, "hand", "right", record.righthand_box, right),
            ]


def _part(
    person: Instance,
    name: str,
    side: str,
    box: tuple[float, float, float, float] | None,
    points: tuple[Keypoint, ...] | None,
) -> Instance:
    key = f"{person.id}.{side}"
    if points is None or box is None:
        return Instance(id=key, category=name, box=person.box, ignore=True)
    attributes = {"side": side} if name == "hand" else {}
    return Instance(id=key, category=name, box=from_xywh(box), keypoints=points, attributes=attributes)


def _group(data: msgspec.Raw, valid: bool | None, count: int) -> tuple[Keypoint, ...] | None:
    """Return the keypoints of a group, or None where it is not valid. Raises Quarantine `schema`, `keypoint.count`."""
    if not valid:
        return None
    try:
        values = _flat.decode(data)
    except UNREADABLE as error:
        raise Quarantine("schema", f"keypoints: {error}") from error
    if len(values) != 3 * count:
        raise Quarantine("keypoint.count", f"{len(values)} numbers, expected {3 * count}")
    triples = zip(values[0::3], values[1::3], values[2::3], strict=True)
    return tuple((x, y, 2 if v >= 2 else 1) if v > 0 else (0.0, 0.0, 0) for x, y, v in triples)
