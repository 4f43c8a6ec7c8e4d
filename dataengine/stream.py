"""Samples by position: `stream.read(t)` is the same sample for every rank, worker and restart.

What cannot be served leaves a hole: its position gives nothing, is counted, and moves no other one.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import xxhash
from xxhash import xxh3_128_hexdigest

from dataengine import sample as samples
from dataengine.errors import Damage, PlanError, ShardError
from dataengine.index import INDEX, Index, Place
from dataengine.mix import MAX_POSITION, Plan, plan, slots
from dataengine.pool import Span
from dataengine.render import Renderer, RenderOptions
from dataengine.sample import Sample
from dataengine.shares import Recipe, Source
from dataengine.state import Hole, State, differences, union
from dataengine.store import StoreSettings, Url

BLOCK, MAX_BLOCKS = 1024, 8
# What this process lacks (descriptors, memory) says nothing of a shard.
_OWN_LACKS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def sources(index: Index, use: str = "train") -> list[Source]:
    """Return the sources of a shard set that may be used for `train` or `eval`; empty ones are left out.

    The fingerprint of one of which a selection leaves out samples says which: others in as many places are no restart.
    """
    left_out: dict[str, list[str]] = {}
    for one in index.set.dropped:
        if one.is_selected:
            left_out.setdefault(one.source, []).append(one.id)
    return [
        Source(
            name=entry.name,
            task=entry.task,
            dataset=entry.dataset,
            family=entry.family,
            num_samples=entry.samples,
            num_tokens=entry.text_length,
            fingerprint=_of(entry.fingerprint, left_out.get(entry.name, ())),
        )
        for entry in index.set.sources
        if entry.use == use and entry.samples > 0
    ]


def _of(fingerprint: str, left_out: Sequence[str]) -> str:
    """Return the fingerprint of what is left of a source."""
    if not fingerprint or not left_out:
        return fingerprint
    return xxhash.xxh3_128_hexdigest("\n".join([fingerprint, *left_out]).encode())


def check_index(index: Index) -> None:
    """Raise ShardError where the index has other samples than shards.json: it belongs to another set."""
    listed = {entry.name: entry.samples for entry in index.set.sources}
    held = {name: len(rows) for name, rows in index.rows_by_source.items()}
    for name in sorted(listed | held):
        if held.get(name, 0) != listed.get(name, 0):
            raise ShardError(
                f"{index.directory / INDEX}: has {held.get(name, 0)} samples of {name}, shards.json"
                f" {listed.get(name, 0)}; the index is stale, run 'dataengine shard' again"
            )


class _Block(NamedTuple):
    """The rows of consecutive positions, and in which pass over its source each of them stands."""

    rows: list[int]
    epochs: list[int]


class Stream:
    """A shard set in the order of a mixture's plan; with `render`, each pass over a source words its samples anew."""

    def __init__(
        self,
        directory: Path | Url,
        recipe: Recipe,
        *,
        use: str = "train",
        exclusions: Mapping[str, tuple[int, ...]] | None = None,
        render: RenderOptions | None = None,
        store: StoreSettings | None = None,
    ) -> None:
        self.index = Index(directory, store)
        found = sources(self.index, use)
        if not found:
            raise PlanError(f"{directory}: no samples with use {use!r}; its sources are "
                            f"{', '.join(entry.name for entry in self.index.set.sources) or 'none'}")  # fmt: skip
        check_index(self.index)
        self.exclusions = dict(exclusions or {})
        self.plan: Plan = plan(found, recipe, self.exclusions)
        self.pool = self.index.open()
        self.renderer = Renderer(self.index.set, render, recipe.seed) if render is not None else None
        self.render = "stored" if render is None else msgspec.json.encode(render).decode()
        by_source = [self.index.rows_by_source[source.name] for source in self.plan.sources]
        # The rows of all sources, and where those of each begin.
        self._rows = np.concatenate(by_source)
        self._firsts = np.cumsum([0, *map(len, by_source[:-1])])
        self._blocks: dict[tuple[str, int], _Block] = {}
        self._lock = threading.Lock()
        self._holes: dict[int, Hole] = {}

    def follow(self, plan: Plan) -> None:
        """Go on by another plan of the same sources, which is this one at every position that was read."""
        self.plan = plan

    def row(self, position: int) -> int:
        """Return the index row that stands at a position."""
        return self._block(position).rows[position % BLOCK]

    def epoch(self, position: int) -> int:
        """Return in which pass over its source, from 0, a position stands."""
        return self._block(position).epochs[position % BLOCK]

    def _block(self, position: int) -> _Block:
        """Return the block of positions in which one lies: as arrays they cost a fraction of one by one."""
        plan = self.plan
        name = (plan.digest, position // BLOCK)
        found = self._blocks.get(name)
        if found is None:
            found = self._drawn(plan, position // BLOCK)
            with self._lock:
                # A few blocks suffice: positions are asked for nearly in order, by some threads at once.
                while len(self._blocks) >= MAX_BLOCKS:
                    self._blocks.pop(next(iter(self._blocks)))
                self._blocks[name] = found
        return found

    def _drawn(self, plan: Plan, block: int) -> _Block:
        draws = plan.slice(block * BLOCK, (block + 1) * BLOCK)
        rows = self._rows[self._firsts[draws.source] + draws.index]
        return _Block(rows.tolist(), draws.epoch.tolist())

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
        """Return the sample at a position, worded anew where the stream does that, and its pictures' bytes.

        Digests are checked. Raises Damage.
        """
        number = self.row(position)
        sample, pictures = self._read(number, self.index.place(number))
        return self._worded(position, number, sample), pictures

    def _worded(self, position: int, number: int, sample: Sample) -> Sample:
        if self.renderer is None:
            return sample
        return self.renderer.render(sample, self.epoch(position), self.index.unsure(number))

    def serve(self, position: int) -> tuple[Sample, list[bytes]] | Hole:
        """Return what `read` does, or the hole that a damaged sample leaves; a known one is not read again."""
        number = self.row(position)
        if (known := self._holes.get(number)) is not None:
            return msgspec.structs.replace(known, position=position)
        try:
            sample, pictures = self._read(number, self.index.place(number))
            return self._worded(position, number, sample), pictures
        except Damage as damage:
            return self._damaged(position, damage)

    def describe(self, position: int) -> Sample | Hole:
        """Return the sample at a position without its pictures, or the hole that damage to its JSON leaves.

        A sample whose pictures proved bad is described all the same: what is laid out by descriptions must not depend
        on who has read what before.
        """
        number = self.row(position)
        place = self.index.place(number)
        try:
            encoded = self._piece(number, place.file, place.spans[0], place.digest)
            return self._worded(position, number, self._decoded(place, encoded))
        except Damage as damage:
            return self._damaged(position, damage)

    def hole(
        self, position: int, reason: str, detail: str, *, lasts: bool, place: tuple[str, int] | None = None
    ) -> Hole:
        """Return the hole that the sample at a position leaves, at `place` (file, offset), else where its JSON lies.

        One that lasts is remembered: `serve` does not read the sample again.
        """
        number = self.row(position)
        row = self.index.row(number)
        file, offset = place or (f"{row['shard']}.tar", row["json_offset"])
        index = int(np.searchsorted(self.index.rows_by_source[row["source"]], number))
        found = Hole(
            position=position,
            reason=reason,
            id=row["id"],
            source=row["source"],
            index=index,
            file=file,
            offset=offset,
            detail=detail,
            lasts=lasts,
        )
        if lasts:
            self._holes.setdefault(number, found)
        return found

    def _damaged(self, position: int, damage: Damage) -> Hole:
        place = (damage.file, damage.offset)
        return self.hole(position, damage.reason, str(damage), place=place, lasts=True)

    def remember(self, holes: Iterable[Hole]) -> None:
        """Never read the samples of holes that an earlier run, or another rank, found. Raises PlanError."""
        for hole in holes:
            rows = self.index.rows_by_source.get(hole.source, ())
            if not 0 <= hole.index < len(rows):
                raise PlanError(
                    f"{self.index.directory}: has no sample {hole.index} of {hole.source}, which a state calls bad;"
                    " restore the shards that it was saved with"
                )
            self._holes[int(rows[hole.index])] = hole

    def read_row(self, number: int) -> tuple[Sample, list[bytes]]:
        """Return the sample of an index row as it is stored, and its pictures' bytes.

        Raises Damage, naming file and offset.
        """
        return self._read(number, self.index.place(number))

    def _read(self, number: int, place: Place) -> tuple[Sample, list[bytes]]:
        name, spans = place.file, place.spans
        try:
            pieces = self.pool.read_pieces(name, spans)
        except ShardError:
            pieces = [b""] * len(spans)  # each is read by itself below, where the error says which one it is
        encoded = pieces[0]
        if xxh3_128_hexdigest(encoded) != place.digest:
            encoded = self._piece(number, name, spans[0], place.digest)
        sample, pictures = self._decoded(place, encoded), pieces[1:]
        for which, (image, span) in enumerate(zip(sample.images, spans[1:], strict=True)):
            if xxh3_128_hexdigest(pictures[which]) != image.digest:
                pictures[which] = self._piece(number, name, span, image.digest)
        return sample, pictures

    def _decoded(self, place: Place, encoded: bytes) -> Sample:
        try:
            return samples.decode(encoded)
        except msgspec.DecodeError as error:
            offset, _ = place.spans[0]
            raise Damage(
                f"{self.index.directory / place.file}: offset {offset}: not a sample of this version: {error};"
                " run 'dataengine shard' again",
                reason="shard.schema", file=place.file, offset=offset,
            ) from error  # fmt: skip

    def _piece(self, number: int, name: str, span: Span, digest: str | None) -> bytes:
        """Return a part of a sample whose bytes have this digest.

        Raises Damage, and ShardError where it is this process that cannot read.
        """
        offset, size = span
        try:
            data = self.pool.read(name, offset, size)
        except ShardError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _OWN_LACKS:
                raise
            raise Damage(str(error), reason="shard.unreadable", file=name, offset=offset) from error
        if xxh3_128_hexdigest(data) != digest:
            directory, sample_id = self.index.directory, self.index.row(number)["id"]
            raise Damage(
                f"{directory / name}: offset {offset}: bytes of {sample_id} differ from their digest;"
                f" {self.pool.mend(name)}",
                reason="shard.damaged", file=name, offset=offset,
            )  # fmt: skip
        return data

    def turns(
        self,
        start: int,
        stop: int | None,
        *,
        rank: int = 0,
        world: int = 1,
        worker: int = 0,
        workers: int = 1,
    ) -> Iterator[tuple[int, range]]:
        """Yield (step, positions) of one worker of a rank, positions in [start, stop), without end if stop is None.

        The rank's steps go to its workers in turn, so that taking one step of each worker, round and round, is the
        rank's order whatever their number.
        """
        batch = self.plan.recipe.global_batch
        slots(start // batch, rank, world, batch)  # a wrong rank is refused even where it would get nothing
        last = MAX_POSITION if stop is None else stop
        for step in range(start // batch + worker, -(-last // batch), workers):
            mine = slots(step, rank, world, batch)
            low, high = max(mine.start, start), min(mine.stop, last)
            yield step, range(low, max(low, high))

    def positions(self, start: int, stop: int, *, rank: int = 0, world: int = 1) -> Iterator[int]:
        """Yield a rank's positions in [start, stop), in order: its part of each global batch."""
        for _, positions in self.turns(start, stop, rank=rank, world=world):
            yield from positions

    def state(self, position: int, holes: Iterable[Hole] = ()) -> State:
        """Return what a restart needs, on any number of ranks and workers."""
        return State(
            position=position,
            plan=self.plan.digest,
            exclusions=self.exclusions,
            holes=union(holes),
            sources=self.plan.marks,
            render=self.render,
        )

    def check(self, state: State) -> None:
        """Raise PlanError where a saved state belongs to another plan, or to samples in other words."""
        changed = differences(state.sources, self.plan.marks)
        if changed or state.plan != self.plan.digest:
            raise PlanError(
                f"{self.index.directory}: the plan is not the one that was saved"
                f" ({changed or 'sources, recipe or exclusions changed'}); start a new run, or restore the old shards"
                " and recipe"
            )
        if state.render not in ("", self.render):
            raise PlanError(
                f"{self.index.directory}: samples were worded by render {state.render} and are now by {self.render},"
                " expected the same words; set it back, or start a new run"
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
