"""Samples to train on held against evaluation sets: by public id, by bytes, by pixels, by look and by words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np

from dataengine.errors import Quarantine, ShardError
from dataengine.leaks.evalset import EvalSet, Row
from dataengine.leaks.ids import Spaces
from dataengine.leaks.look import pixels_digest
from dataengine.leaks.parts import Look, Part, Progress, Statement, looks
from dataengine.leaks.texts import RUN_WORDS, Said, said
from dataengine.perceptual import NOBODY, WORD, Words, nearest

# The signs by which a leak can be seen, the surest first.
By = Literal["id", "bytes", "pixels", "near", "text"]
SIGNS: tuple[By, ...] = get_args(By)
_MOST_SHOWN = 80


class Leak(NamedTuple):
    """A picture or a sample to train on that an evaluation set has, and what shows it.

    `samples` are the ids of the samples that it costs.
    """

    rule: str
    key: str
    image: str
    set_name: str
    other: Row
    detail: str
    samples: list[str]


class Against:
    """Evaluation sets, by all that their rows are known by."""

    def __init__(self, sets: Iterable[EvalSet]) -> None:
        self.rows: list[tuple[str, Row]] = [(one.name, row) for one in sets for row in one.rows]
        self._ids: dict[str, list[int]] = {}
        self._digests: dict[int, list[int]] = {}
        self._coarse: dict[int, list[int]] = {}
        self._runs: dict[int, int] = {}
        for at, (_, row) in enumerate(self.rows):
            for one in row.ids:
                self._ids.setdefault(one, []).append(at)
            for run in row.runs:
                self._runs.setdefault(run, at)
            if row.digest:
                self._digests.setdefault(row.digest, []).append(at)
            if row.coarse and row.pixels:
                self._coarse.setdefault(row.coarse, []).append(at)
        self._printed = np.flatnonzero([row.low != 0 for _, row in self.rows]).astype(np.int64)
        self._words = _words([(self.rows[at][1].low, self.rows[at][1].high) for at in self._printed.tolist()])

    def by_id(self, ids: Iterable[str]) -> list[int]:
        """Return the rows that have one of some ids."""
        return [at for one in ids for at in self._ids.get(one, ())]

    def by_bytes(self, look: Look) -> list[int]:
        """Return the rows whose file has the same bytes."""
        return self._digests.get(look.digest, []) if look.digest else []

    def by_pixels(self, look: Look, read: Callable[[], bytes]) -> list[int]:
        """Return the rows of the same pixels; a picture is decoded only where its small copy is one of theirs."""
        near = self._coarse.get(look.coarse, []) if look.coarse else []
        if not near:
            return []
        try:
            exact = pixels_digest(read())
        except (OSError, Quarantine, ShardError):
            return []  # gone since it was looked at
        return [at for at in near if self.rows[at][1].pixels == exact]

    def by_look(self, seen: list[Look]) -> list[tuple[int, int] | None]:
        """Return for each picture the nearest row and how many bits differ, None where none is near."""
        found: list[tuple[int, int] | None] = [None] * len(seen)
        printed = [number for number, look in enumerate(seen) if look.low]
        near = nearest(_words([(seen[number].low, seen[number].high) for number in printed]), self._words)
        for number, place, bits in zip(printed, near.place.tolist(), near.bits.tolist(), strict=True):
            if place != NOBODY:
                found[number] = int(self._printed[place]), bits
        return found

    def by_words(self, text: Said) -> int | None:
        """Return the first row that has a run of words of a text."""
        return next((self._runs[run] for run in text.runs if run in self._runs), None)


def _words(pairs: list[tuple[int, int]]) -> Words:
    return np.array(pairs, np.uint64).reshape(-1, 2)


def check(
    part: Part, against: Against, spaces: Spaces, signs: Iterable[By], workers: int, progress: Progress
) -> list[Leak]:
    """Return what leaks from evaluation sets into a split: its pictures first, then texts of its samples.

    Pictures are read only where bytes, pixels or look are among the signs.
    """
    signs = frozenset(signs)
    matched = _pictures(part, against, spaces, signs, workers, progress)
    shows: dict[str, list[str]] = {path: [] for path in matched}
    texts: list[Leak] = []
    for sample in part.statements():
        for path in sample.images:
            if path in shows:
                shows[path].append(sample.id)
        if "text" in signs:
            texts += _said_again(sample, against, matched)
    return [*_leaks_of_pictures(matched, shows, against), *texts]


class _Matched(NamedTuple):
    """How a picture is known to be one of an evaluation set, the rows that it is, and how many bits differ."""

    by: By
    rows: list[int]
    bits: int = 0


def _pictures(
    part: Part, against: Against, spaces: Spaces, signs: frozenset[By], workers: int, progress: Progress
) -> dict[str, _Matched]:
    found: dict[str, _Matched] = {}
    read = dict(part.pictures())
    if "id" in signs:
        for path in read:
            if rows := against.by_id(spaces.ids(part.dataset, path)):
                found[path] = _Matched("id", rows)
    if not signs & {"bytes", "pixels", "near"}:
        return found
    seen = looks(part, workers, progress, pixels=False)
    for path, look in seen.items():
        if path not in found and "bytes" in signs and (rows := against.by_bytes(look)):
            found[path] = _Matched("bytes", rows)
        if path not in found and "pixels" in signs and (rows := against.by_pixels(look, read[path])):
            found[path] = _Matched("pixels", rows)
    if "near" in signs:
        rest = [path for path in seen if path not in found]
        for path, near in zip(rest, against.by_look([seen[path] for path in rest]), strict=True):
            if near is not None:
                found[path] = _Matched("near", [near[0]], near[1])
    return {path: found[path] for path in read if path in found}


def _leaks_of_pictures(
    matched: dict[str, _Matched], shows: dict[str, list[str]], against: Against
) -> Iterator[Leak]:
    for path, one in matched.items():
        name, row = against.rows[one.rows[0]]
        others = {against.rows[at][0]: None for at in one.rows if against.rows[at][0] != name}
        what = {
            "id": f"is {row.ids[0] if row.ids else row.image}",
            "bytes": f"has the bytes of {row.image}",
            "pixels": f"has the pixels of {row.image}",
            "near": f"is {one.bits} of {2 * WORD} bits from {row.image}",
        }[one.by]
        also = f"; also in {', '.join(others)}" if others else ""
        yield Leak(
            rule="leak.near" if one.by == "near" else "leak.image",
            key="",
            image=path,
            set_name=name,
            other=row,
            detail=f"{path}: {what} of {name} ({row.source}){also}",
            samples=shows[path],
        )


def _said_again(sample: Statement, against: Against, matched: dict[str, _Matched]) -> Iterator[Leak]:
    """Yield what a sample says that an evaluation set says: of the same picture, or in so many words anywhere."""
    rows = [at for path in sample.images if path in matched for at in matched[path].rows]
    image = sample.images[0] if sample.images else ""
    questions = [said(text) for text in sample.asks]
    for text in questions:
        same = next((at for at in rows if text.whole in against.rows[at][1].questions), None)
        if same is not None:
            yield _told_leak(
                sample.id, image, against.rows[same], f"{_short(text)} is asked of the same picture"
            )
            return
    for text in (*questions, *map(said, sample.tells)):
        if (at := against.by_words(text)) is not None:
            what = (
                f"{_short(text)} shares {min(len(text.text.split()), RUN_WORDS)} words in a row with a text"
            )
            yield _told_leak(sample.id, image, against.rows[at], what)
            return


def _told_leak(sample_id: str, image: str, other: tuple[str, Row], what: str) -> Leak:
    name, row = other
    return Leak("leak.text", sample_id, image, name, row, f"{what} of {name} ({row.source})", [sample_id])


def _short(text: Said) -> str:
    line = " ".join(text.text.split())
    return repr(line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}…")
