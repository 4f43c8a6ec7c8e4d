"""What lies at a path of which nobody has said what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from dataengine.errors import UsageError
from dataengine.files import Root
from dataengine.listing import Fit
from dataengine.recognise import recognise

# How the names of splits begin that models are evaluated on.
_EVALUATED = ("val", "dev", "test", "eval")


class Guess(NamedTuple):
    """A layout, the keys of its `source` for each split, and why it is this one; `alone` without its pictures."""

    format: str
    splits: dict[str, dict[str, Any]]
    why: str
    alone: bool


def guess(path: Path, root: Path | None = None) -> Guess:
    """Return the layout of a folder, or of an annotation file in one, which is `root` where that is given.

    What names pictures that are not there is annotations alone, unless `root` is given. Raises UsageError where none
    fits, or several fit alike.
    """
    folder = path if path.is_dir() else (root or path.parent)
    Root(folder)
    best = _best(path, folder, alone=False)
    if alone := not best and root is None:
        best = _best(path, folder, alone=True)
    if len(best) != 1:
        found = ", ".join(f"{one} ({fit.why})" for one, fit in best) or "no known layout"
        raise UsageError(f"{path}: is {found}; name its layout with --format")
    ((name, fit),) = best
    return Guess(name, fit.splits, f"{fit.why}, without pictures" if alone else fit.why, alone)


def _best(path: Path, folder: Path, *, alone: bool) -> list[tuple[str, Fit]]:
    """Return the layouts that fit best, several where they fit alike."""
    fits = recognise(folder, alone=alone).fits
    if path.is_file():
        name = path.resolve().relative_to(folder.resolve()).as_posix()
        fits = tuple((one, only) for one, fit in fits if (only := _only(fit, name)) is not None)
    return [one for one in fits if one[1].certainty == fits[0][1].certainty]


def use_of(split: str) -> Literal["train", "eval"]:
    """Return what a split is for, as far as its name says."""
    return "eval" if split.lower().startswith(_EVALUATED) else "train"


def _only(fit: Fit, file: str) -> Fit | None:
    """Return what of a fit reads one file, None where nothing does."""
    splits = {name: keys for name, keys in fit.splits.items() if file in keys.values()}
    return Fit(splits=splits, tasks=fit.tasks, why=fit.why, certainty=fit.certainty) if splits else None
