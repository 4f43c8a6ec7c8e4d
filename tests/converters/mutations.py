"""Damage for the fuzz tests: one change to one file of a folder, at its bytes or at what they say.

Everything follows from the chance that is handed in: the same folder and chance give the same damage.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
import random
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from converters import plain_pickle
from dataengine.errors import SourceError

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
DEEP = 20_000
LONG = 100_000
# What stands for something that `json.dumps` cannot write.
_NEST, _HALF = "~~nest~~", "~~half~~"
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 0.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**63, 2**64,
    10**30, -(2**63) - 1, "", " ", "\0", "x" * LONG, "nan", "1e999", "../../etc/passwd", "/etc/passwd", "a\nb", "[DET]",
    "<image>", _HALF, _NEST, [], {}, [[]], [None], [1, 2], [-1, -1, -1, -1], [1e308] * 4, [float("nan")] * 8, {"": ""},
    {"a": None}, [0.5] * 1001,
)  # fmt: skip
CELLS = (
    "", " ", "nan", "-inf", "1e308", "-1e308", "-1", "0", "1.5", "99999999999999999999999", "1_000", "²", "१२", "０",
    "\0", "x" * 5000, "../../etc/passwd", "/", "..", '"', "'", ",", "a b", "[DET]", "0x10", "9" * 5000,
    "\N{BYTE ORDER MARK}", "\u2028", "{", "-", "1-2", "None", "null",
)  # fmt: skip
CHUNKS = (
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\r",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"9" * 400,
    b'"',
    b"<",
    b"[" * 3000,
)


def damage(folder: Path, chance: random.Random) -> str:
    """Change a folder in place; return what was done, in words."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    told = [path for path in files if path.suffix.lower() not in PICTURES]
    if not files:
        return "nothing"
    # What is said in text is damaged oftener than pixels.
    file = chance.choice(told if told and chance.random() < 0.8 else files)
    place = file.relative_to(folder).as_posix()
    if chance.random() < 0.12:
        return f"{place}: {_whole(file, files, chance)}"
    data = file.read_bytes()
    made: bytes | None = None
    if chance.random() < 0.65:
        made = _said(file, data, chance)
    if made is None:
        made = _bytes(data, chance)
    file.write_bytes(made)
    return f"{place}: {len(data)} bytes became {len(made)}"


def _whole(file: Path, files: list[Path], chance: random.Random) -> str:
    """Take a file away, or put something else in its place."""
    what = chance.choice(("missing", "empty", "folder", "swapped", "link", "no folder", "renamed"))
    match what:
        case "swapped":
            other = chance.choice(files)
            data, others = file.read_bytes(), other.read_bytes()
            file.write_bytes(others)
            other.write_bytes(data)
        case "renamed":
            # A byte that is no UTF-8, as Python writes it in a name.
            file.rename(file.with_name(f"\udcff{file.name}"))
        case "empty":
            file.write_bytes(b"")
        case "no folder":
            folder = file.parent
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        case _:
            file.unlink()
            if what == "folder":
                file.mkdir()
            elif what == "link":
                file.symlink_to("/etc/passwd")
    return what


def _bytes(data: bytes, chance: random.Random) -> bytes:
    """Change bytes without a look at what they are."""
    for _ in range(chance.choice((1, 1, 2, 8))):
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice((1, 2, 8, 64, 1000)))
        match chance.randrange(7):
            case 0 if data[start:end]:
                data = data[:start] + bytes([data[start] ^ 1 << chance.randrange(8)]) + data[start + 1 :]
            case 1:
                data = data[:start]
            case 2:
                data = data[:start] + data[end:]
            case 3:
                data = data[:start] + data[start:end] * chance.choice((2, 3, 50)) + data[end:]
            case 4:
                data = data[:start] + chance.choice(CHUNKS) + data[start:]
            case 5:
                data = data[:start] + chance.choice(CHUNKS) + data[end:]
            case _:
                data = chance.choice((_crlf, _numbers, _with_mark))(data, chance)
    return data


def _crlf(data: bytes, chance: random.Random) -> bytes:
    return data.replace(b"\n", b"\r\n")


def _with_mark(data: bytes, chance: random.Random) -> bytes:
    return b"\xef\xbb\xbf" + data


def _numbers(data: bytes, chance: random.Random) -> bytes:
    """Replace one number as text by a strange one."""
    found = [*re.finditer(rb"-?\d+(\.\d+)?", data[:200_000])]
    if not found:
        return data
    match = chance.choice(found)
    strange = chance.choice(
        (
            b"-1",
            b"0",
            b"1e308",
            b"-1e308",
            b"1" * 25,
            b"1" * 400,
            b"1" * 5000,
            b"0.5",
            b"NaN",
            b"1e999",
            b"4294967296",
        )
    )
    return data[: match.start()] + strange + data[match.end() :]


def _said(file: Path, data: bytes, chance: random.Random) -> bytes | None:
    """Change what a file says; None where it does not say it as its name tells."""
    suffix = file.suffix.lower()
    change = _BY_SUFFIX.get(suffix, _lines if suffix not in PICTURES else _pixels)
    try:
        return change(data, chance)
    except (ValueError, TypeError, KeyError, AttributeError, SyntaxError, OSError, OverflowError, RecursionError,
            pa.ArrowException, struct.error, zlib.error, Image.DecompressionBombError, ImportError,
            SourceError, pickle.PickleError):  # fmt: skip
        return None  # the bytes are damaged instead


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of every value inside a tree, some thousands at most."""
    found: list[tuple[Any, Any]] = []
    open_ = [value]
    while open_ and len(found) < 5000:
        one = open_.pop()
        pairs = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, inner in pairs:
            found.append((one, key))
            if isinstance(inner, dict | list):
                open_.append(inner)
    return found


def tree(value: Any, chance: random.Random) -> Any:
    """Change plain data at one to three places: drop, double, replace, swap, rename."""
    value = [value]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = _places(value)
        holder, key = chance.choice(places)
        match chance.randrange(10):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 0 | 1 if isinstance(holder, list) and holder is not value:
                del holder[key]
            case 2 if isinstance(holder, list) and holder is not value:
                holder.insert(key, holder[key])
            case 3 if isinstance(holder, dict):
                holder[f"{key}x"] = holder.pop(key)
            case 4:
                other, where = chance.choice(places)
                if not isinstance(other[where], dict | list):
                    holder[key] = other[where]
            case 5:
                holder[key] = [holder[key]]
            case 6 if isinstance(holder[key], str) and holder[key]:
                holder[key] = _stretched(holder[key], chance)
            case 7 if isinstance(holder[key], int | float):
                holder[key] = chance.choice((str(holder[key]), -holder[key], float(holder[key]) + 0.5))
            case _:
                holder[key] = chance.choice(VALUES)
    return value[0]


def _stretched(text: str, chance: random.Random) -> str:
    """Return a text with a piece of it, or a blank, repeated very often: what is looked for twice takes for ever."""
    start = chance.randrange(len(text) + 1)
    piece = text[start : start + chance.choice((1, 3, 8, 20))] or " "
    piece = chance.choice((piece, piece, " "))
    return text[:start] + piece * (LONG // len(piece)) + text[start:]


def _json_text(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    text = text.replace(f'"{_NEST}"', "[" * DEEP + "]" * DEEP).replace(_HALF, "\\ud800")
    return text.encode(errors="surrogatepass")


def _json(data: bytes, chance: random.Random) -> bytes:
    try:
        return _json_text(tree(json.loads(data), chance))
    except json.JSONDecodeError:
        lines = data.splitlines(keepends=True)
        number = chance.randrange(len(lines))
        lines[number] = _json_text(tree(json.loads(lines[number]), chance)) + b"\n"
        return b"".join(lines)


def _xml(data: bytes, chance: random.Random) -> bytes:
    document = ElementTree.fromstring(data)
    items = [*document.iter()]
    for _ in range(chance.choice((1, 1, 2, 4))):
        item = chance.choice(items)
        match chance.randrange(8):
            case 0 if len(item):
                item.remove(chance.choice([*item]))
            case 1 if len(item):
                item.append(chance.choice([*item]))
            case 2 if item.attrib:
                del item.attrib[chance.choice(sorted(item.attrib))]
            case 3 if item.attrib:
                item.attrib[chance.choice(sorted(item.attrib))] = chance.choice(CELLS).replace("\0", "")
            case 4:
                item.tag = chance.choice(items).tag
            case 5:
                item.text = _NEST
            case _:
                item.text = chance.choice(CELLS).replace("\0", "")
    text = ElementTree.tostring(document)
    text = text.replace(_NEST.encode(), b"<a>" * DEEP + b"</a>" * DEEP)
    if chance.random() < 0.05:
        text = b'<!DOCTYPE a [<!ENTITY b "cccccccccc">]>' + text
    return text


def _lines(data: bytes, chance: random.Random) -> bytes:
    """Change a line or cell of a text file, whatever stands between its cells."""
    text = data.decode("utf-8")
    lines = text.splitlines(keepends=True) or [""]
    for _ in range(chance.choice((1, 1, 2, 5))):
        number = chance.randrange(len(lines))
        match chance.randrange(7):
            case 0:
                lines.insert(number, lines[number])
            case 1:
                lines[number] = ""
            case 2:
                other = chance.randrange(len(lines))
                lines[number], lines[other] = lines[other], lines[number]
            case 3:
                lines[number] = chance.choice(
                    ("\n", "\0\n", "x" * LONG + "\n", " , , \n", "1 " * 2000 + "\n")
                )
            case _:
                cells = re.split(r"([,;\t |:/]+)", lines[number].rstrip("\r\n"))
                cell = chance.randrange(len(cells))
                strange = (*CELLS, cells[cell] * 2, chance.choice(cells), _stretched(lines[number], chance))
                cells[cell] = chance.choice(strange)
                lines[number] = "".join(cells) + "\n"
    return "".join(lines).encode(errors="surrogatepass")


def _csv(data: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return _lines(data, chance)
    rows = [*csv.reader(io.StringIO(data.decode("utf-8")))]
    row = chance.choice(rows)
    cell = chance.randrange(len(row))
    row[cell : cell + 1] = chance.choice(
        ([], [row[cell]] * 2, [chance.choice(CELLS)], [chance.choice(CELLS)])
    )
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _pickle(data: bytes, chance: random.Random) -> bytes:
    value = tree(plain_pickle.load("seed", data), chance)
    return pickle.dumps(value, protocol=chance.randrange(5))


def _parquet(data: bytes, chance: random.Random) -> bytes:
    # Arrow's threads would let go of Python's buffers while tracemalloc starts, which ends the process
    # (python/cpython#128679): everything happens in this thread.
    table = pq.ParquetFile(io.BytesIO(data), pre_buffer=False).read(use_threads=False)
    name = chance.choice(table.column_names)
    match chance.randrange(3):
        case 0:
            table = table.drop_columns([name])
        case 1:
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.nulls(len(table)))
        case _:
            place = table.column_names.index(name)
            table = table.set_column(place, name, pa.array([chance.choice(CELLS) for _ in range(len(table))]))
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def _mat(data: bytes, chance: random.Random) -> bytes:
    """Unpack the parts of a MATLAB file, which are read as well unpacked, and change bytes behind its header."""
    parts, place = [data[:128]], 128
    while place + 8 <= len(data):
        kind, size = struct.unpack("<II", data[place : place + 8])
        body = data[place + 8 : place + 8 + size]
        parts.append(zlib.decompress(body) if kind == 15 else data[place : place + 8 + size])
        place += 8 + size
    whole = bytearray(b"".join(parts))
    for _ in range(chance.choice((1, 1, 3, 10))):
        start = chance.randrange(128, len(whole))
        match chance.randrange(3):
            case 0:
                whole[start] ^= 1 << chance.randrange(8)
            case 1:
                whole[start : start + 4] = struct.pack("<I", chance.choice((0, 1, 14, 255, 2**31, 2**32 - 1)))
            case _:
                whole[start : start + 8] = struct.pack("<d", chance.choice((0, -1, 1e308, float("nan"), 2.5)))
    return bytes(whole)


def _pixels(data: bytes, chance: random.Random) -> bytes:
    """Change some pixels, or how pixels are stored."""
    with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as opened:
        warnings.simplefilter("ignore")  # what Pillow says of a conversion is no matter here
        picture: Image.Image = opened
        picture.load()
        if chance.random() < 0.4:
            picture = picture.convert(chance.choice(("1", "L", "RGB", "RGBA", "P", "I")))
        elif chance.random() < 0.2:
            picture = picture.resize((chance.choice((1, 7, 300)), chance.choice((1, 5, 200))))
        else:
            values = np.array(picture)
            y, x = chance.randrange(values.shape[0]), chance.randrange(values.shape[1])
            side = chance.choice((1, 1, 4, 50))
            values[y : y + side, x : x + side] = chance.choice((0, 1, 2, 7, 100, 254, 255))
            picture = Image.fromarray(values)
        file = io.BytesIO()
        picture.save(file, chance.choice(("PNG", "PNG", "PNG", "TIFF")))
    return file.getvalue()


_BY_SUFFIX: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": _json, ".jsonl": _json, ".ndjson": _json, ".odgt": _json, ".geojson": _json, ".xml": _xml, ".csv": _csv,
    ".p": _pickle, ".pkl": _pickle, ".pickle": _pickle, ".mat": _mat, ".parquet": _parquet,
}  # fmt: skip
