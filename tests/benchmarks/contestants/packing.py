"""Ways to pack sequences into windows of a fixed length with a limit of pictures; published ones written anew.

A buffer of sequences is packed at a time. Fill is tokens / (packs x limit).
"""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable
from typing import Any

import meter
import numpy as np

Sequences = list[tuple[int, int]]
Packer = Callable[[Sequences, int, int], list[list[int]]]


def sequences(count: int) -> Sequences:
    """Return (tokens, pictures) of a made-up mix: log-normal lengths from 64 to 4095, mostly one picture."""
    rng = np.random.default_rng(3)
    lengths = np.clip(np.exp(rng.normal(6.6, 0.8, count)), 64, 4095).astype(int)
    pictures = rng.choice([0, 1, 1, 1, 1, 2, 4], count)
    return list(zip(lengths.tolist(), pictures.tolist(), strict=True))


def best_fit_decreasing(items: Sequences, limit: int, images: int) -> list[list[int]]:
    """Longest first, each into the fullest bin that takes it; bins wait in a sorted list of (room, bin)."""
    from bisect import bisect_left

    bins: list[list[int]] = []
    left: list[int] = []
    rooms: list[tuple[int, int]] = []
    for number in sorted(range(len(items)), key=lambda i: -items[i][0]):
        tokens, pictures = items[number]
        place = bisect_left(rooms, (tokens, -1))
        while place < len(rooms) and left[rooms[place][1]] < pictures:
            place += 1
        if place == len(rooms):
            bins.append([])
            left.append(images)
            room, which = limit, len(bins) - 1
        else:
            room, which = rooms.pop(place)
        bins[which].append(number)
        left[which] -= pictures
        insort(rooms, (room - tokens, which))
    return bins


def first_fit_online(items: Sequences, limit: int, images: int) -> list[list[int]]:
    """In the order given, each into the first bin with room for it."""
    bins: list[list[int]] = []
    rooms: list[list[int]] = []
    for number, (tokens, pictures) in enumerate(items):
        fitting = (i for i, room in enumerate(rooms) if room[0] >= tokens and room[1] >= pictures)
        which = next(fitting, len(bins))
        if which == len(bins):
            bins.append([])
            rooms.append([limit, images])
        bins[which].append(number)
        rooms[which][0] -= tokens
        rooms[which][1] -= pictures
    return bins


def balanced_knapsack(items: Sequences, limit: int, images: int) -> list[list[int]]:
    """Longest first, each into the emptiest of a fixed number of bins, five of them to spare."""
    total = sum(tokens for tokens, _ in items)
    number_of_bins = -(-total // limit) + 5
    heap = [(0, which) for which in range(number_of_bins)]
    bins: list[list[int]] = [[] for _ in heap]
    left = [images] * number_of_bins
    for number in sorted(range(len(items)), key=lambda i: -items[i][0]):
        tokens, pictures = items[number]
        full = []
        while heap and (heap[0][0] + tokens > limit or left[heap[0][1]] < pictures):
            full.append(heapq.heappop(heap))
        if heap:
            load, which = heapq.heappop(heap)
        else:
            bins.append([])
            left.append(images)
            load, which = 0, len(bins) - 1
        bins[which].append(number)
        left[which] -= pictures
        for each in (*full, (load + tokens, which)):
            heapq.heappush(heap, each)
    return [each for each in bins if each]


def _measured(pack: Packer, buffer: int, limit: int, images: int, count: int) -> dict[str, Any]:
    items = sequences(count)
    packs: list[int] = []

    def run() -> dict[str, Any]:
        for first in range(0, count, buffer):
            part = items[first : first + buffer]
            for members in pack(part, limit, images):
                tokens, pictures = (sum(part[i][k] for i in members) for k in (0, 1))
                assert tokens <= limit
                assert pictures <= images
                packs.append(tokens)
        return {"count": count, "bytes": sum(packs)}

    found = meter.timed(run)
    return found | {"fill": sum(packs) / (limit * len(packs)), "us_a_sample": found["cpu_s"] / count * 1e6}


def best_fit(**arguments: int) -> dict[str, Any]:
    """Best fit decreasing."""
    return _measured(best_fit_decreasing, **arguments)


def first_fit(**arguments: int) -> dict[str, Any]:
    """First fit."""
    return _measured(first_fit_online, **arguments)


def knapsack(**arguments: int) -> dict[str, Any]:
    """A balanced greedy knapsack."""
    return _measured(balanced_knapsack, **arguments)


def ours(**arguments: int) -> dict[str, Any]:
    """Ours: the one place to adapt to what `dataengine.pack` offers."""
    try:
        from dataengine import pack
    except ImportError:
        return {"absent": "this revision has no packing"}

    def packed(items: Sequences, limit: int, images: int) -> list[list[int]]:
        tokens, tiles = zip(*items, strict=True)
        return pack.pack(tokens, limit, tiles=tiles, max_tiles=images)

    return _measured(packed, **arguments)


TASKS = {"best_fit": best_fit, "first_fit": first_fit, "knapsack": knapsack, "ours": ours}

if __name__ == "__main__":
    meter.main(TASKS, "numpy")
