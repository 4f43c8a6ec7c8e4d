"""One value of a record: where it stands, what is done to it, and what it is if it is not there."""

from __future__ import annotations

from typing import Any

import msgspec

from dataengine.errors import Quarantine
from dataengine.records import operations
from dataengine.records.conditions import holds, parse_condition
from dataengine.records.paths import MISSING, fill, find, kind, parse_path, parse_template, show

# Sizes and positions travel in 64 bits.
LARGEST = 2**53

Scope = dict[str, Any]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`from` is a path, or a list of paths that makes a list; `template` is text with paths in braces.

    A value that is missing or null becomes `default`, where there is one; `ops` are not applied to it. Where `when`
    does not hold, the value is null.
    """

    from_: str | tuple[str, ...] | None = msgspec.field(name="from", default=None)
    template: str | None = None
    ops: tuple[operations.Operation, ...] = ()
    default: Any = msgspec.UNSET
    when: str | None = None

    def __post_init__(self) -> None:
        if (self.from_ is None) == (self.template is None):
            raise ValueError("a value needs either 'from' or 'template'")
        for path in paths(self):
            parse_path(path)
        if self.template is not None:
            parse_template(self.template)
        if self.when is not None:
            parse_condition(self.when)
        operations.check(self.ops)


Source = str | Value


def paths(value: Value) -> tuple[str, ...]:
    """Return the paths of a value, in order."""
    if value.from_ is None:
        return ()
    return (value.from_,) if isinstance(value.from_, str) else value.from_


def check_sources(*sources: Source | int | None) -> None:
    """Raise ValueError for a path that is none; Values have checked themselves."""
    for source in sources:
        if isinstance(source, str):
            parse_path(source)


def get(source: Source, scope: Scope, name: str) -> Any:
    """Return the value, None where the source says null. Raises Quarantine, `field.missing` if it is not there."""
    if isinstance(source, str):
        return _required(find(scope, parse_path(source)), source, name)
    if source.when is not None and not holds(source.when, scope):
        return None
    try:
        value = _read(source, scope, name)
        if value is not None:
            value = operations.apply(source.ops, value)
            if value is None and source.default is msgspec.UNSET:
                raise Quarantine("field.missing", f"{name}: its operations find nothing")
    except Quarantine as error:
        if error.reason != "field.missing" or source.default is msgspec.UNSET:
            raise
        return source.default
    return source.default if value is None and source.default is not msgspec.UNSET else value


def _read(source: Value, scope: Scope, name: str) -> Any:
    if source.template is not None:
        try:
            return fill(source.template, scope)
        except Quarantine as error:
            raise Quarantine(error.reason, f"{name}: {error.detail}") from error
    found = [_required(find(scope, parse_path(path)), path, name) for path in paths(source)]
    return found[0] if isinstance(source.from_, str) else found


def _required(value: Any, path: str, name: str) -> Any:
    if value is MISSING:
        raise Quarantine("field.missing", f"{name}: no {show(parse_path(path))}")
    return value


def text(source: Source, scope: Scope, name: str) -> str:
    """Return a value as text. Raises Quarantine."""
    value = get(source, scope, name)
    if value is None:
        raise Quarantine("field.missing", f"{name} is null")
    return as_text(value, name)


def texts(source: Source | None, scope: Scope, name: str) -> tuple[str, ...]:
    """Return a value as texts: none for null, one for text, one each for a list. Raises Quarantine."""
    value = get(source, scope, name) if source is not None else None
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(as_text(item, f"{name}[{number}]") for number, item in enumerate(value))
    return (as_text(value, name),)


def optional_text(source: Source | None, scope: Scope, name: str) -> str | None:
    """Return a value as text, or None where there is none. Raises Quarantine."""
    value = get(source, scope, name) if source is not None else None
    return None if value is None else as_text(value, name)


def optional_int(source: Source | int | None, scope: Scope, name: str) -> int | None:
    """Return a value as a whole number, or None where there is none. Raises Quarantine."""
    if source is None or isinstance(source, int):
        return source
    value = get(source, scope, name)
    if value is None:
        return None
    try:
        number = int(operations.apply(("int",), value))
    except (Quarantine, TypeError) as error:
        raise Quarantine("schema", f"{name} is {value!r}, expected a whole number") from error
    if abs(number) > LARGEST:
        raise Quarantine("schema", f"{name} is {number:.0e}, expected at most {LARGEST}")
    return number


def as_text(value: Any, name: str) -> str:
    """Return text, or a number as it is written. Raises Quarantine `schema` for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    raise Quarantine("schema", f"{name} is {kind(value)}, expected text")
