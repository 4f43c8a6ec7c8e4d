"""Specs whose pictures or facts are packed away (tars, Parquet, npz, MATLAB, run lengths), each on a miniature.

No writer makes these layouts, so the miniatures are made here, as the spec says that the dataset lies on disk.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
from PIL import Image

from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.manifest import read_samples
from dataengine.sample import Sample


def _picture(color: str = "red", kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, kind)
    return file.getvalue()


def _put(path: Path, data: bytes | str | Any) -> None:
    """Write a file: bytes, text, or anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(data, bytes | str):
        data = json.dumps(data)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def _tar(path: Path, **members: bytes | Any) -> None:
    """Write a tar of one record, a member for each ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for ending, data in members.items():
            content = data if isinstance(data, bytes) else json.dumps(data).encode()
            info = tarfile.TarInfo(f"7.{ending}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _parquet(path: Path, *rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def _blip3o(root: Path) -> None:
    _tar(root / "a.tar", jpg=_picture(), txt=b"a red square")


def _text_to_image_2m(root: Path) -> None:
    _tar(root / "data_512_2M/a.tar", jpg=_picture(), json={"prompt": "a red square"})


def _rsteller(root: Path) -> None:
    said = [{"task": 1, "text": "fields"}, {"task": 2, "text": "a road"}]
    _tar(root / "Patches0000.tar", jpg=_picture(), json={"metadata": {}, "annotations": said})


def _pick_a_pic(root: Path) -> None:
    row = {"caption": "a square", "jpg_0": _picture(), "jpg_1": _picture("blue")}
    rows = [
        {**row, "ranking_id": number, "has_label": number != 3, "label_0": share, "label_1": 1 - share}
        for number, share in enumerate((1.0, 0.0, 0.5, 1.0))
    ]
    _parquet(root / "data/train-0.parquet", *rows)


def _magicbrush(root: Path) -> None:
    pictures = {"source_img": {"bytes": _picture()}, "target_img": {"bytes": _picture("blue")}}
    _parquet(
        root / "data/train-0.parquet",
        {"img_id": "7", "turn_index": 1, "instruction": "make it blue", **pictures},
    )


def _hpd(root: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        _put(root / "train" / name, _picture())
    _put(root / "train.json", [{"human_preference": [0, 1], "prompt": "x", "file_path": ["a.jpg", "b.jpg"]}])


def _diffusiondb(root: Path) -> None:
    _put(root / "images/part-000001/a.png", _picture(kind="PNG"))
    _put(root / "images/part-000001/part-000001.json", {"a.png": {"p": "a red square", "se": 1}})


def _redcaps(root: Path) -> None:
    _put(root / "images/cats/q.jpg", _picture())
    rows = [{"image_id": "q", "caption": "my cat", "subreddit": "cats"}]
    _put(root / "annotations/cats_2019.json", {"info": {}, "annotations": rows})


def _mjsynth(root: Path) -> None:
    folder = root / "mnt/ramdisk/max/90kDICT32px"
    _put(folder / "1/2/3_PINTO_58437.jpg", _picture())
    _put(folder / "annotation_train.txt", "./1/2/3_PINTO_58437.jpg 58437\n")


def _narratives(root: Path) -> None:
    _put(root / "train2017/000000000007.jpg", _picture())
    row = {"image_id": "7", "annotator_id": 3, "caption": "In this picture a square is red."}
    _put(root / "coco_train_localized_narratives-00000-of-00004.jsonl", json.dumps(row) + "\n")


def _sbd(root: Path) -> None:
    folder = root / "benchmark_RELEASE/dataset"
    _put(folder / "train.txt", "a\n")
    _put(folder / "img/a.jpg", _picture())
    (folder / "cls").mkdir()
    segments = np.eye(8, dtype=np.uint8) * 3
    scipy.io.savemat(folder / "cls/a.mat", {"GTcls": {"Segmentation": segments, "Boundaries": [1, 2]}})


def _culane(root: Path) -> None:
    _put(root / "list/train_gt.txt", "/d/0.jpg /laneseg_label_w16/d/0.png 0 1 0 0\n")
    _put(root / "d/0.jpg", _picture())
    file = io.BytesIO()
    Image.fromarray(np.eye(8, dtype=np.uint8) * 2).save(file, "PNG")
    _put(root / "laneseg_label_w16/d/0.png", file.getvalue())


def _severstal(root: Path) -> None:
    _put(root / "train_images/a.jpg", _picture())
    _put(root / "train.csv", "ImageId,ClassId,EncodedPixels\na.jpg,3,1 4 9 2\n")


def _bloodmnist(root: Path) -> None:
    root.mkdir(parents=True)
    pictures = np.zeros((2, 28, 28, 3), np.uint8)
    np.savez(root / "bloodmnist.npz", train_images=pictures, train_labels=np.array([[3], [7]]))


def _chestmnist(root: Path) -> None:
    root.mkdir(parents=True)
    found = np.zeros((2, 14), np.uint8)
    found[0, [0, 13]] = 1
    np.savez(root / "chestmnist.npz", val_images=np.zeros((2, 28, 28), np.uint8), val_labels=found)


def _fer(root: Path) -> None:
    pixels = " ".join(["7"] * 48 * 48)
    _put(root / "fer2013.csv", f"emotion,pixels,Usage\n0,{pixels},Training\n3,{pixels},PublicTest\n")


def _hrbench(root: Path) -> None:
    cells = ("7", base64.b64encode(_picture()).decode(), "What colour?", "blue", "red", "green", "", "B")
    _put(root / "hr_bench_4k.tsv", "index\timage\tquestion\tA\tB\tC\tD\tanswer\n" + "\t".join(cells) + "\n")


def _roboflow(root: Path) -> None:
    _put(root / "train/a.jpg", _picture())
    categories = [
        {"id": 0, "name": "bees", "supercategory": "none"},
        {"id": 1, "name": "bees", "supercategory": "bees"},
    ]
    images = [{"id": 0, "file_name": "a.jpg", "width": 8, "height": 8}]
    annotations = [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 1, 4, 4], "iscrowd": 0}]
    _put(
        root / "train/_annotations.coco.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )


def _last(sample: Sample) -> str:
    return sample.conversation[-1].text


# Spec and split, what makes the miniature, how many samples each task gives, and what one of them says.
CASES: dict[str, tuple[str, Callable[[Path], None], int, str]] = {
    "blip3o_60k": ("train", _blip3o, 1, ""),
    "text_to_image_2m": ("pixels_512", _text_to_image_2m, 1, ""),
    "rsteller": ("train", _rsteller, 2, "fields"),
    "pick_a_pic_v2": ("train", _pick_a_pic, 2, "first picture"),
    "magicbrush": ("train", _magicbrush, 1, ""),
    "hpd_v2": ("train", _hpd, 1, "second picture"),
    "diffusiondb": ("train", _diffusiondb, 1, ""),
    "redcaps": ("train", _redcaps, 1, "my cat"),
    "mjsynth": ("train", _mjsynth, 1, "PINTO"),
    "localized_narratives": ("coco_train", _narratives, 1, "a square is red"),
    "sbd": ("train", _sbd, 1, "bird"),
    "culane": ("train", _culane, 1, "left mark of the own lane"),
    "severstal_steel": ("train", _severstal, 1, "defect 3"),
    "bloodmnist": ("train", _bloodmnist, 2, "mmature granulocytes"),
    "chestmnist": ("val", _chestmnist, 1, "hernia"),
    "fer2013": ("val", _fer, 1, "appy"),
    "hrbench": ("pixels_4k", _hrbench, 1, "B"),
    "rf100_bees_jt5in": ("train", _roboflow, 1, "bees"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_miniature_is_converted_by_the_spec_as_it_ships(name: str, tmp_path: Path) -> None:
    split, make, expected, words = CASES[name]
    make(tmp_path / name)

    for spec in Catalog().find(name):
        ledger = convert(spec, split, tmp_path / name, tmp_path / "out")

        assert (ledger.samples, ledger.quarantined) == (expected, {})
        found = list(read_samples(tmp_path / "out" / name / spec.task.id / split))
        assert words in _last(found[0])
        for sample in found:
            assert all((tmp_path / name / image.path).is_file() for image in sample.images)
