"""Paths into a record (`a.b`, `a[].b`, `a[0]`), and templates that hold them (`images/{image_id:012d}.jpg`).

A name is any text without `.`, `[`, `]`, `{`, `}`, `:` and backquote; a name that has one stands in backquotes. `[]`
takes every element of a list (or every value of a mapping), `[2]` the third, `[-1]` the last.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from dataengine.errors import Quarantine

# No id has more, and Python reads no number of thousands of digits.
MAX_DIGITS = 100


class Every:
    """The step `[]`."""

    def __repr__(self) -> str:
        return "[]"


class Missing:
    """What a path finds where a record has no such key."""

    def __repr__(self) -> str:
        return "MISSING"


EVERY: Final = Every()
MISSING: Final = Missing()
Step = str | int | Every
Steps = tuple[Step, ...]


class Piece(NamedTuple):
    """A part of a template: words (then `steps` is empty), or a path with its format."""

    text: str
    steps: Steps = ()
    form: str = ""


_STEP = re.compile(r"`(?P<quoted>[^`]+)`|\[(?P<index>-?\d*)\]|(?P<dot>\.)|(?P<plain>[^.\[\]{}:`]+)")
_PIECE = re.compile(
    r"(?P<brace>\{\{|\}\})|\{(?P<path>(?:`[^`]*`|[^{}:`])+)(?::(?P<form>[^{}]*))?\}|(?P<stray>[{}])|(?P<text>[^{}]+)"
)
_FORM = re.compile(r"(?:0?[1-9]\d?)?d?")


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Steps:
    """Return the steps of a path. Raises ValueError."""
    steps: list[Step] = []
    place, after_dot = 0, True
    while place < len(text):
        match = _STEP.match(text, place)
        if match is None:
            raise ValueError(
                f"path {text!r}: {text[place:]!r} is no step, expected a name, '.', '[]' or '[0]'"
            )
        if match["dot"] is not None:
            if after_dot:
                raise ValueError(f"path {text!r}: a '.' without a name before it")
        elif (match["index"] is None) != after_dot:
            raise ValueError(
                f"path {text!r}: {text[place:]!r} follows without '.'" if steps else _start(text)
            )
        elif match["index"] is not None:
            steps.append(int(match["index"]) if match["index"] not in ("", "-") else EVERY)
        else:
            name = match["quoted"] or match["plain"]
            if match["plain"] and name != name.strip():
                raise ValueError(f"path {text!r}: a space around a name; put the name in backquotes")
            steps.append(name)
        after_dot = match["dot"] is not None
        place = match.end()
    if after_dot:
        raise ValueError(f"path {text!r}: ends where a name is expected")
    return tuple(steps)


def _start(text: str) -> str:
    return f"path {text!r}: begins with an index, expected a name"


def find(value: Any, steps: Steps) -> Any:
    """Return what stands at a path, or MISSING. A null on the way is missing too.

    Raises Quarantine `schema` where a list is asked for a name, or something else for its elements.
    """
    for number, step in enumerate(steps):
        if value is None or value is MISSING:
            return MISSING
        if isinstance(step, Every):
            return _every(value, steps, number)
        if isinstance(step, int):
            if not isinstance(value, list | tuple):
                raise Quarantine("schema", f"{show(steps[:number])} is {kind(value)}, expected a list")
            if not -len(value) <= step < len(value):
                return MISSING
            value = value[step]
        elif isinstance(value, dict):
            value = value.get(step, MISSING)
        else:
            hint = "; take its elements with '[]'" if isinstance(value, list) else ""
            raise Quarantine("schema", f"{show(steps[:number])} is {kind(value)}, expected a mapping{hint}")
    return value


def _every(value: Any, steps: Steps, number: int) -> Any:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        raise Quarantine("schema", f"{show(steps[:number])} is {kind(value)}, expected a list")
    rest = steps[number + 1 :]
    found: list[Any] = []
    for item in value:
        part = find(item, rest)
        if part is MISSING:
            return MISSING
        # A list of lists would be of no use to any operation: `a[].b[].c` is one flat list.
        if EVERY in rest:
            found.extend(part)
        else:
            found.append(part)
    return found


def kind(value: Any) -> str:
    """Return what a value is, in the words of JSON."""
    match value:
        case None:
            return "null"
        case bool():
            return "a truth value"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case dict():
            return "a mapping"
    return f"a {type(value).__name__}"


def show(steps: Steps) -> str:
    """Return a path as it is written."""
    text = ""
    for step in steps:
        if isinstance(step, str):
            text += ("." if text else "") + (f"`{step}`" if re.search(r"[.\[\]{}:`]", step) else step)
        else:
            text += "[]" if isinstance(step, Every) else f"[{step}]"
    return text


@lru_cache(maxsize=4096)
def parse_template(text: str) -> tuple[Piece, ...]:
    """Return the pieces of a template; `{{` and `}}` are braces. Raises ValueError."""
    pieces = []
    for match in _PIECE.finditer(text):
        if match["stray"]:
            raise ValueError(f"template {text!r}: a lone {match['stray']!r}; write it twice to mean it")
        if match["path"] is None:
            pieces.append(Piece(match["brace"][0] if match["brace"] else match["text"]))
            continue
        form = match["form"] or ""
        if not _FORM.fullmatch(form):
            raise ValueError(f"template {text!r}: format {form!r}, expected a width such as '012d'")
        pieces.append(Piece("", parse_path(match["path"]), form))
    return tuple(pieces)


def fill(text: str, scope: dict[str, Any]) -> str:
    """Return a template with its paths filled in. Raises Quarantine `field.missing` or `schema`."""
    return "".join(piece.text or _written(piece, scope) for piece in parse_template(text))


def _written(piece: Piece, scope: dict[str, Any]) -> str:
    if not piece.steps:
        return ""
    value = find(scope, piece.steps)
    if value is MISSING or value is None:
        raise Quarantine("field.missing", f"no {show(piece.steps)}")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # an id in a column that has nulls comes as 17.0
    if (
        piece.form
        and isinstance(value, str)
        and value.isascii()
        and value.isdigit()
        and len(value) <= MAX_DIGITS
    ):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Quarantine("schema", f"{show(piece.steps)} is {kind(value)}, expected text or a whole number")
    if not piece.form:
        return str(value)
    if isinstance(value, str):
        raise Quarantine("schema", f"{show(piece.steps)} is {value[:40]!r}, expected a whole number")
    return format(value, piece.form)
