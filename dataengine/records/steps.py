"""The steps between a table and its items: filters, joins, groups and explosions of a stream of rows.

Each step takes the stream of the one before it and passes rejections on, so that nothing is lost between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

import msgspec

from dataengine.annotation import Rejected
from dataengine.errors import Quarantine
from dataengine.records import values
from dataengine.records.conditions import holds, parse_condition
from dataengine.records.facts import check_lists
from dataengine.records.fields import first_path, members
from dataengine.records.paths import parse_path, show
from dataengine.records.tables import Row, Table, reject
from dataengine.records.values import Scope, Source

Variables = dict[str, str | int]


class Join(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of another table as the value `as` of each row, where `by` {path here: path there} agrees as text.

    One row, or with `many` a list. `orphans` are rows here without one there, `unused` rows there without one here.
    """

    table: Table
    by: dict[str, str]
    as_: str = msgspec.field(name="as")
    many: bool = False
    orphans: Literal["quarantine", "keep"] = "quarantine"
    unused: Literal["quarantine", "ignore"] = "ignore"

    def __post_init__(self) -> None:
        if not self.by:
            raise ValueError("by: expected at least one pair of paths")
        for left, right in self.by.items():
            parse_path(left)
            parse_path(right)


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that agree in `by` become one, the first of them, with all of them as the list `as`; held in memory."""

    by: str | tuple[str, ...]
    as_: str = msgspec.field(name="as")

    def __post_init__(self) -> None:
        for path in self.paths():
            parse_path(path)

    def paths(self) -> tuple[str, ...]:
        """Return the paths that must agree."""
        return (self.by,) if isinstance(self.by, str) else self.by


class Explode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each element of the list or mapping at `path` becomes an item of its own, called `as`; its place is `$as`.

    With several paths their lists are walked in step, and an element is the list of what stands side by side.
    """

    path: str | tuple[str, ...]
    as_: str = msgspec.field(name="as")

    def __post_init__(self) -> None:
        check_lists(self.path, "path")


class Item(NamedTuple):
    """A row on its way: its file, its place there, what its paths see, and the places of what was taken out of it."""

    file: str
    place: str
    scope: Scope
    places: dict[str, str]


class Joined(NamedTuple):
    """The rows of a joined table by what they are joined by, and where each key was used."""

    rows: dict[tuple[str, ...], list[Row]]
    used: set[tuple[str, ...]]


Stream = Iterator[Item | Rejected]


def row_scope(row: Row, variables: Variables) -> Scope:
    """Return what the paths of a spec see: the row's cells, the split's variables, and where the row stands."""
    path = PurePosixPath(row.file)
    return {
        **row.cells,
        **{f"${name}": value for name, value in variables.items()},
        "$key": row.key,
        "$file": row.file,
        "$stem": path.stem,
        "$folder": path.parent.as_posix(),
    }


def due_after(conditions: Sequence[str], names: list[str]) -> dict[str | None, list[str]]:
    """Return the conditions by the name after which they can be asked: the last that they mention."""
    due: dict[str | None, list[str]] = {name: [] for name in (None, *names)}
    for condition in conditions:
        mentioned = {name.removeprefix("$") for name in parse_condition(condition).names}
        last = next((name for name in reversed(names) if name in mentioned), None)
        due[last].append(condition)
    return due


def keep(stream: Stream, conditions: list[str]) -> Stream:
    """Reject the items for which one of the conditions does not hold, as `where.filtered`."""
    for item in stream:
        if isinstance(item, Rejected):
            yield item
            continue
        try:
            failed = next((one for one in conditions if not holds(one, item.scope)), None)
        except Quarantine as error:
            yield reject(item.file, item.place, error.reason, error.detail)
            continue
        yield item if failed is None else reject(item.file, item.place, "where.filtered", f"not {failed}")


def add_columns(stream: Stream, columns: dict[str, Source]) -> Stream:
    """Add the columns of `let` to each item, in order: a later one may use those before it."""
    for item in stream:
        if isinstance(item, Rejected):
            yield item
            continue
        try:
            scope = item.scope
            for name, source in columns.items():
                scope = _with(scope, name, values.get(source, scope, f"let.{name}"))
        except Quarantine as error:
            yield reject(item.file, item.place, error.reason, error.detail)
        else:
            yield item._replace(scope=scope)


def _agreed(scope: Scope, paths: Sequence[str]) -> tuple[str, ...]:
    """Return the values to join or group by, as text: files mix 5 and "5". Raises Quarantine."""
    return tuple(values.text(path, scope, "by") for path in paths)


def index_rows(
    rows: Iterator[Row | Rejected], join: Join, variables: Variables, right: Joined
) -> Iterator[Rejected]:
    """Put the rows of a joined table into `right` by what they are joined by; yield those that cannot be."""
    paths = tuple(join.by.values())
    for row in rows:
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            key = _agreed(row_scope(row, variables), paths)
        except Quarantine as error:
            yield reject(row.file, row.place, error.reason, error.detail)
        else:
            right.rows.setdefault(key, []).append(row)


def join_rows(stream: Stream, join: Join, right: Joined) -> Stream:
    """Add what a joined table has to each item."""
    paths = tuple(join.by)
    for item in stream:
        if isinstance(item, Rejected):
            yield item
            continue
        try:
            key = _agreed(item.scope, paths)
            rows = right.rows.get(key, [])
            right.used.add(key)
            yield item._replace(scope=_with(item.scope, join.as_, _taken(join, key, rows)))
        except Quarantine as error:
            yield reject(item.file, item.place, error.reason, error.detail)


def _taken(join: Join, key: tuple[str, ...], rows: list[Row]) -> Any:
    if not rows and join.orphans == "quarantine":
        raise Quarantine("id.orphan", f"{join.as_}: no row of {join.table.path} has {', '.join(key)}")
    if join.many:
        return [row.cells for row in rows]
    if len(rows) > 1:
        both = f"{rows[0].place} and {rows[1].place}"
        raise Quarantine("id.duplicate", f"{join.as_}: {both} of {join.table.path} have {', '.join(key)}")
    return rows[0].cells if rows else None


def unused_rows(right: Joined) -> Iterator[Rejected]:
    """Reject the rows of a joined table that no item asked for."""
    for key, rows in right.rows.items():
        if key not in right.used:
            for row in rows:
                yield reject(row.file, row.place, "id.orphan", f"no row of the table has {', '.join(key)}")


def _with(scope: Scope, name: str, value: Any) -> Scope:
    if name in scope:
        raise Quarantine("schema", f"a column is called {name!r} too; choose another name for 'as'")
    return {**scope, name: value}


def group_rows(stream: Stream, group: Group) -> Stream:
    """Make one item of all that agree, in the order in which the groups begin."""
    groups: dict[tuple[str, ...], list[Item]] = {}
    for item in stream:
        if isinstance(item, Rejected):
            yield item
            continue
        try:
            groups.setdefault(_agreed(item.scope, group.paths()), []).append(item)
        except Quarantine as error:
            yield reject(item.file, item.place, error.reason, error.detail)
    for items in groups.values():
        first = items[0]
        others = f" and {len(items) - 1} more" if len(items) > 1 else ""
        try:
            scope = _with(first.scope, group.as_, [item.scope for item in items])
            yield Item(first.file, f"{first.place}{others}", scope, {})
        except Quarantine as error:
            yield reject(first.file, first.place, error.reason, error.detail)


def explode_rows(stream: Stream, step: Explode) -> Stream:
    """Make an item of each element; an item that has none ends as `unit.none`."""
    path = first_path(step.path)
    for item in stream:
        if isinstance(item, Rejected):
            yield item
            continue
        try:
            parts = members(step.path, item.scope, "explode")
            if not parts:
                raise Quarantine("unit.none", f"{path} is empty")
            base = _with(item.scope, step.as_, None)
        except Quarantine as error:
            yield reject(item.file, item.place, error.reason, error.detail)
            continue
        for position, part in parts:
            place = _inside(item, path, position)
            yield Item(
                file=item.file,
                place=place,
                scope={**base, step.as_: part, f"${step.as_}": position},
                places={**item.places, step.as_: place},
            )


def _inside(item: Item, path: str, position: str | int) -> str:
    """Return the place of an element: `[12].sentences[0]`, `line 7: sentences[0]`."""
    first = str(parse_path(path)[0])
    if first in item.places:
        return f"{item.places[first]}{show(parse_path(path)).removeprefix(first)}[{position}]"
    return f"{item.place}{'.' if item.place.endswith(']') else ': '}{path}[{position}]"
