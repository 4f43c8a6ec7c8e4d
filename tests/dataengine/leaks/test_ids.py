from __future__ import annotations

import json
from pathlib import Path

import pytest

from dataengine.errors import SourceError, SpecError
from dataengine.leaks.ids import Space, Spaces, load


@pytest.mark.parametrize(
    ("dataset", "path", "public"),
    [
        ("refcoco", "images/mscoco/images/train2014/COCO_train2014_000000581857.jpg", "coco:581857"),
        ("refcoco", "images/mscoco/images/train2014/COCO_train2014_000000581857_16.jpg", "coco:581857"),
        ("pope", "val2014/COCO_val2014_000000310196.jpg", "coco:310196"),
        ("coco2017", "train2017/000000310196.jpg", "coco:310196"),
        ("llava_mix665k", "coco/train2017/000000033471.jpg", "coco:33471"),
        ("vsr", "images/000000017914.jpg", "coco:17914"),
        ("ap10k", "data/000000017914.jpg", None),
        ("utdac2020", "train2017/000001.jpg", None),
        ("visual_genome_qa", "VG_100K_2/2317.jpg", "visual_genome:2317"),
        ("gqa", "images/2317.jpg", "visual_genome:2317"),
        ("llava_mix665k", "gqa/images/2317.jpg", "visual_genome:2317"),
        ("tallyqa", "images/2317.jpg", None),
        ("flickr30k", "flickr30k-images/1000092795.jpg", "flickr:1000092795"),
        ("flickr8k", "Images/1000268201_693b08cb0e.jpg", "flickr:1000268201"),
        ("textvqa", "train_images/0054c91397f2fe05.jpg", "open_images:0054c91397f2fe05"),
        ("imagenet", "train/n01440764/n01440764_10026.JPEG", "imagenet:n01440764_10026"),
        ("imagenet", "val/ILSVRC2012_val_00000293.JPEG", "imagenet:val_00000293"),
        ("voc2012", "VOCdevkit/VOC2012/JPEGImages/2007_000027.jpg", "pascal_voc:2007_000027"),
    ],
)
def test_a_name_says_which_public_picture_it_is(dataset: str, path: str, public: str | None) -> None:
    assert load().ids(dataset, path) == (*([public] if public else []), f"{dataset}/{path}")


def test_a_file_of_links_says_which_pictures_are_those_of_other_spaces(tmp_path: Path) -> None:
    spaces = load()
    records = [
        {"image_id": 2317, "coco_id": 310196, "flickr_id": None},
        {"image_id": 1, "coco_id": None, "flickr_id": 7},
        {"image_id": 2, "coco_id": None, "flickr_id": None},
    ]
    (tmp_path / "image_data.json").write_text(json.dumps(records))

    assert spaces.link(tmp_path) == 2

    assert spaces.ids("x", "VG_100K/2317.jpg")[:2] == ("visual_genome:2317", "coco:310196")
    assert spaces.ids("x", "VG_100K/1.jpg")[:2] == ("visual_genome:1", "flickr:7")
    assert spaces.ids("x", "VG_100K/2.jpg") == ("visual_genome:2", "x/VG_100K/2.jpg")


def test_what_is_no_table_of_ids_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/own.yaml").write_text("id: own\ntitle: Own\nnames: ['own_[0-9]+']\n")
    (tmp_path / "links.json").write_text("{}")

    with pytest.raises(SpecError, match="has 0 groups"):
        load([tmp_path])
    with pytest.raises(SpecError, match="did you mean 'visual_genome'"):
        load().read_links("visual_genom", tmp_path / "links.json")
    with pytest.raises(SourceError, match="expected a list of records"):
        load().read_links("visual_genome", tmp_path / "links.json")


def test_a_space_of_ones_own_completes_those_that_ship(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/own.yaml").write_text("id: own\ntitle: Own\nnames: ['own_([0-9]+).png']\n")

    spaces = load([tmp_path])

    assert spaces.ids("x", "a/own_0012.png")[0] == "own:12"
    assert Spaces([Space(id="o", title="o", of={"y": "(.)"})]).ids("x", "a") == ("x/a",)
