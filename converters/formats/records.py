"""Any table by a spec alone: rows, joins, filters and the facts that they state. docs/records.md has the grammar.

A source item is a row of the table, or a group of rows, or an element of what `explode` names. It ends as exactly one
annotation or one rejection; what `where` leaves out is a rejection too, with the reason `where.filtered`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from dataengine.annotation import Annotation, Label, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.records import operations, values
from dataengine.records.conditions import parse_condition
from dataengine.records.facts import Fields
from dataengine.records.fields import Context, annotate
from dataengine.records.paths import fill, parse_template
from dataengine.records.pictures import Unpack, unpack, without
from dataengine.records.steps import (
    Explode,
    Group,
    Item,
    Join,
    Joined,
    Stream,
    Variables,
    add_columns,
    due_after,
    explode_rows,
    group_rows,
    index_rows,
    join_rows,
    keep,
    row_scope,
    unused_rows,
)
from dataengine.records.tables import Row, Table, read_rows, reject, spelled
from dataengine.records.values import Value
from dataengine.spill import Keys

VERSION = f"1.{operations.VERSION}"


class Labels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The categories as a table states them, one a row, in its order."""

    table: Table
    name: str | Value

    def __post_init__(self) -> None:
        values.check_sources(self.name)


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The order of things: `table`, `let`, `where`, `join`, `group`, `explode`, `key`, `fields`.

    `let` adds columns that are made of others; `unpack` writes out pictures that stand in cells. A condition of
    `where` is asked as soon as all names in it are there. `vars` are text or numbers that a split sets, `$name` in
    paths and conditions, `{$name}` in templates and in the paths of tables.
    """

    table: Table
    key: str
    fields: Fields
    let: dict[str, str | Value] = {}
    unpack: Unpack | tuple[Unpack, ...] = ()
    join: tuple[Join, ...] = ()
    where: str | tuple[str, ...] = ()
    group: Group | None = None
    explode: Explode | tuple[Explode, ...] = ()
    labels: tuple[str, ...] | Labels | None = None
    vars: Variables = {}

    def __post_init__(self) -> None:
        parse_template(self.key)
        values.check_sources(*self.let.values())
        for condition in self.conditions():
            parse_condition(condition)
        if reserved := {"key", "file", "stem", "folder"} & set(self.vars):
            raise ValueError(f"vars: '${min(reserved)}' is there already; choose another name")
        names = [*self.let, *self.names()]
        if len(set(names)) != len(names):
            raise ValueError(
                f"{max(names, key=names.count)!r}: stands twice as 'as' or in 'let', expected a name of its own"
            )
        tables = [self.table, *(join.table for join in self.join)]
        if isinstance(self.labels, Labels):
            tables.append(self.labels.table)
        for table in tables:
            table_path(table, self.vars)

    def conditions(self) -> tuple[str, ...]:
        """Return the conditions of `where`."""
        return (self.where,) if isinstance(self.where, str) else self.where

    def exploded(self) -> tuple[Explode, ...]:
        """Return the steps of `explode`."""
        return self.explode if isinstance(self.explode, tuple) else (self.explode,)

    def unpacked(self) -> tuple[Unpack, ...]:
        """Return the steps of `unpack`."""
        return self.unpack if isinstance(self.unpack, tuple) else (self.unpack,)

    def names(self) -> list[str]:
        """Return the names that the steps add to a row, in order."""
        group = [self.group.as_] if self.group else []
        return [*(join.as_ for join in self.join), *group, *(step.as_ for step in self.exploded())]


def read(source: Source, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield one annotation or rejection an item, in the order of the table. Raises SourceError."""
    space = labels(source, root)
    context = Context(
        images=source.fields.image_facts(),
        captions=source.fields.caption_facts(),
        names=space.names if space else None,
        root=root,
    )
    seen = Keys()
    for item in _items(source, root):
        if isinstance(item, Rejected):
            yield item
            continue
        key = item.place
        try:
            key = fill(source.key, item.scope)
            if key in seen:
                raise Quarantine("id.duplicate", f"an item with key {key!r} came before")
            seen.add(key)
            origin = Origin(file=item.file, record=item.place)
            yield annotate(source.fields, item.scope, key, origin, context)
        except Quarantine as error:
            yield reject(item.file, item.place, error.reason, error.detail, key)


def prepare(source: Source, directory: Path) -> None:
    """Write the pictures that stand in the table below `directory`, where `unpack` says so. Raises SourceError."""
    facts = source.unpacked()
    if facts:
        root = Root(directory)
        unpack(facts, add_columns(_scoped(source, root, pictures=True), source.let), root)


def labels(source: Source, root: Root) -> LabelSpace | None:
    """Return the categories that `labels` names, each once, or None where the spec has none. Raises SourceError."""
    match source.labels:
        case None:
            return None
        case Labels(table=table, name=name):
            names = []
            for row in _rows(table, "labels.table", source, root):
                if isinstance(row, Rejected):
                    raise SourceError(f"{row.origin.file}: {row.origin.record}: {row.detail}")
                try:
                    names.append(values.text(name, row_scope(row, source.vars), "labels.name"))
                except Quarantine as error:
                    raise SourceError(f"{row.file}: {row.place}: {error.detail}") from error
        case listed:
            names = list(listed)
    return LabelSpace(id="source", labels=tuple(Label(name=name) for name in dict.fromkeys(names)))


def table_path(table: Table, variables: Variables) -> str:
    """Return a table's path with its variables filled in. Raises ValueError for one that `vars` lacks."""
    try:
        return fill(table.path, {f"${name}": value for name, value in variables.items()})
    except Quarantine as error:
        raise ValueError(f"path {table.path!r}: {error.detail} in vars") from error


def _items(source: Source, root: Root) -> Stream:
    """Yield the items: each step takes the stream of the one before it and passes rejections on."""
    due = due_after(source.conditions(), source.names())
    joined = []
    for join in source.join:
        right = Joined({}, set())
        rows = _rows(join.table, f"join.{join.as_}.table", source, root)
        yield from index_rows(rows, join, source.vars, right)
        joined.append(right)
    stream = keep(add_columns(_scoped(source, root), source.let), due[None])
    for join, right in zip(source.join, joined, strict=True):
        stream = keep(join_rows(stream, join, right), due[join.as_])
    if source.group is not None:
        stream = keep(group_rows(stream, source.group), due[source.group.as_])
    for step in source.exploded():
        stream = keep(explode_rows(stream, step), due[step.as_])
    yield from stream
    for join, right in zip(source.join, joined, strict=True):
        if join.unused == "quarantine":
            yield from unused_rows(right)


def _rows(
    table: Table, needed_as: str, source: Source, root: Root, *, pictures: bool = False
) -> Iterator[Row | Rejected]:
    filled = msgspec.structs.replace(table, path=table_path(table, source.vars))
    said = msgspec.to_builtins(source) if pictures else without(source)
    return read_rows(filled, root, f"{needed_as}.path", spelled(said))


def _scoped(source: Source, root: Root, *, pictures: bool = False) -> Stream:
    for row in _rows(source.table, "table", source, root, pictures=pictures):
        if isinstance(row, Rejected):
            yield row
        else:
            yield Item(row.file, row.place, row_scope(row, source.vars), {})
