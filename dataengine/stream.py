"""Samples by position: `stream.read(t)` is the same sample for every rank, worker and restart."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash

from dataengine import sample as samples
from dataengine.errors import PlanError, ShardError
from dataengine.index import Index
from dataengine.mix import Plan, plan, slots
from dataengine.pool import Pool
from dataengine.render import Renderer, RenderOptions
from dataengine.sample import Sample
from dataengine.shares import Recipe, Source

BLOCK, MAX_BLOCKS = 512, 8


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a job needs to go on: the next position, what is left out, and which plan it was."""

    position: int
    plan: str
    exclusions: dict[str, tuple[int, ...]] = {}


def sources(index: Index, use: str = "train") -> list[Source]:
    """Return the sources of a shard set that may be used for `train` or `eval`; empty ones are left out."""
    return [
        Source(
            name=entry.name,
            task=entry.task,
            dataset=entry.dataset,
            family=entry.family,
            num_samples=entry.samples,
            num_tokens=entry.text_length,
        )
        for entry in index.set.sources
        if entry.use == use and entry.samples > 0
    ]


class Stream:
    """A shard set in the order of a mixture's plan; with `render`, each pass over a source words its samples anew."""

    def __init__(
        self,
        directory: Path,
        recipe: Recipe,
        *,
        use: str = "train",
        exclusions: Mapping[str, tuple[int, ...]] | None = None,
        render: RenderOptions | None = None,
    ) -> None:
        self.index = Index(directory)
        found = sources(self.index, use)
        if not found:
            raise PlanError(f"{directory}: no samples with use {use!r}; its sources are "
                            f"{', '.join(entry.name for entry in self.index.set.sources) or 'none'}")  # fmt: skip
        self.exclusions = dict(exclusions or {})
        self.plan: Plan = plan(found, recipe, self.exclusions)
        self.pool = Pool(directory)
        self.renderer = Renderer(self.index.set, render, recipe.seed) if render is not None else None
        self._rows = [self.index.rows_by_source[source.name] for source in self.plan.sources]
        self._blocks: dict[int, list[int]] = {}
        self._lock = threading.Lock()

    def row(self, position: int) -> int:
        """Return the index row that stands at a position."""
        block, place = divmod(position, BLOCK)
        rows = self._blocks.get(block)
        if rows is None:
            rows = self._block_rows(block)
            with self._lock:
                # A few blocks suffice: positions are asked for nearly in order, by some threads at once.
                while len(self._blocks) >= MAX_BLOCKS:
                    self._blocks.pop(next(iter(self._blocks)))
                self._blocks[block] = rows
        return rows[place]

    def _block_rows(self, block: int) -> list[int]:
        """Return the rows of a block of positions: as arrays they cost a fraction of one by one."""
        draws = self.plan.slice(block * BLOCK, (block + 1) * BLOCK)
        rows = np.empty(BLOCK, np.int64)
        for number, of_source in enumerate(self._rows):
            here = draws.source == number
            rows[here] = of_source[draws.index[here]]
        found: list[int] = rows.tolist()
        return found

    def entry(self, position: int) -> dict[str, Any]:
        """Return what stands at a position and where its JSON begins, without reading a shard."""
        row = self.index.row(self.row(position))
        return {
            "t": position,
            "id": row["id"],
            "task": row["task"],
            "dataset": row["dataset"],
            "shard": f"{row['shard']}.tar",
            "offset": row["json_offset"],
        }

    def read(self, position: int) -> tuple[Sample, list[bytes]]:
        """Return the sample at a position and its pictures' bytes, digests checked. Raises ShardError."""
        number = self.row(position)
        sample, pictures = self.read_row(number)
        if self.renderer is not None:
            sample = self.renderer.render(sample, self.plan[position].epoch, self.index.unsure(number))
        return sample, pictures

    def read_row(self, number: int) -> tuple[Sample, list[bytes]]:
        """Return the sample of an index row as it is stored, and its pictures' bytes.

        Raises ShardError, naming file and offset.
        """
        place = self.index.place(number)
        name = f"{place.shard}.tar"
        encoded = self.pool.read(name, place.json_offset, place.json_size)
        if xxhash.xxh3_128_hexdigest(encoded) != place.digest:
            raise self._damaged(name, place.json_offset, number)
        sample = samples.decode(encoded)
        pictures = []
        for image, offset, size in zip(sample.images, place.image_offsets, place.image_sizes, strict=True):
            data = self.pool.read(name, offset, size)
            if xxhash.xxh3_128_hexdigest(data) != image.digest:
                raise self._damaged(name, offset, number)
            pictures.append(data)
        return sample, pictures

    def _damaged(self, name: str, offset: int, number: int) -> ShardError:
        directory, sample_id = self.index.directory, self.index.row(number)["id"]
        return ShardError(
            f"{directory / name}: offset {offset}: bytes of {sample_id} differ from their digest;"
            f" rebuild it with 'dataengine shard {directory} --rebuild --only {name}'"
        )

    def positions(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[int]:
        """Yield a rank's positions in [start, stop), in order: its part of each global batch."""
        batch = self.plan.recipe.global_batch
        slots(start // batch, rank, world, batch)  # a wrong rank is refused even where it would get nothing
        for step in range(start // batch, -(-stop // batch)):
            for position in slots(step, rank, world, batch):
                if start <= position < stop:
                    yield position

    def state(self, position: int) -> State:
        """Return what a restart needs, on any number of ranks and workers."""
        return State(position=position, plan=self.plan.digest, exclusions=self.exclusions)

    def check(self, state: State) -> None:
        """Raise PlanError where a saved state belongs to another plan."""
        if state.plan != self.plan.digest:
            raise PlanError(
                f"{self.index.directory}: the plan is not the one that was saved (sources, recipe or exclusions"
                " changed); start a new run, or restore the old shards and recipe"
            )

    def close(self) -> None:
        """Close the files that the stream holds open."""
        self.pool.close()


def recipe(**fields: Any) -> Recipe:
    """Return a recipe from plain fields, those that are None left out. Raises PlanError for a wrong one."""
    try:
        return msgspec.convert({k: v for k, v in fields.items() if v is not None}, Recipe, strict=False)
    except msgspec.ValidationError as error:
        raise PlanError(f"mixture recipe: {error}; see 'dataengine mix --help'") from error
