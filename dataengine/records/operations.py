"""Operations on values: a closed set, written as `strip` or `{split: "|"}`, each a pure function.

Those of `_EACH` change every element of a list; those of `_WHOLE` take the value as it is. A change of meaning raises
VERSION, which is part of the reader's name in every manifest.
"""

from __future__ import annotations

import ast
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import msgspec

from dataengine.errors import Quarantine, nearest
from dataengine.records.paths import kind

VERSION = "1"
MAX_PARSED_CHARS = 1 << 20
Operation = str | dict[str, Any]
_TRUE, _FALSE = {"true", "yes", "y", "t", "1"}, {"false", "no", "n", "f", "0"}


def apply(operations: Sequence[Operation], value: Any) -> Any:
    """Return a value after its operations. Raises Quarantine `schema`, `text.empty` or `value.unknown`."""
    for operation in operations:
        name, argument = split_operation(operation)
        if name in _EACH and isinstance(value, list):
            value = [_EACH[name](item, argument) for item in value]
        elif name in _EACH:
            value = _EACH[name](value, argument)
        else:
            value = _WHOLE[name](value, argument)
        if value is None:
            return None
    return value


def check(operations: Sequence[Operation]) -> None:
    """Raise ValueError for an operation that does not exist, or an argument that it cannot take."""
    for operation in operations:
        if isinstance(operation, dict) and len(operation) != 1:
            raise ValueError(f"operation {operation!r} has {len(operation)} names, expected one")
        name, argument = split_operation(operation)
        if name not in _ARGUMENT:
            raise ValueError(f"unknown operation {name!r}{nearest(name, _ARGUMENT)}")
        if problem := _ARGUMENT[name](argument):
            raise ValueError(f"operation {name!r}: {problem}")


def split_operation(operation: Operation) -> tuple[str, Any]:
    """Return name and argument (None where it stands alone)."""
    if isinstance(operation, str):
        return operation, None
    return next(iter(operation.items()))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Quarantine("schema", f"{_short(value)} is {kind(value)}, expected text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Quarantine("schema", f"{_short(value)} is {kind(value)}, expected a list")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Quarantine("schema", f"{_short(value)} is {kind(value)}, expected a number")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _to_int(value: Any, argument: None) -> int:
    try:
        number = int(value.strip()) if isinstance(value, str) else int(_number(value))
    except (ValueError, OverflowError) as error:
        raise Quarantine("schema", f"{_short(value)} is no whole number") from error
    if isinstance(value, float) and number != value:
        raise Quarantine("schema", f"{value!r} is no whole number")
    return number


def _to_float(value: Any, argument: None) -> float:
    try:
        return float(value) if isinstance(value, str) else float(_number(value))
    except (ValueError, OverflowError) as error:
        raise Quarantine("schema", f"{_short(value)} is no number") from error


def _to_bool(value: Any, argument: None) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word not in _TRUE | _FALSE:
        raise Quarantine("schema", f"{_short(value)} is neither true nor false")
    return word in _TRUE


def _scaled(value: Any, factor: float) -> float:
    try:
        return _number(value) * factor
    except OverflowError as error:
        raise Quarantine("schema", f"{_short(value)} is no number to scale: {error}") from error


def _rounded(value: Any, digits: int | None) -> float:
    try:
        return round(_number(value), digits)
    except (OverflowError, ValueError) as error:
        raise Quarantine("schema", f"{_short(value)} is no number to round: {error}") from error


def _take(value: Any, pattern: str) -> str | None:
    match = re.search(pattern, _text(value))
    if match is None:
        return None
    return match[1] if match.re.groups else match[0]


def _mapped(value: Any, table: dict[str, Any]) -> Any:
    word = str(value).lower() if isinstance(value, bool) else str(value)
    if not isinstance(value, str | int | float) or word not in table:
        raise Quarantine("value.unknown", f"{_short(value)} is not in map_values{nearest(word, table)}")
    return table[word]


def _nonempty(value: Any, argument: None) -> Any:
    if isinstance(value, str | list | dict) and not (value.strip() if isinstance(value, str) else value):
        raise Quarantine("text.empty", f"{_short(value)} is empty")
    return value


def _parse_json(value: Any, argument: None) -> Any:
    try:
        return msgspec.json.decode(_text(value))
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Quarantine("schema", f"{_short(value)} is not JSON: {error}") from error


def _parse_list(value: Any, argument: None) -> list[Any]:
    """Read a list that Python wrote as text, as in VSR's `"[2, 10]"`."""
    if isinstance(value, list):
        return value
    if len(_text(value)) > MAX_PARSED_CHARS:
        raise Quarantine("schema", f"a list written in {len(value)} characters")
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise Quarantine("schema", f"{_short(value)} is no list of literals") from error
    if not isinstance(found, list | tuple):
        raise Quarantine("schema", f"{_short(value)} is {kind(found)}, expected a list")
    return list(found)


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise Quarantine("schema", f"{_short(value)} is {kind(value)}, expected a mapping")
    return value


def _nth(value: Any, number: int) -> Any:
    items = _list(value)
    return items[number] if -len(items) <= number < len(items) else None


def _ranked(value: Any, argument: None) -> list[Any]:
    items = _list(value)
    try:
        # Counter keeps the order of first sight, and sorting is stable: a tie goes to whoever came first.
        return [item for item, _ in Counter(items).most_common()]
    except TypeError as error:
        raise Quarantine(
            "schema", f"{_short(items)} holds lists or mappings, expected plain values"
        ) from error


def _unique(value: Any, argument: None) -> list[Any]:
    found: list[Any] = []
    for item in _list(value):
        if item not in found:
            found.append(item)
    return found


def _present(value: Any, argument: None) -> list[Any]:
    return [item for item in _list(value) if item is not None and item != ""]


def _band(value: Any, bands: dict[str, float]) -> str:
    """Return the lowest band whose upper limit a number does not pass; the order of a mapping says nothing."""
    number = _to_float(value, None)
    for limit, name in sorted((limit, name) for name, limit in bands.items()):
        if number <= limit:
            return name
    raise Quarantine("value.unknown", f"{number:g} lies beyond the last of the bands")


def _mean_vote(value: Any, lowest: int) -> float:
    """Return the mean rating of a histogram of votes, whose first entry counts the rating `lowest`."""
    votes = [_to_float(item, None) for item in _list(value)]
    if not sum(votes) > 0 or min(votes) < 0:
        raise Quarantine("schema", f"{_short(value)} holds no votes")
    return sum(rating * count for rating, count in enumerate(votes, start=lowest)) / sum(votes)


def _join(value: Any, separator: str | None) -> str:
    return (separator or "").join(_text(item) for item in _list(value))


_EACH: dict[str, Callable[[Any, Any], Any]] = {
    "strip": lambda value, argument: _text(value).strip(argument),
    "lower": lambda value, argument: _text(value).lower(),
    "nfc": lambda value, argument: unicodedata.normalize("NFC", _text(value)),
    "regex_take": _take,
    "map_values": _mapped,
    "prefix": lambda value, argument: f"{argument}{_text(value)}",
    "suffix": lambda value, argument: f"{_text(value)}{argument}",
    "basename": lambda value, argument: PurePosixPath(_text(value).replace("\\", "/")).name,
    "replace": lambda value, argument: _text(value).replace(argument["old"], argument["new"]),
    "sha256": lambda value, argument: hashlib.sha256(_text(value).encode()).hexdigest(),
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "scale": _scaled,
    "round": _rounded,
    "bands": _band,
}
_WHOLE: dict[str, Callable[[Any, Any], Any]] = {
    "nonempty": _nonempty,
    "keys": lambda value, argument: list(_mapping(value)),
    "values": lambda value, argument: list(_mapping(value).values()),
    "first": lambda value, argument: _nth(value, 0),
    "last": lambda value, argument: _nth(value, -1),
    "nth": _nth,
    "join": _join,
    "split": lambda value, argument: _text(value).split(argument),
    "parse_json": _parse_json,
    "parse_list": _parse_list,
    "majority": lambda value, argument: next(iter(_ranked(value, argument)), None),
    "ranked": _ranked,
    "unique": _unique,
    "present": _present,
    "mean_vote": _mean_vote,
}


def _nothing(argument: Any) -> str:
    return "takes no argument" if argument is not None else ""


def _whole_number(argument: Any) -> str:
    return "" if type(argument) is int else f"{argument!r}, expected a whole number"


def _factor(argument: Any) -> str:
    return "" if type(argument) in (int, float) else f"{argument!r}, expected a number"


def _words(argument: Any) -> str:
    return "" if isinstance(argument, str) and argument else f"{argument!r}, expected text"


def _pattern(argument: Any) -> str:
    try:
        re.compile(argument)
    except (re.error, TypeError) as error:
        return f"{argument!r} is no pattern: {error}"
    return ""


def _replacement(argument: Any) -> str:
    fits = (
        isinstance(argument, dict)
        and set(argument) == {"old", "new"}
        and all(isinstance(text, str) for text in argument.values())
        and argument["old"]
    )
    return "" if fits else f"{argument!r}, expected {{old: text, new: text}}"


def _table(argument: Any) -> str:
    return "" if isinstance(argument, dict) and argument else f"{argument!r}, expected a mapping of values"


def _limits(argument: Any) -> str:
    limits = list(argument.values()) if isinstance(argument, dict) else []
    fits = len(limits) > 1 and all(type(limit) in (int, float) for limit in limits)
    if fits and len(set(limits)) == len(limits):
        return ""
    return f"{argument!r}, expected {{name: upper limit}}, each limit another"


_ARGUMENT: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys([*_EACH, *_WHOLE], _nothing),
    "strip": lambda argument: "" if argument is None else _words(argument),
    "split": lambda argument: "" if argument is None else _words(argument),
    "join": lambda argument: "" if isinstance(argument, str | None) else _words(argument),
    "round": lambda argument: "" if argument is None else _whole_number(argument),
    "nth": _whole_number,
    "scale": _factor,
    "prefix": _words,
    "suffix": _words,
    "regex_take": _pattern,
    "map_values": _table,
    "replace": _replacement,
    "bands": _limits,
    "mean_vote": _whole_number,
}
NAMES = tuple(sorted(_ARGUMENT))
