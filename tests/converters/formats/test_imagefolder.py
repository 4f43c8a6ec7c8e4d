from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.imagefolder import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.source import items_of, labels_of, open_root

Samples = Callable[[str], Root]


def _folder(folder: Path, *names: str) -> Root:
    """Write files without content: a reader of folders opens no picture."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[tuple[str, tuple[str, ...]]], list[Rejected]]:
    found = list(read(Source(**options), root))
    return (
        [(item.key, item.labels) for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_the_folder_is_the_class(tmp_path: Path) -> None:
    root = _folder(tmp_path, "data/b/2.JPEG", "data/b/10.png", "data/a/x y.jpg")

    (first, *others) = read(Source(images="data"), root)

    assert isinstance(first, Annotation)
    assert (first.key, first.labels, first.images[0].path) == ("a/x y.jpg", ("a",), "data/a/x y.jpg")
    assert (first.origin.file, first.origin.record) == ("data/a/x y.jpg", "file")
    assert not first.exhaustive
    assert all(
        item.exhaustive for item in read(Source(exhaustive=True), root) if isinstance(item, Annotation)
    )
    assert [item.key for item in others] == ["b/10.png", "b/2.JPEG"]
    assert labels(Source(images="data"), root).names == ("a", "b")


def test_what_is_no_picture_or_hidden_or_excluded_is_not_part_of_the_set(tmp_path: Path) -> None:
    root = _folder(
        tmp_path,
        *(
            "a/1.jpg",
            "a/notes.txt",
            "a/._1.jpg",
            ".cache/b/2.jpg",
            "a/1_mask.png",
            "b/masks/1.png",
            "masks/1.png",
        ),
    )

    found, rejected = _split(root, exclude=("_mask*", "masks/*"))

    assert found == [("a/1.jpg", ("a",))]
    assert rejected == []


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "Benign"),
        ({"skip": 1}, "40X"),
        ({"skip": 1, "depth": 0}, "40X/deep"),
        ({"depth": 2}, "Benign/40X"),
        ({"depth": 0}, "Benign/40X/deep"),
        ({"class_in": "name"}, "SOB_7"),
        ({"class_in": "name", "pattern": r"^([A-Z]+)_"}, "SOB"),
        ({"pattern": "(ni)"}, "ni"),
    ],
)
def test_folders_or_the_name_make_the_class(tmp_path: Path, options: dict[str, Any], name: str) -> None:
    root = _folder(tmp_path, "Benign/40X/deep/SOB_7.png")

    found, rejected = _split(root, **options)

    assert found == [("Benign/40X/deep/SOB_7.png", (name,))]
    assert rejected == []


def test_labels_are_sorted_by_their_names_and_not_by_their_folders(tmp_path: Path) -> None:
    root = _folder(tmp_path, "1.zebra/1.jpg", "2.ant/1.jpg")

    assert labels(Source(pattern=r"^\d+\.(.+)"), root).names == ("ant", "zebra")


@pytest.mark.parametrize(
    ("path", "options", "reason"),
    [
        ("1.jpg", {}, "label.missing"),
        ("a/1.jpg", {"skip": 1}, "label.missing"),
        ("a/1.jpg", {"pattern": r"^\d+\.(.*)"}, "label.missing"),
        ("a/1.jpg", {"pattern": "a(b)?"}, "label.missing"),
        ("a/1.jpg", {"labels": ("b",)}, "category.unknown"),
        ("a/1.jpg", {"rename": {"b": "bird"}}, "category.unknown"),
    ],
)
def test_a_picture_without_a_known_class_is_rejected(
    tmp_path: Path, path: str, options: dict[str, Any], reason: str
) -> None:
    found, (rejected,) = _split(_folder(tmp_path, path), **options)

    assert found == []
    assert (rejected.key, rejected.reason, rejected.origin.file) == (path, reason, path)


@pytest.mark.parametrize(
    ("file", "text", "options", "names"),
    [
        ("n.txt", "n02 crane, bird\nn01 tench, Tinca tinca\n", {"cut": ","}, ("crane", "tench")),
        ("n.txt", "n02 crane, bird\nn01 tench\n", {}, ("crane, bird", "tench")),
        ("n.txt", "\ufeffn02\r\n\r\nn01\r\n", {}, ("n02", "n01")),
        ("n.txt", "/n02 0\n/n01 1\n", {}, ("n02", "n01")),
        ("n.txt", "n02 /a/crane\nn01 /t/tench/big\n", {}, ("crane", "tench/big")),
        ("n.json", json.dumps({"n01": "tench", "n02": "crane"}), {}, ("tench", "crane")),
        ("n.json", json.dumps({"0": ["n01", "tench"], "1": ["n02", "crane"]}), {}, ("tench", "crane")),
        ("n.json", json.dumps({"n01": 0, "n02": 1}), {}, ("n01", "n02")),
    ],
)
def test_a_file_names_the_folders_and_orders_the_classes(
    tmp_path: Path, file: str, text: str, options: dict[str, Any], names: tuple[str, ...]
) -> None:
    root = _folder(tmp_path, "n01/1.jpg", "n02/1.jpg")
    (tmp_path / file).write_text(text)
    source = Source(names=file, **options)

    found = [item.labels[0] for item in read(source, root) if isinstance(item, Annotation)]

    assert labels(source, root).names == names
    assert sorted(found) == sorted(names)
    assert (found[0] == names[0]) == (text.find("n01") < text.find("n02"))


def test_two_folders_may_share_a_name_that_stands_once_among_the_labels(tmp_path: Path) -> None:
    root = _folder(tmp_path, "n1/1.jpg", "n2/1.jpg")
    rename = {"n1": "crane", "n2": "crane"}

    found, _ = _split(root, rename=rename)

    assert [label for _, label in found] == [("crane",), ("crane",)]
    assert labels(Source(rename=rename), root).names == ("crane",)


@pytest.mark.parametrize(
    "text",
    [
        '["a"]',
        '{"a": [1, 2]}',
        '{"a": ["b"]}',
        '{"a": null}',
        '{"a": 1.5}',
        '{"a": "b"',
        "[" * 100_000,
        '{"a": true}',
    ],
)
def test_a_names_file_that_says_something_else_is_an_error(tmp_path: Path, text: str) -> None:
    root = _folder(tmp_path, "a/1.jpg")
    (tmp_path / "n.json").write_text(text)

    with pytest.raises(SourceError, match=r"n\.json"):
        _split(root, names="n.json")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("b/2.jpg", "b/2.jpg"),
        ("b/2.jpg 5", "b/2.jpg"),
        ("./b/2.jpg", "b/2.jpg"),
        ("/b/2.jpg", "b/2.jpg"),
        ("b\\2.jpg", "b/2.jpg"),
        ("b/2", "b/2.jpg"),
        ("b/2 1 1 2", "b/2.jpg"),
        ("b/c d.png  -1", "b/c d.png"),
    ],
)
def test_a_list_names_the_pictures_of_a_split(tmp_path: Path, line: str, path: str) -> None:
    root = _folder(tmp_path, "img/a/1.jpg", "img/b/2.jpg", "img/b/c d.png")
    (tmp_path / "val.txt").write_text(f"\n{line}\r\n")

    (found,) = read(Source(images="img", image_set="val.txt"), root)

    assert isinstance(found, Annotation)
    assert (found.key, found.labels) == (path, ("b",))
    assert (found.origin.file, found.origin.record) == ("val.txt", "line 2")
    assert (tmp_path / found.images[0].path).is_file()


def test_a_list_may_give_the_bare_name(tmp_path: Path) -> None:
    root = _folder(tmp_path, "img/a/1.jpg", "img/b/2.jpg")
    (tmp_path / "val.txt").write_text("2.jpg\n3.jpg\n")

    found, (rejected,) = _split(root, images="img", image_set="val.txt", match="name")

    assert found == [("b/2.jpg", ("b",))]
    assert (rejected.key, rejected.reason) == ("3.jpg", "label.missing")


def test_a_picture_that_is_listed_twice_is_rejected_once(tmp_path: Path) -> None:
    root = _folder(tmp_path, "a/1.jpg")
    (tmp_path / "val.txt").write_text("a/1\na/1.jpg\n")

    found, (rejected,) = _split(root, image_set="val.txt")

    assert len(found) == 1
    assert (rejected.reason, rejected.origin.record) == ("id.duplicate", "line 2")


def test_a_name_that_is_no_utf8_is_rejected_and_costs_no_other(tmp_path: Path) -> None:
    root = _folder(tmp_path, "a/1.jpg")
    try:
        (tmp_path / "a" / "\udcff.jpg").touch()
    except OSError:
        pytest.skip("this file system has no such names")

    found, (rejected,) = _split(root)

    assert found == [("a/1.jpg", ("a",))]
    assert rejected.reason == "path.invalid"
    assert rejected.key.encode() == b"a/?.jpg"
    assert rejected.origin.file.encode() == b"a/?.jpg"


def test_a_folder_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    root = _folder(tmp_path, "data [v1]/a/1.jpg")

    assert _split(root, images="data [v1]")[0] == [("a/1.jpg", ("a",))]


@pytest.mark.parametrize("images", ["none", "../x", "/etc", "empty"])
def test_a_folder_without_pictures_is_an_error(tmp_path: Path, images: str) -> None:
    root = _folder(tmp_path, "empty/notes.txt")

    with pytest.raises(SourceError, match=r"source\.images"):
        _split(root, images=images)


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    _folder(outside, "1.jpg")
    root = _folder(tmp_path / "root", "a/2.jpg")
    (tmp_path / "root" / "a" / "1.jpg").symlink_to(outside / "1.jpg")

    assert _split(root)[0] == [("a/2.jpg", ("a",))]


def test_a_list_that_is_no_utf8_is_an_error_with_its_line(tmp_path: Path) -> None:
    root = _folder(tmp_path, "a/1.jpg")
    (tmp_path / "val.txt").write_bytes(b"a/1.jpg\na/\xff.jpg\n")

    with pytest.raises(SourceError, match=r"val\.txt: line 2"):
        _split(root, image_set="val.txt")


@pytest.mark.parametrize("options", [{"pattern": "("}, {"pattern": "abc"}, {"skip": -1}, {"depth": -1}])
def test_a_key_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"pattern|folders"):
        Source(**options)


def test_a_picture_more_is_a_change(tmp_path: Path) -> None:
    root = _folder(tmp_path, "a/1.jpg")
    _split(root)
    before = dict(root.digests)

    _folder(tmp_path, "a/2.jpg")
    root.refresh(list(before))

    assert root.digests != before


@pytest.mark.parametrize(
    ("folder", "options", "count", "names"),
    [
        ("fmt_imagenet_subsets/train", {}, 3, ("label_0", "label_1")),
        ("fmt_lfw/test/images", {}, 3, ("name0", "name1")),
        (
            "fmt_resisc45",
            {"images": "NWPU-RESISC45", "image_set": "resisc45-val.txt", "match": "name"},
            9,
            ("airplane", "airport", "baseball_diamond"),
        ),
        ("imagenet_samples", {"class_in": "name", "pattern": "^n[0-9]+_(.+)$"}, 24, None),
        (
            "imagenet_samples",
            {"class_in": "name", "pattern": "^(n[0-9]+)_", "names": "imagenet_classes.json"},
            24,
            None,
        ),
    ],
)
def test_real_folders_read(
    samples: Samples, folder: str, options: dict[str, Any], count: int, names: tuple[str, ...] | None
) -> None:
    root = samples(folder)

    found, rejected = _split(root, **options)

    assert len(found) == count
    assert {item.reason for item in rejected} <= {"label.missing"}
    space = labels(Source(**options), root).names
    assert names is None or space == names
    assert {label for _, (label,) in found} <= set(space)


# A picture where the owner of a set puts it, the class that it has, and the files that the spec needs beside it.
LAYOUTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "eurosat/all": ("2750/Forest/Forest_1.jpg", "Forest", {}),
    "artbench10/test": ("artbench-10-imagefolder-split/test/ukiyo_e/a.jpg", "ukiyo_e", {}),
    "beans/val": ("validation/bean_rust/1.jpg", "bean_rust", {}),
    "food101/test": (
        "food-101/images/apple_pie/7.jpg",
        "apple_pie",
        {"food-101/meta/test.txt": "apple_pie/7\n", "food-101/meta/classes.txt": "apple_pie\nwaffles\n"},
    ),
    "dtd/val": (
        "dtd/images/banded/banded_0002.jpg",
        "banded",
        {"dtd/labels/val1.txt": "banded/banded_0002.jpg\n"},
    ),
    "resisc45/train": (
        "NWPU-RESISC45/airport/airport_001.jpg",
        "airport",
        {"resisc45-train.txt": "airport_001.jpg\n"},
    ),
    "ucmerced/all": ("UCMerced_LandUse/Images/beach/beach00.tif", "beach", {}),
    "aid/all": ("AID/Airport/airport_1.jpg", "Airport", {}),
    "patternnet/all": ("PatternNet/images/beach/beach001.jpg", "beach", {}),
    "rsi_cb256/all": ("RSI-CB256/woodland/forest/1.tif", "forest", {}),
    "rsi_cb128/all": ("RSI-CB128/woodland/forest/1.tif", "forest", {}),
    "rsscn7/all": ("dRiverLake/d001.jpg", "RiverLake", {}),
    "whu_rs19/all": ("WHU-RS19/Port/port_1.jpg", "Port", {}),
    "million_aid/train": ("train/public_service_land/sports_land/stadium/1.jpg", "stadium", {}),
    "fire_risk/val": ("FireRisk/val/high/1.png", "high", {}),
    "caltech101/all": ("101_ObjectCategories/camera/image_0001.jpg", "camera", {}),
    "caltech256/all": ("256_ObjectCategories/011.billiards/011_0001.jpg", "billiards", {}),
    "office_home/all": ("Real World/Alarm_Clock/00001.jpg", "Alarm_Clock", {}),
    "sun397/test": (
        "SUN397/a/apartment_building/outdoor/sun_1.jpg",
        "apartment_building/outdoor",
        {"Partitions/Testing_01.txt": "/a/apartment_building/outdoor/sun_1.jpg\n"},
    ),
    "domainnet/sketch_test": (
        "sketch/axe/sketch_006_000001.jpg",
        "axe",
        {"sketch_test.txt": "sketch/axe/sketch_006_000001.jpg 6\n"},
    ),
    "minc2500/val": (
        "minc-2500/images/brick/brick_000000.jpg",
        "brick",
        {"minc-2500/labels/validate1.txt": "images/brick/brick_000000.jpg\n"},
    ),
    "oxford_iiit_pet/trainval": (
        "images/Maine_Coon_7.jpg",
        "Maine_Coon",
        {"annotations/trainval.txt": "Maine_Coon_7 20 1 9\n"},
    ),
    "plantvillage/all": ("color/Apple___Black_rot/1.JPG", "Apple___Black_rot", {}),
    "cassava/test": ("cassavaleafdata/test/cgm/1.jpg", "green mottle", {}),
    "fruits360/test": ("fruits-360/Test/Apple Braeburn/1_100.jpg", "Apple Braeburn", {}),
    "imagenet1k/train": (
        "ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_1.JPEG",
        "tench",
        {"LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\n"},
    ),
    "imagenet_a/test": (
        "imagenet-a/n01440764/1.jpg",
        "tench",
        {"LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\n"},
    ),
    "imagenet_r/test": (
        "imagenet-r/n01440764/art_0.jpg",
        "tench",
        {"LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\n"},
    ),
    "imagenet_sketch/test": (
        "sketch/n01440764/sketch_0.JPEG",
        "tench",
        {"LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\n"},
    ),
    "objectnet/test": (
        "objectnet-1.0/images/air_freshener/1.png",
        "Air freshener",
        {
            "objectnet-1.0/mappings/folder_to_objectnet_label.json": json.dumps(
                {"air_freshener": "Air freshener"}
            )
        },
    ),
    "bach/all": ("ICIAR2018_BACH_Challenge/Photos/InSitu/is001.tif", "in situ carcinoma", {}),
    "breakhis/all": (
        "BreaKHis_v1/histology_slides/breast/benign/SOB/adenosis/SOB_B_A_14/40X/1.png",
        "adenosis",
        {},
    ),
    "bracs/val": ("BRACS_RoI/val/3_FEA/1.png", "flat epithelial atypia", {}),
    "chest_xray_pneumonia/test": ("chest_xray/test/NORMAL/1.jpeg", "normal", {}),
    "covid19_radiography/all": (
        "COVID-19_Radiography_Dataset/Viral Pneumonia/images/V-1.png",
        "viral pneumonia",
        {"COVID-19_Radiography_Dataset/Viral Pneumonia/masks/V-1.png": ""},
    ),
    "kermany_oct2017/val": ("OCT2017/val/DRUSEN/1.jpeg", "drusen", {}),
    "lc25000/all": (
        "lung_colon_image_set/lung_image_sets/lung_scc/1.jpeg",
        "lung squamous cell carcinoma",
        {},
    ),
    "malaria_cells/all": ("cell_images/Parasitized/1.png", "Parasitized", {}),
    "nct_crc_he_100k/val": ("CRC-VAL-HE-7K/LYM/1.tif", "lymphocytes", {}),
    "hyperkvasir/all": (
        "labeled-images/lower-gi-tract/anatomical-landmarks/cecum/1.jpg",
        "cecum",
        {"image-labels.csv": ""},
    ),
    "limuc/test": ("test_set/Mayo 2/1.bmp", "Mayo 2", {}),
    "knee_oa/val": ("val/3/1.png", "grade 3", {}),
    "busi_cls/all": (
        "Dataset_BUSI_with_GT/benign/benign (1).png",
        "benign",
        {
            "Dataset_BUSI_with_GT/benign/benign (1)_mask.png": "",
            "Dataset_BUSI_with_GT/benign/benign (1)_mask_1.png": "",
        },
    ),
    "herlev/all": ("smear2005/New database pictures/severe_dysplastic/1.BMP", "severe_dysplastic", {}),
    "acrima/all": ("Database/Images/Im001_g_ACRIMA.jpg", "glaucoma", {}),
    "ip102_cls/val": (
        "Classification/ip102_v1.1/images/00007.jpg",
        "rice leaf caterpillar",
        {
            "classes.txt": "1  rice leaf roller\n2  rice leaf caterpillar\n",
            "Classification/ip102_v1.1/val.txt": "00007.jpg 1\n",
        },
    ),
    "places365/train": (
        "data_256/a/apartment_building/outdoor/00000001.jpg",
        "apartment_building/outdoor",
        {
            "filelist_places365-standard/categories_places365.txt": (
                "/a/airfield 0\n/a/apartment_building/outdoor 1\n"
            ),
            "filelist_places365-standard/places365_train_standard.txt": (
                "/a/apartment_building/outdoor/00000001.jpg 1\n"
            ),
        },
    ),
    "imagenet1k_val/val": (
        "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000003.JPEG",
        "tench",
        {
            "LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\n",
            "LOC_val_solution.csv": (
                "ImageId,PredictionString\nILSVRC2012_val_00000003,n01440764 85 1 499 272 n01440764 1 2 3 4\n"
            ),
        },
    ),
    "deepweeds/val": (
        "images/1-0.jpg",
        "Snake weed",
        {
            "labels/labels.csv": "Filename,Label,Species\n1-0.jpg,7,Snake weed\n",
            "labels/val_subset0.csv": "Filename,Label\n1-0.jpg,7\n",
        },
    ),
    "inat2021/val": (
        "val/00001_Animalia/1.jpg",
        "Turdus merula",
        {
            "val.json": json.dumps(
                {
                    "images": [{"id": 5, "file_name": "val/00001_Animalia/1.jpg", "width": 1, "height": 1}],
                    "annotations": [{"id": 9, "image_id": 5, "category_id": 3}],
                    "categories": [{"id": 3, "name": "Turdus merula"}],
                }
            )
        },
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_shipped_spec_finds_the_class_where_the_layout_has_it(tmp_path: Path, name: str) -> None:
    dataset, _, split = name.partition("/")
    picture, label, files = LAYOUTS[name]
    for path, text in {picture: "", **files}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    spec = Catalog().find(dataset)[0]
    root = open_root(spec, split, tmp_path)

    (found,) = items_of(spec, split, root)

    assert isinstance(found, Annotation)
    space = labels_of(spec, split, root)
    assert space is not None
    # A label space of our own gives the layout's codes a name.
    name = space.codes.get(label, label)
    assert ([image.path for image in found.images], found.labels) == ([picture], (name,))
    assert name in space.names
