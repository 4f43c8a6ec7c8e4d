"""Source files to manifests, unit by unit. A unit ends as exactly one of: sample, skip(reason), quarantine(reason)."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from dataengine import ledger as ledgers
from dataengine import manifest as manifests
from dataengine import sample as samples
from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Edit,
    Expression,
    Instance,
    Question,
    Rejected,
)
from dataengine.clean import clean
from dataengine.errors import Quarantine, Skip, SourceError
from dataengine.files import Root, unwritable, write_atomic
from dataengine.images import Probe, probe
from dataengine.ledger import Ledger
from dataengine.manifest import Manifest
from dataengine.modules import load_builder, load_reader, source_labels
from dataengine.runners import RunnerName, run
from dataengine.sample import Sample, SampleImage, SampleLicense, SampleOrigin
from dataengine.spec import Resolved
from dataengine.task import Task, Unit, explode
from dataengine.tokens import IMAGE, special_tokens

CHUNK = 512
MISSING = "image.missing"
_PARTS = ".parts"
# A reader reports what a spec's own `where` leaves out; that is a choice, not a defect.
SKIP_REASONS = frozenset({"where.filtered", "split.other", "unit.none"})
Progress = Callable[[int, str], None]


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What every chunk of a split is converted with."""

    spec: Resolved
    task: Task
    split: str
    root: str
    seed: int
    spec_hash: str
    reader: str


class Lost(msgspec.Struct, frozen=True):
    """A unit that became no sample: `outcome` is skipped or quarantined."""

    outcome: str
    reason: str
    key: str
    detail: str
    file: str
    record: str


class Chunk(msgspec.Struct, frozen=True):
    """What some source items became, in their order."""

    samples: list[bytes]
    lost: list[Lost]
    ledger: Ledger

    @staticmethod
    def join(chunks: list[Chunk]) -> Chunk:
        """Return several chunks as one."""
        return Chunk(
            [data for chunk in chunks for data in chunk.samples],
            [one for chunk in chunks for one in chunk.lost],
            ledgers.add([chunk.ledger for chunk in chunks]),
        )


_item_encode = msgspec.msgpack.Encoder().encode


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source item on its way to a worker: an annotation, or what a reader rejected."""

    annotation: Annotation | None = None
    rejected: Rejected | None = None


_items_decode = msgspec.msgpack.Decoder(list[Item]).decode
_chunk_decode = msgspec.msgpack.Decoder(Chunk).decode


def convert(
    spec: Resolved,
    split: str,
    root_dir: Path,
    out: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    runner: RunnerName = "local",
    workers: int = 1,
    progress: Progress = lambda count, text: None,
) -> Ledger:
    """Convert one split of one task spec into OUT/dataset/task/split and return its account.

    Finished work is recognised by the digests of what it was made from and not done again. Raises SpecError,
    SourceError, and BudgetBroken after the account is written.
    """
    directory = out / spec.dataset.id / spec.task.id / split
    place = f"{spec.id} {split}"
    source = spec.source(split)
    reader = load_reader(spec.dataset.source.format, spec.path)
    prepare = getattr(reader, "prepare", None)
    if prepare is not None:
        root_dir.mkdir(parents=True, exist_ok=True)
        prepare(source, root_dir)
    root = Root(root_dir)
    spec_hash, reader_name = spec.hash(), f"{spec.dataset.source.format} {reader.VERSION}"
    identity: dict[str, Any] = {"spec": spec_hash, "reader": reader_name, "seed": seed, "limit": limit}
    finished = _finished(directory, root, identity)
    if finished is not None:
        progress(finished.units, "unchanged")
        shutil.rmtree(directory / _PARTS, ignore_errors=True)  # a run may have stopped before its last step
        finished.check_budgets(place, spec.budgets())
        return finished
    parts = directory / _PARTS
    try:
        parts.mkdir(parents=True, exist_ok=True)
        # Whatever stands here was made from other data or an older spec: it is not an answer any more.
        (directory / manifests.LEDGER).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(directory, error) from error
    labels = spec.labels or source_labels(reader, source, root)
    context = Context(
        spec=spec,
        task=spec.runtime(split, labels),
        split=split,
        root=str(root_dir.resolve()),
        seed=seed,
        spec_hash=spec_hash,
        reader=reader_name,
    )
    items = reader.read(source, root)
    chunks = _encoded_chunks(islice(items, limit) if limit is not None else items)
    results = run(partial(_convert_chunk, context, str(parts)), chunks, runner=runner, workers=workers)
    try:
        ledger = _write(directory, results, progress)
    except OSError as error:
        raise unwritable(directory / manifests.SAMPLES, error) from error
    ledger.check(place)
    root.refresh_unfinished()
    manifest = Manifest(
        dataset=spec.dataset.id,
        task=spec.task.id,
        split=split,
        use=spec.dataset.source.splits[split].use,
        family=spec.task.decoder,
        root=context.root,
        spec=msgspec.to_builtins(spec),
        spec_hash=context.spec_hash,
        spec_path=spec.path,
        reader=context.reader,
        seed=seed,
        limit=limit,
        labels=labels,
        source_files=dict(sorted(root.digests.items())),
        fingerprint=_fingerprint(identity, root.digests),
        records_expected=spec.dataset.source.splits[split].records_expected,
        images_expected=spec.dataset.source.splits[split].images_expected,
    )
    manifests.dump(manifest, directory)
    write_atomic(directory / manifests.LEDGER, ledgers.dump(ledger))
    shutil.rmtree(parts)
    ledger.check_budgets(place, spec.budgets())
    return ledger


def _fingerprint(identity: dict[str, Any], digests: dict[str, str]) -> str:
    content = {**identity, "files": dict(sorted(digests.items()))}
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(content, order="sorted"))


def _finished(directory: Path, root: Root, identity: dict[str, Any]) -> Ledger | None:
    """Return the account of a split that is done and whose source has not changed since."""
    try:
        manifest = manifests.load(directory)
        ledger = ledgers.load(directory / manifests.LEDGER)
    except SourceError:
        return None
    if str(root.directory.resolve()) != manifest.root:
        return None
    try:
        root.refresh(manifest.source_files)
    except SourceError:
        return None
    if manifest.fingerprint != _fingerprint(identity, root.digests) or _came(directory, root, ledger):
        return None
    return ledger


def _came(directory: Path, root: Root, ledger: Ledger) -> bool:
    """Say whether a picture that was missing, or one of the split's own files, is to be made good."""
    if not (directory / manifests.SAMPLES).is_file() or not (directory / manifests.QUARANTINE).is_file():
        return True
    if not ledger.quarantined.get(MISSING):
        return False
    rows = pq.read_table(directory / manifests.QUARANTINE, columns=["reason", "detail"]).to_pylist()
    missing = {row["detail"].rpartition(": ")[0] for row in rows if row["reason"] == MISSING}
    return any(root.inside(path).is_file() for path in missing if path)


def _encoded_chunks(items: Iterable[Annotation | Rejected]) -> Iterator[tuple[int, bytes]]:
    """Yield numbered chunks of source items as bytes: their digest names the work, and they travel cheaply."""
    iterator = iter(items)
    for number in range(1 << 62):
        batch = [
            Item(annotation=item) if isinstance(item, Annotation) else Item(rejected=item)
            for item in islice(iterator, CHUNK)
        ]
        if not batch:
            return
        yield number, _item_encode(batch)


def _convert_chunk(context: Context, parts: str, chunk: tuple[int, bytes]) -> str:
    """Convert a chunk unless its result is on disk already; return the result's path."""
    number, data = chunk
    digest = xxhash.xxh3_128(data)
    digest.update(f"{context.spec_hash} {context.reader} {context.seed} {context.root}".encode())
    digest.update(msgspec.json.encode(context.task.labels))
    path = Path(parts) / f"{number:08d}-{digest.hexdigest()}.msgpack"
    if not path.exists():
        write_atomic(path, msgspec.msgpack.encode(convert_items(context, _items_decode(data))))
    return str(path)


def convert_items(context: Context, items: Iterable[Item]) -> Chunk:
    """Convert source items one by one."""
    root = Root(Path(context.root))
    build = load_builder(context.task.spec.builder, context.spec.path).build
    made: list[bytes] = []
    lost: list[Lost] = []
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    fixed: Counter[str] = Counter()
    probes: dict[str, Probe] = {}

    def lose(outcome: str, reason: str, detail: str, key: str, item: Annotation | Rejected) -> None:
        lost.append(Lost(outcome, reason, key, detail, item.origin.file, item.origin.record))

    for item in items:
        counts["records"] += 1
        if item.annotation is None:
            assert item.rejected is not None
            bad = item.rejected
            outcome = "skipped" if bad.reason in SKIP_REASONS else "quarantined"
            lose(outcome, bad.reason, bad.detail, bad.key, bad)
            continue
        annotation = item.annotation
        units = explode(annotation, context.task.spec.unit)
        if not units:
            lose("skipped", "unit.none", f"no {context.task.spec.unit} here", annotation.key, annotation)
            continue
        try:
            found = [_probe(root, image.path, probes) for image in annotation.images]
            _check_sizes(annotation, found)
        except Quarantine as error:
            for suffix, _ in units:
                lose("quarantined", error.reason, error.detail, _key(annotation, suffix), annotation)
            continue
        counts["images"] += len(found)
        cleaned = clean(annotation, [(image.width, image.height) for image in found])
        counts["objects"] += len(annotation.instances)
        dropped.update(cleaned.dropped)
        fixed.update(cleaned.fixed)
        for suffix, unit in units:
            key = _key(annotation, suffix)
            rng = _rng(context, key)
            try:
                _check_text(unit)
                rendering = build(cleaned.annotation, unit, context.task, rng)
                sample = _sample(context, cleaned.annotation, found, key, rendering)
                samples.check(sample)
            except Skip as skip:
                lose("skipped", skip.reason, skip.detail, key, annotation)
            except Quarantine as error:
                lose("quarantined", error.reason, error.detail, key, annotation)
            else:
                made.append(samples.encode(sample))
    reasons = {
        outcome: dict(Counter(one.reason for one in lost if one.outcome == outcome))
        for outcome in ("skipped", "quarantined")
    }
    ledger = Ledger(
        units=len(made) + len(lost),
        samples=len(made),
        records=counts["records"],
        images=counts["images"],
        objects_read=counts["objects"],
        objects_dropped=dict(dropped),
        objects_fixed=dict(fixed),
        **reasons,
    )
    return Chunk(made, lost, ledger)


def _rng(context: Context, key: str) -> random.Random:
    """Return the chance of one unit: the same for the same identity, whatever else is converted."""
    identity = f"{context.seed}/{context.spec.id}/{context.split}/{key}"
    return random.Random(xxhash.xxh3_64_intdigest(identity.encode()))


def _key(annotation: Annotation, suffix: str) -> str:
    return f"{annotation.key}.{suffix}" if suffix else annotation.key


def _probe(root: Root, path: str, probes: dict[str, Probe]) -> Probe:
    if path not in probes:
        try:
            probes[path] = probe(root.inside(path))
        except Quarantine as error:
            raise Quarantine(error.reason, f"{path}: {error.detail}") from error
    return probes[path]


def _check_sizes(annotation: Annotation, found: list[Probe]) -> None:
    """Refuse coordinates that were made for a picture of another size."""
    if not annotation.instances:
        return
    for stated, real in zip(annotation.images, found, strict=True):
        if stated.width is None or stated.height is None:
            continue
        if (stated.width, stated.height) == (real.width, real.height):
            continue
        text = f"{stated.path}: stated {stated.width} x {stated.height}, is {real.width} x {real.height}"
        if (stated.height, stated.width) == (real.width, real.height) and real.orientation > 4:
            raise Quarantine("image.exif_orientation", f"{text} after EXIF orientation {real.orientation}")
        raise Quarantine("box.size_mismatch", text)


def _check_text(unit: Unit) -> None:
    """Refuse source text that speaks the model's language."""
    match unit:
        case Annotation():
            texts = [item.category or "" for item in unit.instances]
        case Instance():
            texts = [unit.text or "", unit.category or ""]
        case Caption() | Expression():
            texts = [unit.text]
        case Question():
            texts = [unit.text, *unit.answers, *unit.choices, unit.rationale or ""]
        case Edit():
            texts = [unit.instruction]
        case Dialog():
            texts = [turn.text.replace(IMAGE, "") for turn in unit.turns]
    for text in texts:
        if found := special_tokens(text):
            raise Quarantine("text.special_token", f"{found[0]!r} stands in the source text")
        if "\0" in text:
            raise Quarantine("text.control", "a NUL stands in the source text")


def _sample(
    context: Context, annotation: Annotation, found: list[Probe], key: str, rendering: samples.Rendering
) -> Sample:
    spec = context.spec
    licensed = {image.license for image in annotation.images if image.license}
    split_license = spec.dataset.source.splits[context.split].license
    return Sample(
        id=f"{spec.dataset.id}/{context.split}/{key}#{spec.task.id}",
        task=spec.task.id,
        dataset=spec.dataset.id,
        split=context.split,
        images=tuple(
            SampleImage(
                path=image.path,
                width=real.width,
                height=real.height,
                format=real.format,
                role=image.role,
                license=image.license,
            )
            for image, real in zip(annotation.images, found, strict=True)
        ),
        conversation=rendering.conversation,
        targets=rendering.targets,
        routes=rendering.routes,
        regions=rendering.regions,
        prompt=rendering.prompt,
        origin=SampleOrigin(
            dataset=spec.dataset.id,
            file=annotation.origin.file,
            record=annotation.origin.record,
            spec=spec.id,
            spec_hash=context.spec_hash,
            reader=context.reader,
        ),
        license=SampleLicense(
            annotations=split_license or spec.dataset.license.annotations,
            images=" AND ".join(sorted(licensed)) if licensed else spec.dataset.license.images,
        ),
    )


def _write(directory: Path, results: Iterable[str], progress: Progress) -> Ledger:
    """Join the chunks in order; a sample id that came before goes to quarantine."""
    total: list[Ledger] = []
    seen: set[int] = set()
    with (
        _parquet(directory / manifests.SAMPLES, manifests.SAMPLE_SCHEMA) as good,
        _parquet(directory / manifests.QUARANTINE, manifests.QUARANTINE_SCHEMA) as bad,
    ):
        for path in results:
            chunk = _chunk_decode(Path(path).read_bytes())
            rows, lost = [], [msgspec.structs.asdict(one) for one in chunk.lost]
            for data in chunk.samples:
                sample = samples.decode(data)
                digest = xxhash.xxh3_128_intdigest(sample.id.encode())
                if digest in seen:
                    lost.append(msgspec.structs.asdict(_duplicate(sample)))
                    continue
                seen.add(digest)
                rows.append(manifests.sample_row(sample))
            twice = len(chunk.samples) - len(rows)
            ledger = chunk.ledger
            if twice:
                quarantined = Counter(ledger.quarantined)
                quarantined["id.duplicate"] += twice
                ledger = msgspec.structs.replace(ledger, samples=len(rows), quarantined=dict(quarantined))
            total.append(ledger)
            good.write_table(pa.Table.from_pylist(rows, manifests.SAMPLE_SCHEMA))
            bad.write_table(pa.Table.from_pylist(lost, manifests.QUARANTINE_SCHEMA))
            progress(ledger.units, "")
    return ledgers.add(total)


def _duplicate(sample: Sample) -> Lost:
    origin = sample.origin
    return Lost("quarantined", "id.duplicate", sample.id, "this id came before", origin.file, origin.record)


class _parquet:
    """A Parquet file that appears under its name only when it is whole."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.tmp")
        self.writer = pq.ParquetWriter(self.temporary, schema, compression="zstd")

    def __enter__(self) -> pq.ParquetWriter:
        return self.writer

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.writer.close()
        if kind is None:
            self.temporary.replace(self.path)
        else:
            self.temporary.unlink(missing_ok=True)
