"""Rows that are made of what a spec asks of them: each path gets the kind of value that is looked for there."""

from __future__ import annotations

import ast
import base64
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec

from converters.formats.records import Labels, Source, table_path
from dataengine.annotation import Box
from dataengine.geometry import rle_from_polygons
from dataengine.records.facts import (
    ROLES,
    BoxFact,
    Coordinates,
    DialogFact,
    Fact,
    ImageFact,
    InstanceFact,
    QuestionFact,
)
from dataengine.records.paths import EVERY, Steps, parse_path, parse_template
from dataengine.records.steps import Join
from dataengine.records.tables import Table
from dataengine.records.values import Value, paths
from dataengine.spec import Resolved
from tests.conformance.miniatures import tables
from tests.conformance.miniatures.cells import Cell, walk
from tests.conformance.miniatures.inverses import inverse
from tests.conformance.miniatures.scene import (
    HEIGHT,
    WIDTH,
    Made,
    box_of,
    classes_of,
    corners,
    named,
    picture,
)
from tests.conformance.miniatures.tables import write_table
from tests.conformance.miniatures.wishes import grant, wishes

MEMBERS = 2
CHOICES = ("first one", "second one", "third one", "fourth one")
Wanted = Callable[[int], Any]
# Cells of which a spec cuts several values, so that no single one can be turned back into it.
STATED: dict[str, dict[str, str]] = {
    "mmvp": {"Options": "(a) first one (b) second one"},
    # Two rows of one picture, in the folder of its class.
    "uecfood256": {"food": "{number}", "img": "17{number}"},
    "coco_cn": {"name": "COCO_train2014_000{number}#0", "image": "COCO_train2014_000{number}"},
}


class Row(NamedTuple):
    """A row that is being made, its key where the table is a mapping, and what its file and folder are called."""

    key: Cell
    cells: Cell
    places: dict[str, Cell]


class Scope(NamedTuple):
    """What the paths of a fact see: the rows of an item, and the elements that have a name of their own."""

    rows: tuple[Row, ...]
    aliases: dict[str, list[Cell]]
    keyed: bool

    def find(self, steps: Steps) -> list[Cell]:
        """Return the places that a path leads to; none where the value is not the row's to say."""
        head = str(steps[0])
        if head in self.aliases:
            return walk(self.aliases[head], steps[1:])
        if head == "$key":
            return [row.key for row in self.rows] if self.keyed else []
        if head in ("$stem", "$folder"):
            return [row.places[head] for row in self.rows if head in row.places]
        if head.startswith("$") and head != "$value":
            return []
        return walk([row.cells for row in self.rows], steps)

    def named(self, name: str, cells: list[Cell]) -> Scope:
        """Return the scope inside elements that have a name."""
        return self._replace(aliases={**self.aliases, name: cells})


def _all(facts: Any) -> tuple[Any, ...]:
    return facts if isinstance(facts, tuple) else (facts,)


class Making:
    """The tables of a source while they are made: rows by file, and the words that must come back."""

    def __init__(self, spec: Resolved, source: Source) -> None:
        self.spec, self.source = spec, source
        self.tables: dict[tuple[str, str | None], tuple[Table, list[Row]]] = {}
        self.shared: dict[tuple[str, Steps], int] = {}
        self.joined: dict[tuple[str, str, str], Cell] = {}
        self.words = set[str]()
        self.count = 0
        self.tokens = itertools.count(1)
        declared = source.labels if isinstance(source.labels, tuple) else ()
        self.classes = classes_of(spec, declared)
        self.number = 0

    def item(self, number: int) -> None:
        """Make the rows of one item, and those of other tables that belong to it."""
        self.number = number
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
                self._tokens(scope, parse_path(path), same=True)
        absent = self._absent()
        for join in source.join:
            for row in rows:
                self._join(join, scope._replace(rows=(row,)), join.as_ in absent)
        if source.group:
            group = Cell()
            group.items = [row.cells for row in rows]
            scope = scope.named(source.group.as_, [group])
            for path in grouped:
                self._tokens(scope, parse_path(path), same=True)
        for step in source.exploded():
            if f"${step.as_}" in _strings(source.fields) and isinstance(step.path, str):
                self._keyed(scope.find(parse_path(step.path)))
            scope = scope.named(step.as_, self._elements(scope, step.path))
        for condition in source.conditions():
            self._satisfy(scope, condition)
        self._facts(scope)
        for row in rows:
            self._columns(Scope((row,), {}, scope.keyed))
        self._names(scope)
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
        return Made(self.count, frozenset(self.words))

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
        values = [self._tokens(scope, parse_path(left)) for left in join.by]
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

    def _keyed(self, cells: list[Cell]) -> None:
        """Make mappings whose keys are what is asked."""
        for cell in cells:
            cell.fields = {f"what is {next(self.tokens)}?": Cell() for _ in range(MEMBERS)}
            self._say(*cell.fields)

    def _elements(self, scope: Scope, lists: str | tuple[str, ...]) -> list[Cell]:
        """Return the elements of a list, or of lists that are walked in step."""
        if isinstance(lists, str):
            return [one for cell in scope.find(parse_path(lists)) for one in cell.several(MEMBERS)]
        columns = [
            [one for cell in scope.find(parse_path(path)) for one in cell.several(MEMBERS)] for path in lists
        ]
        found = []
        for parts in zip(*columns, strict=False):
            found.append(Cell())
            found[-1].items = list(parts)
        return found

    def _tokens(
        self, scope: Scope, steps: Steps, *, same: bool = False, ending: str = "", form: str = ""
    ) -> Any:
        """Fill empty places with a text or number that no other has; return what stands in the first."""
        found = scope.find(steps)
        shared = next((cell.plain() for cell in found if not cell.empty), None) if same else None
        for cell in found:
            if cell.empty and not cell.columns:
                token = next(self.tokens)
                cell.put(shared if shared is not None else token if form else f"{token}{ending}")
                shared = cell.plain() if same else None
        return found[0].plain() if found else None

    def _template(self, scope: Scope, template: str, ending: str = "") -> None:
        pieces = parse_template(template)
        for place, piece in enumerate(pieces):
            if piece.steps:
                last = place == len(pieces) - 1
                self._tokens(scope, piece.steps, ending=ending if last else "", form=piece.form)

    def _satisfy(self, scope: Scope, condition: str, want: bool = True) -> None:
        for wish in wishes(condition, want):
            cells = scope.find(wish.path)
            if isinstance(wish.other, tuple):
                head = str(wish.other[0]).removeprefix("$")
                other: Any = self.source.vars.get(head) if str(wish.other[0]).startswith("$") else None
                if other is None:
                    other = self._tokens(scope, wish.other)
                wish = wish._replace(other=other)
            grant(wish, cells, self.number)

    def _assign(self, scope: Scope, source: str | Value | int | None, wanted: Wanted) -> list[Any]:
        """Put what gives the wanted values where a source looks; return those that it gives exactly."""
        match source:
            case None | int():
                return []
            case str():
                pairs = [(cell, wanted(place)) for place, cell in enumerate(scope.find(parse_path(source)))]
                return [value for cell, value in pairs if cell.put(value)]
        if source.when is not None:
            self._satisfy(scope, source.when)
        if source.template is not None:
            return self._assign_template(scope, source.template, wanted)
        if isinstance(source.from_, str):
            return self._assign_path(scope, source, wanted)
        return self._assign_list(scope, source, wanted)

    def _assign_template(self, scope: Scope, template: str, wanted: Wanted) -> list[Any]:
        pieces = parse_template(template)
        if not any(piece.steps for piece in pieces):
            return [template]
        inner = [piece for piece in pieces if piece.steps]
        if len(inner) == 1 and isinstance(wanted(0), str):
            before = "".join(piece.text for piece in pieces[: pieces.index(inner[0])])
            after = "".join(piece.text for piece in pieces[pieces.index(inner[0]) + 1 :])
            for place, cell in enumerate(scope.find(inner[0].steps)):
                text = wanted(place)
                if text.startswith(before) and text.endswith(after):
                    cell.put(text.removeprefix(before).removesuffix(after))
        asked = wanted(0)
        for piece in inner:
            # Rows of one group make one value of the same pieces.
            token = self.shared.setdefault((str(asked), piece.steps), next(self.tokens))
            for cell in scope.find(piece.steps):
                if cell.empty and not cell.columns:
                    cell.put(token if piece.form else str(token))
        return []

    def _assign_path(self, scope: Scope, source: Value, wanted: Wanted) -> list[Any]:
        exact = []
        steps = parse_path(str(source.from_))
        cells = scope.find(steps)
        if EVERY in steps and cells:
            asked = [wanted(place) for place in range(len(cells))]
            value, same = inverse(source.ops, asked, next(self.tokens))
            values = value if isinstance(value, list) else [value]
            put = [cell.put(values[place % len(values)]) for place, cell in enumerate(cells)]
            return asked if same and all(put) else []
        for place, cell in enumerate(cells):
            asked = wanted(place)
            value, same = inverse(source.ops, asked, next(self.tokens))
            if cell.put(value) and same:
                exact.append(asked)
        return exact

    def _assign_list(self, scope: Scope, source: Value, wanted: Wanted) -> list[Any]:
        """Put each of some values at a path of its own; of columns that stand under a condition, one has a value."""
        names = paths(source)
        asked = wanted(0)
        values, same = inverse(source.ops, asked, next(self.tokens))
        values = values if isinstance(values, list) else [values]
        rest: Any = "" if "present" in source.ops else 0 if isinstance(values[0], int | float) else None
        for place, name in enumerate(names):
            for cell in scope.find(parse_path(name)):
                cell.put(values[place] if place < len(values) else self._word() if rest is None else rest)
        if set(map(str, source.ops)) <= {"strip", "present", "unique", "nonempty"}:
            return [cell.plain() for name in names for cell in scope.find(parse_path(name)) if cell.plain()]
        return [asked] if same else []

    def _choose(self, scope: Scope, source: Any, place: int) -> bool:
        """Of columns that stand under a condition each, let one have its value; say whether these are such."""
        names = paths(source) if isinstance(source, Value) else ()
        columns = [self.source.let.get(name) for name in names]
        if not names or not all(isinstance(one, Value) and one.when is not None for one in columns):
            return False
        for number, name in enumerate(names):
            for cell in scope.find(parse_path(name)):
                if number == place % len(names):
                    cell.put(True)
                else:
                    cell.null = True
        return True

    def _columns(self, scope: Scope) -> None:
        """Turn the columns of `let` back into those that they are made of, the last first."""
        columns = scope.rows[0].cells.columns or {}
        # What other columns are made of is settled before a text of several parts.
        parts = {
            name
            for name, one in self.source.let.items()
            if isinstance(one, Value) and one.template is not None
        }
        for name, source in sorted(reversed(self.source.let.items()), key=lambda pair: pair[0] in parts):
            cell = columns[name]
            when = source.when if isinstance(source, Value) else None
            if when is not None and (cell.null or cell.empty):
                self._satisfy(scope, when, want=False)
            elif not cell.null:
                value = cell.plain()
                self._assign(
                    scope, source, lambda place, value=value: value if value is not None else self._word()
                )
                if when is not None and name in self._label_names() and isinstance(source, Value):
                    self._say(named(self.spec, source.template or ""))

    def _label_names(self) -> tuple[str, ...]:
        labels = self.source.fields.labels
        return paths(labels) if isinstance(labels, Value) else ()

    def _word(self) -> str:
        return f"word {next(self.tokens)}"

    def _say(self, *texts: Any) -> None:
        for text in texts:
            for one in text if isinstance(text, list) else [text]:
                if isinstance(one, str):
                    self.words.add(one)

    def _label_table(self, labels: Labels) -> None:
        path = table_path(labels.table, self.source.vars)
        if (path, labels.table.rows) in self.tables:
            return
        for name in self.classes:
            row = self._row(labels.table)
            self._assign(
                Scope((row,), {}, labels.table.rows == "."), labels.name, lambda place, name=name: name
            )

    def _facts(self, scope: Scope) -> None:
        fields = self.source.fields
        for image in fields.image_facts():
            self._image(self._inside(scope, image), image)
        for caption in fields.caption_facts():
            inner = self._inside(scope, caption)
            self._say(*self._assign(inner, caption.text, lambda place: f"a caption {next(self.tokens)}"))
        for fact in _all(fields.instances):
            self._instance(self._inside(scope, fact), fact)
        for fact in _all(fields.expressions):
            inner = self._inside(scope, fact)
            self._say(*self._assign(inner, fact.text, lambda place: f"the thing {next(self.tokens)}"))
            self._numbers(inner, fact.box)
            self._assign(inner, fact.instances, lambda place: "1")
        for fact in _all(fields.questions):
            self._question(self._inside(scope, fact), fact)
        for fact in _all(fields.dialogs):
            self._dialog(self._inside(scope, fact), fact)
        for fact in _all(fields.edits):
            inner = self._inside(scope, fact)
            self._say(*self._assign(inner, fact.instruction, lambda place: f"turn it {next(self.tokens)}"))
        for template in fields.maps.values():
            self._template(scope, template, ".png")
        self._labels(scope)
        for fact in self.source.unpacked():
            inner = self._inside(scope, fact)
            self._assign(inner, fact.picture, self._picture)

    def _names(self, scope: Scope) -> None:
        """Fill what is left of the names of pictures and of the key."""
        for image in self.source.fields.image_facts():
            inner = self._inside(scope, image)
            if isinstance(image.path, str):
                # Where cells hold the pictures themselves, what names them is a number or a word.
                self._template(inner, image.path, "" if self.source.unpacked() else ".jpg")
            else:
                self._assign(inner, image.path, lambda place: f"{next(self.tokens)}.jpg")
        for fact in self.source.unpacked():
            self._template(self._inside(scope, fact), fact.to)
        self._template(scope, self.source.key)

    def _inside(self, scope: Scope, fact: Fact) -> Scope:
        inner = scope if fact.each is None else scope.named(fact.as_, self._elements(scope, fact.each))
        if fact.when is not None:
            self._satisfy(inner, fact.when)
        return inner

    def _picture(self, place: int) -> Any:
        data = picture(".jpg", shade=next(self.tokens) % 256)
        return data if self.source.table.kind in ("parquet", "tar") else base64.b64encode(data).decode()

    def _image(self, scope: Scope, image: ImageFact) -> None:
        self._assign(scope, image.width, lambda place: WIDTH)
        self._assign(scope, image.height, lambda place: HEIGHT)
        self._assign(scope, image.license, lambda place: "CC-BY-4.0")
        if image.frames is not None:
            self._assign(
                scope,
                image.frames.first if not isinstance(image.frames.first, int) else None,
                lambda place: 1,
            )
            self._assign(
                scope, image.frames.last if not isinstance(image.frames.last, int) else None, lambda place: 9
            )
        if image.measure is not None and not isinstance(image.measure.scale, int | float):
            self._assign(scope, image.measure.scale, lambda place: 1000)

    def _class(self, origin: int | None, names: Sequence[str] = ()) -> Any:
        place = (self.number // 2) % len(self.classes)
        if origin is None:
            return self.classes[place]
        return place + origin

    def _instance(self, scope: Scope, fact: InstanceFact) -> None:
        exact = self._assign(scope, fact.category, lambda place: self._class(fact.names))
        place = (self.number // 2) % len(self.classes)
        if exact:
            self._say(named(self.spec, self.classes[place] if fact.names is not None else exact[0]))
        self._assign(scope, fact.id, lambda place: str(place + 1))
        self._numbers(scope, fact.box)
        for points in (fact.quad, fact.polygon):
            self._numbers(scope, points)
        self._assign(scope, fact.rle, lambda place: _mask(box_of(place % 3)))
        self._say(*self._assign(scope, fact.text, lambda place: f"text {next(self.tokens)}"))
        for value in fact.attributes.values():
            self._assign(scope, value, lambda place: self._word())
        for condition in (fact.crowd, fact.ignore, fact.difficult):
            if condition is not None:
                self._satisfy(scope, condition, want=False)

    def _numbers(self, scope: Scope, fact: Coordinates | None) -> None:
        if fact is None:
            return

        def stated(place: int) -> list[float]:
            return _stated(fact, box_of(place % 3))

        if isinstance(fact.from_, tuple) and len(fact.from_) < len(stated(0)):
            pairs = [list(stated(0)[start : start + 2]) for start in range(0, len(stated(0)), 2)]
            self._assign(scope, fact, lambda place: pairs)
        elif isinstance(fact.from_, tuple):
            for number, path in enumerate(fact.from_):
                self._assign(scope, path, lambda place, number=number: stated(place)[number])
        else:
            self._assign(scope, fact, stated)

    def _question(self, scope: Scope, fact: QuestionFact) -> None:
        self._say(*self._assign(scope, fact.text, lambda place: f"what is {next(self.tokens)}?"))
        if fact.choices is not None:
            names = paths(fact.choices) if isinstance(fact.choices, Value) else ()
            choices = list(CHOICES[: max(2, min(len(names) or 4, 4))])
            self._say(*self._assign(scope, fact.choices, lambda place: choices))
            self._assign(scope, fact.answers, lambda place: choices[0])
        else:
            self._say(*self._assign(scope, fact.answers, lambda place: f"answer {next(self.tokens)}"))
        self._assign(scope, fact.answer_index, lambda place: fact.index_origin)
        self._assign(scope, fact.answer_letter, lambda place: "A")
        self._assign(scope, fact.rationale, lambda place: f"because {next(self.tokens)}")
        self._assign(scope, fact.id, lambda place: str(next(self.tokens)))

    def _dialog(self, scope: Scope, fact: DialogFact) -> None:
        self._assign(scope, fact.id, lambda place: str(next(self.tokens)))
        if fact.turns is None:
            self._say(*self._assign(scope, fact.question, lambda place: f"what is {next(self.tokens)}?"))
            self._say(*self._assign(scope, fact.answer, lambda place: f"answer {next(self.tokens)}"))
            return
        inner = scope.named("turn", self._elements(scope, fact.turns))
        roles = {role: word for word, role in reversed([*fact.roles.items(), *ROLES.items()])}
        self._assign(inner, fact.role, lambda place: roles["assistant" if place % 2 else "user"])
        self._say(*self._assign(inner, fact.text, lambda place: f"said {next(self.tokens)}"))

    def _labels(self, scope: Scope) -> None:
        fields = self.source.fields
        place = (self.number // 2) % len(self.classes)
        if not self._choose(scope, fields.labels, place):
            listed = isinstance(fields.labels, Value) and isinstance(fields.labels.from_, tuple)
            said = self._class(fields.label_names)
            if self._assign(scope, fields.labels, lambda number: [said] if listed else said):
                self._say(named(self.spec, self.classes[place]))
        if not self._choose(scope, fields.negatives, place + 2):
            self._assign(scope, fields.negatives, lambda number: [self.classes[-1]])


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


def _mask(box: Box) -> dict[str, Any]:
    rle = rle_from_polygons([corners(box)], WIDTH, HEIGHT)
    return {"size": list(rle.size), "counts": rle.counts}


def _stated(fact: Coordinates, box: Box) -> list[float]:
    """Return a box, or its corners, in the numbers that the spec declares."""
    x0, y0, x1, y1 = box
    if isinstance(fact, BoxFact):
        past = 1 if fact.end == "inclusive" else 0
        x0, y0, x1, y1 = x0 + fact.origin, y0 + fact.origin, x1 + fact.origin - past, y1 + fact.origin - past
        order = {
            "xyxy": (x0, y0, x1, y1),
            "yxyx": (y0, x0, y1, x1),
            "xxyy": (x0, x1, y0, y1),
            "xywh": (x0, y0, x1 - x0, y1 - y0),
            "cxcywh": ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0),
        }
        values = list(order[fact.format])
        wide = {"yxyx": (1, 3), "xxyy": (0, 1)}.get(fact.format, (0, 2))
    else:
        values = [value + fact.origin for value in corners(box)]
        wide = (0, 2, 4, 6)
    if fact.unit != "px":
        share = 1000 if fact.unit == "thousandth" else 1
        values = [value * share / (WIDTH if place in wide else HEIGHT) for place, value in enumerate(values)]
    return [value / fact.scale for value in values]
