"""Specs whose datasets no real excerpt was at hand of, each on a miniature in the layout that its source describes."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from converters.formats.records import prepare, read
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.files import Root


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(file, "JPEG")
    return file.getvalue()


PICTURE = _picture()


class Table(NamedTuple):
    """A table that is no JSON: rows of cells for text with a delimiter, mappings for Parquet."""

    rows: list[Any]
    delimiter: str = ","


class Mini(NamedTuple):
    """A spec, a split, the files, and per annotation: key, pictures, and what is said; then reasons of rejections."""

    name: str
    split: str
    files: dict[str, Any]
    made: list[tuple[str, list[str], list[Any]]]
    reasons: Sequence[str] = ()


def _asked(text: str, *answers: str) -> tuple[str, tuple[str, ...]]:
    return text, answers


def _chosen(text: str, choices: list[str], index: int) -> tuple[str, list[str], int]:
    return text, choices, index


KARPATHY = {
    "images": [
        {
            "filename": "1.jpg", "filepath": "val2014", "cocoid": 1, "split": "restval",
            "sentences": [{"raw": "A dog."}, {"raw": "A brown dog. "}],
        },
        {"filename": "2.jpg", "filepath": "val2014", "cocoid": 2, "split": "test", "sentences": [{"raw": "Cat."}]},
        {"filename": "3.jpg", "filepath": "train2014", "cocoid": 3, "split": "train", "sentences": [{"raw": "Cow."}]},
    ]
}  # fmt: skip
FETCHED = [
    {
        "key": "000010000",
        "caption": "a dog",
        "url": "http://x/1",
        "status": "success",
        "width": 3,
        "height": 2,
    },
    {
        "key": "000010001",
        "caption": "a cat",
        "url": "http://x/2",
        "status": "failed_to_download",
        "width": None,
    },
]
EDIT = {"source_image": "a/1.jpg", "target_image": "b/1.jpg", "instruction": "remove the dog"}
SENTENCES = ["an airport .", "many planes .", "an airport .", "two runways .", "a hall ."]
RSICD = {
    "images": [{"filename": "a.tif", "split": "train", "sentences": [{"raw": text} for text in SENTENCES]}]
}
NOVEL = {
    "imageURL": "http://x/51.A-1.gif", "questions": ["Who wrote this?", "Is it a novel?"], "answers": ["Ann", "Yes"],
    "title": "T", "authorName": "Ann", "genre": "Novel",
}  # fmt: skip
SAID = ["an airport .", "many planes .", "two runways .", "a hall ."]

MINIATURES = [
    Mini(
        "slake_zh", "val",
        {"validate.json": [
            {"img_name": "xmlab0/source.jpg", "question": "哪个器官?", "answer": "肝", "q_lang": "zh", "qid": 5},
            {"img_name": "xmlab0/source.jpg", "question": "Which organ?", "answer": "Liver", "q_lang": "en", "qid": 6},
        ]},
        [("5", ["imgs/xmlab0/source.jpg"], [_asked("哪个器官?", "肝")])],
        ["where.filtered"],
    ),
    Mini(
        "textvqa", "val",
        {"TextVQA_0.5.1_val.json": {"dataset_type": "val", "data": [
            {"question_id": 7, "image_id": "0f", "question": "what brand?", "answers": ["b", "a ", "a", "a"]},
        ]}},
        [("7", ["train_images/0f.jpg"], [_asked("what brand?", "a", "b")])],
    ),
    Mini(
        "textcaps", "train",
        {"TextCaps_0.1_train.json": {"data": [
            {"image_id": "0f", "caption_id": 1, "caption_str": "A red bottle."},
            {"image_id": "0f", "caption_id": 2, "caption_str": "A bottle that says X."},
            {"image_id": "1a", "caption_id": 3, "caption_str": "A sign."},
        ]}},
        [
            ("0f", ["train_images/0f.jpg"], ["A red bottle.", "A bottle that says X."]),
            ("1a", ["train_images/1a.jpg"], ["A sign."]),
        ],
    ),
    Mini(
        "vizwiz_vqa", "train",
        {"annotations/train.json": [{
            "image": "VizWiz_train_00000000.jpg", "question": "What is this?", "answerable": 1,
            "answers": [{"answer": answer, "answer_confidence": "yes"} for answer in ("", "can", "soup", "soup")],
        }]},
        [("VizWiz_train_00000000.jpg", ["train/VizWiz_train_00000000.jpg"], [_asked("What is this?", "soup", "can")])],
    ),
    Mini(
        "docvqa", "train",
        {"train_v1.0_withQT.json": {"dataset_name": "SP-DocVQA", "data": [{
            "questionId": 337, "question": "what is the date?", "image": "documents/xnbl0037_1.png", "docId": 279,
            "answers": ["1/8/93", "1/8/93", "January 8"],
        }]}},
        [("337", ["spdocvqa_images/xnbl0037_1.png"], [_asked("what is the date?", "1/8/93", "January 8")])],
    ),
    Mini(
        "infographicvqa", "val",
        {"infographicsVQA_val_v1.0_withQT.json": {"data": [
            {"questionId": 9, "question": "How many?", "image_local_name": "20471.jpeg", "answers": ["5"]},
        ]}},
        [("9", ["infographicsvqa_images/20471.jpeg"], [_asked("How many?", "5")])],
    ),
    Mini(
        "stvqa", "train",
        {"train_task_3.json": {"data": [
            {"question_id": 2, "file_path": "coco-text/COCO_1.jpg", "question": "What word?", "answers": ["stop"]},
        ]}},
        [("2", ["coco-text/COCO_1.jpg"], [_asked("What word?", "stop")])],
    ),
    Mini(
        "ocrvqa", "train",
        {"dataset.json": {
            "A1": {**NOVEL, "split": 1}, "A2": {**NOVEL, "split": 3}, "A3": {**NOVEL, "split": 1, "answers": ["Ann"]},
        }},
        [("A1", ["images/A1.gif"], [_asked("Who wrote this?", "Ann"), _asked("Is it a novel?", "Yes")])],
        ["where.filtered", "schema"],
    ),
    Mini(
        "coco_karpathy", "train", {"dataset_coco.json": KARPATHY},
        [("1", ["val2014/1.jpg"], ["A dog.", "A brown dog."]), ("3", ["train2014/3.jpg"], ["Cow."])],
        ["where.filtered"],
    ),
    Mini(
        "flickr30k", "test", {"dataset_flickr30k.json": KARPATHY},
        [("2.jpg", ["flickr30k-images/2.jpg"], ["Cat."])], ["where.filtered"] * 2,
    ),
    Mini("rsicd", "train", {"dataset_rsicd.json": RSICD}, [("a.tif", ["RSICD_images/a.tif"], SAID)]),
    Mini("ucm_captions", "train", {"dataset.json": RSICD}, [("a.tif", ["imgs/a.tif"], SAID)]),
    Mini("sydney_captions", "train", {"dataset.json": RSICD}, [("a.tif", ["imgs/a.tif"], SAID)]),
    Mini(
        "dvqa", "train",
        {"train_qa.json": [{
            "image": "bar_train_1.png", "question": "What is the value of x?", "question_id": 3, "answer": "7",
            "answer_bbox": [1, 2, 3, 4],
        }]},
        [("3", ["images/bar_train_1.png"], [_asked("What is the value of x?", "7")])],
    ),
    Mini(
        "seed_bench", "test",
        {"SEED-Bench.json": {"questions": [
            {
                "question_id": "11", "data_type": "image", "data_id": "454_x", "question": "How many?", "answer": "B",
                "choice_a": "One", "choice_b": "Two", "choice_c": "Three", "choice_d": "Four",
            },
            {"question_id": "12", "data_type": "video", "data_id": "a.webm", "question": "What?", "answer": "A"},
        ], "question_type": {}}},
        [("11", ["SEED-Bench-image/454_x"], [_chosen("How many?", ["One", "Two", "Three", "Four"], 1)])],
        ["where.filtered"],
    ),
    Mini(
        "mme", "apart",
        {"artwork/questions_answers_YN/10002.txt": Table([["Is it by A? Please answer yes or no.", "Yes"],
                                                          ["Is it by B? Please answer yes or no.", "No"]], "\t")},
        [
            ("artwork/10002.1", ["artwork/images/10002.jpg"], [_asked("Is it by A? Please answer yes or no.", "yes")]),
            ("artwork/10002.2", ["artwork/images/10002.jpg"], [_asked("Is it by B? Please answer yes or no.", "no")]),
        ],
    ),
    Mini(
        "mme", "together",
        {"code_reasoning/0001.txt": Table([["Is it 7? Please answer yes or no.", "No"]], "\t")},
        [("code_reasoning/0001.1", ["code_reasoning/0001.png"], [_asked("Is it 7? Please answer yes or no.", "no")])],
    ),
    Mini(
        "mmvet", "test",
        {"mm-vet.json": {
            "v1_0": {"imagename": "v1_0.png", "question": "What is x?", "answer": "-1<AND>-5<OR>-5<AND>-1"},
        }},
        [("v1_0", ["images/v1_0.png"], [_asked("What is x?", "-1; -5", "-5; -1")])],
    ),
    Mini(
        "mmbench", "dev",
        {"mmbench_dev_en_20231003.tsv": Table([
            ["index", "question", "hint", "A", "B", "C", "D", "answer", "image"],
            ["241", "What is it?", "Look at it.", "cat", "dog", "", "", "B", base64.b64encode(PICTURE).decode()],
            ["1000241", "What is it?", "Look at it.", "dog", "cat", "", "", "A", "241"],
        ], "\t")},
        [("241", ["unpacked/241.jpg"], [_chosen("Look at it.\nWhat is it?", ["cat", "dog"], 1)])],
        ["where.filtered"],
    ),
    Mini(
        "mmbench_cn", "dev",
        {"mmbench_dev_cn_20231003.tsv": Table([
            ["index", "question", "hint", "A", "B", "C", "D", "answer", "image"],
            ["241", "这是什么?", "", "猫", "狗", "鸟", "牛", "D", base64.b64encode(PICTURE).decode()],
        ], "\t")},
        [("241", ["unpacked/241.jpg"], [_chosen("这是什么?", ["猫", "狗", "鸟", "牛"], 3)])],
    ),
    Mini(
        "ai2d", "test",
        {
            "ai2d/questions/0.png.json": {"imageName": "0.png", "questions": {
                "What eats grass?": {
                    "abcLabel": False, "answerTexts": ["fox", "rabbit"], "correctAnswer": 1, "questionId": "0.png-0",
                },
                "Which is A?": {
                    "abcLabel": True, "answerTexts": ["x", "y"], "correctAnswer": 0, "questionId": "0.png-1",
                },
            }},
            "ai2d/questions/1.png.json": {"imageName": "1.png", "questions": {"Who?": {"abcLabel": False}}},
            "ai2d_test_ids.csv": Table([["0"], ["17"]]),
        },
        [("0.0.png-0", ["ai2d/images/0.png"], [_chosen("What eats grass?", ["fox", "rabbit"], 1)])],
        ["where.filtered"] * 2,
    ),
    Mini(
        "synthdog_en", "val",
        {"data/validation-00000-of-00001.parquet": Table([{
            "image": {"bytes": PICTURE, "path": None},
            "ground_truth": json.dumps({"gt_parse": {"text_sequence": "some words"}}),
        }])},
        [(
            "validation-00000-of-00001.0", ["unpacked/validation-00000-of-00001/0.jpg"],
            [_asked("Read the text in this picture.", "some words")],
        )],
    ),
    Mini(
        "synthdog_zh", "train",
        {"data/train-0.parquet": Table([{
            "image": {"bytes": PICTURE, "path": None},
            "ground_truth": json.dumps({"gt_parse": {"text_sequence": "一些字"}}),
        }])},
        [("train-0.0", ["unpacked/train-0/0.jpg"], [_asked("请读出图中的文字。", "一些字")])],
    ),
    Mini(
        "journeydb", "train",
        {"train_anno_realease_repath.jsonl": [{"img_path": "000/./a.jpg", "prompt": "a dog --ar 3:2"}]},
        [("000/./a.jpg", ["target imgs/000/a.jpg"], ["a dog --ar 3:2"])],
    ),
    Mini(
        "seed_data_edit_p1", "train", {"annotations/s1.jsonl": [EDIT]},
        [("s1.1", ["images/a/1.jpg", "target images/b/1.jpg"], ["remove the dog"])],
    ),
    Mini(
        "seed_data_edit_real", "train", {"real_editing/annotations/split_0001.jsonl": [EDIT]},
        [(
            "split_0001.1", ["real_editing/images/a/1.jpg", "target real_editing/images/b/1.jpg"], ["remove the dog"],
        )],
    ),
    *(
        Mini(name, "train", {"00001.parquet": Table(FETCHED)},
             [("000010000", ["00001/000010000.jpg"], ["a dog"])], ["where.filtered"])
        for name in ("cc3m", "cc12m", "sbu_captions", "laion_gpt4v")
    ),
    Mini(
        "laion_aesthetics", "train", {"00001.parquet": Table(FETCHED)},
        [("000010000", ["target 00001/000010000.jpg"], ["a dog"])], ["where.filtered"],
    ),
    Mini(
        "clevr", "val",
        {"questions/CLEVR_val_questions.json": {"info": {}, "questions": [
            {"image_filename": "CLEVR_val_000000.png", "question": "Are there cubes?", "answer": "no"},
        ]}},
        [("0", ["images/val/CLEVR_val_000000.png"], [_asked("Are there cubes?", "no")])],
    ),
    Mini(
        "tallyqa", "train",
        {"train.json": [{"image": "VG_100K/1.jpg", "question": "How many dogs?", "answer": 2, "question_id": 1}]},
        [("0", ["VG_100K/1.jpg"], [_asked("How many dogs?", "2")])],
    ),
    Mini(
        "figureqa", "val1",
        {"figureqa-validation1-v1/qa_pairs.json": {"qa_pairs": [
            {"question_string": "Is Red the minimum?", "answer": 1, "image_index": 4, "question_id": 2},
        ]}},
        [("0", ["figureqa-validation1-v1/png/4.png"], [_asked("Is Red the minimum?", "yes")])],
    ),
    Mini(
        "plotqa", "val",
        {"val/qa_pairs_V2.json": {"qa_pairs": [
            {"question_string": "What is the sum?", "answer": 12.5, "image_index": 4, "answer_bbox": []},
        ]}},
        [("0", ["val/png/4.png"], [_asked("What is the sum?", "12.5")])],
    ),
    Mini(
        "hallusionbench", "test",
        {"HallusionBench.json": [
            {
                "category": "VD", "subcategory": "illusion", "set_id": "0", "figure_id": "1", "question_id": "0",
                "visual_input": "1", "question": "Is it longer?", "gt_answer": "0", "gt_answer_details": "Same length.",
                "filename": "./VD/illusion/0_1.png",
            },
            {"visual_input": "0", "question": "Is it?", "gt_answer": "1", "filename": None},
        ]},
        [("VD.illusion.0.1.0", ["hallusion_bench/VD/illusion/0_1.png"], [_asked("Is it longer?", "no")])],
        ["where.filtered"],
    ),
    Mini(
        "mmvp", "test",
        {"Questions.csv": Table([
            ["Index", "Question", "Options", "Correct Answer"], ["1", "The door?", "(a) Open (b) Closed", "(b)"],
        ])},
        [("1", ["MMVP Images/1.jpg"], [_chosen("The door?", ["Open", "Closed"], 1)])],
    ),
    Mini(
        "screen2words", "dev",
        {
            "screen_summaries.csv": Table([
                ["screenId", "summary"], ["14", "a login page"], ["15", "a map"], ["14", "page to log in"],
            ]),
            "split/dev_screens.txt": Table([["14"]]),
        },
        [("14", ["combined/14.jpg"], ["a login page", "page to log in"])],
        ["where.filtered"],
    ),
    Mini(
        "minigpt4_cc_sbu_align", "train",
        {"filter_cap.json": {"annotations": [{"image_id": "2", "caption": "A long caption."}]}},
        [("2", ["image/2.jpg"], ["A long caption."])],
    ),
    Mini(
        "nwpu_captions", "train",
        {"dataset_nwpu.json": {"airport": [
            {
                "filename": "airport_001.jpg", "split": "train", "raw": "A .", "raw_1": "B .", "raw_2": "A .",
                "raw_3": "C .", "raw_4": "D .",
            },
            {"filename": "airport_002.jpg", "split": "val"},
        ]}},
        [("airport_001.jpg", ["NWPU_images/airport/airport_001.jpg"], ["A .", "B .", "C .", "D ."])],
        ["where.filtered"],
    ),
    Mini(
        "rsvqa_lr", "train",
        {
            "LR_split_train_questions.json": {"questions": [
                {"id": 0, "active": False}, {"id": 1, "active": True, "img_id": 5, "question": "Is it rural?"},
            ]},
            "LR_split_train_answers.json": {"answers": [{"id": 9, "question_id": 1, "answer": "rural"}]},
        },
        [("1", ["Images_LR/5.tif"], [_asked("Is it rural?", "rural")])],
        ["where.filtered"],
    ),
    Mini(
        "mmstar", "test",
        {"mmstar.parquet": Table([
            {"index": 0, "question": "Which?\nOptions: A: x, B: y", "answer": "B", "image": {"bytes": PICTURE}},
        ])},
        [("mmstar.0", ["unpacked/mmstar/0.jpg"], [_asked("Which?\nOptions: A: x, B: y", "B")])],
    ),
    Mini(
        "realworldqa", "test",
        {"data/test-0.parquet": Table([{"question": "How far?", "answer": "near", "image": {"bytes": PICTURE}}])},
        [("test-0.0", ["unpacked/test-0/0.jpg"], [_asked("How far?", "near")])],
    ),
    Mini(
        "iconqa", "val_choose_txt",
        {"iconqa_data/iconqa/val/choose_txt/7/data.json": {
            "question": "Which shape?", "choices": ["circle", "square"], "answer": 1, "ques_type": "choose_txt",
        }},
        [(
            "iconqa_data/iconqa/val/choose_txt/7", ["iconqa_data/iconqa/val/choose_txt/7/image.png"],
            [_chosen("Which shape?", ["circle", "square"], 1)],
        )],
    ),
    Mini(
        "midjourney_v5_clean", "train",
        {"00000.parquet": Table([
            {"key": "000000000", "status": "success", "caption": "a red fox "},
            {"key": "000000001", "status": "failed_to_download", "caption": "a cat"},
        ])},
        [("000000000", ["target 00000/000000000.jpg"], ["a red fox"])],
        ["where.filtered"],
    ),
    Mini(
        "midjourney_v5_clean", "hashed",
        {"midjourney.json": [{"prompt": "a red fox", "image_paths": ["abc", "x"]}]},
        [(
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ["target images/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"], ["a red fox"],
        )],
    ),
    Mini(
        "iconqa", "train_fill",
        {"iconqa_data/iconqa/train/fill_in_blank/8/data.json": {"question": "How many?", "answer": "4"}},
        [(
            "iconqa_data/iconqa/train/fill_in_blank/8", ["iconqa_data/iconqa/train/fill_in_blank/8/image.png"],
            [_asked("How many?", "4")],
        )],
    ),
]  # fmt: skip


def _lay(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in content), encoding="utf-8")
        elif not isinstance(content, Table):
            path.write_text(json.dumps(content), encoding="utf-8")
        elif path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(content.rows), path)
        else:
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, delimiter=content.delimiter, lineterminator="\n").writerows(content.rows)


def _said(item: Annotation) -> list[Any]:
    """Return questions (with their choices where a letter answers), captions and instructions."""
    asked = [
        (one.text, list(one.choices), one.answer_index) if one.choices else (one.text, one.answers)
        for one in item.questions
    ]
    return [*asked, *(one.text for one in item.captions), *(one.instruction for one in item.edits)]


@pytest.mark.parametrize("mini", MINIATURES, ids=lambda mini: f"{mini.name}-{mini.split}")
def test_a_miniature_of_the_layout_is_read_by_the_shipped_spec(tmp_path: Path, mini: Mini) -> None:
    _lay(tmp_path, mini.files)
    source = Catalog().find(mini.name)[0].source(mini.split)

    prepare(source, tmp_path)
    found = list(read(source, Root(tmp_path)))

    made = [item for item in found if isinstance(item, Annotation)]
    pictures = [
        [image.path if image.role == "input" else f"target {image.path}" for image in item.images]
        for item in made
    ]
    assert [(item.key, shown, _said(item)) for item, shown in zip(made, pictures, strict=True)] == mini.made
    assert [item.reason for item in found if isinstance(item, Rejected)] == list(mini.reasons)
    for shown in pictures:
        for path in shown:
            assert not path.startswith("unpacked/") or (tmp_path / path).read_bytes() == PICTURE
