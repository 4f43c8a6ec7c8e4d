"""Options as plain data: read strictly into the dataclasses that hold them, laid over others, written out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from dataengine.errors import ModelError, nearest

T = TypeVar("T")


def read(kind: type[T], options: Mapping[str, Any], place: str) -> T:
    """Return plain data as a dataclass of options. Raises ModelError, naming the place, for an unknown or ill-typed
    key, however deep it stands."""
    _check_keys(kind, options, place)
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        raise ModelError(f"{place}: {error}, expected the fields of {kind.__name__}; change it") from error


def plain(options: Any) -> Any:
    """Return a dataclass of options as mappings, lists, strings and numbers."""
    return msgspec.json.decode(msgspec.json.encode(options))


def overlay(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with changes laid over them, mapping by mapping: what a change does not name stays."""
    result = dict(options)
    for key, value in changes.items():
        below = result.get(key)
        nested = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[key] = overlay(below, value) if nested else value
    return result


def _check_keys(kind: type, options: Mapping[str, Any], place: str) -> None:
    # msgspec refuses wrong types in dataclasses, but passes over keys that they do not have.
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ModelError(
            f"{place}: unknown key {unknown[0]!r}, expected the fields of {kind.__name__}{nearest(unknown[0], known)}"
        )
    for name, hint in get_type_hints(kind).items():
        # An optional part is a union with None.
        for part in get_args(hint) or (hint,):
            if is_dataclass(part) and isinstance(options.get(name), Mapping):
                _check_keys(part, options[name], f"{place}.{name}")
