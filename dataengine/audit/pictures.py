"""Pictures as files: each is decoded to its last row, once, however many subjects show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import xxhash

from dataengine.annotation import Measure
from dataengine.audit.gallery import Gallery
from dataengine.audit.paths import otherwise_named
from dataengine.audit.rule import Hit, PictureFacts
from dataengine.audit.state import Audit, Progress
from dataengine.audit.table import PICTURE_RULES
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import read
from dataengine.leaks.look import NO_PRINT, coarse_digest, pixels_digest, print_of
from dataengine.perceptual import Print
from dataengine.runners import run
from dataengine.spill import Kept, Rows, repeated


class Looked(msgspec.Struct, frozen=True, gc=False):
    """What is wrong with a picture whose numbers mean `measure`.

    `digest` is the xxh3-64 of its bytes, None where they could not be read; `coarse` is one that pictures of equal
    pixels share, 0 where there is nothing to compare. `low` and `high` are its perceptual hash, 0 where it has none.
    """

    found: list[tuple[str, Hit]]
    digest: int | None = None
    coarse: int = 0
    measure: Measure | None = None
    low: int = 0
    high: int = 0


# What is known of pictures by (root, path), which several subjects may show.
Pictures = Kept[tuple[str, str], Looked]


def check_picture(data: bytes, path: str, measure: Measure | None = None) -> Looked:
    """Decode a picture to its last row and return what is wrong with it."""
    facts = PictureFacts(path, data, measure)
    try:
        found = [(rule_id, hit) for rule_id, check in PICTURE_RULES for hit in check(facts)]
        # Numbers that measure something make no picture to know again.
        print_ = print_of(data, facts.header, facts.small) if measure is None else NO_PRINT
        return Looked(found, xxhash.xxh3_64_intdigest(data), _coarse(facts), measure, *print_)
    except Quarantine as error:
        found = [(error.reason, Hit(f"{path}: {error.detail}"))]
        return Looked(found, xxhash.xxh3_64_intdigest(data), measure=measure)


def _coarse(facts: PictureFacts) -> int:
    """Return a digest of the small copy, that of two different pictures now and then; 0 for one colour alone."""
    return coarse_digest(facts.small, facts.header) if facts.spread else 0


def duplicates(coarse: Rows, pixels: Callable[[int], bytes | None]) -> Iterator[tuple[int, int]]:
    """Yield (place, first place) of every picture that has the pixels of an earlier one.

    `coarse` are rows of the digest of a small copy, 0 for none, and a place; `pixels` gives the digest of all pixels
    at a place, None where it cannot, and is asked only where the small copies agree.
    """
    found = Rows(2)
    for table in coarse.groups():
        first: dict[tuple[int, bytes], int] = {}
        for digest, place in repeated(table).tolist():
            exact = pixels(place) if digest else None
            if exact is not None and (earlier := first.setdefault((digest, exact), place)) != place:
                found.add((place, earlier))
    for table in found.groups():
        yield from map(tuple, table.tolist())


def check_file(root_dir: str, one: tuple[str, Measure | None]) -> tuple[str, Looked]:
    """Return the path of a picture below the root, and what is wrong with it."""
    path, measure = one
    root = Root(Path(root_dir))
    try:
        data = read(root.inside(path))
    except Quarantine as error:
        return path, Looked([(error.reason, Hit(f"{path}: {error.detail}"))], measure=measure)
    except OSError as error:
        missing = ("image.missing", Hit(f"{path}: {error.strerror}"))
        other = otherwise_named(root, path)
        return path, Looked([missing, other] if other is not None else [missing], measure=measure)
    return path, check_picture(data, path, measure)


def check_pictures(
    state: Audit,
    root: str,
    pictures: Kept[str, Measure | None],
    workers: int,
    progress: Progress,
    known: Pictures,
    gallery: Gallery | None = None,
) -> None:
    """Look at pictures of a root, by path; those that were looked at before are in `known`.

    All go into the gallery, where there is one, under the source that was opened last.
    """
    unseen = (
        (path, measure)
        for path, measure in pictures.items()
        if (looked := known.get((root, path))) is None or looked.measure != measure
    )
    for path, looked in run(partial(check_file, root), unseen, runner="local", workers=workers):
        known[root, path] = looked
        progress(1, "")
    coarse = Rows(2)
    for number, path in enumerate(pictures):
        looked = known[root, path]
        state.picture(path, looked.found)
        coarse.add((looked.coarse, number))
        if gallery is not None:
            gallery.add(root, path, looked.digest or 0, Print(looked.low, looked.high))
    files = Root(Path(root))
    for place, earlier in duplicates(coarse, lambda place: _pixels(files, pictures.key(place))):
        path, other = pictures.key(place), pictures.key(earlier)
        state.add(
            "image.duplicate_exact",
            Hit(f"{path}: has the pixels of {other}"),
            place="picture",
            image=path,
            other_image=other,
        )
        if gallery is not None:
            gallery.copy(root, path)


def _pixels(files: Root, path: str) -> bytes | None:
    try:
        return pixels_digest(read(files.inside(path)))
    except (OSError, Quarantine):
        return None  # gone since it was looked at
