"""What writers of JSON do that JSON does not know: a byte order mark, and NaN."""

from __future__ import annotations

import json

import msgspec

BOM = b"\xef\xbb\xbf"


def without_nan(text: bytes) -> bytes | None:
    """Return a JSON document with null for NaN and Infinity, which Python writes; None where it holds neither.

    A record that holds one is then wrong by itself, and costs no other. None as well where the text is no JSON for
    another reason.
    """
    if not any(word in text for word in (b"NaN", b"Infinity")):
        return None
    found: list[str] = []
    try:
        value = json.loads(text, parse_constant=found.append)
        return msgspec.json.encode(value) if found else None
    except (ValueError, RecursionError):
        return None
