"""CUB-200-2011 and NABirds: tables of text, joined by the picture's id."""

from __future__ import annotations

from pathlib import Path

from converters.formats.cub import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import CLASSES, Made, box_of, draw, write

PARTS = ("beak", "left wing", "right wing")
EACH = 2


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures of each of three species, and one of the other half of the split."""
    folder = root / source.folder
    half = "0" if source.part == "test" else "1"
    tables: dict[str, list[str]] = {"classes.txt": [], "parts/parts.txt": []}
    tables["classes.txt"] = [
        f"{one} {one:03d}.{name.replace(' ', '_')}" for one, name in enumerate(CLASSES, 1)
    ]
    tables["parts/parts.txt"] = [f"{one} {name}" for one, name in enumerate(PARTS, 1)]
    for number in range(1, 3 * EACH + 2):
        species = (number - 1) // EACH % 3 + 1
        path = f"{species:03d}/{number}.jpg"
        draw(folder / source.images / path)
        box = " ".join(f"{value:.1f}" for value in to_xywh(box_of(0)))
        other = number > 3 * EACH
        for name, line in (
            ("images.txt", path),
            ("image_class_labels.txt", str(species)),
            ("train_test_split.txt", str(1 - int(half)) if other else half),
            ("bounding_boxes.txt", box),
            ("parts/part_locs.txt", "1 5.0 9.0 1"),
            ("parts/part_locs.txt", "2 7.0 12.0 1"),
            ("parts/part_locs.txt", "3 0.0 0.0 0"),
        ):
            tables.setdefault(name, []).append(f"{number} {line}")
    for name, lines in tables.items():
        write(folder / name, "".join(f"{line}\n" for line in lines))
    return Made(3 * EACH, frozenset(CLASSES))
