"""The bytes of a subject's pictures, by path and by the sample that shows it: from its folder, shards or tars."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path

import pyarrow.compute as pc

from dataengine import members
from dataengine import sample as samples
from dataengine.audit.state import Account
from dataengine.errors import Quarantine, ShardError
from dataengine.files import Root
from dataengine.images import read as read_picture
from dataengine.index import SHARDS, Index

SEARCHED = (
    20_000  # samples of a shard set that are looked through for a picture of which only the path is known
)
FileBytes = Callable[[str, str], bytes]


def reader_of(account: Account) -> FileBytes | None:
    """Return what gives the bytes of a picture by its path and its sample's id ("": any); None without a place.

    It raises Quarantine, ShardError or OSError.
    """
    folder = Path(account.subject)
    if "://" in account.subject:
        return None
    if account.kind == "tars":
        return _from_tars(folder)
    if account.root and Path(account.root).is_dir():
        root = Root(Path(account.root))
        return lambda path, _: read_picture(root.inside(path))
    return _from_shards(folder) if (folder / SHARDS).is_file() else None


def says(error: Quarantine | ShardError | OSError) -> str:
    """Return why a picture cannot be had, in a few words."""
    if isinstance(error, Quarantine):
        return error.reason
    return "its shard cannot be read" if isinstance(error, ShardError) else error.strerror or str(error)


def _from_tars(path: Path) -> FileBytes:
    folder = path.parent if path.is_file() else path
    contents = lru_cache(maxsize=4)(partial(members.read_tar, folder))

    def read(picture: str, _: str) -> bytes:
        stem, _, name = picture.partition(".tar/")
        tar = f"{stem}.tar"
        for sample in contents(tar).samples:
            for part in sample:
                if f"{part.key}.{part.extension}" == name:
                    with (folder / tar).open("rb") as file:
                        return os.pread(file.fileno(), part.size, part.start)
        raise FileNotFoundError("no such member")

    return read


def _from_shards(folder: Path) -> FileBytes:
    index = Index(folder)

    def read(path: str, sample_id: str) -> bytes:
        pool = index.open()
        try:
            for number in _rows(index, sample_id):
                row = index.row(number)
                tar = f"{row['shard']}.tar"
                sample = samples.decode(pool.read(tar, row["json_offset"], row["json_size"]))
                for place, image in enumerate(sample.images):
                    if image.path == path:
                        return pool.read(tar, row["image_offsets"][place], row["image_sizes"][place])
        finally:
            pool.close()
        raise FileNotFoundError(f"not in the first {SEARCHED:,} samples")

    return read


def _rows(index: Index, sample_id: str) -> Iterable[int]:
    """Return the row of a sample, or the first ones where none is named."""
    if not sample_id:
        return range(min(len(index), SEARCHED))
    number: int = pc.index(index.table.column("id"), sample_id).as_py()
    if number < 0:
        raise FileNotFoundError("no such sample")
    return [number]
