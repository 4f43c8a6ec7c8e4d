from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Image, Instance, Keypoint, Label, LabelSpace, Origin
from dataengine.catalog import Catalog
from dataengine.errors import Quarantine, Skip
from dataengine.sample import KeypointTargets, Rendering
from dataengine.task import Task

MakeTask = Callable[..., Task]
Build = Callable[..., Rendering]

PERSON = Catalog().labels["coco_person"]
NAMES = tuple(name.replace("_", " ") for name in PERSON.labels[0].keypoints)
MIXED = LabelSpace(
    id="mixed",
    labels=(
        Label(name="table"),
        Label(
            name="dog",
            keypoints=("nose", "left_ear", "right_ear", "tail"),
            flip_pairs=((1, 2),),
            sigmas=(0.1, 0.2, 0.2, 0.3),
        ),
        Label(name="person", keypoints=("right_ear", "left_ear", "hat"), flip_pairs=((0, 1),)),
    ),
)


def annotate(*instances: Instance) -> Annotation:
    return Annotation(
        key="1",
        images=(Image(path="a.jpg"),),
        origin=Origin(file="f", record="r"),
        instances=instances,
    )


def points(*visible: int) -> tuple[Keypoint, ...]:
    return tuple((10.0 + index, 20.0, v) if v else (0.0, 0.0, 0) for index, v in enumerate(visible))


def posed(
    number: int, category: str, keypoints: tuple[Keypoint, ...] | None, crowd: bool = False
) -> Instance:
    return Instance(
        id=str(number), category=category, box=(1.0, 2.0, 41.0, 62.0), keypoints=keypoints, crowd=crowd
    )


def targets(rendering: Rendering) -> KeypointTargets:
    assert isinstance(rendering.targets, KeypointTargets)
    return rendering.targets


def asked(rendering: Rendering) -> list[str]:
    return [route.name for route in rendering.routes if route.kind == "keypoint"]


@given(seed=st.integers(0, 2**32), visible=st.lists(st.integers(0, 2), min_size=17, max_size=17))
@settings(deadline=None, max_examples=100)
def test_targets_keep_every_keypoint_in_order_whatever_is_asked(
    make_task: MakeTask, build: Build, seed: int, visible: list[int]
) -> None:
    person = posed(1, "person", points(*visible))

    rendering = build(annotate(person), make_task("keypoints", PERSON), seed)

    assert targets(rendering).names == NAMES
    assert targets(rendering).instances[0].keypoints == person.keypoints
    names = asked(rendering)
    assert names and len(set(names)) == len(names) and set(names) <= set(NAMES)
    assert ", ".join(names) in rendering.conversation[0].text
    assert ", ".join(f"{name}[POSE]" for name in names) in rendering.conversation[1].text


def test_half_of_the_training_prompts_ask_for_all_keypoints_in_any_order(
    make_task: MakeTask, build: Build
) -> None:
    annotation = annotate(posed(1, "person", points(*[2] * 17)))

    lists = [asked(build(annotation, make_task("keypoints", PERSON), seed)) for seed in range(300)]

    full = [names for names in lists if len(names) == 17]
    assert 0.43 < len(full) / 300 < 0.64
    assert len({tuple(names) for names in full}) == len(full)
    assert {len(names) for names in lists} == set(range(1, 18))


def test_evaluation_asks_for_all_keypoints_in_order(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(posed(1, "person", points(*[2] * 17)))

    rendering = build(annotation, make_task("keypoints", PERSON, train=False), 5)

    assert asked(rendering) == list(NAMES)
    assert [route.token for route in rendering.routes] == ["[DET]"] + ["[POSE]"] * 17


def test_objects_are_asked_for_before_their_keypoints(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(posed(1, "person", points(*[2] * 17)))

    for seed in range(40):
        text = build(annotation, make_task("keypoints", PERSON), seed).conversation[1].text
        assert text.index("[DET]") < text.index("[POSE]")


def test_a_person_without_a_labelled_keypoint_keeps_the_box(make_task: MakeTask, build: Build) -> None:
    rendering = build(annotate(posed(1, "person", points(*[0] * 17))), make_task("keypoints", PERSON))

    (target,) = targets(rendering).instances
    assert target.box == (1.0, 2.0, 41.0, 62.0)
    assert not target.ignore
    assert target.keypoints == ((0.0, 0.0, 0),) * 17


def test_a_crowd_is_ignored(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(posed(1, "person", points(*[2] * 17)), posed(2, "person", None, crowd=True))

    found = targets(build(annotation, make_task("keypoints", PERSON))).instances

    assert [(target.id, target.ignore) for target in found] == [("1", False), ("2", True)]
    assert found[1].keypoints == ((0.0, 0.0, 0),) * 17


def test_the_schema_of_persons_is_that_of_coco(make_task: MakeTask, build: Build) -> None:
    found = targets(build(annotate(posed(1, "person", points(*[2] * 17))), make_task("keypoints", PERSON)))

    assert len(found.sigmas) == 17 and found.sigmas[0] == 0.026 and found.sigmas[11] == 0.107
    for left, right in found.flip_pairs:
        assert found.names[left].replace("left", "right") == found.names[right]
    assert len(found.flip_pairs) == 8


def test_classes_with_other_keypoints_are_joined_by_name(make_task: MakeTask, build: Build) -> None:
    annotation = annotate(
        posed(1, "person", points(1, 2, 2)),
        posed(2, "dog", points(2, 0, 1, 2)),
        Instance(id="3", category="table", box=(0.0, 0.0, 9.0, 9.0)),
    )

    found = targets(build(annotation, make_task("keypoints", MIXED, train=False)))

    assert found.names == ("nose", "left ear", "right ear", "tail", "hat")
    by_id = {target.id: target for target in found.instances}
    assert set(by_id) == {"1", "2"}
    none = (0.0, 0.0, 0)
    assert by_id["1"].keypoints == (none, (11.0, 20.0, 2), (10.0, 20.0, 1), none, (12.0, 20.0, 2))
    assert by_id["2"].keypoints == ((10.0, 20.0, 2), none, (12.0, 20.0, 1), (13.0, 20.0, 2), none)
    assert found.flip_pairs == ((1, 2),)
    assert found.sigmas == ()


def test_a_prompt_holds_no_more_keypoints_than_the_decoder(make_task: MakeTask, build: Build) -> None:
    count = 133
    labels = LabelSpace(
        id="whole", labels=(Label(name="person", keypoints=tuple(f"p{i}" for i in range(count))),)
    )
    annotation = annotate(posed(1, "person", points(*[2] * count)))

    for seed in range(20):
        rendering = build(annotation, make_task("keypoints", labels), seed)
        assert 1 <= len(asked(rendering)) <= 68
        assert len(targets(rendering).names) == count


def test_a_wrong_number_of_keypoints_is_quarantined(make_task: MakeTask, build: Build) -> None:
    with pytest.raises(Quarantine) as caught:
        build(annotate(posed(1, "person", points(2, 2))), make_task("keypoints", PERSON))

    assert caught.value.reason == "keypoint.count"


@pytest.mark.parametrize(
    ("labels", "keypoints", "reason"),
    [
        (LabelSpace(id="none", labels=(Label(name="person"),)), points(2), "keypoint.no_names"),
        (None, points(2), "keypoint.no_names"),
        (PERSON, None, "object.incomplete"),
    ],
)
def test_what_cannot_be_posed_is_skipped(
    make_task: MakeTask,
    build: Build,
    labels: LabelSpace | None,
    keypoints: tuple[Keypoint, ...] | None,
    reason: str,
) -> None:
    with pytest.raises(Skip) as caught:
        build(annotate(posed(1, "person", keypoints)), make_task("keypoints", labels))

    assert caught.value.reason == reason
