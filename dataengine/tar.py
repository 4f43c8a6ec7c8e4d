"""Tars: ours are written as USTAR with fixed metadata, so that the same members give the same bytes on any host at any
time; the headers of anybody's are read."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dataengine.errors import ShardError

BLOCK = 512
_MODE_AND_OWNER = b"0000644\0" + b"0000000\0" * 2
_END = b"\0" * (2 * BLOCK)
# '0' is a regular file; then come link name, magic and version, owner and group, device, prefix and padding.
_REST = b"0" + b"\0" * 100 + b"ustar\00000" + b"\0" * 64 + b"0000000\0" * 2 + b"\0" * 155 + b"\0" * 12
_TIME = b"\0" + b"00000000000\0"
# What adds up to the checksum in every header; its own field counts as blanks.
_SUM = sum(_MODE_AND_OWNER) + sum(_TIME) + 8 * ord(" ") + sum(_REST)


def header(name: str, size: int) -> bytes:
    """Return the 512-byte header of a regular file (POSIX.1-1988 ustar). Names have at most 100 ASCII characters."""
    encoded = name.encode("ascii", "strict")
    if len(encoded) > 100 or size >= 8**11:
        raise ShardError(
            f"{name}: name or size ({size} bytes) does not fit a tar header; shorten the spec's ids"
        )
    length = b"%011o" % size
    checksum = _SUM + sum(encoded) + sum(length)
    return b"".join((encoded.ljust(100, b"\0"), _MODE_AND_OWNER, length, _TIME, b"%06o\0 " % checksum, _REST))


def padding(size: int) -> bytes:
    """Return the zeros that fill a member's last block."""
    return b"\0" * (-size % BLOCK)


def end() -> bytes:
    """Return the two empty blocks that close an archive."""
    return _END


class Member(NamedTuple):
    """A file in an archive: its name, where its (first) header and its bytes begin, and how many it has."""

    name: str
    header: int
    start: int
    size: int


class Fault(NamedTuple):
    """What is wrong at an offset of an archive, or is there and is no plain file."""

    offset: int
    says: str


class _Extended(NamedTuple):
    """What extended headers say of the member that follows them, and where the first of them begins."""

    start: int
    name: str | None = None
    size: int | None = None
    sparse: bool = False


def walk(path: Path) -> tuple[list[Member], list[Fault]]:
    """Return the files of a tar in order, and every fault, from its headers alone.

    Reads ustar, PAX, GNU and the headers of 1979 (v7). Behind a damaged header it goes on at the next whole one of
    ustar. A file that ends early, is sparse or has a name that is not UTF-8 is a fault and no member. Raises ShardError
    where the archive cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ShardError(f"{path}: {error.strerror}") from error
    try:
        return _walk(partial(os.pread, descriptor), os.fstat(descriptor).st_size)
    except OSError as error:
        raise ShardError(f"{path}: {error.strerror}") from error
    finally:
        os.close(descriptor)


_Read = Callable[[int, int], bytes]
_SMALL, _WINDOW = (
    1 << 12,
    1 << 13,
)  # members up to the one are read with those that follow, so many bytes at once
_LONGEST = 1 << 20  # of extended headers so much is looked at
_FILES = (b"0", b"\0", b"7")
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
_EMPTY_KINDS = {b"1": "hard link", b"2": "link", b"3": "device", b"4": "device", b"5": "folder", b"6": "pipe"}


def _packer(block: bytes) -> str | None:
    """Return what compressed a file that begins so; None where nothing known did."""
    return next((name for magic, name in _MAGIC.items() if block.startswith(magic)), None)


def _walk(read: _Read, total: int) -> tuple[list[Member], list[Fault]]:
    members: list[Member] = []
    faults: list[Fault] = []
    extended: _Extended | None = None
    window, base, offset, size = b"", 0, 0, 0
    while True:
        if not 0 <= offset - base <= len(window) - BLOCK:
            window, base = read(_WINDOW if size <= _SMALL else BLOCK, offset), offset
        block = window[offset - base : offset - base + BLOCK]
        if offset == 0 and (packer := _packer(block)) and not _is_whole(block):
            return [], [
                Fault(0, f"is compressed by {packer}; unpack it, no sample in it can be read by itself")
            ]
        if len(block) < BLOCK or not block.strip(b"\0"):
            faults += _ending(read, offset, total, len(block))
            return members, faults
        if not _is_whole(block):
            found = _next_header(read, offset + BLOCK, total)
            faults.append(Fault(offset, f"header is damaged; {found - offset} bytes are skipped"))
            offset, extended = found, None
            continue
        kind, size = block[156:157], _number(block[124:136])
        if kind in b"xgLK":
            extended = _extension(kind, read(min(size, _LONGEST), offset + BLOCK), extended, offset)
            offset += BLOCK + size + -size % BLOCK
            continue
        if extended is not None and extended.size is not None:
            size = extended.size
        begin, start = offset if extended is None else extended.start, offset + BLOCK
        name = _name(block) if extended is None or extended.name is None else extended.name
        offset = start + (0 if kind in _EMPTY_KINDS else size + -size % BLOCK)
        if start + size > total and kind not in _EMPTY_KINDS:
            cut = f"{name!r} ends early: {total - start} of {size} bytes are there"
            return members, [*faults, Fault(begin, f"{cut}; the archive is cut off")]
        wrong = _wrong(kind, name, block, extended)
        if wrong is None:
            members.append(Member(name, begin, start, size))
        elif wrong:
            faults.append(Fault(begin, f"{name!r} {wrong}"))
        if kind == b"S":
            offset = _after_sparse(read, start, block, size)
        extended = None


def _wrong(kind: bytes, name: str, block: bytes, extended: _Extended | None) -> str | None:
    """Say why a member is no plain file: None for one, empty for a folder, which nobody misses."""
    if kind in _FILES and name.endswith("/"):
        return ""  # a folder of 1979
    if kind == b"S" or (extended is not None and extended.sparse):
        return "is sparse: its bytes do not stand in one piece; write it anew"
    if kind not in _FILES:
        known = _EMPTY_KINDS.get(kind)
        return "" if known == "folder" else f"is a {known or f'member of kind {kind!r}'}, no file"
    if not name.isascii() and not _is_utf8(name):
        return "has a name that is not UTF-8"
    return None


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _is_whole(block: bytes) -> bool:
    """Say whether a header's checksum is right: the sum of its bytes, its own field as blanks.

    Adler-32 holds one more than the sum of all bytes modulo 65521, and costs a tenth of adding them up. Some old
    programs added the bytes as signed numbers.
    """
    field = block[148:156]
    try:
        stored = int(field.strip(b"\0 "), 8)
    except ValueError:
        return False
    rest = stored - 8 * ord(" ") + sum(field)
    if (zlib.adler32(block) & 0xFFFF) == (rest + 1) % 65521:
        return True
    return sum(byte - 256 if byte > 127 else byte for byte in block) == rest


def _number(field: bytes) -> int:
    """Return a number of a header: octal digits, or, marked by the first bit, a binary one (GNU)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        return 0


def _name(block: bytes) -> str:
    name = block[:100].partition(b"\0")[0]
    # GNU's own headers, whose magic ends otherwise, have times where ustar has the folder.
    if block[345] and block[257:263] == b"ustar\0":
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    return name.decode(errors="surrogateescape")


def _extension(kind: bytes, data: bytes, before: _Extended | None, offset: int) -> _Extended:
    """Return what extended headers say so far: GNU's long name, or PAX records (POSIX.1-2001, pax)."""
    known = before or _Extended(offset)
    if kind == b"L":
        return known._replace(name=data.partition(b"\0")[0].decode(errors="surrogateescape"))
    if kind != b"x":
        return known  # long targets of links, and records for all members, say nothing that is needed here
    records: dict[bytes, bytes] = {}
    while data[:1].isdigit():
        length = data.partition(b" ")[0]
        if not length.isdigit() or not 0 < int(length) <= len(data):
            break
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        records[key] = value
        data = data[int(length) :]
    if b"path" in records:
        known = known._replace(name=records[b"path"].decode(errors="surrogateescape"))
    if records.get(b"size", b"").isdigit():
        known = known._replace(size=int(records[b"size"]))
    return known._replace(sparse=known.sparse or any(key.startswith(b"GNU.sparse") for key in records))


def _after_sparse(read: _Read, start: int, block: bytes, size: int) -> int:
    """Return where the member after a sparse one begins: more of its map may stand before its bytes (GNU)."""
    more = block[482]
    while more:
        more = (read(BLOCK, start) or bytes(BLOCK))[504:505] != b"\0"
        start += BLOCK
    return start + size + -size % BLOCK


def _ending(read: _Read, offset: int, total: int, length: int) -> list[Fault]:
    """Return what is wrong with the end of an archive, whose first empty block stands at an offset."""
    if length < BLOCK:
        return [Fault(offset, "has no end mark (two empty blocks); it may be cut off")]
    place = offset
    while data := read(1 << 20, place):
        if data.strip(b"\0"):
            where = place + len(data) - len(data.lstrip(b"\0"))
            return [Fault(where, f"{total - where} bytes follow the end mark; nothing reads them")]
        place += len(data)
    return [] if total - offset >= 2 * BLOCK else [Fault(offset, "ends after one empty block, expected two")]


def _next_header(read: _Read, offset: int, total: int) -> int:
    """Return where the next whole ustar header stands, or the end of the archive."""
    while data := read(1 << 20, offset):
        place = data.find(b"ustar", 257)
        while place >= 0:
            begin = place - 257
            if begin % BLOCK == 0 and len(data) >= begin + BLOCK and _is_whole(data[begin : begin + BLOCK]):
                return offset + begin
            place = data.find(b"ustar", place + 1)
        offset += len(data) - len(data) % BLOCK or BLOCK
    return total
