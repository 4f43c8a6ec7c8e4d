"""Tars of anybody: which samples their members make by webdataset's rule, and all that is wrong with them.

A member's key is its name up to the first dot behind the last slash, the rest is its extension; members of one key that
follow each other are one sample (webdataset 1.0, `base_plus_ext` and `group_by_keys`; Megatron-Energon and DALI alike).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from dataengine import tar
from dataengine.columns import column
from dataengine.errors import ShardError
from dataengine.files import write_atomic
from dataengine.images import EXTENSIONS
from dataengine.runners import RunnerName, run
from dataengine.tar import Fault

MEMBERS = "members.parquet"
MEMBER_SCHEMA = pa.schema(
    [
        ("shard", pa.dictionary(pa.int32(), pa.string())),
        ("sample", pa.int32()),
        ("key", pa.string()),
        ("extension", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
    ]
)
_PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
_META = re.compile(r"__[^/]*__($|/)")
Progress = Callable[[int, str], None]


class Part(NamedTuple):
    """A member of a sample: its key and extension, where its (first) header and its bytes begin, how many it has."""

    key: str
    extension: str
    header: int
    start: int
    size: int


class Contents(NamedTuple):
    """A tar: its name below the folder, its samples in order, what is wrong with it, and how many bytes it has.

    `left_out` are those of the faults that name a member which is in no sample.
    """

    name: str
    samples: list[list[Part]]
    faults: list[Fault]
    bytes: int
    left_out: list[Fault]

    def lines(self, folder: Path) -> Iterator[str]:
        """Yield one line for each fault."""
        for fault in self.faults:
            yield f"{folder / self.name}: offset {fault.offset}: {fault.says}"


def tars_in(folder: Path) -> list[str]:
    """Return the tars in or below a folder, hidden ones left out, sorted. Raises ShardError where there are none."""
    if not folder.is_dir():
        is_what = "is a file" if folder.is_file() else "no such folder"
        raise ShardError(f"{folder}: {is_what}; expected the folder that tars lie in")
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.tar")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise ShardError((*packed_in(folder), f"{folder}: no tars in or below it")[0])
    return found


def packed_in(folder: Path) -> list[str]:
    """Return a line for each compressed tar in or below a folder: webdataset reads it, an index cannot lead into it."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(_PACKED))
    return [
        f"{path}: is compressed, and is left out; unpack it, no sample in it can be read by itself"
        for path in found
    ]


def read_tars(
    folder: Path, names: Sequence[str], *, runner: RunnerName = "local", workers: int = 1
) -> Iterator[Contents]:
    """Yield what each tar of a folder holds, from headers alone. Raises ShardError where one cannot be read."""
    return run(partial(read_tar, folder), names, runner=runner, workers=workers)


def read_tar(folder: Path, name: str) -> Contents:
    """Return what a tar holds, from its headers alone. Raises ShardError where it cannot be read."""
    found, faults = tar.walk(folder / name)
    parts, left_out = [], []
    for member in found:
        place, _, last = member.name.rpartition("/")
        stem, dot, extension = last.partition(".")
        if not stem or not dot or (member.name.startswith("__") and _META.match(member.name)):
            left_out.append(Fault(member.header, _left_out(member.name, stem)))
            continue
        key = f"{place}/{stem}" if place else stem
        parts.append(Part(key, extension, member.header, member.start, member.size))
    samples = [list(group) for _, group in groupby(parts, key=lambda part: part.key)]
    faults += [*left_out, *keys_again(samples), *parts_twice(samples), *halves(samples), *_ambiguous(samples)]
    return Contents(name, samples, sorted(faults), (folder / name).stat().st_size, left_out)


def _left_out(name: str, stem: str) -> str:
    if _META.match(name):
        return f"{name!r} is in no sample: names between underscores are for webdataset itself"
    return f"{name!r} is in no sample: it has no {'extension' if stem else 'name before its first dot'}"


def keys_again(samples: Sequence[Sequence[Part]]) -> Iterator[Fault]:
    """Yield keys that come again."""
    began: dict[str, int] = {}
    for sample in samples:
        first = sample[0]
        if began.setdefault(first.key, first.header) != first.header:
            where = began[first.key]
            yield Fault(
                first.header, f"key {first.key!r} comes again, it began at offset {where}: two samples"
            )


def parts_twice(samples: Sequence[Sequence[Part]]) -> Iterator[Fault]:
    """Yield members that stand twice in a sample: webdataset stops there."""
    for sample in samples:
        if len({part.extension.lower() for part in sample}) < len(sample):
            seen = set[str]()
            for part in sample:
                if part.extension.lower() in seen:
                    yield Fault(part.header, f"{part.key}.{part.extension} stands twice in its sample")
                seen.add(part.extension.lower())


def halves(samples: Sequence[Sequence[Part]]) -> Iterator[Fault]:
    """Yield samples that lack what most samples of the tar have; pictures of all kinds are one."""
    kinds = [frozenset([_kind(part.extension) for part in sample]) for sample in samples]
    common, count = Counter(kinds).most_common(1)[0] if kinds else (frozenset(), 0)
    if 2 * count <= len(samples):
        return
    for sample, has in zip(samples, kinds, strict=True):
        if has < common:
            lacks = ", ".join(sorted(common - has))
            yield Fault(sample[0].header, f"sample {sample[0].key!r} is half: it has no {lacks}")


@lru_cache(1024)
def _kind(extension: str) -> str:
    last = extension.rpartition(".")[2].lower()
    return "picture" if last in EXTENSIONS else last


def _ambiguous(samples: Sequence[Sequence[Part]]) -> Iterator[Fault]:
    """Yield the first sample that the first dot makes otherwise than the others, where the last dot makes all alike."""
    if not any("." in extension for extension in {part.extension for sample in samples for part in sample}):
        return
    forms = [tuple(part.extension.lower() for part in sample) for sample in samples]
    if len(set(forms)) < 2:
        return
    names = [f"{part.key}.{part.extension}".rpartition(".") for sample in samples for part in sample]
    by_last = {
        tuple(extension.lower() for _, _, extension in group)
        for _, group in groupby(names, key=lambda name: name[0])
    }
    if len(by_last) == 1:
        wrong = next(n for n, form in enumerate(forms) if any("." in extension for extension in form))
        sample = samples[wrong]
        has = ", ".join(part.extension for part in sample[:4])
        yield Fault(
            sample[0].header,
            f"names split ambiguously: at the first dot, as readers do, sample {sample[0].key!r} has {has};"
            f" at the last dot all samples have {', '.join(by_last.pop())}; rename the members",
        )


def table(contents: Sequence[Contents]) -> pa.Table:
    """Return the members of some tars as a table, columns as in MEMBER_SCHEMA; `sample` counts in each tar."""
    parts = [part for tar_ in contents for sample in tar_.samples for part in sample]
    keys, extensions, _, starts, sizes = zip(*parts, strict=True) if parts else ((),) * 5
    numbers = [
        number for tar_ in contents for number, sample in enumerate(tar_.samples) for _ in range(len(sample))
    ]
    counts = [sum(map(len, tar_.samples)) for tar_ in contents]
    codes = [code for code, count in enumerate(counts) for _ in range(count)]
    shards = pa.DictionaryArray.from_arrays(
        column(codes, pa.int32()), column([tar_.name for tar_ in contents], pa.string())
    )
    values = (numbers, keys, extensions, starts, sizes)
    kinds = MEMBER_SCHEMA.types[1:]
    return pa.Table.from_arrays([shards, *map(column, values, kinds)], schema=MEMBER_SCHEMA)


def keys_twice(contents: Sequence[Contents]) -> list[str]:
    """Return the keys that more than one tar has, with the first two of them: whoever looks samples up by key fails."""
    owner: dict[str, str] = {}
    return sorted(
        f"key {key!r} is in {owner[key]} and in {tar_.name}"
        for tar_ in contents
        for key in {sample[0].key for sample in tar_.samples}
        if owner.setdefault(key, tar_.name) != tar_.name
    )


def dump(contents: Sequence[Contents], folder: Path) -> Path:
    """Write members.parquet into a folder of tars and return its path."""
    sink = pa.BufferOutputStream()
    pq.write_table(table(contents), sink, compression="zstd")
    write_atomic(folder / MEMBERS, sink.getvalue().to_pybytes())
    return folder / MEMBERS
