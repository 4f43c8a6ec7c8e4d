"""Indexes of evaluation sets, and training data held against them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dataengine import selection
from dataengine.audit.leaks import leaks
from dataengine.audit.run import audit, broken
from dataengine.catalog import Catalog
from dataengine.cli import main
from dataengine.convert import convert
from dataengine.errors import SourceError, UsageError
from dataengine.leaks import evalset
from dataengine.leaks.check import SIGNS, By
from dataengine.leaks.evalset import EvalSet
from dataengine.leaks.ids import load
from dataengine.leaks.parts import parts_of
from dataengine.leaks.texts import said
from dataengine.shard import shard
from tests.dataengine.blobs import Blobs, scene

LONG = "Which of the two people who stand at the left of the old red bus near the corner holds an umbrella?"
Told = list[tuple[str, str, str]]


def _quiet(count: int, text: str) -> None:
    pass


def _set(*paths: Path, name: str = "exam") -> EvalSet:
    return evalset.make(name, parts_of(paths), load(), 1, _quiet)


def _leaks(path: Path, *sets: EvalSet, signs: tuple[By, ...] = SIGNS) -> Told:
    report, _ = leaks(parts_of([path]), sets, load(), signs=signs)
    return [(one.rule, one.key or one.image, one.detail) for one in report.findings]


@pytest.fixture
def exam(tmp_path: Path) -> EvalSet:
    """A set of three pictures and their questions, made from the shards of a dataset."""
    blobs = Blobs(tmp_path / "exam", "exam")
    for seed, name in ((0, "a.png"), (1, "b.png"), (2, "val2014/COCO_val2014_000000000042.jpg")):
        blobs.save(scene(seed), name)
    blobs.convert(tmp_path / "exam/m", "test", "a.png", "b.png", "val2014/COCO_val2014_000000000042.jpg")
    shard([tmp_path / "exam/m"], tmp_path / "exam/s")
    made = _set(tmp_path / "exam/m")
    assert _set(tmp_path / "exam/s").rows == made.rows
    evalset.write(made, tmp_path / "exam.parquet")
    assert evalset.read(tmp_path / "exam.parquet") == made
    return made


def test_a_picture_leaks_by_the_surest_sign_and_costs_its_samples(exam: EvalSet, tmp_path: Path) -> None:
    other = Blobs(tmp_path, "other")
    other.save(scene(7), "train2017/000000000042.jpg")
    shutil.copy(tmp_path / "exam/exam/a.png", other.root / "bytes.png")
    with Image.open(tmp_path / "exam/exam/b.png") as picture:
        picture.save(other.root / "pixels.png", compress_level=1)
    other.save(scene(1).resize((200, 150)), "near.jpg", quality=70)
    other.save(scene(8), "free.jpg")
    names = ("train2017/000000000042.jpg", "bytes.png", "pixels.png", "near.jpg", "free.jpg", "bytes.png")
    other.convert(tmp_path / "m", "train", *names, question="Why?")
    shard([tmp_path / "m"], tmp_path / "s")

    for path in (tmp_path / "m", tmp_path / "s"):
        found = _leaks(path, exam)
        assert [(rule, image) for rule, image, _ in found] == [
            ("leak.image", "train2017/000000000042.jpg"),
            ("leak.image", "bytes.png"),
            ("leak.image", "pixels.png"),
            ("leak.near", "near.jpg"),
        ]
        details = [detail for _, _, detail in found]
        assert details[0] == "train2017/000000000042.jpg: is coco:42 of exam (exam/vqa/test)"
        assert details[1] == "bytes.png: has the bytes of a.png of exam (exam/vqa/test)"
        assert details[2] == "pixels.png: has the pixels of b.png of exam (exam/vqa/test)"
        assert details[3].endswith("of 128 bits from b.png of exam (exam/vqa/test)")
        report, choices = leaks(parts_of([path]), [exam], load())
        assert [one.rule for one in broken(report)] == ["leak.image"]
        assert sorted(one.id for one in choices) == [f"other/train/{key}.q0#vqa" for key in (0, 1, 2, 3, 5)]
    assert _leaks(tmp_path / "m", exam, signs=("id",)) == found[:1]


def test_the_same_question_leaks_only_where_it_is_asked_of_the_same_picture(
    exam: EvalSet, tmp_path: Path
) -> None:
    other = Blobs(tmp_path, "other")
    shutil.copy(tmp_path / "exam/exam/a.png", other.root / "a2.png")
    other.save(scene(8), "free.jpg")
    # Templates around a question, capitals and marks between words make no other question of it.
    other.convert(tmp_path / "m", "train", "free.jpg", "a2.png", question="what IS it")

    found = _leaks(tmp_path / "m", exam)

    assert [(rule, place) for rule, place, _ in found] == [
        ("leak.image", "a2.png"),
        ("leak.text", "other/train/1.q0#vqa"),
    ]
    assert "'what IS it' is asked of the same picture of exam" in found[1][2]


def test_a_long_text_leaks_whatever_the_picture_but_not_what_a_set_always_says(tmp_path: Path) -> None:
    exam, other = Blobs(tmp_path / "e", "exam"), Blobs(tmp_path, "other")
    for number in range(13):
        exam.save(scene(number), f"{number}.png")
    exam.convert(tmp_path / "one", "test", "0.png", question=LONG)
    exam.convert(tmp_path / "all", "test", *[f"{number}.png" for number in range(13)], question=LONG)
    other.save(scene(50), "free.jpg")
    question = f"Say in a word: {LONG.lower()[:-1]} and a bag?"
    other.convert(tmp_path / "m", "train", "free.jpg", question=question)

    ((rule, place, detail),) = _leaks(tmp_path / "m", _set(tmp_path / "one"))

    assert (rule, place) == ("leak.text", "other/train/0.q0#vqa") and "13 words in a row" in detail
    often = _set(tmp_path / "all")
    assert often.common == len(said(LONG).runs) == 9 and _leaks(tmp_path / "m", often) == []


def test_an_audit_tells_what_leaks_by_picture_and_by_words_converted_or_not(
    exam: EvalSet, tmp_path: Path
) -> None:
    other = Blobs(tmp_path, "other")
    other.save(scene(7), "train2017/000000000042.jpg")
    shutil.copy(tmp_path / "exam/exam/a.png", other.root / "a2.png")
    other.save(scene(1).resize((200, 150)), "near.jpg", quality=70)
    other.save(scene(8), "free.jpg")
    names = ("train2017/000000000042.jpg", "a2.png", "near.jpg", "free.jpg")
    other.convert(tmp_path / "m", "train", *names, question="what IS it")
    shard([tmp_path / "m"], tmp_path / "s")
    table = other.root / "train.json"
    rows = {"table": {"path": "train.json", "kind": "json"}, "key": "{key}"}
    fields = {"images": "{images}", "questions": {"text": "question", "answers": "answer"}}
    options = {name: json.dumps(value) for name, value in (rows | {"fields": fields}).items()}
    foreign = {"format_name": "records", "root": other.root, "options": options | {"key": "{key}"}}

    for path, more in ((tmp_path / "m", {}), (tmp_path / "s", {}), (table, foreign)):
        report = audit([path], never=[exam], **more)  # type: ignore[arg-type]
        found = [(one.rule, one.image) for one in report.findings if one.rule.startswith("leak.")]
        assert found == [
            ("leak.image", "train2017/000000000042.jpg"),
            ("leak.image", "a2.png"),
            ("leak.near", "near.jpg"),
            ("leak.text", "train2017/000000000042.jpg"),
            ("leak.text", "a2.png"),
            ("leak.text", "near.jpg"),
        ]
        assert {one.rule for one in broken(report)} >= {"leak.image", "leak.text"}
        assert not [one for one in audit([path], **more).findings if one.rule.startswith("leak.")]  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no split to train on"):
        audit([tmp_path / "exam/m"], never=[exam])


def test_words_count_whatever_their_form() -> None:
    assert said("What IS  it?") == said("what is it")._replace(text="What IS  it?")
    assert said("ｗｈａｔ is it").whole == said("what is it").whole
    assert [len(said(" ".join(map(str, range(count)))).runs) for count in (7, 8, 13, 14, 20)] == [
        0,
        1,
        1,
        2,
        8,
    ]
    assert len(said("这张图片里有几个人在骑自行车").runs) == 2


def test_a_list_of_ids_is_a_set_too(tmp_path: Path) -> None:
    other = Blobs(tmp_path, "other")
    other.save(scene(0), "train2017/000000000042.jpg")
    other.convert(tmp_path / "m", "train", "train2017/000000000042.jpg")
    (tmp_path / "held_out.txt").write_text("# numbers that a paper lists\ncoco:42\ncoco:43 # twice\n")
    (tmp_path / "wrong.txt").write_text("42\n")

    found = _leaks(tmp_path / "m", evalset.read(tmp_path / "held_out.txt"))

    assert [(rule, image) for rule, image, _ in found] == [("leak.image", "train2017/000000000042.jpg")]
    for wrong in ("wrong.txt", "none.parquet", "other.yaml"):
        with pytest.raises(SourceError, match="no index of an evaluation set"):
            evalset.read(tmp_path / wrong)


def test_what_is_for_another_use_is_refused(exam: EvalSet, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split to train on"):
        leaks(parts_of([tmp_path / "exam/m"]), [exam], load())
    other = Blobs(tmp_path, "other")
    other.save(scene(0), "a.png")
    other.convert(tmp_path / "m", "train", "a.png")
    with pytest.raises(UsageError, match="no split to evaluate on"):
        _set(tmp_path / "m")


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["leaks", *arguments])
    return int(caught.value.code or 0)


def test_the_command_fails_on_a_leak_and_a_selection_takes_it_out(
    exam: EvalSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Blobs(tmp_path, "other")
    other.save(scene(0).resize((300, 225)), "near.jpg", quality=80)
    shutil.copy(tmp_path / "exam/exam/b.png", other.root / "b2.png")
    other.save(scene(8), "free.jpg")
    sets = ["--against", str(tmp_path / "index.parquet")]
    assert _run("index", str(tmp_path / "exam/m"), "--out", sets[1], "--name", "exam", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 3

    for names, code in (
        (["free.jpg"], 0),
        (["near.jpg", "free.jpg"], 1),
        (["b2.png", "near.jpg", "free.jpg"], 3),
    ):
        other.convert(tmp_path / "m", "train", *names, question="Why?")
        assert _run("check", str(tmp_path / "m"), *sets) == code
    assert "2 leaks, in 2 of 3 samples" in capsys.readouterr().out
    report, drop = str(tmp_path / "report"), str(tmp_path / "drop.parquet")
    assert _run("check", str(tmp_path / "m"), *sets, "--drop", drop, "--report", report) == 0
    left_out = selection.left_out([Path(drop)])
    assert {name: one.reason for name, one in left_out.items()} == {
        "other/train/0.q0#vqa": "leak.image",
        "other/train/1.q0#vqa": "leak.near",
    }
    assert "leak.image" in (tmp_path / "report/index.html").read_text()


def test_pope_is_found_in_coco_by_the_names_of_its_pictures(
    samples_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(samples_dir("pope_coco"), tmp_path / "pope/output/coco")
    lines = (tmp_path / "pope/output/coco/coco_pope_random.json").read_text().splitlines()
    names = list(dict.fromkeys(json.loads(line)["image"] for line in lines if line.strip()))
    (tmp_path / "pope/val2014").mkdir()
    for number, name in enumerate(names):
        scene(number).save(tmp_path / "pope/val2014" / name)
    (spec,) = Catalog().find("pope")
    convert(spec, "random", tmp_path / "pope", tmp_path / "m")
    coco = Blobs(tmp_path, "coco_copy")
    shown = [f"train2017/{name[-16:]}" for name in names]
    for number, name in enumerate([*shown, "train2017/000000000001.jpg"]):
        coco.save(scene(100 + number), name)
    coco.convert(tmp_path / "train", "train", *shown, "train2017/000000000001.jpg", question="Why?")

    found = _leaks(tmp_path / "train", _set(tmp_path / "m", name="pope"))

    assert len(names) > 1
    assert [(rule, image) for rule, image, _ in found] == [("leak.image", name) for name in shown]


def test_a_picture_of_vsr_is_found_in_coco_by_name_by_bytes_and_by_look(
    samples_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    (spec,) = Catalog().find("vsr")
    convert(spec, "dev", samples_dir("vsr"), tmp_path / "m")
    picture = samples_dir("vcoco") / "images/COCO_train2014_000000017914.jpg"
    coco = Blobs(tmp_path, "coco_copy")
    shutil.copy(picture, coco.root / picture.name)
    shutil.copy(picture, coco.root / "renamed.jpg")
    with Image.open(picture) as whole:
        coco.save(whole.resize((whole.width // 2, whole.height // 2)), "half.jpg", quality=60)
    shutil.copy(samples_dir("coco_stuff") / "val_img/000000000785.jpg", coco.root / "another.jpg")
    coco.convert(tmp_path / "train", "train", picture.name, "renamed.jpg", "half.jpg", "another.jpg")

    found = _leaks(tmp_path / "train", _set(tmp_path / "m", name="vsr"))

    assert [(rule, image) for rule, image, _ in found] == [
        ("leak.image", picture.name),
        ("leak.image", "renamed.jpg"),
        ("leak.near", "half.jpg"),
    ]
    assert [" is coco:17914 of vsr" in found[0][2], " has the bytes of " in found[1][2]] == [True, True]


def test_visual_genome_is_found_in_refcoco_by_the_list_of_its_pictures(tmp_path: Path) -> None:
    exam, genome = Blobs(tmp_path, "exam"), Blobs(tmp_path, "genome")
    exam.save(scene(0), "train2014/COCO_train2014_000000581857.jpg")
    exam.convert(tmp_path / "m", "test", "train2014/COCO_train2014_000000581857.jpg")
    genome.save(scene(1), "VG_100K/2317.jpg")
    genome.convert(tmp_path / "train", "train", "VG_100K/2317.jpg", question="Why?")
    records = [{"image_id": 2317, "coco_id": 581857, "flickr_id": None}]
    made = _set(tmp_path / "m")
    assert _leaks(tmp_path / "train", made) == []

    (tmp_path / "image_data.json").write_text(json.dumps(records))
    spaces = load()
    spaces.link(tmp_path)
    report, _ = leaks(parts_of([tmp_path / "train"]), [made], spaces)

    assert [(one.rule, one.image) for one in report.findings] == [("leak.image", "VG_100K/2317.jpg")]
