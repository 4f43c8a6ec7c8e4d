from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image as Pillow

from converters.formats.coco_panoptic import Source, labels, read
from dataengine.annotation import Annotation, Instance, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle

Samples = Callable[[str], Root]
CATEGORIES = [{"id": 17, "name": "cat", "isthing": 1}, {"id": 3, "name": "grass", "isthing": 0}]
# 65793 is one in each channel, 300 is 44 and 1 x 256.
IDS = [[65793, 65793, 0], [300, 7, 7]]
SEGMENTS = [
    {"id": 65793, "category_id": 17, "iscrowd": 0, "bbox": [9, 9, 9, 9], "area": 1},
    {"id": 7, "category_id": 17, "iscrowd": 1},
    {"id": 300, "category_id": 3},
]


def _folder(folder: Path, segments: list[Any], ids: Any = IDS, **changes: Any) -> Root:
    values = np.asarray(ids, np.uint32)
    (folder / "panoptic").mkdir()
    rgb = np.stack((values & 255, values >> 8 & 255, values >> 16), axis=2).astype(np.uint8)
    Pillow.fromarray(rgb).save(folder / "panoptic/5.png")
    document = {
        "images": [{"id": 5, "file_name": "5.jpg", "width": 3, "height": 2}],
        "annotations": [{"image_id": 5, "file_name": "5.png", "segments_info": segments}],
        "categories": CATEGORIES,
        **changes,
    }
    (folder / "panoptic.json").write_bytes(msgspec.json.encode(document))
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "panoptic.json", "images": "val", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _mask(item: Instance) -> list[list[int]]:
    assert item.mask is not None
    rows: list[list[int]] = mask_from_rle(item.mask).tolist()
    return rows


def test_a_segment_is_the_pixels_of_its_id(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, SEGMENTS))

    assert rejected == []
    assert (found.key, found.images[0].path, found.exhaustive) == ("5", "val/5.jpg", True)
    cat, crowd, grass, void = found.instances
    assert (cat.id, cat.category, cat.box, cat.crowd) == ("65793", "cat", (0, 0, 2, 1), False)
    assert (crowd.category, crowd.crowd, _mask(crowd)) == ("cat", True, [[0, 0, 0], [0, 1, 1]])
    assert (grass.category, grass.box) == ("grass", (0, 1, 1, 2))
    assert (void.category, void.ignore, _mask(void)) == (None, True, [[0, 0, 1], [0, 0, 0]])


def test_categories_follow_their_ids(tmp_path: Path) -> None:
    root = _folder(tmp_path, SEGMENTS)

    assert labels(Source(annotations="panoptic.json"), root).names == ("grass", "cat")


def test_a_segment_without_pixels_is_rejected_and_its_class_is_not_absent(tmp_path: Path) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, [*SEGMENTS, {"id": 9, "category_id": 3}]))

    assert (rejected.key, rejected.reason) == ("annotations[0].segments_info[3]", "mask.empty")
    assert [(item.category, item.ignore) for item in found.instances if item.mask is None] == [
        ("grass", True)
    ]
    assert found.exhaustive


def test_an_id_that_no_segment_has_is_rejected_and_ignored(tmp_path: Path) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, SEGMENTS[:2]))

    assert (rejected.key, rejected.reason) == ("annotations[0].file_name", "segment.unknown")
    assert _mask(found.instances[-1]) == [[0, 0, 1], [1, 0, 0]]
    assert not found.exhaustive


@pytest.mark.parametrize(
    ("segment", "reason"),
    [
        ({"id": 300, "category_id": 99}, "category.unknown"),
        ({"id": "300", "category_id": 3}, "schema"),
        ({"id": 7, "category_id": 3}, "id.duplicate"),
        ({"id": 0, "category_id": 3}, "schema"),
        ({"id": 1 << 24, "category_id": 3}, "schema"),
        ({"id": 1 << 80, "category_id": 3}, "schema"),
        ([], "schema"),
    ],
)
def test_a_segment_that_is_none_costs_no_other(tmp_path: Path, segment: Any, reason: str) -> None:
    (found,), rejected = _split(_folder(tmp_path, [*SEGMENTS[:2], segment]))

    assert [item.reason for item in rejected] == [reason, "segment.unknown"]
    assert [item.category for item in found.instances] == ["cat", "cat", None]
    assert not found.exhaustive


def test_a_segment_that_is_listed_twice_makes_no_class_absent(tmp_path: Path) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, [*SEGMENTS, {"id": 7, "category_id": 3}]))

    assert rejected.reason == "id.duplicate"
    assert [item.category for item in found.instances] == ["cat", "cat", "grass", None]
    assert not found.exhaustive


def test_pictures_and_records_that_lack_each_other_are_rejected(tmp_path: Path) -> None:
    record = {"image_id": 5, "file_name": "5.png", "segments_info": SEGMENTS}
    root = _folder(
        tmp_path,
        [],
        images=[{"id": 5, "file_name": "5.jpg"}, {"id": 6, "file_name": "6.jpg"}],
        annotations=[record, record, {**record, "image_id": 8}, 5],
    )

    found, rejected = _split(root)

    assert [item.key for item in found] == ["5"]
    assert {item.key: item.reason for item in rejected} == {
        "annotations[3]": "schema",
        "annotations[1]": "id.duplicate",
        "images[1]": "annotation.missing",
        "annotations[2]": "id.orphan",
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.png", "map.missing"),
        ("../../x.png", "path.outside"),
        ("text.png", "map.corrupt"),
        ("l.png", "map.encoding"),
    ],
)
def test_a_map_that_cannot_be_read_is_rejected(tmp_path: Path, name: str, reason: str) -> None:
    record = {"image_id": 5, "file_name": name, "segments_info": SEGMENTS}
    root = _folder(tmp_path, [], annotations=[record])
    (tmp_path / "panoptic/text.png").write_text("no picture")
    Pillow.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "panoptic/l.png")

    found, (rejected,) = _split(root)

    assert found == []
    assert (rejected.key, rejected.reason) == ("annotations[0]", reason)


def test_maps_may_lie_elsewhere(tmp_path: Path) -> None:
    root = _folder(tmp_path, SEGMENTS)
    (tmp_path / "panoptic").rename(tmp_path / "png")

    found, _ = _split(root, maps="png")

    assert len(found[0].instances) == 4


def test_a_torn_file_is_an_error(tmp_path: Path) -> None:
    root = _folder(tmp_path, SEGMENTS)
    (tmp_path / "panoptic.json").write_text('{"images": [')

    with pytest.raises(SourceError, match=r"panoptic\.json"):
        _split(root)


def test_a_real_pair_of_coco(samples: Samples) -> None:
    source = Source(annotations="panoptic_examples.json", images="input_images")

    root = samples("coco_panoptic")
    found = [item for item in read(source, root) if isinstance(item, Annotation)]

    assert [(item.key, len(item.instances)) for item in found] == [("142238", 19), ("439180", 33)]
    stated = msgspec.json.decode((root.directory / "panoptic_examples.json").read_bytes())["annotations"]
    areas = {str(one["id"]): one["area"] for one in stated[0]["segments_info"]}
    measured = {item.id: sum(map(sum, _mask(item))) for item in found[0].instances}
    assert {name: area for name, area in measured.items() if name != "ignored"} == areas
    assert sum(measured.values()) == 640 * 427
