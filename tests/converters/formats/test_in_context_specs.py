"""Shipped specs that gather examples, on miniatures of their layouts: four pictures, two of each class."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.manifest import read_samples
from dataengine.sample import InstanceTargets, Sample
from dataengine.task import TaskSpec

SIZE = (60, 40)  # width, height
NAMES = ("a", "a", "b", "b")  # the class of each picture


def picture(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (50 * number, 120, 90)).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def dump(path: Path, content: Any) -> None:
    text(path, json.dumps(content))


def cells(names: list[str]) -> Any:
    array = np.empty((len(names), 1), dtype=object)
    for number, name in enumerate(names):
        array[number, 0] = name
    return array


def folders(root: Path, images: str, image_set: str | None = None, suffix: str = "") -> None:
    """Pictures in folders by class, and a list of them without endings, or with `suffix` behind each."""
    names = [f"{name}/{number}" for number, name in enumerate(NAMES)]
    for number, name in enumerate(names):
        picture(root / images / f"{name}.jpg", number)
    if image_set is not None:
        text(root / image_set, "".join(f"{name}{suffix}\n" for name in names))


def food101(root: Path) -> None:
    folders(root, "food-101/images", "food-101/meta/train.txt")
    text(root / "food-101/meta/classes.txt", "a\nb\n")


def flowers(root: Path) -> None:
    scipy.io.savemat(root / "imagelabels.mat", {"labels": np.array([[1, 1, 2, 2]], np.uint8)})
    scipy.io.savemat(root / "setid.mat", {"trnid": np.array([[1, 2, 3, 4]], np.uint16)})
    for number in range(1, 5):
        picture(root / f"102flowers/jpg/image_{number:05d}.jpg", number)


def cub(root: Path) -> None:
    rows = [(number, f"00{'ab'.index(name) + 1}.{name}") for number, name in enumerate(NAMES, 1)]
    tables = {
        "images": [f"{number} {name}/{number}.jpg" for number, name in rows],
        "image_class_labels": [f"{number} {int(name[:3])}" for number, name in rows],
        "train_test_split": [f"{number} 1" for number, _ in rows],
        "bounding_boxes": [f"{number} 5.0 5.0 30.0 20.0" for number, _ in rows],
        "classes": ["1 001.a", "2 002.b"],
        "parts/parts": ["1 back"],
        "parts/part_locs": [f"{number} 1 9.0 9.0 1" for number, _ in rows],
    }
    for name, lines in tables.items():
        text(root / f"CUB_200_2011/{name}.txt", "\n".join(lines) + "\n")
    for number, name in rows:
        picture(root / f"CUB_200_2011/images/{name}/{number}.jpg", number)


def dogs(root: Path) -> None:
    files = [f"n0-{name}/{number}.jpg" for number, name in enumerate(NAMES)]
    for number, file in enumerate(files):
        picture(root / "Images" / file, number)
    scipy.io.savemat(
        root / "train_list.mat", {"file_list": cells(files), "labels": np.array([[1.0], [1.0], [2.0], [2.0]])}
    )


def pets(root: Path) -> None:
    names = [f"{name}_{number}" for number, name in enumerate(NAMES)]
    for number, name in enumerate(names):
        picture(root / f"images/{name}.jpg", number)
    text(root / "annotations/trainval.txt", "".join(f"{name} 1 1 1\n" for name in names))


def cars(root: Path) -> None:
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    rows = np.zeros((1, 4), dtype=[(name, object) for name in fields])
    for number, name in enumerate(NAMES):
        rows[0, number] = (5, 5, 40, 30, "ab".index(name) + 1, f"{number}.jpg")
        picture(root / f"cars_train/{number}.jpg", number)
    (root / "devkit").mkdir()
    scipy.io.savemat(root / "devkit/cars_train_annos.mat", {"annotations": rows})
    scipy.io.savemat(root / "devkit/cars_meta.mat", {"class_names": cells(["a", "b"])})


def inat(root: Path) -> None:
    content = coco(root, "", lambda number: f"train/{number}.jpg")
    for one in content["annotations"]:
        one.pop("bbox"), one.pop("segmentation")
    dump(root / "train.json", content)


def coco(root: Path, images: str, name: Callable[[int], str]) -> dict[str, Any]:
    """A COCO file whose pictures show one object with an outline, of the picture's class."""
    for number in range(4):
        picture(root / images / name(number), number)
    return {
        "images": [
            {"id": n, "file_name": name(n), "width": SIZE[0], "height": SIZE[1], "license": 1} for n in range(4)
        ],
        "licenses": [{"id": 1, "name": "CC BY 2.0", "url": "http://creativecommons.org/licenses/by/2.0/"}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {
                "id": n, "image_id": n, "category_id": "ab".index(NAMES[n]) + 1, "bbox": [5, 5, 30, 20],
                "segmentation": [[5, 5, 35, 5, 35, 25, 5, 25]], "area": 600, "iscrowd": 0,
            }
            for n in range(4)
        ],
    }  # fmt: skip


def coco2017(root: Path) -> None:
    content = coco(root, "train2017", lambda number: f"{number:012d}.jpg")
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 2, "name": "bicycle"}]
    dump(root / "annotations/instances_train2017.json", content)


def captions(root: Path) -> None:
    content = coco(root, "train2017", lambda number: f"{number:012d}.jpg")
    content["annotations"] = [{"id": n, "image_id": n, "caption": f"This is scene {n}"} for n in range(4)]
    dump(root / "annotations/captions_train2017.json", content)


def ap10k(root: Path) -> None:
    content = coco(root, "data", lambda number: f"{number:012d}.jpg")
    for one in content["annotations"]:
        one.pop("segmentation")
        one |= {"keypoints": [9, 9, 2], "num_keypoints": 1}
    content["categories"] = [{**one, "keypoints": ["nose"], "skeleton": []} for one in content["categories"]]
    dump(root / "annotations/ap10k-train-split1.json", content)


def vqav2(root: Path) -> None:
    questions = [{"image_id": n, "question_id": n, "question": f"What is in {n}?"} for n in range(4)]
    answers = [
        {
            "image_id": n, "question_id": n, "question_type": "what", "answer_type": "other",
            "multiple_choice_answer": NAMES[n],
            "answers": [{"answer": NAMES[n], "answer_id": 1, "answer_confidence": "yes"}],
        }
        for n in range(4)
    ]  # fmt: skip
    dump(root / "v2_OpenEnded_mscoco_train2014_questions.json", {"questions": questions})
    dump(root / "v2_mscoco_train2014_annotations.json", {"annotations": answers})
    for number in range(4):
        picture(root / f"train2014/COCO_train2014_{number:012d}.jpg", number)


def textocr(root: Path) -> None:
    content: dict[str, Any] = {"imgs": {}, "anns": {}, "imgToAnns": {}}
    for n in range(4):
        picture(root / f"train_images/{n}.jpg", n)
        content["imgs"][f"{n}"] = {
            "id": f"{n}",
            "width": 60,
            "height": 40,
            "set": "train",
            "file_name": f"train/{n}.jpg",
        }
        content["anns"][f"{n}_1"] = {
            "id": f"{n}_1", "image_id": f"{n}", "bbox": [5, 5, 30, 20], "utf8_string": f"WORD{n}",
            "points": [5, 5, 35, 5, 35, 25, 5, 25], "area": 600,
        }  # fmt: skip
        content["imgToAnns"][f"{n}"] = [f"{n}_1"]
    dump(root / "TextOCR_0.1_train.json", content)


def lsvt(root: Path) -> None:
    word = {"points": [[5, 5], [35, 5], [35, 25], [5, 25]], "illegibility": False}
    for n in range(4):
        picture(root / f"train_full_images/gt_{n}.jpg", n)
    rows = {f"gt_{n}": [{**word, "transcription": f"店{n}"}] for n in range(4)}
    dump(root / "train_full_labels.json", rows)


def allava(part: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        rows = []
        for n in range(4):
            picture(root / f"allava_laion/images/{n}.jpeg", n)
            turns = [
                {"from": "human", "value": f"<image>\nWhat is {n}?"},
                {"from": "gpt", "value": f"It is {n}."},
            ]
            rows.append({"id": f"{n}", "image": f"allava_laion/images/{n}.jpeg", "conversations": turns})
        dump(root / f"allava_laion/ALLaVA-{part}-LAION-4V.json", rows)

    return write


def birdsnap(root: Path) -> None:
    header = "url\tmd5\tpath\tspecies_id\tbb_x1\tbb_y1\tbb_x2\tbb_y2\tback_x\tback_y"
    # The last one is in the test list.
    names = [*NAMES, "a"]
    paths = [f"Bird_{name}/{number}.jpg" for number, name in enumerate(names)]
    rows = [
        f"http://x/{number}\t0\t{path}\t{'ab'.index(names[number]) + 1}\t5\t5\t35\t25\tnull\tnull"
        for number, path in enumerate(paths)
    ]
    text(root / "images.txt", "\n".join([header, *rows]) + "\n")
    text(root / "species.txt", "id\tcommon\tscientific\tdir\n1\ta\tA a\tBird_a\n2\tb\tB b\tBird_b\n")
    text(root / "test_images.txt", f"path\n{paths[-1]}\n")
    for number, path in enumerate(paths):
        picture(root / "download/images" / path, number)


def cnfood(root: Path) -> None:
    for number in range(4):
        picture(root / f"train600x600/00{number // 2}/{number}.jpg", number)
    text(root / "class_names.txt", "000 a\n001 b\n")


def uecfood(root: Path) -> None:
    text(root / "UECFOOD256/category.txt", "id\tname\n1\ta\n2\tb\n")
    for food in (1, 2):
        names = [10 * food + 1, 10 * food + 2]
        rows = [f"{name} 5 5 35 25" for name in names]
        text(root / f"UECFOOD256/{food}/bb_info.txt", "\n".join(["img x1 y1 x2 y2", *rows]) + "\n")
        for name in names:
            picture(root / f"UECFOOD256/{food}/{name}.jpg", name % 5)


def vegfru(root: Path) -> None:
    folders(root, "veg200_images", "veg200_lists/veg_train.txt", ".jpg 0")


# How a miniature is written, and its split, by dataset.
LAYOUTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "food101": (food101, "train"), "oxford_flowers102": (flowers, "train"), "cub200_2011": (cub, "train"),
    "stanford_dogs": (dogs, "train"), "oxford_iiit_pet": (pets, "trainval"), "stanford_cars": (cars, "train"),
    "inat2021": (inat, "train"), "birdsnap": (birdsnap, "train"), "cnfood241": (cnfood, "train"),
    "uecfood256": (uecfood, "all"), "vegfru": (vegfru, "veg_train"), "coco2017": (coco2017, "train"),
    "coco2017_captions": (captions, "train"), "ap10k": (ap10k, "train"), "vqav2": (vqav2, "train"),
    "textocr": (textocr, "train"), "lsvt": (lsvt, "train"), "allava_caption_laion": (allava("Caption"), "train"),
    "allava_instruct_laion": (allava("Instruct"), "train"),
}  # fmt: skip
NEW = ("in_context_text", "in_context_mask", "mark_recognition", "mark_ocr")


def made(name: str, task: str, folder: Path) -> list[Sample]:
    """Convert a miniature for one task; nothing may be lost but what is in another split."""
    write, split = LAYOUTS[name]
    root = folder / "root"
    root.mkdir(exist_ok=True)
    write(root)
    (spec,) = Catalog().find(f"{name}/{task}")
    ledger = convert(spec, split, root, folder / "out")
    assert (ledger.samples, ledger.quarantined) == (4, {})
    assert set(ledger.skipped) <= {"where.filtered"}
    return list(read_samples(folder / "out" / name / task / split))


def wanted(name: str) -> list[str]:
    return [task for task in Catalog().dataset(Catalog().file_of(name)[0]).tasks if task in NEW]


CASES = [(name, task) for name in LAYOUTS for task in wanted(name)]


def test_every_shipped_spec_that_gathers_is_run_here() -> None:
    catalog = Catalog()
    gathering = {
        (name, task)
        for name, path in catalog.dataset_files.items()
        for task, use in catalog.dataset(path).tasks.items()
        if use.gather is not None
    }

    assert gathering == {case for case in CASES if not case[1].startswith("mark_")}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_spec_makes_samples_of_its_declared_layout(tmp_path: Path, name: str, task: str) -> None:
    samples = made(name, task, tmp_path)

    spec: TaskSpec = Catalog().tasks[task]
    for sample in samples:
        assert {route.token for route in sample.routes} == set(spec.routing)
        if task.startswith("mark_"):
            assert len(sample.images) == 1 and sample.marks
            continue
        paths = [image.path for image in sample.images]
        assert 2 <= len(paths) == len(set(paths)) <= 6
        assert sample.conversation[0].text.count("<image>") == len(paths)
        if task == "in_context_mask":
            assert isinstance(sample.targets, InstanceTargets)
            assert [region.image for region in sample.regions] == list(range(len(paths) - 1))
            (target,) = sample.targets.instances
            assert target.mask is not None and 500 <= target.area <= 700


@pytest.mark.parametrize("name", [name for name, _ in CASES if "gather: {by: label" in
                                  Catalog().file_of(name)[0].read_text()])  # fmt: skip
def test_the_right_class_is_among_the_examples(tmp_path: Path, name: str) -> None:
    answers = set()
    for sample in made(name, "in_context_text", tmp_path):
        answer = sample.conversation[1].text
        answers.add(answer)
        assert f"<image>\n{answer}\n" in sample.conversation[0].text

    assert len(answers) == 2


@pytest.mark.parametrize(
    ("name", "count"), [("birdsnap", 1), ("uecfood256", 1), ("cnfood241", 1), ("vegfru", 1)]
)
def test_the_new_sets_name_one_class_a_picture(tmp_path: Path, name: str, count: int) -> None:
    samples = made(name, "classification", tmp_path)

    assert [sample.conversation[1].text for sample in samples] == ["A.", "A.", "B.", "B."]


@pytest.mark.parametrize(("name", "task"), [("uecfood256", "detection"), ("birdsnap", "region_recognition")])
def test_their_boxes_are_corners(tmp_path: Path, name: str, task: str) -> None:
    for sample in made(name, task, tmp_path):
        boxes = [region.box for region in sample.regions]
        if isinstance(sample.targets, InstanceTargets):
            boxes = [target.box for target in sample.targets.instances]
            assert not sample.targets.exhaustive  # another food may be there
        assert boxes == [(5, 5, 35, 25)]
