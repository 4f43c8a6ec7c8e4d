"""What Megatron-Energon reads beside the tars, as its `prepare` writes it (7.4): no run of that is needed.

`.nv-meta/.info.json` counts the samples of each shard, `split.yaml` says which shards are for what, `dataset.yaml` that
a sample is a plain dict of its members (CrudeWebdataset), `index.sqlite` where each sample and member lies, and
`X.tar.idx` beside each tar holds the offsets of its samples and of its end, as little-endian uint64.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import xxhash
import yaml

from dataengine.errors import ShardError
from dataengine.files import make_folder, unwritable, write_atomic
from dataengine.members import Contents, Part, keys_twice
from dataengine.tar import padding

META = ".nv-meta"
VERSION = "7.4.1"  # whose files these are
SPLITS = ("train", "val", "test")
_TABLES = """
    CREATE TABLE samples (tar_file_id INTEGER NOT NULL, sample_key TEXT NOT NULL UNIQUE, sample_index INTEGER NOT NULL,
                          byte_offset INTEGER, byte_size INTEGER);
    CREATE TABLE sample_parts (tar_file_id INTEGER, sample_index INTEGER, part_name TEXT, content_byte_offset INTEGER,
                               content_byte_size INTEGER);
"""
_INDEXES = """
    CREATE INDEX idx_samples_by_tar_and_idx ON samples(tar_file_id, sample_index);
    CREATE INDEX idx_sample_parts_seq ON sample_parts(tar_file_id, sample_index, content_byte_offset);
    CREATE INDEX idx_sample_parts_full ON sample_parts(tar_file_id, sample_index, part_name, content_byte_offset,
                                                       content_byte_size);
"""


def dump(folder: Path, contents: Sequence[Contents], splits: Mapping[str, str]) -> Path:
    """Write all files and return their folder; `splits` gives `train`, `val` or `test` for the name of each tar.

    A tar that is in no split is indexed, and used by none. Tars without samples are left out. Raises ShardError where a
    key stands twice: there it would be the key of two samples.
    """
    used = [one for one in contents if one.samples]
    _check_keys(folder, used)
    meta = make_folder(folder / META)
    for one in used:
        write_atomic(folder / f"{one.name}.idx", bounds(one).astype("<u8").tobytes())
    _write_index(meta / "index.sqlite", used)
    parts = {part: [one.name for one in used if splits.get(one.name) == part] for part in SPLITS}
    info = {"energon_version": VERSION, "shard_counts": {one.name: len(one.samples) for one in used}}
    made = {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"}
    write_atomic(meta / "index.uuid", str(uuid.UUID(bytes=_identity(used))).encode())
    write_atomic(meta / "split.yaml", _yaml({"split_parts": parts, "exclude": []}))
    write_atomic(meta / "dataset.yaml", _yaml(made))
    write_atomic(meta / ".info.json", msgspec.json.format(msgspec.json.encode(info), indent=2))
    return meta


def bounds(contents: Contents) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return where the samples of a tar begin, and where the last one ends: int64 [samples + 1]."""
    begins = [sample[0].header for sample in contents.samples]
    return np.array([*begins, max(map(_end, contents.samples[-1]))], np.int64)


def _end(part: Part) -> int:
    return part.start + part.size + len(padding(part.size))


def _check_keys(folder: Path, contents: Sequence[Contents]) -> None:
    for one in contents:
        began: dict[str, int] = {}
        for sample in one.samples:
            if began.setdefault(sample[0].key, sample[0].header) != sample[0].header:
                raise ShardError(
                    f"{folder / one.name}: offset {sample[0].header}: key {sample[0].key!r} stands twice;"
                    " Energon needs one sample a key"
                )
    for line in keys_twice(contents):
        raise ShardError(f"{folder}: {line}; Energon needs one sample a key")


def _write_index(path: Path, contents: Sequence[Contents]) -> None:
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(temporary)) as index:
            index.executescript(_TABLES)
            index.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", _samples(contents))
            index.executemany("INSERT INTO sample_parts VALUES (?, ?, ?, ?, ?)", _parts(contents))
            index.executescript(_INDEXES)
            index.commit()
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    except sqlite3.OperationalError as error:
        raise ShardError(f"{path}: cannot be written: {error}; free space, then run again") from error
    finally:
        temporary.unlink(missing_ok=True)


def _samples(contents: Sequence[Contents]) -> Iterator[tuple[int, str, int, int, int]]:
    for tar_id, one in enumerate(contents):
        places = bounds(one).tolist()
        for number, sample in enumerate(one.samples):
            yield tar_id, sample[0].key, number, places[number], places[number + 1] - places[number]


def _parts(contents: Sequence[Contents]) -> Iterator[tuple[int, int, str, int, int]]:
    for tar_id, one in enumerate(contents):
        for number, sample in enumerate(one.samples):
            for part in sample:
                yield tar_id, number, part.extension, part.start, part.size


def _identity(contents: Sequence[Contents]) -> bytes:
    """Return 16 bytes that follow from what is indexed: the same tars have the same identity."""
    digest = xxhash.xxh3_128()
    for one in contents:
        digest.update(f"{one.name} {one.bytes} {bounds(one).tolist()}\n".encode())
    return digest.digest()


def _yaml(value: object) -> bytes:
    text: str = yaml.safe_dump(value, sort_keys=False)
    return text.encode()
