from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow

from converters.formats.mapillary import Source, labels, read
from dataengine.annotation import Annotation, Instance, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle

PLACES: dict[str, Any] = {
    "maps": "training/v1.2/instances/{name}.png",
    "images": "training/images/{name}.jpg",
    "config": "config_v1.2.json",
}
LABELS = [
    {"name": "construction--flat--road", "readable": "Road", "instances": False, "evaluate": True},
    {"name": "object--vehicle--car", "readable": "Car", "instances": True, "evaluate": True},
    {"name": "void--ego-vehicle", "readable": "Ego Vehicle", "instances": False, "evaluate": False},
    {"name": "marking--discrete--crosswalk"},
]
# road; car 0 and car 3; ego vehicle; crosswalk
IDS = [[0, 0, 256, 259], [0, 512, 256, 768]]


def _folder(folder: Path, ids: Any = IDS, labels: Any = LABELS) -> Root:
    (folder / "training/v1.2/instances").mkdir(parents=True)
    Pillow.fromarray(np.asarray(ids, np.uint16)).save(folder / "training/v1.2/instances/a.png")
    (folder / "config_v1.2.json").write_bytes(msgspec.json.encode({"labels": labels, "version": "1.2"}))
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


def test_a_number_is_a_label_and_an_object(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path))

    assert rejected == []
    assert (found.key, found.images[0].path) == ("a", "training/images/a.jpg")
    assert [(item.id, item.category, item.box) for item in found.instances] == [
        ("construction--flat--road", "Road", (0, 0, 2, 2)),
        ("object--vehicle--car.0", "Car", (2, 0, 3, 2)),
        ("object--vehicle--car.3", "Car", (3, 0, 4, 1)),
        ("ignored", None, (1, 1, 2, 2)),
        ("marking--discrete--crosswalk", "crosswalk", (3, 1, 4, 2)),
    ]
    assert found.instances[3].ignore


def test_a_class_is_all_its_pixels_where_the_view_is_of_classes(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path), view="classes")

    cars = [item for item in found.instances if item.category == "Car"]
    assert [_mask(item) for item in cars] == [[[0, 0, 1, 1], [0, 0, 1, 0]]]


def test_stuff_is_background_where_the_view_is_of_objects(tmp_path: Path) -> None:
    root = _folder(tmp_path)

    (found,), _ = _split(root, view="objects")

    assert [item.category for item in found.instances] == ["Car", "Car", None]
    assert labels(Source(**PLACES, view="objects"), root).names == ("Car",)


def test_the_label_space_is_what_is_evaluated(tmp_path: Path) -> None:
    assert labels(Source(**PLACES), _folder(tmp_path)).names == ("Road", "Car", "crosswalk")


def test_labels_of_one_name_keep_their_whole_names(tmp_path: Path) -> None:
    twins = [{"name": "a--barrier--other"}, {"name": "b--water--other"}, {"name": "c", "readable": "Sky"}]

    root = _folder(tmp_path, [[0, 256]], twins)

    assert labels(Source(**PLACES), root).names == ("a--barrier--other", "b--water--other", "Sky")


def test_a_number_beyond_the_labels_rejects_the_map(tmp_path: Path) -> None:
    _, (rejected,) = _split(_folder(tmp_path, [[0, 4 * 256]]))

    assert (rejected.key, rejected.reason) == ("a", "category.unknown")


@pytest.mark.parametrize("text", ["[]", '{"labels": [3]}', '{"labels": ['])
def test_a_configuration_that_is_none_is_an_error(tmp_path: Path, text: str) -> None:
    root = _folder(tmp_path)
    (tmp_path / "config_v1.2.json").write_text(text)

    with pytest.raises(SourceError, match=r"config_v1\.2\.json"):
        _split(root)
