"""Splits, as manifests, in shards or as a reader reads them: what is asked of all here is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from dataengine import manifest as manifests
from dataengine import sample as samples
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import Quarantine, ShardError
from dataengine.files import Root
from dataengine.index import SHARDS, Index
from dataengine.leaks.look import look, pixels_digest
from dataengine.leaks.texts import asked, asked_of, told, told_of
from dataengine.prompts import PromptBank
from dataengine.runners import run
from dataengine.sample import Sample

Progress = Callable[[int, str], None]


class Look(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a picture is known by, as in `evalset.Row`; nothing where its bytes could not be had."""

    digest: int = 0
    coarse: int = 0
    low: int = 0
    high: int = 0
    pixels: bytes = b""


class Statement(NamedTuple):
    """What a sample says in its source's words: its id, the names of its pictures, what it asks and what it tells."""

    id: str
    images: tuple[str, ...]
    asks: tuple[str, ...]
    tells: tuple[str, ...]


def _statement(sample: Sample, bank: PromptBank | None) -> Statement:
    names = tuple([image.path for image in sample.images])
    return Statement(sample.id, names, tuple(asked(sample, bank)), tuple(told(sample, bank)))


class Part(Protocol):
    """A split: `name` is its dataset, task and split, `subject` what a report calls it.

    `root` is the folder of its pictures, "" where they lie in tars or are not there.
    """

    name: str
    subject: str
    dataset: str
    use: str
    fingerprint: str
    root: str

    def statements(self) -> Iterator[Statement]:
        """Yield what each of its samples says."""
        ...

    def pictures(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        """Yield each of its pictures once, by name, with what reads it: raises OSError, Quarantine or ShardError."""
        ...


class Manifest:
    """A split on disk as `convert` wrote it."""

    def __init__(self, directory: Path) -> None:
        found = manifests.load(directory)
        self.directory = directory
        self.name = self.subject = found.name
        self.dataset, self.use, self.fingerprint, self.root = (
            found.dataset,
            found.use,
            found.fingerprint,
            found.root,
        )
        self._bank = _bank(found.spec)

    def statements(self) -> Iterator[Statement]:
        return (_statement(sample, self._bank) for sample in manifests.read_samples(self.directory))

    def pictures(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        found = manifests.read_samples(self.directory)
        names = dict.fromkeys(image.path for sample in found for image in sample.images)
        return ((name, partial(_read_file, self.root, name)) for name in names)


class Sharded:
    """A split inside a set of shards."""

    def __init__(self, directory: Path, index: Index, name: str) -> None:
        found = next(one for one in index.set.sources if one.name == name)
        self.index = index
        self.name, self.subject = name, f"{directory}: {name}"
        self.dataset, self.use, self.fingerprint, self.root = found.dataset, found.use, found.fingerprint, ""
        self._bank = _bank(index.set.specs.get(f"{found.dataset}/{found.task}"))

    def _rows(self) -> Iterator[tuple[Sample, str, list[tuple[int, int]]]]:
        pool = self.index.open()
        try:
            for number in self.index.rows_by_source.get(self.name, ()):
                place = self.index.place(int(number))
                sample = samples.decode(pool.read(place.file, *place.spans[0]))
                yield sample, place.file, place.spans[1:]
        except msgspec.DecodeError as error:
            raise ShardError(f"{self.index.directory}: {error}; run 'dataengine audit' on it") from error
        finally:
            pool.close()

    def statements(self) -> Iterator[Statement]:
        return (_statement(sample, self._bank) for sample, _, _ in self._rows())

    def pictures(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        seen: set[str] = set()
        for sample, file, spans in self._rows():
            for image, span in zip(sample.images, spans, strict=True):
                if image.path not in seen:
                    seen.add(image.path)
                    yield image.path, partial(self._read, file, *span)

    def _read(self, file: str, offset: int, size: int) -> bytes:
        pool = self.index.open()
        try:
            return pool.read(file, offset, size)
        finally:
            pool.close()


class Unconverted:
    """A split that nobody has converted: `items` reads it again, `root` is "" where its pictures are not there."""

    fingerprint = ""

    def __init__(
        self, subject: str, use: str, root: str, items: Callable[[], Iterator[Annotation | Rejected]]
    ) -> None:
        self.name = self.subject = self.dataset = subject
        self.use, self.root = use, root
        self._items = items

    def _annotations(self) -> Iterator[Annotation]:
        return (one for one in self._items() if isinstance(one, Annotation))

    def statements(self) -> Iterator[Statement]:
        for one in self._annotations():
            names = tuple([image.path for image in one.images])
            yield Statement(one.key, names, tuple(asked_of(one)), tuple(told_of(one)))

    def pictures(self) -> Iterator[tuple[str, Callable[[], bytes]]]:
        names = dict.fromkeys(image.path for one in self._annotations() for image in one.images)
        return ((name, partial(_read_file, self.root, name)) for name in names)


def _read_file(root: str, name: str) -> bytes:
    return Root(Path(root)).inside(name).read_bytes()


def _bank(spec: dict[str, Any] | None) -> PromptBank | None:
    bank = (spec or {}).get("bank")
    return msgspec.convert(bank, PromptBank) if bank is not None else None


def parts_of(paths: Iterable[Path]) -> list[Part]:
    """Return the splits that folders of manifests or of shards hold. Raises SourceError or ShardError."""
    found: list[Part] = []
    for path in paths:
        if (path / SHARDS).is_file():
            index = Index(path)
            found += [Sharded(path, index, one.name) for one in index.set.sources]
        else:
            found += [Manifest(folder) for folder in manifests.find(path)]
    return found


def looks(part: Part, workers: int, progress: Progress, *, pixels: bool) -> dict[str, Look]:
    """Look at each picture of a split; with `pixels`, all of them are decoded, too."""
    found: dict[str, Look] = {}
    if not isinstance(part, Sharded):
        names = [name for name, _ in part.pictures()]
        there = bool(part.root) and Path(part.root).is_dir()
        job = partial(_look_at_file, part.root, pixels)
        for name, seen in zip(
            names, run(job, names, runner="local", workers=workers) if there else (), strict=False
        ):
            found[name] = seen
            progress(1, "")
        return found or {name: Look() for name in names}
    for name, read in part.pictures():
        found[name] = _looked(read, pixels)
        progress(1, "")
    return found


def _look_at_file(root: str, pixels: bool, name: str) -> Look:
    return _looked(partial(_read_file, root, name), pixels)


def _looked(read: Callable[[], bytes], pixels: bool) -> Look:
    try:
        data = read()
    except (OSError, Quarantine, ShardError):
        return Look()
    digest, coarse, print_ = look(data)
    whole = pixels_digest(data) if pixels and coarse else b""
    return Look(digest=digest, coarse=coarse, low=print_.low, high=print_.high, pixels=whole)
