"""One planned tar: samples with their pictures' bytes, and the rows of the index that say where each of them lies."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from dataengine import manifest as manifests
from dataengine import marks, tar
from dataengine import sample as samples
from dataengine.annotation import Turn
from dataengine.columns import column
from dataengine.errors import Quarantine
from dataengine.files import Root, unwritable, write_atomic
from dataengine.images import MAX_BYTES, Probe, probe
from dataengine.index import INDEX_SCHEMA, Dropped, ShardFile
from dataengine.layout import Part, ShardPlan
from dataengine.resize import Pictures, packed, picked, scaled, shrunk
from dataengine.sample import Sample, SampleImage

PARTS = ".parts"
WRITTEN, MAX_BLOCKS = 1 << 20, 1000  # bytes that are written at once, of as many blocks as the system takes
FLUSHED = 8 << 20  # bytes after which the disk is told to begin
KEPT = 8  # pictures of a source that stay in memory; samples that share one stand side by side
EXTENSIONS = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "bmp": "bmp", "tiff": "tif"}
# Rows of one tar name few sources and shards; plain strings can be joined to those of another tar.
ROW_SCHEMA = pa.schema(
    [
        pa.field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
        for field in INDEX_SCHEMA
    ]
)


class Written(msgspec.Struct, frozen=True):
    """A finished tar: its entry, its index rows as an Arrow stream, and what it had to leave out."""

    file: ShardFile
    rows: bytes
    dropped: list[Dropped]

    def table(self) -> pa.Table:
        """Return the index rows, columns as in ROW_SCHEMA."""
        with pa.ipc.open_stream(self.rows) as stream:
            return stream.read_all()


def part_path(out: Path, name: str) -> Path:
    """Return where a running call keeps the rows of a shard that it has written."""
    return out / PARTS / f"{name}.msgpack"


def write_shard(out: str, roots: Mapping[str, str], held: frozenset[str], plan: ShardPlan) -> Written:
    """Write one tar under a temporary name, then rename it; its index rows go to `.parts`, so that a rerun finds it.

    A tar whose name a finished set holds waits in `.parts` as well: until the new set is whole, the old one is.
    """
    directory = Path(out)
    path = (directory / PARTS if plan.name in held else directory) / f"{plan.name}.tar"
    # A number of a process is not enough: machines of a cluster have the same ones.
    temporary = path.with_name(f".{plan.name}.tar.tmp{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(exist_ok=True)
        result = _write_tar(temporary, roots, plan)
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):  # a folder that cannot be written says so even of a file that is not there
            temporary.unlink(missing_ok=True)
    write_atomic(part_path(directory, plan.name), msgspec.msgpack.encode(result))
    return result


def _write_tar(path: Path, roots: Mapping[str, str], plan: ShardPlan) -> Written:
    rows: list[dict[str, Any]] = []
    dropped: list[Dropped] = []
    sources = {part.source: _Source(Root(Path(roots[part.source]))) for part in plan.parts}
    with path.open("wb", buffering=0) as file, _flushing(file.fileno()) as flush:
        members = _Members(file.fileno(), flush)
        for data, unsure, part in _in_turn(plan):
            head = _decode_head(data)
            try:
                head, encoded, pictures = _ready(head, data, sources[part.source], part.pictures)
            except Quarantine as error:
                dropped.append(
                    Dropped(id=head.id, reason=error.reason, detail=f"{plan.name}: {error.detail}")
                )
                continue
            row = _add(members, f"{plan.name}-{len(rows):06d}", head, encoded, pictures)
            rows.append({**row, "source": part.source, "shard": plan.name, "unsure": unsure})
        members.end()
        os.fsync(file.fileno())
    entry = ShardFile(
        name=f"{plan.name}.tar",
        samples=len(rows),
        bytes=members.offset,
        digest=members.digest.hexdigest(),
        plan=plan.digest(),
        encoder=plan.encoder,
    )
    return Written(entry, arrow(rows), dropped)


@contextmanager
def _flushing(descriptor: int) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many bytes a file has: the disk writes them while the next samples are made.

    Else it would idle until the end, and the end would wait for it.
    """
    with ThreadPoolExecutor(1) as pool:
        told, running = 0, pool.submit(os.fdatasync, descriptor)

        def flush(offset: int) -> None:
            nonlocal told, running
            if offset - told >= FLUSHED and running.done():
                running.result()
                told, running = offset, pool.submit(os.fdatasync, descriptor)

        yield flush
        running.result()


class _Members:
    """The members of a tar as they are written, many at once: what is written in large pieces is also read faster.

    `offset` is where the next one's header begins, `digest` the one of all bytes before.
    """

    def __init__(self, descriptor: int, flush: Callable[[int], None]) -> None:
        self.offset = 0
        self.digest = xxhash.xxh3_128()
        self._descriptor, self._flush = descriptor, flush
        self._waiting: list[bytes] = []
        self._written = 0
        self._padding = b""  # of the last member, which the next header follows

    def add(self, name: str, data: bytes) -> int:
        """Add a file, and return where its bytes begin."""
        padding = tar.padding(len(data))
        self._put(self._padding + tar.header(name, len(data)))
        self._put(data)
        start, self._padding = self.offset + tar.BLOCK, padding
        self.offset = start + len(data) + len(padding)
        if self.offset - self._written >= WRITTEN or len(self._waiting) >= MAX_BLOCKS:
            self._write()
        return start

    def end(self) -> None:
        """Write what waits, and the end of the archive."""
        self._put(self._padding + tar.end())
        self.offset += len(tar.end())
        self._padding = b""
        self._write()

    def _put(self, block: bytes) -> None:
        self.digest.update(block)
        self._waiting.append(block)

    def _write(self) -> None:
        _append(self._descriptor, self._waiting)
        self._waiting = []
        self._written = self.offset - len(self._padding)
        self._flush(self._written)


def _append(descriptor: int, blocks: Sequence[bytes]) -> None:
    """Write blocks behind each other."""
    size = sum(map(len, blocks))
    done = os.writev(descriptor, blocks)
    if done < size:  # a full disk, or more than the system takes at once
        rest = memoryview(b"".join(blocks))[done:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _in_turn(plan: ShardPlan) -> Iterator[tuple[bytes, list[str] | None, Part]]:
    """Yield the samples of a plan as JSON in their order, each with the classes that it leaves open and its part."""
    streams = [_rows(part) for part in plan.parts]
    count = sum(part.stop - part.start for part in plan.parts)
    turns = np.frombuffer(plan.turns, "<u2").tolist() if plan.turns else [0] * count
    for turn in turns:
        if (row := next(streams[turn])) is not None:
            yield *row, plan.parts[turn]


def _rows(part: Part) -> Iterator[tuple[bytes, list[str] | None] | None]:
    """Yield each row of a part, None where it is left out."""
    where = Path(part.directory), part.start, part.stop
    rows = zip(manifests.read_encoded(*where), manifests.read_unsure(*where), strict=False)
    if not part.left_out:
        return rows
    gone = frozenset(part.left_out)
    return (None if number in gone else row for number, row in enumerate(rows, part.start))


def arrow(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return index rows as an Arrow stream."""
    kinds = dict(zip(ROW_SCHEMA.names, ROW_SCHEMA.types, strict=True))
    columns = [column([row[name] for row in rows], kind) for name, kind in kinds.items()]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROW_SCHEMA) as stream:
        stream.write_table(pa.Table.from_arrays(columns, schema=ROW_SCHEMA))
    data: bytes = sink.getvalue().to_pybytes()
    return data


class OriginHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a sample comes from, as the index says it."""

    file: str
    record: str


class Head(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What sharding must know of a sample whose facts stay as they are; the whole takes several times as long."""

    id: str
    task: str
    dataset: str
    images: tuple[SampleImage, ...]
    conversation: tuple[Turn, ...]
    origin: OriginHead
    marks: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_head = msgspec.json.Decoder(Head).decode
_encode = samples.encode
_IMAGES = b',"images":'


def _ready(
    head: Head, data: bytes, source: _Source, limits: Pictures | None
) -> tuple[Head, bytes, list[bytes]]:
    """Return a sample as it goes into the tar: what the index says of it, its JSON, and its pictures' bytes.

    Raises Quarantine as `_with_pictures` does.
    """
    if limits is None and not head.marks and source.is_ours(data):
        pictures = [source.read(image) for image in head.images]
        images = tuple(map(_with_digest, head.images, pictures))
        # Nothing but plain words stands before the pictures, and no word has a quote that is not escaped.
        place, old = data.find(_IMAGES) + len(_IMAGES), _encode(head.images)
        if data.startswith(old, place):
            encoded = b"".join((data[:place], _encode(images), data[place + len(old) :]))
            return msgspec.structs.replace(head, images=images), encoded, pictures
    sample, pictures = _with_pictures(samples.decode(data), source, limits)
    encoded = _encode(sample)
    return _decode_head(encoded), encoded, pictures


def _with_digest(image: SampleImage, data: bytes) -> SampleImage:
    return msgspec.structs.replace(image, digest=xxhash.xxh3_128_hexdigest(data))


class _Source:
    """The pictures of one source, read when they are asked for; the last few stay for the samples that share one."""

    def __init__(self, root: Root) -> None:
        self.root = root
        self._kept: dict[str, tuple[bytes, Probe]] = {}
        self._ours: bool | None = None

    def is_ours(self, data: bytes) -> bool:
        """Say whether a source's samples are written as this version writes them; the first one decides."""
        if self._ours is None:
            self._ours = _encode(samples.decode(data)) == data
        return self._ours

    def read(self, image: SampleImage) -> bytes:
        """Return a picture's bytes. Raises Quarantine where they are not those that were converted."""
        found = self._kept.get(image.path)
        if found is None:
            data = _read(self.root, image.path)
            found = data, probe(data)
            while len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[image.path] = found
        data, real = found
        if (real.width, real.height, real.format) != (image.width, image.height, image.format):
            raise Quarantine("image.changed", f"{image.path}: is not the picture that was converted")
        return data


def _read(root: Root, name: str) -> bytes:
    """Return the bytes of a picture; a call of the system more would cost as much as all of a sample's headers."""
    try:
        descriptor = root.open(name)
        try:
            size = os.fstat(descriptor).st_size
            if size > MAX_BYTES:
                raise Quarantine("image.too_large", f"{name}: more than {MAX_BYTES} bytes")
            data = os.read(descriptor, size)
            while len(data) < size and (more := os.read(descriptor, size - len(data))):
                data += more
            if not size:  # empty, or a pipe, whose length nobody knows
                with open(descriptor, "rb", closefd=False) as file:
                    data = file.read(MAX_BYTES)
            return data
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Quarantine("image.missing", f"{name}: {error.strerror}") from error


def _with_pictures(sample: Sample, source: _Source, limits: Pictures | None) -> tuple[Sample, list[bytes]]:
    """Return the sample with its pictures' digests, and their bytes: as they are, or smaller, or with marks on them.

    Raises Quarantine `image.missing` or `image.changed` where the source is not what was converted any more, and
    `image.corrupt` where a picture to be made anew cannot be decoded whole.
    """
    pictures = []
    for number in range(len(sample.images)):
        data = source.read(sample.images[number])
        sample, data = _made_anew(sample, number, data, limits)
        pictures.append(data)
    images = tuple(map(_with_digest, sample.images, pictures))
    return msgspec.structs.replace(sample, images=images), pictures


def _made_anew(sample: Sample, number: int, data: bytes, limits: Pictures | None) -> tuple[Sample, bytes]:
    """Return a sample and the bytes of one of its pictures, made smaller and marked where that is to be done."""
    image = sample.images[number]
    size = (image.width, image.height) if limits is None else limits.size_for(image.width, image.height)
    if limits is not None and size != (image.width, image.height):
        if samples.measure_of(sample, number) is not None:
            data, measured = picked(data, size)
            return scaled(sample, number, size, measured), data
        made: Literal["jpeg", "png"] = limits.format or ("jpeg" if image.format == "jpeg" else "png")
        pixels = shrunk(data, size)
        sample = scaled(sample, number, size, made)
        # The line of a mark is as wide on a small picture as on one that was small from the start.
        if drawn := sample.marks_on(number):
            pixels = marks.draw(pixels, drawn)
        return sample, packed(pixels, made, limits.quality)
    if drawn := sample.marks_on(number):
        data, file_format = marks.draw_on(data, image.format, drawn)
        images = list(sample.images)
        images[number] = msgspec.structs.replace(image, format=file_format)
        sample = msgspec.structs.replace(sample, images=tuple(images))
    return sample, data


def member_names(key: str, sample: Sample | Head) -> list[str]:
    """Return the names of a sample's members: its JSON, then its pictures in order."""
    suffixes = [EXTENSIONS[image.format] for image in sample.images]
    pictures = [f"{key}.{n}.{suffix}" if n else f"{key}.{suffix}" for n, suffix in enumerate(suffixes)]
    return [f"{key}.json", *pictures]


def _add(members: _Members, key: str, sample: Head, encoded: bytes, pictures: list[bytes]) -> dict[str, Any]:
    """Add a sample's members, sorted by name, and return its index row."""
    parts = [encoded, *pictures]
    names = member_names(key, sample)
    offsets = [0] * len(parts)
    for number in sorted(range(len(parts)), key=names.__getitem__):
        offsets[number] = members.add(names[number], parts[number])
    return index_row(key, sample, encoded, offsets, [*map(len, parts)])


def index_row(
    key: str, sample: Sample | Head, encoded: bytes, offsets: Sequence[int], sizes: Sequence[int]
) -> dict[str, Any]:
    """Return a sample's index row but for `source` and `shard`; offsets and sizes: its JSON's, then its pictures'."""
    return {
        "id": sample.id,
        "task": sample.task,
        "dataset": sample.dataset,
        "key": key,
        "json_offset": offsets[0],
        "json_size": sizes[0],
        "image_offsets": [*offsets[1:]],
        "image_sizes": [*sizes[1:]],
        "digest": xxhash.xxh3_128_hexdigest(encoded),
        "text_length": sum(len(turn.text) for turn in sample.conversation),
        "widths": [image.width for image in sample.images],
        "heights": [image.height for image in sample.images],
        "file": sample.origin.file,
        "record": sample.origin.record,
    }
