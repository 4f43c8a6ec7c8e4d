"""Splits of one dataset against each other: what one is to be evaluated on, no other may train on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import xxhash

from dataengine import manifest as manifests
from dataengine.audit.rule import Hit
from dataengine.manifest import Manifest

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class Pictured(NamedTuple):
    """The pictures of a converted split, as sorted hashes of their places and of their bytes, where these were read."""

    manifest: Manifest
    directory: Path
    places: Hashes
    contents: Hashes


def pictured(manifest: Manifest, directory: Path, digests: dict[tuple[str, str], int]) -> Pictured:
    """Return the pictures of a split; `digests` are those of the pictures whose bytes were read, by root and path."""
    places, contents = set(), set()
    for path in _paths(directory):
        places.add(_place(manifest.root, path))
        if (digest := digests.get((manifest.root, path))) is not None:
            contents.add(digest)
    return Pictured(manifest, directory, _sorted(places), _sorted(contents))


def overlaps(
    splits: Sequence[Pictured], digests: dict[tuple[str, str], int]
) -> Iterator[tuple[Pictured, str, Hit]]:
    """Yield each picture of a split to evaluate on that a split of its dataset to train on has, by name or by bytes."""
    for tested in splits:
        if tested.manifest.use != "eval":
            continue
        for trained in splits:
            if trained.manifest.use == "train" and trained.manifest.dataset == tested.manifest.dataset:
                for path, what in _shared(trained, tested, digests):
                    yield tested, path, Hit(f"{path}: {what} is in {trained.manifest.name}")


def _shared(
    trained: Pictured, tested: Pictured, digests: dict[tuple[str, str], int]
) -> Iterator[tuple[str, str]]:
    names = np.intersect1d(trained.places, tested.places, assume_unique=True)
    contents = np.intersect1d(trained.contents, tested.contents, assume_unique=True)
    if not len(names) and not len(contents):
        return
    same_name, same_bytes = set(names.tolist()), set(contents.tolist())
    root = tested.manifest.root
    for path in dict.fromkeys(_paths(tested.directory)):
        if _place(root, path) in same_name:
            yield path, "the picture"
        elif digests.get((root, path)) in same_bytes:
            yield path, "a picture of the same bytes"


def _paths(directory: Path) -> Iterator[str]:
    with pq.ParquetFile(directory / manifests.SAMPLES) as table:
        for batch in table.iter_batches(columns=["images"]):
            yield from batch.column(0).flatten().to_pylist()


def _place(root: str, path: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{root}\0{path}".encode())


def _sorted(found: set[int]) -> Hashes:
    return np.sort(np.fromiter(found, np.uint64, len(found)))
