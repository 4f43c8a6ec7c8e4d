"""What the data of a subject is like: histograms whose room does not grow with the data, gathered as an audit goes."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise, repeat
from operator import itemgetter
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from dataengine.audit.rule import Facts, SampleFacts
from dataengine.sample import KeypointTargets, Sample, TargetInstance

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
MOST_NAMES, REST = 200, "others"
FLUSH_AFTER = 256
MOST_LETTERS = 256
# Where the blocks of a script begin in Unicode; "" are signs, and what is none of these.
_BLOCKS = (
    (0x00, ""), (0x41, "Latin"), (0x5B, ""), (0x61, "Latin"), (0x7B, ""), (0xAA, "Latin"), (0x2B0, ""),
    (0x370, "Greek"), (0x400, "Cyrillic"), (0x530, "Armenian"), (0x590, "Hebrew"), (0x600, "Arabic"), (0x700, "other"),
    (0x750, "Arabic"), (0x780, "other"), (0x8A0, "Arabic"), (0x900, "Devanagari"), (0x980, "Bengali"),
    (0xA00, "Gurmukhi"), (0xA80, "Gujarati"), (0xB00, "other"), (0xB80, "Tamil"), (0xC00, "Telugu"), (0xC80, "Kannada"),
    (0xD00, "Malayalam"), (0xD80, "Sinhala"), (0xE00, "Thai"), (0xE80, "Lao"), (0xF00, "Tibetan"), (0x1000, "Burmese"),
    (0x10A0, "Georgian"), (0x1100, "Hangul"), (0x1200, "Ethiopic"), (0x1380, "other"), (0x1780, "Khmer"),
    (0x1800, "Mongolian"), (0x18B0, "other"), (0x1E00, "Latin"), (0x1F00, "Greek"), (0x2000, ""), (0x3040, "Kana"),
    (0x3100, "other"), (0x3130, "Hangul"), (0x3190, ""), (0x31F0, "Kana"), (0x3200, ""), (0x3400, "Han"), (0x4DC0, ""),
    (0x4E00, "Han"), (0xA000, "other"), (0xAC00, "Hangul"), (0xD7B0, "other"), (0xD800, ""), (0xF900, "Han"),
    (0xFB00, "Latin"), (0xFB13, "other"), (0xFB50, "Arabic"), (0xFE00, ""), (0xFE70, "Arabic"), (0xFEFF, ""),
    (0xFF21, "Latin"), (0xFF3B, ""), (0xFF41, "Latin"), (0xFF5B, ""), (0xFF66, "Kana"), (0xFFA0, "other"),
    (0x10000, "other"), (0x1F000, ""), (0x20000, "Han"), (0x32000, "other"), (0xE0000, ""),
)  # fmt: skip
_STARTS = [start for start, _ in _BLOCKS]


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
    """Return several as if they had been gathered as one."""
    histograms: dict[str, npt.NDArray[np.int64]] = {}
    counts: dict[str, Counter[str]] = {}
    for one in some:
        for name, bins in one.histograms.items():
            histograms[name] = np.add(histograms.get(name, 0), bins)
        for name, named in one.counts.items():
            counts.setdefault(name, Counter()).update(named)
    return Collected(
        histograms={name: bins.tolist() for name, bins in histograms.items()},
        counts={name: dict(named) for name, named in counts.items()},
    )


def script_of(text: str) -> str:
    """Return the script that most of the first letters of a text are of, "none" where it has no letter."""
    if text.isascii():
        return "Latin" if any(map(str.isalpha, text)) else "none"
    letters = Counter(_BLOCKS[bisect_right(_STARTS, ord(char)) - 1][1] for char in text[:MOST_LETTERS])
    del letters[""]
    return max(letters, key=letters.__getitem__) if letters else "none"


class Statistics:
    """Gathers what annotations and samples are like. Both may show the same facts, so annotations go before samples."""

    def __init__(self) -> None:
        self._read = _Side()
        self._served = _Side()
        self._texts = _Texts()
        self._turns = _Texts()
        self._tasks: Counter[str] = Counter()

    def annotation(self, facts: Facts) -> None:
        """Look at one annotation."""
        self._read.add(facts)
        for one in facts.texts:
            self._texts.add(one.kind, one.text, one.lang or facts.lang or "not stated")

    def sample(self, facts: SampleFacts) -> None:
        """Look at one sample."""
        sample = facts.sample
        self._tasks[f"{sample.dataset}/{sample.task}"] += 1
        self._served.add_sample(sample, facts.targets)
        for turn in sample.conversation:
            self._turns.add(f"{turn.role} of a sample", turn.text)

    def result(self) -> Collected:
        """Return what was gathered so far."""
        tasks, turns = Collected(counts={"task": _most(self._tasks)}), self._turns.result()
        if not self._read.num:
            return merge([self._served.result(), turns, tasks])
        # How long turns are is no fact of the source.
        turns = Collected(histograms=turns.histograms)
        return merge([self._read.result(), self._texts.result(), turns, tasks])


class _Side:
    """Numbers of pictures and objects. They wait in arrays until there are enough to sort into bins at once."""

    def __init__(self) -> None:
        self.num = 0
        self._sizes = array("d")  # width, height
        self._boxes = array("d")  # x0, y0, x1, y1
        self._areas = array("d")  # of the picture of each box, 0 where it is not known
        self._waiting = {name: array("d") for name in ("boxes", "keypoints", "polygons", "polygon.points")}
        self._visibility: Counter[int] = Counter()
        self._bins = {name: np.zeros(len(bins.edges) + 1, np.int64) for name, bins in BINS.items()}
        self._bins["size"] = np.zeros((len(SIDES.edges) + 1) ** 2, np.int64)

    def add(self, facts: Facts) -> None:
        sizes, boxes = facts.sizes, facts.boxes
        for size in sizes:
            if size is not None:
                self._sizes.extend(size)
        waiting = self._waiting
        waiting["boxes"].append(len(boxes))
        if boxes:
            self._boxes.extend(chain.from_iterable(map(itemgetter(1), boxes)))
            if len(sizes) == 1:
                width, height = sizes[0] or (0, 0)
                self._areas.extend(repeat(width * height, len(boxes)))
            else:
                for item, _ in boxes:
                    width, height = facts.size_of(item) or (0, 0)
                    self._areas.append(width * height)
        if facts.outlined:
            waiting["polygons"].extend([len(item.polygons) for item in facts.outlined])
            waiting["polygon.points"].extend(
                [len(one) // 2 for item in facts.outlined for one in item.polygons]
            )
        for item in facts.posed:
            self._pose([v for _, _, v in item.keypoints or ()])
        self._counted()

    def add_sample(self, sample: Sample, targets: Sequence[TargetInstance]) -> None:
        for image in sample.images:
            self._sizes.extend((image.width, image.height))
        self._waiting["boxes"].append(len(targets))
        if targets:
            shown = sample.images[sample.object_image]
            self._boxes.extend(chain.from_iterable([one.box for one in targets]))
            self._areas.extend(repeat(shown.width * shown.height, len(targets)))
        if isinstance(sample.targets, KeypointTargets):
            for one in targets:
                self._pose([v for _, _, v in one.keypoints or ()])
        self._counted()

    def _pose(self, visible: list[int]) -> None:
        self._visibility.update([v if v in (0, 1, 2) else -1 for v in visible])
        self._waiting["keypoints"].append(sum([v > 0 for v in visible]))

    def _counted(self) -> None:
        self.num += 1
        if self.num % FLUSH_AFTER == 0:
            self._flush()

    def _flush(self) -> None:
        for name, values in self._waiting.items():
            self._put(name, np.frombuffer(values))
        sizes = np.frombuffer(self._sizes).reshape(-1, 2)
        column, row = np.searchsorted(SIDES.edges, sizes, side="right").T
        self._bins["size"] += np.bincount(
            row * (len(SIDES.edges) + 1) + column, minlength=len(self._bins["size"])
        )
        boxes, areas = np.frombuffer(self._boxes).reshape(-1, 4), np.frombuffer(self._areas)
        # Boxes of a source may be anything: a side below 0 is none, and one beyond all numbers is in the last bin.
        with np.errstate(all="ignore"):
            sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
            self._put("box.share", (sides[:, 0] * sides[:, 1] / areas)[areas > 0])
            for name, pairs in (("aspect", sizes), ("box.aspect", sides)):
                self._put(name, (pairs[:, 0] / pairs[:, 1])[pairs.min(axis=1, initial=np.inf) > 0])
        self._sizes, self._boxes, self._areas = array("d"), array("d"), array("d")
        self._waiting = {name: array("d") for name in self._waiting}

    def _put(self, name: str, values: npt.NDArray[np.float64]) -> None:
        bins = self._bins[name]
        bins += np.bincount(np.searchsorted(BINS[name].edges, values, side="right"), minlength=len(bins))

    def result(self) -> Collected:
        self._flush()
        seen = {0: "not labelled", 1: "hidden", 2: "visible", -1: "none of 0, 1, 2"}
        return Collected(
            histograms={name: bins.tolist() for name, bins in self._bins.items() if bins.any()},
            counts={"visibility": {seen[v]: count for v, count in sorted(self._visibility.items())}},
        )


class _Texts:
    """Lengths of texts by kind, and what they are written in."""

    def __init__(self) -> None:
        self._lengths: dict[str, array[float]] = {}
        self._bins: dict[str, npt.NDArray[np.int64]] = {}
        self._langs: Counter[str] = Counter()
        self._scripts: Counter[str] = Counter()

    def add(self, kind: str, text: str, lang: str = "") -> None:
        if (lengths := self._lengths.get(kind)) is None:
            lengths = self._lengths[kind] = array("d")
        lengths.append(len(text))
        self._scripts[script_of(text)] += 1
        if lang:
            self._langs[lang] += 1
        if len(lengths) >= 16 * FLUSH_AFTER:
            self._flush()

    def _flush(self) -> None:
        for kind, lengths in self._lengths.items():
            places = np.searchsorted(LENGTHS.edges, np.frombuffer(lengths), side="right")
            found = np.bincount(places, minlength=len(LENGTHS.edges) + 1)
            self._bins[kind] = np.add(self._bins.get(kind, 0), found)
            self._lengths[kind] = array("d")
        self._langs = Counter(_most(self._langs))

    def result(self) -> Collected:
        self._flush()
        return Collected(
            histograms={f"text/{name}": bins.tolist() for name, bins in self._bins.items()},
            counts={"lang": _most(self._langs), "script": dict(self._scripts)},
        )


def _most(counts: Counter[str]) -> dict[str, int]:
    """Return the most frequent names with their counts, and those of all others together."""
    if len(counts) <= MOST_NAMES:
        return dict(counts)
    kept = {name: count for name, count in counts.most_common(MOST_NAMES) if name != REST}
    return {**kept, REST: counts.total() - sum(kept.values())}
