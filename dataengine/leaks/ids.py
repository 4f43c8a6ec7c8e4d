"""Which public picture a file is, by its name: COCO's 581857 is one picture in COCO, RefCOCO, LLaVA and POPE.

Each space of ids is a YAML file in `task_specs/pictures`: a table of data, which anyone can complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from dataengine.catalog import shipped_specs
from dataengine.errors import SourceError, SpecError, nearest
from dataengine.strict import load_struct

FOLDER = "pictures"


class Links(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the source, JSON records, that says which of its pictures are those of other spaces.

    `id` is the key of the id in a record; `same` names, for each other space, the key of the id there.
    """

    file: str
    id: str
    same: dict[str, str]


class Space(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of pictures that mean one of a public collection: regular expressions whose one group is the id.

    They match the end of a path, from the beginning of a folder's name or the file's. `names` hold in every dataset;
    `of` only in the datasets that are named, by id, since others use the same names for pictures of their own.
    """

    id: str
    title: str
    names: tuple[str, ...] = ()
    of: dict[str, str] = {}
    links: Links | None = None
    notes: str = ""


class _Names:
    """Expressions as one: what a name is not is known in one look at it."""

    def __init__(self, names: list[tuple[str, str]]) -> None:
        self._spaces = [space for space, _ in names]
        either = "|".join(name for _, name in names)
        self._pattern = re.compile(f"(?:^|/)(?:{either or '(?!)'})$")

    def read(self, path: str) -> str | None:
        """Return the id of a picture by its name, None where it says none."""
        match = self._pattern.search(path)
        if match is None or match.lastindex is None:
            return None
        return f"{self._spaces[match.lastindex - 1]}:{_plain(match[match.lastindex])}"


class Spaces:
    """All spaces, and what files say of pictures that are in two of them."""

    def __init__(self, spaces: Iterable[Space]) -> None:
        self.by_id = {one.id: one for one in spaces}
        self._names = _Names([(one.id, name) for one in self.by_id.values() for name in one.names])
        datasets = dict.fromkeys(dataset for one in self.by_id.values() for dataset in one.of)
        self._of = {
            dataset: _Names([(one.id, one.of[dataset]) for one in self.by_id.values() if dataset in one.of])
            for dataset in datasets
        }
        self._same: dict[str, tuple[str, ...]] = {}

    def ids(self, dataset: str, path: str) -> tuple[str, ...]:
        """Return the ids of a picture of a dataset, `space:id`: the one that its name says, and those of its links.

        Zeros in front of a number are left out. The last is that of its name in its dataset, which every picture has.
        """
        found: dict[str, None] = {}
        of = self._of.get(dataset)
        one = self._names.read(path) or (of.read(path) if of is not None else None)
        if one is not None:
            found.update(dict.fromkeys((one, *self._same.get(one, ()))))
        found[f"{dataset}/{path}"] = None
        return tuple(found)

    def link(self, folder: Path) -> int:
        """Read the files of links that lie in a folder; return how many pictures they say something of."""
        return sum(
            self.read_links(space.id, folder / space.links.file)
            for space in self.by_id.values()
            if space.links is not None and (folder / space.links.file).is_file()
        )

    def read_links(self, space: str, path: Path) -> int:
        """Read one file of links. Raises SpecError for an unknown space, SourceError for a file that is none."""
        links = self.by_id[space].links if space in self.by_id else None
        if links is None:
            known = [one.id for one in self.by_id.values() if one.links is not None]
            raise SpecError(f"{space}: no space of ids that a file links to others{nearest(space, known)}")
        try:
            records = msgspec.json.decode(path.read_bytes(), type=list[dict[str, object]])
        except (OSError, msgspec.DecodeError) as error:
            raise SourceError(f"{path}: cannot be read: {error}; expected a list of records") from error
        found = 0
        for record in records:
            if same := tuple(
                f"{other}:{_plain(str(record[key]))}"
                for other, key in links.same.items()
                if record.get(key) is not None
            ):
                self._same[f"{space}:{_plain(str(record.get(links.id)))}"] = same
                found += 1
        return found


def load(folders: Iterable[Path] = ()) -> Spaces:
    """Load the spaces that ship, and those of other folders of specs; a later file replaces one of the same name."""
    files = {
        path.stem: path
        for folder in (shipped_specs(), *folders)
        for path in sorted((folder / FOLDER).glob("*.yaml"))
    }
    return Spaces([_load(path) for path in files.values()])


def _load(path: Path) -> Space:
    space = load_struct(path, Space)
    for name in (*space.names, *space.of.values()):
        try:
            groups = re.compile(name).groups
        except re.error as error:
            raise SpecError(f"{path}: {name!r}: no regular expression: {error}") from error
        if groups != 1:
            raise SpecError(f"{path}: {name!r}: has {groups} groups, expected one, the id in parentheses")
    return space


def _plain(name: str) -> str:
    return name.lstrip("0") or "0" if name.isdecimal() else name
