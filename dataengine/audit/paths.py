"""Names of pictures: what another file system, or another program, takes for another name."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
import xxhash

from dataengine.audit.block import Block
from dataengine.audit.rule import Facts, Hit
from dataengine.files import Root
from dataengine.spill import Rows, repeated

MOST_NAMED = 20
NAMES_AT_ONCE = 1 << 10


def separator(facts: Facts) -> Iterator[Hit]:
    """Yield names with a backslash or a character that no name should hold."""
    for number, image in enumerate(facts.annotation.images):
        if "\\" in image.path or not image.path.isprintable():
            odd = next(char for char in image.path if char == "\\" or not char.isprintable())
            yield Hit(f"{image.path!r} holds {odd!r}", None, number)


def unicode_form(facts: Facts) -> Iterator[Hit]:
    """Yield names that are not composed: the same letters may have another name on another system."""
    for number, image in enumerate(facts.annotation.images):
        if not image.path.isascii() and not unicodedata.is_normalized("NFC", image.path):
            yield Hit(f"{image.path!r}: not in the form NFC", None, number)


class SameButCase:
    """Finds names that are one on a system that does not tell capitals, by their hashes of 64 bits."""

    def __init__(self) -> None:
        self._hashes = Rows(2)
        self._new: list[str] = []

    def add(self, block: Block) -> None:
        """Keep a hash of each name, and of the name without its capitals."""
        self._new += block.paths
        if len(self._new) >= NAMES_AT_ONCE:
            self._keep()

    def _keep(self) -> None:
        rows: list[int] = []
        for name in self._new:
            path = name.encode(errors="surrogatepass")
            lower = path.lower() if path.isascii() else folded(name).encode()
            digest = xxhash.xxh3_64_intdigest(path)
            rows += (digest if lower == path else xxhash.xxh3_64_intdigest(lower), digest)
        self._hashes.add(rows)
        self._new = []

    def hits(self) -> Iterator[Hit]:
        """Yield how many names have a twin."""
        self._keep()
        twins = 0
        for table in self._hashes.groups():
            pairs = np.unique(repeated(table), axis=0)
            _, counts = np.unique(pairs[:, 0], return_counts=True)
            twins += int(counts[counts > 1].sum())
        if twins:
            yield Hit(f"{twins} names of pictures are another one's but for capitals")


def folded(name: str) -> str:
    """Return a name as a system takes it that tells neither capitals nor forms of Unicode."""
    return unicodedata.normalize("NFC", name).casefold().encode(errors="replace").decode()


def otherwise_named(root: Root, path: str) -> tuple[str, Hit] | None:
    """Return the rule and hit of a missing file that is there under a name of other capitals or another form."""
    found = ""
    for part in PurePosixPath(path).parts:
        there = (root.directory / found / part).exists()
        name = part if there else _names(root.directory / found).get(folded(part))
        if name is None:
            return None
        found = f"{found}/{name}" if found else name
    same_letters = unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", path)
    return ("path.unicode" if same_letters else "path.case"), Hit(f"{path!r} is there as {found!r}")


@lru_cache(maxsize=8)
def _names(folder: Path) -> dict[str, str]:
    """Return the names in a folder by what `folded` makes of them."""
    try:
        return {folded(name): name for name in sorted(one.name for one in folder.iterdir())}
    except OSError:
        return {}
