"""From a sample to its source record and to the steps that it served, and back from both.

Everything is told from files: the index says where a sample lies, the sample which record it was made of, its manifest
where that record's file is, and a run's served.jsonl, held against the run's plan, which steps it served. What a file
that is gone would have told stands in `notes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from dataengine import manifest as manifests
from dataengine import sample as samples
from dataengine.annotation import Turn
from dataengine.errors import DataEngineError, ShardError, SourceError
from dataengine.index import SHARDS, Index, ShardSource
from dataengine.manifest import Manifest
from dataengine.mix import Plan
from dataengine.origins import Spot, find_record
from dataengine.render import Renderer, RenderOptions
from dataengine.sample import Sample, SampleImage
from dataengine.served import CONFIG, SERVED, RunConfig, read_config, run_plan
from dataengine.store import Url
from dataengine.strict import convert


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of a sample: the source's file, and its bytes in the tar. `whole` says that their digest is right."""

    path: str
    width: int
    height: int
    format: str
    role: str
    offset: int
    size: int
    digest: str
    whole: bool
    license: str | None = None


class Serving(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A position at which a run met a sample: in which pass over its source, and whether it learnt from it.

    `outcome` is `served`, or the reason why it was skipped. `conversation` is what it was worded as in that pass, None
    where the words are the stored ones.
    """

    step: int
    t: int
    epoch: int
    outcome: str
    conversation: tuple[Turn, ...] | None = None


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a sample comes from and where it lies. `source` is the record in its file; `digest` is that of the JSON.

    `steps` are those of a run that learnt from it; `servings` say more of them, where the run's plan can be told.
    """

    id: str
    file: str
    record: str
    source: Spot
    spec: str
    spec_hash: str
    reader: str
    seed: int | None
    license: dict[str, str]
    shard: str
    key: str
    offset: int
    size: int
    digest: str
    whole: bool
    pictures: tuple[Picture, ...]
    conversation: tuple[Turn, ...]
    steps: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET
    servings: tuple[Serving, ...] | msgspec.UnsetType = msgspec.UNSET
    tokens: Any | msgspec.UnsetType = msgspec.UNSET
    notes: tuple[str, ...] = ()


def trace(index: Index, sample_id: str, root: Path | None = None) -> Trace:
    """Return where a sample of a set comes from. `root` is its source's folder, where that is not where it was.

    Raises ShardError for an id that the set does not have, and StoreError where a store cannot be reached.
    """
    row = index.row(index.find(sample_id))
    entry = _entry(index, row["source"])
    notes: list[str] = []
    manifest = _manifest(index, entry, notes)
    sample, pictures = _read(index, row, notes)
    stated = manifest.source_files.get(row["file"]) if manifest is not None else None
    place = root if root is not None or manifest is None else Path(manifest.root)
    return Trace(
        id=row["id"],
        file=row["file"],
        record=row["record"],
        source=find_record(place, row["file"], row["record"], stated),
        spec=f"{row['dataset']}/{row['task']}",
        spec_hash=entry.spec_hash,
        reader=sample.origin.reader if sample is not None else "",
        seed=manifest.seed if manifest is not None else None,
        license=msgspec.structs.asdict(sample.license) if sample is not None else {},
        shard=f"{row['shard']}.tar",
        key=row["key"],
        offset=row["json_offset"],
        size=row["json_size"],
        digest=row["digest"],
        whole=sample is not None,
        pictures=pictures,
        conversation=sample.conversation if sample is not None else (),
        notes=tuple(notes),
    )


def _entry(index: Index, name: str) -> ShardSource:
    for entry in index.set.sources:
        if entry.name == name:
            return entry
    raise ShardError(
        f"{index.directory / SHARDS}: no source {name!r}, which the index has; run 'dataengine shard' again"
    )


def _manifest(index: Index, entry: ShardSource, notes: list[str]) -> Manifest | None:
    """Return the manifest that a source was sharded from, where it lies where the set says."""
    folder = manifest_folder(index, entry)
    if folder is None:
        notes.append(f"the manifest of {entry.name} is not known here")
        return None
    try:
        manifest = manifests.load(folder)
    except SourceError as error:
        notes.append(f"the manifest of {entry.name} cannot be read: {error}")
        return None
    if manifest.fingerprint != entry.fingerprint:
        notes.append(f"{folder}: was converted again since the shards were made")
    return manifest


def manifest_folder(index: Index, entry: ShardSource) -> Path | None:
    """Return where a set says that the manifest of a source lies; None where it does not say, or lies at a URL."""
    if isinstance(index.directory, Url) or not entry.manifest:
        return None
    return (index.directory / entry.manifest).resolve()


def _read(index: Index, row: dict[str, Any], notes: list[str]) -> tuple[Sample | None, tuple[Picture, ...]]:
    """Return a sample and its pictures as its tar has them; what is damaged is noted."""
    pool, name = index.open(), f"{row['shard']}.tar"
    try:
        data = pool.read(name, row["json_offset"], row["json_size"])
        if xxhash.xxh3_128_hexdigest(data) != row["digest"]:
            raise ShardError(f"{name}: offset {row['json_offset']}: the JSON differs from its digest")
        sample = samples.decode(data)
        spots = zip(sample.images, row["image_offsets"], row["image_sizes"], strict=True)
        pictures = []
        for image, offset, size in spots:
            digest = xxhash.xxh3_128_hexdigest(pool.read(name, offset, size))
            pictures.append(_picture(image, offset, size, digest))
        return sample, tuple(pictures)
    except (ShardError, msgspec.DecodeError, ValueError) as error:
        notes.append(f"the sample cannot be read: {error}")
        return None, ()
    finally:
        pool.close()


def _picture(image: SampleImage, offset: int, size: int, digest: str) -> Picture:
    return Picture(
        path=image.path,
        width=image.width,
        height=image.height,
        format=image.format,
        role=image.role,
        offset=offset,
        size=size,
        digest=image.digest or "",
        whole=digest == image.digest,
        license=image.license,
    )


# Steps of a run


class _Line(msgspec.Struct):
    """A line of served.jsonl; runs of earlier versions wrote what was skipped as a mapping."""

    step: int
    ids: list[str]
    skipped: list[tuple[str, str]] | dict[str, str] = []

    @property
    def outcomes(self) -> dict[str, str]:
        """What became of each sample of the step: `served`, or why it was skipped."""
        left_out = self.skipped.items() if isinstance(self.skipped, dict) else self.skipped
        return {**dict.fromkeys(self.ids, "served"), **dict(left_out)}


def _lines(run: Path, mentions: str = "") -> Iterator[_Line]:
    """Yield the lines of a run's served.jsonl, or those that mention a sample. Raises SourceError."""
    path = run / SERVED if run.is_dir() else run
    decode, wanted = msgspec.json.Decoder(_Line).decode, msgspec.json.encode(mentions)[1:-1]
    try:
        with path.open("rb") as file:
            yield from (decode(line) for line in file if wanted in line)
    except (OSError, msgspec.DecodeError) as error:
        raise SourceError(
            f"{path}: cannot be read: {error}; expected the folder of a training run"
        ) from error


def steps_of(run: Path, sample_id: str) -> list[int]:
    """Return the steps of a run that served a sample. Raises SourceError where the run kept no record."""
    return [line.step for line in _lines(run, sample_id) if sample_id in line.ids]


def served_by(index: Index, found: Trace, run: Path, only: int | None = None) -> Trace:
    """Return a trace with what a run did with the sample, in all steps or in one.

    Raises SourceError where the run kept no record. Positions and words are told where the run's settings can be read
    and give a plan of the set; else a note says why not.
    """
    lines = [
        line for line in _lines(run, found.id) if found.id in line.outcomes and only in (None, line.step)
    ]
    steps = tuple(line.step for line in lines if found.id in line.ids)
    try:
        servings = tuple(_servings(index, run, found.id, lines))
    except DataEngineError as error:
        note = f"positions and words are not told: {error}"
        return msgspec.structs.replace(found, steps=steps, notes=(*found.notes, note))
    return msgspec.structs.replace(found, steps=steps, servings=servings)


def _servings(index: Index, run: Path, sample_id: str, lines: Sequence[_Line]) -> Iterator[Serving]:
    config, made, number = read_config(run), run_plan(index, run), index.find(sample_id)
    words = _Words(index, config, number)
    for line in lines:
        for t, epoch in _positions(index, made, line.step, number):
            turns = words.at(epoch).conversation
            yield Serving(
                step=line.step,
                t=t,
                epoch=epoch,
                outcome=line.outcomes[sample_id],
                conversation=None if turns == words.sample.conversation else turns,
            )


def _positions(index: Index, made: Plan, step: int, number: int) -> Iterator[tuple[int, int]]:
    """Yield the (position, pass) at which a step of the plan has an index row."""
    for t, _, epoch, row in _drawn(index, made, step):
        if row == number:
            yield t, epoch


def _drawn(index: Index, made: Plan, step: int) -> Iterator[tuple[int, str, int, int]]:
    """Yield position, source, pass and index row of what a step of the plan has, in order; steps count from 1."""
    batch = made.recipe.global_batch
    draws = made.slice((step - 1) * batch, step * batch)
    drawn = zip(draws.source.tolist(), draws.epoch.tolist(), draws.index.tolist(), strict=True)
    for t, (source, epoch, place) in enumerate(drawn, start=(step - 1) * batch):
        name = made.sources[source].name
        yield t, name, epoch, int(index.rows_by_source[name][place])


class _Words:
    """How a run words a sample in each pass over its source. Raises SourceError, SpecError and ShardError."""

    def __init__(self, index: Index, config: RunConfig, number: int) -> None:
        self.sample = _sample(index, number)
        self.unsure = index.unsure(number)
        self.renderer: Renderer | None = None
        if config.render != "stored":
            options = convert(config.render_options, RenderOptions, CONFIG, ["render_options"])
            self.renderer = Renderer(index.set, options, config.seed)

    def at(self, epoch: int) -> Sample:
        """Return the sample as a pass words it."""
        if self.renderer is None:
            return self.sample
        return self.renderer.render(self.sample, epoch, self.unsure)


def worded(index: Index, run: Path, serving: Serving, sample_id: str) -> Sample:
    """Return a sample as a run was served it at a position. Raises SourceError, SpecError and ShardError."""
    return _Words(index, read_config(run), index.find(sample_id)).at(serving.epoch)


def stored(index: Index, sample_id: str) -> Sample:
    """Return a sample as its shard has it. Raises ShardError."""
    return _sample(index, index.find(sample_id))


def _sample(index: Index, number: int) -> Sample:
    """Return the sample of an index row, as it is stored. Raises ShardError."""
    place, pool = index.place(number), index.open()
    try:
        return samples.decode(pool.read(place.file, *place.spans[0]))
    except msgspec.DecodeError as error:
        raise ShardError(f"{index.directory / place.file}: not a sample: {error}") from error
    finally:
        pool.close()


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """What stands at a position of a step; `outcome` as in `Serving`, or `missing` where the record lacks it."""

    t: int
    id: str
    source: str
    epoch: int
    shard: str
    offset: int
    outcome: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a step of a run was made of, by position; `unplanned` was served without standing in the plan."""

    step: int
    plan: str
    rows: tuple[StepRow, ...]
    unplanned: tuple[str, ...] = ()


def step_of(index: Index, run: Path, step: int) -> Step:
    """Return the samples that a step of a run was made of, in the order of their positions.

    Raises SourceError where the run did not take the step or kept no record, and PlanError where its settings give no
    plan of the set.
    """
    made = run_plan(index, run)
    taken, line = 0, None
    for one in _lines(run):
        taken = max(taken, one.step)
        line = one if one.step == step else line
    if line is None:
        raise SourceError(f"{run}: took no step {step}, expected 1 to {taken}; name one of these")
    outcomes = line.outcomes
    rows = []
    for t, name, epoch, number in _drawn(index, made, step):
        row = index.row(number)
        rows.append(
            StepRow(
                t=t,
                id=row["id"],
                source=name,
                epoch=epoch,
                shard=f"{row['shard']}.tar",
                offset=row["json_offset"],
                outcome=outcomes.get(row["id"], "missing"),
            )
        )
    planned = {row.id for row in rows}
    return Step(
        step=step,
        plan=made.digest,
        rows=tuple(rows),
        unplanned=tuple(one for one in outcomes if one not in planned),
    )
