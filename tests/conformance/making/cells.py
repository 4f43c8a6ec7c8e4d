"""A row that is being made: places that paths name, filled in the order in which facts ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataengine.records.paths import Every, Step


class Cell:
    """A place in a row: empty, or a value, a mapping or a list of places."""

    def __init__(self) -> None:
        self.value: Any = None
        self.filled = False
        self.fields: dict[str, Cell] = {}
        self.items: list[Cell] = []
        # The columns of `let` of a row: made of others, so that they are turned into these at last.
        self.columns: dict[str, Cell] | None = None
        # A condition wants nothing here.
        self.null = False

    @property
    def empty(self) -> bool:
        """Whether nothing was put here."""
        return not (self.filled or self.fields or self.items)

    def put(self, value: Any) -> bool:
        """Fill an empty place, and say whether the value stands here now."""
        if self.null:
            return False
        if self.empty:
            self.value, self.filled = value, True
            return True
        return bool(self.plain() == value)

    def several(self, count: int = 2) -> list[Cell]:
        """Return the elements of a list, which is made where there is none."""
        self._open()
        if not self.items and not self.fields:
            self.items = [Cell() for _ in range(count)]
        return self.items or list(self.fields.values())

    def _open(self) -> None:
        """Make places of the parts of a list or mapping that was put here whole."""
        value = self.value
        if not isinstance(value, list | dict):
            return
        self.value, self.filled = None, False
        if isinstance(value, dict):
            self.fields = {key: _full(part) for key, part in value.items()}
        else:
            self.items = [_full(part) for part in value]

    def inside(self, step: Step) -> list[Cell]:
        """Return the places that a step of a path leads to, made where they are not there."""
        if isinstance(step, Every):
            return self.several()
        self._open()
        if isinstance(step, int):
            while not -len(self.items) <= step < len(self.items):
                self.items.append(Cell())
            return [self.items[step]]
        if self.columns is not None and step in self.columns:
            return [self.columns[step]]
        return [self.fields.setdefault(step, Cell())]

    def plain(self) -> Any:
        """Return the value as plain data."""
        if self.fields:
            return {key: cell.plain() for key, cell in self.fields.items()}
        if self.items:
            return [cell.plain() for cell in self.items]
        return self.value


def _full(value: Any) -> Cell:
    cell = Cell()
    cell.put(value)
    return cell


def walk(cells: Sequence[Cell], steps: Sequence[Step]) -> list[Cell]:
    """Return the places at the end of a path."""
    found = list(cells)
    for step in steps:
        found = [inner for cell in found for inner in cell.inside(step)]
    return found
