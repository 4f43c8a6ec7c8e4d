"""Batches of 32 pictures of 448 x 448 brought into this process from one that makes them."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Iterator
from typing import Any

import meter
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

SHAPE = (32, 3, 448, 448)


def batch(dtype: str, tensors: int) -> list[torch.Tensor]:
    """Return a batch as so many tensors of about equal length."""
    whole = torch.zeros(SHAPE, dtype=getattr(torch, dtype)).view(-1)
    return [part.clone() for part in whole.chunk(tensors)]


class Batches(IterableDataset):  # type: ignore[misc, type-arg]
    """The same batch again and again, copied each time as a loader would make it."""

    def __init__(self, dtype: str, tensors: int, batches: int) -> None:
        self.dtype, self.tensors, self.batches = dtype, tensors, batches

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        made = batch(self.dtype, self.tensors)
        for _ in range(self.batches):
            yield [part.clone() for part in made]


def _pickled(dtype: str, batches: int) -> Iterator[Any]:
    """Let a process send arrays through a pipe."""

    def send(end: Any) -> None:
        made = np.zeros(SHAPE, dtype)
        for _ in range(batches):
            end.send(made)

    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=send, args=(there,))
    process.start()
    for _ in range(batches):
        yield [here.recv()]
    process.join()


def _threaded(dtype: str, batches: int) -> Iterator[Any]:
    """Let a thread hand over arrays."""
    line: queue.Queue[Any] = queue.Queue(2)

    def send() -> None:
        made = np.zeros(SHAPE, dtype)
        for _ in range(batches):
            line.put(made.copy())

    threading.Thread(target=send, daemon=True).start()
    for _ in range(batches):
        yield [line.get()]


def bring(way: str, dtype: str, tensors: int, batches: int) -> dict[str, Any]:
    """Receive batches and touch each once."""

    def start() -> Iterator[tuple[int, int]]:
        match way:
            case "shm":
                got: Any = DataLoader(Batches(dtype, tensors, batches), batch_size=None, num_workers=1)
            case "pickle":
                got = _pickled(dtype, batches)
            case _:
                got = _threaded(dtype, batches)
        for parts in got:
            assert all(part.reshape(-1)[0] == 0 for part in parts)
            yield 1, 0

    return meter.consume(start)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    meter.main({"bring": bring}, "torch", "numpy")
