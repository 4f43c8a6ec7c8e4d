"""What the numbers of YOLO files mean: class names and keypoints, from `data.yaml` or a file of one name a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec

from converters import text_files
from dataengine import yaml12
from dataengine.errors import SourceError, SpecError
from dataengine.files import Root

_MOST_KEYPOINTS = 1000


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """The classes in the order of their numbers, and what a pose has; `count` is the number of its keypoints."""

    classes: tuple[str, ...]
    keypoints: tuple[str, ...] = ()
    flip: tuple[int, ...] = ()
    count: int = 0
    dims: int = 3


class _DataYaml(msgspec.Struct):
    """What is of use in a `data.yaml`; names are a list, or a mapping from number to name."""

    names: list[str] | dict[int, str]
    kpt_shape: tuple[int, Literal[2, 3]] | None = None
    flip_idx: list[int] = []
    kpt_names: dict[int, list[str]] = {}


def load(
    classes: str | tuple[str, ...], named: tuple[str, ...], flip: tuple[int, ...], dims: int, root: Root
) -> Names:
    """Return the classes and keypoints that a spec states, or the file that it names. Raises SourceError."""
    count = len(named)
    if not isinstance(classes, str):
        return Names(classes=classes, keypoints=named, flip=flip, count=count, dims=dims)
    if PurePosixPath(classes).suffix.lower() not in (".yaml", ".yml"):
        stated = dict(text_files.lines(classes, root, "classes"))
        # A blank line takes a number too: without it the names that follow would move.
        listed = tuple(stated.get(number, "") for number in range(1, max(stated, default=0) + 1))
        return Names(classes=listed, keypoints=named, flip=flip, count=count, dims=dims)
    data = _data_yaml(classes, root)
    if data.kpt_shape is not None:
        count, dims = data.kpt_shape
        if not 0 < count <= _MOST_KEYPOINTS:
            raise SourceError(f"{classes}: kpt_shape: {count} keypoints, expected 1 to {_MOST_KEYPOINTS}")
    parts = next(iter(data.kpt_names.values()), [])
    return Names(
        classes=_by_number(data.names, classes),
        keypoints=named or tuple(parts),
        flip=flip or tuple(data.flip_idx),
        count=count,
        dims=dims,
    )


def _data_yaml(file: str, root: Root) -> _DataYaml:
    root.read(file, "classes")
    try:
        value: Any = yaml12.load(root.annotation(file, "classes"))
        names = value.get("names")
        if isinstance(names, list):
            value = {**value, "names": [str(name) for name in names]}
        elif isinstance(names, dict):
            value = {**value, "names": {key: str(name) for key, name in names.items()}}
        return msgspec.convert(value, _DataYaml, strict=False, str_keys=True)
    except (SpecError, msgspec.ValidationError) as error:
        raise SourceError(f"{file}: {error}; expected names as a list or by number") from error


def _by_number(names: list[str] | dict[int, str], file: str) -> tuple[str, ...]:
    if isinstance(names, list):
        return tuple(names)
    numbers: Iterable[int] = names
    if any(not 0 <= number < 100_000 for number in numbers):
        raise SourceError(f"{file}: names: a class has the number {max(names, key=abs)}, expected 0 or more")
    return tuple(names.get(number, "") for number in range(max(names, default=-1) + 1))
