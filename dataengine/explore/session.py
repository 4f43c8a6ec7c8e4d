"""An open collection with all that is asked of it: what the page's requests come down to."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from dataengine.errors import DataEngineError
from dataengine.explore import view
from dataengine.explore.findings import Findings
from dataengine.explore.marked import Mark, Marks
from dataengine.explore.origin import Record, record_of
from dataengine.explore.parts import Parts, open_ids
from dataengine.explore.search import Filter, Rows, Search, Searches, shuffled
from dataengine.explore.sets import Collection, find, id_hash

Marked = Literal["", "kept", "dropped", "marked", "unmarked"]
MOST_PAGE = 120  # samples
MOST_NAMES = 2000  # of labels and licenses that the page offers, the most frequent first
PATIENCE_S = 0.7  # how long a request waits for a search before it tells how far it is


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked through: a filter, `mark` what people decided, `seed` for an order by chance (else by rows)."""

    filter: Filter
    mark: Marked = ""
    seed: int | None = None


class Found(msgspec.Struct, frozen=True):
    """The rows that were asked for, in order; `complete` once all are known, `looked` how many were looked at."""

    rows: Rows
    complete: bool
    looked: int


class Session:
    """Everything that is open. Raises SourceError or ShardError where something cannot be."""

    def __init__(self, folders: list[Path], cache: Path, selection: Path, report: Path | None) -> None:
        sets, self.left_out = find(folders)
        self.folders = folders
        self.marks = Marks(selection)
        self.collection = Collection(sets, [open_ids(one, cache) for one in sets])
        self.findings = Findings(report, self.collection) if report is not None else None
        self.parts = Parts(self.collection, cache)
        self._searches = Searches(self.collection, self.parts, self.findings)
        self._lock = threading.Lock()
        self._reading = threading.Lock()  # a source may be as large as the memory
        self._marked_rows: tuple[int, dict[str, Rows]] = (-1, {})
        self._ordered: tuple[tuple[object, ...], Rows] | None = None
        self._sources = self._count_sources()
        self.parts.start()

    def close(self) -> None:
        """Stop what is at work; what it made so far stays."""
        self._searches.stop()
        self.parts.stop()

    def about(self) -> dict[str, Any]:
        """Return what there is to choose from, and how far the search index is."""
        labels, licenses = self.parts.counts("labels"), self.parts.counts("licenses")
        return {
            "folders": [str(folder) for folder in self.folders],
            "left_out": self.left_out,
            "samples": len(self.collection),
            "indexed": self.parts.rows,
            "error": self.parts.error,
            "unreadable": self.parts.broken,
            "selection": str(self.marks.path),
            "ruled": self.marks.ruled(),
            "marks": Counter("kept" if one.keep else "dropped" for one in self.marks.all().values()),
            "names": {
                **self._sources,
                "rule": dict(self.findings.rules.most_common()) if self.findings is not None else {},
                "license": dict(licenses.most_common(MOST_NAMES)),
                "label": dict(labels.most_common(MOST_NAMES)),
            },
            "num_labels": len(labels),
            "whole": self.findings.whole if self.findings is not None else [],
            "num_whole": self.findings.num_whole if self.findings is not None else 0,
        }

    def _count_sources(self) -> dict[str, dict[str, int]]:
        rows = np.bincount(self.collection.codes, minlength=len(self.collection.sources)).tolist()
        found: dict[str, Counter[str]] = {"task": Counter(), "dataset": Counter(), "split": Counter()}
        for source, count in zip(self.collection.sources, rows, strict=True):
            for kind, counter in found.items():
                counter[getattr(source, kind)] += count
        return {kind: dict(counter.most_common()) for kind, counter in found.items()}

    def found(self, ask: Ask) -> Found:
        """Return what is asked for, or what of it is known after a moment. Raises DataEngineError."""
        search = self._searches.of(ask.filter)
        search.wait(PATIENCE_S)
        if search.error:
            raise DataEngineError(search.error)
        # In this order: what a search that was done is said to have found is all of it.
        complete, looked, hits = search.done, search.rows, search.hits
        return Found(self._in_order(ask, search, hits), complete, looked)

    def _in_order(self, ask: Ask, search: Search, hits: Rows) -> Rows:
        marked = self._marks_by_row() if ask.mark else {}
        if ask.mark == "unmarked":
            hits = hits[~np.isin(hits, np.concatenate([*marked.values()]))]
        elif ask.mark:
            wanted = ("kept", "dropped") if ask.mark == "marked" else (ask.mark,)
            hits = hits[np.isin(hits, np.concatenate([marked[name] for name in wanted]))]
        if ask.seed is None:
            return hits
        key = (id(search), len(hits), ask, self._marked_rows[0] if ask.mark else 0)
        if self._ordered is None or self._ordered[0] != key:
            self._ordered = (key, shuffled(hits, ask.seed))
        return self._ordered[1]

    def _marks_by_row(self) -> dict[str, Rows]:
        marks = self.marks.all()
        with self._lock:
            version, rows = self._marked_rows
            if version != self.marks.version:
                version = self.marks.version
                rows = {
                    name: self._rows_of([one for one, mark in marks.items() if mark.keep == (name == "kept")])
                    for name in ("kept", "dropped")
                }
                self._marked_rows = (version, rows)
            return rows

    def _rows_of(self, names: list[str]) -> Rows:
        wanted = np.array([id_hash(name) for name in names], np.uint64)
        return np.nonzero(np.isin(self.collection.ids, wanted))[0].astype(np.uint32)

    def page(self, ask: Ask, start: int, size: int) -> dict[str, Any]:
        """Return some of what is asked for, as cards, from a position on."""
        found = self.found(ask)
        marks = self.marks.all()
        some = found.rows[max(start, 0) : max(start, 0) + min(max(size, 0), MOST_PAGE)]
        return {
            "total": len(found.rows),
            "complete": found.complete,
            "looked": found.looked,
            "start": start,
            "cards": [view.card(self.collection, int(row), marks) for row in some],
        }

    def row_of(self, sample_id: str) -> int:
        """Return the first row of a sample. Raises DataEngineError where there is none."""
        rows = self.collection.rows_of(sample_id)
        if not rows:
            raise DataEngineError(f"{sample_id}: no such sample in {', '.join(map(str, self.folders))}")
        return rows[0]

    def sample(self, ask: Ask, row: int) -> dict[str, Any]:
        """Return all of a row's sample, where it stands among what is asked for, and what stands before and after it.

        What no longer fits the filter, such as a sample that was just marked, still has a place between the others.
        """
        self._check(row)
        found = self.found(ask)
        position, before, after = _beside(found.rows, row, ask.seed)
        known = {
            "row": row,
            "total": len(found.rows),
            "complete": found.complete,
            "position": position,
            "before": before,
            "after": after,
        }
        try:
            shown = view.detail(self.collection, row, self.findings)
        except DataEngineError as error:
            source = self.collection.source(row)
            return {**known, "id": "", "problem": str(error), "source": source.name}
        return {**known, **shown, "mark": self.marks.of(shown["id"])}

    def record(self, row: int) -> Record:
        """Return the source's record of a row's sample."""
        self._check(row)
        sample = view.sample_at(self.collection, row)
        with self._reading:
            return record_of(sample.origin, self.collection.source(row))

    def picture(self, row: int, number: int, side: int) -> tuple[bytes, str]:
        """Return a picture for the screen and its media type."""
        self._check(row)
        return view.picture(self.collection, row, number, side)

    def put(self, sample_id: str, mark: Mark | None, was: Mark | None) -> None:
        """Mark a sample that is there. Raises DataEngineError or Conflict as `Marks.put` does."""
        self.row_of(sample_id)
        self.marks.put(sample_id, mark, was)

    def _check(self, row: int) -> None:
        if not 0 <= row < len(self.collection):
            raise DataEngineError(f"row {row}: no such row, expected 0 to {len(self.collection) - 1}")


def _beside(rows: Rows, row: int, seed: int | None) -> tuple[int | None, int | None, int | None]:
    """Return a row's position among some, None where it is not one of them, and the rows before and after it."""
    if seed is None:
        place = int(np.searchsorted(rows, np.uint32(row)))
        inside = place < len(rows) and int(rows[place]) == row
    else:
        at = np.nonzero(rows == row)[0]
        inside = bool(len(at))
        place = int(at[0]) if inside else _place_of_lost(rows, row, seed)
    behind = place + 1 if inside else place
    return (
        place if inside else None,
        int(rows[place - 1]) if place > 0 else None,
        int(rows[behind]) if behind < len(rows) else None,
    )


def _place_of_lost(rows: Rows, row: int, seed: int) -> int:
    """Return where a row would stand among shuffled ones."""
    together = shuffled(np.append(rows, np.uint32(row)), seed)
    return int(np.nonzero(together == row)[0][0])
