"""Splits of one dataset against each other: what one is to be evaluated on, no other may train on."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import xxhash

from dataengine import manifest as manifests
from dataengine.audit.rule import Hit
from dataengine.audit.spill import Kept
from dataengine.manifest import Manifest

# The digest of a picture's bytes by its root and path, None where they were not read.
DigestOf = Callable[[str, str], int | None]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]


class Pictured(NamedTuple):
    """The pictures of a converted split, as sorted hashes of their places and of their bytes, where these were read."""

    manifest: Manifest
    directory: Path
    places: Hashes
    contents: Hashes


def pictured(manifest: Manifest, directory: Path, digest_of: DigestOf) -> Pictured:
    """Return the pictures of a split; `digest_of` gives that of a picture's bytes, where they were read."""
    places, contents = array("Q"), array("Q")
    for path in _paths(directory):
        places.append(_place(manifest.root, path))
        if (digest := digest_of(manifest.root, path)) is not None:
            contents.append(digest)
    return Pictured(manifest, directory, _sorted(places), _sorted(contents))


def overlaps(splits: Sequence[Pictured], digest_of: DigestOf) -> Iterator[tuple[Pictured, str, Hit]]:
    """Yield each picture of a split to evaluate on that a split of its dataset to train on has, by name or by bytes."""
    for tested in splits:
        if tested.manifest.use != "eval":
            continue
        for trained in splits:
            if trained.manifest.use == "train" and trained.manifest.dataset == tested.manifest.dataset:
                for path, what in _shared(trained, tested, digest_of):
                    yield tested, path, Hit(f"{path}: {what} is in {trained.manifest.name}")


def _shared(trained: Pictured, tested: Pictured, digest_of: DigestOf) -> Iterator[tuple[str, str]]:
    names = np.intersect1d(trained.places, tested.places, assume_unique=True)
    contents = np.intersect1d(trained.contents, tested.contents, assume_unique=True)
    if not len(names) and not len(contents):
        return
    root = tested.manifest.root
    told: Kept[str, bool] = Kept(str, bool)
    for path in _paths(tested.directory):
        by_name = _is_in(names, _place(root, path))
        if (by_name or _is_in(contents, digest_of(root, path))) and not told.get(path):
            told[path] = True
            yield path, "the picture" if by_name else "a picture of the same bytes"


def _is_in(ordered: Hashes, number: int | None) -> bool:
    """Say whether a number stands among sorted ones."""
    if number is None:
        return False
    place = int(np.searchsorted(ordered, np.uint64(number)))
    return place < len(ordered) and int(ordered[place]) == number


def _paths(directory: Path) -> Iterator[str]:
    with pq.ParquetFile(directory / manifests.SAMPLES) as table:
        for batch in table.iter_batches(columns=["images"]):
            yield from batch.column(0).flatten().to_pylist()


def _place(root: str, path: str) -> int:
    return xxhash.xxh3_64_intdigest(f"{root}\0{path}".encode())


def _sorted(found: array[int]) -> Hashes:
    return np.unique(np.frombuffer(found, np.uint64))
