"""Tables of any shape: the rows hold what a spec asks of them, so that every fact is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from converters.formats import records
from converters.formats.records import Source
from dataengine.annotation import Annotation
from dataengine.files import Root
from dataengine.records.facts import Fields
from dataengine.records.paths import fill
from dataengine.records.values import Value
from dataengine.spec import Resolved
from tests.conformance.making.file_tables import ARRAYS, make_files, write_array, write_arrays
from tests.conformance.making.rows import Making
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, draw

ITEMS = 4


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write four items, two of each of two classes, with the tables that are joined and the pictures."""
    if source.table.kind == "files":
        made = Made(make_files(spec.dataset.id, source, root), frozenset(_stated(source)))
    else:
        making = Making(spec, source)
        for number in range(ITEMS):
            making.item(number)
        made = making.write(root)
    if any(fact.array is not None for fact in source.unpacked()):
        write_arrays(source, root)
    _draw(source, root)
    return made


def _stated(source: Source) -> Iterator[str]:
    """Yield the instructions that stand in the spec itself."""
    edits = source.fields.edits if isinstance(source.fields.edits, tuple) else (source.fields.edits,)
    for edit in edits:
        if isinstance(edit.instruction, Value) and edit.instruction.template:
            yield fill(edit.instruction.template, {f"${name}": value for name, value in source.vars.items()})


def _draw(source: Source, root: Path) -> None:
    """Write the pictures and maps that the rows name and that are not there."""
    records.prepare(source, root)
    fields = Fields(images=source.fields.images, maps=source.fields.maps)
    for item in records.read(msgspec.structs.replace(source, fields=fields), Root(root)):
        if not isinstance(item, Annotation):
            continue
        for image in item.images:
            mode = "RGB"
            if image.measure is not None and image.measure.quantity != "normal":
                mode = "I;16"
            _draw_one(root / image.path, (image.width or WIDTH, image.height or HEIGHT), mode)
        for path in item.maps.values():
            _draw_one(root / path, (WIDTH, HEIGHT), "L")


def _draw_one(path: Path, size: tuple[int, int], mode: str) -> None:
    if path.suffix in ARRAYS:
        write_array(path)
    elif not path.exists():
        draw(path, size, mode)
