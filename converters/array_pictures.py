"""Pictures that stand in a file as arrays of numbers, written out as PNG files: annotations name files."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from dataengine.errors import DataEngineError, Quarantine, SourceError
from dataengine.files import Root, write_atomic
from dataengine.images import MAX_PIXELS


def write(root: Root, pictures: Iterable[tuple[str, Callable[[], npt.NDArray[Any]]]]) -> int:
    """Write the pictures that are not there yet, and return how many. Raises SourceError.

    Each has a name and a function that gives its array, which is called where the file is not there. An array is
    [height, width], with 1 or 3 channels or without, of numbers from 0 to 255. One that is no picture is passed over:
    whoever names its file finds none, and says so.
    """
    written = 0
    for name, take in pictures:
        try:
            path = root.inside(name)
        except Quarantine:
            continue  # The annotation that names this file is rejected for it.
        if path.is_file() or (data := _png(take())) is None:
            continue
        try:
            write_atomic(path, data)
        except DataEngineError as error:
            raise SourceError(f"{error}; pictures are written below --root") from error
        written += 1
    return written


def _png(values: npt.NDArray[Any]) -> bytes | None:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    grey, color = values.ndim == 2, values.ndim == 3 and values.shape[2] == 3
    if not (grey or color) or not 0 < values.shape[0] * values.shape[1] <= MAX_PIXELS:
        return None
    if values.dtype.kind not in "uif" or values.min() < 0 or values.max() > 255:
        return None
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values.astype(np.uint8))).save(file, "PNG")
    return file.getvalue()
