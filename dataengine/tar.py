"""Deterministic USTAR: fixed metadata, so that the same members give the same bytes on any host at any time."""

from __future__ import annotations

from dataengine.errors import ShardError

BLOCK = 512
_MODE_AND_OWNER = b"0000644\0" + b"0000000\0" * 2
_END = b"\0" * (2 * BLOCK)
# '0' is a regular file; then come link name, magic and version, owner and group, device, prefix and padding.
_REST = b"0" + b"\0" * 100 + b"ustar\00000" + b"\0" * 64 + b"0000000\0" * 2 + b"\0" * 155 + b"\0" * 12


def header(name: str, size: int) -> bytes:
    """Return the 512-byte header of a regular file (POSIX.1-1988 ustar). Names have at most 100 ASCII characters."""
    encoded = name.encode("ascii", "strict")
    if len(encoded) > 100 or size >= 8**11:
        raise ShardError(
            f"{name}: name or size ({size} bytes) does not fit a tar header; shorten the spec's ids"
        )
    fields = encoded.ljust(100, b"\0") + _MODE_AND_OWNER + b"%011o\0" % size + b"00000000000\0"
    checksum = sum(fields) + 8 * ord(" ") + sum(_REST)  # its own field counts as blanks
    return fields + b"%06o\0 " % checksum + _REST


def padding(size: int) -> bytes:
    """Return the zeros that fill a member's last block."""
    return b"\0" * (-size % BLOCK)


def end() -> bytes:
    """Return the two empty blocks that close an archive."""
    return _END
