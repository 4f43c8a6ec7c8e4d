"""Conditions on a record (`split == 'train' and not crowd`): comparisons of paths and literals, without calls.

Python's parser reads the text and a whitelist of its nodes is allowed. Text and numbers do not compare: a table's `"1"`
is not `1`, and a condition that is silently never true would empty a dataset.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from dataengine.errors import Quarantine
from dataengine.records.paths import MISSING, Step, Steps, find, kind

Scope = dict[str, Any]
Evaluate = Callable[[Scope], Any]
MAX_CHARS = 2000
_LITERALS = {"true": True, "false": False, "null": None}
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`(?P<quoted>[^`]+)`|(?P<dollar>\$\w+)")


class Condition(NamedTuple):
    """A condition ready to be asked, and the first names of the paths that it looks at."""

    evaluate: Evaluate
    names: frozenset[str]


class _Parser:
    """The names in backquotes or with `$`, by the words that Python's parser sees instead, and all names found."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.quoted: dict[str, str] = {}
        self.names: set[str] = set()

    def prepare(self) -> str:
        """Return the text with plain words in the place of what Python's grammar lacks."""

        def replace(match: re.Match[str]) -> str:
            name = match["quoted"] or match["dollar"]
            if name is None:
                return match[0]
            word = f"__name{len(self.quoted)}__"
            self.quoted[word] = name
            return word

        return _TOKEN.sub(replace, self.text)

    def wrong(self, what: str) -> ValueError:
        return ValueError(f"condition {self.text!r}: {what}")

    def build(self, node: ast.expr) -> Evaluate:
        """Return what evaluates a node. Raises ValueError for a node that is not allowed."""
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.truth(value) for value in values]
                if isinstance(op, ast.And):
                    return lambda scope: all(part(scope) for part in parts)
                return lambda scope: any(part(scope) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = self.truth(operand)
                return lambda scope: not part(scope)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                return self.comparison([left, *comparators], ops)
        return self.operand(node)

    def truth(self, node: ast.expr) -> Callable[[Scope], bool]:
        evaluate = self.build(node)
        return lambda scope: truth(evaluate(scope), self.text)

    def comparison(self, nodes: list[ast.expr], ops: list[ast.cmpop]) -> Evaluate:
        operands = [self.operand(node) for node in nodes]
        for op in ops:
            if type(op) not in _COMPARE:
                raise self.wrong("'is' is not allowed; use '=='")
        steps = [_COMPARE[type(op)] for op in ops]

        def evaluate(scope: Scope) -> bool:
            values = [operand(scope) for operand in operands]
            return all(step(a, b, self.text) for step, a, b in zip(steps, values, values[1:], strict=False))

        return evaluate

    def operand(self, node: ast.expr) -> Evaluate:
        if (steps := self.path(node)) is not None:
            if isinstance(node, ast.Name) and node.id in _LITERALS:
                literal = _LITERALS[node.id]
                return lambda scope: literal
            self.names.add(str(steps[0]))
            return lambda scope: _found(scope, steps)
        if isinstance(node, ast.List | ast.Tuple):
            items = [self.operand(item) for item in node.elts]
            return lambda scope: [item(scope) for item in items]
        if not isinstance(node, ast.Constant | ast.UnaryOp):
            raise self.wrong(f"{ast.unparse(node)!r} is not allowed, expected a path or a literal")
        try:
            value = ast.literal_eval(node)
        except ValueError as error:
            raise self.wrong(f"{ast.unparse(node)!r} is not allowed, expected a literal") from error
        if isinstance(value, bytes | complex) or value is ...:
            raise self.wrong(f"{value!r} is no literal of a table")
        return lambda scope: value

    def path(self, node: ast.expr) -> Steps | None:
        """Return the path that a node spells, or None."""
        match node:
            case ast.Name(id=word):
                return (self.quoted.get(word, word),)
            case ast.Attribute(value=inner, attr=word):
                step: Step = self.quoted.get(word, word)
            case ast.Subscript(value=inner, slice=ast.Constant(value=str() | int() as key)):
                step = key
            case ast.Subscript(
                value=inner, slice=ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as key))
            ):
                step = -key
            case _:
                return None
        steps = self.path(inner)
        return None if steps is None else (*steps, step)


@lru_cache(maxsize=1024)
def parse_condition(text: str) -> Condition:
    """Return a condition. Raises ValueError for anything but comparisons of paths and literals."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"condition has {len(text)} characters, expected at most {MAX_CHARS}")
    parser = _Parser(text)
    try:
        tree = ast.parse(parser.prepare().strip(), mode="eval")
        evaluate = parser.build(tree.body)
    except SyntaxError as error:
        raise parser.wrong(
            f"{error.msg}; put a name that is no plain word, or a word of Python's, in backquotes"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise parser.wrong("nested too deep") from error
    return Condition(evaluate, frozenset(parser.names))


def holds(text: str, scope: Scope) -> bool:
    """Say whether a condition holds. Raises Quarantine `schema` where it compares what does not compare."""
    return truth(parse_condition(text).evaluate(scope), text)


def truth(value: Any, text: str) -> bool:
    """Return a truth value; null is false, and 0 and 1 are what they are in tables."""
    if value is None:
        return False
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise Quarantine("schema", f"condition {text!r}: {value!r} is {kind(value)}, expected true or false")


def _found(scope: Scope, steps: Steps) -> Any:
    value = find(scope, steps)
    return None if value is MISSING else value


def _same_kind(a: Any, b: Any, text: str) -> None:
    pair = {_family(a), _family(b)}
    if len(pair) > 1 and None not in pair:
        raise Quarantine("schema", f"condition {text!r}: compares {kind(a)} {a!r} with {kind(b)} {b!r}")


def _family(value: Any) -> str | None:
    return None if value is None else "number" if isinstance(value, bool | int | float) else kind(value)


def _equal(a: Any, b: Any, text: str) -> bool:
    _same_kind(a, b, text)
    return bool(a == b)


def _less(a: Any, b: Any, text: str) -> bool:
    _same_kind(a, b, text)
    if not isinstance(a, str | int | float) or not isinstance(b, str | int | float):
        raise Quarantine("schema", f"condition {text!r}: {kind(a)} and {kind(b)} have no order")
    return bool(a < b)  # type: ignore[operator]  # one kind, as was just checked


def _inside(a: Any, b: Any, text: str) -> bool:
    if b is None:
        return False
    if isinstance(b, str):
        _same_kind(a, b, text)
        return a is not None and a in b
    if isinstance(b, dict):
        return a in b if isinstance(a, str) else False
    if not isinstance(b, list | tuple):
        raise Quarantine("schema", f"condition {text!r}: {b!r} is {kind(b)}, expected a list or text")
    return any(_equal(a, item, text) for item in b)


_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any, str], bool]] = {
    ast.Eq: _equal,
    ast.NotEq: lambda a, b, text: not _equal(a, b, text),
    ast.Lt: _less,
    ast.Gt: lambda a, b, text: _less(b, a, text),
    ast.LtE: lambda a, b, text: not _less(b, a, text),
    ast.GtE: lambda a, b, text: not _less(a, b, text),
    ast.In: _inside,
    ast.NotIn: lambda a, b, text: not _inside(a, b, text),
}
