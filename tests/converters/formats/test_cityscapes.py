from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow

from converters.formats.cityscapes import Source, labels, read
from dataengine.annotation import Annotation, Instance, Rejected
from dataengine.files import Root
from dataengine.geometry import mask_from_rle

Samples = Callable[[str], Root]
PLACES: dict[str, Any] = {
    "maps": "gtFine/val/{city}/{name}_gtFine_instanceIds.png",
    "images": "leftImg8bit/val/{city}/{name}_leftImg8bit.png",
}
# road, two cars and a group of cars, ego vehicle, trailer
IDS = [[7, 7, 26001, 26000], [26, 1, 26001, 30000]]


def _folder(folder: Path, ids: Any = IDS) -> Root:
    (folder / "gtFine/val/ulm").mkdir(parents=True)
    Pillow.fromarray(np.asarray(ids, np.uint16)).save(folder / "gtFine/val/ulm/u_1_gtFine_instanceIds.png")
    return Root(folder)


def _drawn(folder: Path, objects: Any, **changes: Any) -> Root:
    (folder / "gtFine/val/ulm").mkdir(parents=True)
    document = {"imgHeight": 4, "imgWidth": 6, "objects": objects, **changes}
    (folder / "gtFine/val/ulm/u_1_gtFine_polygons.json").write_bytes(msgspec.json.encode(document))
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{**PLACES, **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _mask(item: Instance) -> list[list[int]]:
    assert item.mask is not None
    rows: list[list[int]] = mask_from_rle(item.mask).tolist()
    return rows


def test_things_are_single_objects_and_stuff_is_not(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path))

    assert rejected == []
    assert (found.key, found.images[0].path) == ("ulm/u_1", "leftImg8bit/val/ulm/u_1_leftImg8bit.png")
    assert [(item.id, item.category, item.box, item.crowd, item.ignore) for item in found.instances] == [
        ("ignored", None, (1, 1, 4, 2), False, True),
        ("7", "road", (0, 0, 2, 1), False, False),
        ("26", "car", (0, 1, 1, 2), True, False),
        ("26000", "car", (3, 0, 4, 1), False, False),
        ("26001", "car", (2, 0, 3, 2), False, False),
    ]
    assert _mask(found.instances[0]) == [[0, 0, 0, 0], [0, 1, 0, 1]]


def test_a_class_is_all_its_pixels_where_the_view_is_of_classes(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path), view="classes")

    assert [(item.category, _mask(item)) for item in found.instances] == [
        (None, [[0, 0, 0, 0], [0, 1, 0, 1]]),
        ("road", [[1, 1, 0, 0], [0, 0, 0, 0]]),
        ("car", [[0, 0, 1, 1], [1, 0, 1, 0]]),
    ]


def test_stuff_is_background_where_the_view_is_of_objects(tmp_path: Path) -> None:
    root = _folder(tmp_path)

    (found,), _ = _split(root, view="objects")

    assert [item.category for item in found.instances] == [None, "car", "car", "car"]
    assert labels(Source(**PLACES, view="objects"), root).names == (
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    )  # fmt: skip


def test_the_benchmark_asks_for_nineteen_classes(tmp_path: Path) -> None:
    names = labels(Source(**PLACES), Root(tmp_path)).names

    assert len(names) == 19
    assert (names[0], names[10], names[18]) == ("road", "sky", "bicycle")


def test_an_id_of_no_label_rejects_the_map(tmp_path: Path) -> None:
    _, (rejected,) = _split(_folder(tmp_path, [[7, 34000]]))

    assert (rejected.key, rejected.reason) == ("ulm/u_1", "category.unknown")


def _box(label: str, x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    return {"label": label, "polygon": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}


POLYGONS = PLACES["maps"].replace("instanceIds.png", "polygons.json")


def test_polygons_are_painted_one_over_the_other(tmp_path: Path) -> None:
    objects = [
        _box("sky", 0, 0, 5, 3),
        _box("car", 0, 0, 1, 1),
        _box("car", 1, 1, 2, 2),
        _box("cargroup", 4, 0, 5, 0),
        _box("license plate", 0, 0, 1, 1),
        {**_box("road", 0, 0, 5, 3), "deleted": 1},
    ]

    (found,), rejected = _split(_drawn(tmp_path, objects), maps=POLYGONS)

    assert rejected == []
    by_id = {item.id: item for item in found.instances}
    assert set(by_id) == {"23", "26000", "26001", "26"}
    assert by_id["26"].crowd
    # A polygon covers the pixels of its corners; the second car hides a corner of the first.
    assert _mask(by_id["26000"])[:2] == [[1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert by_id["26001"].box == (1, 1, 3, 3)


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ([_box("spaceship", 0, 0, 1, 1)], "category.unknown"),
        ([_box("car", 0, 0, 1e300, 1)], "polygon.invalid"),
        ([{"label": "car", "polygon": [[1, 1], [2, 2]]}], "polygon.invalid"),
        ([{"label": "car", "polygon": [[1, 1, 1]]}], "schema"),
        ([{"label": "car"}], "schema"),
        (3, "schema"),
    ],
)
def test_polygons_that_cannot_be_painted_reject_the_picture(
    tmp_path: Path, objects: Any, reason: str
) -> None:
    _, (rejected,) = _split(_drawn(tmp_path, objects), maps=POLYGONS)

    assert rejected.reason == reason


def test_a_stated_size_beyond_any_picture_is_refused_before_painting(tmp_path: Path) -> None:
    root = _drawn(tmp_path, [], imgHeight=900_000, imgWidth=900_000)

    _, (rejected,) = _split(root, maps=POLYGONS)

    assert rejected.reason == "map.too_large"


def test_real_maps_of_aachen(samples: Samples) -> None:
    places = {key: value.replace("/val/", "/train/") for key, value in PLACES.items()}

    (found,), _ = _split(samples("cityscapes"), **places)

    cars = [item for item in found.instances if item.category == "car"]
    assert len(cars) == 14
    assert not any(item.crowd for item in cars)
    assert sum(sum(map(sum, _mask(item))) for item in found.instances) == 2048 * 1024


def test_kitti_counts_objects_by_256(tmp_path: Path) -> None:
    # road, two cars, a group of cars, out of roi
    root = _folder(tmp_path, [[7 * 256, 26 * 256 + 1, 26 * 256 + 2, 26 * 256, 3 * 256]])

    (found,), rejected = _split(root, coding="kitti")

    assert rejected == []
    assert [(item.category, item.box, item.crowd, item.ignore) for item in found.instances] == [
        (None, (4, 0, 5, 1), False, True),
        ("road", (0, 0, 1, 1), False, False),
        ("car", (3, 0, 4, 1), True, False),
        ("car", (1, 0, 2, 1), False, False),
        ("car", (2, 0, 3, 1), False, False),
    ]
