"""What a model answered, sample by sample: the lines of `predictions.jsonl`, from which all measures are computed.

The file has a header, then a line for every sample that was read, in the order of the data, whether it was answered or
could not be used. It is written a window of samples at a time; what a killed call left of a window is cut off and done
again, so that a call that goes on writes what one that was never stopped would have written.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from dataengine.annotation import Box, Rle
from dataengine.errors import ModelError
from dataengine.sample import Sample

PREDICTIONS = "predictions.jsonl"
VERSION = 1


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One question put to the model: the true answer and the positions of its routes in the sample's.

    A conversation is asked round by round, each with the true rounds before it; a long class list part by part.
    """

    wanted: str
    routes: tuple[int, ...] = ()


class FoundObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An object that a decoder found for a routing token: the ask, and the token's place in its answer.

    `box` in xyxy pixels of the original picture; `points` are (place of the keypoint's token, x, y).
    """

    ask: int
    token: int
    box: Box
    score: float
    mask: Rle | None = None
    points: tuple[tuple[int, float, float], ...] | None = None


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """The pixels of a label map that belong to a routing token's class."""

    ask: int
    token: int
    mask: Rle


class Forced(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the model makes of a sample whose true answer is given, routing tokens and all.

    `text_loss` is the mean cross entropy of the answer's tokens, `exact` says whether each of them is the likeliest,
    `noise_loss` is that of a picture decoder, `picture` how near the picture that it made is to the wanted one.
    `found` is None where no decoder was asked.
    """

    text_loss: float
    exact: bool
    found: tuple[FoundObject, ...] | None = None
    segments: tuple[Segment, ...] = ()
    noise_loss: float | None = None
    picture: dict[str, float] | None = None


class Free(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the model answers by itself: a text an ask, and what the decoders found that it called.

    `cut` counts answers that a limit of length ended, `refused` are the reasons of asks that could not be put.
    """

    texts: tuple[str, ...]
    found: tuple[FoundObject, ...] = ()
    segments: tuple[Segment, ...] = ()
    picture: dict[str, float] | None = None
    cut: int = 0
    refused: tuple[str, ...] = ()


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Small JPEGs for the page: the sample's pictures, and those that were made."""

    images: tuple[bytes, ...]
    forced: bytes | None = None
    free: bytes | None = None


class Prediction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="answered"):
    """A sample and what the model made of it. `shortened` counts rounds that length control took away when forced."""

    number: int
    sample: Sample
    asks: tuple[Ask, ...]
    forced: Forced
    free: Free | None = None
    shortened: int = 0
    look: Look | None = None


class Unusable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="unusable"):
    """A sample that was not answered, and why; `damaged` ones count against the budget."""

    number: int
    id: str
    reason: str
    detail: str = ""
    damaged: bool = False


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="header"):
    """What the predictions are of: the model's checkpoint, the data, and the settings; their digest names all of it.

    `metrics` are those that specs declare, by `dataset/task`; `window` is how many samples are written at a time.
    """

    version: int
    digest: str
    model: str
    data: str
    settings: dict[str, Any]
    metrics: dict[str, str]
    window: int


class Whole(msgspec.Struct, frozen=True, kw_only=True, tag="whole"):
    """The last line: so many samples were read, all there are or as many as the limit lets."""

    samples: int
    limit: int | None


Line = Prediction | Unusable
_decode = msgspec.json.Decoder(Header | Prediction | Unusable | Whole).decode
encode = msgspec.json.Encoder(order="deterministic").encode


class Book(msgspec.Struct, kw_only=True):
    """The predictions of a file."""

    header: Header
    lines: list[Line]
    whole: Whole | None


def read(path: Path) -> Book:
    """Read predictions. Raises ModelError where there are none, or a line that is not the last cannot be read."""
    try:
        raw = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read: {error.strerror}; run 'dataengine evaluate RUN DATA' to make it"
        ) from error
    # What stands behind the last end of a line is half a line.
    found: list[Header | Line | Whole] = []
    for number, data in enumerate(raw[:-1], start=1):
        try:
            found.append(_decode(data))
        except msgspec.DecodeError as error:
            raise ModelError(
                f"{path}: line {number}: not a prediction: {error}; remove the file and evaluate again"
            ) from error
    if not found or not isinstance(found[0], Header) or found[0].version != VERSION:
        raise ModelError(
            f"{path}: no header of version {VERSION}, expected one first; remove the file and evaluate again"
        )
    whole = found[-1] if isinstance(found[-1], Whole) else None
    lines = [line for line in found if isinstance(line, Prediction | Unusable)]
    return Book(header=found[0], lines=lines, whole=whole)


def resume(path: Path, header: Header, limit: int | None, *, replace: bool = False) -> Book:
    """Return what a call can go on from: a file with that header, cut to whole windows unless it is whole.

    Predictions of another model, other data or settings are removed where `replace` says so, else a ModelError.
    """
    if path.is_file() and _starts_whole(path):
        book = read(path)
        if book.header == header:
            if book.whole is not None and book.whole.limit == limit:
                return book
            kept = book.lines[: len(book.lines) - len(book.lines) % header.window]
            _rewrite(path, header, kept)
            return Book(header=header, lines=kept, whole=None)
        if not replace:
            raise ModelError(
                f"{path}: holds predictions of {_difference(book.header, header)}; give another --out, or --replace to"
                " lose them"
            )
    _rewrite(path, header, [])
    return Book(header=header, lines=[], whole=None)


def _starts_whole(path: Path) -> bool:
    """Say whether a file has its first line to the end: a call that was killed while it began left nothing else."""
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


def _difference(old: Header, new: Header) -> str:
    for name in ("model", "data"):
        if getattr(old, name) != getattr(new, name):
            return f"another {name}, {getattr(old, name)}"
    keys = sorted(
        key for key in {*old.settings, *new.settings} if old.settings.get(key) != new.settings.get(key)
    )
    return f"other settings ({keys[0]}: {old.settings.get(keys[0])!r})" if keys else "another evaluation"


def _rewrite(path: Path, header: Header, lines: Sequence[Line]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        for line in (header, *lines):
            file.write(encode(line) + b"\n")
    temporary.replace(path)


def append(path: Path, lines: Sequence[Line | Whole]) -> None:
    """Write lines behind those of a file, at once."""
    with path.open("ab") as file:
        file.write(b"".join(encode(line) + b"\n" for line in lines))
