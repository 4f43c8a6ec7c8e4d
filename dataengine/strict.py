"""Strict loading: a YAML file becomes a Struct, or one line says which key of which line is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dataengine import yaml12
from dataengine.errors import SpecError, nearest

T = TypeVar("T")
MAX_SHOWN = 60
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`(?: - at `(?P<at>[^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `[^`]*`(?: - at `(?P<at>[^`]*)`)?")
_CHOICE = re.compile(r"Invalid enum value '(?P<value>[^']*)'")
_AT = re.compile(r" - at `(?P<at>[^`]*)`$")


def load_struct(path: Path, kind: type[T]) -> T:
    """Load a YAML file as a Struct. Raises SpecError with file, line, key and the nearest known key."""
    return convert(yaml12.load(path), kind, path, [])


def convert(
    value: Any, kind: type[T], path: Path | str, prefix: list[str], beside: tuple[str, ...] = ()
) -> T:
    """Convert plain data that stands under the keys `prefix` of a file. Raises SpecError with every mistake in it.

    `beside` are keys that may stand there too and were taken out: what an unknown key may have been meant to be.
    """
    found, mistakes = attempt(value, kind, path, prefix, beside)
    if found is None or mistakes:
        raise SpecError(*mistakes)
    return found


def attempt(
    value: Any, kind: type[T], path: Path | str, prefix: list[str], beside: tuple[str, ...] = ()
) -> tuple[T | None, list[str]]:
    """Return plain data as `kind` and every mistake in it; None where what is left is none.

    What is wrong is taken out and the rest looked at again, as far as msgspec says where it stands.
    """
    mistakes: list[str] = []
    taken = set[tuple[str, ...]]()
    while True:
        try:
            return msgspec.convert(value, kind, strict=True), mistakes
        except msgspec.ValidationError as error:
            message = str(error)
        if _MISSING.match(message):
            absent = _all_missing(message, value, kind, taken)
            return None, mistakes + [_explain(one, kind, path, prefix, beside) for one in absent]
        keys = _place_of(message)
        mistakes.append(_explain(message, kind, path, prefix, beside) + _given(message, value, keys))
        if not keys:
            return None, mistakes
        words = _known_words(kind, keys) if _CHOICE.match(message) else []
        if not words:
            taken.add(tuple(keys))
        # A word that must be there is replaced by one that may, so that the rest is looked at too.
        value = _put(value, keys, words[0]) if words else _drop(value, keys)


def _all_missing(message: str, value: Any, kind: Any, taken: set[tuple[str, ...]]) -> list[str]:
    """Return a message for each key that the object of a message lacks, but for those that were taken out of it."""
    match = _MISSING.match(message)
    at = (match["at"] if match else None) or ""
    keys = _keys(at)
    info = _type_at(kind, keys)
    if not isinstance(info, msgspec.inspect.StructType) or "..." in at:
        return [message]
    names = [field.encode_name for field in info.fields if field.required]
    absent = [name for name in names if name not in _at(value, keys) and (*keys, name) not in taken]
    return [f"Object missing required field `{name}`" + (f" - at `{at}`" if at else "") for name in absent]


def _place_of(message: str) -> list[str]:
    """Return the keys under which stands what a message is about; none where that is the whole, or not said."""
    match = _UNKNOWN.match(message)
    found = match or _AT.search(message)
    at = (found["at"] if found else None) or ""
    return [] if "..." in at else [*_keys(at), *([match["key"]] if match else [])]


def _given(message: str, value: Any, keys: list[str]) -> str:
    """Return what stands where another type was expected, as a message says it after the type."""
    if not keys or not message.startswith("Expected"):
        return ""
    text = repr(_at(value, keys))
    return f": {text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + '…'}"


def _at(value: Any, keys: list[str]) -> Any:
    for key in keys:
        value = value[int(key)] if isinstance(value, list) else value.get(key)
    return value


def _put(value: Any, keys: list[str], word: str) -> Any:
    """Return a copy of plain data with a word under nested keys."""
    rest = word if len(keys) == 1 else _put(_at(value, keys[:1]), keys[1:], word)
    if isinstance(value, list):
        return [*value[: int(keys[0])], rest, *value[int(keys[0]) + 1 :]]
    return {**value, keys[0]: rest}


def _drop(value: Any, keys: list[str]) -> Any:
    """Return a copy of plain data without what stands under nested keys."""
    if isinstance(value, list):
        number = int(keys[0])
        middle = [] if len(keys) == 1 else [_drop(value[number], keys[1:])]
        return [*value[:number], *middle, *value[number + 1 :]]
    if len(keys) == 1:
        return {key: item for key, item in value.items() if key != keys[0]}
    return {**value, keys[0]: _drop(value[keys[0]], keys[1:])}


def _explain(message: str, kind: Any, path: Path | str, prefix: list[str], beside: tuple[str, ...]) -> str:
    if match := _UNKNOWN.match(message):
        keys = _keys(match["at"])
        known = [*_known_fields(kind, keys), *(() if keys else beside)]
        problem = f"unknown key {match['key']!r}{nearest(match['key'], known)}"
        where = [*prefix, *keys, match["key"]]
    else:
        at = _AT.search(message)
        keys = _keys(at["at"]) if at else []
        where = [*prefix, *keys]
        text = _AT.sub("", message)
        text = text.replace("Object missing required field", "missing key").replace("`", "'")
        if choice := _CHOICE.match(text):
            text += nearest(choice["value"], _known_words(kind, keys))
        problem = (
            f"{'.'.join(where)}: {text[0].lower()}{text[1:]}" if where else f"{text[0].lower()}{text[1:]}"
        )
    line = yaml12.line_of(path, where) if isinstance(path, Path) else None
    place = f"{path}:{line}" if line else str(path)
    if match and len(where) > 1:
        return f"{place}: {'.'.join(where[:-1])}: {problem}"
    return f"{place}: {problem}"


def _keys(at: str | None) -> list[str]:
    """Split msgspec's path (`$.a[0][...].b`) into keys; `[...]` is some key of a mapping, which it does not name."""
    return [key for key in re.split(r"[.\[\]]+", (at or "").removeprefix("$")) if key and key != "..."]


def _known_fields(kind: Any, keys: list[str]) -> list[str]:
    """Return the field names of the Struct that stands at a path inside a type."""
    info = _type_at(kind, keys)
    return (
        [field.encode_name for field in info.fields] if isinstance(info, msgspec.inspect.StructType) else []
    )


def _known_words(kind: Any, keys: list[str]) -> list[str]:
    """Return the words that the Literal at a path inside a type allows."""
    info = _type_at(kind, keys)
    return [str(value) for value in info.values] if isinstance(info, msgspec.inspect.LiteralType) else []


def _type_at(kind: Any, keys: list[str]) -> Any:
    """Return the type that stands at a path inside a type, or None where the path leads nowhere."""
    info = _unwrap(msgspec.inspect.type_info(kind))
    for key in keys:
        if key.isdigit() or not isinstance(info, msgspec.inspect.StructType):
            continue  # a place in a list is no field
        found = next((field.type for field in info.fields if field.encode_name == key), None)
        if found is None:
            return None
        info = _unwrap(found)
    return info


def _unwrap(info: Any) -> Any:
    """Step through optionals, mappings and lists to the type of what they hold."""
    while True:
        if isinstance(info, msgspec.inspect.UnionType):
            # Where a key takes a word or a mapping of keys, it is the mapping whose keys can be unknown.
            kinds = sorted(info.types, key=lambda t: isinstance(t, msgspec.inspect.StructType), reverse=True)
            info = next((t for t in kinds if not isinstance(t, msgspec.inspect.NoneType)), kinds[0])
        elif isinstance(info, msgspec.inspect.DictType):
            info = info.value_type
        elif isinstance(info, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
            info = info.item_type
        else:
            return info
