"""Samples of a store by range requests: one request brings a whole sample, or several neighbours."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from dataengine.pool import Span
from dataengine.store import PerProcess, Store

HELD_BYTES = 64 * 2**20

# The samples of a shard in ascending order: the first byte of each, and the byte after its last.
Extents = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


class _Held:
    """Samples that have come and may be asked for next, the longest unused thrown away first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.samples: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self.num_bytes = 0

    def find(self, key: tuple[str, int]) -> bytes | None:
        with self.lock:
            data = self.samples.get(key)
            if data is not None:
                self.samples.move_to_end(key)
            return data

    def keep(self, found: dict[tuple[str, int], bytes], most: int) -> None:
        with self.lock:
            for key, data in found.items():
                self.num_bytes += len(data) - len(self.samples.pop(key, b""))
                self.samples[key] = data
            while self.num_bytes > most and len(self.samples) > len(found):
                self.num_bytes -= len(self.samples.popitem(last=False)[1])


class Ranges:
    """Reads shards of a store as `Pool` reads files: any piece, by name and offset, from any thread.

    The first piece of a sample brings all of it, since its members lie next to each other; the others are there then.
    `extents` says where the samples of a shard lie. With `read_ahead_bytes`, whole samples that follow come with it.
    """

    def __init__(self, store: Store, extents: Callable[[str], Extents]) -> None:
        self.store = store
        self._extents = extents
        self._held = PerProcess(_Held)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a shard. Raises ShardError or StoreError, naming URL and offset."""
        starts, ends = self._extents(name)
        first = int(np.searchsorted(starts, offset, side="right")) - 1
        if first < 0 or offset + size > ends[first]:
            return self.store.read(name, offset, offset + size)
        start = int(starts[first])
        held = self._held.get()
        data = held.find((name, first))
        if data is None:
            data = self._fetch(held, name, first, starts, ends)
        return data[offset - start : offset - start + size]

    def read_pieces(self, name: str, spans: Sequence[Span]) -> list[bytes]:
        """Return pieces of a shard, (offset, size) each. Raises as `read` does."""
        return [self.read(name, offset, size) for offset, size in spans]

    def _fetch(self, held: _Held, name: str, first: int, *extents: npt.NDArray[np.int64]) -> bytes:
        """Bring a sample, and those behind it that fit into the bytes to read ahead; return the sample."""
        starts, ends = extents
        start, ahead = int(starts[first]), self.store.settings.read_ahead_bytes
        last = max(first, int(np.searchsorted(ends, start + ahead, side="right")) - 1)
        data = self.store.read(name, start, int(ends[last]))
        found = {
            (name, number): data[starts[number] - start : ends[number] - start]
            for number in range(first, last + 1)
        }
        held.keep(found, HELD_BYTES + 4 * ahead)
        return found[name, first]

    def mend(self, name: str) -> str:
        """Return what helps against a shard with wrong bytes."""
        return f"upload {name} again"

    def close(self) -> None:
        """Let go of the samples that are held."""
        self._held = PerProcess(_Held)
