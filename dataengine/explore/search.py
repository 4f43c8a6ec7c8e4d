"""Which samples a filter finds: exact, in the order of rows, a part at a time."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dataengine.errors import DataEngineError
from dataengine.explore.findings import Findings
from dataengine.explore.parts import Part, Parts, folded
from dataengine.explore.sets import Collection

Rows = npt.NDArray[np.uint32]
MOST_SEARCHES = 8  # that are remembered, 4 bytes a hit
MOST_TEXT = 500  # characters of a searched text
_WAIT_S = 0.5
_STOP_S = 30.0


class Filter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What samples are wanted: any of the names of each kind that has some, and all kinds together.

    `text` stands in the conversation, whatever its case: as it is (`contains`), or each of its words as a whole word
    (`words`). `unreadable` are only those that cannot be read.
    """

    task: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    rule: tuple[str, ...] = ()
    license: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    text: str = ""
    how: Literal["contains", "words"] = "contains"
    unreadable: bool = False

    @property
    def looks_inside(self) -> bool:
        """Whether more must be known of a sample than its source."""
        return bool(self.rule or self.license or self.label or self.text.strip() or self.unreadable)


class Search:
    """One filter at work, or done. `hits` are the rows found so far, ascending; `rows` how many were looked at."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self.rows = 0
        self.done = False
        self.error = ""
        self.cancelled = False
        self.changed = threading.Condition()
        self._found: list[Rows] = []

    @property
    def hits(self) -> Rows:
        with self.changed:
            if len(self._found) != 1:
                self._found = [np.concatenate([np.zeros(0, np.uint32), *self._found])]
            return self._found[0]

    def add(self, rows: Rows, looked: int) -> None:
        """Note the hits up to a row."""
        with self.changed:
            self._found.append(rows)
            self.rows = looked
            self.changed.notify_all()

    def finish(self, error: str = "") -> None:
        """Note that there is no more."""
        with self.changed:
            self.done, self.error = True, error
            self.changed.notify_all()

    def wait(self, timeout_s: float) -> None:
        """Wait until all is known, or the time is over."""
        with self.changed:
            self.changed.wait_for(lambda: self.done, timeout_s)


class Searches:
    """Finds what filters want; the last few are remembered, and one that nobody remembers is given up."""

    def __init__(self, collection: Collection, parts: Parts, findings: Findings | None) -> None:
        self._collection = collection
        self._parts = parts
        self._findings = findings
        self._recent: OrderedDict[Filter, Search] = OrderedDict()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._one = threading.Lock()  # a scan at a time: two would only share the cores

    def of(self, wanted: Filter) -> Search:
        """Return the search for a filter, which may still be at work."""
        with self._lock:
            found = self._recent.get(wanted)
            if found is None or found.error or found.cancelled:
                found = self._recent[wanted] = Search(wanted)
                if wanted.looks_inside:
                    thread = threading.Thread(target=self._run, args=(found,), name="search", daemon=True)
                    self._threads = [one for one in self._threads if one.is_alive()] + [thread]
                    thread.start()
                else:
                    found.add(_rows(self._of_sources(wanted)), len(self._collection))
                    found.finish()
            self._recent.move_to_end(wanted)
            while len(self._recent) > MOST_SEARCHES:
                self._recent.popitem(last=False)[1].cancelled = True
            return found

    def stop(self) -> None:
        """Give up all that are at work, and wait for them: Arrow aborts a process that ends while a thread is in it."""
        with self._lock:
            for one in self._recent.values():
                one.cancelled = True
            threads = self._threads
        for thread in threads:
            thread.join(_STOP_S)

    def _of_sources(self, wanted: Filter) -> npt.NDArray[np.bool_]:
        allowed = np.array([
            (not wanted.task or source.task in wanted.task)
            and (not wanted.dataset or source.dataset in wanted.dataset)
            and (not wanted.split or source.split in wanted.split)
            for source in self._collection.sources
        ], bool)  # fmt: skip
        return allowed[self._collection.codes] if len(allowed) else np.zeros(0, bool)

    def _run(self, search: Search) -> None:
        try:
            within = self._of_sources(search.wanted)
            for number in range(len(self._parts.plan)):
                part = None
                while part is None:
                    if search.cancelled:
                        search.finish("given up for newer searches; ask again")
                        return
                    part = self._parts.wait(number, _WAIT_S)
                mask = within[part.first : part.stop]
                if mask.any():
                    with self._one:
                        mask = self._inside(search.wanted, part, mask)
                search.add(_rows(mask) + np.uint32(part.first), part.stop)
            search.finish()
        except (DataEngineError, OSError, pa.ArrowException) as error:
            search.finish(str(error))
        except Exception as error:
            search.finish(f"a defect of dataengine: {type(error).__name__}: {error}")
            raise

    def _inside(self, wanted: Filter, part: Part, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        if wanted.unreadable:
            mask = mask & part.broken()
        if wanted.license:
            mask = mask & part.having("licenses", wanted.license)
        if wanted.label:
            mask = mask & part.having("labels", wanted.label)
        if wanted.rule:
            if self._findings is None:
                return np.zeros_like(mask)
            mask = mask & self._findings.mask(self._collection, part, wanted.rule)
        if wanted.text.strip() and mask.any():
            mask = mask & matches(part.text(), wanted.text, wanted.how)
        return mask


def matches(texts: pa.ChunkedArray, text: str, how: str) -> npt.NDArray[np.bool_]:
    """Say which folded texts hold a text as it is, or each of its words as a whole word, bool [texts]."""
    found = np.ones(len(texts), bool)
    for pattern in [folded(text)] if how == "contains" else sorted({*folded(text).split()}):
        hit = pc.match_substring(texts, pattern)
        if how == "words":
            # Letters and digits of any script: \b of RE2 knows those of ASCII.
            edged = rf"(?:^|[^\pL\pN_]){re.escape(pattern)}(?:$|[^\pL\pN_])"
            hit = pc.and_(hit, pc.match_substring_regex(texts, edged))
        found &= np.array(hit.to_pylist(), bool)
    return found


def _rows(mask: npt.NDArray[np.bool_]) -> Rows:
    return np.nonzero(mask)[0].astype(np.uint32)


def shuffled(rows: Rows, seed: int) -> Rows:
    """Return rows in an order that a seed draws; rows that come or go leave the order of all others as it is."""
    with np.errstate(over="ignore"):
        # SplitMix64 (Steele et al. 2014), a bijection: no two rows of one seed have the same rank.
        value = rows.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return rows[np.argsort(value ^ (value >> np.uint64(31)))]
