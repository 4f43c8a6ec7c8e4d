"""Volumes with a volume of labels each (CT, MR): every plane is a picture with the mask of each class in it.

Conventions: those of `converters/volume_files.py` for NIfTI-1 files (`.nii`, `.nii.gz`) and NumPy arrays (`.npy`).
The Medical Segmentation Decathlon (medicaldecathlon.com) puts scans into `imagesTr` and labels of equal names into
`labelsTr`; a label is the number of a class, 0 background. Planes are counted from 0 along x, y or z, and shown as
radiologists look at them: head or front above, the patient's right on the left. Boxes and masks are in pixels of such
a picture, from 0 with the end exclusive.

The pictures are written below the root before anything is read: annotations name files. Numbers become brightness
between the two ends of `window`, or else between the 1st and the 99th percentile of the volume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import msgspec
import numpy as np

from converters import array_pictures, path_patterns, pixel_maps, volume_files
from converters.pixel_maps import Meanings
from converters.volume_files import Array, Plane
from dataengine.annotation import Annotation, Image, Instance, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits

VERSION = "1"
_ENDINGS = (".nii.gz", ".nii", ".npy")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`maps` is the pattern of the label files, `images` that of the scans, with the words of `maps`.

    `classes` are names by number, null is background. `channel` chooses one of several scans in a file, `plane` and
    `every` which planes are taken. `window` are the numbers that are black and white. `unpacked` is the folder below
    the root that the pictures are written to.
    """

    maps: str
    images: str
    classes: tuple[str | None, ...] | dict[str, str | None]
    channel: int = 0
    plane: Plane = "axial"
    every: int = 1
    window: tuple[float, float] | None = None
    unpacked: str = "unpacked"

    def __post_init__(self) -> None:
        path_patterns.check({"images": self.images}, self.maps, "maps")
        if self.every < 1 or self.channel < 0:
            raise ValueError(f"every {self.every}, channel {self.channel}: expected 1 or more, and 0 or more")
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ValueError(f"window {self.window}: expected the lower number first")
        if not self.unpacked.strip("/"):
            raise ValueError("unpacked is empty, expected a folder of its own for the pictures")
        meanings(self)


def meanings(source: Source) -> Meanings:
    """Return what each number of a label volume means. Raises ValueError for a number that is none."""
    given = source.classes
    pairs = given.items() if isinstance(given, dict) else ((str(n), name) for n, name in enumerate(given))
    made: Meanings = {}
    for text, name in pairs:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise ValueError(f"{text!r} is no number of a class")
        made[int(text)] = Instance(id=name, category=name) if name is not None else None
    if not any(made.values()):
        raise ValueError("classes names no class")
    return made


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared classes in their order."""
    names = dict.fromkeys(item.category for item in meanings(source).values() if item is not None)
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in names if name))


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder has scans in `imagesTr` and labels of the same names in `labelsTr`."""
    found: dict[str, tuple[str, str]] = {}
    for ending in _ENDINGS:
        for file in listing.ending(ending):
            folder, _, name = file.rpartition("/")
            scan = f"{folder.removesuffix('labelsTr')}imagesTr/{name}"
            if folder.endswith("labelsTr") and scan in listing.files:
                found.setdefault(
                    folder, (f"{folder}/{{name}}{ending}", scan.replace(name, f"{{name}}{ending}"))
                )
    if not found:
        return "no labelsTr with volumes of the names that imagesTr has"
    splits = [
        (folder, {"maps": maps, "images": images, "classes": [None, "class 1"]})
        for folder, (maps, images) in found.items()
    ]
    why = f"{len(found)} folders labelsTr beside imagesTr; dataset.json says what the numbers mean"
    return Fit(splits=name_splits(splits), tasks=("semantic_segmentation",), why=why, certainty=2)


def prepare(source: Source, directory: Path) -> None:
    """Write the pictures that are not there yet; a scan that is missing or broken has none. Raises SourceError."""
    root = Root(directory)
    for parts, _ in _cases(source, root):
        file = path_patterns.fill(source.images, parts)
        try:
            data = pixel_maps.load(file, root, "images")
            volume = volume_files.load(data, file, source.channel)
        except Quarantine:
            continue
        array_pictures.write(root, _pictures(source, parts, volume))


def _pictures(
    source: Source, parts: path_patterns.Parts, volume: Array
) -> Iterator[tuple[str, Callable[[], Array]]]:
    """Yield the name of each picture and what makes it; nothing is made of a volume whose pictures are all there."""

    @cache
    def scaled() -> Array:
        return _brightness(volume, source.window)

    def taken(number: int) -> Array:
        return volume_files.picture(scaled(), source.plane, number)

    for number in range(0, volume_files.count(volume, source.plane), source.every):
        yield _picture(source, parts, number), partial(taken, number)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a plane, volume by volume; one rejection for a volume that cannot be read."""
    meant = meanings(source)
    for parts, file in _cases(source, root):
        key = _key(source, parts)
        try:
            volume = _whole_numbers(volume_files.load(pixel_maps.load(file, root, "maps"), file), file)
        except Quarantine as error:
            origin = Origin(file=file, record="volume")
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        for number in range(0, volume_files.count(volume, source.plane), source.every):
            origin, name = Origin(file=file, record=f"{source.plane} plane {number}"), f"{key}.{number}"
            try:
                flat = volume_files.picture(volume, source.plane, number)
                instances = pixel_maps.cut(pixel_maps.runs(flat), meant)
            except Quarantine as error:
                yield Rejected(key=name, reason=error.reason, detail=error.detail, origin=origin)
                continue
            yield Annotation(
                key=name,
                images=(Image(path=_picture(source, parts, number)),),
                instances=instances,
                origin=origin,
            )


def _cases(source: Source, root: Root) -> Iterator[tuple[path_patterns.Parts, str]]:
    for file, parts in path_patterns.find(source.maps, root, "maps"):
        if not file.rpartition("/")[2].startswith(
            "._"
        ):  # what some systems put beside the files of an archive
            yield parts, file


def _key(source: Source, parts: path_patterns.Parts) -> str:
    return "/".join(parts[word] for word in path_patterns.fields(source.maps))


def _picture(source: Source, parts: path_patterns.Parts, number: int) -> str:
    return f"{source.unpacked.rstrip('/')}/{_key(source, parts)}/{source.plane}_{number:04d}.png"


def _whole_numbers(volume: Array, file: str) -> Array:
    if volume.dtype.kind == "f":
        whole = np.rint(volume)
        if not (
            np.isfinite(volume).all() and (whole == volume).all() and np.abs(whole).max(initial=0) < 2**31
        ):
            raise Quarantine(
                "map.encoding", f"{file}: numbers that are not whole, expected numbers of classes"
            )
        volume = whole
    return volume.astype(np.int64)


def _brightness(volume: Array, window: tuple[float, float] | None) -> Array:
    """Return a volume as numbers from 0 to 255; what is not finite is black."""
    values = np.nan_to_num(volume.astype(np.float32), nan=-np.inf)
    known = values[np.isfinite(values)]
    low, high = window or (np.percentile(known, (1, 99)) if known.size else (0.0, 1.0))
    share = ((values - low) / max(float(high - low), 1e-9)).clip(0, 1)
    made: Array = np.rint(255 * share).astype(np.uint8)
    return made
