"""What of some manifests to leave out of a build: by license, and by ratings. Nothing is deleted, only written down."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dataengine import licenses
from dataengine import manifest as manifests
from dataengine.errors import UsageError, nearest
from dataengine.licenses import Terms
from dataengine.ratings import table as ratings
from dataengine.ratings.table import COLUMNS
from dataengine.selection import Choice

_FILTER = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*", re.ASCII)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_RATINGS = {one.name: one for one in COLUMNS}


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Leaves out what compares so: `sharpness < 20`."""

    rating: str
    comparison: str
    bound: float | str

    def __str__(self) -> str:
        bound = self.bound if isinstance(self.bound, str) else f"{self.bound:g}"
        return f"{self.rating} {self.comparison} {bound}"

    def holds(self, value: float | str) -> bool:
        """Say whether a value is one to leave out."""
        return _OPERATORS[self.comparison](value, self.bound)


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """How many samples of a source a filter or profile leaves out, and of how many nothing is known to compare."""

    source: str
    by: str
    out: int
    unrated: int
    samples: int


def parse(text: str) -> Filter:
    """Return a filter from `NAME OP VALUE`. Raises UsageError with the nearest known name, or the form expected."""
    found = _FILTER.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--where {text!r}: expected NAME OP VALUE, such as 'sharpness < 20' or 'language != en'"
        )
    name, comparison, value = found.groups()
    rating = _RATINGS.get(name)
    if rating is None:
        raise UsageError(f"--where {text!r}: unknown rating {name!r}{nearest(name, _RATINGS)}")
    if rating.kind == "word":
        if comparison not in ("==", "!="):
            raise UsageError(f"--where {text!r}: {name} is a word, expected == or !=")
        return Filter(rating=name, comparison=comparison, bound=value.strip("'\""))
    try:
        bound = float(value)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise UsageError(f"--where {text!r}: {name} is a number, expected one instead of {value!r}")
    return Filter(rating=name, comparison=comparison, bound=bound)


def curate(
    folders: Sequence[Path],
    *,
    profile: str | None = None,
    terms: Terms | None = None,
    where: Iterable[Filter] = (),
    progress: Callable[[int, str], None] = lambda count, text: None,
) -> tuple[list[Choice], list[Left]]:
    """Return what a license profile and filters leave out of manifests, and how much each does for each source.

    Raises UsageError for an unknown profile, or a rating that no sample has, and SourceError for a manifest that has
    no ratings.
    """
    terms = terms or licenses.load()
    filters = list(where)
    choices: list[Choice] = []
    counts: list[Left] = []
    for folder in folders:
        name, samples = manifests.load(folder).name, manifests.num_samples(folder)
        if profile is not None:
            found = list(licenses.left_out(folder, profile, terms))
            choices += found
            counts.append(Left(source=name, by=profile, out=len(found), unrated=0, samples=samples))
        for one, found, unrated in _filtered(folder, filters):
            choices += found
            counts.append(Left(source=name, by=str(one), out=len(found), unrated=unrated, samples=samples))
        progress(samples, "")
    for one in filters:
        places = [left for left in counts if left.by == str(one) and left.samples]
        if places and all(left.unrated == left.samples for left in places):
            raise UsageError(f"--where '{one}': no sample has a rating {one.rating!r}; {_way_to(one.rating)}")
    return choices, counts


def _way_to(rating: str) -> str:
    if rating == "agreement":
        return "rate them with --rate --agreement FOLDER"
    if rating == "language":
        return "install dataengine[ratings] and rate them with --rate"
    return "see how many pictures could not be read"


def _filtered(folder: Path, filters: Sequence[Filter]) -> Iterator[tuple[Filter, list[Choice], int]]:
    if not filters:
        return
    table = ratings.load(folder)
    names = table.column("id").to_pylist()
    for one in filters:
        values = table.column(one.rating).to_pylist()
        found = [
            Choice(id=name, keep=False, reason=f"rating.{one.rating}", note=f"{_said(value)}: {one}")
            for name, value in zip(names, values, strict=True)
            if value is not None and one.holds(value)
        ]
        yield one, found, values.count(None)


def _said(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
