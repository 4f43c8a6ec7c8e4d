"""Folders of pictures, one a class (ImageNet, EuroSAT, Food-101), or pictures that carry the class in their name.

There is no standard; what differs from one set to the next is which folder counts, and whether its name is the class or
an id that a further file translates. Files that are no picture by their ending, hidden files, and those that `exclude`
names are not part of the set. A picture says which class it was filed under, and nothing of what else it shows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from glob import escape
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec

from converters import class_names, text_files, text_layouts
from dataengine.annotation import Annotation, Image, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.images import EXTENSIONS
from dataengine.listing import Fit, Listing, name_splits

VERSION = "1"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`images` is the folder that holds the classes' folders.

    The class is the first folder below it. `skip` passes over so many folders first, and `depth` says how many make
    the class (0: all that are left). With `class_in: name` it stands in the picture's own name. `pattern` finds it
    there: the first group of a regular expression. `rename` maps what was found to a class. `names` is a file that
    does so: lines of `folder name`, or a JSON mapping; a name ends before `cut` (`,` where synonyms follow), and a
    number is none. What neither of them knows is rejected.

    `image_set` is a file with one picture of the split a line, by its path below `images`, or by its name alone
    (`match: name`); numbers behind it are left out, and `extension` is added where there is none. `labels` are the
    classes in their order; without them they are those of `rename` and `names`, or else all folders, sorted.
    `exclude` are ends of paths, with `*` for anything. `exhaustive: true` says that a picture of one class is none of
    any other.
    """

    images: str = ""
    skip: int = 0
    depth: int = 1
    class_in: Literal["folder", "name"] = "folder"
    pattern: str | None = None
    rename: dict[str, str] = {}
    names: str | None = None
    cut: str | None = None
    image_set: str | None = None
    match: Literal["path", "name"] = "path"
    extension: str = "jpg"
    exclude: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    exhaustive: bool = False

    def __post_init__(self) -> None:
        if self.skip < 0 or self.depth < 0:
            raise ValueError("skip and depth count folders, expected 0 or more")
        try:
            groups = re.compile(self.pattern or "()").groups
        except re.error as error:
            raise ValueError(f"pattern: {error}") from error
        if groups < 1:
            raise ValueError("pattern: has no group, expected (…) around the class")


_NUMBERS = re.compile(r"(\s+-?\d+)+$")


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the declared classes, those of the names file, or else all that the folders name, sorted."""
    known = _names(source, root)
    found: list[str] = list(source.labels or known.values())
    if not found:
        for path in _pictures(source, root):
            try:
                found.append(_class(source, path, known))
            except Quarantine:
                continue
        found.sort()
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(found)))


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds nothing but pictures in folders of classes."""
    if not listing.pictures:
        return "no pictures"
    others = [file for file in listing.files if file.lower().endswith(_ANNOTATIONS)]
    if others:
        return f"{others[0]}: may say more of the pictures than their folders do"
    parts = [PurePosixPath(file).parts for file in listing.pictures]
    shared = PurePosixPath(os.path.commonpath([text_layouts.parent(file) for file in listing.pictures]))
    cut = len(shared.parts)
    split = {part[cut].lower() for part in parts} <= _SPLITS
    cut += split
    if any(len(part) != cut + 2 for part in parts):
        return "pictures are not all in folders of one depth"
    classes = {part[cut] for part in parts}
    generic = sorted(name for name in classes if _GENERIC.search(name.lower()))
    if len(classes) < 2 or generic:
        return f"{generic[0]!r} is no class" if generic else "all pictures are in one folder"
    folders = list(dict.fromkeys(str(PurePosixPath(*part[:cut])) for part in parts))
    splits: list[tuple[str, dict[str, Any]]] = [
        (folder if split else "train", {"images": folder} if folder != "." else {}) for folder in folders
    ]
    return Fit(
        splits=name_splits(splits),
        tasks=("classification",),
        why=f"pictures in {len(classes)} folders",
        certainty=1,
    )


_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_ANNOTATIONS = (
    ".json",
    ".jsonl",
    ".xml",
    ".csv",
    ".mat",
    ".parquet",
    ".tfrecord",
    ".pkl",
    ".npy",
    ".npz",
    ".h5",
)
# Folders of pictures that are no class.
_GENERIC = re.compile(
    r"^(im(age|g)s?\d*|pictures?|photos?|frames?|input|rgb|labels?|masks?|depth|seg.*|ann.*|gt.*|jpegimages|[ab])$|"
    r"_(img|label)$|alpha|trimap|matte|fg|bg|pixel.?map|resolution|hr$|lr$|mask|scribble|bounding_box|query|image.?set|image_\d|target|before|after|annot|ground.?truth|(train|test|val)$"
)


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture: in the order of the list, or of the paths where there is none."""
    known = _names(source, root)
    seen = set[str]()
    for path, origin in _items(source, root):
        try:
            if path != _printable(path):
                raise Quarantine("path.invalid", f"{path!a} is no name in UTF-8")
            if path in seen:
                raise Quarantine("id.duplicate", f"{path!r} came before")
            seen.add(path)
            yield Annotation(
                key=path,
                images=(Image(path=f"{source.images}/{path}" if source.images else path),),
                labels=(_class(source, path, known),),
                exhaustive=source.exhaustive,
                origin=origin,
            )
        except Quarantine as error:
            yield Rejected(key=_printable(path), reason=error.reason, detail=error.detail, origin=origin)


def _items(source: Source, root: Root) -> Iterator[tuple[str, Origin]]:
    """Yield each picture's path below `images`, and where it is listed."""
    if source.image_set is None:
        for path in _pictures(source, root):
            file = f"{source.images}/{path}" if source.images else path
            yield path, Origin(file=_printable(file), record="file")
        return
    places: dict[str, str] = {}
    if source.match == "name":
        for path in _pictures(source, root):
            places.setdefault(PurePosixPath(path).name, path)
    for number, line in text_files.lines(source.image_set, root, "image_set"):
        name = line.replace("\\", "/").removeprefix("./").lstrip("/")
        name = name if _is_picture(name) else _NUMBERS.sub("", name)
        name = name if _is_picture(name) else f"{name}.{source.extension}"
        # A listed picture that is not there keeps its name: whoever opens it says that it is missing.
        yield places.get(name, name), Origin(file=source.image_set, record=f"line {number}")


def _pictures(source: Source, root: Root) -> list[str]:
    if source.images:
        root.annotation(source.images, "images")
    start = f"{source.images}/" if source.images else ""
    found = [path.removeprefix(start) for path in root.glob(f"{escape(start)}**/*")]
    found = [
        path
        for path in found
        if _is_picture(path)
        and not any(part.startswith(".") for part in path.split("/"))
        and not any(fnmatch(path, f"*{pattern}") for pattern in source.exclude)
    ]
    if not found:
        raise SourceError(f"{root.directory / source.images}: no picture; the spec needs it as source.images")
    return found


def _printable(path: str) -> str:
    """Return the path, bytes that are no UTF-8 replaced (a file system lets names have them)."""
    return path.encode(errors="replace").decode()


def _is_picture(path: str) -> bool:
    return PurePosixPath(path).suffix[1:].lower() in EXTENSIONS


def _class(source: Source, path: str, known: dict[str, str]) -> str:
    """Return the class of a picture. Raises Quarantine `label.missing` or `category.unknown`."""
    folders = PurePosixPath(path).parts[:-1][source.skip :]
    named = source.class_in == "name"
    text = PurePosixPath(path).stem if named else "/".join(folders[: source.depth or None])
    if source.pattern and text:
        found = re.search(source.pattern, text)
        text = (found[1] or "") if found else ""
    if not text:
        raise Quarantine(
            "label.missing", f"{path!r} names no class, expected it in {'the name' if named else 'a folder'}"
        )
    if known and text not in known:
        raise Quarantine("category.unknown", f"{text!r} is not among the names")
    name = known.get(text, text)
    if source.labels and name not in source.labels:
        raise Quarantine("category.unknown", f"{name!r} is not among the labels")
    return name


def _names(source: Source, root: Root) -> dict[str, str]:
    """Return the classes by what folders call them; empty where they are called by their names."""
    known = dict(source.rename)
    if source.names is not None:
        for folder, name in class_names.load(source.names, root, source.cut):
            known.setdefault(folder, name)
    return known
