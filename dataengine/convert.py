"""Source files to manifests, unit by unit. A unit ends as exactly one of: sample, skip(reason), quarantine(reason)."""

from __future__ import annotations

import os
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
from dataengine.annotation import (
    Annotation,
    Rejected,
)
from dataengine.conventions import Evidence
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root, unwritable, write_atomic
from dataengine.gather import gathered_items
from dataengine.ledger import Ledger
from dataengine.manifest import Manifest, SampleRow
from dataengine.runners import RunnerName, run
from dataengine.source import open_root, reader_name
from dataengine.spec import Resolved
from dataengine.units import Chunk, Context, Item, Lost, builder_name, context_of, convert_items

CHUNK = 512
MISSING = "image.missing"
_PARTS = ".parts"
Progress = Callable[[int, str], None]


_item_encode = msgspec.msgpack.Encoder().encode


_items_decode = msgspec.msgpack.Decoder(list[Item]).decode
_chunk_decode = msgspec.msgpack.Decoder(Chunk).decode


class _Account(msgspec.Struct, frozen=True):
    """A chunk's account alone; the rest of the chunk is passed over."""

    ledger: Ledger


_account_decode = msgspec.msgpack.Decoder(_Account).decode


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
    address: str | None = None,
    allow_empty: bool = False,
    progress: Progress = lambda count, text: None,
) -> Ledger:
    """Convert one split of one task spec into OUT/dataset/task/split and return its account.

    Finished work is recognised by the digests of what it was made from and not done again. Raises SpecError and
    SourceError, and after the account is written BudgetBroken, and EmptySplit for a split without samples unless
    `allow_empty`, or a spec that expects no records, says that this is right.
    """
    directory = out / spec.dataset.id / spec.task.id / split
    place = f"{spec.id} {split}"
    spec.source(split)  # a mistake in the spec shows before anything is made
    root = open_root(spec, split, root_dir)
    identity: dict[str, Any] = {
        "spec": spec.hash(),
        "reader": reader_name(spec),
        "builder": builder_name(spec),
        "seed": seed,
        "limit": limit,
    }
    finished = _finished(directory, root, identity)
    if finished is not None:
        progress(finished.units, "unchanged")
        shutil.rmtree(directory / _PARTS, ignore_errors=True)  # a run may have stopped before its last step
        _check(finished, place, spec, split, allow_empty)
        return finished
    parts = directory / _PARTS
    try:
        parts.mkdir(parents=True, exist_ok=True)
        # Whatever stands here was made from other data or an older spec: it is not an answer any more.
        (directory / manifests.LEDGER).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(directory, error) from error
    context = context_of(spec, split, root, seed)
    chunks = _encoded_chunks(gathered_items(spec, split, root, limit, seed))
    results = run(
        partial(_convert_chunk, context, str(parts.absolute())),
        chunks,
        runner=runner,
        workers=workers,
        address=address,
        folder=parts,
        needs=_a_file(Path(context.root)),
        modules=[spec.task.builder] if "." in spec.task.builder else [],
        name=lambda chunk: f"{place}: chunk {chunk[0]}",
        size=lambda part: part[1],
        progress=progress,
    )
    try:
        ledger, doubts = _write(directory, (path for path, _ in results))
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
        labels=context.task.labels,
        source_files=dict(sorted(root.digests.items())),
        fingerprint=_fingerprint(identity, root.digests, _pictures(directory, root)),
        records_expected=spec.dataset.source.splits[split].records_expected,
        images_expected=spec.dataset.source.splits[split].images_expected,
        doubts=doubts,
    )
    manifests.dump(manifest, directory)
    write_atomic(directory / manifests.LEDGER, ledgers.dump(ledger))
    shutil.rmtree(parts)
    _check(ledger, place, spec, split, allow_empty)
    return ledger


def _check(ledger: Ledger, place: str, spec: Resolved, split: str, allow_empty: bool) -> None:
    """Raise BudgetBroken or EmptySplit for an account that the spec does not allow."""
    ledger.check_budgets(place, spec.budgets())
    if not allow_empty and (ledger.units or spec.dataset.source.splits[split].records_expected != 0):
        ledger.check_some(place)


def _a_file(root: Path) -> Iterator[Path]:
    """Yield a file below the root: where the root is not mounted, there may still be an empty folder."""
    for folder, _, files in os.walk(root):
        if files:
            yield Path(folder) / files[0]
            return


def _fingerprint(identity: dict[str, Any], digests: dict[str, str], pictures: str) -> str:
    content = {**identity, "files": dict(sorted(digests.items())), "pictures": pictures}
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
    if _came(directory, root, ledger):
        return None
    fingerprint = _fingerprint(identity, root.digests, _pictures(directory, root))
    return ledger if fingerprint == manifest.fingerprint else None


def _pictures(directory: Path, root: Root) -> str:
    """Return a digest of the names and file sizes of a split's pictures: another picture is another manifest."""
    # Imported here, because workers would import it for nothing.
    import pyarrow.compute as pc

    column = pq.read_table(directory / manifests.SAMPLES, columns=["images"]).column("images")
    digest = xxhash.xxh3_128()
    for path in sorted(pc.unique(pc.list_flatten(column)).to_pylist()):
        try:
            size = root.inside(path).stat().st_size
        except (OSError, Quarantine):
            size = -1
        digest.update(f"{path} {size}\n".encode())
    return digest.hexdigest()


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


def _convert_chunk(context: Context, parts: str, chunk: tuple[int, bytes]) -> tuple[str, int]:
    """Convert a chunk unless its result is on disk already; return the result's path and how many units it holds."""
    number, data = chunk
    digest = xxhash.xxh3_128(data)
    made_by = (context.spec_hash, context.reader, context.builder, context.seed, context.root)
    digest.update(msgspec.json.encode(SampleRow.__struct_fields__))  # a part of another layout is none
    digest.update(msgspec.json.encode(made_by))
    digest.update(msgspec.json.encode(context.task.labels))
    path = Path(parts) / f"{number:08d}-{digest.hexdigest()}.msgpack"
    if path.exists():
        return str(path), _account_decode(path.read_bytes()).ledger.units
    made = convert_items(context, _items_decode(data))
    write_atomic(path, msgspec.msgpack.encode(made))
    return str(path), made.ledger.units


def _write(directory: Path, results: Iterable[str]) -> tuple[Ledger, tuple[str, ...]]:
    """Join the chunks in order; a sample id that came before goes to quarantine.

    Return the account, and what speaks against the conventions that the reader took for granted.
    """
    total: list[Ledger] = []
    evidence: Counter[str] = Counter()
    seen: set[int] = set()
    pictures: set[int] = set()
    with (
        _parquet(directory / manifests.SAMPLES, manifests.SAMPLE_SCHEMA) as good,
        _parquet(directory / manifests.QUARANTINE, manifests.QUARANTINE_SCHEMA) as bad,
    ):
        for path in results:
            chunk = _chunk_decode(Path(path).read_bytes())
            rows, lost = [], chunk.lost
            for row in chunk.samples:
                digest = xxhash.xxh3_128_intdigest(row.id.encode())
                if digest in seen:
                    lost.append(_duplicate(row))
                    continue
                seen.add(digest)
                rows.append(row)
            twice = len(chunk.samples) - len(rows)
            ledger = chunk.ledger
            if twice:
                quarantined = Counter(ledger.quarantined)
                quarantined["id.duplicate"] += twice
                ledger = msgspec.structs.replace(ledger, samples=len(rows), quarantined=dict(quarantined))
            total.append(ledger)
            pictures.update(chunk.pictures)
            evidence.update(chunk.evidence)
            good.write_table(manifests.table(rows, manifests.SAMPLE_SCHEMA))
            bad.write_table(manifests.table(lost, manifests.QUARANTINE_SCHEMA))
    # A picture that several annotations show is one picture.
    doubts = tuple(line for _, line in Evidence(evidence).verdicts())
    return msgspec.structs.replace(ledgers.add(total), images=len(pictures)), doubts


def _duplicate(row: SampleRow) -> Lost:
    return Lost("quarantined", "id.duplicate", row.id, "this id came before", row.file, row.record)


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
