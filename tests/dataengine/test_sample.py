from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dataengine.annotation import Turn
from dataengine.errors import Quarantine
from dataengine.sample import (
    ImageTargets,
    InstanceTargets,
    KeypointTargets,
    Mark,
    Prompt,
    Region,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
    TextTargets,
    check,
    decode,
    encode,
)

IMAGE = SampleImage(path="a.jpg", width=100, height=80, format="jpeg")
CAT = TargetInstance(id="1", label="cat", box=(0.0, 0.5, 10.25, 20.0), area=200.0)
SAMPLE = Sample(
    id="d/train/1#detection",
    task="detection",
    dataset="d",
    split="train",
    images=(IMAGE,),
    conversation=(Turn("user", "<image>\nFind cat, dog."), Turn("assistant", "cat[DET], dog[DET]")),
    targets=InstanceTargets(instances=(CAT,), negatives=("dog",)),
    routes=(
        Route(token="[DET]", kind="category", name="cat"),
        Route(token="[DET]", kind="category", name="dog"),
    ),
    prompt=Prompt(bank="detection", question="en01", answer="en02"),
    origin=SampleOrigin(
        dataset="d", file="f.json", record="images[0]", spec="d/detection", spec_hash="0", reader="r 1"
    ),
    license=SampleLicense(annotations="CC0-1.0", images="unspecified"),
    ratings={"sharpness": 0.5},
)
KEYPOINT = TargetInstance(label="cat", box=(0.0, 0.0, 9.0, 9.0), area=81.0, keypoints=((1.0, 2.0, 2),))

MARK = Mark(kind="box", color="red", solid=True, box=(1.0, 2.0, 3.0, 4.0))


def changed(**changes: Any) -> Sample:
    return msgspec.structs.replace(SAMPLE, **changes)


@pytest.mark.parametrize(
    "sample",
    [
        SAMPLE,
        changed(targets=TextTargets(answers=("a", "b"), choices=("a", "c"), answer_index=0)),
        changed(targets=KeypointTargets(names=("nose",), instances=(KEYPOINT,), sigmas=(0.026,))),
        changed(targets=ImageTargets(image=0, caption="é")),
        changed(regions=(Region(kind="box", box=(1.0, 2.0, 3.0, 4.0)),)),
        changed(marks=(MARK, msgspec.structs.replace(MARK, kind="arrow", points=((1.5, 2.0), (3.0, 4.0))))),
    ],
)
def test_a_sample_survives_its_bytes(sample: Sample) -> None:
    data = encode(sample)

    assert decode(data) == sample
    assert encode(decode(data)) == data


def test_a_sample_without_marks_is_written_as_before_there_were_marks() -> None:
    assert "marks" not in msgspec.json.decode(encode(SAMPLE))
    assert decode(encode(SAMPLE)).marks_on(0) == ()


def test_marks_are_those_of_one_picture() -> None:
    other = msgspec.structs.replace(MARK, image=1)

    assert changed(marks=(MARK, other)).marks_on(1) == (other,)


def test_objects_lie_on_the_last_picture_that_is_shown() -> None:
    target = msgspec.structs.replace(IMAGE, role="target")

    assert [changed(images=images).object_image for images in ((IMAGE,), (IMAGE, IMAGE), (IMAGE, target), ())] == [
        0, 1, 0, 0,
    ]  # fmt: skip


def test_the_same_ratings_give_the_same_bytes_in_any_order() -> None:
    assert encode(changed(ratings={"a": 1.0, "b": 2.0})) == encode(changed(ratings={"b": 2.0, "a": 1.0}))


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.update(note="x"),
        lambda content: content["images"][0].update(width="100"),
        lambda content: content["targets"].update(type="objects"),
        lambda content: content["targets"]["instances"][0].update(box=[1, 2, 3]),
        lambda content: content["conversation"][0].update(role="human"),
        lambda content: content.pop("license"),
    ],
)
def test_a_record_of_another_shape_is_refused(edit: Any) -> None:
    content = msgspec.json.decode(encode(SAMPLE))
    edit(content)

    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.json.encode(content))


def test_a_whole_sample_passes() -> None:
    check(SAMPLE)


def test_a_target_picture_is_not_shown() -> None:
    target = msgspec.structs.replace(IMAGE, role="target")

    check(changed(images=(IMAGE, target)))
    with pytest.raises(Quarantine) as caught:
        check(changed(images=(target,)))
    assert caught.value.reason == "media.placeholder"


def test_a_system_turn_may_stand_first() -> None:
    check(changed(conversation=(Turn("system", "Be kind."), *SAMPLE.conversation)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"routes": SAMPLE.routes[:1]}, "token.route_mismatch"),
        ({"routes": (*SAMPLE.routes, SAMPLE.routes[0])}, "token.route_mismatch"),
        (
            {"routes": (SAMPLE.routes[0], Route(token="[GRD]", kind="expression", name="dog"))},
            "token.route_mismatch",
        ),
        ({"images": ()}, "media.placeholder"),
        ({"images": (IMAGE, IMAGE)}, "media.placeholder"),
        ({"regions": (Region(kind="box", box=(0.0, 0.0, 1.0, 1.0)),)}, "token.region_mismatch"),
        ({"marks": (msgspec.structs.replace(MARK, image=1),)}, "media.missing"),
        (
            {"conversation": (Turn("user", "<image>\nFind it.</s>"), SAMPLE.conversation[1])},
            "text.special_token",
        ),
        (
            {"routes": (SAMPLE.routes[0], Route(token="[DET]", kind="category", name="<|im_end|>"))},
            "text.special_token",
        ),
        ({"conversation": SAMPLE.conversation[::-1]}, "turn.structure"),
        ({"conversation": (*SAMPLE.conversation, Turn("user", "And?"))}, "turn.structure"),
        (
            {"conversation": (*SAMPLE.conversation, Turn("user", "And?"), Turn("assistant", " \n"))},
            "text.empty",
        ),
        (
            {"targets": InstanceTargets(instances=(msgspec.structs.replace(CAT, label="ox"),))},
            "target.unasked",
        ),
        (
            {
                "targets": KeypointTargets(
                    names=("nose",), instances=(msgspec.structs.replace(KEYPOINT, label="ox"),)
                )
            },
            "target.unasked",
        ),
        ({"targets": TextTargets(answers=("cat", "dog"), votes=(3,))}, "qa.format"),
    ],
)
def test_parts_that_contradict_each_other_are_quarantined(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Quarantine) as caught:
        check(changed(**changes))

    assert caught.value.reason == reason


def test_no_turn_at_all_is_quarantined() -> None:
    with pytest.raises(Quarantine) as caught:
        check(changed(conversation=(), images=(), routes=(), targets=TextTargets()))

    assert caught.value.reason == "turn.structure"
