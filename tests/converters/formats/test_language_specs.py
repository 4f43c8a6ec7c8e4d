"""Shipped specs of sets in other languages than English, on miniatures of their layouts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataengine import manifest as manifests
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.sample import Sample, TextTargets

LANGUAGES = (
    "ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fil", "fr", "he", "hi", "hr", "hu", "id", "it", "ja",
    "ko", "mi", "nl", "no", "pl", "pt", "quz", "ro", "ru", "sv", "sw", "te", "th", "tr", "uk", "vi", "zh",
)  # fmt: skip


def picture(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(folder / name)


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")


def made(tmp_path: Path, name: str, split: str) -> list[Sample]:
    """Return the samples of one split of one shipped task spec; no unit may be lost but by its own filter."""
    (spec,) = Catalog().find(name)
    ledger = convert(spec, split, tmp_path / "in", tmp_path / "out")
    assert ledger.quarantined == {}
    return list(manifests.read_samples(tmp_path / "out" / spec.dataset.id / spec.task.id / split))


def words(sample: Sample) -> tuple[str, ...]:
    return tuple(turn.text.removeprefix("<image>\n") for turn in sample.conversation)


def test_every_caption_of_crossmodal_3600_is_asked_for_in_its_own_language(tmp_path: Path) -> None:
    row: dict[str, Any] = {"image/key": "0a1b", "image/locale": "zh"}
    row |= {lang: {"caption": [f"caption in {lang}"]} for lang in LANGUAGES}
    write(tmp_path / "in", "captions.jsonl", json.dumps(row) + "\n")
    picture(tmp_path / "in", "images/0a1b.jpg")

    found = {words(sample)[1]: words(sample)[0] for sample in made(tmp_path, "xm3600/caption", "test")}

    assert len(found) == 36
    assert found["caption in zh"] == "这张图片展示了什么？"
    assert found["caption in de"] == "Was ist auf diesem Bild zu sehen?"
    assert found["caption in ja"] == "この画像には何が写っていますか？"
    assert found["caption in quz"] == found["caption in fil"] == "What does this picture show?"


def test_a_split_of_mtvqa_holds_one_language_and_asks_in_it(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 6)).save(data, "JPEG")
    pairs = "[{'question': 'Wie hoch ist der Preis?', 'answer': '5 Euro'}]"
    rows = [
        {"image": {"bytes": data.getvalue(), "path": None}, "id": f"{lang}1", "qa_pairs": pairs, "lang": lang}
        for lang in ("DE", "KO")
    ]
    (tmp_path / "in" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in" / "data" / "test-00000-of-00001.parquet")

    (sample,) = made(tmp_path, "mtvqa/vqa", "de_test")

    assert sample.id == "mtvqa/de_test/DE1.0.q0#vqa"
    assert words(sample) == (
        "Wie hoch ist der Preis?\nAntworte mit einem Wort oder einer kurzen Wortgruppe.",
        "5 Euro",
    )


@pytest.mark.parametrize(
    ("split", "file", "asked"),
    [
        ("zh", "zh", "{}\n请用一个词或短语回答。"),
        ("he", "iw", "{}\nAnswer with a single word or a short phrase."),
    ],
)
def test_maxm_asks_in_the_language_of_the_file(tmp_path: Path, split: str, file: str, asked: str) -> None:
    pair = {"question_id": "7", "question": "מה?", "answers": ["猫", "小猫"], "is_collection": False}
    content = {"annotations": [{"image_id": "0a", "image_url": "x", "qa_pairs": [pair]}]}
    write(tmp_path / "in", f"maxm_v1_release/maxm_v1_{file}.json", content)
    picture(tmp_path / "in", "images/0a.jpg")

    (sample,) = made(tmp_path, "maxm/vqa", split)

    assert words(sample) == (asked.format("מה?"), "猫")
    assert isinstance(sample.targets, TextTargets) and sample.targets.answers == ("猫", "小猫")


def test_xgqa_reads_translated_questions(tmp_path: Path) -> None:
    rows = {"201": {"imageId": "n1", "question": "Ist es rot?", "answer": "yes"}}
    write(tmp_path / "in", "annotations/zero_shot/testdev_balanced_questions_de.json", rows)
    picture(tmp_path / "in", "images/n1.jpg")

    (sample,) = made(tmp_path, "xgqa/vqa", "de")

    assert words(sample) == ("Ist es rot?\nAntworte mit einem Wort oder einer kurzen Wortgruppe.", "yes")


def test_captions_of_coco_cn_go_to_the_split_that_lists_their_picture(tmp_path: Path) -> None:
    name = "COCO_train2014_000000000036"
    lines = [f"{name}#0\t一个女孩打着伞", f"{name}#1\t打伞的女孩", "COCO_val2014_000000000042#0\t一只狗"]
    write(tmp_path / "in", "imageid.human-written-caption.txt", "\n".join(lines) + "\n")
    write(tmp_path / "in", "coco-cn_test.txt", f"{name}\n")
    picture(tmp_path / "in", f"train2014/{name}.jpg")

    found = made(tmp_path, "coco_cn/caption", "test")

    assert [words(sample) for sample in found] == [
        ("这张图片展示了什么？", "一个女孩打着伞"),
        ("这张图片展示了什么？", "打伞的女孩"),
    ]
    assert found[0].images[0].path == f"train2014/{name}.jpg"


def test_ai_challenger_captions_are_asked_for_in_chinese(tmp_path: Path) -> None:
    root = "ai_challenger_caption_validation_20170910"
    rows = [{"url": "x", "image_id": "ab.jpg", "caption": ["一个人在跑步", "男人跑步"]}]
    write(tmp_path / "in", f"{root}/caption_validation_annotations_20170910.json", rows)
    picture(tmp_path / "in", f"{root}/caption_validation_images_20170910/ab.jpg")

    found = made(tmp_path, "aic_captions/caption", "val")

    assert [words(sample)[1] for sample in found] == ["一个人在跑步", "男人跑步"]
    assert {sample.prompt.question for sample in found} == {"zh01"}


def test_text_on_chinese_signs_is_found_as_a_class_with_a_chinese_name(tmp_path: Path) -> None:
    outline = [[1, 1], [6, 1], [6, 4], [1, 4]]
    row = {
        "lines": [{"points": [1, 1, 6, 1, 6, 4, 1, 4], "transcription": "包子铺", "ignore": 0}],
        "chars": [],
    }
    write(tmp_path / "in", "gt_unicode/train_ReCTS_000001.json", row)
    picture(tmp_path / "in", "img/train_ReCTS_000001.jpg")
    write(
        tmp_path / "in",
        "train_full_labels.json",
        {"gt_1": [{"points": outline, "transcription": "出口", "illegibility": False}]},
    )
    picture(tmp_path / "in", "train_full_images/gt_1.jpg")

    (found,) = made(tmp_path, "rects/detection", "train")
    (spotted,) = made(tmp_path, "lsvt/text_spotting", "train")

    assert "文字" in words(found)[0] and "文字[DET]" in words(found)[1]
    assert "“出口”[DET]" in words(spotted)[1]


def test_a_real_file_of_coco_cn_gives_chinese_prompts(samples_dir: Any, tmp_path: Path) -> None:
    source = samples_dir("coco_cn_captions")
    document = json.loads((source / "coco-cn_test.json").read_text(encoding="utf-8"))
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", "coco-cn_test.json", document)
    for image in document["images"]:
        picture(tmp_path / "in", image["file_name"])

    found = made(tmp_path, "coco_cn_coco/caption", "test")

    assert len(found) == 23
    assert {sample.prompt.question for sample in found} == {"zh01"}


def test_a_form_of_xfund_is_read_in_the_language_of_its_split(tmp_path: Path) -> None:
    block = {"box": [1, 1, 6, 4], "text": "Nome", "label": "question"}
    document = {"id": "it_1", "img": {"fname": "it_1.jpg", "width": 8, "height": 6}, "document": [block]}
    write(tmp_path / "in", "it.val.json", {"documents": [document]})
    picture(tmp_path / "in", "it.val/it_1.jpg")

    (sample,) = made(tmp_path, "xfund/region_ocr", "it_val")

    assert words(sample) == ("Che cosa dice il testo in <reg>region1<region></reg>?", "Nome")
