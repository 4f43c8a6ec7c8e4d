"""What lies in a folder of unknown layout: names and the heads of files, read once for all readers to look at."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import msgspec

from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.json_text import BOM

MAX_FILES = 200_000
MAX_JSON_BYTES = 2**30
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])


class Fit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a layout fits a folder: the keys of `source` for each split, the tasks that its facts serve, and why.

    `certainty` orders fits: 3 where the files name the layout, 2 where their structure is its own, 1 where it may be.
    """

    splits: dict[str, dict[str, Any]]
    tasks: tuple[str, ...]
    why: str
    certainty: int = 2


class Listing:
    """The files below a folder, and what is at their beginning; `alone` where pictures are elsewhere."""

    def __init__(self, root: Root, alone: bool = False) -> None:
        self.root = root
        self.alone = alone
        self._heads: dict[str, dict[str, msgspec.Raw] | list[msgspec.Raw] | None] = {}

    @cached_property
    def files(self) -> tuple[str, ...]:
        """All files, as sorted paths relative to the folder; the first MAX_FILES of very many."""
        found: list[str] = []
        top = str(self.root.directory)
        for folder, names, files in os.walk(top):
            names.sort()
            relative = os.path.relpath(folder, top)
            found += [name if relative == "." else f"{relative}/{name}" for name in sorted(files)]
            if len(found) >= MAX_FILES:
                break
        return tuple(sorted(found[:MAX_FILES]))

    def ending(self, *endings: str) -> list[str]:
        """Return the files with one of some endings (`.json`), whatever their case."""
        return [file for file in self.files if file.lower().endswith(endings)]

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """The picture files."""
        return tuple(self.ending(*PICTURE_ENDINGS))

    @cached_property
    def _pictures_by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in self.pictures:
            found.setdefault(PurePosixPath(file).name, []).append(file)
        return found

    def picture_folder(self, name: str) -> str | None:
        """Return the folder in which a picture is that a file names: what stands before the name in its real path.

        None where no picture has that name.
        """
        for file in self._pictures_by_name.get(PurePosixPath(name).name, ()):
            if file == name:
                return ""
            if file.endswith(f"/{name}"):
                return file.removesuffix(f"/{name}")
        return "" if self.alone else None

    def read(self, file: str) -> bytes:
        """Return the bytes of a file, none where it cannot be read or is too large to look at."""
        try:
            path = self.root.inside(file)
            return path.read_bytes() if path.stat().st_size <= MAX_JSON_BYTES else b""
        except (OSError, Quarantine):
            return b""

    def json(self, file: str) -> dict[str, msgspec.Raw] | list[msgspec.Raw] | None:
        """Return the outermost object or list of a JSON file with its parts undecoded, None where it has none."""
        if file not in self._heads:
            self._heads[file] = _head(self.read(file).removeprefix(BOM))
        return self._heads[file]

    def keys(self, file: str) -> frozenset[str]:
        """Return the keys of a JSON file's outermost object; none where it is no object."""
        head = self.json(file)
        return frozenset(head) if isinstance(head, dict) else frozenset()

    def first(self, file: str, key: str | None = None) -> dict[str, Any]:
        """Return the first object of a list: the file's own, or the one under a key; empty where there is none."""
        head = self.json(file)
        try:
            if key is None:
                items = head if isinstance(head, list) else []
            else:
                items = _list.decode(head.get(key, b"[]")) if isinstance(head, dict) else []
            value = msgspec.json.decode(items[0]) if items else {}
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


def _head(data: bytes) -> dict[str, msgspec.Raw] | list[msgspec.Raw] | None:
    for decoder in (_object, _list):
        try:
            return decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return None


def several(files: Sequence[str]) -> str:
    """Return some file names as a few words."""
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def split_name(file: str) -> str:
    """Return a name for the split that a file holds: train, val or test where its path says so, else its stem."""
    words = PurePosixPath(file).with_suffix("").as_posix().lower()
    for name, signs in (("train", ("train",)), ("val", ("val", "dev")), ("test", ("test",))):
        if any(sign in words for sign in signs):
            return name
    stem = "".join(char if char.isalnum() and char.isascii() else "_" for char in PurePosixPath(words).name)
    return stem.strip("_")[:48] or "all"


def name_splits(splits: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return splits by the names of their files, numbered where two would have one name."""
    named: dict[str, dict[str, Any]] = {}
    for file, keys in splits:
        name = base = split_name(file)
        number = 1
        while name in named:
            number += 1
            name = f"{base}_{number}"
        named[name] = keys
    return named
