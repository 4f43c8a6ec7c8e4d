"""Attacks on the files that a reader reads: each changes one file of a folder, or says that it has nothing to attack.

An attack is handed the folder, a file of it, the folder of canaries outside, and chance; it returns whether it was
made. To add one, write a function and a row of ATTACKS.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import os
import pickle
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# It has no types of its own.
h5py: Any = importlib.import_module("h5py")
SCRIPT = "<script>document.title='CODE-RAN'</script>"
SECRET = "CANARY-5d1f"
DEEP = 100_000
LONG = bool(os.environ.get("DATAENGINE_HOSTILE"))
# A line is refused from 64 MiB on; a gigabyte takes a second each time that somebody reads it.
LARGE = (1 << 30) if LONG else (1 << 27)
TERABYTE = 1 << 40
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})


class Target(NamedTuple):
    """A file of a folder that is attacked, with the folder outside that nobody may touch."""

    root: Path
    file: Path
    outside: Path
    chance: random.Random

    @property
    def suffix(self) -> str:
        """The ending of the file, in small letters."""
        return self.file.suffix.lower()


class Attack(NamedTuple):
    """What is done to a file; `slow` ones are left to the long run but for a few formats.

    What `renames` may give two records one name, or the place of a third: fewer are there, and none is lost.
    """

    name: str
    make: Callable[[Target], bool]
    slow: bool = False
    renames: bool = False


class Calls:
    """Asks for a call that would leave a file outside, whoever unpickles it."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._flag}",)


def _put(target: Target, data: bytes) -> bool:
    target.file.write_bytes(data)
    return True


def _calls(target: Target) -> Calls:
    return Calls(target.outside / "flag")


# What runs code.


def pickled_call(target: Target) -> bool:
    """A pickle that asks for a call, alone or beside plain values, whatever the file should be."""
    data = target.chance.choice((_calls(target), {"images": [1, _calls(target)]}, [_calls(target)]))
    return _put(target, pickle.dumps(data, target.chance.randrange(5)))


def array_of_objects(target: Target) -> bool:
    """An array of objects, which NumPy stores as a pickle."""
    values = np.array([_calls(target), 1], dtype=object)
    file = io.BytesIO()
    if target.chance.random() < 0.5 or target.suffix == ".npy":
        np.save(file, values, allow_pickle=True)
    else:
        np.savez(file, images=values, arr_0=values)
    return _put(target, file.getvalue())


def pickled_type(target: Target) -> bool:
    """A Parquet file whose schema holds the pickle of a type of Python."""
    if target.suffix != ".parquet":
        return False
    meta = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(_calls(target)),
    }
    table = pq.ParquetFile(target.file).read(use_threads=False)
    fields = [field.with_metadata(meta) for field in table.schema]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(table.columns, schema=pa.schema(fields)), file)
    return _put(target, file.getvalue())


def yaml_call(target: Target) -> bool:
    """YAML that names a function of Python."""
    flag = target.outside / "flag"
    return _put(target, f"!!python/object/apply:os.system ['touch {flag}']\n".encode())


def postscript(target: Target) -> bool:
    """A picture that is a program of PostScript, which some libraries hand to another process."""
    if target.suffix not in PICTURES:
        return False
    program = (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n({target.outside}/flag) (w) file\nshowpage\n"
    )
    return _put(target, program.encode())


def script(target: Target) -> bool:
    """Markup in every text, and a file's name that is markup."""
    if target.suffix in PICTURES:
        target.file.rename(target.file.with_name("<img src=x onerror=alert(1)>.png"))
        return True
    return _texts(target, lambda text: f"{text}{SCRIPT}")


# What leaves the root.


def link_out(target: Target) -> bool:
    """A link to a file outside that is a good one."""
    secret = target.outside / f"secret{target.suffix}"
    if not secret.exists():
        secret.write_bytes(target.file.read_bytes() + SECRET.encode())
    target.file.unlink()
    target.file.symlink_to(secret)
    return True


def folder_link_out(target: Target) -> bool:
    """A link to a folder outside that has the very files."""
    folder = target.file.parent
    if folder == target.root:
        return False
    moved = target.outside / "folder"
    if moved.is_symlink() or moved.exists():
        return False
    folder.rename(moved)
    folder.symlink_to(moved)
    return True


def path_out(target: Target) -> bool:
    """Names of pictures, and of any other file, that climb out of the root or begin at the top."""
    secret = target.outside / "secret.png"
    climbing = os.path.relpath(secret, target.root)
    name = target.chance.choice((str(secret), climbing, climbing.replace("/", "\\"), f"a/../{climbing}"))
    return _texts(target, lambda text: name if re.search(r"\.\w{2,5}$", text) else text)


def xml_entity(target: Target) -> bool:
    """An entity that stands for a file outside, or a document type that is read from there."""
    if target.suffix != ".xml":
        return False
    text = target.file.read_text(errors="replace")
    body = text[text.index("?>") + 2 :] if text.lstrip().startswith("<?xml") else text
    secret = target.outside / "secret.txt"
    head = target.chance.choice(
        (
            f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]>',
            f'<!DOCTYPE a SYSTEM "file://{secret}">',
            f'<!DOCTYPE a [<!ENTITY % x SYSTEM "file://{secret}"> %x;]>',
        )
    )
    return _put(target, (head + re.sub(r">([^<>]+)<", ">&x;<", body, count=3)).encode())


def outside_data(target: Target) -> bool:
    """HDF5 whose numbers lie in a file outside, by a link and as its own storage."""
    if target.suffix not in (".h5", ".hdf5", ".mat"):
        return False
    try:
        with h5py.File(target.file) as file:
            names = [*file]
    except OSError:
        names = ["images", "depths", "x"]
    secret = target.outside / "secret.h5"
    with h5py.File(target.file, "w") as file:
        for number, name in enumerate(names):
            if number % 2:
                file.create_dataset(name, (4,), "u1", external=[(str(target.outside / "secret.txt"), 0, 4)])
            else:
                file[name] = h5py.ExternalLink(str(secret), "/x")
    return True


def archive_out(target: Target) -> bool:
    """An archive whose members climb out, begin at the top, or are links and devices."""
    names = ("../flag", str(target.outside / "flag"), "a/../../flag", "..\\flag", "000000.json", "000000.jpg")
    file = io.BytesIO()
    if target.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        return _put(target, file.getvalue())
    if target.suffix != ".tar":
        return False
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"{}"))
        for name, kind, goal in (
            ("000001.json", tarfile.SYMTYPE, str(target.outside / "secret.txt")),
            ("000001.jpg", tarfile.LNKTYPE, "../outside/secret.png"),
            ("000002.jpg", tarfile.CHRTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, goal
            tar.addfile(member)
    return _put(target, file.getvalue())


def pipe(target: Target) -> bool:
    """A pipe, which blocks whoever opens it."""
    target.file.unlink()
    os.mkfifo(target.file)
    return True


def device(target: Target) -> bool:
    """A device that never ends, or a link to one."""
    target.file.unlink()
    if target.chance.random() < 0.5:
        with contextlib.suppress(OSError):
            os.mknod(target.file, 0o20666, os.makedev(1, 5))
            return True
    target.file.symlink_to("/dev/zero")
    return True


# What takes all memory or time.


def xml_bomb(target: Target) -> bool:
    """Entities that stand for ten of the next, or one very long one that stands often."""
    if target.suffix != ".xml":
        return False
    if target.chance.random() < 0.5:
        rows = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
        return _put(target, f'<!DOCTYPE a [<!ENTITY a0 "lol">{rows}]><annotation>&a11;</annotation>'.encode())
    text = f'<!DOCTYPE a [<!ENTITY b "{"x" * 60_000}">]><annotation>{"&b;" * 60_000}</annotation>'
    return _put(target, text.encode())


def nested(target: Target) -> bool:
    """Lists, mappings or elements in one another, a hundred thousand deep."""
    if target.suffix == ".xml":
        return _put(target, b"<a>" * DEEP + b"</a>" * DEEP)
    if target.suffix in (".json", ".jsonl", ".yaml", ".yml", ".odgt", ".txt", ".csv"):
        return _put(
            target, target.chance.choice((b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP))
        )
    return False


def endless_line(target: Target) -> bool:
    """A line without an end, or a picture of a terabyte, that takes no room on the disk."""
    with target.file.open("ab") as file:
        file.truncate(TERABYTE if target.suffix in PICTURES else LARGE)
    return True


@cache
def _blanks(window: int) -> bytes:
    """Return LARGE blanks as zlib or, with a window of 31, gzip packs them."""
    packer = zlib.compressobj(1, zlib.DEFLATED, window)
    block = b" " * (1 << 24)
    return b"".join(packer.compress(block) for _ in range(LARGE // len(block))) + packer.flush()


def zipped(target: Target) -> bool:
    """Files that become a thousand times as large when they are unpacked."""
    if target.suffix not in (".gz", ".npz", ".zip", ".mat", ".png", ".json"):
        return False
    data = _blanks(31 if target.suffix in (".gz", ".json") else 15)
    if target.suffix == ".png":
        head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0))
        return _put(
            target, b"\x89PNG\r\n\x1a\n" + head + _chunk(b"zTXt", b"a\0\0" + data) + _chunk(b"IDAT", data)
        )
    if target.suffix == ".mat":
        head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
        return _put(target, head + struct.pack("<II", 15, len(data)) + data)
    if target.suffix in (".npz", ".zip"):
        with zipfile.ZipFile(target.file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("arr_0.npy", b"\0" * LARGE)
        return True
    return _put(target, data)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_shape(target: Target) -> bool:
    """A picture, an array or a table that promises more than any memory holds."""
    chance, side = target.chance, target.chance.choice((60_000, 2**31 - 1))
    match target.suffix:
        case ".png":
            head = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
            return _put(
                target,
                b"\x89PNG\r\n\x1a\n"
                + head
                + _chunk(b"IDAT", zlib.compress(b"\0" * 99))
                + _chunk(b"IEND", b""),
            )
        case ".jpg" | ".jpeg":
            data = bytearray(target.file.read_bytes())
            place = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
            if place < 0:
                return False
            data[place + 5 : place + 9] = b"\xff\xff\xff\xff"
            return _put(target, bytes(data))
        case ".bmp":
            return _put(
                target,
                b"BM"
                + struct.pack("<IHHI", 54, 0, 0, 54)
                + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0),
            )
        case ".npy":
            stated = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({side}, {side}), }}".ljust(117)
            begin = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
            return _put(target, begin + f"{stated}\n".encode() + b"\0" * 99)
        case ".h5" | ".hdf5":
            with h5py.File(target.file, "r+") as file:
                for name in [*file]:
                    if isinstance(file[name], h5py.Dataset):
                        del file[name]
                        file.create_dataset(
                            name, (60_000, 60_000, 3), "u1", chunks=(1, 60_000, 3), compression="gzip"
                        )
            return True
        case ".parquet":
            table = pq.ParquetFile(target.file).read(use_threads=False)
            name = chance.choice(table.column_names)
            long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int8)), ["x" * 2000])
            pq.write_table(
                pa.table({one: long if one == name else pa.nulls(20_000) for one in table.column_names}),
                target.file,
            )
            return True
    return False


def long_field(target: Target) -> bool:
    """A cell of more than a line may have."""
    if target.suffix not in (".csv", ".tsv", ".txt"):
        return False
    lines = target.file.read_bytes().splitlines(keepends=True)
    lines.insert(len(lines) // 2, b'a,"' + b"x" * min(LARGE, 100_000_000) + b'",1\n')
    return _put(target, b"".join(lines))


# What is no text, or no number.


def null_bytes(target: Target) -> bool:
    """Bytes that no text has, in the middle."""
    data = target.file.read_bytes()
    place = target.chance.randrange(len(data) + 1)
    piece = target.chance.choice((b"\0", b"\0" * 5000, b"\xff\xfe\xfd", b"\xed\xa0\x80", b"\xc3\x28"))
    return _put(target, data[:place] + piece + data[place:])


def byte_order_mark(target: Target) -> bool:
    """A mark of UTF-8 before everything, or another encoding than was said."""
    data = target.file.read_bytes()
    if target.chance.random() < 0.5:
        return _put(target, b"\xef\xbb\xbf" + data)
    return _put(target, data.decode("utf-8", "replace").encode(target.chance.choice(("utf-16", "utf-32"))))


def huge_number(target: Target) -> bool:
    """Numbers of five thousand digits, beyond every float, or none at all."""
    if target.suffix in PICTURES:
        return False
    strange = target.chance.choice(
        (b"9" * 5000, b"1e400", b"-1e400", b"NaN", b"1" * 400, b"-9223372036854775809", b"Infinity")
    )
    data = target.file.read_bytes()
    found = [*re.finditer(rb"(?<![\w.])-?\d+(\.\d+)?(?![\w.])", data[:500_000])]
    if not found:
        return False
    for match in reversed(target.chance.sample(found, min(len(found), 3)) if len(found) > 3 else found):
        if data[match.start() : match.end()] == match[0]:
            data = data[: match.start()] + strange + data[match.end() :]
            break
    return _put(target, data)


def odd_name(target: Target) -> bool:
    """A file called what no terminal shows as it is."""
    name = target.chance.choice(("a\nb", "\u202egnp.a", "x" * 240, "-rf", "a\x1b[31mb", "\udcff"))
    target.file.rename(target.file.with_name(f"{name}{target.file.suffix}"))
    return True


def _texts(target: Target, change: Callable[[str], str]) -> bool:
    """Change every text of a JSON file, or every cell of a table or a text file."""
    data = target.file.read_bytes()
    if target.suffix in PICTURES:
        return False
    try:
        return _put(target, json.dumps(_tree(json.loads(data), change)).encode())
    except (ValueError, RecursionError):
        pass
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    if target.suffix in (".jsonl", ".odgt", ".ndjson"):
        with contextlib.suppress(ValueError):
            lines = [json.dumps(_tree(json.loads(line), change)) for line in text.splitlines()]
            return _put(target, "\n".join(lines).encode())
    if target.suffix == ".xml":
        escaped = re.sub(r">([^<>\s][^<>]*)<", lambda found: f">{_escaped(change(found[1]))}<", text)
        return _put(target, escaped.encode())
    if target.suffix == ".csv":
        with contextlib.suppress(csv.Error):
            rows = [[change(cell) for cell in row] for row in csv.reader(io.StringIO(text))]
            file = io.StringIO()
            csv.writer(file).writerows([next(csv.reader(io.StringIO(text))), *rows[1:]])
            return _put(target, file.getvalue().encode())
    return _put(target, re.sub(r"[^\s,;|]*[A-Za-z][^\s,;|]*", lambda found: change(found[0]), text).encode())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _tree(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _tree(part, change) for key, part in value.items()}
    if isinstance(value, list):
        return [_tree(part, change) for part in value]
    return change(value) if isinstance(value, str) else value


ATTACKS: tuple[Attack, ...] = (
    Attack("a pickle with a call", pickled_call),
    Attack("an array of objects", array_of_objects),
    Attack("a pickled type", pickled_type),
    Attack("YAML with a call", yaml_call),
    Attack("PostScript", postscript),
    Attack("markup", script, renames=True),
    Attack("a link out", link_out),
    Attack("a folder's link out", folder_link_out),
    Attack("a path out", path_out, renames=True),
    Attack("an external entity", xml_entity),
    Attack("data outside", outside_data),
    Attack("members out", archive_out),
    Attack("a pipe", pipe),
    Attack("a device", device),
    Attack("an XML bomb", xml_bomb),
    Attack("deep nesting", nested),
    Attack("an endless line", endless_line, slow=True),
    Attack("a zipped bomb", zipped, slow=True),
    Attack("a huge shape", huge_shape),
    Attack("an endless cell", long_field, slow=True),
    Attack("bytes that are no text", null_bytes),
    Attack("a byte order mark", byte_order_mark),
    Attack("a huge number", huge_number, renames=True),
    Attack("an odd name", odd_name, renames=True),
)
