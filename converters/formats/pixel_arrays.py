"""Pictures that are stored as numbers: MNIST's IDX files, CIFAR's pickles, MedMNIST's npz, and tables of pixels.

Conventions, each from the data set's own page:
`idx` (yann.lecun.com/exdb/mnist): a header of big-endian numbers says how many pictures there are, how high and how
wide; then a byte a pixel, row by row; the answers are a file of their own. Either may be gzipped. EMNIST's pictures are
stored column by column (`transposed`).
`cifar` (cs.toronto.edu/~kriz/cifar.html): a Python 2 pickle with a row a picture in `data`: all red pixels of 32 x 32,
row by row, then all green, then all blue; `labels`, or `fine_labels` and `coarse_labels`, beside it. It is read as
plain data: nothing is imported or called. Where `image_sizes` (height, width) stands beside, pictures differ in size,
as in Datumaro's export.
`npz` (medmnist.com): arrays `train_images` and `train_labels`, and so on, of pictures (rows, columns, and colours last)
and of numbers of classes, one a picture, or a 0 or 1 for each class.
`csv`: a line a picture, its class first and its pixels in the columns behind (MNIST as CSV), or in one column with
blanks between (FER2013).

Annotations name files, so `prepare` writes each picture below the root, as a PNG, which loses nothing.
"""

from __future__ import annotations

import csv
import io
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from converters import array_pickle, idx_files
from dataengine.annotation import Annotation, Image, Label, LabelSpace, Origin, Rejected
from dataengine.errors import DataEngineError, Quarantine, SourceError
from dataengine.files import Root, write_atomic
from dataengine.listing import Fit, Listing, name_splits, several

VERSION = "1"
Pixels = npt.NDArray[np.uint8]


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`pictures` is the file of the pixels, or several that follow each other; `to` the folder for the pictures.

    `answers` says where their classes are: the file (`idx`), the array (`npz`), the key (`cifar`), or the column (`csv`
    with a header; without `answers` a table has none, and its first column is the class). `pixels` is the array, key or
    column of the pictures. `where` keeps the rows of a table whose columns hold these texts.

    `classes` are the names by number, from `first` on, or the file that has them as `names_of` (CIFAR's
    `batches.meta`). `exhaustive: true` says that a picture of one class is none of any other.
    """

    layout: Literal["idx", "cifar", "npz", "csv"]
    pictures: str | tuple[str, ...]
    classes: str | tuple[str, ...]
    answers: str | None = None
    pixels: str | None = None
    where: dict[str, str] = {}
    names_of: str = "label_names"
    first: int = 0
    transposed: bool = False
    exhaustive: bool = False
    to: str = "pictures"

    def __post_init__(self) -> None:
        if self.answers is None and self.layout in ("idx", "npz", "cifar"):
            raise ValueError("answers: missing; nothing else says what the pictures show")
        if self.layout == "csv" and (self.answers is None) != (self.pixels is None):
            raise ValueError("pixels: a table with a header needs both 'answers' and 'pixels'")
        if self.pixels is None and self.layout == "npz":
            raise ValueError("pixels: missing, expected the name of the array")
        if self.where and (self.layout != "csv" or self.pixels is None):
            raise ValueError("where: only a table with a header has columns to ask for")

    def files(self) -> tuple[str, ...]:
        """Return the files of the pictures."""
        return (self.pictures,) if isinstance(self.pictures, str) else self.pictures


class Stored(NamedTuple):
    """A picture as it stands in a file: its place there, what decodes its pixels, and its answer."""

    file: str
    number: int
    place: str
    pixels: Callable[[], Pixels]
    answer: Any


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the classes in the order of their numbers. Raises SourceError."""
    return LabelSpace(
        id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(_names(source, root)))
    )


def recognise(listing: Listing) -> Fit | str:
    """Say whether the folder holds IDX files of pictures and of numbers from 0 to 9."""
    found = [file for file in listing.files if "images-idx3-ubyte" in file]
    pairs = [(file, file.replace("images-idx3", "labels-idx1")) for file in found]
    pairs = [(file, answers) for file, answers in pairs if answers in listing.files]
    if not pairs:
        return "no file *-images-idx3-ubyte with one *-labels-idx1-ubyte beside it"
    splits: list[tuple[str, dict[str, object]]] = [
        (
            file.split("-images")[0],
            {
                "layout": "idx",
                "pictures": file,
                "answers": answers,
                "classes": [str(one) for one in range(10)],
            },
        )
        for file, answers in pairs
    ]
    return Fit(
        splits=name_splits(splits),
        tasks=("classification",),
        why=f"{several(found)}: IDX files; say what the classes are called",
    )


def prepare(source: Source, directory: Path) -> None:
    """Write the pictures that are not there yet. Raises SourceError where another one is in its place."""
    root = Root(directory)
    for item in _stored(source, root):
        if isinstance(item, Rejected):
            continue
        try:
            pixels = item.pixels()
            path = root.inside(_path(source, item))
        except Quarantine:
            continue  # told when it is read as an annotation
        there = _decoded(path)
        if there is None:
            data = io.BytesIO()
            Pillow.fromarray(pixels).save(data, "PNG")
            try:
                write_atomic(path, data.getvalue(), sync=False)
            except DataEngineError as error:
                raise SourceError(f"{error}; pictures are written below --root") from error
        elif not np.array_equal(there, pixels):
            raise SourceError(
                f"{path}: is there already and is not the picture of {item.file}: {item.place}; move one of them away"
            )


def _decoded(path: Path) -> npt.NDArray[Any] | None:
    """Return the pixels of a picture, or None where there is none, or one that a power cut tore."""
    try:
        with Pillow.open(path, formats=("PNG",)) as picture:
            return np.asarray(picture)
    except Pillow.DecompressionBombError:
        return np.zeros(0)  # whatever it is, it is none of ours
    except (OSError, SyntaxError):
        return None


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection a picture, in file order, and one rejection for a header that does not fit."""
    names = _names(source, root)
    for item in _stored(source, root):
        if isinstance(item, Rejected):
            yield item
            continue
        origin = Origin(file=item.file, record=item.place)
        key = f"{_stem(item.file)}.{item.number}"
        try:
            height, width = item.pixels().shape[:2]
            yield Annotation(
                key=key,
                images=(Image(path=_path(source, item), width=width, height=height),),
                labels=_classes(item.answer, names, source.first),
                exhaustive=source.exhaustive or isinstance(item.answer, list),
                origin=origin,
            )
        except Quarantine as error:
            yield Rejected(key=key, reason=error.reason, detail=error.detail, origin=origin)


def _stem(file: str) -> str:
    return re.sub(r"\.(gz|csv|npz|pkl|bin)\b", "", PurePosixPath(file).name)


def _path(source: Source, item: Stored) -> str:
    part = f"{_stem(item.file)}-{source.pixels}" if source.layout == "npz" else _stem(item.file)
    return f"{source.to}/{part}/{item.number:06d}.png"


def _names(source: Source, root: Root) -> list[str]:
    if not isinstance(source.classes, str):
        return list(source.classes)
    stated = array_pickle.load(source.classes, root.read(source.classes, "classes"))
    names = stated.get(source.names_of) if isinstance(stated, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SourceError(f"{source.classes}: has no list of names {source.names_of!r}; see source.names_of")
    return names


def _classes(answer: Any, names: Sequence[str], first: int) -> tuple[str, ...]:
    """Return the classes of an answer: a number, or a list of 0 and 1. Raises Quarantine."""
    if isinstance(answer, list):
        if len(answer) != len(names) or not set(answer) <= {0, 1}:
            raise Quarantine("schema", f"{str(answer)[:60]}, expected {len(names)} numbers 0 or 1")
        return tuple(name for name, said in zip(names, answer, strict=True) if said)
    if answer is None:
        raise Quarantine("label.missing", "there are fewer answers than pictures")
    try:
        position = int(answer) - first
    except (TypeError, ValueError) as error:
        raise Quarantine("schema", f"the class is {str(answer)[:60]!r}, expected a number") from error
    if not 0 <= position < len(names):
        raise Quarantine("category.unknown", f"class {answer}, expected {first} to {first + len(names) - 1}")
    return (names[position],)


def _stored(source: Source, root: Root) -> Iterator[Stored | Rejected]:
    for file in source.files():
        match source.layout:
            case "idx":
                yield from _idx(source, file, root)
            case "cifar":
                yield from _cifar(source, file, root)
            case "npz":
                yield from _npz(source, file, root)
            case "csv":
                yield from _table(source, file, root)


def _rows(
    source: Source, file: str, count: int, answers: Sequence[Any], shape: Callable[[int], Pixels]
) -> Iterator[Stored | Rejected]:
    """Yield the pictures with their answers, and a rejection for each answer that has no picture."""
    for number in range(count):
        answer = answers[number] if number < len(answers) else None
        turned = (lambda number=number: np.swapaxes(shape(number), 0, 1)) if source.transposed else None
        yield Stored(file, number, f"[{number}]", turned or (lambda number=number: shape(number)), answer)
    for number in range(count, len(answers)):
        yield _reject(file, f"[{number}]", "id.orphan", "an answer without a picture")


def _reject(file: str, place: str, reason: str, detail: str) -> Rejected:
    return Rejected(
        key=f"{_stem(file)}.{place}", reason=reason, detail=detail, origin=Origin(file=file, record=place)
    )


def _idx(source: Source, file: str, root: Root) -> Iterator[Stored | Rejected]:
    pictures, promised = idx_files.load(file, root.read(file, "pictures"), 3)
    answers, promised_answers = idx_files.load(
        str(source.answers), root.read(str(source.answers), "answers"), 1
    )
    for name, found, said in (
        (file, len(pictures), promised),
        (str(source.answers), len(answers), promised_answers),
    ):
        if found != said:
            yield _reject(name, "header", "schema", f"the header promises {said}, and the file holds {found}")
    yield from _rows(source, file, len(pictures), answers.tolist(), lambda number: pictures[number])


def _cifar(source: Source, file: str, root: Root) -> Iterator[Stored | Rejected]:
    batch = array_pickle.load(file, root.read(file, "pictures"))
    if not isinstance(batch, dict):
        raise SourceError(
            f"{file}: holds one {type(batch).__name__}, expected a dictionary of data and labels"
        )
    rows, answers = batch.get(source.pixels or "data"), batch.get(source.answers)
    if not isinstance(rows, list | np.ndarray) or not isinstance(answers, list):
        raise SourceError(
            f"{file}: has no {source.pixels or 'data'!r} or no {source.answers!r}; it has {', '.join(map(str, batch))}"
        )
    sizes = batch.get("image_sizes")

    def shape(number: int) -> Pixels:
        try:
            height, width = sizes[number] if sizes else (32, 32)
            return _planes(np.asarray(rows[number]), int(height), int(width))
        except (LookupError, TypeError, ValueError) as error:
            raise Quarantine("image.corrupt", f"{error}") from error

    yield from _rows(source, file, len(rows), answers, shape)


def _planes(row: npt.NDArray[Any], height: int, width: int) -> Pixels:
    """Return a picture of its planes, one a colour. Raises ValueError where the numbers are too many or too few."""
    values = row.reshape(-1).astype(np.int64)
    if values.size and not 0 <= int(values.min()) <= int(values.max()) <= 255:
        raise ValueError("numbers are no bytes")
    if values.size == height * width:
        return values.astype(np.uint8).reshape(height, width)
    if values.size != 3 * height * width:
        raise ValueError(f"{values.size} numbers, expected 3 x {height} x {width}")
    return values.astype(np.uint8).reshape(3, height, width).transpose(1, 2, 0)


def _npz(source: Source, file: str, root: Root) -> Iterator[Stored | Rejected]:
    try:
        with np.load(io.BytesIO(root.read(file, "pictures")), allow_pickle=False) as arrays:
            if not {source.pixels, source.answers} <= set(arrays.files):
                has = ", ".join(arrays.files)
                raise SourceError(f"{file}: has no {source.pixels!r} or no {source.answers!r}; it has {has}")
            pictures, answers = arrays[source.pixels], arrays[source.answers]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MemoryError) as error:
        raise SourceError(f"{file}: {error}; expected an npz of arrays of numbers") from error
    colours = pictures.shape[3:]
    if pictures.dtype != np.uint8 or pictures.ndim not in (3, 4) or colours not in ((), (3,), (1,)):
        raise SourceError(
            f"{file}: {source.pixels}: {pictures.dtype} of shape {pictures.shape}; expected bytes of flat pictures"
        )
    answers = answers[:, 0] if answers.ndim == 2 and answers.shape[1] == 1 else answers

    def shape(number: int) -> Pixels:
        return np.asarray(pictures[number, :, :, 0] if colours == (1,) else pictures[number])

    yield from _rows(source, file, len(pictures), answers.tolist(), shape)


def _table(source: Source, file: str, root: Root) -> Iterator[Stored | Rejected]:
    """Yield the rows of a table of pixels; those that `where` leaves out are skipped by name."""
    header: list[str] | None = None
    number = 0
    csv.field_size_limit(2**26)
    texts = (data.decode("utf-8-sig", "replace") for _, data in root.lines(file, "pictures"))
    for line, cells in enumerate(csv.reader(texts), start=1):
        if not cells:
            continue
        place = f"line {line}"
        if header is None and (source.pixels is not None or not cells[-1].strip().isdecimal()):
            header = [cell.strip() for cell in cells]
            missing = {*source.where, source.pixels, source.answers} - {None, *header}
            if missing:
                raise SourceError(f"{file}: line {line}: no column {sorted(map(str, missing))[0]!r}")
            continue
        number += 1
        if source.pixels is None:
            answer, values = cells[0], cells[1:]
        else:
            row = dict(zip(header or (), cells, strict=False))
            if any(row.get(column, "").strip() != text for column, text in source.where.items()):
                yield _reject(file, place, "where.filtered", "another part of the table")
                continue
            answer, values = row.get(str(source.answers), ""), row.get(source.pixels, "").split()

        def shape(values: list[str] = values) -> Pixels:
            side = math.isqrt(len(values))
            try:
                if side * side != len(values):
                    raise ValueError(f"{len(values)} pixels, expected a square")
                made = _planes(np.array([int(value) for value in values]), side, side)
                return np.swapaxes(made, 0, 1) if source.transposed else made
            except ValueError as error:
                raise Quarantine("image.corrupt", str(error)) from error

        yield Stored(file, number - 1, place, shape, answer)
