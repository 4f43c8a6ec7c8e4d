"""`ratings.parquet` beside a manifest: one row a sample, in its order; what each column says, and how it spreads."""

from __future__ import annotations

import io
import json
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine import manifest as manifests
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root, write_atomic
from dataengine.images import MAX_BYTES
from dataengine.manifest import Manifest
from dataengine.ratings import pictures, texts
from dataengine.ratings.pictures import PictureRatings
from dataengine.ratings.texts import TextRatings
from dataengine.runners import run
from dataengine.tokens import without_special

RATINGS = "ratings.parquet"
VERSION = 1
DIGITS = 4  # behind the point: builds of numerical libraries differ behind them
CHUNK = 4096  # rows that are held as objects at once; as columns they take a tenth
Progress = Callable[[int, str], None]
Known = dict[tuple[str, str], PictureRatings | None]
_STAMP = b"dataengine.ratings"
_SHARES = tuple(number / 20 for number in range(20))


class Rating(msgspec.Struct, frozen=True, kw_only=True):
    """A column: what it says, and where the bins of its histogram begin (none: it is a word)."""

    name: str
    says: str
    kind: Literal["real", "whole", "word"]
    edges: tuple[float, ...] = ()


# Of a sample with several pictures the worst one counts, of brightness the mean.
COLUMNS = (
    Rating(name="sharpness", kind="real", edges=(0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000),
           says="variance of the Laplacian of a grey copy 256 pixels long; the least of its pictures"),
    Rating(name="brightness", kind="real", edges=_SHARES, says="mean grey, 0 black to 1 white"),
    Rating(name="dark", kind="real", edges=_SHARES, says="share of pixels that are black or nearly so; the most"),
    Rating(name="bright", kind="real", edges=_SHARES, says="share of pixels that are white or nearly so; the most"),
    Rating(name="spread", kind="real", edges=tuple(range(0, 128, 8)),
           says="standard deviation of grey, 0 to 127.5; the least: near 0 is a constant picture"),
    Rating(name="watermark_like", kind="real", edges=tuple(range(20)),
           says="how far the most repeated detail stands out of chance; the most"),
    Rating(name="side", kind="whole", edges=(0, 16, 32, 64, 128, 224, 256, 336, 448, 512, 640, 768, 1024, 2048),
           says="smallest side in pixels, of all pictures"),
    Rating(name="aspect", kind="real", edges=(1, 1.25, 1.5, 2, 3, 5, 10, 20), says="long side by short side; the most"),
    Rating(name="words", kind="whole", edges=(0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 500),
           says="words of all answers, or of the caption of a picture to make; two letters of Chinese are a word"),
    Rating(name="repetition", kind="real", edges=_SHARES, says="share of runs of three words that stood there before"),
    Rating(name="script", kind="word", says="script of most letters, as Unicode names it"),
    Rating(name="language", kind="word", says="language of 20 letters or more, where a library tells it"),
    Rating(name="agreement", kind="real", edges=tuple(number / 20 for number in range(-20, 20)),
           says="cosine of picture and answers in a CLIP model; only with --agreement"),
    Rating(name="unread", kind="whole", edges=(0, 1, 2, 3), says="pictures that could not be decoded"),
)  # fmt: skip
_KINDS = {"real": pa.float32(), "whole": pa.int32(), "word": pa.dictionary(pa.int32(), pa.string())}
SCHEMA = pa.schema([("id", pa.string()), *((one.name, _KINDS[one.kind]) for one in COLUMNS)])


class Scorer(Protocol):
    """What tells how well texts agree with pictures. `name` is a digest of the model."""

    name: str

    def score(self, pairs: Sequence[tuple[bytes, str]]) -> list[float | None]:
        """Return the cosine of each encoded picture and its text, None for a picture that cannot be decoded."""


class _Image(msgspec.Struct, frozen=True, gc=False):
    path: str
    width: int
    height: int


class _Turn(msgspec.Struct, frozen=True, gc=False):
    role: str
    text: str


class _Targets(msgspec.Struct, frozen=True, gc=False):
    image: int = -1
    caption: str = ""
    measure: Any = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """What of a sample is rated."""

    id: str
    images: tuple[_Image, ...]
    conversation: tuple[_Turn, ...]
    targets: _Targets

    @property
    def text(self) -> str:
        """What the sample answers: the caption of the picture to make, or else all answers."""
        answers = (turn.text for turn in self.conversation if turn.role == "assistant")
        return self.targets.caption or without_special("\n".join(answers))

    @property
    def shown(self) -> list[_Image]:
        """The pictures that show something: numbers such as depth are no colours."""
        measured = self.targets.image if self.targets.measure is not None else -1
        return [image for number, image in enumerate(self.images) if number != measured]


_decode = msgspec.json.Decoder(Head).decode


class Rated(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that has ratings: how many samples, how many of their pictures could not be read, and whether they
    stood there already."""

    name: str
    samples: int
    unread: int
    kept: bool


def rate(
    paths: Iterable[Path],
    *,
    workers: int = 1,
    scorer: Scorer | None = None,
    progress: Progress = lambda count, text: None,
) -> list[Rated]:
    """Rate every manifest in or below some folders; those whose ratings are of the same conversion are kept.

    A picture that several manifests show is decoded once. Raises SourceError.
    """
    known: Known = {}
    folders = sorted({folder for path in paths for folder in manifests.find(path)})
    return [_rate_manifest(folder, workers, scorer, progress, known) for folder in folders]


def _rate_manifest(
    directory: Path, workers: int, scorer: Scorer | None, progress: Progress, known: Known
) -> Rated:
    manifest = manifests.load(directory)
    stamp = _stamp(manifest, scorer)
    table = _standing(directory, stamp)
    kept = table is not None
    if table is None:
        table = _rated(directory, manifest, workers, scorer, progress, known)
        _write(
            table.replace_schema_metadata({_STAMP: json.dumps(stamp, sort_keys=True)}), directory / RATINGS
        )
    else:
        progress(table.num_rows, "")
    unread = sum(table.column("unread").to_pylist())
    return Rated(name=manifest.name, samples=table.num_rows, unread=unread, kept=kept)


def _stamp(manifest: Manifest, scorer: Scorer | None) -> dict[str, Any]:
    return {
        "version": VERSION,
        "fingerprint": manifest.fingerprint,
        "language": texts.identifier_version(),
        "agreement": scorer.name if scorer is not None else "",
    }


def _standing(directory: Path, stamp: Mapping[str, Any]) -> pa.Table | None:
    """Return ratings that stand already, None where they are of another conversion, or lack what is asked for."""
    if not (directory / RATINGS).is_file():
        return None
    held, table = _read(directory)
    wanted = stamp if stamp["agreement"] else {**stamp, "agreement": held.get("agreement")}
    return table if held == wanted else None


def _write(table: pa.Table, path: Path) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    write_atomic(path, sink.getvalue())


def _rated(
    directory: Path,
    manifest: Manifest,
    workers: int,
    scorer: Scorer | None,
    progress: Progress,
    known: Known,
) -> pa.Table:
    wanted = dict.fromkeys(image.path for head in _heads(directory) for image in head.shown)
    unseen = [path for path in wanted if (manifest.root, path) not in known]
    for path, found in run(partial(_rate_file, manifest.root), unseen, runner="local", workers=workers):
        known[manifest.root, path] = found
        progress(1, f"of {manifest.name}")
    read = run(partial(_rate_texts, str(directory)), _spans(directory), runner="local", workers=workers)
    rated = (one for span in read for one in span)
    heads = zip(_heads(directory), rated, _agreement(directory, manifest, scorer), strict=True)
    parts = [_columns([])]
    while chunk := [*islice(heads, CHUNK)]:
        rows = [
            _row(head, [known[manifest.root, image.path] for image in head.shown], text, score)
            for head, text, score in chunk
        ]
        parts.append(_columns(rows))
        progress(len(rows), f"of {manifest.name}")
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def _columns(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    arrays = [pa.array([row[field.name] for row in rows], field.type) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _heads(directory: Path) -> Iterator[Head]:
    return map(_decode, manifests.read_encoded(directory))


def _spans(directory: Path) -> Iterator[tuple[int, int]]:
    """Yield the rows of each row group: what a worker reads at once."""
    metadata = pq.read_metadata(directory / manifests.SAMPLES)
    start = 0
    for number in range(metadata.num_row_groups):
        stop = start + metadata.row_group(number).num_rows
        yield start, stop
        start = stop


def _rate_texts(directory: str, span: tuple[int, int]) -> list[TextRatings]:
    return [texts.rate(_decode(data).text) for data in manifests.read_encoded(Path(directory), *span)]


def _read_file(root: str, path: str) -> bytes | None:
    """Return the bytes of a picture, None where it cannot be read: its sample says so in `unread`."""
    try:
        file = Root(Path(root)).inside(path)
        return file.read_bytes() if file.stat().st_size <= MAX_BYTES else None
    except (OSError, Quarantine):
        return None


def _rate_file(root: str, path: str) -> tuple[str, PictureRatings | None]:
    data = _read_file(root, path)
    try:
        return path, pictures.rate(data) if data is not None else None
    except Quarantine:
        return path, None  # as above


def _row(
    head: Head, found: Sequence[PictureRatings | None], text: TextRatings, score: float | None
) -> dict[str, Any]:
    rated = [one for one in found if one is not None]
    shown = head.shown
    row: dict[str, Any] = {"id": head.id, "agreement": _rounded(score), "unread": len(found) - len(rated)}
    for name in PictureRatings._fields:
        values = [getattr(one, name) for one in rated]
        row[name] = _rounded(_worst(name, values)) if values else None
    row["side"] = min((min(one.width, one.height) for one in shown), default=None)
    ratios = [max(one.width, one.height) / max(min(one.width, one.height), 1) for one in shown]
    row["aspect"] = _rounded(max(ratios, default=None))
    return {**row, **text._asdict(), "repetition": _rounded(text.repetition)}


def _worst(name: str, values: Sequence[float]) -> float:
    if name == "brightness":
        return math.fsum(values) / len(values)
    return min(values) if name in ("sharpness", "spread") else max(values)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _agreement(directory: Path, manifest: Manifest, scorer: Scorer | None) -> Iterator[float | None]:
    """Yield how well the answers of each sample agree with its last picture; None where there is nothing to compare."""
    batch: list[tuple[bytes, str] | None] = []
    for head in _heads(directory):
        pair = None
        if scorer is not None and head.shown and head.text.strip():
            data = _read_file(manifest.root, head.shown[-1].path)
            pair = (data, head.text) if data is not None else None
        batch.append(pair)
        if len(batch) == 32:
            yield from _scored(batch, scorer)
            batch = []
    yield from _scored(batch, scorer)


def _scored(batch: Sequence[tuple[bytes, str] | None], scorer: Scorer | None) -> Iterator[float | None]:
    pairs = [pair for pair in batch if pair is not None]
    scores = iter(scorer.score(pairs) if scorer is not None and pairs else [])
    for pair in batch:
        yield next(scores) if pair is not None else None


def load(directory: Path) -> pa.Table:
    """Return the ratings of a manifest, columns as in SCHEMA. Raises SourceError where there are none that fit it."""
    if not (directory / RATINGS).is_file():
        raise SourceError(f"{directory}: has no ratings yet; run 'dataengine curate {directory} --rate'")
    held, table = _read(directory)
    if (held.get("version"), held.get("fingerprint")) != (VERSION, manifests.load(directory).fingerprint):
        raise SourceError(
            f"{directory / RATINGS}: is of another conversion; run 'dataengine curate {directory} --rate'"
        )
    return table


def _read(directory: Path) -> tuple[dict[str, Any], pa.Table]:
    path = directory / RATINGS
    try:
        table = pq.read_table(path)
        held: dict[str, Any] = json.loads((table.schema.metadata or {}).get(_STAMP, b"{}"))
        return held, table.select(SCHEMA.names) if held.get("version") == VERSION else table
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise SourceError(f"{path}: not a table of ratings: {error}; remove it and rate again") from error


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """How a rating spreads over the samples of a dataset.

    `counts[i]` are those from `edges[i]` up to the next edge, of the last one all above it; of words `edges` are empty,
    and `counts` go with `words`, the most frequent first. `missing` have no such rating.
    """

    dataset: str
    rating: str
    says: str
    edges: tuple[float, ...]
    words: tuple[str, ...]
    counts: tuple[int, ...]
    missing: int


def histograms(folders: Iterable[Path]) -> list[Histogram]:
    """Return how each rating spreads in each dataset of some rated manifests, by dataset, in the order of COLUMNS.

    A rating that no sample of a dataset has is left out. Raises SourceError for a manifest without ratings.
    """
    found: dict[str, dict[str, Counter[Any]]] = {}
    for folder in folders:
        dataset, table = manifests.load(folder).dataset, load(folder)
        held = found.setdefault(dataset, {one.name: Counter() for one in COLUMNS})
        for one in COLUMNS:
            values = table.column(one.name).to_pylist()
            held[one.name].update(_bin(one, value) for value in values)
    return [
        _histogram(dataset, one, held[one.name])
        for dataset, held in sorted(found.items())
        for one in COLUMNS
        if held[one.name].keys() - {None}
    ]


def _bin(rating: Rating, value: Any) -> Any:
    if value is None or rating.kind == "word":
        return value
    return max(bisect_right(rating.edges, value) - 1, 0)


def _histogram(dataset: str, rating: Rating, counts: Counter[Any]) -> Histogram:
    missing = counts.pop(None, 0)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0])) if rating.kind == "word" else []
    return Histogram(
        dataset=dataset,
        rating=rating.name,
        says=rating.says,
        edges=rating.edges,
        words=tuple(word for word, _ in ranked),
        counts=tuple(count for _, count in ranked)
        or tuple(counts[number] for number in range(len(rating.edges))),
        missing=missing,
    )
