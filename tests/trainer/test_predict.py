"""`dataengine predict`, as its user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dataengine.annotation import Turn
from dataengine.cli import main
from dataengine.geometry import mask_from_rle
from dataengine.request import Request
from dataengine.sample import Sample
from trainer import answer as answering
from trainer.answer import Answer, Choices, Group, Question, Result
from trainer.predict import Asked, Prediction, predict, write

Loaded = tuple[Sample, list[bytes]]
Call = Callable[..., tuple[int, str, str]]
ASKED = "Find all blue, red, green."


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], taught: Path) -> Call:
    """Return a function that asks the model that knows some pictures, and gives (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["predict", str(taught), *map(str, arguments)])
        printed = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, printed.out, printed.err

    return run


@pytest.fixture
def pictures(tmp_path: Path, by_heart: list[Loaded]) -> Path:
    """A folder with two pictures that the model knows, a broken one, and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, (_, (data,)) in zip(("a", "b"), by_heart[::2], strict=True):
        (folder / f"{name}.png").write_bytes(data)
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("nothing")
    return folder


def test_every_picture_is_answered_and_a_broken_one_costs_itself_alone(
    call: Call, pictures: Path, tmp_path: Path, by_heart: list[Loaded]
) -> None:
    out = tmp_path / "out"

    code, said, told = call(pictures, pictures / "gone.png", "--prompt", ASKED, "--out", out)

    assert code == 1
    assert "a: Here: blue[DET], red[DET], green[DET]." in said
    assert "broken: image.corrupt: not a picture in any known format" in told
    assert f"gone: image.missing: {pictures / 'gone.png'}: no such file" in told
    assert "predict: 4 answers" in told
    assert sorted(path.name for path in out.iterdir()) == [
        "a-found.png", "a.json", "b-found.png", "b.json",
    ]  # fmt: skip
    written = json.loads((out / "a.json").read_text())
    assert written["question"] == by_heart[0][0].conversation[0].text
    assert written["text"] == by_heart[0][0].conversation[1].text
    best = written["objects"][0]
    assert (best["label"], best["token"]) == ("red", "[DET]")
    assert best["score"] >= 0.3 and len(best["box"]) == 4
    assert best["mask"]["size"] == [48, 64]
    with Image.open(out / "a-found.png") as drawn:
        assert drawn.size == (256, 192)  # four times its own


def test_an_answer_is_not_given_twice(
    call: Call, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = call(pictures / "a.png", "--prompt", ASKED, "--out", out)
    before = (out / "a.json").read_bytes()
    calls: list[int] = []
    speak = answering._speak

    def counted(*arguments: Any) -> None:
        calls.append(len(arguments[3]))
        speak(*arguments)

    monkeypatch.setattr(answering, "_speak", counted)

    again = call(pictures / "a.png", "--prompt", ASKED, "--out", out)
    both = call(pictures, "--prompt", ASKED, "--out", out)
    other = call(pictures / "a.png", "--prompt", ASKED, "--out", out, "--score-threshold", 1)

    assert first[:2] == again[:2]
    assert calls == [1, 1]  # b, and a with another threshold
    assert "a: Here" in both[1] and "b: Here" in both[1]
    # Another threshold is another answer: what no longer is found is no longer drawn.
    assert json.loads(before)["written"] == ["a-found.png"]
    assert json.loads((out / "a.json").read_text())["objects"] == []
    assert not (out / "a-found.png").exists()
    assert other[0] == 0


def test_json_is_a_line_an_answer(call: Call, pictures: Path) -> None:
    code, said, _ = call(
        pictures / "a.png", pictures / "b.png", "--prompt", ASKED, "--json", "--batch-size", 1
    )

    lines = [json.loads(line) for line in said.splitlines()]
    assert code == 0
    assert [line["name"] for line in lines] == ["a", "b"]
    assert all(line["written"] == [] for line in lines)


def test_pictures_are_asked_about_together_or_none_at_all(call: Call, pictures: Path) -> None:
    some = [pictures / "a.png", pictures / "b.png"]

    together = call(*some, "--together", "--prompt", "Compare.", "--max-new-tokens", 3, "--json")
    between = call(
        *some, "--together", "--prompt", "Is <image> like <image>?", "--max-new-tokens", 3, "--json"
    )
    alone = call("--prompt", "Hello.", "--max-new-tokens", 3, "--json")

    assert [json.loads(told[1])["question"] for told in (together, between, alone)] == [
        "<image>\n<image>\nCompare.", "Is <image> like <image>?", "Hello.",
    ]  # fmt: skip
    assert [len(json.loads(told[1])["pictures"]) for told in (together, between, alone)] == [2, 2, 0]


def test_regions_lie_on_the_picture_and_a_task_words_the_question(call: Call, pictures: Path) -> None:
    marks = ["--region", "1,2,30,40", "--point", "3,4 5,6"]

    code, said, _ = call(
        pictures / "a.png", *marks, "--task", "interactive_segmentation", "--json", "--max-new-tokens", 3
    )
    outside, _, told = call(pictures / "a.png", "--point", "64,3", "--prompt", "What is region1?")

    assert code == 0
    assert json.loads(said)["question"] == (
        "<image>\nCan you segment the objects that are marked by <reg>region1<region></reg>,"
        " <reg>region2<region></reg>?"
    )
    assert outside == 1
    assert "a: region.outside: point 64,3 lies outside of 64 x 48" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "nothing is asked"),
        (("--prompt", "x", "--classes", "cat"), "fill the question of a --task"),
        (("--prompt", "region1", "--region", "1,2,3,4"), "none is given"),
        (("--prompt", "<image> and <image>"), "shows 2 <image>, and is asked about 0"),
        (("--prompt", "x", "--region", "1,2"), "expected a box or a mask"),
    ],
)
def test_what_cannot_be_asked_is_told_before_the_model_is_loaded(
    call: Call, arguments: tuple[str, ...], told: str
) -> None:
    code, _, said = call(*arguments)

    assert code == 2
    assert told in said and len(said.splitlines()) == 1


def test_a_folder_that_holds_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["predict", str(tmp_path), "--prompt", "Hello."])

    assert stopped.value.code == 2
    assert "not a checkpoint" in capsys.readouterr().err


def test_drawing_answers_in_python_gives_what_the_command_line_writes(
    taught: Path, pictures: Path, tmp_path: Path
) -> None:
    request = Request(name="a", text=f"<image>\n{ASKED}", pictures=(pictures / "a.png",))
    choices = Choices(temperature=0.7, seed=4, max_new_tokens=9)

    first, second = (
        list(predict(taught, [request], tmp_path / name, choices=choices)) for name in ("one", "two")
    )

    assert first == second
    assert isinstance(first[0], Prediction)
    assert (tmp_path / "one" / "a.json").read_bytes() == (tmp_path / "two" / "a.json").read_bytes()


def test_poses_and_pictures_are_written(tmp_path: Path) -> None:
    question = Question(
        id="p", turns=(Turn("user", "<image>"),), pictures=(np.full((40, 60, 3), 80, np.uint8),)
    )
    names = [("[DET]", "person"), ("[POSE]", "nose"), ("[POSE]", "left eye"), ("[GEN]", "a"), ("[GEN]", "b")]
    pose = SimpleNamespace(
        boxes_K4=torch.tensor([[1.0, 2, 30, 38], [0, 0, 9, 9]]),
        scores_K=torch.tensor([0.9, 0.1]),
        labels_K=torch.tensor([0, 0]),
        keypoints_KJ3=torch.tensor([[[10.0, 8, 0.9], [14, 7, 0.2]], [[1, 1, 0.1], [2, 2, 0.1]]]),
    )
    pictures = [torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (10, 200)]
    answer = Answer(
        id="p",
        text="said",
        groups=tuple(Group(token=token, name=name) for token, name in names),
        results=(
            Result(family="pose", groups=(0, 1, 2), found=pose),
            Result(family="generation", groups=(3,), found=pictures[0]),
            Result(family="generation", groups=(4,), found=pictures[1]),
        ),
        ended="end",
    )

    written = write(tmp_path, Request(name="p", text="<image>"), Asked(question, "k"), answer, 0.3)

    assert written.written == ("p-found.png", "p-gen.png", "p-gen-2.png")
    (only,) = written.objects
    assert (only.label, only.score, only.box, only.mask) == ("person", 0.9, (1, 2, 30, 38), None)
    assert only.keypoints is not None
    assert [(point.name, point.x, point.y) for point in only.keypoints] == [
        ("nose", 10, 8),
        ("left eye", 14, 7),
    ]
    with Image.open(tmp_path / "p-gen-2.png") as made:
        assert np.asarray(made).tolist() == np.full((8, 8, 3), 200).tolist()
    with Image.open(tmp_path / "p-found.png") as drawn:
        nose = np.asarray(drawn)[8 * 4, 10 * 4]
    assert nose.tolist() != [80, 80, 80]


def test_masks_are_those_of_the_decoder(tmp_path: Path) -> None:
    mask = torch.zeros((1, 40, 60), dtype=torch.bool)
    mask[0, 5:9, 7:20] = True
    found = SimpleNamespace(
        boxes_K4=torch.tensor([[7.0, 5, 20, 9]]),
        scores_K=torch.tensor([0.2]),
        labels_K=torch.tensor([0]),
        masks_KHW=mask,
    )
    answer = Answer(
        id="p",
        text="said",
        groups=(Group(token="[GRD]", name="it"),),
        results=(Result(family="detection", groups=(0,), found=found),),
        ended="end",
    )
    question = Question(id="p", turns=(), pictures=(np.full((40, 60, 3), 80, np.uint8),))

    written = write(None, Request(name="p", text="<image>"), Asked(question, "k"), answer, 0.3)

    (only,) = written.objects
    assert only.mask is not None
    assert np.array_equal(mask_from_rle(only.mask), mask[0].numpy())
    assert written.written == ()
