"""Specs of datasets that VisionLLM v2 trains on, each on a miniature of the layout that its owners describe."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dataengine import manifest
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.sample import InstanceTargets, KeypointTargets, Sample, TextTargets

PICTURE = (60, 40)


def _lay(folder: Path, pictures: list[str], files: dict[str, Any]) -> Path:
    for name in pictures:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", PICTURE, (90, 120, 60)).save(folder / name)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    return folder


def _samples(dataset: str, task: str, split: str, root: Path, out: Path) -> list[Sample]:
    """Convert a split, which must lose nothing."""
    spec = next(spec for spec in Catalog().find(dataset) if spec.task.id == task)
    ledger = convert(spec, split, root, out)
    assert (ledger.skipped, ledger.quarantined, ledger.objects_dropped) == ({}, {}, {})
    return list(manifest.read_samples(out / dataset / task / split))


def test_a_region_of_as_core_is_captioned_and_asked_about(tmp_path: Path) -> None:
    place = {"image": "sa_000000/sa_1.jpg", "width": 60, "height": 40, "bbox": [10, 5, 30, 15]}
    asked = {
        **place,
        "question": "What is it?",
        "answer": "A dog.",
        "mismatch": False,
        "human_verified_tag": "x",
    }
    root = _lay(
        tmp_path / "root",
        ["sa_000000/sa_1.jpg"],
        {
            "region_caption_400k.jsonl": json.dumps({**place, "caption": "a small dog "}),
            "region_vqa_1m.jsonl": json.dumps(asked),
        },
    )

    (told,) = _samples("as_1b", "region_caption", "region_caption", root, tmp_path / "out")
    (answered,) = _samples("as_1b", "region_conversation", "region_vqa", root, tmp_path / "out")

    assert told.targets == TextTargets(answers=("A small dog.",))
    assert "What is it?" in answered.conversation[0].text
    assert answered.conversation[1].text == "A dog."
    assert [sample.regions[0].box for sample in (told, answered)] == [(10, 5, 30, 15)] * 2


def test_a_face_of_animalweb_has_nine_landmarks(tmp_path: Path) -> None:
    points = "\n".join(f"{10 + 2 * number} {5 + number}" for number in range(9))
    root = _lay(
        tmp_path / "root", ["alpaca_7.jpg"], {"alpaca_7.pts": f"version: 1\nn_points: 9\n{{\n{points}\n}}\n"}
    )

    (sample,) = _samples("animalweb", "keypoints", "all", root, tmp_path / "out")

    assert isinstance(sample.targets, KeypointTargets)
    (face,) = sample.targets.instances
    assert (face.label, len(sample.targets.names)) == ("animal face", 9)
    assert face.keypoints is not None
    assert face.keypoints[8] == (25, 12, 2)


def _coco(**annotation: Any) -> dict[str, Any]:
    keypoints = [f"k{number}" for number in range(len(annotation.get("keypoints", ())) // 3)]
    return {
        "images": [{"id": 1, "file_name": "a/1.jpg", "width": 60, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 5, 20, 10], **annotation}],
        "categories": [{"id": 1, "name": "thing", "keypoints": keypoints}],
    }


def test_coco_files_of_poses_lie_where_mmpose_puts_them(tmp_path: Path) -> None:
    pose = _coco(keypoints=[12, 6, 2, 20, 9, 1, 0, 0, 0])
    root = _lay(
        tmp_path / "root",
        ["images/a/1.jpg"],
        {"annotations/locust_test.json": pose, "annotations/ak_P1/test.json": pose},
    )

    for dataset in ("desert_locust", "animal_kingdom_coco"):
        (sample,) = _samples(dataset, "keypoints", "test", root, tmp_path / "out")
        assert isinstance(sample.targets, KeypointTargets)
        assert sample.targets.instances[0].keypoints == ((12, 6, 2), (20, 9, 1), (0, 0, 0))


def test_a_counting_mix_in_the_layout_of_coco_is_counted(tmp_path: Path) -> None:
    root = _lay(tmp_path / "root", ["images/a/1.jpg"], {"annotations/train.json": _coco()})

    (sample,) = _samples("ca44", "counting", "train", root, tmp_path / "out")

    assert sample.targets == TextTargets(answers=("1",))


def test_parts_of_paco_are_found_beside_their_objects(tmp_path: Path) -> None:
    part = {
        "id": 2,
        "image_id": 1,
        "category_id": 2,
        "bbox": [12, 6, 5, 5],
        "obj_ann_id": 1,
        "attribute_ids": [],
    }
    content = _coco(obj_ann_id=1, attribute_ids=[])
    content["annotations"].append(part)
    content["categories"].append({"id": 2, "name": "thing:leg"})
    root = _lay(tmp_path / "root", ["a/1.jpg"], {"annotations/paco_lvis_v1_val.json": content})

    (sample,) = _samples("paco_lvis", "detection", "val", root, tmp_path / "out")

    assert isinstance(sample.targets, InstanceTargets)
    assert [item.label for item in sample.targets.instances] == ["thing", "thing leg"]


def test_lvis_counts_what_it_has_annotated_in_full_or_denied(tmp_path: Path) -> None:
    # Two cats; of dogs there may be more; no bird; nobody looked for cows.
    image = {
        "id": 1, "coco_url": "http://x/val2017/1.jpg", "width": 60, "height": 40, "neg_category_ids": [3],
        "not_exhaustive_category_ids": [2],
    }  # fmt: skip
    objects = [
        {"id": number, "image_id": 1, "category_id": category, "bbox": [10 * number, 5, 8, 8]}
        for number, category in enumerate((1, 1, 2))
    ]
    names = [{"id": number, "name": name} for number, name in enumerate(("cat", "dog", "bird", "cow"), 1)]
    content = {"images": [image], "annotations": objects, "categories": names}
    root = _lay(tmp_path / "root", ["val2017/1.jpg"], {"lvis_v1_val.json": content})

    (sample,) = _samples("lvis_v1", "counting", "val", root, tmp_path / "out")

    assert [turn.text for turn in sample.conversation if turn.role == "assistant"] == ["2"]
    assert "cat" in sample.conversation[0].text


def test_a_page_of_synthdog_is_read_as_a_whole(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", PICTURE).save(file, "JPEG")
    truth = json.dumps({"gt_parse": {"text_sequence": " Some words.\nMore. "}})
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    row = {"image": {"bytes": file.getvalue(), "path": None}, "ground_truth": truth}
    pq.write_table(pa.Table.from_pylist([row]), root / "data/train-0.parquet")

    (sample,) = _samples("synthdog_en", "ocr", "train", root, tmp_path / "out")

    assert sample.targets == TextTargets(answers=("Some words. More.",))
