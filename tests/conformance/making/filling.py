"""Cells are filled so that values, templates and conditions of a spec find what they look for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from converters.formats.records import Source
from dataengine.records.facts import Fact
from dataengine.records.paths import EVERY, Piece, Steps, parse_path, parse_template
from dataengine.records.values import Value, paths
from tests.conformance.making.cells import Cell, walk
from tests.conformance.making.inverses import inverse
from tests.conformance.making.wishes import grant, wishes

MEMBERS = 2
# What a place should hold, by its number among those that a path leads to.
Wanted = Callable[[int], Any]


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


class Filler:
    """Fills the cells of one source's rows, and remembers the words that must come back."""

    def __init__(self, source: Source) -> None:
        self.source = source
        # A table without quotes has no place for what stands between its columns.
        self.tight = source.table.delimiter == " " and not source.table.quote
        self.shared: dict[tuple[str, Steps], int] = {}
        self.words = set[str]()
        self.tokens = itertools.count(1)
        self.number = 0  # of the item that is being made

    def token(self) -> int:
        """Return a number that no other place has."""
        return next(self.tokens)

    def keyed(self, cells: list[Cell]) -> None:
        """Make mappings whose keys are what is asked."""
        for cell in cells:
            cell.fields = {f"what is {self.token()}?": Cell() for _ in range(MEMBERS)}
            self.say(*cell.fields)

    def elements(self, scope: Scope, lists: str | tuple[str, ...]) -> list[Cell]:
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

    def fill(
        self, scope: Scope, steps: Steps, *, same: bool = False, ending: str = "", form: str = ""
    ) -> Any:
        """Fill empty places with a text or number that no other has; return what stands in the first."""
        found = scope.find(steps)
        shared = next((cell.plain() for cell in found if not cell.empty), None) if same else None
        for cell in found:
            if cell.empty and not cell.columns:
                token = self.token()
                cell.put(shared if shared is not None else token if form else f"{token}{ending}")
                shared = cell.plain() if same else None
        return found[0].plain() if found else None

    def template(self, scope: Scope, template: str, ending: str = "") -> None:
        """Fill the empty places of a template; `ending` is for a place at its end."""
        pieces = parse_template(template)
        for place, piece in enumerate(pieces):
            if piece.steps:
                last = place == len(pieces) - 1
                self.fill(scope, piece.steps, ending=ending if last else "", form=piece.form)

    def satisfy(self, scope: Scope, condition: str, want: bool = True) -> None:
        """Make a condition true, or false, as far as the cells that it asks for are empty."""
        for wish in wishes(condition, want):
            cells = scope.find(wish.path)
            if isinstance(wish.other, tuple):
                head = str(wish.other[0]).removeprefix("$")
                other: Any = self.source.vars.get(head) if str(wish.other[0]).startswith("$") else None
                if other is None:
                    other = self.fill(scope, wish.other)
                wish = wish._replace(other=other)
            grant(wish, cells, self.number)

    def assign(self, scope: Scope, source: str | Value | int | None, wanted: Wanted) -> list[Any]:
        """Put what gives the wanted values where a source looks; return what it gives."""
        if self.tight:
            wanted = _without_blanks(wanted)
        match source:
            case None | int():
                return []
            case str():
                pairs = [(cell, wanted(place)) for place, cell in enumerate(scope.find(parse_path(source)))]
                return [value for cell, value in pairs if cell.put(value)]
        if source.when is not None:
            self.satisfy(scope, source.when)
        if source.template is not None:
            return self._assign_template(scope, source.template, wanted)
        if isinstance(source.from_, str):
            return self._assign_path(scope, source, wanted)
        return self._assign_list(scope, source, wanted)

    def tell(self, scope: Scope, source: str | Value | None, wanted: Wanted) -> None:
        """Put wanted words where a source looks; what it gives must come back."""
        self.say(*self.assign(scope, source, wanted))

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
            token = self.shared.setdefault((str(asked), piece.steps), self.token())
            for cell in scope.find(piece.steps):
                if cell.empty and not cell.columns:
                    cell.put(token if piece.form else str(token))
        return self._filled(scope, pieces)

    def _filled(self, scope: Scope, pieces: Sequence[Piece]) -> list[Any]:
        """Return a template's text where each of its places holds one text."""
        found = ""
        for piece in pieces:
            cells = scope.find(piece.steps) if piece.steps else []
            if (
                len(cells) != bool(piece.steps)
                or piece.form
                or any(type(cell.plain()) is not str for cell in cells)
            ):
                return []
            found += piece.text + "".join(cell.plain() for cell in cells)
        return [found]

    def _assign_path(self, scope: Scope, source: Value, wanted: Wanted) -> list[Any]:
        given = []
        steps = parse_path(str(source.from_))
        cells = scope.find(steps)
        if EVERY in steps and cells:
            asked = [wanted(place) for place in range(len(cells))]
            value, made = inverse(source.ops, asked, self.token())
            values = value if isinstance(value, list) else [value]
            put = [cell.put(values[place % len(values)]) for place, cell in enumerate(cells)]
            return [made] if all(put) and len(values) <= len(cells) else []
        for place, cell in enumerate(cells):
            asked = wanted(place)
            value, made = inverse(source.ops, asked, self.token())
            if cell.put(value):
                given.append(made)
        return given

    def _assign_list(self, scope: Scope, source: Value, wanted: Wanted) -> list[Any]:
        """Put each of some values at a path of its own; of columns that stand under a condition, one has a value."""
        names = paths(source)
        asked = wanted(0)
        values, made = inverse(source.ops, asked, self.token())
        values = values if isinstance(values, list) else [values]
        rest: Any = "" if "present" in source.ops else 0 if isinstance(values[0], int | float) else None
        for place, name in enumerate(names):
            for cell in scope.find(parse_path(name)):
                cell.put(values[place] if place < len(values) else self.word() if rest is None else rest)
        if set(map(str, source.ops)) <= {"strip", "present", "unique", "nonempty"}:
            return [cell.plain() for name in names for cell in scope.find(parse_path(name)) if cell.plain()]
        # Votes for none of the other ratings change no mean.
        return [made] if rest == 0 or len(names) == 1 or len(values) == len(names) else []

    def choose(self, scope: Scope, source: Any, place: int) -> bool:
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

    def exchange(self, text: Any, given: list[Any]) -> None:
        """Have what a column gives come back in the place of what was to be made of it."""
        if isinstance(text, str) and text not in given and text in self.words:
            self.words.remove(text)
            self.say(*given)

    def inside(self, scope: Scope, fact: Fact) -> Scope:
        """Return the scope of a fact: the elements of its list, with its condition made true."""
        inner = scope if fact.each is None else scope.named(fact.as_, self.elements(scope, fact.each))
        if fact.when is not None:
            self.satisfy(inner, fact.when)
        return inner

    def word(self) -> str:
        """Return a text that no other place has."""
        return f"word {self.token()}"

    def say(self, *texts: Any) -> None:
        """Remember words that must come back."""
        for text in texts:
            for one in text if isinstance(text, list) else [text]:
                if isinstance(one, str):
                    self.words.add(one)


def _without_blanks(wanted: Wanted) -> Wanted:
    def joined(place: int) -> Any:
        value = wanted(place)
        return value.replace(" ", "-") if isinstance(value, str) else value

    return joined
