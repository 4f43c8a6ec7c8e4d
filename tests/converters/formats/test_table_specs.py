"""Shipped specs of films, ratings, counts and boxes of 3D sets, on rows of the columns that their datasets state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from converters.formats.records import read
from dataengine.annotation import Annotation
from dataengine.catalog import Catalog
from dataengine.files import Root

Files = dict[str, Any]
EIGHT = [str(number) for number in range(8)]


def _annotations(name: str, split: str, root: Path, files: Files) -> list[Annotation]:
    for file, content in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(content if isinstance(content, str) else json.dumps(content))
    spec = Catalog().find(name)[0]
    found = list(read(spec.source(split), Root(root)))
    assert all(isinstance(item, Annotation) for item in found), found
    return [item for item in found if isinstance(item, Annotation)]


FILMS: list[tuple[str, str, Files, list[str], str]] = [
    (
        "nextqa", "val",
        {"dataset/nextqa/val.csv": "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
                                   "7,16,9,9,why,1,6,CW,run,eat,sit,fly,nap\n"},
        [f"frames/7/{number:06d}.jpg" for number in range(2, 17, 2)], "eat",
    ),
    (
        "msrvtt_qa", "test", {"test_qa.json": [{"id": 1, "video_id": 7010, "question": "who", "answer": "man"}]},
        [f"frames/video7010/{number}.jpg" for number in EIGHT], "man",
    ),
    (
        "msvd_qa", "val", {"val_qa.json": [{"id": 1, "video_id": 5, "question": "who", "answer": "cat"}]},
        [f"frames/vid5/{number}.jpg" for number in EIGHT], "cat",
    ),
    (
        "activitynet_qa", "val",
        {"val_q.json": [{"question_id": "a_1", "video_name": "v", "question": "is it day"}],
         "val_a.json": [{"question_id": "a_1", "answer": "yes", "type": 3}]},
        [f"frames/v/{number}.jpg" for number in EIGHT], "yes",
    ),
    (
        "vatex", "val", {"vatex_validation_v1.0.json": [{"videoID": "x_1_2", "enCap": ["A man."], "chCap": ["人"]}]},
        [f"frames/x_1_2/{number}.jpg" for number in EIGHT], "A man.",
    ),
    (
        "videochatgpt_100k", "train", {"VideoInstruct100K.json": [{"q": " What? ", "a": "A dog.", "video_id": "v_1"}]},
        [f"frames/v_1/{number}.jpg" for number in EIGHT], "A dog.",
    ),
    (
        "mvbench", "test",
        {"json/action_antonym.json": [
            {"video": "1.webm", "question": "what", "candidates": ["up", "down"], "answer": "down"}]},
        [f"frames/action_antonym/1.webm/{number}.jpg" for number in EIGHT], "down",
    ),
    (
        "activitynet_captions", "val_1",
        {"val_1.json": {"v_1": {"duration": 9.0, "timestamps": [[0.4, 3.6]], "sentences": [" A dive."]}}},
        [f"frames/v_1/{number}.jpg" for number in range(5)], " A dive.",
    ),
    (
        "msrvtt", "train",
        {"train_val_videodatainfo.json": {
            "videos": [{"video_id": "video1", "split": "train"}],
            "sentences": [{"video_id": "video1", "caption": "a man sings", "sen_id": 0}]}},
        [f"frames/video1/{number}.jpg" for number in EIGHT], "a man sings",
    ),
    (
        "qvhighlights", "val",
        {"highlight_val_release.jsonl": {"qid": 1, "query": "A cook", "vid": "a_0_150", "relevant_clip_ids": [3, 4]}},
        ["frames/a_0_150/3.jpg", "frames/a_0_150/4.jpg"], "A cook",
    ),
    (
        "epic_kitchens_100", "val",
        {"EPIC_100_validation.csv": "narration_id,participant_id,video_id,start_frame,stop_frame,narration,verb\n"
                                    "P01_11_0,P01,P01_11,11,12,put down plate,put-down\n"},
        [f"P01/rgb_frames/P01_11/frame_00000000{number}.jpg" for number in (11, 12)], "put down plate",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "split", "files", "pictures", "answer"), FILMS)
def test_frames_of_a_film_are_the_pictures_of_its_question(
    name: str, split: str, files: Files, pictures: list[str], answer: str, tmp_path: Path
) -> None:
    (found,) = _annotations(name, split, tmp_path, files)

    assert [image.path for image in found.images] == pictures
    said = [question.answers for question in found.questions] or [(found.captions[0].text,)]
    assert said == [(answer,)]


RATINGS: list[tuple[str, str, Files, str, tuple[str, ...]]] = [
    (
        "koniq10k", "all",
        {"koniq10k_scores_and_distributions.csv": "image_name,MOS,MOS_zscore\na.jpg,3.9,80.3\nb.jpg,1.1,20.8\n"},
        "koniq10k_1024x768/a.jpg", ("excellent", "bad"),
    ),
    (
        "kadid10k", "all", {"kadid10k/dmos.csv": "dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,4.57,0.5\n"},
        "kadid10k/images/I01_01_01.png", ("excellent",),
    ),
    ("tid2013", "all", {"mos_with_names.txt": "5.51429 I01_01_1.bmp\n"}, "distorted_images/I01_01_1.bmp", ("good",)),
    (
        "agiqa3k", "all", {"data.csv": 'name,prompt,mos_quality,mos_align\na.jpg,"x, y",1.99,2\n'},
        "AGIQA-3K/a.jpg", ("poor",),
    ),
    ("gfiqa20k", "all", {"GFIQA-20k/mos_rating.csv": "img,mos\n1.png,0.5\n"}, "GFIQA-20k/image/1.png", ("fair",)),
    (
        "ava_aesthetics", "all", {"AVA.txt": "1 953619 0 1 5 17 38 36 15 6 5 1 1 22 1396\n"},
        "ava_images/953619.jpg", ("fair",),
    ),
    ("tad66k", "test", {"labels/merge/test.csv": "image,score\n1.jpg,6.01\n"}, "TAD66K/1.jpg", ("good",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "split", "files", "picture", "words"), RATINGS)
def test_a_score_becomes_one_of_five_words(
    name: str, split: str, files: Files, picture: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    found = _annotations(name, split, tmp_path, files)

    assert found[0].images[0].path == picture
    assert tuple(item.labels[0] for item in found) == words


def test_the_words_of_a_rating_are_asked_from_bad_to_excellent() -> None:
    for name, *_ in RATINGS:
        (spec,) = Catalog().find(name)
        assert spec.labels is not None and spec.labels.names == ("bad", "poor", "fair", "good", "excellent")


BOP = {"1": [{"obj_id": 2, "cam_t_m2c": [0, 0, 9]}, {"obj_id": 1}]}
BOP_INFO = {"1": [{"bbox_visib": [5, 6, 7, 8], "visib_fract": 1}, {"bbox_visib": [-1, -1, 0, 0]}]}
BOXES: list[tuple[str, str, Files, str, list[tuple[str | None, tuple[float, ...] | None, bool]]]] = [
    (
        "omni3d", "kitti_val",
        {"datasets/Omni3D/KITTI_val.json": {
            "images": [{"id": 3, "file_path": "KITTI_object/a.png", "width": 20, "height": 10}],
            "annotations": [
                {"image_id": 3, "category_name": "car", "bbox2D_trunc": [1, 2, 3, 4]},
                {"image_id": 3, "category_name": "bus", "bbox2D_trunc": [-1, -1, -1, -1]},
            ]}},
        "datasets/KITTI_object/a.png", [("car", (1, 2, 3, 4), False), ("bus", (-1, -1, -1, -1), True)],
    ),
    (
        "cityscapes_3d", "train",
        {"gtBbox3d/train/ulm/ulm_0_gtBbox3d.json": {
            "imgWidth": 2048, "imgHeight": 1024,
            "objects": [{"label": "car", "2d": {"modal": [6, 8, 4, 2], "amodal": [0, 8, 10, 2]}}]}},
        "leftImg8bit/train/ulm/ulm_0_leftImg8bit.png", [("car", (6, 8, 10, 10), False)],
    ),
    (
        "dair_v2x_i", "all",
        {"single-infrastructure-side/label/camera/000001.json": [
            {"type": "Car", "2d_box": {"xmin": 1, "ymin": "2", "xmax": 3, "ymax": 4}},
            {"type": "Van", "2d_box": {"xmin": 5, "ymin": 6, "xmax": 7, "ymax": 8}}]},
        "single-infrastructure-side/image/000001.jpg",
        [("Car", (1, 2, 3, 4), False), ("Van", (5, 6, 7, 8), False)],
    ),
    (
        "ycb_video_bop", "test",
        {"ycbv/test/000048/scene_gt.json": BOP, "ycbv/test/000048/scene_gt_info.json": BOP_INFO},
        "ycbv/test/000048/rgb/000001.png",
        [("cracker box", (5, 6, 12, 14), False), ("master chef can", (-1, -1, -1, -1), True)],
    ),
    (
        "linemod_bop", "test",
        {"lm/test/000001/scene_gt.json": BOP, "lm/test/000001/scene_gt_info.json": BOP_INFO},
        "lm/test/000001/rgb/000001.png", [("benchvise", (5, 6, 12, 14), False), ("ape", (-1, -1, -1, -1), True)],
    ),
    (
        "carpk", "test",
        {"CARPK_devkit/data/ImageSets/test.txt": "a\n",
         "CARPK_devkit/data/Annotations/a.txt": "1 2 3 4 1\n5 6 7 8 1\n",
         "CARPK_devkit/data/Annotations/of_train.txt": "1 2 3 4 1\n"},
        "CARPK_devkit/data/Images/a.png", [("car", (1, 2, 3, 4), False), ("car", (5, 6, 7, 8), False)],
    ),
    (
        "clevr_count", "val",
        {"CLEVR_v1.0/scenes/CLEVR_val_scenes.json": {"scenes": [
            {"image_index": 0, "image_filename": "CLEVR_val_000000.png",
             "objects": [{"shape": "cube"}, {"shape": "sphere"}]}]}},
        "CLEVR_v1.0/images/val/CLEVR_val_000000.png", [("cube", None, False), ("sphere", None, False)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "split", "files", "picture", "objects"), BOXES)
def test_boxes_of_3d_sets_and_of_counts_are_those_in_the_picture(
    name: str,
    split: str,
    files: Files,
    picture: str,
    objects: list[tuple[str | None, tuple[float, ...] | None, bool]],
    tmp_path: Path,
) -> None:
    (found,) = _annotations(name, split, tmp_path, files)

    assert found.images[0].path == picture
    assert [(item.category, item.box, item.ignore) for item in found.instances] == objects


def test_each_caption_of_winoground_is_asked_of_its_own_picture(tmp_path: Path) -> None:
    row = {"id": 5, "image_0": "ex_0", "image_1": "ex_1", "caption_0": "a on b", "caption_1": "b on a"}

    (found,) = _annotations("winoground", "test", tmp_path, {"data/examples.jsonl": row})

    assert [image.path for image in found.images] == ["images/ex_0.png", "images/ex_1.png"]
    first, second = found.questions
    assert (first.text, first.answers) == ("Which sentence describes the first picture?", ("a on b",))
    assert (second.text, second.answers) == ("Which sentence describes the second picture?", ("b on a",))
    assert sorted(first.choices) == sorted(second.choices) == ["a on b", "b on a"]


def test_the_true_sentence_of_aro_is_the_answer(tmp_path: Path) -> None:
    row = {
        "image_path": "1.jpg",
        "true_caption": "the cat is on the mat",
        "false_caption": "the mat is on the cat",
    }

    (found,) = _annotations("aro", "relation", tmp_path, {"visual_genome_relation.json": [row]})

    assert found.questions[0].answers == ("the cat is on the mat",) and found.images[0].path == "images/1.jpg"


def test_masks_of_a_frame_of_sa_v_are_its_objects_and_one_out_of_sight_is_none(tmp_path: Path) -> None:
    shown = {"size": [2, 2], "counts": [1, 3]}
    video = {
        "video_id": "sav_1",
        "video_width": 2.0,
        "video_height": 2.0,
        "masklet": [[shown, None], [None, shown]],
    }

    first, second = _annotations("sa_v", "train", tmp_path, {"sav_train/sav_000/sav_1_manual.json": video})

    assert [image.path for image in (*first.images, *second.images)] == [
        "frames/sav_1/0.jpg",
        "frames/sav_1/1.jpg",
    ]
    assert [item.id for item in first.instances] == ["0"] and [item.id for item in second.instances] == ["1"]


def test_both_times_of_a_place_are_shown_with_what_is_said_of_the_change(tmp_path: Path) -> None:
    row = {
        "filename": "1.png",
        "filepath": "val",
        "sentences": [{"raw": " a house was built"}],
        "changeflag": 1,
    }

    (found,) = _annotations("levir_cc", "val", tmp_path, {"LevirCCcaptions.json": {"images": [row]}})

    assert [image.path for image in found.images] == ["images/val/A/1.png", "images/val/B/1.png"]
    assert found.captions[0].text == "a house was built"


def test_options_of_a_film_s_question_lose_their_letters(tmp_path: Path) -> None:
    row = {
        "question_id": "1-1",
        "videoID": "v",
        "question": "Who?",
        "options": ["A. He.", "B. She."],
        "answer": "B",
    }
    (tmp_path / "videomme").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "videomme/test.parquet")

    (found,) = _annotations("videomme", "test", tmp_path, {})

    assert (found.questions[0].choices, found.questions[0].answers) == (("He.", "She."), ("She.",))


def test_the_answer_of_egoschema_is_a_position(tmp_path: Path) -> None:
    row = {
        "question_idx": "5",
        "video_idx": "v",
        "question": "Why?",
        "option": ["a", "b", "c"],
        "answer": "2",
    }
    (tmp_path / "Subset").mkdir()
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "Subset/test.parquet")

    (found,) = _annotations("egoschema", "subset", tmp_path, {})

    assert found.questions[0].answers == ("c",) and len(found.images) == 8
