"""Pictures as files: what their bytes are, against what their names say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from dataengine.audit.rule import Hit
from dataengine.images import EXTENSIONS, Probe


def format_vs_extension(path: str, header: Probe) -> Iterator[Hit]:
    """Yield a picture of another format than its name says."""
    suffix = PurePosixPath(path).suffix.lower().removeprefix(".")
    named = EXTENSIONS.get(suffix)
    if named is not None and named != header.format:
        yield Hit(f"{path}: is {header.format}")


def exif_orientation(path: str, header: Probe) -> Iterator[Hit]:
    """Yield a picture that is stored turned."""
    if header.orientation != 1:
        yield Hit(f"{path}: EXIF orientation {header.orientation}")
