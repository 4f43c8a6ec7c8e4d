from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.formats.sa_med2d import Source, labels, read
from dataengine import manifest
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.geometry import mask_from_rle
from dataengine.sample import InstanceTargets

CASE = "mr_t1w--CHAOS_Task_4--Case_1--x_0007"
CT = "ct_00--AbdomenCT1K--Case_2--x_0001"
CLASSES = {"CHAOS_Task_4": {"liver": 0, "kidney": "1", "union_all": 2}, "AbdomenCT1K": {"spleen": 0}}


def _write(folder: Path, masks: dict[str, tuple[int, int, int, int]], *, size: int = 20) -> Root:
    """Write two pictures, and masks of the first by the end of their names, each a white box on black."""
    for name in (CASE, CT):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        Image.new("L", (size, size), 90).save(folder / f"images/{name}.png")
    (folder / "masks").mkdir(exist_ok=True)
    for end, (x0, y0, x1, y1) in masks.items():
        pixels = np.zeros((size, size), np.uint8)
        pixels[y0:y1, x0:x1] = 255
        Image.fromarray(pixels).save(folder / f"masks/{CASE}--{end}.png")
    names = {f"images/{CASE}.png": [f"masks/{CASE}--{end}.png" for end in masks], f"images/{CT}.png": []}
    (folder / "SAMed2D_v1.json").write_text(json.dumps(names))
    (folder / "SAMed2D_v1_class_mapping_id.json").write_text(json.dumps(CLASSES))
    return Root(folder)


KIDNEYS: dict[str, tuple[int, int, int, int]] = {
    "0001_000": (1, 2, 4, 5), "0001_001": (10, 2, 14, 5), "0000_000": (5, 8, 15, 18), "0002_000": (0, 0, 20, 20),
}  # fmt: skip


def test_masks_of_one_class_are_one_object(tmp_path: Path) -> None:
    found, other = read(Source(), _write(tmp_path, KIDNEYS))

    assert isinstance(found, Annotation) and isinstance(other, Annotation)
    assert (found.key, found.images[0].path, found.exhaustive) == (CASE, f"images/{CASE}.png", False)
    assert [(item.category, item.box) for item in found.instances] == [
        ("kidney", (1, 2, 14, 5)),
        ("liver", (5, 8, 15, 18)),
    ]
    assert found.instances[0].mask is not None
    assert mask_from_rle(found.instances[0].mask).sum() == 3 * 3 + 4 * 3
    assert other.instances == ()


def test_classes_are_those_of_all_datasets_without_joined_ones(tmp_path: Path) -> None:
    assert labels(Source(), _write(tmp_path, {})).names == ("kidney", "liver", "spleen")


def test_other_modalities_are_left_out(tmp_path: Path) -> None:
    found, other = read(Source(modalities=("mr_",)), _write(tmp_path, KIDNEYS))

    assert isinstance(found, Annotation)
    assert isinstance(other, Rejected)
    assert (other.reason, other.origin.record) == ("where.filtered", f"images/{CT}.png")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({f"images/{CASE}.png": [f"masks/{CASE}--0009_000.png"]}, "category.unknown"),
        ({f"images/{CASE}.png": [f"masks/{CASE}--liver.png"]}, "schema"),
        ({f"images/{CASE}.png": [f"masks/{CASE}--0000_009.png"]}, "map.missing"),
        ({f"images/{CASE}.png": 5}, "schema"),
        ({"images/mr_t1w--NoSuch--Case_1--x_1.png": []}, "category.unknown"),
        ({"images/a.png": []}, "schema"),
    ],
)
def test_a_defective_picture_costs_no_other(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    root = _write(tmp_path, KIDNEYS)
    (tmp_path / "SAMed2D_v1.json").write_text(json.dumps({**change, f"images/{CT}.png": []}))

    bad, good = read(Source(), root)

    assert isinstance(bad, Rejected)
    assert bad.reason == reason
    assert isinstance(good, Annotation)


def test_the_spec_asks_for_the_classes_of_a_slice(tmp_path: Path) -> None:
    root = _write(tmp_path / "root", KIDNEYS)
    spec = next(spec for spec in Catalog().find("sa_med2d_20m") if spec.task.id == "semantic_segmentation")

    ledger = convert(spec, "all", root.directory, tmp_path / "out")

    (sample,) = manifest.read_samples(tmp_path / "out/sa_med2d_20m/semantic_segmentation/all")
    assert ledger.skipped == {"where.filtered": 1}
    assert isinstance(sample.targets, InstanceTargets)
    assert sorted(item.label for item in sample.targets.instances) == ["kidney", "liver"]
    assert sorted(route.name for route in sample.routes) == ["kidney", "liver"]


def test_a_mask_in_colours_is_what_is_not_black(tmp_path: Path) -> None:
    root = _write(tmp_path, {"0000_000": (5, 8, 15, 18)})
    file = tmp_path / f"masks/{CASE}--0000_000.png"
    Image.open(file).convert("RGB").save(file)

    found, _ = read(Source(), root)

    assert isinstance(found, Annotation)
    assert [(item.category, item.box) for item in found.instances] == [("liver", (5, 8, 15, 18))]


def test_a_picture_without_a_name_is_rejected_with_its_place(tmp_path: Path) -> None:
    root = _write(tmp_path, {})
    (tmp_path / "SAMed2D_v1.json").write_text('{"": "x"}')

    (found,) = read(Source(), root)

    assert isinstance(found, Rejected)
    assert (found.key, found.origin.record) == ("''", "''")
