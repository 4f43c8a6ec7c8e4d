"""What a picture's bytes tell that another copy of it tells, too."""

from __future__ import annotations

import numpy as np
import xxhash

from dataengine.errors import Quarantine
from dataengine.images import Pixels, Probe, decode, probe, survey, turned
from dataengine.perceptual import Print, fingerprint

# Pixels of a side: a picture of less is a thumbnail, and has no perceptual hash.
LEAST_SIDE = 64
# Samples of a side with which the hash is as good as that of the whole picture; one with fewer is decoded whole.
ENOUGH = 32
NO_PRINT = Print(0, 0)


def coarse_digest(small: Pixels, header: Probe) -> int:
    """Return a digest of a picture's small copy and size: pictures of the same pixels in one format share it."""
    seed = header.width << 32 | header.height
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(small).data, seed=seed)


def print_of(data: bytes, header: Probe, small: Pixels) -> Print:
    """Return the perceptual hash of a picture as it is to be seen, from its small copy; NO_PRINT where it has none.

    Raises Quarantine as `dataengine.images.decode` does.
    """
    if min(header.width, header.height) < LEAST_SIDE:
        return NO_PRINT
    seen = turned(small, header.orientation) if min(small.shape[:2]) >= ENOUGH else decode(data)
    return fingerprint(seen) or NO_PRINT


def pixels_digest(data: bytes) -> bytes:
    """Return a digest of all pixels of a picture, as they are to be seen. Raises Quarantine as `decode` does."""
    pixels = decode(data)
    return xxhash.xxh3_128_digest(
        pixels.data if pixels.flags.c_contiguous else pixels.tobytes(), pixels.shape[1]
    )


def look(data: bytes) -> tuple[int, int, Print]:
    """Return the xxh3-64 of a picture's bytes, its coarse digest and its perceptual hash.

    Both are none (0, NO_PRINT) for bytes that cannot be decoded.
    """
    digest = xxhash.xxh3_64_intdigest(data)
    try:
        header = probe(data)
        small = survey(data, header)[1]
        return digest, coarse_digest(small, header), print_of(data, header, small)
    except Quarantine:
        return digest, 0, NO_PRINT
