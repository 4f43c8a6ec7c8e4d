"""YAML as version 1.2's core schema reads it: `no` and `12:30` stay text, `1e-3` is a number, `012` is twelve."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from dataengine.errors import SpecError

MAX_BYTES = 4 * 2**20


class _Loader(yaml.SafeLoader):
    """PyYAML's safe constructor under YAML 1.2 scalars; duplicate keys, aliases and tags are refused."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(
                None, None, f"alias {event.anchor!r} is not allowed; write the value out", event.start_mark
            )
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if event.tag is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"tag {event.tag!r} is not allowed; write the plain value", event.start_mark
            )
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            # Class ids and years are fair keys; what they are typed as is the schema's business.
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        if key is None:
            raise yaml.constructor.ConstructorError(None, None, "a key must be a scalar", key_node.start_mark)
        if key in result:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands twice", key_node.start_mark
            )
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    digits = text.lstrip("+-")
    base = 8 if digits.startswith("0o") else 16 if digits.startswith("0x") else 10
    try:
        return int(text, base) if base != 10 else int(text)
    except ValueError as error:  # Python refuses to read thousands of digits
        raise yaml.constructor.ConstructorError(
            None, None, f"a number of {len(text)} digits, which none needs", node.start_mark
        ) from error


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _construct_str(loader: _Loader, node: yaml.ScalarNode) -> str:
    text: str = node.value
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise yaml.constructor.ConstructorError(
            None, None, "half of a surrogate pair, which is no character", node.start_mark
        )
    return text


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_Loader.add_constructor("tag:yaml.org,2002:str", _construct_str)


def load(path: Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds. Raises SpecError with file, line and column."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"{path}: larger than {MAX_BYTES} bytes, which no spec is")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise SpecError(f"{place}: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise SpecError(f"{path}: holds {type(value).__name__}, expected a mapping of keys")
    return value


def line_of(path: Path, keys: list[str]) -> int | None:
    """Return the 1-based line on which the nested key stands, or None where it cannot be found."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
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
