"""Pictures as files: each is decoded to its last row, once, however many subjects show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from dataengine.annotation import Measure
from dataengine.audit.rule import Hit, PictureFacts
from dataengine.audit.state import Audit, Progress
from dataengine.audit.table import PICTURE_RULES
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import decode
from dataengine.runners import run


class Looked(msgspec.Struct, frozen=True, gc=False):
    """What is wrong with a picture, and a digest that equal pictures share; 0 where there is nothing to compare."""

    found: list[tuple[str, Hit]]
    digest: int = 0


# By root, path, and what the numbers mean.
Pictures = dict[tuple[str, str, Measure | None], Looked]


def check_picture(data: bytes, path: str, measure: Measure | None = None) -> Looked:
    """Decode a picture to its last row and return what is wrong with it."""
    facts = PictureFacts(path, data, measure)
    try:
        found = [(rule_id, hit) for rule_id, check in PICTURE_RULES for hit in check(facts)]
        return Looked(found, _digest(facts))
    except Quarantine as error:
        return Looked([(error.reason, Hit(f"{path}: {error.detail}"))])


def _digest(facts: PictureFacts) -> int:
    """Return a digest of the small copy, that of two different pictures now and then; 0 for one colour alone."""
    if not facts.spread:
        return 0
    seed = facts.header.width << 32 | facts.header.height
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(facts.small).data, seed=seed)


def pixels_digest(data: bytes) -> bytes:
    """Return a digest of all pixels of a picture, as they are to be seen."""
    pixels = decode(data)
    return xxhash.xxh3_128_digest(
        pixels.data if pixels.flags.c_contiguous else pixels.tobytes(), pixels.shape[1]
    )


def duplicates(digests: np.ndarray, pixels: Callable[[int], bytes | None]) -> list[tuple[int, int]]:
    """Return (place, first place) of every picture that has the pixels of an earlier one.

    `digests` are those of the small copies, one a place; `pixels` gives the digest of all pixels at a place, None where
    it cannot, and is asked only where the small copies agree.
    """
    order = np.argsort(digests, kind="stable")
    ranked = digests[order]
    again = np.flatnonzero((ranked[1:] == ranked[:-1]) & (ranked[1:] != 0)) + 1
    places = np.union1d(again, again - 1)
    first: dict[tuple[int, bytes], int] = {}
    found = []
    for place in sorted(int(order[number]) for number in places):
        exact = pixels(place)
        if exact is not None and (earlier := first.setdefault((int(digests[place]), exact), place)) != place:
            found.append((place, earlier))
    return found


def _check_file(root_dir: str, one: tuple[str, Measure | None]) -> tuple[tuple[str, Measure | None], Looked]:
    path, measure = one
    try:
        return one, check_picture(Root(Path(root_dir)).inside(path).read_bytes(), path, measure)
    except Quarantine as error:
        return one, Looked([(error.reason, Hit(f"{path}: {error.detail}"))])
    except OSError as error:
        return one, Looked([("image.missing", Hit(f"{path}: {error.strerror}"))])


def check_pictures(
    state: Audit,
    root: str,
    pictures: Mapping[str, Measure | None],
    workers: int,
    progress: Progress,
    known: Pictures,
) -> None:
    """Look at pictures of a root, by path; those that were looked at before are in `known`."""
    unseen = [one for one in pictures.items() if (root, *one) not in known]
    for (path, measure), looked in run(partial(_check_file, root), unseen, runner="local", workers=workers):
        known[root, path, measure] = looked
        progress(1, "")
    digests = np.zeros(len(pictures), np.uint64)
    for number, (path, measure) in enumerate(pictures.items()):
        looked = known[root, path, measure]
        state.picture(path, looked.found)
        digests[number] = looked.digest
    paths = list(pictures)
    files = Root(Path(root))
    for place, earlier in duplicates(digests, lambda place: _pixels(files, paths[place])):
        state.add(
            "image.duplicate_exact",
            Hit(f"{paths[place]}: has the pixels of {paths[earlier]}"),
            image=paths[place],
        )


def _pixels(files: Root, path: str) -> bytes | None:
    try:
        return pixels_digest(files.inside(path).read_bytes())
    except (OSError, Quarantine):
        return None  # gone since it was looked at
