from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from converters.formats.isaid import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.files import Root
from dataengine.geometry import rle_area

Samples = Callable[[str], Root]
PLACES: dict[str, Any] = {
    "objects": "ids/{name}_instance_id_RGB.png",
    "classes": "colors/{name}_instance_color_RGB.png",
    "images": "images/{name}.png",
}
PLANE, SHIP = (0, 127, 255), (0, 0, 63)
NONE = (0, 0, 0)
# 261 is 5 and 1 x 256.
IDS = [[(5, 1, 0), (5, 1, 0), NONE], [(9, 0, 0), NONE, (7, 0, 0)]]
COLORS = [[PLANE, PLANE, NONE], [SHIP, NONE, SHIP]]


def _folder(folder: Path, ids: Any = IDS, colors: Any = COLORS) -> Root:
    for kind, name, rows in (("ids", "id", ids), ("colors", "color", colors)):
        (folder / kind).mkdir()
        Pillow.fromarray(np.asarray(rows, np.uint8)).save(folder / kind / f"P1_instance_{name}_RGB.png")
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{**PLACES, **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_an_object_is_the_pixels_of_its_id_and_its_class_their_colour(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path))

    assert rejected == []
    assert (found.key, found.images[0].path) == ("P1", "images/P1.png")
    assert {(item.id, item.category, item.box) for item in found.instances} == {
        ("261", "plane", (0, 0, 2, 1)),
        ("9", "ship", (0, 1, 1, 2)),
        ("7", "ship", (2, 1, 3, 2)),
    }


def test_a_class_is_all_its_pixels_where_the_view_is_of_classes(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path), view="classes")

    areas = {item.category: rle_area(item.mask) for item in found.instances if item.mask}
    assert areas == {"plane": 2, "ship": 2}


def test_there_are_fifteen_classes(tmp_path: Path) -> None:
    names = labels(Source(**PLACES), Root(tmp_path)).names

    assert (len(names), names[0], names[-1]) == (15, "ship", "harbor")


@pytest.mark.parametrize(
    ("colors", "reason"),
    [
        ([[PLANE, SHIP, NONE], [SHIP, NONE, SHIP]], "map.mismatch"),
        ([[PLANE, PLANE, SHIP], [SHIP, NONE, SHIP]], "map.mismatch"),
        ([[PLANE, PLANE, NONE], [NONE, NONE, SHIP]], "category.unknown"),
        ([[(1, 2, 3), (1, 2, 3), NONE], [SHIP, NONE, SHIP]], "category.unknown"),
        ([[PLANE, PLANE, NONE]], "map.mismatch"),
    ],
)
def test_maps_that_disagree_reject_the_picture(tmp_path: Path, colors: Any, reason: str) -> None:
    found, (rejected,) = _split(_folder(tmp_path, colors=colors))

    assert found == []
    assert (rejected.key, rejected.reason) == ("P1", reason)


def test_a_missing_map_of_classes_rejects_the_picture(tmp_path: Path) -> None:
    root = _folder(tmp_path)
    (tmp_path / "colors/P1_instance_color_RGB.png").unlink()

    _, (rejected,) = _split(root)

    assert rejected.reason == "map.missing"


def test_a_real_parking_lot(samples: Samples) -> None:
    (found,), _ = _split(
        samples("isaid"),
        objects="train/images/{name}_instance_id_RGB.png",
        classes="train/images/{name}_instance_color_RGB.png",
        images="train/images/{name}.png",
    )

    assert Counter(item.category for item in found.instances) == {"large vehicle": 99, "small vehicle": 32}
