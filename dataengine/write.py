"""One planned tar: samples with their pictures' bytes, and the rows of the index that say where each of them lies."""

from __future__ import annotations

import os
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from dataengine import manifest as manifests
from dataengine import marks, tar
from dataengine import sample as samples
from dataengine.errors import Quarantine
from dataengine.files import Root, unwritable, write_atomic
from dataengine.images import MAX_BYTES, probe
from dataengine.index import INDEX_SCHEMA, Dropped, ShardFile
from dataengine.layout import ShardPlan
from dataengine.sample import Sample

PARTS = ".parts"
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
        temporary.unlink(missing_ok=True)
    write_atomic(part_path(directory, plan.name), msgspec.msgpack.encode(result))
    return result


def _write_tar(path: Path, roots: Mapping[str, str], plan: ShardPlan) -> Written:
    rows: dict[str, list[Any]] = defaultdict(list)
    dropped: list[Dropped] = []
    digest = xxhash.xxh3_128()
    offset = count = 0
    opened = {part.source: Root(Path(roots[part.source])) for part in plan.parts}
    with path.open("wb") as file:
        for sample, unsure, source in _in_turn(plan):
            try:
                sample, pictures = _with_pictures(sample, opened[source])
            except Quarantine as error:
                dropped.append(
                    Dropped(id=sample.id, reason=error.reason, detail=f"{plan.name}: {error.detail}")
                )
                continue
            blocks, row = _members(f"{plan.name}-{count:06d}", sample, pictures, offset)
            for block in blocks:
                file.write(block)
                digest.update(block)
                offset += len(block)
            count += 1
            facts = {**row, "source": source, "shard": plan.name, "unsure": unsure}
            for column, value in facts.items():
                rows[column].append(value)
        file.write(tar.end())
        digest.update(tar.end())
        file.flush()
        os.fsync(file.fileno())
    size = offset + len(tar.end())
    entry = ShardFile(
        name=f"{plan.name}.tar", samples=count, bytes=size, digest=digest.hexdigest(), plan=plan.digest()
    )
    return Written(entry, arrow(rows), dropped)


def _in_turn(plan: ShardPlan) -> Iterator[tuple[Sample, list[str] | None, str]]:
    """Yield the samples of a plan in their order, each with the classes that it leaves open and its source."""
    where = [(Path(part.directory), part.start, part.stop) for part in plan.parts]
    streams = [zip(manifests.read_samples(*one), manifests.read_unsure(*one), strict=False) for one in where]
    count = sum(part.stop - part.start for part in plan.parts)
    turns = np.frombuffer(plan.turns, "<u2").tolist() if plan.turns else [0] * count
    for turn in turns:
        yield *next(streams[turn]), plan.parts[turn].source


def arrow(rows: Mapping[str, list[Any]]) -> bytes:
    """Return index rows, given column by column, as an Arrow stream."""
    columns = [pa.array(rows.get(field.name, []), field.type) for field in ROW_SCHEMA]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, ROW_SCHEMA) as stream:
        stream.write_table(pa.Table.from_arrays(columns, schema=ROW_SCHEMA))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _with_pictures(sample: Sample, root: Root) -> tuple[Sample, list[bytes]]:
    """Return the sample with its pictures' digests, and their bytes: as they are, or with the sample's marks on them.

    Raises Quarantine `image.missing` or `image.changed` where the source is not what was converted any more, and
    `image.corrupt` where a picture to be marked cannot be decoded whole.
    """
    pictures, images = [], []
    for number, image in enumerate(sample.images):
        path = root.inside(image.path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise Quarantine("image.too_large", f"{image.path}: more than {MAX_BYTES} bytes")
            data = path.read_bytes()
        except OSError as error:
            raise Quarantine("image.missing", f"{image.path}: {error.strerror}") from error
        real = probe(data)
        if (real.width, real.height, real.format) != (image.width, image.height, image.format):
            raise Quarantine("image.changed", f"{image.path}: is not the picture that was converted")
        if drawn := sample.marks_on(number):
            data, file_format = marks.draw_on(data, image.format, drawn)
            image = msgspec.structs.replace(image, format=file_format)
        pictures.append(data)
        images.append(msgspec.structs.replace(image, digest=xxhash.xxh3_128_hexdigest(data)))
    return msgspec.structs.replace(sample, images=tuple(images)), pictures


def member_names(key: str, sample: Sample) -> list[str]:
    """Return the names of a sample's members: its JSON, then its pictures in order."""
    suffixes = [EXTENSIONS[image.format] for image in sample.images]
    pictures = [f"{key}.{n}.{suffix}" if n else f"{key}.{suffix}" for n, suffix in enumerate(suffixes)]
    return [f"{key}.json", *pictures]


def _members(
    key: str, sample: Sample, pictures: list[bytes], offset: int
) -> tuple[list[bytes], dict[str, Any]]:
    """Return a sample's tar blocks, members sorted by name, and its index row."""
    encoded = samples.encode(sample)
    named = zip(member_names(key, sample), [encoded, *pictures], range(-1, len(pictures)), strict=True)
    blocks: list[bytes] = []
    offsets: dict[int, int] = {}
    for name, data, number in sorted(named):
        blocks += [tar.header(name, len(data)), data, tar.padding(len(data))]
        offsets[number] = offset + tar.BLOCK
        offset += tar.BLOCK + len(data) + len(blocks[-1])
    places = [offsets[number] for number in range(-1, len(pictures))]
    return blocks, index_row(key, sample, encoded, places, [len(encoded), *map(len, pictures)])


def index_row(
    key: str, sample: Sample, encoded: bytes, offsets: Sequence[int], sizes: Sequence[int]
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
