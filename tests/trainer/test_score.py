"""From predictions to numbers: each task has its measures, and each side its own."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from dataengine.annotation import Turn
from dataengine.catalog import Catalog
from dataengine.geometry import rle_of_box
from dataengine.sample import InstanceTargets, KeypointTargets, Route, Sample, TargetInstance, TextTargets
from trainer.measures import METRICS, NAMES, NOT_MEASURED, TASKS, measures_of
from trainer.metrics.keypoints import SIGMA
from trainer.predictions import (
    Ask,
    Forced,
    FoundObject,
    Free,
    Line,
    Look,
    Prediction,
    Segment,
    Unusable,
)
from trainer.report import evaluation_page
from trainer.score import FORCED, FREE, MEASURES, View, evaluation_of, sample_score
from trainer.targets import UNKNOWN_SIGMA

MakeSample = Callable[[int, str], tuple[Sample, list[bytes]]]
Box = tuple[float, float, float, float]
LEFT: Box = (0, 0, 20, 40)
RIGHT: Box = (30, 0, 60, 40)


def test_every_shipped_task_has_measures_that_are_there() -> None:
    tasks = Catalog().tasks

    assert set(TASKS) == set(tasks)
    assert {name for table in (TASKS, METRICS) for names in table.values() for name in names} <= set(MEASURES)
    declared = {task.metric for task in tasks.values()} - {""}
    assert declared <= set(METRICS) | set(NAMES) | NOT_MEASURED


def test_keypoints_without_a_constant_are_measured_by_that_of_training() -> None:
    assert SIGMA == UNKNOWN_SIGMA


def test_a_task_of_ones_own_is_measured_by_its_specs_metric() -> None:
    assert measures_of("my_task", "cider") == ("captions",)
    assert measures_of("my_task", "never heard of") == measures_of("my_task", "") == ("accuracy",)
    assert measures_of("vqa", "cider") == TASKS["vqa"]


def predicted(
    sample: Sample, forced: Forced | None = None, free: Free | None = None, **more: Any
) -> Prediction:
    wanted = [turn.text for turn in sample.conversation if turn.role == "assistant"]
    first = 0
    asks = []
    for text in wanted:
        count = sum(text.count(token) for token in ("[DET]", "[GRD]", "[SEG]", "[POSE]"))
        asks.append(Ask(wanted=text, routes=tuple(range(first, first + count))))
        first += count
    given = forced or Forced(text_loss=1.0, exact=False)
    return Prediction(number=0, sample=sample, asks=tuple(asks), forced=given, free=free, **more)


def objects(sample: Sample, names: dict[str, Box], token: str = "[DET]", task: str = "detection") -> Sample:
    """Return a toy sample that asks for some objects, each of which is there with its mask."""
    return msgspec.structs.replace(
        sample,
        task=task,
        conversation=(
            Turn("user", f"<image>\nFind {', '.join(names)}."),
            Turn("assistant", f"Here: {', '.join(name + token for name in names)}."),
        ),
        routes=tuple(Route(token=token, kind="category", name=name) for name in names),
        targets=InstanceTargets(
            instances=tuple(
                TargetInstance(label=name, box=box, area=1000.0, mask=rle_of_box(box, 64, 48))
                for name, box in names.items()
            )
        ),
    )


def seen(token: int, box: Box, score: float = 0.9, ask: int = 0) -> FoundObject:
    return FoundObject(ask=ask, token=token, box=box, score=score, mask=rle_of_box(box, 64, 48))


def test_objects_are_called_what_the_model_said(make_sample: MakeSample) -> None:
    """It names dog before cat, and a cow that nobody asked for; the boxes follow its own tokens."""
    sample = objects(make_sample(1, "detection")[0], {"cat": LEFT, "dog": RIGHT})
    free = Free(
        texts=("Here: dog[DET], cow[DET], cat[DET].",), found=(seen(0, RIGHT), seen(1, LEFT), seen(2, LEFT))
    )
    forced = Forced(text_loss=0.5, exact=False, found=(seen(0, LEFT), seen(1, LEFT)))

    (task,) = evaluation_of([predicted(sample, forced, free)], {})["tasks"].values()

    assert {item.label for item in View(predicted(sample, forced, free), FREE).found} == {
        "dog",
        "cat",
        "? , cow",
    }
    assert task["free"]["box_ap50"] == pytest.approx(1)
    assert task["forced"]["box_ap50"] == pytest.approx(0.5)
    assert task["free"]["mask_ap"] == pytest.approx(1)
    assert (task["free"]["routing_precision"], task["free"]["routing_recall"]) == (2 / 3, 1.0)
    assert (task["free"]["false_triggers"], task["free"]["exact_routing"]) == (1.0, 0.0)
    assert task["headline"] == "box_ap"


def test_a_model_that_does_not_route_finds_nothing(make_sample: MakeSample) -> None:
    sample = objects(make_sample(1, "detection")[0], {"cat": LEFT})
    forced = Forced(text_loss=0.5, exact=True, found=(seen(0, LEFT),))

    (task,) = evaluation_of([predicted(sample, forced, Free(texts=("A cat.",), cut=1))], {})["tasks"].values()

    assert (task["free"]["box_ap"], task["forced"]["box_ap"]) == (0.0, pytest.approx(1))
    assert (task["free"]["routing_recall"], task["free"]["cut_ratio"]) == (0.0, 1.0)
    assert (task["free"]["exact_match"], task["forced"]["exact_match"]) == (0.0, 1.0)


def test_without_its_decoder_a_task_has_no_boxes_to_measure(make_sample: MakeSample) -> None:
    sample = objects(make_sample(1, "detection")[0], {"cat": LEFT})

    (task,) = evaluation_of([predicted(sample, free=Free(texts=("cat[DET]",)))], {})["tasks"].values()

    assert "box_ap" not in {*task["free"], *task["forced"]}
    assert task["free"]["routing_f1"] == 1.0


def test_text_that_routes_without_need_is_told(make_sample: MakeSample) -> None:
    sample, _ = make_sample(1, "vqa")

    (task,) = evaluation_of([predicted(sample, free=Free(texts=("red[DET]",)))], {})["tasks"].values()

    assert task["free"]["false_triggers"] == 1.0
    assert "routing_f1" not in task["free"]


def asked(sample: Sample, said: str, answers: tuple[str, ...], task: str, **targets: Any) -> Prediction:
    one = msgspec.structs.replace(
        sample,
        task=task,
        conversation=(sample.conversation[0], Turn("assistant", answers[0])),
        targets=TextTargets(answers=answers, **targets),
    )
    return predicted(one, free=Free(texts=(said,)))


@pytest.mark.parametrize(
    ("task", "pairs", "measure", "value"),
    [
        ("vqa", [("The red", ("red", "dark red")), ("blue", ("red",))], "vqa_accuracy", 0.5),
        ("vqa", [("Yes.", ("yes",)), ("Yes", ("no",)), ("no", ("no",))], "yes_f1", 2 / 3),
        ("region_recognition", [("Cat", ("cat",)), ("dog", ("cat",))], "accuracy", 0.5),
        ("counting", [("3", ("4",)), ("4", ("4",))], "count_mae", 0.5),
        ("ocr", [("STOP", ("STOP",)), ("", ("EXIT",))], "cer", 0.5),
        ("image_quality", [("good", ("good",)), ("bad", ("poor",)), ("fair", ("excellent",))], "plcc", 33 / 42),
        ("caption", [("one two three four",) * 2, ("five six seven eight",) * 2], "cider", 10.0),
        ("my_task", [("Red.", ("red",))], "accuracy", 1.0),
    ],
)  # fmt: skip
def test_texts_are_measured_by_their_task(
    make_sample: MakeSample, task: str, pairs: list[tuple[str, Any]], measure: str, value: float
) -> None:
    sample, _ = make_sample(1, "vqa")
    lines = [
        asked(sample, said, (wanted,) if isinstance(wanted, str) else wanted, task) for said, wanted in pairs
    ]

    found = evaluation_of(lines, {})["tasks"][f"toy/{task}"]

    assert found["free"][measure] == pytest.approx(value)
    assert measure not in found["forced"]


def test_an_answer_counts_as_often_as_people_gave_it(make_sample: MakeSample) -> None:
    sample, _ = make_sample(1, "vqa")
    lines = [asked(sample, said, ("red", "pink"), "vqa", votes=(8, 2)) for said in ("red", "pink")]

    found = evaluation_of(lines, {})["tasks"]["toy/vqa"]["free"]

    # Whoever says what two of ten said is right by 2/3 for the eight others, and by 1/3 for those two.
    assert found["vqa_accuracy"] == pytest.approx((1 + (8 * 2 / 3 + 2 / 3) / 10) / 2)
    assert found["accuracy"] == 1


def test_choices_are_right_by_letter_or_text(make_sample: MakeSample) -> None:
    sample, _ = make_sample(1, "vqa")
    choices = ("a cat", "a dog")
    lines = [
        asked(sample, said, ("a dog",), "multiple_choice_vqa", choices=choices, answer_index=1)
        for said in ("B", "a dog", "A")
    ]

    found = evaluation_of(lines, {})["tasks"]["toy/multiple_choice_vqa"]

    assert found["free"]["choice_accuracy"] == pytest.approx(2 / 3)


def test_rounds_are_held_to_their_own_answers(make_sample: MakeSample) -> None:
    sample, _ = make_sample(1, "vqa")
    talk = msgspec.structs.replace(
        sample,
        task="region_recognition",
        conversation=(
            Turn("user", "<image>\nA?"),
            Turn("assistant", "cat"),
            Turn("user", "B?"),
            Turn("assistant", "dog"),
        ),
        targets=TextTargets(),
    )

    found = evaluation_of([predicted(talk, free=Free(texts=("cat", "cat")))], {})["tasks"][
        "toy/region_recognition"
    ]

    assert found["free"]["accuracy"] == 0.5


def test_label_maps_leave_ignored_pixels_out(make_sample: MakeSample) -> None:
    sample = objects(
        make_sample(1, "detection")[0], {"sky": LEFT, "sea": RIGHT}, "[SEG]", "semantic_segmentation"
    )
    assert isinstance(sample.targets, InstanceTargets)
    area: Box = (0, 0, 10, 40)
    unsure = TargetInstance(label="sea", box=area, area=400.0, mask=rle_of_box(area, 64, 48), ignore=True)
    sample = msgspec.structs.replace(
        sample, targets=InstanceTargets(instances=(*sample.targets.instances, unsure))
    )
    # All is sky: half of the sky's twenty columns are void, so that ten of forty labelled columns are right.
    everywhere = Segment(ask=0, token=0, mask=rle_of_box((0, 0, 64, 48), 64, 48))
    line = predicted(sample, Forced(text_loss=1.0, exact=False, found=(), segments=(everywhere,)))

    found = evaluation_of([line], {})["tasks"]["toy/semantic_segmentation"]["forced"]

    assert found["mean_iou"] == pytest.approx((10 / 40 + 0) / 2)
    assert found["pixel_accuracy"] == pytest.approx(10 / 40)
    assert sample_score(View(line, FORCED)) == pytest.approx(10 / 40)


def test_keypoints_follow_the_tokens_of_the_answer(make_sample: MakeSample) -> None:
    sample, _ = make_sample(1, "vqa")
    posed = msgspec.structs.replace(
        sample,
        task="keypoints",
        conversation=(
            Turn("user", "<image>\nFind cat. Mark nose, tail."),
            Turn("assistant", "Here: cat[DET]. Points: nose[POSE], tail[POSE]."),
        ),
        routes=(
            Route(token="[DET]", kind="category", name="cat"),
            Route(token="[POSE]", kind="keypoint", name="nose"),
            Route(token="[POSE]", kind="keypoint", name="tail"),
        ),
        targets=KeypointTargets(
            names=("ear", "tail", "nose"),
            instances=(
                TargetInstance(
                    label="cat",
                    box=LEFT,
                    area=1500.0,
                    keypoints=((1.0, 1.0, 2), (5.0, 30.0, 2), (15.0, 5.0, 2)),
                ),
            ),
        ),
    )
    right = FoundObject(ask=0, token=0, box=LEFT, score=0.9, points=((1, 15.0, 5.0), (2, 5.0, 30.0)))
    # The model says tail first: its tokens 1 and 2 change places.
    turned = msgspec.structs.replace(right, points=((2, 15.0, 5.0), (1, 5.0, 30.0)))
    line = predicted(
        posed,
        Forced(text_loss=1.0, exact=False, found=(right,)),
        Free(texts=("Here: cat[DET]. Points: tail[POSE], nose[POSE].",), found=(turned,)),
    )

    found = evaluation_of([line], {})["tasks"]["toy/keypoints"]

    for side in (FREE, FORCED):
        assert found[side]["keypoint_ap"] == pytest.approx(1)
        assert found[side]["pck_at_20"] == 1.0


def test_what_was_not_measured_and_not_evaluated_is_told(make_sample: MakeSample) -> None:
    sample = msgspec.structs.replace(make_sample(1, "vqa")[0], task="text_to_image")
    lines: list[Line] = [
        predicted(sample, Forced(text_loss=1.0, exact=True, noise_loss=0.4)),
        Unusable(number=1, id="x", reason="image.corrupt"),
        Unusable(number=2, id="y", reason="image.corrupt"),
    ]

    found = evaluation_of(lines, {"toy/text_to_image": "fid"})

    assert found["skipped"] == {"image.corrupt": 2}
    task = found["tasks"]["toy/text_to_image"]
    assert (task["not_measured"], task["headline"]) == (["fid"], "noise_loss")
    assert task["forced"]["noise_loss"] == 0.4
    assert json.loads(json.dumps(found)) == found


class Parts(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


HOSTILE = "</div><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def test_a_page_shows_all_that_models_and_sources_say_as_text(make_sample: MakeSample) -> None:
    sink = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(sink, "JPEG")
    sample = objects(make_sample(1, "detection")[0], {HOSTILE: LEFT, "dog": RIGHT})
    sample = msgspec.structs.replace(sample, id=f"toy/{HOSTILE}", dataset=HOSTILE)
    free = Free(texts=(f"{HOSTILE}[DET] {HOSTILE}",), found=(seen(0, LEFT),))
    forced = Forced(text_loss=1.0, exact=False, found=(seen(0, LEFT), seen(1, RIGHT, 0.1)))
    lines = [predicted(sample, forced, free, look=Look(images=(sink.getvalue(),)))]
    result = {"model": HOSTILE, **evaluation_of(lines, {}), "skipped": {HOSTILE: 1}}

    page = evaluation_page(result, lines)

    parts = Parts()
    parts.feed(page)
    # The page's own script, which its policy names by digest: no other runs.
    assert parts.tags.count("script") == 1 and not parts.handlers
    policy = html.unescape(page)
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    # Three pictures: the truth, the model's own answer and the one to the given answer; nothing comes from elsewhere.
    assert parts.tags.count("img") == 3
    assert all(link.startswith(("data:", "#")) for link in parts.links)
    assert "&lt;script&gt;alert(1)" in page
