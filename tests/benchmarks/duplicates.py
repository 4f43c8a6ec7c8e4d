"""How near pictures are found: `python tests/benchmarks/duplicates.py copies FOLDER`, `… growth [--most 1e6]`.

`copies` changes every picture of a folder in ways that copies are changed, and says how many are found as near, and how
many pairs of different pictures are. `growth` searches random hashes with planted near pairs, ten times as many in each
turn, and says how time grows and how many planted pairs are found.
"""

# mypy: disable-error-code="no-any-return, unused-ignore"
from __future__ import annotations

import argparse
import io
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from dataengine.errors import Quarantine
from dataengine.images import decode
from dataengine.leaks.look import NO_PRINT, look
from dataengine.perceptual import NEAR_ALL, NEAR_LOW, WORD, Print, Words, groups

SIDES = (128, 4000)
CLUSTER = 20_000


def changed(picture: Image.Image, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield copies of a picture, each by what was done to it."""
    width, height = picture.size
    for quality in (90, 75, 50):
        yield f"JPEG, quality {quality}", _jpeg(picture, quality)
    yield "half the size", _jpeg(picture.resize((width // 2, height // 2), Image.Resampling.LANCZOS), 85)
    scale = 336 / max(width, height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    yield "longest side 336", _jpeg(picture.resize(size, Image.Resampling.BICUBIC), 85)
    yield "squeezed to 336 x 336", _jpeg(picture.resize((336, 336), Image.Resampling.BICUBIC), 85)
    sink = io.BytesIO()
    picture.save(sink, "PNG", compress_level=1)
    yield "PNG", sink.getvalue()
    yield "brighter by a fifth", _jpeg(ImageEnhance.Brightness(picture).enhance(1.2), 90)
    yield "darker by a fifth", _jpeg(ImageEnhance.Brightness(picture).enhance(0.8), 90)
    yield "grey", _jpeg(picture.convert("L"), 85)
    for share in (2, 5, 10):
        dx, dy = width * share // 100, height * share // 100
        x, y = rng.randint(0, dx), rng.randint(0, dy)
        yield f"{share} % cut off", _jpeg(picture.crop((x, y, width - dx + x, height - dy + y)), 90)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "JPEG", quality=quality)
    return sink.getvalue()


def copies(folder: Path) -> None:
    """Say how many copies are near, and how many different pictures."""
    rng = random.Random(0)
    originals: list[Print] = []
    homes: list[str] = []
    seen: set[int] = set()
    apart: dict[str, list[tuple[int, int]]] = {}
    flat = 0
    for path in sorted(one for one in folder.rglob("*") if one.suffix.lower() in (".jpg", ".jpeg", ".png")):
        data = path.read_bytes()
        try:
            picture = Image.fromarray(decode(data))
        except Quarantine:
            continue
        digest, _, print_ = look(data)
        if digest in seen or not SIDES[0] <= min(picture.size) <= max(picture.size) <= SIDES[1]:
            continue
        seen.add(digest)
        flat += print_ == NO_PRINT
        if print_ == NO_PRINT:
            continue
        originals.append(print_)
        homes.append(path.relative_to(folder).parts[0])
        for name, copy in changed(picture, rng):
            apart.setdefault(name, []).append(_bits(print_, look(copy)[2]))
    print(f"{len(originals)} pictures, {flat} more of hardly any structure")
    for name, bits in apart.items():
        near = sum(low <= NEAR_LOW and every <= NEAR_ALL for low, every in bits)
        lows = np.array([low for low, _ in bits])
        print(f"{name:24} near {near / len(bits):.1%}; bits of 64: median {np.median(lows):.0f},"
              f" 90 % within {np.percentile(lows, 90):.0f}; within 4, 6, 8, 10:"
              f" {[round(float((lows <= most).mean()), 3) for most in (4, 6, 8, 10)]}")  # fmt: skip
    words = np.array(originals, np.uint64)
    low = np.bitwise_count(words[:, None, 0] ^ words[None, :, 0])
    every = low + np.bitwise_count(words[:, None, 1] ^ words[None, :, 1])
    upper = np.triu(np.ones(low.shape, bool), 1)
    strangers = np.array(homes)[:, None] != np.array(homes)[None, :]
    for name, pairs in (("one folder", upper & ~strangers), ("two folders", upper & strangers)):
        of_low = {most: int((pairs & (low <= most)).sum()) for most in (4, 6, 8, 10, 12, 14)}
        of_all = {most: int((pairs & (low <= most) & (every <= NEAR_ALL)).sum()) for most in (8, 10, 12, 14)}
        print(
            f"pairs of files of {name}, of {int(pairs.sum())}: by bits of 64 {of_low}, and near by all 128 {of_all}"
        )
    for left, right in zip(*np.nonzero(upper & strangers & (low <= 12)), strict=True):
        print(f"  {homes[left]} {homes[right]}: {low[left, right]} of 64, {every[left, right]} of 128")


def _bits(one: Print, other: Print) -> tuple[int, int]:
    if other == NO_PRINT:
        return WORD, 2 * WORD
    low = (one.low ^ other.low).bit_count()
    return low, low + (one.high ^ other.high).bit_count()


def planted(count: int, rng: np.random.Generator) -> tuple[Words, Words]:
    """Return hashes, and (original, copy) of the planted pairs: one in a hundred, of up to 8 and 10 differing bits.

    CLUSTER of them differ in 12 bits alone: a crowd such as pictures of one camera that never moves.
    """
    words = rng.integers(0, 2**64, (count, 2), np.uint64)
    pairs = rng.permutation(count)[: 2 * (count // 100)].reshape(-1, 2)
    words[pairs[:, 1]] = words[pairs[:, 0]]
    for word, most in ((0, NEAR_LOW), (1, 10)):
        for _ in range(most):
            words[pairs[:, 1], word] ^= np.uint64(1) << rng.integers(0, 64, len(pairs), np.uint64)
    free = np.setdiff1d(np.arange(count), pairs)[: min(CLUSTER, count // 10)]
    words[free] = words[free[0]] ^ rng.integers(0, 1 << 12, (len(free), 1), np.uint64)
    return words, pairs.astype(np.uint64)


def growth(most: int) -> None:
    """Say how time grows with the number of hashes."""
    count, before = 10_000, 0.0
    while count <= most:
        words, pairs = planted(count, np.random.default_rng(0))
        began = time.process_time()
        made = groups(words)
        taken = time.process_time() - began
        left, right = pairs.T.astype(np.int64)
        found = float((made.first[left] == made.first[right]).mean())
        grew = f", {taken / before:.1f} times the last" if before else ""
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{count} hashes: {taken:.2f} s{grew}; planted pairs found {found:.4f}; peak {memory:.2f} GB",
            flush=True,
        )
        count, before = count * 10, taken


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("copies").add_argument("folder", type=Path)
    verbs.add_parser("growth").add_argument("--most", type=float, default=1e6)
    asked = parser.parse_args()
    if asked.verb == "copies":
        copies(asked.folder)
    else:
        growth(int(asked.most))


if __name__ == "__main__":
    main()
