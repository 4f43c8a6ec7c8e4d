"""Rows that are made of what a spec asks of them, with those of the tables that are joined."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from converters.formats.records import Labels, Source, table_path
from dataengine.records.paths import parse_path
from dataengine.records.steps import Join
from dataengine.records.tables import Table
from dataengine.records.values import Value, paths
from dataengine.spec import Resolved
from tests.conformance.making import tables
from tests.conformance.making.cells import Cell
from tests.conformance.making.facts import Facts
from tests.conformance.making.filling import MEMBERS, Filler, Row, Scope
from tests.conformance.making.scene import Made, named
from tests.conformance.making.tables import write_table
from tests.conformance.making.wishes import wishes

# Cells of which a spec cuts several values, so that no single one can be turned back into it.
STATED: dict[str, dict[str, str]] = {
    "mmvp": {"Options": "(a) first one (b) second one"},
    # Two rows of one picture, in the folder of its class.
    "uecfood256": {"food": "{number}", "img": "17{number}"},
    "coco_cn": {"name": "COCO_train2014_000{number}#0", "image": "COCO_train2014_000{number}"},
}


class Making:
    """The tables of a source while they are made: rows by file and by their place in it."""

    def __init__(self, spec: Resolved, source: Source) -> None:
        self.spec, self.source = spec, source
        self.fill = Filler(source)
        self.facts = Facts(spec, self.fill)
        self.tables: dict[tuple[str, str | None], tuple[Table, list[Row]]] = {}
        self.joined: dict[tuple[str, str, str], Cell] = {}
        self.count = 0

    def item(self, number: int) -> None:
        """Make the rows of one item, and those of other tables that belong to it."""
        self.fill.number = number
        source = self.source
        rows = tuple(self._row(source.table) for _ in range(MEMBERS if source.group else 1))
        scope = Scope(rows, {}, source.table.rows == ".")
        for name, value in STATED.get(self.spec.dataset.id, {}).items():
            for row in rows:
                row.cells.inside(name)[0].put(value.format(number=number))
        names = {join.as_ for join in source.join}
        grouped = source.group.paths() if source.group else ()
        for path in grouped:
            if parse_path(path)[0] not in names:
                self.fill.fill(scope, parse_path(path), same=True)
        absent = self._absent()
        for join in source.join:
            for row in rows:
                self._join(join, scope._replace(rows=(row,)), join.as_ in absent)
        if source.group:
            group = Cell()
            group.items = [row.cells for row in rows]
            scope = scope.named(source.group.as_, [group])
            for path in grouped:
                self.fill.fill(scope, parse_path(path), same=True)
        for step in source.exploded():
            if f"${step.as_}" in _strings(source.fields) and isinstance(step.path, str):
                self.fill.keyed(scope.find(parse_path(step.path)))
            scope = scope.named(step.as_, self.fill.elements(scope, step.path))
        for condition in source.conditions():
            self.fill.satisfy(scope, condition)
        self.facts.ask(scope)
        for row in rows:
            self._columns(Scope((row,), {}, scope.keyed))
        self.facts.name(scope)
        last = source.exploded()[-1].as_ if source.exploded() else None
        self.count += len(scope.aliases[last]) if last else 1

    def write(self, root: Path) -> Made:
        """Write all tables; return how many items they hold and what must come back of them."""
        if isinstance(self.source.labels, Labels):
            self._label_table(self.source.labels)
        files: dict[str, list[tuple[Table, list[tuple[Any, Any]]]]] = {}
        for (path, _), (table, rows) in self.tables.items():
            for file, found in _by_file(table, path, rows).items():
                files.setdefault(file, []).append((table, found))
        for file, parts in files.items():
            write_table(parts, root / file)
        return Made(self.count, frozenset(self.fill.words))

    def _row(self, table: Table) -> Row:
        path = table_path(table, self.source.vars)
        name = PurePosixPath(path)
        free = {"$stem": name.name.startswith("*."), "$folder": "*" in str(name.parent)}
        row = Row(Cell(), Cell(), {place: Cell() for place, said in free.items() if said})
        row.cells.columns = {name: Cell() for name in self.source.let} if table is self.source.table else {}
        self.tables.setdefault((path, table.rows), (table, []))[1].append(row)
        return row

    def _absent(self) -> set[str]:
        """Return the joins whose rows a condition wants not to be there."""
        return {
            str(wish.path[0])
            for condition in self.source.conditions()
            for wish in wishes(condition)
            if wish.op is ast.Eq and wish.other is None
        }

    def _join(self, join: Join, scope: Scope, absent: bool) -> None:
        """Make the rows of another table that agree with a row."""
        path = table_path(join.table, self.source.vars)
        row = scope.rows[0]
        assert row.cells.columns is not None
        here = (table_path(self.source.table, self.source.vars), self.source.table.rows)
        if (path, join.table.rows) == here and all(a == b for a, b in join.by.items()):
            row.cells.columns[join.as_] = row.cells
            return
        values = [self.fill.fill(scope, parse_path(left)) for left in join.by]
        if absent:
            row.cells.columns[join.as_] = Cell()
            self._other_row(join.table, list(join.by.values()), ["nobody"] * len(values))
            return
        key = (path, join.as_, repr(values))
        if key not in self.joined:
            made = [self._other_row(join.table, list(join.by.values()), values)
                    for _ in range(MEMBERS if join.many else 1)]  # fmt: skip
            self.joined[key] = made[0].cells
            if join.many:
                self.joined[key] = Cell()
                self.joined[key].items = [one.cells for one in made]
        row.cells.columns[join.as_] = self.joined[key]

    def _other_row(self, table: Table, names: Sequence[str], values: Sequence[Any]) -> Row:
        row = self._row(table)
        scope = Scope((row,), {}, table.rows == ".")
        for name, value in zip(names, values, strict=True):
            for cell in scope.find(parse_path(name)):
                cell.put(value)
        return row

    def _columns(self, scope: Scope) -> None:
        """Turn the columns of `let` back into those that they are made of, the last first."""
        columns = scope.rows[0].cells.columns or {}
        # What other columns are made of is settled before a text of several parts.
        parts = {
            name
            for name, one in self.source.let.items()
            if isinstance(one, Value) and one.template is not None
        }
        ordered = [*self.source.let.items()][::-1]
        for name, source in sorted(ordered, key=lambda pair: pair[0] in parts):
            cell = columns[name]
            when = source.when if isinstance(source, Value) else None
            if when is not None and (cell.null or cell.empty):
                self.fill.satisfy(scope, when, want=False)
            elif not cell.null:
                value = cell.plain()
                self.fill.exchange(value, self.fill.assign(scope, source, partial(self._wanted, value)))
                if when is not None and name in self._label_names() and isinstance(source, Value):
                    self.fill.say(named(self.spec, source.template or ""))

    def _wanted(self, value: Any, place: int) -> Any:
        return self.fill.word() if value is None else value

    def _label_names(self) -> tuple[str, ...]:
        labels = self.source.fields.labels
        return paths(labels) if isinstance(labels, Value) else ()

    def _label_table(self, labels: Labels) -> None:
        path = table_path(labels.table, self.source.vars)
        if (path, labels.table.rows) in self.tables:
            return
        for name in self.facts.classes:
            row = self._row(labels.table)
            scope = Scope((row,), {}, labels.table.rows == ".")
            self.fill.assign(scope, labels.name, partial(self._wanted, name))


def _strings(value: Any) -> set[str]:
    """Return all texts that stand as values in a part of a spec."""
    plain = msgspec.to_builtins(value)
    pending, found = [plain], set[str]()
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            found.add(item)
        elif isinstance(item, dict | list | tuple):
            pending += item.values() if isinstance(item, dict) else item
    return found


def _by_file(table: Table, path: str, rows: Sequence[Row]) -> dict[str, list[tuple[Any, Any]]]:
    """Return keys and cells of rows by the file that they stand in."""
    files: dict[str, list[tuple[Any, Any]]] = {}
    apart = "*" in path and table.kind in ("json", "yaml") and table.rows is None
    for number, row in enumerate(rows, start=1):
        said = {name: str(cell.plain()) for name, cell in row.places.items() if not cell.empty}
        spare = f"part{number}" if apart and "$stem" not in said and "$folder" not in said else "part1"
        folder, _, name = path.rpartition("/")
        folder = tables.named(folder, said.get("$folder", spare).rpartition("/")[2])
        file = "/".join(filter(None, (folder, tables.named(name, said.get("$stem", spare)))))
        files.setdefault(file, []).append((row.key.plain(), row.cells.plain() or {}))
    return files
