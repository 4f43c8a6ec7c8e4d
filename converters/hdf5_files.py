"""Arrays of HDF5 files, opened with care.

An HDF5 file can have parts in other files, anywhere on the machine; an array that does is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from dataengine.errors import SourceError


@contextmanager
def arrays(path: Path, axes: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Give the named arrays of numbers, each with so many axes, while the file is open. Raises SourceError."""
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise SourceError(
            f"{path}: needs the package h5py, which is not installed; run 'pip install h5py'"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            yield {name: _array(h5py, file, name, count, path) for name, count in axes.items()}
    # What the library raises where a damaged file does not hold what its tables promise.
    except (OSError, RuntimeError, KeyError) as error:
        number = getattr(error, "errno", None)
        # Its own words for what the system refuses are lines long and tell the time.
        why = os.strerror(number) if number else " ".join(str(error).split())
        raise SourceError(f"{path}: {why}; expected a whole HDF5 file") from error


def _array(h5py: Any, file: Any, name: str, axes: int, path: Path) -> Any:
    """Return an array of the file that lies in the file itself. Raises SourceError."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise SourceError(f"{path}: no {name} in the file itself; expected an array of that name")
    part = file[name]
    if not isinstance(part, h5py.Dataset) or part.external or part.is_virtual:
        raise SourceError(f"{path}: {name} lies in another file; expected it inside")
    if part.ndim != axes or part.dtype.kind not in "uifb":
        raise SourceError(f"{path}: {name} is {part.shape} of {part.dtype}, expected {axes} axes of numbers")
    return part
