"""The error tree. Everything of ours prints as one line: place, what is wrong, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# More known words than this are no help; a few are named instead.
MOST_LISTED = 40
FEW = 5
# Words come from files too: a longer one is no name, and would take an hour to compare.
MOST_CHARS = 80


class DataEngineError(Exception):
    """Base of all errors that a user can cause and mend; the command line prints them as one line."""


class UsageError(DataEngineError):
    """A command was asked for something that cannot be."""


class SpecError(DataEngineError):
    """A spec, prompt bank, label space or pipeline file is wrong; `mistakes` are all that were found, a line each."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__(mistakes[0])
        self.mistakes = mistakes


class SourceError(DataEngineError):
    """A source file as a whole cannot be read (missing, truncated, hostile, not the declared layout)."""


class PlanError(DataEngineError):
    """A mixture cannot be planned."""


class ShardError(DataEngineError):
    """Shards or their index are damaged, missing or stale."""


class Damage(ShardError):
    """The bytes of one sample are missing or not what they were; other samples of its shard may be whole.

    `reason` is `shard.unreadable`, `shard.damaged` or `shard.schema`; `offset` is where in the tar `file`.
    """

    def __init__(self, message: str, reason: str, file: str, offset: int) -> None:
        super().__init__(message, reason, file, offset)
        self.reason = reason
        self.file = file
        self.offset = offset

    def __str__(self) -> str:
        return str(self.args[0])


class StoreError(DataEngineError):
    """A store cannot be reached, or does not let us read: no word about the shards in it."""


class ModelError(DataEngineError):
    """A model, a batch or a checkpoint does not fit."""


class BudgetBroken(DataEngineError):
    """More units were lost to a reason than the spec allows."""


class EmptySplit(BudgetBroken):
    """A split gave no sample at all, and nobody said that this is right."""


class Skip(Exception):
    """A builder declines a unit, for a reason of the form `family.noun`; it is counted, never an error."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Quarantine(Exception):
    """A unit is defective; it is kept aside with its reason and costs no other unit."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def _edits(a: str, b: str) -> int:
    """Count the letters to insert, drop or replace that turn `a` into `b` (Levenshtein's distance)."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row = row, [i]
        for j, right in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right)))
    return row[-1]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest known word; if none is close, the known words, or a few of many."""
    word, options = word[:MOST_CHARS], sorted(name[:MOST_CHARS] for name in known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    # difflib compares the order of pieces, and finds two swapped letters ('lisence') farther than they look.
    close = close or [name for name in options if _edits(word, name) <= len(name) // 3][:1]
    if close:
        return f"; did you mean {close[0]!r}?"
    if len(options) > MOST_LISTED:
        near = difflib.get_close_matches(word, options, n=FEW, cutoff=0.0)
        return f"; {len(options)} are known, such as {', '.join(near)}"
    return f"; known: {', '.join(options)}" if options else ""
