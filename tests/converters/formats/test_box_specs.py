"""Shipped specs of box layouts on miniatures of the originals: the folders, names and columns that they expect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dataengine import manifest
from dataengine.annotation import Annotation, Box
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.sample import InstanceTargets
from dataengine.source import items_of, open_root
from dataengine.spec import Resolved

YOLO = (
    "african_wildlife", "carparts_seg", "construction_ppe", "crack_seg_ultralytics", "dfire", "ead2019",
    "hand_keypoints_ultralytics", "homeobjects3k", "package_seg", "sar_ship", "tiger_pose",
    "ultralytics_brain_tumor", "ultralytics_medical_pills", "ultralytics_signature",
)  # fmt: skip
MOT_ROWS = "1,1,11,6,20,10,1,1,1\n"
KITTI_ROW = "Car 0.00 0 1.85 10 5 30 15 1.67 1.87 3.69 -16.53 2.39 58.49 1.57\n"
ODGT = (
    '{"ID": "1,a", "gtboxes": [{"tag": "person", "fbox": [-10, 5, 40, 10], "vbox": [10, 5, 20, 10],'
    ' "hbox": [12, 5, 4, 4], "head_attr": {"ignore": 0}, "extra": {"box_id": 0}},'
    ' {"tag": "mask", "fbox": [0, 0, 3, 3], "vbox": [0, 0, 3, 3], "hbox": [0, 0, 3, 3],'
    ' "extra": {"ignore": 1}}]}\n'
)
BOX = (10.0, 5.0, 30.0, 15.0)
# The files of one split by dataset: its pictures, its text files, and the box that is no ignored one.
LAYOUTS: dict[str, tuple[str, tuple[str, ...], dict[str, str], Box]] = {
    "crowdhuman": ("train", ("Images/1,a.jpg",), {"annotation_train.odgt": ODGT}, (0, 5, 30, 15)),
    "crowdhuman_visible": ("val", ("Images/1,a.jpg",), {"annotation_val.odgt": ODGT}, BOX),
    "crowdhuman_heads": ("train", ("Images/1,a.jpg",), {"annotation_train.odgt": ODGT}, (12, 5, 16, 9)),
    "dancetrack": (
        "val", ("val/dancetrack0004/img1/00000001.jpg",), {"val/dancetrack0004/gt/gt.txt": MOT_ROWS}, BOX,
    ),
    "deeppcb": (
        "test",
        ("PCBData/group1/1/7_test.jpg", "PCBData/group1/1/7_temp.jpg"),
        {"PCBData/test.txt": "group1/1/7.jpg group1/1_not/7.txt\n", "PCBData/group1/1_not/7.txt": "10 5 30 15 6\n"},
        BOX,
    ),
    "globalwheat2020": (
        "train",
        ("train/ab.png",),
        {"train.csv": 'image_id,width,height,bbox,source\nab,60,40,"[10.0, 5.0, 20.0, 10.0]",x\n'},
        BOX,
    ),
    "kitti_object": ("train", ("training/image_2/000007.png",), {"training/label_2/000007.txt": KITTI_ROW}, BOX),
    "kitti_tracking": (
        "train", ("training/image_02/0003/000001.png",), {"training/label_02/0003.txt": f"1 5 {KITTI_ROW}"}, BOX,
    ),
    "mot15": (
        "train",
        ("train/TUD/img1/000001.jpg",),
        {"train/TUD/gt/gt.txt": "1,1,11,6,20,10,1,-1,-1,-1\n"},
        BOX,
    ),
    "mot17": (
        "train",
        ("train/MOT17-02-FRCNN/img1/000001.jpg",),
        {
            "train/MOT17-02-FRCNN/gt/gt.txt": f"{MOT_ROWS}1,2,1,1,9,9,0,7,1\n1,3,1,1,9,9,0,3,1\n",
            "train/MOT17-02-FRCNN/seqinfo.ini": "[Sequence]\nimDir=img1\nimWidth=60\nimHeight=40\nimExt=.jpg\n",
            "train/MOT17-02-SDP/gt/gt.txt": MOT_ROWS,
        },
        BOX,
    ),
    "mot20": ("train", ("train/MOT20-01/img1/000001.jpg",), {"train/MOT20-01/gt/gt.txt": MOT_ROWS}, BOX),
    "openimages_v7_det": (
        "validation",
        ("validation/00aa.jpg",),
        {
            "annotations/class-descriptions-boxable.csv": "/m/1,Airplane\n/m/2,Bird\n",
            "annotations/bbox_labels_600_hierarchy.json": '{"LabelName": "/m/0", "Subcategory": []}',
            "annotations/validation-annotations-bbox.csv": (
                "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
                "IsDepiction,IsInside\n"
                "00aa,xclick,/m/1,1,0.16666666666666666,0.5,0.125,0.375,0,0,0,0,0\n"
            ),
            "annotations/validation-annotations-human-imagelabels-boxable.csv": (
                "ImageID,Source,LabelName,Confidence\n00aa,verification,/m/2,0\n"
            ),
        },
        BOX,
    ),
    "sku110k": (
        "val",
        ("SKU110K_fixed/images/val_0.jpg",),
        {"SKU110K_fixed/annotations/annotations_val.csv": "val_0.jpg,10,5,30,15,object,60,40\n"},
        BOX,
    ),
    "sportsmot": (
        "train", ("dataset/train/v_1/img1/000001.jpg",), {"dataset/train/v_1/gt/gt.txt": MOT_ROWS}, BOX,
    ),
    "visdrone_det": (
        "val",
        ("VisDrone2019-DET-val/images/0_1.jpg",),
        {"VisDrone2019-DET-val/annotations/0_1.txt": "10,5,20,10,1,4,0,0\n"},
        BOX,
    ),
    "wider_face": (
        "val",
        ("WIDER_val/images/0--Parade/a.jpg",),
        {"wider_face_split/wider_face_val_bbx_gt.txt": "0--Parade/a.jpg\n1\n10 5 20 10 0 0 0 0 0 0 \n"},
        BOX,
    ),
}  # fmt: skip


def _write(folder: Path, pictures: tuple[str, ...], texts: dict[str, str]) -> Path:
    for name in pictures:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (90, 120, 60)).save(folder / name)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def _detection(dataset: str) -> Resolved:
    return next(spec for spec in Catalog().find(dataset) if spec.task.id == "detection")


def _boxes(spec: Resolved, split: str, root: Path, out: Path) -> list[Box]:
    """Convert a split, which must lose nothing, and return the boxes that are to be found."""
    ledger = convert(spec, split, root, out)
    assert (ledger.skipped, ledger.quarantined, ledger.objects_dropped) == ({}, {}, {})
    assert ledger.samples == 1
    (sample,) = manifest.read_samples(out / spec.dataset.id / spec.task.id / split)
    assert isinstance(sample.targets, InstanceTargets)
    return [item.box for item in sample.targets.instances if not item.ignore]


@pytest.mark.parametrize("dataset", sorted(LAYOUTS))
def test_a_spec_finds_its_box_in_the_layout_of_the_original(dataset: str, tmp_path: Path) -> None:
    split, pictures, texts, expected = LAYOUTS[dataset]
    root = _write(tmp_path / "root", pictures, texts)

    found = _boxes(_detection(dataset), split, root, tmp_path / "out")

    assert found == [pytest.approx(expected)]


@pytest.mark.parametrize("dataset", YOLO)
def test_a_yolo_spec_finds_its_object_in_the_layout_of_the_original(dataset: str, tmp_path: Path) -> None:
    spec = _detection(dataset)
    for split, one in spec.dataset.source.splits.items():
        options: dict[str, Any] = one.options
        numbers = "0.25 0.25 0.75 0.25 0.75 0.5" if options.get("kind") == "segment" else "0.5 0.375 0.5 0.25"
        count = {"tiger_pose": 12 * 2, "hand_keypoints_ultralytics": 21 * 3}.get(dataset, 0)
        label = f"0 {numbers}{' 1' * count}\n"
        picture = f"{options['images']}/a.jpg"
        root = _write(tmp_path / split, (picture,), {f"{options['annotations']}/a.txt": label})

        assert _boxes(spec, split, root, tmp_path / "out") == [pytest.approx((15, 10, 45, 20))]


@pytest.mark.parametrize(
    ("dataset", "names", "pairs"), [("tiger_pose", 12, 4), ("hand_keypoints_ultralytics", 21, 0)]
)
def test_a_yolo_spec_has_as_many_keypoints_as_its_layout(
    dataset: str, names: int, pairs: int, tmp_path: Path
) -> None:
    spec = next(spec for spec in Catalog().find(dataset) if spec.task.id == "keypoints")
    dims = {12: 2, 21: 3}[names]
    point = " 0.5 0.25" + " 2" * (dims - 2)
    root = _write(
        tmp_path, ("images/train/a.jpg",), {"labels/train/a.txt": f"0 0.5 0.5 0.5 0.5{point * names}\n"}
    )

    (found,) = items_of(spec, "train", open_root(spec, "train", root))

    assert isinstance(found, Annotation)
    assert found.instances[0].keypoints == ((30, 10, 2),) * names
    assert (len(spec.source("train").keypoints), _mirrored(spec.source("train").flip)) == (names, pairs)


def _mirrored(flip: tuple[int, ...]) -> int:
    """Return how many pairs of keypoints change places, each of which must change back."""
    assert all(flip[other] == one for one, other in enumerate(flip))
    return sum(one < other for one, other in enumerate(flip))
