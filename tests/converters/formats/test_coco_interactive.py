from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.formats.coco_interactive import Source, read
from dataengine import manifest
from dataengine.annotation import Annotation, Rejected, Rle
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_from_mask
from dataengine.sample import InstanceTargets

KINDS = ("point", "scribble", "box", "mask")
# The pixels that each mark of an object of 10 x 6 pixels at (4, 2) covers, as slices of rows and columns.
MARKS = {
    "point": np.s_[4:5, 8:9],
    "scribble": np.s_[3:4, 5:12],
    "box": np.s_[2:8, 4:14],
    "mask": np.s_[1:9, 3:15],
}


def _code(rows_columns: Any) -> dict[str, Any]:
    mask = np.zeros((20, 30), np.uint8)
    mask[rows_columns] = 1
    code = rle_from_mask(mask)
    return {"size": list(code.size), "counts": code.counts}


def _object(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number, "image_id": 9, "category_id": 17, "iscrowd": 0, "area": 60, "bbox": [4, 2, 10, 6],
        "segmentation": [[4, 2, 14, 2, 14, 8, 4, 8]],
        **{f"{kind}_visual_prompt_mask": _code(MARKS[kind]) for kind in KINDS},
        **changes,
    }  # fmt: skip


def _write(folder: Path, *objects: dict[str, Any], name: str = "coco_interactive_val_psalm.json") -> Root:
    item = {
        "image": "000000000009.jpg", "new_img_id": 0, "anns": list(objects),
        "image_info": {"id": 9, "file_name": "000000000009.jpg", "width": 30, "height": 20},
    }  # fmt: skip
    (folder / "val2017").mkdir(parents=True)
    Image.new("RGB", (30, 20)).save(folder / "val2017" / "000000000009.jpg")
    (folder / name).write_text(json.dumps([item]))
    return Root(folder)


SOURCE = Source(annotations="coco_interactive_val_psalm.json", images="val2017")


def _pixels(code: Rle) -> list[int]:
    return [int(value) for value in np.flatnonzero(mask_from_rle(code))]


def test_an_object_has_its_stored_marks(tmp_path: Path) -> None:
    (found,) = read(SOURCE, _write(tmp_path, _object(1)))

    assert isinstance(found, Annotation)
    assert (found.key, found.images[0].path) == ("9", "val2017/000000000009.jpg")
    (thing,) = found.instances
    assert (thing.id, thing.category, thing.box) == ("1", None, (4, 2, 14, 8))
    assert set(thing.prompts) == set(KINDS)
    assert _pixels(thing.prompts["point"]) == [4 * 30 + 8]


def test_a_split_takes_the_kinds_that_it_is_told(tmp_path: Path) -> None:
    source = Source(annotations=SOURCE.annotations, prompts=("scribble", "mask"))

    (found,) = read(source, _write(tmp_path, _object(1)))

    assert isinstance(found, Annotation)
    assert list(found.instances[0].prompts) == ["scribble", "mask"]


def test_an_object_that_is_none_stays_as_one_of_which_nothing_is_known(tmp_path: Path) -> None:
    torn = _object(2, box_visual_prompt_mask={"size": [20, 30], "counts": "~"})

    annotation, *rejected = read(SOURCE, _write(tmp_path, _object(1), torn, {"bbox": "x"}))

    assert isinstance(annotation, Annotation)
    assert [item.ignore for item in annotation.instances] == [False, True, True]
    assert [(item.reason, item.origin.record) for item in rejected if isinstance(item, Rejected)] == [
        ("rle.size_mismatch", "[0].anns[1]"),
        ("schema", "[0].anns[2]"),
    ]


def test_pictures_that_are_none_or_come_twice_are_rejected(tmp_path: Path) -> None:
    item = {"image": "a.jpg", "image_info": {"id": 1, "width": 3, "height": 2}, "anns": []}
    (tmp_path / "a.json").write_text(json.dumps([item, item, {**item, "anns": 1}]))

    _, *rejected = read(Source(annotations="a.json"), Root(tmp_path))

    assert [item.reason for item in rejected if isinstance(item, Rejected)] == ["id.duplicate", "schema"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_shows_each_object_by_its_stored_mark_of_one_kind(kind: str, tmp_path: Path) -> None:
    # An object without a mark of its kind, and a crowd, are not asked for; no number of objects is too large.
    empty = _object(98, **{f"{kind}_visual_prompt_mask": _code(np.s_[0:0, 0:0])})
    crowd = _object(99, iscrowd=1)
    root = _write(tmp_path / "root", *map(_object, range(25)), empty, crowd)
    (spec,) = Catalog().find("coco_interactive")

    convert(spec, f"val_{kind}", root.directory, tmp_path / "out")

    (sample,) = manifest.read_samples(
        tmp_path / "out/coco_interactive/interactive_segmentation" / f"val_{kind}"
    )
    assert isinstance(sample.targets, InstanceTargets)
    assert [item.id for item in sample.targets.instances] == [str(number) for number in range(25)]
    expected = np.zeros((20, 30), np.uint8)
    expected[MARKS[kind]] = 1
    assert {region.kind for region in sample.regions} == {kind}
    for region in sample.regions:
        assert region.mask is not None
        assert (mask_from_rle(region.mask) == expected).all()


def test_training_takes_any_of_the_stored_marks(tmp_path: Path) -> None:
    root = _write(tmp_path / "root", *map(_object, range(18)), name="coco_interactive_train_psalm.json")
    (root.directory / "val2017").rename(root.directory / "train2017")
    (spec,) = Catalog().find("coco_interactive")

    convert(spec, "train", root.directory, tmp_path / "out")

    (sample,) = manifest.read_samples(tmp_path / "out/coco_interactive/interactive_segmentation/train")
    kinds = {region.kind for region in sample.regions}
    assert (len(sample.regions), kinds) == (18, set(KINDS))
