"""YAML as version 1.2's core schema reads it: `no` and `12:30` stay text, `1e-3` is a number, `012` is twelve.

libyaml parses, many times as fast as PyYAML's own parser. What it refuses is parsed again by the latter, which has the
last word: a mistake is worded the same where PyYAML was built without libyaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dataengine.errors import SpecError

MAX_BYTES = 4 * 2**20

# The plain scalars of the core schema that are no text, and the characters that they can begin with.
_CORE = re.compile(
    r"(?P<null>null|Null|NULL|~|)"
    r"|(?P<bool>true|True|TRUE|false|False|FALSE)"
    r"|(?P<int>[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)
_CORE_STARTS = frozenset("nN~tTfF-+.0123456789")


def _mistake(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, problem, event.start_mark)


def _int(text: str) -> int:
    digits = text.lstrip("+-")
    return int(text, 8 if digits.startswith("0o") else 16 if digits.startswith("0x") else 10)


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    plain = event.implicit[0] and (not text or text[0] in _CORE_STARTS)
    if plain and (match := _CORE.fullmatch(text)):
        match match.lastgroup:
            case "null":
                return None
            case "bool":
                return text[0] in "tT"
            case "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        try:
            return _int(text)
        except ValueError as error:  # Python refuses to read thousands of digits
            raise _mistake(f"a number of {len(text)} digits, which none needs", event) from error
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise _mistake("half of a surrogate pair, which is no character", event)
    return text


def _mapping(events: Iterator[Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _value(event, events)
        if not isinstance(key, str):
            # Class ids and years are fair keys; what they are typed as is the schema's business.
            if not isinstance(event, yaml.ScalarEvent):
                raise _mistake("a key must be a scalar", event)
            key = event.value
        if key in result:
            raise _mistake(f"key {key!r} stands twice", event)
        result[key] = _value(next(events), events)
    return result


def _sequence(events: Iterator[Any]) -> list[Any]:
    result: list[Any] = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        result.append(_value(event, events))
    return result


def _value(event: Any, events: Iterator[Any]) -> Any:
    """Return the plain value that an event begins; aliases, tags and duplicate keys are refused."""
    if isinstance(event, yaml.AliasEvent):
        raise _mistake(f"alias {event.anchor!r} is not allowed; write the value out", event)
    if event.tag is not None:
        raise _mistake(f"tag {event.tag!r} is not allowed; write the plain value", event)
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event)
    return _mapping(events) if isinstance(event, yaml.MappingStartEvent) else _sequence(events)


def _document(text: str, loader: Any) -> Any:
    """Return what the only document of a text holds, None where it has none. Raises YAMLError."""
    events = yaml.parse(text, Loader=loader)
    next(events)
    if isinstance(next(events), yaml.StreamEndEvent):
        return None
    value = _value(next(events), events)
    next(events)
    if not isinstance(after := next(events), yaml.StreamEndEvent):
        raise _mistake("expected a single document, but found another document", after)
    return value


def _parse(text: str) -> Any:
    if yaml.__with_libyaml__:
        try:
            return _document(text, yaml.CSafeLoader)
        except (yaml.YAMLError, RecursionError):
            pass  # said below, in the same words everywhere
    return _document(text, yaml.SafeLoader)


def load(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds. Raises SpecError with file, line and column."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"{path}: larger than {MAX_BYTES} bytes, which no spec is")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    try:
        value = _parse(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(f"{place}: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        kind = "nothing" if value is None else type(value).__name__
        raise SpecError(f"{path}: holds {kind}, expected a mapping of keys")
    return value


def line_of(path: Path, keys: list[str]) -> int | None:
    """Return the 1-based line on which the nested key stands, or None where it cannot be found."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    line = None
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
            continue
        if not isinstance(node, yaml.MappingNode):
            return line
        found = next((pair for pair in node.value if pair[0].value == key), None)
        if found is None:
            return line
        line, node = found[0].start_mark.line + 1, found[1]
    return line
