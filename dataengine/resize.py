"""Pictures made smaller when they are sharded, as a spec declares, and the facts of a sample scaled with them.

A picture is made anew only where it is larger than declared; any other keeps its bytes. The sides of the new one are
whole pixels, so each axis has a scale of its own, which all facts on the picture share. Measured pictures (depth,
disparity, normals) keep their numbers: pixels are picked, not mixed, and stored without loss.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeVar

import msgspec
import numpy as np
import PIL
import simplejpeg
from PIL import Image, features

from dataengine.annotation import Box, Keypoint, Rle
from dataengine.errors import Quarantine
from dataengine.geometry import mask_from_rle, rle_from_mask
from dataengine.images import Format, Numbers, Pixels, decode, numbers
from dataengine.sample import (
    InstanceTargets,
    KeypointTargets,
    Mark,
    Region,
    Sample,
    TargetInstance,
)

T = TypeVar("T", bound=InstanceTargets | KeypointTargets)
VERSION = "1"  # changes whenever the same picture would become other pixels, or facts other numbers
Scale = tuple[float, float]


class Pictures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How large the pictures of a shard may be: neither side longer than `longest`, nor both longer than `shortest`.

    What is larger is made smaller and stored as `format` (as it was, where none is given: JPEG, or PNG for all else).
    """

    longest: int | None = None
    shortest: int | None = None
    format: Literal["jpeg", "png"] | None = None
    quality: int = 90

    def __post_init__(self) -> None:
        sides = [side for side in (self.longest, self.shortest) if side is not None]
        if not sides or min(sides) < 16:
            raise ValueError("expected longest or shortest, of at least 16 pixels")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality {self.quality}, expected 1 to 100")

    def size_for(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) that a picture is given; its own where it is small enough."""
        longest, shortest = max(width, height), min(width, height)
        share = min(1.0, (self.longest or longest) / longest, (self.shortest or shortest) / shortest)
        if share == 1.0:
            return width, height
        return max(round(width * share), 1), max(round(height * share), 1)


@lru_cache(1)
def encoder() -> str:
    """Return what decides the bytes of a picture made anew: another build may give others."""
    return (
        f"resize {VERSION}, Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')},"
        f" zlib {features.version('zlib_ng') or features.version('zlib')}, simplejpeg {simplejpeg.__version__}"
    )


def shrunk(data: bytes, size: tuple[int, int]) -> Pixels:
    """Return a picture's pixels, uint8 RGB of a (width, height), EXIF orientation applied; Lanczos with antialiasing.

    Raises Quarantine `image.corrupt` where it cannot be decoded whole.
    """
    return np.asarray(Image.fromarray(decode(data)).resize(size, Image.Resampling.LANCZOS))


def packed(pixels: Pixels, made: Literal["jpeg", "png"], quality: int) -> bytes:
    """Return RGB pixels as a file: baseline JPEG with colours of half the size (4:2:0), or PNG.

    The same pixels give the same bytes with the same `encoder`.
    """
    sink = io.BytesIO()
    if made == "jpeg":
        Image.fromarray(pixels).save(
            sink, "JPEG", quality=quality, subsampling=2, optimize=False, progressive=False
        )
    else:
        Image.fromarray(pixels).save(sink, "PNG", compress_level=6, optimize=False)
    return sink.getvalue()


def picked(data: bytes, size: tuple[int, int]) -> tuple[bytes, Format]:
    """Return a measured picture of a (width, height) with numbers of the old one, none mixed, and its format.

    Eight or 16 bits become a PNG, all others a TIFF. Raises Quarantine `image.corrupt`.
    """
    stored = numbers(data)
    rows, columns = (_nearest(old, new) for old, new in zip(stored.shape[:2], size[::-1], strict=True))
    small: Numbers = np.ascontiguousarray(stored[rows][:, columns])
    sink = io.BytesIO()
    made: Format = "png" if small.dtype in (np.uint8, np.uint16) else "tiff"
    Image.fromarray(small).save(sink, made.upper(), **({"compression": "raw"} if made == "tiff" else {}))
    if not np.array_equal(numbers(sink.getvalue()), small):
        raise Quarantine("map.encoding", f"numbers of kind {small.dtype} cannot be stored without loss")
    return sink.getvalue(), made


def _nearest(old: int, new: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return which of `old` rows stands nearest to the middle of each of `new` ones."""
    return ((2 * np.arange(new, dtype=np.int64) + 1) * old) // (2 * new)


def scaled(sample: Sample, number: int, size: tuple[int, int], made: Format) -> Sample:
    """Return a sample with one of its pictures of a (width, height) and a format, and all facts on it scaled."""
    old = sample.images[number]
    by = (size[0] / old.width, size[1] / old.height)
    images = list(sample.images)
    images[number] = msgspec.structs.replace(old, width=size[0], height=size[1], format=made)
    targets = sample.targets
    if isinstance(targets, InstanceTargets | KeypointTargets) and number == sample.object_image:
        targets = _targets(targets, by, size)
    fields = {"images": tuple(images), "targets": targets, "regions": _on(sample.regions, number, by, size)}
    if not isinstance(sample.marks, msgspec.UnsetType):
        fields["marks"] = _on(sample.marks, number, by, size)
    return msgspec.structs.replace(sample, **fields)


def _targets(targets: T, by: Scale, size: tuple[int, int]) -> T:
    found = msgspec.structs.replace(
        targets, instances=tuple(_instance(one, by, size) for one in targets.instances)
    )
    if isinstance(found, InstanceTargets) and found.void is not None:
        found = msgspec.structs.replace(found, void=scaled_mask(found.void, size))
    return found


def _instance(one: TargetInstance, by: Scale, size: tuple[int, int]) -> TargetInstance:
    return msgspec.structs.replace(
        one,
        box=_box(one.box, by, size),
        area=round(one.area * by[0] * by[1], 3),
        mask=None if one.mask is None else scaled_mask(one.mask, size),
        keypoints=None if one.keypoints is None else tuple(_keypoint(point, by) for point in one.keypoints),
    )


def _on(
    prompts: Sequence[Region | Mark], number: int, by: Scale, size: tuple[int, int]
) -> tuple[Region | Mark, ...]:
    """Return regions or marks, those on one picture scaled."""
    return tuple(_prompt(one, by, size) if one.image == number else one for one in prompts)


def _prompt(one: Region | Mark, by: Scale, size: tuple[int, int]) -> Region | Mark:
    mask = None if one.mask is None else scaled_mask(one.mask, size)
    found = msgspec.structs.replace(one, box=_box(one.box, by, size), mask=mask)
    if isinstance(found, Mark):
        points = tuple((round(x * by[0], 1), round(y * by[1], 1)) for x, y in found.points)
        found = msgspec.structs.replace(found, points=points)
    return found


def _box(box: Box, by: Scale, size: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = box
    width, height = size
    return (
        min(round(x0 * by[0], 3), float(width)),
        min(round(y0 * by[1], 3), float(height)),
        min(round(x1 * by[0], 3), float(width)),
        min(round(y1 * by[1], 3), float(height)),
    )


def _keypoint(point: Keypoint, by: Scale) -> Keypoint:
    return (round(point[0] * by[0], 3), round(point[1] * by[1], 3), point[2])


def scaled_mask(mask: Rle, size: tuple[int, int]) -> Rle:
    """Return a mask of a (width, height): the pixels that it covers at least half; never none where it had some."""
    pixels = mask_from_rle(mask)
    cover = np.asarray(Image.fromarray(pixels * np.uint8(255)).resize(size, Image.Resampling.BOX))
    small = cover >= 128
    if not small.any() and pixels.any():
        small = cover == cover.max()
        if not cover.any():
            row, column = np.argwhere(pixels)[0]
            small = np.zeros_like(small)
            small[row * size[1] // pixels.shape[0], column * size[0] // pixels.shape[1]] = True
    return rle_from_mask(small.astype(np.uint8))
