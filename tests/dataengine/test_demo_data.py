"""The demo's annotations are consistent in themselves, and prepare() lays out what they say."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import dataengine.demo.prepare as demo
from dataengine.demo.edits import Parameters, apply_edit
from dataengine.demo.prepare import ANNOTATIONS, packaged_pictures, pixels, prepare, read_edits
from dataengine.errors import SourceError, UsageError
from dataengine.geometry import mask_from_rle, rle_area, rle_box, rle_from_counts, rle_from_polygons

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image (extra 'demo') is not installed"
)

Row = dict[str, Any]
KEYPOINT_FILES = ["coco/person_keypoints.json", "coco/animal_keypoints.json"]
# JPEG at quality 95 moves a pixel of a photograph by a few levels only.
JPEG_MEAN_ERROR = 4.0


def load(name: str) -> Any:
    return json.loads((ANNOTATIONS / name).read_text(encoding="utf-8"))


def lines(name: str) -> list[Row]:
    return [json.loads(line) for line in (ANNOTATIONS / name).read_text(encoding="utf-8").splitlines()]


def box_of(annotation: Row) -> tuple[float, float, float, float]:
    x, y, width, height = annotation["bbox"]
    return x, y, x + width, y + height


def mask_of(annotation: Row, picture: Row) -> npt.NDArray[np.bool_]:
    outline = annotation["segmentation"]
    if isinstance(outline, dict):
        return mask_from_rle(rle_from_counts(outline["counts"], outline["size"])).astype(np.bool_)
    return mask_from_rle(rle_from_polygons(outline, picture["width"], picture["height"])).astype(np.bool_)


def snapshot(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def instances() -> Row:
    return dict(load("coco/instances.json"))


@pytest.fixture(scope="module")
def pictures(instances: Row) -> dict[int, Row]:
    return {picture["id"]: picture for picture in instances["images"]}


@pytest.fixture(scope="module")
def names(instances: Row) -> set[str]:
    return {picture["file_name"] for picture in instances["images"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    prepare(folder)
    return folder


def test_the_demo_is_large_and_varied_enough(instances: Row) -> None:
    classes = Counter(annotation["category_id"] for annotation in instances["annotations"])

    assert len(instances["images"]) >= 12
    assert sum(classes.values()) >= 60
    assert set(classes) == {category["id"] for category in instances["categories"]}


def test_every_object_names_a_picture_and_a_category_and_ids_are_unique(instances: Row) -> None:
    image_ids = [picture["id"] for picture in instances["images"]]
    category_ids = [category["id"] for category in instances["categories"]]
    ids = [annotation["id"] for annotation in instances["annotations"]]

    assert len(set(ids)) == len(ids)
    assert len(set(image_ids)) == len(image_ids)
    assert len(set(category_ids)) == len(category_ids)
    assert {annotation["image_id"] for annotation in instances["annotations"]} < set(image_ids)
    assert {annotation["category_id"] for annotation in instances["annotations"]} <= set(category_ids)


def test_every_picture_has_a_license_of_the_list(instances: Row) -> None:
    known = {entry["id"] for entry in instances["licenses"]}

    assert all(picture["license"] in known for picture in instances["images"])
    assert all(entry["name"] for entry in instances["licenses"])


def test_stated_sizes_are_those_of_the_pictures(instances: Row) -> None:
    packaged = packaged_pictures()

    for picture in instances["images"]:
        with Image.open(io.BytesIO(packaged[picture["file_name"]])) as opened:
            assert opened.size == (picture["width"], picture["height"])
    assert set(packaged) == {picture["file_name"] for picture in instances["images"]}


def test_every_polygon_lies_in_its_picture_and_fills_its_box(
    instances: Row, pictures: dict[int, Row]
) -> None:
    for annotation in instances["annotations"]:
        if annotation["iscrowd"]:
            continue
        picture = pictures[annotation["image_id"]]
        xs = [x for polygon in annotation["segmentation"] for x in polygon[0::2]]
        ys = [y for polygon in annotation["segmentation"] for y in polygon[1::2]]

        assert all(len(p) >= 6 and len(p) % 2 == 0 for p in annotation["segmentation"])
        assert min(xs) >= 0 and min(ys) >= 0
        assert max(xs) <= picture["width"] and max(ys) <= picture["height"]
        assert box_of(annotation) == pytest.approx((min(xs), min(ys), max(xs), max(ys)), abs=0.11)


def test_areas_are_those_of_the_masks(instances: Row, pictures: dict[int, Row]) -> None:
    for annotation in instances["annotations"]:
        mask = mask_of(annotation, pictures[annotation["image_id"]])

        assert annotation["area"] == int(mask.sum()) > 0


def test_the_one_crowd_is_a_run_length_code_in_its_box(instances: Row, pictures: dict[int, Row]) -> None:
    [crowd] = [annotation for annotation in instances["annotations"] if annotation["iscrowd"]]
    picture = pictures[crowd["image_id"]]

    rle = rle_from_counts(crowd["segmentation"]["counts"], crowd["segmentation"]["size"])

    assert rle.size == (picture["height"], picture["width"])
    assert rle_area(rle) == crowd["area"]
    assert rle_box(rle) == box_of(crowd)


def test_the_coins_are_24_that_do_not_overlap(instances: Row, pictures: dict[int, Row]) -> None:
    coin = next(category["id"] for category in instances["categories"] if category["name"] == "coin")
    coins = [annotation for annotation in instances["annotations"] if annotation["category_id"] == coin]

    stacked = np.sum([mask_of(item, pictures[item["image_id"]]) for item in coins], axis=0)

    assert len(coins) == 24
    assert stacked.max() == 1
    assert all(len(item["segmentation"][0]) >= 2 * 16 for item in coins)


def test_coins_are_brighter_than_what_surrounds_them(instances: Row, pictures: dict[int, Row]) -> None:
    coin = next(category["id"] for category in instances["categories"] if category["name"] == "coin")
    grey = pixels(packaged_pictures()["coins.png"])[..., 0].astype(float)

    for item in instances["annotations"]:
        if item["category_id"] == coin:
            mask = mask_of(item, pictures[item["image_id"]])
            x0, y0, x1, y1 = (round(v) for v in box_of(item))
            window = np.zeros_like(mask)
            window[max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3] = True
            assert grey[mask].mean() > grey[window & ~mask].mean() + 20


def test_the_horse_is_exactly_the_black_of_its_picture(instances: Row, pictures: dict[int, Row]) -> None:
    [horse] = [a for a in instances["annotations"] if pictures[a["image_id"]]["file_name"] == "horse.png"]
    black = pixels(packaged_pictures()["horse.png"]).mean(axis=2) < 128

    mask = mask_of(horse, pictures[horse["image_id"]])

    assert (mask & black).sum() / (mask | black).sum() > 0.98


def test_voc_boxes_are_the_coco_boxes_counted_from_one(instances: Row, pictures: dict[int, Row]) -> None:
    category = {entry["id"]: entry["name"] for entry in instances["categories"]}
    stems = (ANNOTATIONS / "voc/ImageSets/Main/trainval.txt").read_text().split()

    assert stems and sorted(stems) == sorted(p.stem for p in (ANNOTATIONS / "voc/Annotations").glob("*.xml"))
    for stem in stems:
        tree = ElementTree.parse(ANNOTATIONS / f"voc/Annotations/{stem}.xml").getroot()
        [picture] = [p for p in pictures.values() if p["file_name"] == tree.findtext("filename")]
        ours = [a for a in instances["annotations"] if a["image_id"] == picture["id"]]
        objects = tree.findall("object")
        assert Path(picture["file_name"]).stem == stem
        assert [int(tree.findtext(f"size/{side}", "")) for side in ("width", "height")] == [
            picture["width"],
            picture["height"],
        ]
        assert len(objects) == len(ours) > 0
        for theirs, annotation in zip(objects, ours, strict=True):
            x0, y0, x1, y1 = box_of(annotation)
            stated = [int(theirs.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
            tight = [math.floor(x0 + 1e-6) + 1, math.floor(y0 + 1e-6) + 1]
            tight += [math.ceil(x1 - 1e-6), math.ceil(y1 - 1e-6)]
            assert theirs.findtext("name") == category[annotation["category_id"]]
            assert stated == tight
            assert stated[0] >= 1 and stated[1] >= 1
            assert stated[2] <= picture["width"] and stated[3] <= picture["height"]


def test_voc_objects_at_the_border_are_truncated_and_the_crowd_is_difficult(
    instances: Row, pictures: dict[int, Row]
) -> None:
    for path in sorted((ANNOTATIONS / "voc/Annotations").glob("*.xml")):
        tree = ElementTree.parse(path).getroot()
        [picture] = [p for p in pictures.values() if p["file_name"] == tree.findtext("filename")]
        ours = [a for a in instances["annotations"] if a["image_id"] == picture["id"]]
        for theirs, annotation in zip(tree.findall("object"), ours, strict=True):
            x0, y0, x1, y1 = box_of(annotation)
            cut = x0 <= 0 or y0 <= 0 or x1 >= picture["width"] or y1 >= picture["height"]
            assert {theirs.findtext(flag) for flag in ("truncated", "difficult", "occluded")} <= {"0", "1"}
            assert not cut or theirs.findtext("truncated") == "1"
            assert not annotation["iscrowd"] or theirs.findtext("difficult") == "1"


@pytest.mark.parametrize("name", KEYPOINT_FILES)
def test_labelled_keypoints_lie_on_their_object_and_are_counted(
    name: str, instances: Row, pictures: dict[int, Row]
) -> None:
    objects = {annotation["id"]: annotation for annotation in instances["annotations"]}
    content = load(name)
    [category] = content["categories"]

    assert content["annotations"]
    assert all(1 <= end <= len(category["keypoints"]) for pair in category["skeleton"] for end in pair)
    for annotation in content["annotations"]:
        triples = list(zip(*[iter(annotation["keypoints"])] * 3, strict=True))
        mask = mask_of(annotation, pictures[annotation["image_id"]])
        assert annotation["bbox"] == objects[annotation["id"]]["bbox"]
        assert annotation["segmentation"] == objects[annotation["id"]]["segmentation"]
        assert len(triples) == len(category["keypoints"])
        assert annotation["num_keypoints"] == sum(v > 0 for _, _, v in triples) > 0
        for x, y, v in triples:
            assert v in (0, 1, 2)
            if v == 0:
                assert (x, y) == (0, 0)
            else:
                assert mask[int(y), int(x)], (name, x, y)


def test_person_keypoints_are_the_seventeen_of_coco() -> None:
    [category] = load("coco/person_keypoints.json")["categories"]

    assert len(category["keypoints"]) == 17
    assert category["keypoints"][:3] == ["nose", "left_eye", "right_eye"]
    assert len(category["skeleton"]) == 19


def test_left_and_right_are_those_of_the_person() -> None:
    content = load("coco/person_keypoints.json")
    astronaut = content["annotations"][0]["keypoints"]
    x = dict(zip(content["categories"][0]["keypoints"], astronaut[0::3], strict=True))

    # She faces the camera, so that her left is on the right of the picture.
    assert x["left_eye"] > x["nose"] > x["right_eye"]
    assert x["left_shoulder"] > x["right_shoulder"]


def test_every_picture_has_two_to_five_captions(pictures: dict[int, Row]) -> None:
    rows = load("coco/captions.json")["annotations"]
    count = Counter(row["image_id"] for row in rows)

    assert set(count) == set(pictures)
    assert all(2 <= number <= 5 for number in count.values())
    assert all(row["caption"].strip() == row["caption"] and row["caption"].endswith(".") for row in rows)
    assert len({row["caption"] for row in rows}) == len(rows)


def test_every_expression_names_one_object_and_no_expression_names_two(
    instances: Row, pictures: dict[int, Row]
) -> None:
    objects = {annotation["id"]: annotation for annotation in instances["annotations"]}
    refs = load("refcoco/refs.json")
    said: dict[tuple[int, str], set[int]] = {}

    for ref in refs:
        target = objects[ref["ann_id"]]
        assert (ref["image_id"], ref["category_id"]) == (target["image_id"], target["category_id"])
        assert ref["file_name"] == pictures[ref["image_id"]]["file_name"]
        assert ref["split"] in ("train", "val")
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
        for sentence in ref["sentences"]:
            assert sentence["sent"].split() == sentence["tokens"] != []
            said.setdefault((ref["image_id"], sentence["sent"]), set()).add(ref["ann_id"])

    ids = [sentence_id for ref in refs for sentence_id in ref["sent_ids"]]
    assert len(set(ids)) == len(ids)
    assert all(len(meant) == 1 for meant in said.values())


def test_superlatives_about_coins_are_true(instances: Row, pictures: dict[int, Row]) -> None:
    coins = [a for a in instances["annotations"] if pictures[a["image_id"]]["file_name"] == "coins.png"]
    area = {coin["id"]: coin["area"] for coin in coins}
    said = {
        sentence["sent"]: ref["ann_id"]
        for ref in load("refcoco/refs.json")
        if ref["file_name"] == "coins.png"
        for sentence in ref["sentences"]
    }
    rows = [
        sorted(coins, key=lambda coin: coin["bbox"][1] + coin["bbox"][3] / 2)[k : k + 6]
        for k in range(0, 24, 6)
    ]

    assert said["the biggest coin"] == max(area, key=lambda key: area[key])
    assert said["biggest coin in the top row"] == max(rows[0], key=lambda coin: coin["area"])["id"]
    assert said["leftmost coin in the third row"] == min(rows[2], key=lambda coin: coin["bbox"][0])["id"]
    assert said["rightmost coin in the bottom row"] == max(rows[3], key=lambda coin: coin["bbox"][0])["id"]
    assert said["the coin in the upper left corner"] == min(rows[0], key=lambda coin: coin["bbox"][0])["id"]


def test_every_question_has_ten_answers_and_the_majority_is_the_consensus(pictures: dict[int, Row]) -> None:
    questions = {row["question_id"]: row for row in load("vqa/questions.json")["questions"]}
    answered = load("vqa/annotations.json")["annotations"]

    assert {row["question_id"] for row in answered} == set(questions) and len(answered) == len(questions)
    for row in answered:
        question = questions[row["question_id"]]
        counted = Counter(answer["answer"] for answer in row["answers"]).most_common()
        assert row["image_id"] == question["image_id"] and row["image_id"] in pictures
        assert [answer["answer_id"] for answer in row["answers"]] == list(range(1, 11))
        assert counted[0][0] == row["multiple_choice_answer"]
        assert len(counted) == 1 or counted[0][1] > counted[1][1]
        assert question["question"].lower().startswith(row["question_type"])
        kind = row["answer_type"]
        assert (kind == "yes/no") == (row["multiple_choice_answer"] in ("yes", "no"))
        assert (kind == "number") == bool(re.fullmatch(r"\d+", row["multiple_choice_answer"]))


def test_every_picture_has_three_questions_or_more(pictures: dict[int, Row]) -> None:
    count = Counter(row["image_id"] for row in load("vqa/questions.json")["questions"])

    assert set(count) == set(pictures)
    assert min(count.values()) >= 3


def test_counting_questions_agree_with_the_outlines(instances: Row, pictures: dict[int, Row]) -> None:
    nouns = {category["name"]: category["id"] for category in instances["categories"]}
    answers = {row["question_id"]: row for row in load("vqa/annotations.json")["annotations"]}
    plurals = {"people": "person", **{f"{noun}s": noun for noun in nouns}}
    checked = 0

    for question in load("vqa/questions.json")["questions"]:
        match = re.fullmatch(
            r"How many ([a-z ]+?) (?:are there|can be seen|stand on the upper shelf)\?", question["question"]
        )
        if match is None or match[1] not in plurals:
            continue
        category = nouns[plurals[match[1]]]
        found = sum(
            annotation["image_id"] == question["image_id"] and annotation["category_id"] == category
            for annotation in instances["annotations"]
        )
        assert int(answers[question["question_id"]]["multiple_choice_answer"]) == found, question["question"]
        checked += 1

    assert checked >= 8


def test_multiple_choice_answers_point_at_a_choice(names: set[str]) -> None:
    rows = lines("vqa/multiple_choice.jsonl")

    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["image"] in names
        assert len(set(row["choices"])) == len(row["choices"]) == 4
        assert 0 <= row["answer_index"] < len(row["choices"])
    assert len({row["answer_index"] for row in rows}) == 4


def test_conversations_alternate_and_show_the_picture_once(names: set[str]) -> None:
    rows = load("llava/conversations.json")

    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        turns = row["conversations"]
        assert row["image"] in names
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        assert 2 <= len(turns) // 2 <= 3
        assert turns[0]["value"].startswith("<image>\n")
        assert sum(turn["value"].count("<image>") for turn in turns) == 1


def test_prompts_name_pictures(names: set[str]) -> None:
    rows = lines("t2i/prompts.jsonl")

    assert rows
    assert all(row["image"] in names and row["prompt"].strip() for row in rows)


def before_and_after(edit: int, pair: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    row = read_edits()[edit]
    chosen = row.pairs[pair]
    content = load("coco/instances.json")
    objects = {annotation["id"]: annotation for annotation in content["annotations"]}
    pictures = {picture["id"]: picture for picture in content["images"]}
    thing = None
    if chosen.ann_id is not None:
        thing = mask_of(objects[chosen.ann_id], pictures[objects[chosen.ann_id]["image_id"]])
    before = pixels(packaged_pictures()[chosen.picture])
    return before, apply_edit(before, row.operation, row.parameters, thing)


def test_edits_name_objects_of_their_own_picture(instances: Row, pictures: dict[int, Row]) -> None:
    objects = {annotation["id"]: annotation for annotation in instances["annotations"]}
    rows = read_edits()

    assert len({row.dir for row in rows}) == len(rows)
    assert len({pair.seed for row in rows for pair in row.pairs}) == sum(len(row.pairs) for row in rows)
    for row in rows:
        for pair in row.pairs:
            assert (pair.ann_id is None) == (row.parameters.inside is None)
            if pair.ann_id is not None:
                assert pictures[objects[pair.ann_id]["image_id"]]["file_name"] == pair.picture


@pytest.mark.parametrize("edit", range(24))
def test_every_edit_changes_its_picture_as_it_says(edit: int) -> None:
    row = read_edits()[edit]
    parameters = row.parameters

    before, after = before_and_after(edit)

    changed = (before != after).any(axis=2)
    assert after.shape == before.shape and after.dtype == np.uint8
    assert changed.mean() > 0.005
    if parameters.inside is not None:
        content = load("coco/instances.json")
        [annotation] = [a for a in content["annotations"] if a["id"] == row.pairs[0].ann_id]
        [picture] = [p for p in content["images"] if p["id"] == annotation["image_id"]]
        mask = mask_of(annotation, picture)
        region = mask if parameters.inside else ~mask
        assert not changed[~region].any()
        before, after = before[region][None], after[region][None]
    match row.operation:
        case "mirror":
            assert np.array_equal(after[:, ::-1], before)
        case "flip":
            assert np.array_equal(after[::-1], before)
        case "rotate":
            assert np.array_equal(after[::-1, ::-1], before)
        case "grayscale":
            assert (after == after[..., :1]).all()
            assert abs(after.mean(axis=2) - before.astype(float) @ [0.299, 0.587, 0.114]).max() <= 0.51
        case "invert":
            assert (after.astype(int) + before == 255).all()
        case "brightness":
            assert (after >= before).all() if parameters.factor > 1 else (after <= before).all()
        case "posterize":
            assert len(np.unique(after)) <= parameters.levels
            assert abs(after.astype(int) - before).max() <= 255 // parameters.levels
        case "swap_red_blue":
            assert np.array_equal(after[..., 0], before[..., 2])
            assert np.array_equal(after[..., 1], before[..., 1])
            assert after[..., 2].astype(float).mean() > after[..., 0].mean()
        case "fill":
            assert (after == np.array(parameters.color)).all()
        case _:
            assert (after[changed] == np.array(parameters.color)).all()


def test_painted_shapes_are_where_the_table_puts_them() -> None:
    empty = np.zeros((40, 60, 3), np.uint8)
    white = (255, 255, 255)

    bar = apply_edit(empty, "paint_rectangle", Parameters(box=(5, 3, 20, 9), color=white), None)
    disc = apply_edit(empty, "paint_circle", Parameters(center=(30, 20), radius=10, color=white), None)
    frame = apply_edit(empty, "paint_frame", Parameters(width=4, color=white), None)

    assert bar[3:9, 5:20].all() and bar.sum() == 6 * 15 * 3 * 255
    assert disc[20, 20].all() and disc[20, 40].all() and not disc[20, 41].any() and not disc[11, 21].any()
    assert not frame[4:-4, 4:-4].any() and frame[:4].all() and frame[:, -4:].all()


def test_an_edit_of_an_object_needs_the_object() -> None:
    empty = np.zeros((4, 4, 3), np.uint8)

    with pytest.raises(SourceError, match="expected ann_id"):
        apply_edit(empty, "invert", Parameters(inside=True), None)


def test_pictures_are_the_packaged_bytes(root: Path, names: set[str]) -> None:
    written = {path.name: path.read_bytes() for path in (root / "images").iterdir()}

    assert written == packaged_pictures()
    assert set(written) == names


def test_annotations_are_copied_as_they_are(root: Path) -> None:
    for path in ANNOTATIONS.rglob("*"):
        relative = path.relative_to(ANNOTATIONS)
        if path.is_file() and relative.parts[0] != "ip2p":
            assert (root / relative).read_bytes() == path.read_bytes()


def test_preparing_twice_writes_nothing_the_second_time(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}

    prepare(root)

    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before


def test_preparing_elsewhere_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    prepare(tmp_path)

    assert snapshot(tmp_path) == snapshot(root)


def test_a_damaged_file_is_written_anew(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    (tmp_path / "images/chelsea.png").write_bytes(b"damaged")
    (tmp_path / "ip2p/0000001/prompt.json").unlink()

    prepare(tmp_path)

    assert snapshot(tmp_path) == snapshot(root)


def test_vqa_pictures_bear_the_names_that_vqa_derives_from_the_image_id(
    root: Path, pictures: dict[int, Row]
) -> None:
    found = {path.name for path in (root / "vqa/images").iterdir()}

    assert found == {f"COCO_demo_{image_id:012d}.jpg" for image_id in pictures}
    for image_id, picture in pictures.items():
        original = pixels((root / "images" / picture["file_name"]).read_bytes()).astype(float)
        copy = pixels((root / f"vqa/images/COCO_demo_{image_id:012d}.jpg").read_bytes())
        assert abs(copy - original).mean() < JPEG_MEAN_ERROR


def test_edit_folders_follow_the_layout_of_instructpix2pix(root: Path) -> None:
    listing = json.loads((root / "ip2p/seeds.json").read_text())
    rows = read_edits()

    assert [entry[0] for entry in listing] == [row.dir for row in rows]
    for (folder, seeds), row in zip(listing, rows, strict=True):
        prompt = json.loads((root / "ip2p" / folder / "prompt.json").read_text())
        assert prompt == {"input": row.input, "edit": row.instruction, "output": row.output}
        files = {"prompt.json", *(f"{seed}_{side}.jpg" for seed in seeds for side in (0, 1))}
        assert {path.name for path in (root / "ip2p" / folder).iterdir()} == files


@pytest.mark.parametrize("edit", [1, 11, 17])
def test_written_edits_are_the_computed_ones_but_for_jpeg(root: Path, edit: int) -> None:
    row = read_edits()[edit]

    for number, pair in enumerate(row.pairs):
        expected = before_and_after(edit, number)
        for side, picture in enumerate(expected):
            written = pixels((root / "ip2p" / row.dir / f"{pair.seed}_{side}.jpg").read_bytes())
            assert written.shape == picture.shape
            assert abs(written.astype(float) - picture).mean() < JPEG_MEAN_ERROR


def test_what_is_transparent_becomes_white() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8)).save(buffer, format="PNG")

    assert pixels(buffer.getvalue()).tolist() == [[[255, 255, 255], [9, 9, 9]]]


def test_without_scikit_image_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)

    with pytest.raises(UsageError, match=r"pip install 'dataengine\[demo\]'"):
        prepare(tmp_path)


def test_another_version_of_a_picture_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = json.loads((ANNOTATIONS.parent / "pictures.json").read_text())
    (tmp_path / "pictures.json").write_text(json.dumps({**table, "coffee.png": "0" * 64}))
    monkeypatch.setattr(demo, "_PICTURES", tmp_path / "pictures.json")

    with pytest.raises(SourceError, match=r"coffee\.png: sha256 is"):
        prepare(tmp_path / "out")


def test_a_picture_that_the_package_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pictures.json").write_text(json.dumps({"no_such_picture.png": "0" * 64}))
    monkeypatch.setattr(demo, "_PICTURES", tmp_path / "pictures.json")

    with pytest.raises(SourceError, match=r"no_such_picture\.png: no such file"):
        prepare(tmp_path / "out")
