"""Which layouts fit a folder, and the spec that reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from dataengine.errors import UsageError, nearest
from dataengine.files import Root
from dataengine.listing import Fit, Listing
from dataengine.modules import FORMATS_PACKAGE, load_reader, names

_UNSAID = "its reader does not say how to recognise it"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The layouts that fit, the likeliest first, and for every other format why it does not."""

    fits: tuple[tuple[str, Fit], ...]
    others: dict[str, str]


def recognise(directory: Path, only: str | None = None, *, alone: bool = False) -> Found:
    """Ask every reader (or `only` one) whether a folder has its layout. Raises UsageError for an unknown format.

    With `alone`, pictures that files name need not be there.
    A reader answers by `recognise(listing) -> Fit | str`, a string saying why not.
    """
    known = names(FORMATS_PACKAGE)
    if only is not None and only not in known:
        raise UsageError(f"--format {only}: no such format{nearest(only, known)}")
    listing = Listing(Root(directory), alone)
    fits: list[tuple[str, Fit]] = []
    others: dict[str, str] = {}
    for name in [only] if only else known:
        ask = getattr(load_reader(name, "new"), "recognise", None)
        answer = ask(listing) if ask is not None else _UNSAID
        if isinstance(answer, Fit):
            fits.append((name, answer))
        else:
            others[name] = answer
    fits.sort(key=lambda pair: (-pair[1].certainty, pair[0]))
    return Found(fits=tuple(fits), others=others)


def id_of(name: str) -> str:
    """Return a dataset's id that is close to the name of a folder or file."""
    letters = "".join(char if char.isalnum() and char.isascii() else "_" for char in name.lower())
    return letters.strip("_")[:48] or "dataset"


def spec_text(directory: Path, identity: str, name: str, fit: Fit) -> str:
    """Return the spec of a folder with layout `name` as YAML; what only its maker knows is `unspecified`."""
    shared, own = _shared(fit.splits)
    content = {
        "id": identity,
        "title": directory.resolve().name,
        "license": {"annotations": "unspecified", "images": "unspecified"},
        "source": {
            "format": name,
            **shared,
            "splits": {
                split: {**keys, "use": "eval" if split.startswith(("val", "test")) else "train"}
                for split, keys in own.items()
            },
        },
        "tasks": {task: {} for task in fit.tasks},
        "status": "layout",
        "unverified": ["license", "splits"],
    }
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return text


def _shared(splits: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the keys that are the same in all splits, and the others of each."""
    first = next(iter(splits.values()))
    if len(splits) == 1:
        return {}, splits
    shared = {
        key: value
        for key, value in first.items()
        if all(keys.get(key, ...) == value for keys in splits.values())
    }
    return shared, {
        name: {key: value for key, value in keys.items() if key not in shared}
        for name, keys in splits.items()
    }
