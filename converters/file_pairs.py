"""Layouts with one annotation file a picture: which files there are, and the picture of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from glob import escape
from pathlib import PurePosixPath
from typing import NamedTuple

from converters import text_files
from converters.outlines import Size, picture_size
from dataengine.annotation import Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root


class Pair(NamedTuple):
    """An annotation file and its picture, both relative to the root; `stem` is what their names share."""

    stem: str
    file: str
    image: str

    def origin(self, record: str) -> Origin:
        """Return the place of a record of the annotation file."""
        return Origin(file=self.file, record=record)

    def reject(self, record: str, error: Quarantine) -> Rejected:
        """Return the rejection of a record of the annotation file."""
        return Rejected(
            key=f"{self.stem}.{record}",
            reason=error.reason,
            detail=error.detail,
            origin=self.origin(record),
        )


def pairs(
    root: Root,
    annotations: str,
    images: str | Sequence[str],
    *,
    suffix: str,
    prefix: str = "",
    extensions: Sequence[str] = ("jpg",),
    image_set: str | None = None,
) -> Iterator[Pair | Rejected]:
    """Yield each annotation file PREFIX + stem + SUFFIX of a folder, in the order of their names, or of a list file.

    The picture is the first of `images`/stem.`extensions` that is there. A stem that the list names twice or that has
    no file is rejected. Raises SourceError where the folder has no such file at all.
    """
    folders = (images,) if isinstance(images, str) else tuple(images)
    seen = set[str]()
    for stem, origin in _stems(root, annotations, prefix, suffix, image_set):
        shown = stem.encode(errors="replace").decode()
        file = str(PurePosixPath(annotations) / f"{prefix}{stem}{suffix}")
        try:
            if shown != stem:
                raise Quarantine("path.invalid", f"{shown!r} is no name in UTF-8")
            if stem in seen:
                raise Quarantine("id.duplicate", f"{stem!r} came before")
            seen.add(stem)
            if origin is not None and not root.inside(file).is_file():
                root.glob(
                    escape(file)
                )  # remembers that it was not there: a file that comes later is a change
                raise Quarantine("id.orphan", f"no such file: {file}")
            image = _picture(root, folders, stem, extensions)
        except Quarantine as error:
            place = origin or Origin(file=file.encode(errors="replace").decode(), record="file")
            yield Rejected(key=shown, reason=error.reason, detail=error.detail, origin=place)
            continue
        yield Pair(stem, file, image)


def sized(found: Iterable[Pair | Rejected], root: Root) -> Iterator[tuple[Pair, Size | None] | Rejected]:
    """Yield each pair with the size of its picture, where that can be read, and a rejection for a turned picture."""
    for pair in found:
        if isinstance(pair, Rejected):
            yield pair
            continue
        try:
            yield pair, picture_size(root, pair.image)
        except Quarantine as error:
            yield Rejected(
                key=pair.stem, reason=error.reason, detail=error.detail, origin=pair.origin("file")
            )


def _stems(
    root: Root, annotations: str, prefix: str, suffix: str, image_set: str | None
) -> Iterator[tuple[str, Origin | None]]:
    if image_set is not None:
        for number, stem in text_files.lines(image_set, root, "image_set"):
            yield stem, Origin(file=image_set, record=f"line {number}")
        return
    folder = PurePosixPath(annotations)
    root.annotation(str(folder), "annotations")
    found = root.glob(str(folder / f"{escape(prefix)}*{escape(suffix)}"))
    if not found:
        raise SourceError(
            f"{root.directory / folder}: no file {prefix}*{suffix}; the spec needs it as source.annotations"
        )
    for file in found:
        name = PurePosixPath(file).name
        yield name[len(prefix) : len(name) - len(suffix)], None


def _picture(root: Root, folders: Sequence[str], stem: str, extensions: Sequence[str]) -> str:
    """Return the first picture that is there; where none is, the first that could be. Raises Quarantine `path.*`."""
    names = [str(PurePosixPath(folder) / f"{stem}.{end}") for folder in folders for end in extensions]
    if len(names) == 1:
        root.inside(names[0])
        return names[0]
    return next((name for name in names if root.inside(name).is_file()), names[0])
