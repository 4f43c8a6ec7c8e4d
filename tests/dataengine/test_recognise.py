from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import PIL.Image
import pytest

from dataengine import yaml12
from dataengine.catalog import Catalog
from dataengine.errors import UsageError
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits
from dataengine.modules import FORMATS_PACKAGE, load_reader, names
from dataengine.recognise import id_of, recognise, spec_text

if TYPE_CHECKING:
    from tests.conftest import Tiny


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


XML = "<annotation><filename>a.jpg</filename><object><name>cat</name></object></annotation>"
IMAGES = [{"id": 1, "file_name": "a.jpg"}]

# What makes a folder have a layout: its files, the spec's keys, its tasks.
LAYOUTS: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]], tuple[str, ...]]] = {
    "coco_captions": (
        {
            "ann/captions_val2014.json": {
                "images": IMAGES,
                "annotations": [{"id": 1, "image_id": 1, "caption": "x"}],
            },
            "val/a.jpg": None,
        },
        {"val": {"annotations": "ann/captions_val2014.json", "images": "val"}},
        ("caption",),
    ),
    "paco": (
        {
            "paco_val.json": {
                "images": IMAGES,
                "annotations": [{"id": 1, "image_id": 1, "obj_ann_id": 1, "attribute_ids": []}],
                "categories": [],
            },
            "coco/a.jpg": None,
        },
        {"val": {"annotations": "paco_val.json", "images": "coco"}},
        ("detection", "instance_segmentation"),
    ),
    "coco_interactive": (
        {
            "psalm_val.json": [{"image": "a.jpg", "image_info": {"id": 1}, "anns": []}],
            "val2017/a.jpg": None,
        },
        {"val": {"annotations": "psalm_val.json", "images": "val2017"}},
        ("interactive_segmentation",),
    ),
    "coco_keypoints": (
        {
            "p.json": {
                "images": IMAGES,
                "annotations": [{"id": 1, "image_id": 1, "keypoints": [1, 2, 2]}],
                "categories": [],
            },
            "a.jpg": None,
        },
        {"p": {"annotations": "p.json"}},
        ("keypoints", "detection"),
    ),
    "coco_panoptic": (
        {
            "panoptic_val.json": {
                "images": IMAGES,
                "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": []}],
                "categories": [],
            },
            "panoptic_val/a.png": None,
            "val/a.jpg": None,
        },
        {"val": {"annotations": "panoptic_val.json", "images": "val", "maps": "panoptic_val"}},
        ("panoptic_segmentation", "instance_segmentation"),
    ),
    "cvat": (
        {
            "annotations.xml": '<annotations><image name="a.jpg"><box label="x"/></image></annotations>',
            "images/a.jpg": None,
        },
        {"annotations": {"annotations": "annotations.xml", "images": "images"}},
        ("detection",),
    ),
    "datumaro": (
        {
            "annotations/train.json": {"items": [{"id": "a", "image": {"path": "a.jpg"}}], "categories": {}},
            "images/train/a.jpg": None,
        },
        {"train": {"annotations": "annotations/train.json", "images": "images/train"}},
        ("detection",),
    ),
    "dota": (
        {"labelTxt/P1.txt": "gsd:0.1\n1 2 3 2 3 4 1 4 small-vehicle 0\n", "images/P1.png": None},
        {"labeltxt": {"annotations": "labelTxt", "images": "images", "extensions": ["png"]}},
        ("oriented_detection", "detection"),
    ),
    "icdar_quads": (
        {
            "train_gt/gt_img_1.txt": "\ufeff1,2,3,2,3,4,1,4,said, he\n1,2,3,2,3,4,1,4,###\n",
            "train/img_1.jpg": None,
        },
        {
            "train": {
                "annotations": "train_gt",
                "images": "train",
                "prefix": "gt_",
                "extensions": ["jpg"],
            }
        },
        ("text_spotting", "region_ocr", "detection"),
    ),
    "imagefolder": (
        {"set/train/cat/a.jpg": None, "set/train/dog/a.jpg": None, "set/val/cat/a.jpg": None},
        {"train": {"images": "set/train"}, "val": {"images": "set/val"}},
        ("classification",),
    ),
    "kitti": (
        {
            "training/label_2/000000.txt": "Car 0 0 -1 1 2 3 4 1 1 1 1 1 1 0\nDontCare -1 -1 -10 1 2 3 4 1 1 1 0 0 0 0",
            "training/image_2/000000.png": None,
        },
        {
            "train": {
                "annotations": "training/label_2",
                "images": "training/image_2",
                "extension": "png",
            }
        },
        ("detection",),
    ),
    "labelme": (
        {
            "val/a.json": {"shapes": [{"label": "x", "shape_type": "rectangle"}], "imagePath": "a.jpg"},
            "val/a.jpg": None,
        },
        {"val": {"annotations": "val"}},
        ("detection",),
    ),
    "mot": (
        {
            "train/a/gt/gt.txt": "1,1,10,10,5,5,1,3,1\n",
            "train/a/img1/000001.jpg": None,
            "train/b/gt/gt.txt": "1,1,10,10,5,5,1,1,1\n",
        },
        {
            "train": {
                "annotations": "train/*/gt/gt.txt",
                "extension": "jpg",
                "digits": 6,
                "classes": {"1": "pedestrian", "3": "car"},
            }
        },
        ("detection",),
    ),
    "openimages_csv": (
        {
            "train-bbox.csv": "ImageID,LabelName,XMin,XMax,YMin,YMax\nab,/m/1,0,1,0,1\n",
            "train-labels.csv": "ImageID,Source,LabelName,Confidence\nab,x,/m/1,1\n",
            "class-descriptions.csv": "/m/1,Cat\n",
            "train/ab.jpg": None,
        },
        {
            "train": {
                "annotations": "train-bbox.csv",
                "classes": "class-descriptions.csv",
                "images": "train",
                "extension": "jpg",
                "image_labels": "train-labels.csv",
            }
        },
        ("detection",),
    ),
    "sa1b": (
        {
            "sa_1.json": {
                "image": {"file_name": "sa_1.jpg"},
                "annotations": [{"segmentation": {}, "stability_score": 1.0}],
            },
            "sa_1.jpg": None,
        },
        {"train": {"annotations": "*.json"}},
        ("interactive_segmentation",),
    ),
    "via": (
        {
            "via_train.json": {
                "a.jpg9": {"filename": "a.jpg", "regions": []},
                "b.jpg9": {"filename": "b.jpg", "regions": [{"region_attributes": {"kind": "cat"}}]},
            },
            "pics/b.jpg": None,
        },
        {"train": {"annotations": "via_train.json", "images": "pics", "attribute": "kind"}},
        ("detection", "instance_segmentation"),
    ),
    "visdrone": (
        {"val/annotations/1.txt": "1,2,3,4,1,4,0,0\n1,2,3,4,0,0,0,0,\n", "val/images/1.jpg": None},
        {"val": {"annotations": "val/annotations", "images": "val/images", "extension": "jpg"}},
        ("detection",),
    ),
    "wider_face": (
        {
            "split/wider_face_val_bbx_gt.txt": "0--Parade/a.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n",
            "WIDER_val/images/0--Parade/a.jpg": None,
        },
        {"val": {"annotations": "split/wider_face_val_bbx_gt.txt", "images": "WIDER_val/images"}},
        ("detection",),
    ),
    "yolo": (
        {
            "data.yaml": "names: [cat]",
            "labels/train/1.txt": "0 0.5 0.5 0.1 0.1\n",
            "labels/val/1.txt": "0 0.5 0.5 0.1 0.1\n",
            "images/train/1.jpg": None,
            "images/val/1.jpg": None,
        },
        {
            "train": {
                "annotations": "labels/train",
                "images": "images/train",
                "classes": "data.yaml",
                "kind": "detect",
            },
            "val": {
                "annotations": "labels/val",
                "images": "images/val",
                "classes": "data.yaml",
                "kind": "detect",
            },
        },
        ("detection",),
    ),
    "ip2p_folders": (
        {"seeds.json": [["x", [1]]], "x/prompt.json": {"edit": "y"}, "x/1_0.png": None, "x/1_1.png": None},
        {"train": {"extension": "png", "seeds": "seeds.json"}},
        ("image_edit",),
    ),
    "llava_json": (
        {"train.json": [{"image": "a.jpg", "conversations": []}], "pics/a.jpg": None},
        {"train": {"annotations": "train.json", "images": "pics"}},
        ("conversation",),
    ),
    "voc_xml": (
        {
            "Annotations/a.xml": XML,
            "JPEGImages/a.jpg": None,
            "ImageSets/Main/train.txt": "a",
            "ImageSets/Main/cat_train.txt": "a 1",
        },
        {
            "train": {
                "annotations": "Annotations",
                "images": "JPEGImages",
                "media": "filename",
                "image_set": "ImageSets/Main/train.txt",
            }
        },
        ("detection",),
    ),
    "vqa_v2": (
        {
            "q_train.json": {"questions": [{"question_id": 9, "image_id": 25, "question": "?"}]},
            "a_train.json": {"annotations": [{"question_id": 9, "answers": []}]},
            "t/COCO_000000000025.jpg": None,
        },
        {
            "train": {
                "questions": "q_train.json",
                "annotations": "a_train.json",
                "images": "t",
                "media": "COCO_{image_id:012d}.jpg",
            }
        },
        ("vqa",),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_recognised_with_the_keys_that_read_it(name: str, tmp_path: Path) -> None:
    files, splits, tasks = LAYOUTS[name]
    for file, content in files.items():
        if content is None:
            picture(tmp_path / file)
        else:
            write(tmp_path / file, content)

    found = recognise(tmp_path)

    fits = dict(found.fits)
    assert found.fits[0][0] == name
    assert (fits[name].splits, fits[name].tasks) == (splits, tasks)
    for keys in splits.values():
        msgspec.convert(keys, load_reader(name, "test").Source)
    assert set(fits) | set(found.others) == set(names(FORMATS_PACKAGE))


def test_coco_instances_are_recognised_and_their_spec_reads_them(tiny: Tiny) -> None:
    found = recognise(tiny.root)

    name, fit = found.fits[0]
    path = tiny.root / "new.yaml"
    path.write_text(spec_text(tiny.root, id_of("New birds.2"), name, fit))
    (spec,) = Catalog().find(str(path))
    assert (name, fit.tasks) == ("coco_instances", ("detection",))
    assert set(spec.splits) == {"train", "val"}
    assert yaml12.load(path)["source"]["images"] == "images"
    assert spec.dataset.id == "new_birds_2"
    assert {split: spec.dataset.source.splits[split].use for split in spec.splits} == {
        "train": "train",
        "val": "eval",
    }


def test_what_does_not_fit_says_why(tmp_path: Path) -> None:
    write(tmp_path / "x.json", {"images": [{"file_name": "b.jpg"}], "annotations": [{}], "categories": []})
    write(tmp_path / "y.xml", "<other/>")

    found = recognise(tmp_path)

    assert found.fits == ()
    assert (
        found.others["coco_instances"]
        == "x.json: names pictures such as 'b.jpg', which are not in the folder"
    )
    assert found.others["voc_xml"] == "no XML file is an <annotation>"
    assert found.others["ip2p_folders"] == "no prompt.json"


def test_an_unknown_format_is_met_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'coco_instances'"):
        recognise(tmp_path, "coco_instance")


@pytest.mark.parametrize(
    "content", ["{", "[1, 2", "[]", "[3]", '{"images": 3}', "\x00", "[" * 5000, '{"a": [' * 3000]
)
def test_no_file_is_too_strange_to_be_looked_at(content: str, tmp_path: Path) -> None:
    write(tmp_path / "x.json", content)
    write(tmp_path / "x.xml", content)
    write(tmp_path / "x.txt", content)
    write(tmp_path / "x.csv", content)
    picture(tmp_path / "x.jpg")
    write(tmp_path / "prompt.json", content)

    assert recognise(tmp_path).fits == ()


def test_numbers_of_thousands_of_digits_are_no_row_of_any_layout(tmp_path: Path) -> None:
    digits = "9" * 5000
    write(tmp_path / "annotations/1.txt", f"1,2,3,4,1,{digits},0,0\n")
    write(tmp_path / "labels/1.txt", f"{digits} 0.1 0.1 0.1 0.1\n")
    write(tmp_path / "lists/x.txt", f"1.jpg\n{digits}\n1 2 3 4 0 0 0 0 0 0\n")
    picture(tmp_path / "images/1.jpg")

    found = recognise(tmp_path)

    assert not {"visdrone", "yolo"} & {name for name, _ in found.fits}


def test_the_listing_leaves_out_what_leads_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "secret.json", [{"conversations": []}])
    (tmp_path / "in").mkdir()
    (tmp_path / "in/link.json").symlink_to(tmp_path / "secret.json")

    listing = Listing(Root(tmp_path / "in"))

    assert listing.read("link.json") == b""
    assert listing.first("link.json") == {}


def test_splits_are_named_by_their_files() -> None:
    files = [
        "a/instances_train2017.json",
        "b/train/x.json",
        "val.json",
        "My File.json",
        "écrit.json",
        "test-dev.json",
    ]

    named = name_splits([(file, {"f": file}) for file in files])

    assert {name: keys["f"] for name, keys in named.items()} == {
        "train": files[0], "train_2": files[1], "val": files[2], "my_file": files[3], "crit": files[4],
        "val_2": files[5],
    }  # fmt: skip


def test_the_likeliest_layout_comes_first(tmp_path: Path) -> None:
    for name in ("ip2p_folders", "coco_captions"):
        for file, content in LAYOUTS[name][0].items():
            picture(tmp_path / file) if content is None else write(tmp_path / file, content)

    found = recognise(tmp_path)

    assert found.fits[0][0] == "ip2p_folders"
    assert all(isinstance(fit, Fit) for _, fit in found.fits)


def test_label_maps_are_recognised_by_their_numbers(tmp_path: Path) -> None:
    for folder, number in (("images", 9), ("masks", 3)):
        (tmp_path / folder).mkdir()
        PIL.Image.new("L", (4, 4), number).save(tmp_path / folder / "a.png")

    ((name, fit),) = recognise(tmp_path).fits

    assert (name, fit.tasks) == ("label_maps", ("semantic_segmentation",))
    assert fit.splits == {
        "masks": {
            "images": "images/{name}.png",
            "maps": "masks/{name}.png",
            "classes": {"0": None, "3": "class 3"},
            "ignore": [255],
            "unknown": "ignore",
        }
    }


@pytest.mark.parametrize(
    ("files", "name", "why"),
    [
        ({"labels/1.txt": "0 0.5 0.5 0.1 0.1", "1.jpg": None}, "yolo", "labels/1.txt: no data.yaml"),
        ({"labels/1.txt": "0 300 200 10 10", "1.jpg": None}, "yolo", "no text file beside a picture"),
        ({"1.txt": "1 2 3 4 5 6 7 8 9", "1.jpg": None}, "dota", "no text file beside a picture"),
        ({"masks/a.jpg": None, "images/a.jpg": None}, "imagefolder", "'images' is no class"),
        ({"cat/a.jpg": None, "dog/a.jpg": None, "x.json": "[]"}, "imagefolder", "x.json: may say more"),
        ({"v/gt/gt.txt": "1,1,10,10,5,5,1,1,1"}, "mot", "v/gt/gt.txt: no frames in img1"),
    ],
)
def test_a_folder_of_another_layout_is_told_from_this_one(
    files: dict[str, Any], name: str, why: str, tmp_path: Path
) -> None:
    for file, content in files.items():
        picture(tmp_path / file) if content is None else write(tmp_path / file, content)

    found = recognise(tmp_path)

    assert found.others[name].startswith(why)


def test_segments_are_no_coco_instances(tmp_path: Path) -> None:
    for file, content in LAYOUTS["coco_panoptic"][0].items():
        picture(tmp_path / file) if content is None else write(tmp_path / file, content)

    found = recognise(tmp_path)

    assert [name for name, _ in found.fits] == ["coco_panoptic"]
