"""Plots of what the audited data is like."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence

from dataengine.audit.state import Report
from dataengine.audit.statistics import (
    BINS,
    COUNTS,
    LENGTHS,
    MOST_LETTERS,
    SIDES,
    VISIBILITIES,
    Collected,
    merge,
)
from dataengine.report.plots import bars, heat, histogram
from dataengine.report.text import number

MOST_BARS = 30
_PERCENT = 0.01


def figures(report: Report) -> list[str]:
    """Return the plots of all subjects together, as SVG; those of what no subject has are left out."""
    labels: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    licenses: Counter[str] = Counter()
    for account in report.accounts:
        labels.update(account.labels)
        classes.update(account.classes)
        licenses.update(account.licenses)
    seen = merge(account.statistics for account in report.accounts)
    checked = report.checked
    marks = {
        f"{what}s" if what != "box" else "boxes": checked[what]
        for what in ("box", "outline", "mask", "quad", "pose")
        if checked.get(what)
    }
    plots = [
        _bars("Objects by label", labels, "objects"),
        _tail(labels, "How often labels occur", "objects of a label", "labels"),
        _bars("Records by class", classes, "records"),
        _tail(classes, "How often classes occur", "records of a class", "classes"),
        _sizes(seen),
        _histogram(seen, "aspect", "Shapes of pictures", "width / height", "pictures"),
        bars("What marks objects", marks, "objects"),
        _histogram(seen, "boxes", "Boxes of a record", "boxes", "records")
        if checked.get("box") or checked.get("target")
        else "",
        _histogram(seen, "box.share", "Sizes of boxes", "% of the picture's area", "boxes", _PERCENT),
        _histogram(seen, "box.aspect", "Shapes of boxes", "width / height", "boxes"),
        _visibilities(seen),
        _histogram(seen, "keypoints", "Labelled keypoints of an object", "keypoints", "objects"),
        _histogram(seen, "polygon.points", "Points of an outline's polygon", "points", "polygons"),
        _histogram(seen, "polygons", "Polygons of an outline", "polygons", "objects"),
        _texts(seen),
        _bars("Languages, as stated", Counter(seen.counts.get("lang", {})), "texts"),
        _bars(
            f"Scripts, by most of the first {MOST_LETTERS} characters",
            Counter(seen.counts.get("script", {})),
            "texts",
        ),
        _bars("Samples by dataset and task", Counter(seen.counts.get("task", {})), "samples"),
        _bars("Licenses of pictures", licenses, "pictures or samples"),
    ]
    return [plot for plot in plots if plot]


def _bars(title: str, counts: Counter[str], unit: str) -> str:
    shown = dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MOST_BARS])
    rest = len(counts) - len(shown)
    note = f"the {MOST_BARS} most frequent of {number(len(counts))}" if rest else ""
    return bars(title, shown, unit, note)


def _visibilities(seen: Collected) -> str:
    counts = seen.counts.get("visibility", {})
    return bars(
        "Keypoints by visibility",
        {name: counts[name] for name in VISIBILITIES if name in counts},
        "keypoints",
    )


def _tail(counts: Counter[str], title: str, x_label: str, y_label: str) -> str:
    """Return how many names have how many of what is counted, where there are more names than bars."""
    if len(counts) <= MOST_BARS:
        return ""
    bins = [0] * (len(COUNTS.edges) + 1)
    for count in counts.values():
        bins[bisect_right(COUNTS.edges, count)] += 1
    return histogram(title, bins, COUNTS.names(), x_label, y_label)


def _histogram(seen: Collected, name: str, title: str, x_label: str, y_label: str, unit: float = 1) -> str:
    return histogram(title, seen.histograms.get(name, []), BINS[name].names(unit), x_label, y_label)


def _sizes(seen: Collected) -> str:
    bins, names = seen.histograms.get("size", []), SIDES.names()
    side = len(names)
    rows = [bins[start : start + side] for start in range(0, len(bins), side)]
    return heat("Sizes of pictures", rows, names, names, "width in pixels", "height in pixels", "pictures")


def _texts(seen: Collected) -> str:
    kinds: Mapping[str, Sequence[int]] = {
        name.removeprefix("text/"): bins
        for name, bins in sorted(seen.histograms.items(), reverse=True)
        if name.startswith("text/")
    }
    return heat(
        "Lengths of texts",
        list(kinds.values()),
        list(kinds),
        LENGTHS.names(),
        "characters",
        "kind of text",
        "texts",
    )
