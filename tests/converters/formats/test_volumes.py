"""Planes of volumes as pictures with masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import nibabel
import numpy as np
import pytest
from PIL import Image

from converters.formats.volumes import Source, labels, prepare, read, recognise
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.geometry import mask_from_rle
from dataengine.listing import Fit, Listing

Samples = Callable[[str], Root]
CLASSES = [None, "liver", "tumour"]


def _write(folder: Path, name: str = "a", **volumes: Any) -> Root:
    """Write volumes of 6 x 5 x 3 voxels: a scan that grows along x, and labels with two classes in plane 1."""
    scan = np.broadcast_to(np.arange(6, dtype="i2")[:, None, None] * 100, (6, 5, 3))
    marked = np.zeros((6, 5, 3), "u1")
    marked[1:3, 2:4, 1], marked[5, 0, 1] = 1, 2
    parts = {"imagesTr": scan, "labelsTr": marked, **volumes}
    for part, values in parts.items():
        if values is not None:
            (folder / part).mkdir(exist_ok=True)
            image = nibabel.Nifti1Image(np.ascontiguousarray(values), np.eye(4))
            nibabel.save(image, folder / part / f"{name}.nii.gz")
    return Root(folder)


def _source(**options: Any) -> Source:
    keys = {"maps": "labelsTr/{name}.nii.gz", "images": "imagesTr/{name}.nii.gz", "classes": CLASSES}
    return msgspec.convert({**keys, **options}, Source)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(_source(**options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_every_plane_is_a_picture_with_the_masks_of_its_classes(tmp_path: Path) -> None:
    found, rejected = _split(_write(tmp_path))

    assert rejected == []
    assert [item.key for item in found] == ["a.0", "a.1", "a.2"]
    assert [item.images[0].path for item in found][1] == "unpacked/a/axial_0001.png"
    assert [len(item.instances) for item in found] == [0, 2, 0]
    liver, tumour = found[1].instances
    # x grows to the left of the picture and y upwards.
    assert (liver.category, liver.box) == ("liver", (3, 1, 5, 3))
    assert (tumour.category, tumour.box) == ("tumour", (0, 4, 1, 5))
    assert liver.mask is not None and mask_from_rle(liver.mask).sum() == 4
    assert found[1].origin.record == "axial plane 1"
    assert labels(_source(), Root(tmp_path)).names == ("liver", "tumour")


def test_pictures_are_written_once_and_between_the_ends_of_the_window(tmp_path: Path) -> None:
    _write(tmp_path)

    prepare(_source(window=[0, 250]), tmp_path)

    files = sorted((tmp_path / "unpacked/a").iterdir())
    assert [file.name for file in files] == [f"axial_000{number}.png" for number in range(3)]
    assert np.asarray(Image.open(files[0]))[0].tolist() == [255, 255, 255, 204, 102, 0]
    before = [file.stat().st_mtime_ns for file in files]
    prepare(_source(window=[0, 250]), tmp_path)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_one_plane_of_some_and_other_directions_are_taken_as_the_spec_says(tmp_path: Path) -> None:
    root = _write(tmp_path)

    assert [item.key for item in _split(root, every=2)[0]] == ["a.0", "a.2"]
    (coronal, *_), _ = _split(root, plane="coronal", every=4)
    assert coronal.images[0].path == "unpacked/a/coronal_0000.png"
    assert [(item.category, item.box) for item in coronal.instances] == [("tumour", (0, 1, 1, 2))]


@pytest.mark.parametrize(
    ("marked", "reason"),
    [
        (np.full((6, 5, 3), 7, "u1"), "category.unknown"),
        (np.full((6, 5, 3), 0.5, "f4"), "map.encoding"),
        (np.full((6, 5, 3), np.nan, "f4"), "map.encoding"),
    ],
)
def test_labels_that_are_none_are_rejected(tmp_path: Path, marked: Any, reason: str) -> None:
    found, rejected = _split(_write(tmp_path, labelsTr=marked))

    assert found == []
    assert {one.reason for one in rejected} == {reason}


def test_a_broken_volume_costs_itself_alone(tmp_path: Path) -> None:
    _write(tmp_path, "a")
    root = _write(tmp_path, "b")
    file = tmp_path / "labelsTr/a.nii.gz"
    file.write_bytes(file.read_bytes()[:60])
    (tmp_path / "labelsTr/._b.nii.gz").write_bytes(b"beside")

    found, rejected = _split(root)

    assert [(one.key, one.reason) for one in rejected] == [("a", "volume.corrupt")]
    assert [item.key for item in found] == ["b.0", "b.1", "b.2"]


@pytest.mark.parametrize("scan", [None, np.zeros((6, 5, 2), "i2"), np.zeros((5, 6, 3), "i2")])
def test_a_scan_that_is_missing_or_of_another_size_gives_no_sample(tmp_path: Path, scan: Any) -> None:
    _write(tmp_path, imagesTr=scan)
    keys = "maps: 'labelsTr/{name}.nii.gz', images: 'imagesTr/{name}.nii.gz', classes: [null, liver, tumour]"
    (tmp_path / "own.yaml").write_text(
        "id: own\ntitle: own\nlicense: {annotations: a, images: b}\nstatus: layout\nlabels: source\n"
        f"source: {{format: volumes, {keys}, splits: {{train: {{use: train}}}}}}\n"
        "tasks: {semantic_segmentation: {}}\n"
    )
    (spec,) = Catalog().find(str(tmp_path / "own.yaml"))

    ledger = convert(spec, "train", tmp_path, tmp_path / "out", allow_empty=True)

    assert (
        ledger.units == ledger.samples + sum(ledger.skipped.values()) + sum(ledger.quarantined.values()) == 3
    )
    lost = 3 if scan is None else 1
    assert sum(ledger.quarantined.values()) + sum(ledger.objects_dropped.values()) >= lost


@pytest.mark.parametrize(
    "options",
    [
        {"classes": [None]},
        {"every": 0},
        {"window": [2, 2]},
        {"images": "a/{other}.nii"},
        {"classes": {"x": "a"}},
    ],
)
def test_keys_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        _source(**options)


def test_the_layout_is_recognised(tmp_path: Path) -> None:
    fit = recognise(Listing(_write(tmp_path)))

    assert isinstance(fit, Fit)
    (keys,) = fit.splits.values()
    assert (keys["maps"], keys["images"]) == ("labelsTr/{name}.nii.gz", "imagesTr/{name}.nii.gz")
    assert isinstance(recognise(Listing(Root(tmp_path / "imagesTr"))), str)


def test_real_kidneys_lie_left_and_right_of_the_spine(samples: Samples) -> None:
    source = _source(maps="data/{case}/segmentation.nii.gz", images="data/{case}/imaging.nii.gz", every=4)

    found, rejected = _split(samples("kits19"), **msgspec.to_builtins(source))

    assert rejected == []
    boxes = [item.box for one in found for item in one.instances if item.category == "liver" and item.box]
    # A plane with both kidneys is wider than it is high: they lie side by side, not one above the other.
    assert max(box[2] - box[0] for box in boxes) > 1.5 * max(box[3] - box[1] for box in boxes)
