"""Conditions made true or false: the cells that they compare get what they are compared with."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from dataengine.records.conditions import _LITERALS, _Parser
from dataengine.records.paths import Steps
from tests.conformance.making.cells import Cell

Find = Callable[[Steps], list[Cell]]
_NOT = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_MIRRORED = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}


class Wish(NamedTuple):
    """A comparison that shall hold: `op` between what stands at a path and a literal, or another path."""

    path: Steps
    op: type[ast.cmpop]
    other: Any


def wishes(text: str, want: bool = True) -> Iterator[Wish]:
    """Yield what must hold for a condition to be as it is wanted; of alternatives the first."""
    parser = _Parser(text)
    yield from _wishes(parser, ast.parse(parser.prepare().strip(), mode="eval").body, want)


def _wishes(parser: _Parser, node: ast.expr, want: bool) -> Iterator[Wish]:
    match node:
        case ast.BoolOp(op=junction, values=values):
            every = isinstance(junction, ast.And) == want
            for value in values if every else values[:1]:
                yield from _wishes(parser, value, want)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _wishes(parser, operand, not want)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            nodes = [left, *comparators]
            for place, op in enumerate(ops if want else ops[:1]):
                kind: type[ast.cmpop] = type(op) if want else _NOT[type(op)]
                yield from _compared(parser, nodes[place], kind, nodes[place + 1])
        case _:
            yield Wish(_path(parser, node) or (), ast.Eq, want)


def _compared(parser: _Parser, left: ast.expr, op: type[ast.cmpop], right: ast.expr) -> Iterator[Wish]:
    path, other = _path(parser, left), _path(parser, right)
    if path is not None and not str(path[0]).startswith("$"):
        yield Wish(path, op, _literal(right) if other is None else other)
    elif other is not None:
        value = _literal(left) if path is None else path
        yield Wish(other, _MIRRORED.get(op, op), [value] if op is ast.In else value)


def _path(parser: _Parser, node: ast.expr) -> Steps | None:
    if isinstance(node, ast.Name) and node.id in _LITERALS:
        return None
    return parser.path(node)


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return _LITERALS[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [_literal(item) for item in node.elts]
    return ast.literal_eval(node)


def grant(wish: Wish, cells: Sequence[Cell], number: int) -> None:
    """Put into cells what makes a comparison hold; `number` tells rows apart."""
    for cell in cells:
        match wish.op, wish.other:
            case ast.Eq, None:
                cell.null = True
            case ast.NotEq, None:
                if cell.empty and cell.columns is None:
                    cell.put(f"said {number}")
            case ast.Eq, _:
                cell.put(wish.other)
            case ast.In, list() as others if others:
                cell.put(others[number % len(others)])
            case ast.In, str() as text:
                cell.put(text)
            case ((ast.Lt | ast.LtE), (int() | float())):
                cell.put(wish.other - (wish.op is ast.Lt) - number)
            case ((ast.Gt | ast.GtE), (int() | float())):
                cell.put(wish.other + (wish.op is ast.Gt) + number)
            case _:
                pass  # what nobody put there is unequal
