"""Something bad beside good records: folders of which a reader makes several records, and the ways to spoil one place.

The folder of a format is the miniature of a spec that uses it, or what its reader's own tests read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dataengine.annotation import Annotation, Rejected
from dataengine.errors import DataEngineError
from dataengine.source import items_of, open_root
from dataengine.spec import Resolved
from tests.conformance.test_layouts import LAYOUTS, MINIATURES, made_in
from tests.converters.seeds import made
from tests.converters.test_fuzz import resolved
from tests.hostile.attacks import PICTURES

# So many specs of a format, and seeds where it has no spec with a miniature, are looked through for several records.
SPECS, SEEDS = 3, 8
MOST = 8
# Of the files of a folder that are alike (one a record), so many are spoilt.
ALIKE = 2
JUNK = b"\x80\x04junk\xff\n"
CLASSES = frozenset({"categories", "labels", "attributes", "part_categories"})
NO_RECORDS: tuple[Any, ...] = (None, 17, [[]], {"\u202e": {}})


class Base(NamedTuple):
    """A folder of a format's files, the spec and split that read it, and what it gives as it is."""

    folder: Path
    spec: Resolved
    split: str
    clean: tuple[Annotation, ...]

    def read(self, folder: Path) -> list[Annotation | Rejected]:
        """Return everything that a folder gives. Raises DataEngineError."""
        return list(items_of(self.spec, self.split, open_root(self.spec, self.split, folder)))


class Case(NamedTuple):
    """A copy of a folder of which one file is spoilt, and how."""

    folder: Path
    file: str
    how: str


def base_of(name: str, scratch: Path) -> Base:
    """Return a folder of a format that gives a few records, or else any that gives some, doubled where it is one."""
    found = list[Base]()
    for base in _candidates(name, scratch):
        if 1 < len(base.clean) <= MOST:
            return base
        found.append(base)
    only = next(base for base in found if base.clean)
    return only if len(only.clean) > 1 else _doubled(only, scratch) or only


def _candidates(name: str, scratch: Path) -> Iterator[Base]:
    if (MINIATURES / f"{name}.py").is_file():
        specs = [some[0] for some in LAYOUTS.values() if some[0].dataset.source.format == name]
        for number, spec in enumerate(specs[:SPECS]):
            split = next(iter(spec.splits))
            folder = scratch / f"miniature{number}"
            made_in(spec, split, folder)
            yield _read(folder, spec, split)
    (scratch / "made").mkdir()
    for seed in made(name, scratch / "made", SEEDS):
        yield _read(seed.folder, resolved(seed, "conversation"), "train")


def _read(folder: Path, spec: Resolved, split: str) -> Base:
    base = Base(folder, spec, split, ())
    return base._replace(clean=tuple(one for one in base.read(folder) if isinstance(one, Annotation)))


def _doubled(base: Base, scratch: Path) -> Base | None:
    """Return a folder with the only record twice, by another name, where its files are named after it."""
    only = base.clean[0]
    names = {PurePosixPath(text).name.partition(".")[0] for text in (only.key, only.origin.file)}
    for number, name in enumerate(sorted(names)):
        folder = scratch / f"doubled{number}"
        shutil.copytree(base.folder, folder, symlinks=True)
        for path in sorted(folder.rglob(f"*{name}*")):
            if path.is_file():
                data = path.read_bytes().replace(name.encode(), f"{name}9".encode())
                path.with_name(path.name.replace(name, f"{name}9")).write_bytes(data)
        try:
            found = _read(folder, base.spec, base.split)
        except DataEngineError:
            continue
        if len(found.clean) > 1:
            return found
    return None


def spoilt(base: Base, scratch: Path) -> Iterator[Case]:
    """Yield a folder again and again, each time with another file spoilt, in another way."""
    alike: dict[tuple[Path, str], int] = {}
    for path in sorted(base.folder.rglob("*")):
        kind = path.parent, path.suffix
        if not path.is_file() or path.is_symlink() or alike.setdefault(kind, 0) == ALIKE:
            continue
        alike[kind] += 1
        file = path.relative_to(base.folder)
        for how, spoil in WAYS.items():
            folder = scratch / "spoilt"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(base.folder, folder, symlinks=True)
            if spoil(folder / file):
                yield Case(folder, file.as_posix(), how)


def _junk(file: Path) -> bool:
    file.write_bytes(JUNK)
    return True


def _pipe(file: Path) -> bool:
    file.unlink()
    os.mkfifo(file)
    return True


def _link_out(file: Path) -> bool:
    file.unlink()
    file.symlink_to("/etc/hostname")
    return True


def _line(file: Path) -> bool:
    """Put a line that is no text after the first one of a list, a table or JSON Lines."""
    data = file.read_bytes()
    lines = data.splitlines(keepends=True)
    if len(lines) < 2 or b"\0" in data or file.suffix.lower() in PICTURES | {".json", ".xml"}:
        return False
    file.write_bytes(b"".join([lines[0], JUNK, *lines[1:]]))
    return True


def _elements(file: Path) -> bool:
    """Put what is no record before the records of a JSON document, in each of its lists but those of classes."""
    try:
        value = json.loads(file.read_bytes())
    except ValueError:
        return False
    named = value.items() if isinstance(value, dict) else [("", value)]
    parts = [part for name, part in named if name not in CLASSES]
    lists = [part for part in parts if isinstance(part, list) and part and isinstance(part[0], dict)]
    for part in lists:
        part[:0] = NO_RECORDS
    file.write_text(json.dumps(value))
    return bool(lists)


WAYS: dict[str, Callable[[Path], bool]] = {
    "junk": _junk,
    "a pipe": _pipe,
    "a link out": _link_out,
    "a line": _line,
    "elements": _elements,
}
