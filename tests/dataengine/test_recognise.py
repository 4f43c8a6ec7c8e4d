from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine import yaml12
from dataengine.catalog import Catalog
from dataengine.errors import UsageError
from dataengine.files import Root
from dataengine.listing import Fit, Listing, name_splits
from dataengine.modules import FORMATS_PACKAGE, names
from dataengine.recognise import recognise, spec_text

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
    assert (fits[name].splits, fits[name].tasks) == (splits, tasks)
    assert set(fits) | set(found.others) == set(names(FORMATS_PACKAGE))


def test_coco_instances_are_recognised_and_their_spec_reads_them(tiny: Tiny) -> None:
    found = recognise(tiny.root)

    name, fit = found.fits[0]
    path = tiny.root / "new.yaml"
    path.write_text(spec_text(tiny.root, name, fit))
    (spec,) = Catalog().find(str(path))
    assert (name, fit.tasks) == ("coco_instances", ("detection",))
    assert set(spec.splits) == {"train", "val"}
    assert yaml12.load(path)["source"]["images"] == "images"
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
    write(tmp_path / "prompt.json", content)

    assert recognise(tmp_path).fits == ()


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
