"""What lies in folders of text files, one a picture: for readers that look whether a folder has their layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from dataengine.listing import Listing

# So many files of a folder, and so many lines of a file, tell its layout.
_FILES, _LINES = 20, 50
_FOLDERS = 50

Cells = list[str]


class Found(NamedTuple):
    """A folder of text files, one of them that has the layout with its lines, and the picture of the same name."""

    folder: str
    file: str
    rows: list[Cells]
    picture: str

    @property
    def images(self) -> str:
        """The folder of the picture."""
        return parent(self.picture)

    @property
    def extension(self) -> str:
        """The picture's ending without its dot."""
        return PurePosixPath(self.picture).suffix.removeprefix(".")


def parent(file: str) -> str:
    """Return the folder of a file, empty for the root."""
    folder = str(PurePosixPath(file).parent)
    return "" if folder == "." else folder


def is_number(cell: str) -> bool:
    """Say whether a cell is a number as programs write it."""
    try:
        float(cell)
    except ValueError:
        return False
    return not cell.lower().strip("+-").startswith(("n", "i"))


def rows(listing: Listing, file: str, separator: str | None = None) -> list[Cells]:
    """Return the cells of the first lines of a text file that are not blank."""
    text = listing.read(file)[: 1 << 16].decode("utf-8-sig", errors="replace")
    lines = [line.strip().rstrip(separator) for line in text.splitlines()[:_LINES]]
    return [[cell.strip() for cell in line.split(separator)] for line in lines if line]


def label_folders(
    listing: Listing,
    fits: Callable[[Cells], bool],
    separator: str | None = None,
    prefixes: Sequence[str] = ("",),
) -> list[Found]:
    """Return the folders in which a text file has only lines that fit, and a picture its name after a prefix."""
    by_stem: dict[str, list[str]] = {}
    for picture in listing.pictures:
        by_stem.setdefault(PurePosixPath(picture).stem, []).append(picture)
    found = []
    for folder, files in _text_files(listing).items():
        for file in files[:_FILES]:
            lines = rows(listing, file, separator)
            stem = PurePosixPath(file).stem
            names = [stem.removeprefix(prefix) for prefix in prefixes if stem.startswith(prefix)]
            pictures = next((by_stem[name] for name in names if name in by_stem), None)
            if lines and pictures and all(map(fits, lines)):
                found.append(Found(folder, file, lines, _nearest(file, pictures)))
                break
        if len(found) == _FOLDERS:
            break
    return found


def _text_files(listing: Listing) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for file in listing.ending(".txt"):
        folders.setdefault(parent(file), []).append(file)
    return folders


def _nearest(file: str, others: Sequence[str]) -> str:
    """Return the file that shares the most folders with one: `images/val/1.jpg` for `labels/val/1.txt`."""
    own = set(PurePosixPath(file).parts)
    return max(others, key=lambda other: (len(own & set(PurePosixPath(other).parts)), -len(other)))


def nearest(file: str, others: Sequence[str]) -> str:
    """Return that of some files which lies the nearest above or beside another."""
    return max(others, key=lambda other: (_shared(file, other), -len(PurePosixPath(other).parts)))


def _shared(one: str, other: str) -> int:
    return sum(1 for _ in _while_equal(PurePosixPath(one).parts[:-1], PurePosixPath(other).parts[:-1]))


def _while_equal(one: Sequence[str], other: Sequence[str]) -> Iterator[str]:
    for a, b in zip(one, other, strict=False):
        if a != b:
            return
        yield a
