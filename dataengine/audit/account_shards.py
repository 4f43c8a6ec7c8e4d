"""The account of a shard set: what its manifests hold, what its index says, and what lies in its tars."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, groupby, pairwise, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataengine import tar
from dataengine.audit.account_manifest import Converted
from dataengine.audit.counted import BATCH, NAMED, Hashes, apart, batches, hashes, named, twice
from dataengine.audit.identity import Count, Identity, by_reason, equal, shortened, unlike, unproven
from dataengine.audit.state import Progress
from dataengine.errors import ShardError
from dataengine.index import INDEX, SHARDS, Dropped, Index, ShardSet, ShardSource, load_set
from dataengine.manifest import LEDGER
from dataengine.runners import run
from dataengine.sample import source_of
from dataengine.store import StoreSettings, Url

Place = tuple[int, int]  # where a member's bytes begin, and how many there are


class Sharded(NamedTuple):
    """A shard set: what shards.json says, hashes of the ids in its index by source, and rows by tar, both in order."""

    place: Path | Url
    set: ShardSet
    table: pa.Table | None
    ids: dict[str, Hashes]
    tars: Counter[str]

    @property
    def num_rows(self) -> int:
        """The rows of the index."""
        return self.tars.total()

    def columns(self, *names: str) -> Iterator[list[list[Any]]]:
        """Yield columns of the index, some rows at a time."""
        return _columns(self.place, self.table, *names)

    def names(self, source: str | None = None) -> Iterator[str]:
        """Yield the ids that the index has, or has of a source."""
        for ids, sources in self.columns("id", "source"):
            yield from (one for one, name in zip(ids, sources, strict=True) if source in (None, name))


def read_shards(place: Path | Url, store: StoreSettings | None = None) -> Sharded:
    """Read shards.json and the index of a set, whether they agree or not. Raises ShardError or StoreError."""
    table = None
    if isinstance(place, Url):
        index = Index(place, store)
        found, table = index.set, index.table
    else:
        found = load_set(place)
    parts: dict[str, list[Hashes]] = defaultdict(list)
    tars = Counter[str]()
    for ids, sources, shards in _columns(place, table, "id", "source", "shard"):
        values, names = hashes(ids), np.array(sources, object)
        for name in dict.fromkeys(sources):
            parts[name].append(values[names == name])
        tars.update(f"{name}.tar" for name in shards)
    return Sharded(place, found, table, {name: np.concatenate(some) for name, some in parts.items()}, tars)


def _columns(place: Path | Url, table: pa.Table | None, *names: str) -> Iterator[list[list[Any]]]:
    """Yield columns of an index: of the table, or of the file, which is never in memory as a whole."""
    if table is not None:
        some: Iterable[pa.RecordBatch] = table.select(names).to_batches(max_chunksize=BATCH)
    else:
        some = batches(Path(place / INDEX), names, "run 'dataengine shard' again")
    for batch in some:
        yield [_values(batch.column(name)) for name in names]


def _values(column: pa.Array) -> list[Any]:
    """Return a column as plain values; lists by way of the numbers in them, in a third of the time."""
    if not pa.types.is_list(column.type):
        return column.to_pylist()  # type: ignore[no-any-return]
    inner, ends = (
        column.flatten().to_pylist(),
        accumulate(pc.list_value_length(column).to_pylist(), initial=0),
    )
    return [inner[start:stop] for start, stop in pairwise(ends)]


def account_of_shards(
    sharded: Sharded, sources: Mapping[str, Converted | None], workers: int, progress: Progress
) -> Iterator[Identity]:
    """Yield the lines of a set; `sources` are the conversions that it was made of, None where they are gone."""
    dropped: dict[str, list[Dropped]] = defaultdict(list)
    for one in sharded.set.dropped:
        dropped[source_of(one.id)].append(one)
    for entry in sharded.set.sources:
        yield _of_manifest(sharded, entry, sources[entry.name], dropped.pop(entry.name, []))
    for name in sorted({*sharded.ids, *dropped} - {entry.name for entry in sharded.set.sources}):
        held = len(sharded.ids.get(name, ())) + len(dropped.get(name, ()))
        yield equal(
            "shards",
            f"{sharded.place}: {name}",
            Count(0, f"samples in {SHARDS}"),
            Count(held, f"rows of {INDEX} and dropped"),
            detail=f"no source of the set is called {name}",
        )
    yield _index(sharded)
    yield _tars(sharded, workers, progress)


def _of_manifest(
    sharded: Sharded, entry: ShardSource, made_of: Converted | None, dropped: Sequence[Dropped]
) -> Identity:
    """Hold the ids of a manifest against those of the index and what was dropped, and what shards.json says of it."""
    place = f"{sharded.place}: {entry.name}"
    held = sharded.ids.get(entry.name, np.zeros(0, np.uint64))
    right = Count(len(held) + len(dropped), f"samples: {len(held)} in {INDEX} + {len(dropped)} dropped")
    difference, detail = abs(entry.samples - len(held)), list[str]()
    if difference:
        detail.append(f"{entry.samples} samples in {SHARDS}")
    if dropped:
        detail.append(f"dropped: {by_reason(Counter(one.reason for one in dropped))}")
    if made_of is None or made_of.manifest.fingerprint != entry.fingerprint:
        left = Count(entry.ledger.samples, f"samples of the manifest, as {SHARDS} says")
        difference += abs(left.number - right.number)
        detail.append(_gone(sharded, entry, made_of))
        if not difference:
            return unproven("shards", place, left, right, "; ".join(detail))
        return equal("shards", place, left, right, difference, "; ".join(detail))
    for count, says in (_ids(sharded, entry, made_of, held, dropped), _copied(entry, made_of)):
        difference += count
        detail += [says] if says else []
    left = Count(len(made_of.ids), "samples of the manifest")
    return equal("shards", place, left, right, difference, "; ".join(detail))


def _ids(
    sharded: Sharded, entry: ShardSource, made_of: Converted, held: Hashes, dropped: Sequence[Dropped]
) -> tuple[int, str]:
    """Return how many ids are in a manifest alone, or in the set alone, and which."""
    out = [one.id for one in dropped]
    missing, strange = apart(made_of.ids, np.concatenate([held, hashes(out)]))
    detail = []
    if len(missing):
        names = named(missing, made_of.names())
        detail.append(f"in no shard and not dropped: {shortened(names, len(missing))}")
    if len(strange):
        names = named(strange, chain(sharded.names(entry.name), out))
        detail.append(f"not in the manifest, or there twice: {shortened(names, len(strange))}")
    return len(missing) + len(strange), "; ".join(detail)


def _copied(entry: ShardSource, made_of: Converted) -> tuple[int, str]:
    """Return how many numbers of a ledger are others in the set's copy of it, and which."""
    stated, copy = msgspec.structs.asdict(made_of.ledger), msgspec.structs.asdict(entry.ledger)
    other = [name for name in stated if stated[name] != copy[name]]
    return len(other), "; ".join(
        f"{LEDGER} has {name} {stated[name]}, {SHARDS} {copy[name]}" for name in other
    )


def _gone(sharded: Sharded, entry: ShardSource, made_of: Converted | None) -> str:
    if made_of is not None:
        return f"its manifest, {made_of.path}, was converted again since"
    if not entry.manifest or isinstance(sharded.place, Url):
        return "where its manifest lies is not known here; name it beside the shards"
    return f"its manifest, {sharded.place / entry.manifest}, is gone; name it beside the shards"


def _index(sharded: Sharded) -> Identity:
    """Hold how many samples each tar has, as shards.json says it, against the index, where every id counts once."""
    stated = Counter({file.name: file.samples for file in sharded.set.shards})
    difference, where = unlike(stated, sharded.tars)
    again = twice(np.concatenate([np.zeros(0, np.uint64), *sharded.ids.values()]))
    detail = [where] if where else []
    if len(again):
        detail.append(f"ids that stand twice: {shortened(named(again, sharded.names()), len(again))}")
    return equal(
        "shards",
        str(sharded.place),
        Count(stated.total(), f"samples of {len(stated)} tars in {SHARDS}"),
        Count(sharded.num_rows - len(again), f"different ids in {INDEX}"),
        difference + len(again),
        "; ".join(detail),
    )


def _tars(sharded: Sharded, workers: int, progress: Progress) -> Identity:
    """Hold what the index says against the members of the tars, as their headers tell them."""
    place, listed = sharded.place, [file.name for file in sharded.set.shards]
    if isinstance(place, Url):
        why = f"tars at a URL are not walked; 'dataengine shard {place} --verify' reads every byte"
        return unproven("tars", str(place), Count(len(listed), f"tars in {SHARDS}"), Count(0, "walked"), why)
    there = {path.name for path in place.glob("*.tar") if not path.name.startswith(".")}
    strange = sorted(there - {*listed})
    # In the order of the index, whose rows are read once; tars without a row come last.
    names = [*dict.fromkeys([*sharded.tars, *listed, *strange])]
    walked = run(
        partial(_members, place), names, runner="local", workers=workers, size=len, progress=progress
    )
    promised, found, difference, wrong = 0, 0, 0, list[str]()
    for name, here, wanted in zip(names, walked, chain(_wanted(sharded), repeat({})), strict=False):
        count, says = _unlike(wanted, here)
        promised, found, difference = promised + len(wanted), found + len(here), difference + count
        if says:
            wrong.append(f"{name}: {says}" if name in there else f"{name} is gone")
    wrong += [f"{name}: is not in {SHARDS}" for name in strange]
    return equal(
        "tars",
        str(place),
        Count(promised, f"members of {sharded.num_rows} samples in {INDEX}"),
        Count(found, f"members in {len(names)} tars"),
        difference + len(strange),
        "; ".join([*wrong[:NAMED], *([f"{len(wrong) - NAMED} more"] if len(wrong) > NAMED else [])]),
    )


def _wanted(sharded: Sharded) -> Iterator[dict[str, Place]]:
    """Yield, for each tar in the order of the index, where it says that each member of the tar lies.

    Members are named by their sample's key and what they are: `key.json`, then `key.0` for the first picture.
    """
    columns = ("shard", "key", "json_offset", "json_size", "image_offsets", "image_sizes")
    rows = (row for some in sharded.columns(*columns) for row in zip(*some, strict=True))
    for _, group in groupby(rows, key=itemgetter(0)):
        here: dict[str, Place] = {}
        for _, key, offset, size, offsets, sizes in group:
            here[f"{key}.json"] = (offset, size)
            for number, spot in enumerate(zip(offsets, sizes, strict=True)):
                here[f"{key}.{number}"] = spot
        yield here


def _members(folder: Path, name: str) -> list[tuple[str, int, int]]:
    """Return the members of a tar by the names of `_wanted`, with where their bytes begin and how many there are."""
    try:
        found, _ = tar.walk(folder / name)
    except ShardError:
        return []  # every member that the index promises is missing
    return [(_called(member.name), member.start, member.size) for member in found]


def _called(name: str) -> str:
    """Return `key.json`, or `key.N` for a picture, `key.jpg` (N is 0) or `key.N.jpg`."""
    key, _, rest = name.partition(".")
    if rest == "json":
        return name
    number, dot, _ = rest.partition(".")
    return f"{key}.{number if dot else 0}"


def _unlike(wanted: Mapping[str, Place], found: Iterable[tuple[str, int, int]]) -> tuple[int, str]:
    """Return how many members are only wanted, only there, there twice or elsewhere, and which."""
    here = {name: (start, size) for name, start, size in found}
    again = len([*found]) - len(here)
    missing, strange = sorted(wanted.keys() - here.keys()), sorted(here.keys() - wanted.keys())
    says = [
        f"{len(some)} {what} {shortened(some[:NAMED], len(some))}"
        for what, some in (("missing", missing), ("too many", strange))
        if some
    ]
    says += [f"{again} twice"] if again else []
    if says:
        return len(missing) + len(strange) + again, ", ".join(says)
    elsewhere = sorted(name for name, spot in wanted.items() if here[name] != spot)
    return len(elsewhere), f"{len(elsewhere)} lie elsewhere, {elsewhere[0]} the first" if elsewhere else ""
