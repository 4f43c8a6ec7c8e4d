"""Tables of file names, and maps of numbers in arrays: what a spec that pairs files looks for."""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path

import numpy as np

from converters.formats import records
from converters.formats.records import Source, table_path
from dataengine.annotation import Rejected
from dataengine.files import Root
from dataengine.records.paths import fill
from dataengine.records.steps import add_columns
from dataengine.records.values import Value, paths
from tests.conformance.making.patterns import matching
from tests.conformance.making.scene import HEIGHT, WIDTH, draw, write

ARRAYS = (".npy", ".pfm", ".dpt")
# What stands for each `*` where a date, a number of a camera, or another word is part of a name.
STARS = {
    "kitti_depth": ("2011_09_26_drive_0001_sync", "2", "000000000{number}"),
    "vkitti2": ("01", "clone", "0", "depth_0000{number}"),
    "reside": ("140{number}", "1", "0.8"),
}


def make_files(name: str, source: Source, root: Path) -> int:
    """Write two files that a table of file names finds, with those of tables that are joined; return their number."""
    names = [join.table for join in source.join if join.table.kind == "files"]
    for table, number in itertools.product((source.table, *names), (1, 2)):
        made = _filled(name, table_path(table, source.vars), source, number)
        write_array(root / made) if Path(made).suffix in ARRAYS else draw(root / made)
    return 2


def _filled(name: str, pattern: str, source: Source, number: int) -> str:
    stars = list(STARS.get(name, ()))
    if not stars:
        stars = [f"part{number}"] * pattern.count("*")
        # The name may have to look so that its number or its scale can be cut off.
        for column in source.let.values():
            if isinstance(column, Value) and paths(column) == ("$stem",) and isinstance(column.ops[0], dict):
                stem = matching(column.ops[0].get("regex_take", "(.*)"), f"000{number}")
                stars[-1] = stem or stars[-1]
    made = pattern.replace("**", f"inside{number}")
    for star in stars:
        made = made.replace("*", star.format(number=number), 1)
    return made if Path(made).suffix else f"{made}.png"


def write_array(path: Path) -> None:
    """Write a map of numbers in the kind of array that a file's name ends with; a mask is all ones."""
    values = np.full((HEIGHT, WIDTH), 1 if "mask" in path.stem else 2.5, np.float32)
    data = io.BytesIO()
    match path.suffix:
        case ".npy":
            np.save(data, values)
        case ".pfm":
            data.write(f"Pf\n{WIDTH} {HEIGHT}\n-1.0\n".encode() + values[::-1].tobytes())
        case ".dpt":
            data.write(struct.pack("<fii", 202021.25, WIDTH, HEIGHT) + values.tobytes())
    write(path, data.getvalue())


def write_arrays(source: Source, root: Path) -> None:
    """Write the arrays that `unpack` names, and their masks, where the rows do not name them."""
    for fact in source.unpacked():
        for item in add_columns(records._scoped(source, Root(root)), source.let):
            for template in (fact.array, fact.mask):
                if template is None or isinstance(item, Rejected):
                    continue
                path = root / fill(template, item.scope)
                if not path.exists():
                    write_array(path)
