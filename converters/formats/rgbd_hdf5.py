"""Colour and depth as arrays, an HDF5 file a frame: NYU Depth V2 as FastDepth and Datumaro have it.

Conventions (dwofk/fast-depth, dataloaders/dataloader.py): `rgb` is [3, height, width], numbers from 0 to 255; `depth`
is [height, width] in metres along the optical axis, 0 where nothing was measured. Both are written out as PNG files
before anything is read: the depth in 16 bits, of which one is `1 / scale` metres; what does not fit states nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from converters import array_pictures, hdf5_files
from dataengine.annotation import Annotation, Image, Measure, Origin, Rejected
from dataengine.errors import DataEngineError, Quarantine, SourceError
from dataengine.files import Root, digest_file, write_atomic
from dataengine.images import MAX_BYTES, MAX_PIXELS
from dataengine.listing import Fit, Listing, several

VERSION = "1"

_AXES = {"rgb": 3, "depth": 2}
_MOST = np.iinfo(np.uint16).max
Numbers = npt.NDArray[np.generic]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`frames` are the files (a pattern), `to` the folder below the root that pictures are written to.

    `scale` is how many steps of the 16-bit depth make a metre: 1000 reaches to 65.5 m.
    """

    frames: str
    to: str = "unpacked"
    scale: float = 1000.0

    def __post_init__(self) -> None:
        if not self.to.strip("/"):
            raise ValueError("to is empty, expected a folder of its own for the pictures")
        if not self.scale > 0:
            raise ValueError(f"scale is {self.scale}, expected a number above 0")


def recognise(listing: Listing) -> Fit | str:
    """Say whether HDF5 files of the folder hold colour and depth."""
    files = listing.ending(".h5", ".hdf5")
    if not files:
        return "no file *.h5"
    try:
        with hdf5_files.arrays(listing.root.inside(files[0]), _AXES):
            pass
    except (SourceError, Quarantine) as error:
        return str(error)
    suffix = PurePosixPath(files[0]).suffix
    return Fit(
        splits={"train": {"frames": f"**/*{suffix}"}},
        tasks=("depth",),
        why=f"{several(files)}: rgb and depth in HDF5",
        certainty=3,
    )


def prepare(source: Source, directory: Path) -> None:
    """Write the pictures that are not there yet; `read` tells of a frame that has none. Raises SourceError."""
    root = Root(directory)
    for file in root.glob(source.frames):
        targets = _pictures(source, file)
        try:
            if _written(root, targets):
                continue
            color, depth = _frame(root, file, source.scale)
        except Quarantine:
            continue
        array_pictures.write(root, [(targets[0], partial(np.asarray, color))])
        data = io.BytesIO()
        Pillow.fromarray(depth).save(data, "PNG")
        try:
            write_atomic(root.inside(targets[1]), data.getvalue())
        except DataEngineError as error:
            raise SourceError(f"{error}; pictures are written below --root") from error


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a file, in the order of their names."""
    for file in root.glob(source.frames):
        origin = Origin(file=file, record="depth")
        key = str(PurePosixPath(file).with_suffix(""))
        color, depth = targets = _pictures(source, file)
        try:
            if not _written(root, targets):
                _frame(root, file, source.scale)  # which says why
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)
            continue
        root.digests[file] = digest_file(root.inside(file))
        measure = Measure(quantity="depth", unit="m", scale=source.scale, invalid=(0,))
        yield Annotation(
            key=key,
            images=(Image(path=color), Image(path=depth, role="target", measure=measure)),
            origin=origin,
        )


def _pictures(source: Source, file: str) -> tuple[str, str]:
    """Return where the colours and the depth of a frame are written."""
    stem = f"{source.to.rstrip('/')}/{PurePosixPath(file).with_suffix('')}"
    return f"{stem}_rgb.png", f"{stem}_depth.png"


def _written(root: Root, targets: tuple[str, str]) -> bool:
    return all(root.inside(target).is_file() for target in targets)


def _frame(root: Root, file: str, scale: float) -> tuple[Numbers, Numbers]:
    """Return colours [height, width, 3] of 8 bits and depth [height, width] of 16.

    Raises Quarantine `map.corrupt`, `map.too_large` and `map.format`.
    """
    path = root.inside(file)
    if path.stat().st_size > MAX_BYTES:
        raise Quarantine("map.too_large", f"{file} has more than {MAX_BYTES} bytes")
    try:
        with hdf5_files.arrays(path, _AXES) as parts:
            shapes = parts["rgb"].shape, parts["depth"].shape
            if shapes[0] != (3, *shapes[1]) or not 0 < shapes[1][0] * shapes[1][1] <= MAX_PIXELS:
                raise Quarantine(
                    "map.format", f"{file}: rgb is {shapes[0]}, depth {shapes[1]}, expected one size"
                )
            color, depth = np.asarray(parts["rgb"], float), np.asarray(parts["depth"], float)
    except SourceError as error:
        raise Quarantine("map.corrupt", str(error).replace(str(path), file)) from error
    if not (np.isfinite(color).all() and color.min() >= 0 and color.max() <= 255):
        raise Quarantine("map.format", f"{file}: rgb is not all within 0 to 255")
    stored = np.rint(np.where(np.isfinite(depth), depth, 0.0) * scale)
    stored[(stored < 0) | (stored > _MOST)] = 0
    return color.transpose(1, 2, 0).astype(np.uint8), stored.astype(np.uint16)
