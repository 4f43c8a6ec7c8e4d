"""300-W and its kin: one `.pts` file of landmarks a face, beside the picture of the same name.

Conventions (ibug.doc.ic.ac.uk, facial point annotations): `version`, `n_points`, then a pair of numbers for each
landmark between braces; pixels from 1. There is no box, so the smallest one around the landmarks is taken, and nothing
says what hides a landmark. A file shows one face, and other faces of the picture are not annotated.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from glob import escape
from pathlib import PurePosixPath

import msgspec

from converters.landmarks import box_around, numbers, visible
from dataengine.annotation import Annotation, Image, Instance, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.spill import Keys

VERSION = "1"
_MAX_BYTES = 1 << 20


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`annotations` are the folders that hold `.pts` files, however deep.

    `images` is the pictures' folder as seen from that of a file (`../imgs`); the first of `extensions` that is there
    counts. `category` is what the landmarks are of, named by a label space, and `num_points` how many there are.
    """

    annotations: tuple[str, ...] = ("",)
    images: str = ""
    extensions: tuple[str, ...] = ("jpg", "png")
    category: str = "face"
    num_points: int = 68

    def __post_init__(self) -> None:
        if not self.extensions:
            raise ValueError("extensions is empty, expected endings such as jpg")


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a file, folder by folder in the order of their names."""
    seen = Keys()
    for folder in source.annotations:
        root.annotation(folder or ".", "annotations")
        found = root.glob(f"{escape(folder)}/**/*.pts" if folder else "**/*.pts")
        if not found:
            raise SourceError(
                f"{root.directory / folder}: no .pts file; the spec needs it as source.annotations"
            )
        for file in found:
            name = file.encode(errors="replace").decode()
            origin = Origin(file=name, record="points")
            try:
                if name != file:
                    raise Quarantine("path.invalid", f"{name!r} is no name in UTF-8")
                if file in seen:
                    raise Quarantine("id.duplicate", f"{file!r} came before")
                seen.add(file)
                yield _annotation(source, root, file, origin)
            except Quarantine as error:
                yield Rejected(key=name, reason=error.reason, detail=error.detail, origin=origin)


def _annotation(source: Source, root: Root, file: str, origin: Origin) -> Annotation:
    if root.inside(file).stat().st_size > _MAX_BYTES:
        raise Quarantine("schema", f"more than {_MAX_BYTES} bytes, which no file of landmarks has")
    values = parse(root.read(file, "annotations"))
    if len(values) != 2 * source.num_points:
        raise Quarantine("keypoint.count", f"{len(values)} numbers, expected {2 * source.num_points}")
    points = visible(values, 1)
    face = Instance(id="0", category=source.category, box=box_around(points), keypoints=points)
    return Annotation(
        key=file.removesuffix(".pts"),
        images=(Image(path=_picture(source, root, file)),),
        instances=(face,),
        exhaustive=False,
        origin=origin,
    )


def parse(data: bytes) -> list[float]:
    """Return the numbers between the braces. Raises Quarantine `schema` or `keypoint.nonfinite`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Quarantine("schema", f"no text: {error}") from error
    head, brace, rest = text.partition("{")
    body, end, _ = rest.partition("}")
    if not brace or not end:
        raise Quarantine("schema", "no { … } around the landmarks; is the file whole?")
    values = numbers(body.split())
    stated = head.partition("n_points:")[2].split()
    if stated and stated[0] != str(len(values) // 2):
        raise Quarantine(
            "keypoint.count", f"n_points is {stated[0]!r:.20}, but there are {len(values)} numbers"
        )
    return values


def _picture(source: Source, root: Root, file: str) -> str:
    """Return the path of a file's picture, with the first ending where none of them is there."""
    path = PurePosixPath(file)
    names = [
        posixpath.normpath(str(path.parent / source.images / f"{path.stem}.{ending}"))
        for ending in source.extensions
    ]
    return next((name for name in names if root.inside(name).is_file()), names[0])
