"""COCO keypoints: COCO instances whose annotations add `keypoints`, and whose categories name them.

Conventions (cocodataset.org/#format-data, section 2): x, y, v for each keypoint, in pixels from 0; v 0 not labelled,
1 labelled but hidden, 2 visible; the category's skeleton counts keypoints from 1. Look-alikes differ: AnimalKingdom
and ATRW count the skeleton from 0, CrowdPose carries COCO's skeleton of 17 keypoints for its own 14, RHD nests one
list a keypoint, Human-Art has 17 and 21 keypoints side by side, the face sets name no keypoint at all (a label space
has to). `num_keypoints` of a record is not trusted: CrowdPose's is wrong in most records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from converters.formats import coco_instances as coco
from converters.json_files import UNREADABLE
from dataengine.annotation import Annotation, Image, Instance, Keypoint, Label, LabelSpace, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits

VERSION = "2"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations`, `images`, `strip` and `exhaustive` as in `coco_instances`.

    `keypoints_field` is the key of the keypoints. `num_keypoints` takes the first so many of the names that a category
    gives (Human-Art: 17 of 21), or states how many there are where it gives none.
    """

    annotations: str
    images: str = ""
    strip: str = ""
    exhaustive: bool = True
    keypoints_field: str = "keypoints"
    num_keypoints: int | None = None


class RawPose(coco.RawAnnotation):
    points: msgspec.Raw = msgspec.Raw(b"")
    num_keypoints: msgspec.Raw = msgspec.Raw(b"")


COCO_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
# Standard deviations of human labellers relative to object scale, as COCO's own evaluation takes them.
COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip

_flat = msgspec.json.Decoder(list[float])
_nested = msgspec.json.Decoder(list[list[float]])
_SIDE = re.compile(r"left|right", re.IGNORECASE)
# A lone letter (`L_Eye`), or one at the end of a word (`eyeL`, `forelegL1`).
_LETTER = re.compile(r"(?<![A-Za-z])[LRlr](?![A-Za-z])|(?<=[a-z])[LR](?![A-Za-z])")
_OTHER = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT",
          "L": "R", "R": "L", "l": "r", "r": "l"}  # fmt: skip


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the categories in the order of their ids, with keypoint names, skeleton, mirror partners and sigmas."""
    raw = coco.load(source.annotations, root)
    ordered = sorted(raw.categories, key=lambda category: category.id)
    unique: dict[str, coco.RawCategory] = {}
    for category in ordered:
        unique.setdefault(category.name.strip(), category)
    return LabelSpace(
        id="source", labels=tuple(_label(name, category, source) for name, category in unique.items())
    )


def _label(name: str, category: coco.RawCategory, source: Source) -> Label:
    names = tuple(keypoint.strip() for keypoint in category.keypoints or ())
    pairs = zero_based(category.skeleton or (), len(names))
    names = names[: source.num_keypoints]
    return Label(
        name=name,
        keypoints=names,
        skeleton=tuple(pair for pair in pairs if max(pair) < len(names)),
        flip_pairs=flip_pairs(names),
        sigmas=COCO_SIGMAS if names == COCO_NAMES else (),
    )


def zero_based(skeleton: Sequence[Sequence[int]], count: int) -> tuple[tuple[int, int], ...]:
    """Return the pairs counted from 0: a skeleton that holds a 0 is so already.

    A skeleton with a pair beyond the keypoints was made for others: none of its pairs can be believed, so all go.
    """
    ends = [end for pair in skeleton for end in pair]
    origin = 0 if 0 in ends else 1
    if any(len(pair) != 2 for pair in skeleton) or any(not origin <= end < count + origin for end in ends):
        return ()
    return tuple((pair[0] - origin, pair[1] - origin) for pair in skeleton)


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the mirror partners as positions: names that differ in left and right (words or single letters) alone."""
    place = {name: position for position, name in enumerate(names)}
    pairs = set[tuple[int, int]]()
    for name, position in place.items():
        for pattern in (_SIDE, _LETTER):
            partner = place.get(pattern.sub(lambda found: _OTHER.get(found[0], found[0]), name), position)
            if partner != position:
                pairs.add((min(position, partner), max(position, partner)))
    return tuple(sorted(pairs))


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds COCO keypoints: annotations with `keypoints`."""
    files = coco.coco_files(listing, lambda record: "keypoints" in record)
    if isinstance(files, str):
        return files
    why = f"{coco.named(files)}: images, categories and keypoints"
    return Fit(splits=name_splits(files), tasks=("keypoints", "detection"), why=why)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation an image, in file order, and a rejection for every record that fits nowhere."""
    raw = coco.load(source.annotations, root)
    names = coco.category_names(raw)
    counts = {
        category.id: len((category.keypoints or [])[: source.num_keypoints]) or source.num_keypoints
        for category in raw.categories
    }

    def make(record: RawPose, place: str, image: Image) -> Instance:
        made = coco.instance(record, place, names, image.width, image.height)
        expected = source.num_keypoints if record.category_id is None else counts[record.category_id]
        points = keypoints(record.points, expected)
        # Of a part of the keypoints nobody can say whether the stated number is theirs.
        stated = b"" if source.keypoints_field != "keypoints" else bytes(record.num_keypoints)
        attributes = {"num_keypoints": stated.decode()} if stated.isdigit() else {}
        return msgspec.structs.replace(made, keypoints=points, attributes=attributes)

    naming = coco.Naming(source.images, source.strip)
    for item in coco.join(raw, source.annotations, naming, _decoder(source.keypoints_field)):
        if isinstance(item, Rejected):
            yield item
        else:
            yield from coco.annotate(item, source.annotations, names, source.exhaustive, make)


def _decoder(field: str) -> msgspec.json.Decoder[RawPose]:
    """Return a decoder of records that have their keypoints under the key `field`."""
    points = msgspec.field(default=msgspec.Raw(b""), name=field)
    named = msgspec.defstruct("RawNamedPose", [("points", msgspec.Raw, points)], bases=(RawPose,))
    return msgspec.json.Decoder(named)


def keypoints(data: msgspec.Raw, expected: int | None) -> tuple[Keypoint, ...] | None:
    """Return the keypoints of a record, or None where it has none; all may be unlabelled.

    Raises Quarantine `keypoint.count` (not three numbers each, or not the `expected` count), `keypoint.visibility`.
    """
    raw = bytes(data)
    if raw in (b"", b"null", b"[]"):
        return None
    try:
        if raw[1:].lstrip().startswith(b"["):
            values = [value for point in _nested.decode(raw) for value in _triple(point)]
        else:
            values = _flat.decode(raw)
    except UNREADABLE as error:
        raise Quarantine("schema", f"keypoints: {error}") from error
    if len(values) % 3 or (expected is not None and len(values) != 3 * expected):
        raise Quarantine(
            "keypoint.count",
            f"{len(values)} numbers, expected {3 * expected if expected else 'x, y, v for each'}",
        )
    wrong = next((v for v in values[2::3] if v not in (0, 1, 2)), None)
    if wrong is not None:
        raise Quarantine("keypoint.visibility", f"v is {wrong!r}, expected 0, 1 or 2")
    return tuple((x, y, int(v)) for x, y, v in zip(values[0::3], values[1::3], values[2::3], strict=True))


def _triple(point: list[float]) -> list[float]:
    if len(point) != 3:
        raise Quarantine("keypoint.count", f"a keypoint has {len(point)} numbers, expected x, y, v")
    return point
