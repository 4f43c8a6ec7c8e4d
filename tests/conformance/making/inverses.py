"""What a cell must hold so that the operations of a spec make a wanted value of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from dataengine.errors import Quarantine
from dataengine.records.operations import Operation, apply, split_operation
from tests.conformance.making.patterns import matching


def inverse(operations: Sequence[Operation], wanted: Any, number: int) -> tuple[Any, Any]:
    """Return a value, and what the operations make of it: what is wanted where they can, and else something else.

    `number` tells values apart that nobody asked for. Raises ValueError where no value was found.
    """
    for value in _candidates(operations, wanted, number):
        try:
            made = apply(operations, value)
        except (Quarantine, TypeError, ValueError):
            continue
        if made is not None:
            return value, made
    raise ValueError(f"nothing found that {list(operations)} makes {wanted!r} of")


def _candidates(operations: Sequence[Operation], wanted: Any, number: int) -> list[Any]:
    """Return the turned-back value first, and then values that the operations may take."""
    found: list[Any] = []
    named = [split_operation(operation) for operation in operations]
    alone = wanted if isinstance(wanted, list) and len(wanted) == 1 else ()
    for start in (wanted, *alone, number + 1, *_keys(named, number)):
        value: Any = start
        for name, argument in reversed(named):
            value = _INVERSE.get(name, lambda value, argument: value)(value, argument)
        found.append(value)
    for name, argument in named:
        if name == "regex_take":
            found += [text for text in (matching(argument, None, number), matching(argument)) if text]
    return [*found, f"word {number}", str(number + 1), number + 1, [f"word {number}"], {"word": number + 1}]


def _keys(named: Sequence[tuple[str, Any]], number: int) -> list[Any]:
    """Return what a table of values may make, another one for another number."""
    tables = [list(argument.values()) for name, argument in named if name == "map_values"]
    return [values[number % len(values)] for values in tables]


def _band(value: Any, bands: dict[str, float]) -> Any:
    return bands.get(value, value) if isinstance(value, str) else value


def _votes(value: Any, lowest: int) -> Any:
    rating = value[0] if isinstance(value, list) and len(value) == 1 else value
    return [0] * (int(rating) - lowest) + [5] if isinstance(rating, int | float) else value


def _mapped(value: Any, table: dict[str, Any]) -> Any:
    return next((key for key, made in table.items() if made == value), value)


def _cut(value: Any, text: str, *, end: bool) -> Any:
    if not isinstance(value, str):
        return value
    return value.removesuffix(text) if end else value.removeprefix(text)


def _replaced(value: Any, argument: dict[str, str]) -> Any:
    new = argument["new"]
    return value.replace(new, argument["old"]) if isinstance(value, str) and new else value


def _taken(value: Any, pattern: str) -> Any:
    return matching(pattern, value) or value if isinstance(value, str) else value


def _each(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def turned(value: Any, argument: Any) -> Any:
        return (
            [function(one, argument) for one in value]
            if isinstance(value, list)
            else function(value, argument)
        )

    return turned


_INVERSE: dict[str, Callable[[Any, Any], Any]] = {
    "map_values": _each(_mapped),
    "prefix": _each(lambda value, text: _cut(value, text, end=False)),
    "suffix": _each(lambda value, text: _cut(value, text, end=True)),
    "replace": _each(_replaced),
    "regex_take": _each(_taken),
    "bands": _each(_band),
    "int": _each(lambda value, argument: str(value)),
    "float": _each(lambda value, argument: str(value)),
    "round": _each(lambda value, argument: float(value) if str(value).isdigit() else value),
    "scale": _each(lambda value, factor: value / factor if isinstance(value, int | float) else value),
    "mean_vote": _votes,
    "split": lambda value, text: (text or " ").join(map(str, value)) if isinstance(value, list) else value,
    "join": lambda value, text: [value],
    "first": lambda value, argument: [value],
    "last": lambda value, argument: [value],
    "nth": lambda value, place: [value] * (place + 1),
    "majority": lambda value, argument: [value],
    "ranked": lambda value, argument: value if isinstance(value, list) else [value],
    "keys": lambda value, argument: dict.fromkeys(value if isinstance(value, list) else [value], 1),
    "values": lambda value, argument: dict(enumerate(value if isinstance(value, list) else [value])),
    "parse_json": lambda value, argument: json.dumps(value),
    "parse_list": lambda value, argument: str(value if isinstance(value, list) else [value]),
}
