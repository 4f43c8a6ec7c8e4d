"""Processes that PyTorch starts read a store as the one that started them does."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import xxhash

from dataengine.sample import Sample
from dataengine.shares import Recipe
from dataengine.store import StoreSettings, Url
from trainer.dataset import StreamDataset, StreamLoader

if TYPE_CHECKING:
    from tests.dataengine.remote.conftest import Bucket

RECIPE = Recipe(seed=3, global_batch=6, policy="proportional")


def digests(sample: Sample, pictures: list[bytes], rng: random.Random) -> tuple[str, list[str]]:
    """Return what can be compared across processes."""
    return sample.id, [xxhash.xxh3_128_hexdigest(picture) for picture in pictures]


def _steps(shards: Path | Url, store: StoreSettings | None = None, workers: int = 0) -> list[object]:
    dataset = StreamDataset(shards, RECIPE, last_step=4, transform=digests, threads=2, store=store)
    # Spawned workers get it pickled.
    loader = StreamLoader(
        pickle.loads(pickle.dumps(dataset)),
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    return [step.data for step in loader]


@pytest.mark.parametrize(("workers", "cached"), [(0, False), (2, False), (2, True)])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_workers_read_a_store_as_a_folder(
    tiny_shards: Path, bucket: Bucket, tmp_path: Path, workers: int, cached: bool
) -> None:
    url = bucket.put_folder(tiny_shards, "set")
    store = StoreSettings(cache_dir=str(tmp_path / "cache"), cache_bytes=10**7) if cached else None

    assert _steps(url, store, workers) == _steps(tiny_shards)

    if cached:
        shards = [path.name for path in tiny_shards.glob("*.tar")]
        assert all(len(bucket.ranges(f"set/{name}")) <= 1 for name in shards)
