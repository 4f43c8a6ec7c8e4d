"""The shipped specs of text and of turned objects on miniatures of their layouts, made here from what is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.modules import load_reader

QUAD = "10,0,20,10,10,20,0,10"
POINTS = [[10, 0], [20, 10], [10, 20], [0, 10]]
FLAT = [10, 0, 20, 10, 10, 20, 0, 10]
BOX = (0.0, 0.0, 20.0, 20.0)
CORNERS = "".join(
    f"<{axis}_{corner}>{value}</{axis}_{corner}>"
    for corner, point in zip(("left_top", "right_top", "right_bottom", "left_bottom"), POINTS, strict=True)
    for axis, value in zip("xy", point, strict=True)
)
ROBNDBOX = f"<annotation><object><name>%s</name><robndbox>{CORNERS}</robndbox></object></annotation>"
HRSC = (
    "<HRSC_Image><HRSC_Objects><HRSC_Object><Class_ID>100000006</Class_ID><mbox_cx>10</mbox_cx><mbox_cy>10</mbox_cy>"
    "<mbox_w>20</mbox_w><mbox_h>20</mbox_h><mbox_ang>0</mbox_ang></HRSC_Object></HRSC_Objects></HRSC_Image>"
)
FAIR1M = (
    "<annotation><objects><object><coordinate>pixel</coordinate><possibleresult><name>Van</name></possibleresult>"
    f"<points>{''.join(f'<point>{x},{y}</point>' for x, y in [*POINTS, POINTS[0]])}</points></object></objects>"
    "</annotation>"
)
HIERTEXT = json.dumps(
    {"annotations": [{"image_id": "a", "paragraphs": [{"vertices": POINTS, "lines": [
        {"vertices": POINTS, "text": "Exit", "words": [{"vertices": POINTS, "text": "Exit"}]}]}]}]}
)  # fmt: skip
FUNSD = json.dumps(
    {"form": [{"id": 0, "text": "Exit", "box": BOX, "label": "header", "linking": [],
               "words": [{"text": "Exit", "box": BOX}]}]}
)  # fmt: skip
XFUND = json.dumps(
    {"documents": [{"id": "zh_train_0", "img": {"fname": "zh_train_0.jpg", "width": 40, "height": 30},
                    "document": [{"id": 0, "text": "Exit", "box": BOX, "label": "header", "linking": []}]}]}
)  # fmt: skip
BAIDU = json.dumps(
    {"gt_1": [{"points": POINTS, "transcription": "Exit", "illegibility": False},
              {"points": POINTS, "transcription": "###", "illegibility": True}]}
)  # fmt: skip
TEXTOCR = json.dumps(
    {"imgs": {"a": {"id": "a", "width": 40, "height": 30, "file_name": "train/a.jpg"}},
     "anns": {"a_1": {"image_id": "a", "points": FLAT, "utf8_string": "Exit"}}}
)  # fmt: skip
COCO_TEXT = json.dumps(
    {"imgs": {"5": {"id": 5, "set": "val", "file_name": "a.jpg"}, "6": {"id": 6, "set": "train", "file_name": "b.jpg"}},
     "anns": {"1": {"image_id": 5, "mask": FLAT, "utf8_string": "Exit", "legibility": "legible"}}}
)  # fmt: skip
RECTS = json.dumps(
    {"chars": [], "lines": [{"ignore": 0, "transcription": "Exit", "points": FLAT},
                            {"ignore": 1, "transcription": "###", "points": FLAT}]}
)  # fmt: skip
SODA = json.dumps(
    {"images": {"file_name": "1.jpg"}, "annotations": [{"poly": FLAT, "category_id": 4}],
     "categories": [{"id": 4, "name": "ship"}]}
)  # fmt: skip
DOTA = "imagesource:GoogleEarth\ngsd:0.1\n10 0 20 10 10 20 0 10 %s 0\n"
TOTAL = "x: [[10 20 10  0]], y: [[ 0 10 20 10]], ornt: [u'm'], transcriptions: [u'Exit']\n"


class Case(NamedTuple):
    """A split of a dataset, the files of its miniature (a picture where there is no text), and what its object is."""

    dataset: str
    split: str
    files: dict[str, str]
    picture: str
    category: str = "text"
    text: str | None = "Exit"


CASES = (
    Case(
        "icdar2015",
        "test",
        {"Challenge4_Test_Task1_GT/gt_img_1.txt": f"\ufeff{QUAD},Exit\r\n"},
        "ch4_test_images/img_1.jpg",
    ),
    Case(
        "icdar2013",
        "train",
        {"Challenge2_Training_Task1_GT/gt_100.txt": '0 0 20 20 "Exit"\n'},
        "Challenge2_Training_Task12_Images/100.jpg",
    ),
    Case(
        "icdar2013",
        "test",
        {"Challenge2_Test_Task1_GT/gt_img_1.txt": '0, 0, 20, 20, "Exit"\n'},
        "Challenge2_Test_Task12_Images/img_1.jpg",
    ),
    Case(
        "icdar_borndigital",
        "train",
        {"Challenge1_Training_Task1_GT/gt_img_1.txt": '0, 0, 20, 20, "Exit"\n'},
        "Challenge1_Training_Task12_Images/img_1.png",
    ),
    Case(
        "icdar2017_mlt",
        "train",
        {"ch8_training_localization_transcription_gt_v2/gt_img_7.txt": f"{QUAD},Latin,Exit"},
        "ch8_training_images_3/img_7.png",
    ),
    Case(
        "icdar2019_mlt",
        "train",
        {"train_gt_t13/tr_img_00001.txt": f"{QUAD},Latin,Exit"},
        "ImagesPart2/tr_img_00001.jpg",
    ),
    Case("rctw17", "train", {"train_gts/image_0.txt": f'{QUAD},0,"Exit"'}, "train_images/image_0.jpg"),
    Case("mtwi2018", "train", {"txt_train/T1.jpg.txt": f"{QUAD},Exit"}, "image_train/T1.jpg.jpg"),
    Case(
        "detext",
        "val",
        {"ch9_validation_localization_transcription_gt/gt_1.txt": f"{QUAD},Exit"},
        "ch9_validation_images/1.jpg",
    ),
    Case(
        "sroie",
        "train",
        {
            "0325updated.task1train(626p)/X1.txt": f"{QUAD},Exit",
            "0325updated.task2train(626p)/X1.txt": '{"total": "9.00"}',
        },
        "0325updated.task1train(626p)/X1.jpg",
    ),
    Case("textocr", "train", {"TextOCR_0.1_train.json": TEXTOCR}, "train_images/a.jpg"),
    Case("coco_text_v2", "val", {"cocotext.v2.json": COCO_TEXT}, "train2014/a.jpg"),
    Case("hiertext", "val", {"gt/validation.jsonl": HIERTEXT}, "validation/a.jpg"),
    Case("hiertext_lines", "train", {"gt/train.jsonl": HIERTEXT}, "train/a.jpg"),
    Case("totaltext", "test", {"Groundtruth/Polygon/Test/poly_gt_img1.txt": TOTAL}, "Images/Test/img1.jpg"),
    Case("lsvt", "train", {"train_full_labels.json": BAIDU}, "train_full_images/gt_1.jpg"),
    Case("art2019", "train", {"train_labels.json": BAIDU}, "train_images/gt_1.jpg"),
    Case("rects", "train", {"gt_unicode/train_ReCTS_1.json": RECTS}, "img/train_ReCTS_1.jpg"),
    Case("xfund", "zh_train", {"zh.train.json": XFUND}, "zh.train/zh_train_0.jpg", "header"),
    Case(
        "funsd",
        "train",
        {"dataset/training_data/annotations/1.json": FUNSD},
        "dataset/training_data/images/1.png",
        "header",
    ),
    Case(
        "funsd_words",
        "test",
        {"dataset/testing_data/annotations/1.json": FUNSD},
        "dataset/testing_data/images/1.png",
    ),
    Case(
        "dota_v1",
        "train",
        {"train/labelTxt-v1.0/labelTxt/P1.txt": DOTA % "plane"},
        "train/images/P1.png",
        "plane",
        None,
    ),
    Case(
        "dota_v15",
        "val",
        {"val/labelTxt-v1.5/DOTA-v1.5_val/P1.txt": DOTA % "container-crane"},
        "val/images/P1.png",
        "container-crane",
        None,
    ),
    Case(
        "dota_v2",
        "train",
        {"train/labelTxt-v2.0/P1.txt": DOTA % "helipad"},
        "train/images/P1.png",
        "helipad",
        None,
    ),
    Case(
        "dior_r",
        "test",
        {
            "Annotations/Oriented Bounding Boxes/11726.xml": ROBNDBOX % "ship",
            "ImageSets/Main/test.txt": "11726\n",
        },
        "JPEGImages-test/11726.jpg",
        "ship",
        None,
    ),
    Case(
        "mar20",
        "train",
        {"Annotations/Oriented Bounding Boxes/1.xml": ROBNDBOX % "A2", "ImageSets/Main/train.txt": "1\n"},
        "JPEGImages/1.jpg",
        "A2",
        None,
    ),
    Case(
        "fair1m", "val", {"validation/labelXml/0.xml": FAIR1M}, "validation/images/0.tif", "Van", None
    ),
    Case(
        "hrsc2016",
        "train",
        {"FullDataSet/Annotations/100000001.xml": HRSC, "ImageSets/train.txt": "100000001\n"},
        "FullDataSet/AllImages/100000001.bmp",
        "ship",
        None,
    ),
    Case("soda_a", "val", {"Annotations/val/1.json": SODA}, "Images/1.jpg", "ship", None),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.dataset}-{case.split}")
def test_a_spec_reads_its_layout(tmp_path: Path, case: Case) -> None:
    for name, text in case.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    (tmp_path / case.picture).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(tmp_path / case.picture)
    spec = Catalog().find(case.dataset)[0]
    reader = load_reader(spec.dataset.source.format, spec.path)

    everything = list(reader.read(spec.source(case.split), Root(tmp_path)))

    (found,) = (item for item in everything if isinstance(item, Annotation))
    assert {item.reason for item in everything if isinstance(item, Rejected)} <= {"split.other"}
    assert found.images[0].path == case.picture
    item = found.instances[0]
    assert (item.category, item.text, item.ignore) == (case.category, case.text, False)
    assert item.box == BOX or (item.box is None and item.polygons)
    assert all(other.ignore and other.text is None for other in found.instances[1:])


def test_a_word_without_area_is_not_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("Challenge4_Test_Task1_GT", "ch4_test_images"):
        (folder / name).mkdir(parents=True)
    lines = f"{QUAD},Exit\n10,0,10,0,10,20,10,20,Flat\n"
    (folder / "Challenge4_Test_Task1_GT" / "gt_img_1.txt").write_text(lines)
    Image.new("RGB", (40, 30)).save(folder / "ch4_test_images" / "img_1.jpg")
    (spec,) = (spec for spec in Catalog().find("icdar2015") if spec.task.id == "region_ocr")

    ledger = convert(spec, "test", folder, tmp_path / "out")

    assert (ledger.units, ledger.samples, ledger.skipped) == (2, 1, {"text.unreadable": 1})
    assert ledger.objects_dropped == {"box.degenerate": 1}
