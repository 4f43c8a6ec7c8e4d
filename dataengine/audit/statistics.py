"""What the data of a subject is like: histograms whose room does not grow with the data, gathered as an audit goes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from dataengine.annotation import Turn
from dataengine.audit.block import Block
from dataengine.audit.plain import PASSED_OVER, Joined
from dataengine.audit.rule import SampleFacts
from dataengine.audit.said import languages
from dataengine.conventions import Numbers, numbers
from dataengine.sample import KeypointTargets
from dataengine.tokens import IMAGE

_SERIES = [factor * 10.0**power for power in range(7) for factor in (1, 2, 5)]


class Bins(NamedTuple):
    """Where bins begin; what lies below the first edge is bin 0. Of whole numbers, a bin ends with the last of them."""

    edges: tuple[float, ...]
    whole: bool = True

    def names(self, unit: float = 1) -> list[str]:
        """Return the name of each bin, its numbers divided by `unit`: `5`, `10–19`, `0.2–0.5`."""
        edges, last = self.edges, (1 if self.whole else 0)
        names = [f"< {edges[0] / unit:.4g}"]
        for low, high in pairwise(edges):
            first, end = f"{low / unit:.5g}", f"{(high - last) / unit:.5g}"
            names.append(first if first == end else f"{first}–{end}")
        return [*names, f"≥ {edges[-1] / unit:.5g}"]


LENGTHS = Bins((0.0, *(2.0**power for power in range(17))))
COUNTS = Bins((*map(float, range(10)), *(edge for edge in _SERIES if edge >= 10)))
SHARES = Bins((*(factor * 10.0**power for power in range(-7, 0) for factor in (1, 2, 5)), 1.0), whole=False)
RATIOS = Bins(
    (0.1, 0.125, 0.2, 1 / 3, 0.5, 0.6, 0.7, 0.8, 0.95, 1.05, 1.25, 1.43, 1.67, 2.0, 3.0, 5.0, 8.0, 10.0),
    whole=False,
)
SIDES = Bins((16.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0, 768.0, 1024.0, 1536.0, 2048.0, 3072.0,
              4096.0, 6144.0, 8192.0, 16384.0))  # fmt: skip
# What is counted one by one may have so many names; the rest counts as REST.
MOST_NAMES, REST = 1000, "others"
# So many numbers, tables of boxes, turns, or times some texts' lengths wait to be sorted into bins at once.
NUMBERS_AT_ONCE, TABLES_AT_ONCE, TURNS_AT_ONCE, LENGTHS_AT_ONCE = 2048, 8, 256, 8
# A text's script is that of most of the letters among so many of its first characters.
MOST_LETTERS = 256
VISIBILITIES = ("not labelled", "hidden", "visible", "none of 0, 1, 2")
# What is passed over in a text is a sign.
_SHOWN = "*"
_NOT_STATED = "not stated"
Counts = npt.NDArray[np.int64]
# Where the blocks of a script begin in Unicode; "" are signs, and what is none of these.
_BLOCKS = (
    (0x00, ""), (0x41, "Latin"), (0x5B, ""), (0x61, "Latin"), (0x7B, ""), (0xAA, "Latin"), (0x2B0, ""),
    (0x370, "Greek"), (0x400, "Cyrillic"), (0x530, "Armenian"), (0x590, "Hebrew"), (0x600, "Arabic"), (0x700, "other"),
    (0x750, "Arabic"), (0x780, "other"), (0x870, "Arabic"), (0x900, "Devanagari"), (0x980, "Bengali"),
    (0xA00, "Gurmukhi"), (0xA80, "Gujarati"), (0xB00, "other"), (0xB80, "Tamil"), (0xC00, "Telugu"), (0xC80, "Kannada"),
    (0xD00, "Malayalam"), (0xD80, "Sinhala"), (0xE00, "Thai"), (0xE80, "Lao"), (0xF00, "Tibetan"), (0x1000, "Burmese"),
    (0x10A0, "Georgian"), (0x1100, "Hangul"), (0x1200, "Ethiopic"), (0x13A0, "other"), (0x1780, "Khmer"),
    (0x1800, "Mongolian"), (0x18B0, "other"), (0x1E00, "Latin"), (0x1F00, "Greek"), (0x2000, ""), (0x3040, "Kana"),
    (0x3100, "other"), (0x3130, "Hangul"), (0x3190, ""), (0x31F0, "Kana"), (0x3200, ""), (0x3400, "Han"), (0x4DC0, ""),
    (0x4E00, "Han"), (0xA000, "other"), (0xAC00, "Hangul"), (0xD7B0, "other"), (0xD800, ""), (0xF900, "Han"),
    (0xFB00, "Latin"), (0xFB13, "Armenian"), (0xFB1D, "Hebrew"), (0xFB50, "Arabic"), (0xFE00, ""), (0xFE70, "Arabic"),
    (0xFEFF, ""), (0xFF21, "Latin"), (0xFF3B, ""), (0xFF41, "Latin"), (0xFF5B, ""), (0xFF66, "Kana"), (0xFFA0, "other"),
    (0x10000, "other"), (0x1F000, ""), (0x20000, "Han"), (0x32000, "other"), (0xE0000, ""),
)  # fmt: skip
# "" is that of texts without letters.
SCRIPTS = tuple(dict.fromkeys(script for _, script in _BLOCKS))
_LATIN = SCRIPTS.index("Latin")
_LETTER = re.compile("[A-Za-z]")
# The number of each character's script.
_SCRIPT_OF = np.repeat(
    np.array([SCRIPTS.index(script) for _, script in _BLOCKS], np.uint8),
    np.diff([start for start, _ in _BLOCKS], append=0x110000),
)


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """Histograms by name, [bins] each, and counts by name.

    Where the bins begin, BINS says; `size` is a map, [height][width] one row after another.
    """

    histograms: dict[str, list[int]] = {}
    counts: dict[str, dict[str, int]] = {}


BINS = {
    "size": SIDES,
    "aspect": RATIOS,
    "box.share": SHARES,
    "box.aspect": RATIOS,
    "boxes": COUNTS,
    "keypoints": COUNTS,
    "polygon.points": COUNTS,
    "polygons": COUNTS,
}


def merge(some: Iterable[Collected]) -> Collected:
    """Return those of several subjects, or parts of one, as if they had been gathered as one, in whatever order."""
    histograms: dict[str, Counts] = {}
    counts: dict[str, Counter[str]] = {}
    for one in some:
        for name, bins in one.histograms.items():
            histograms[name] = np.add(histograms.get(name, 0), bins)
        for name, named in one.counts.items():
            counts.setdefault(name, Counter()).update(named)
    return Collected(
        histograms={name: bins.tolist() for name, bins in sorted(histograms.items())},
        counts={name: most(named) for name, named in sorted(counts.items())},
    )


def most(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts in the order of their names, those of more than MOST_NAMES without the others, which are REST.

    Whose hash is least stays: a name that stays had to stay in every part, so that all of it was counted. Of the most
    frequent this does not hold: a part cannot tell which they will be.
    """
    names = [name for name in counts if name != REST]
    if len(names) > MOST_NAMES:
        names = nsmallest(MOST_NAMES, names, key=_rank)
    kept = {name: counts[name] for name in sorted(names)}
    rest = sum(counts.values()) - sum(kept.values())
    return {**kept, REST: rest} if rest else kept


def _rank(name: str) -> tuple[int, str]:
    return xxhash.xxh3_64_intdigest(name.encode(errors="surrogatepass")), name


def looked_at(joined: Joined) -> tuple[Counts, Counts]:
    """Return how many characters each text has [texts], and how many texts are of each script [SCRIPTS].

    A text's script is that of most letters among its first, "none" where there is none. What was passed over is one
    character, and no letter.
    """
    lengths, plain = _begun(joined) if joined.parted else (None, np.zeros(len(joined.texts), bool))
    others = [joined.texts[place] for place in np.flatnonzero(~plain).tolist()]
    if joined.passed_over:
        others = [text.replace(joined.passed_over, _SHOWN) for text in others]
    if lengths is None:
        lengths = np.fromiter(map(len, others), np.int64, len(others))
    found = _voted([text[:MOST_LETTERS] for text in others if not text.isascii()])
    found[0] += sum([text.isascii() and not _LETTER.search(text, 0, MOST_LETTERS) for text in others])
    found[_LATIN] += len(joined.texts) - found.sum()
    return lengths, found


def _begun(joined: Joined) -> tuple[Counts, npt.NDArray[np.bool_]]:
    """Return how many characters each text has, and whether it is of ASCII and begins with a letter: nearly all do."""
    first = joined.found[joined.first]
    lengths, plain = joined.num_bytes, _SCRIPT_OF[first] == _LATIN
    if joined.passed_over:
        plain &= first != ord(PASSED_OVER)
    if not joined.data.isascii():
        # Bytes that go on with a character begin with the bits 10.
        more = np.diff(np.cumsum((joined.found & 0xC0) == 0x80)[joined.borders])
        lengths, plain = lengths - more, plain & (more == 0)
    return lengths, plain


def _voted(texts: Sequence[str]) -> Counts:
    """Return how many texts are of each script [SCRIPTS]; of several with as many letters it is the first of them."""
    if not texts:
        return np.zeros(len(SCRIPTS), np.int64)
    sizes = np.fromiter(map(len, texts), np.intp, len(texts))
    points = np.frombuffer("".join(texts).encode("utf-32-le", errors="surrogatepass"), np.uint32)
    places = np.repeat(np.arange(len(texts)) * len(SCRIPTS), sizes) + _SCRIPT_OF[points]
    votes = np.bincount(places, minlength=len(texts) * len(SCRIPTS)).reshape(len(texts), -1)
    votes[:, 0] = 0  # signs
    return np.bincount(votes.argmax(axis=1), minlength=len(SCRIPTS))


def sorted_in(bins: Bins, values: Numbers | Counts) -> Counts:
    """Return how many values lie in each bin [edges + 1]; what is no number lies in none."""
    places = np.searchsorted(bins.edges, values[~np.isnan(values)], side="right")
    return np.bincount(places, minlength=len(bins.edges) + 1)


class Statistics:
    """Gathers what annotations and samples are like. Both may show the same facts, so annotations go before samples."""

    def __init__(self) -> None:
        self._read = _Marks()
        self._served = _Marks()
        self._texts = _Written()
        self._turns = _Turns()
        self._tasks: Counter[str] = Counter()

    def annotations(self, block: Block) -> None:
        """Look at some annotations."""
        self._read.add(block)
        if block.joined:
            for kind, joined in block.joined.items():
                self._texts.add(kind, joined)
            self._texts.stated({name or _NOT_STATED: num for name, num in languages(block).items()})

    def sample(self, facts: SampleFacts) -> None:
        """Look at one sample."""
        sample = facts.sample
        _count(self._tasks, [f"{sample.dataset}/{sample.task}"])
        self._served.add_sample(facts)
        self._turns.add(sample.conversation)

    def result(self) -> Collected:
        """Return what was gathered so far."""
        read, turns = self._read.result(), self._turns.result()
        tasks = Collected(counts={"task": self._tasks})
        if not self._read.num:
            return merge([self._served.result(), turns, tasks])
        # What samples say is written in the source's words.
        turns = Collected(histograms=turns.histograms)
        return merge([read, self._texts.result(), turns, tasks])


class _Marks:
    """Numbers of pictures and objects. They wait until there are enough to sort into bins at once."""

    def __init__(self) -> None:
        self.num = 0
        self._bins = {name: np.zeros(len(bins.edges) + 1, np.int64) for name, bins in BINS.items()}
        self._bins["size"] = np.zeros((len(SIDES.edges) + 1) ** 2, np.int64)
        self._visibilities = np.zeros(len(VISIBILITIES), np.int64)
        self._clear()

    def _clear(self) -> None:
        self._sizes: list[float] = []  # width, height
        self._rows: list[float] = []  # x0, y0, x1, y1, width, height
        self._tables: list[Numbers] = []  # of the same [n, 6]
        self._num_boxes: list[int] = []
        self._visible: list[int] = []
        self._num_keypoints: list[int] = []

    def add(self, block: Block) -> None:
        self._sizes += [side for sizes in block.sizes for size in sizes if size is not None for side in size]
        if block.objects:
            self._tables.append(block.boxes.rows)
            self._num_boxes += block.num_boxes.tolist()
            for one in block.objects:
                if one.keypoints is not None:
                    self._pose([v for _, _, v in one.keypoints])
            if block.outlined:
                polygons = [one.polygons for _, one in block.outlined]
                self._put("polygons", np.array(list(map(len, polygons))))
                points = [len(polygon) // 2 for some in polygons for polygon in some]
                self._put("polygon.points", np.array(points))
        else:
            self._num_boxes += [0] * len(block.items)
        if len(self._num_boxes) >= NUMBERS_AT_ONCE or len(self._tables) >= TABLES_AT_ONCE:
            self._fold()

    def add_sample(self, facts: SampleFacts) -> None:
        sample, targets = facts.sample, facts.targets
        for image in sample.images:
            self._sizes += (image.width, image.height)
        self._num_boxes.append(len(targets))
        if targets:
            shown = sample.images[sample.object_image]
            size = (shown.width, shown.height)
            for one in targets:
                self._rows += one.box
                self._rows += size
            if len(self._rows) >= 6 * NUMBERS_AT_ONCE:
                self._fold()
        if isinstance(sample.targets, KeypointTargets):
            for one in targets:
                self._pose([v for _, _, v in one.keypoints or ()])
        if len(self._num_boxes) >= NUMBERS_AT_ONCE:
            self._fold()

    def _pose(self, visible: list[int]) -> None:
        self._visible += visible
        self._num_keypoints.append(len(visible))
        if len(self._visible) >= 4 * NUMBERS_AT_ONCE:
            self._fold()

    def _fold_boxes(self, rows: Numbers) -> None:
        # Boxes of a source may be anything: a side below 0 is none, and one beyond all numbers is in the last bin.
        rows = rows[np.logical_and.reduce(np.isfinite(rows[:, :4]), axis=1)]
        with np.errstate(all="ignore"):
            sides = np.maximum(rows[:, 2:4] - rows[:, :2], 0)
            known = np.logical_and.reduce(rows[:, 4:] > 0, axis=1)
            shares = sides[:, 0] * sides[:, 1] / (rows[:, 4] * rows[:, 5])
            self._put("box.share", shares[known])
            self._put("box.aspect", _ratios(sides))

    def _fold(self) -> None:
        self._fold_sizes()
        self._put("boxes", numbers(self._num_boxes))
        self._fold_boxes(np.concatenate([*self._tables, numbers(self._rows).reshape(-1, 6)]))
        if self._num_keypoints:
            self._fold_keypoints()
        self.num += len(self._num_boxes)
        self._clear()

    def _fold_sizes(self) -> None:
        sizes = numbers(self._sizes).reshape(-1, 2)
        column, row = np.searchsorted(SIDES.edges, sizes, side="right").T
        side = len(SIDES.edges) + 1
        self._bins["size"] += np.bincount(row * side + column, minlength=side * side)
        with np.errstate(all="ignore"):
            self._put("aspect", _ratios(sizes))

    def _fold_keypoints(self) -> None:
        visible, num = numbers(self._visible), np.array(self._num_keypoints)
        kinds = np.where(np.isin(visible, (0, 1, 2)), visible, 3).astype(np.intp)
        self._visibilities += np.bincount(kinds, minlength=len(VISIBILITIES))
        owners = np.repeat(np.arange(len(num)), num)[visible > 0]
        self._put("keypoints", np.bincount(owners, minlength=len(num)))

    def _put(self, name: str, values: Numbers | Counts) -> None:
        self._bins[name] += sorted_in(BINS[name], values)

    def result(self) -> Collected:
        self._fold()
        seen = zip(VISIBILITIES, self._visibilities.tolist(), strict=True)
        return Collected(
            histograms={name: bins.tolist() for name, bins in self._bins.items() if bins.any()},
            counts={"visibility": {name: count for name, count in seen if count}},
        )


def _ratios(sides: Numbers) -> Numbers:
    """Return width / height of those [n, 2] that have both."""
    width, height = sides[np.logical_and.reduce(sides > 0, axis=1)].T
    found: Numbers = width / height
    return found


class _Written:
    """Lengths of texts by kind, and what they are written in."""

    def __init__(self) -> None:
        self._bins: dict[str, Counts] = {}
        self._lengths: dict[str, list[Counts]] = {}
        self._langs: Counter[str] = Counter()
        self._scripts = np.zeros(len(SCRIPTS), np.int64)

    def add(self, kind: str, joined: Joined) -> None:
        lengths, scripts = looked_at(joined)
        waiting = self._lengths.setdefault(kind, [])
        waiting.append(lengths)
        self._scripts += scripts
        if len(waiting) >= LENGTHS_AT_ONCE:
            self._fold(kind)

    def _fold(self, kind: str) -> None:
        lengths = self._lengths.pop(kind)
        self._bins[kind] = np.add(self._bins.get(kind, 0), sorted_in(LENGTHS, np.concatenate(lengths)))

    def stated(self, langs: Mapping[str, int]) -> None:
        _count(self._langs, langs)

    def result(self) -> Collected:
        for kind in list(self._lengths):
            self._fold(kind)
        scripts = zip(SCRIPTS, self._scripts.tolist(), strict=True)
        return Collected(
            histograms={f"text/{kind}": bins.tolist() for kind, bins in self._bins.items()},
            counts={
                "lang": self._langs,
                "script": {name or "none": count for name, count in scripts if count},
            },
        )


class _Turns:
    """The conversations of samples. Turns wait until there are enough."""

    def __init__(self) -> None:
        self._written = _Written()
        self._turns: list[Turn] = []

    def add(self, turns: Sequence[Turn]) -> None:
        self._turns += turns
        if len(self._turns) >= TURNS_AT_ONCE:
            self._fold()

    def _fold(self) -> None:
        for role in {one.role for one in self._turns}:
            said = [one.text for one in self._turns if one.role == role]
            self._written.add(f"{role} of a sample", Joined(said, IMAGE))
        self._turns = []

    def result(self) -> Collected:
        self._fold()
        return self._written.result()


def _count(counts: Counter[str], names: Iterable[str] | Mapping[str, int]) -> None:
    """Count names, of which `most` has to make few now and then."""
    counts.update(names)
    if len(counts) > 2 * MOST_NAMES:
        kept = most(counts)
        counts.clear()
        counts.update(kept)
