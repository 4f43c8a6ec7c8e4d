"""CelebA: the tables that the spec names, with two pictures of its part and one of another."""

from __future__ import annotations

from pathlib import Path

from converters.formats.celeba_txt import FACE, Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write

PARTS = {"train": "0", "val": "1", "test": "2"}
EYES = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures, two of them of the part that is read."""
    own = PARTS[source.part or "train"]
    names = ["000001.jpg", "000002.jpg", "000003.jpg"]
    holds = [
        " ".join("1" if place % 3 == number else "-1" for place in range(len(source.classes)))
        for number in range(3)
    ]
    tables = {
        source.partition: ("", [own, own, "2" if own != "2" else "0"]),
        source.attributes: (" ".join(source.classes), holds),
        source.boxes: ("image_id x_1 y_1 width height", ["4 5 30 32"] * 3),
        source.landmarks: (EYES, ["12 15 26 15 20 21 14 28 25 28"] * 3),
    }
    for file, (header, rows) in tables.items():
        if file is not None:
            lines = [f"{name} {row}" for name, row in zip(names, rows, strict=True)]
            write(root / file, "\n".join([*([str(len(rows)), header] if header else []), *lines]) + "\n")
    for name in names:
        draw(root / source.images / name)
    return Made(2, frozenset(source.classes[:1] if source.classes else {FACE}), placed=False)
