"""Where a dataset's files come from, as its spec declares it: addresses, repositories, what a person must do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from dataengine.errors import nearest

# What `fetch` writes down of its own lies below the root, in a folder that no reader looks into.
KEPT = ".fetch"
Kind = Literal["zip", "tar"]
Size = Annotated[int, msgspec.Meta(ge=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Md5 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An archive that came out of another one, by its path below the root; unpacked like that one."""

    path: str
    unpack: Kind
    into: str = ""
    strip: str = ""

    def __post_init__(self) -> None:
        check_place("path", self.path)
        check_unpacking(self.unpack, self.into, self.strip)


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A file at an address. `path` is where it comes to lie below the root, by default the address's last part.

    An archive is unpacked into the folder `into`, by default the root itself; the folder `strip` is left out of the
    names of its files where they begin with it. `then` names archives among those files. `splits` names those that need
    the file, by default all.
    """

    url: str
    path: str = ""
    size_bytes: Size | None = None
    sha256: Sha256 | None = None
    md5: Md5 | None = None
    unpack: Kind | None = None
    into: str = ""
    strip: str = ""
    then: tuple[Inner, ...] = ()
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_address(self.url):
            raise ValueError(f"url: {self.url!r}, expected an address that begins with http:// or https://")
        check_place("path", self.target)
        check_unpacking(self.unpack, self.into, self.strip)
        if self.then and not self.unpack:
            raise ValueError("then: stands without unpack, expected unpack: zip or unpack: tar beside it")

    @property
    def target(self) -> str:
        """Where the file comes to lie, relative to the root."""
        return self.path or PurePosixPath(unquote(urlsplit(self.url).path)).name


class HubRepo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A dataset repository of the Hugging Face hub: the files that match one of `include` (all where it names none).

    They come to lie in the folder `into` below the root, by default the root itself, under the names that they have
    in the repository.
    """

    repo: Annotated[str, msgspec.Meta(pattern=r"^[\w.-]{1,96}/[\w.-]{1,96}$")]
    revision: str = "main"
    include: tuple[str, ...] = ()
    into: str = ""
    size_bytes: Size | None = None
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.into:
            check_place("into", self.into)


class ByHand(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What only a person can do (a form, a login, a request), where, and the paths that are there afterwards."""

    do: str
    url: str
    paths: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_address(self.url):
            raise ValueError(f"url: {self.url!r}, expected an address that begins with http:// or https://")
        for path in self.paths:
            check_place("paths", path)


class Fetch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """All that a dataset's files come from."""

    files: tuple[RemoteFile, ...] = ()
    hub: tuple[HubRepo, ...] = ()
    manual: tuple[ByHand, ...] = ()

    def __post_init__(self) -> None:
        if not (self.files or self.hub or self.manual):
            raise ValueError("says nothing, expected files, hub or manual")
        targets = [file.target for file in self.files]
        for target in targets:
            if targets.count(target) > 1:
                raise ValueError(f"files: two come to lie at {target!r}; give one of them another path")

    def kinds(self) -> list[str]:
        """Return in which ways files come: `files`, `hub`, `manual`."""
        return [kind for kind in ("files", "hub", "manual") if getattr(self, kind)]

    def parts(self) -> Iterator[tuple[str, RemoteFile | HubRepo | ByHand]]:
        """Yield what is declared, each part with its place in the spec (`files.0`)."""
        for kind in self.kinds():
            for number, part in enumerate(getattr(self, kind)):
                yield f"{kind}.{number}", part

    def unknown_splits(self, known: tuple[str, ...]) -> Iterator[tuple[list[str], str]]:
        """Yield the place of each part that names a split which the dataset lacks, and what is wrong."""
        for place, part in self.parts():
            for split in part.splits:
                if split not in known:
                    keys = ["fetch", *place.split("."), "splits"]
                    yield keys, f"{'.'.join(keys)}: no split {split!r}{nearest(split, known)}"


def is_address(text: str) -> bool:
    """Say whether a text is an address of the web, and not of a file or another service."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable() and " " not in text
    )


def check_unpacking(unpack: Kind | None, into: str, strip: str) -> None:
    """Raise ValueError for folders that are none below the root, or that say how to unpack what is not unpacked."""
    for key, folder in (("into", into), ("strip", strip)):
        if folder:
            check_place(key, folder)
        if folder and not unpack:
            raise ValueError(f"{key}: stands without unpack, expected unpack: zip or unpack: tar beside it")


def check_place(key: str, path: str) -> None:
    """Raise ValueError for a path that is none below the root, or lies among the records of `fetch`."""
    parts = PurePosixPath(path).parts
    if (
        not path
        or path.startswith("/")
        or ".." in parts
        or "\\" in path
        or ":" in path
        or not path.isprintable()
    ):
        raise ValueError(f"{key}: {path!r}, expected a path below the root")
    if parts[:1] == (KEPT,):
        raise ValueError(f"{key}: {path!r} lies among the records of fetch; name another folder")
