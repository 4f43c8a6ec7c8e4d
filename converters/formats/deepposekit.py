"""DeepPoseKit: an HDF5 file with pictures and the keypoints of the one animal on each.

Conventions (jgraving/DeepPoseKit, deepposekit/io/DataGenerator.py): `images` is [number, height, width, channels],
`annotations` [number, keypoint, (x, y)] in pixels from 0, `annotated` whether somebody placed each keypoint, and
`skeleton` the parent of each keypoint and its mirror partner, -1 for none. A keypoint at -1 is missing. There is no
box, so the smallest one around the keypoints is taken; the names of the keypoints are in no file of HDF5 and are told
by the spec. The pictures are written out as PNG files before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from converters import array_pictures, hdf5_files
from converters.formats.coco_keypoints import flip_pairs
from converters.landmarks import box_around
from dataengine.annotation import Annotation, Image, Instance, Keypoint, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root, digest_file

VERSION = "1"

_ABSENT = (0.0, 0.0, 0)


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` is the HDF5 file; `images` the folder below the root that the pictures are written to.

    `category` is what every picture shows, and `keypoints` are the names of its keypoints in their order.
    """

    annotations: str = "annotation_data_release.h5"
    images: str = "unpacked"
    category: str
    keypoints: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.images.strip("/"):
            raise ValueError("images is empty, expected a folder of its own for the pictures")


def prepare(source: Source, directory: Path) -> None:
    """Write the pictures that are not there yet. Raises SourceError."""
    root = Root(directory)
    with _opened(source, root) as parts:
        images = parts["images"]
        array_pictures.write(
            root,
            (
                (_picture(source, number), partial(images.__getitem__, number))
                for number in range(len(images))
            ),
        )


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the one category with its keypoints, and the skeleton that the file states."""
    with _opened(source, root) as parts:
        parents = np.asarray(parts["skeleton"])[:, 0].astype(int).tolist()
    count = len(source.keypoints)
    label = Label(
        name=source.category,
        keypoints=source.keypoints,
        skeleton=tuple((number, parent) for number, parent in enumerate(parents) if 0 <= parent < count),
        flip_pairs=flip_pairs(source.keypoints),
    )
    return LabelSpace(id="source", labels=(label,))


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in the order of the file."""
    with _opened(source, root) as parts:
        places, placed = np.asarray(parts["annotations"], float), np.asarray(parts["annotated"], bool)
        for number in range(len(places)):
            origin = Origin(file=source.annotations, record=f"annotations[{number}]")
            try:
                animal = _instance(source, places[number], placed[number])
            except Quarantine as error:
                yield Rejected(key=str(number), reason=error.reason, detail=error.detail, origin=origin)
            else:
                yield Annotation(
                    key=str(number),
                    images=(Image(path=_picture(source, number)),),
                    instances=(animal,),
                    origin=origin,
                )


def _instance(source: Source, places: Any, placed: Any) -> Instance:
    points: tuple[Keypoint, ...] = tuple(
        (float(x), float(y), 2) if there and np.isfinite((x, y)).all() and min(x, y) >= 0 else _ABSENT
        for (x, y), there in zip(places, placed, strict=True)
    )
    box = box_around(points)
    if box is None:
        raise Quarantine("keypoint.none", "no keypoint is annotated")
    return Instance(id="0", category=source.category, box=box, keypoints=points)


def _picture(source: Source, number: int) -> str:
    return f"{source.images.rstrip('/')}/{number}.png"


@contextmanager
def _opened(source: Source, root: Root) -> Iterator[dict[str, Any]]:
    """Give the arrays of the file while it is open. Raises SourceError."""
    path = root.annotation(source.annotations, "annotations")
    with hdf5_files.arrays(path, _AXES) as parts:
        counts = {len(parts[name]) for name in ("images", "annotations", "annotated")}
        sizes = {parts["annotations"].shape[1], parts["annotated"].shape[1], len(parts["skeleton"])}
        if len(counts) != 1 or sizes != {len(source.keypoints)}:
            shapes = ", ".join(f"{name} {part.shape}" for name, part in parts.items())
            raise SourceError(
                f"{path}: {shapes}; expected as many of each, and {len(source.keypoints)} keypoints"
            )
        yield parts
    root.digests[source.annotations] = digest_file(path)


# How many axes each array has.
_AXES = {"images": 4, "annotations": 3, "annotated": 2, "skeleton": 2}
