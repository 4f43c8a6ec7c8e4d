"""What the pose decoder must find: keypoints that are asked for, in the order of the prompt."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Keypoint, Turn
from dataengine.errors import ModelError
from dataengine.sample import (
    KeypointTargets,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
)
from trainer import batch
from trainer.augment import flip
from trainer.collate import collate
from trainer.encode import encode
from trainer.settings import EncodeSettings
from trainer.targets import object_targets, to_dataset_order
from trainer.tokenizer import train_tokenizer

NAMES = ("nose", "left eye", "right eye", "tail", "hoof")
TOKENIZER = train_tokenizer(["USER: ASSISTANT: Find the keypoints of each cat and dog, please."], 400)
QUERIES = EncodeSettings(tile_side=14, tokens_per_tile=4).num_queries
IMAGE = torch.zeros((3, 20, 40))


def thing(label: str, points: tuple[Keypoint, ...], *, area: float = 50.0) -> TargetInstance:
    return TargetInstance(label=label, box=(4.0, 2.0, 24.0, 12.0), area=area, keypoints=points)


def pose_sample(
    instances: tuple[TargetInstance, ...],
    asked: tuple[str, ...] = NAMES,
    classes: tuple[str, ...] = ("cat", "dog"),
    sigmas: tuple[float, ...] = (),
) -> Sample:
    """Return a sample that asks for classes, then for keypoints, on a picture of 40 x 20 pixels."""
    routes = (
        *(Route(token="[DET]", kind="category", name=name) for name in classes),
        *(Route(token="[POSE]", kind="keypoint", name=name) for name in asked),
    )
    answer = ", ".join(route.name + route.token for route in routes)
    return Sample(
        id="toy/train/1#keypoints",
        task="keypoints",
        dataset="toy",
        split="train",
        images=(SampleImage(path="a.png", width=40, height=20, format="png"),),
        conversation=(Turn("user", "<image>\nFind."), Turn("assistant", answer)),
        routes=routes,
        targets=KeypointTargets(names=NAMES, instances=instances, flip_pairs=((1, 2),), sigmas=sigmas),
        origin=SampleOrigin(dataset="toy", file="f", record="0", spec="toy", spec_hash="0", reader="r"),
        license=SampleLicense(annotations="CC0", images="CC0"),
    )


def keypoints_of(sample: Sample) -> batch.KeypointTargets:
    found = object_targets(sample, sample.routes, IMAGE).keypoints
    assert found is not None
    return found


def test_keypoints_are_normalised_like_boxes_with_their_areas() -> None:
    points: tuple[Keypoint, ...] = ((10, 5, 2), (20, 15, 1), (0, 0, 0), (39, 19, 2), (0, 0, 0))
    sample = pose_sample((thing("dog", points),), sigmas=(0.1, 0.2, 0.3, 0.4, 0.5))

    targets = object_targets(sample, sample.routes, IMAGE)

    assert targets.labels_n.tolist() == [1]
    assert targets.keypoints is not None
    expected = torch.tensor([[0.25, 0.25, 1], [0.5, 0.75, 1], [0, 0, 0], [0.975, 0.95, 1], [0, 0, 0]])
    torch.testing.assert_close(targets.keypoints.points_nK3, expected[None])
    assert targets.keypoints.areas_n.tolist() == [50 / 800]
    torch.testing.assert_close(targets.keypoints.sigmas_K, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))


def test_keypoints_whose_dataset_states_no_sigma_have_unipose_s() -> None:
    sample = pose_sample((), asked=("tail", "nose"))

    found = keypoints_of(sample)

    torch.testing.assert_close(found.sigmas_K, torch.tensor([0.025, 0.025]))
    assert found.points_nK3.shape == (0, 2, 3)
    assert found.areas_n.shape == (0,)


point = st.tuples(st.floats(0, 40), st.floats(0, 20), st.integers(0, 2))


@settings(deadline=None, max_examples=50)
@given(
    points=st.lists(st.tuples(*[point] * len(NAMES)), max_size=3),
    asked=st.permutations(NAMES).flatmap(
        lambda names: st.integers(1, len(names)).map(lambda count: tuple(names[:count]))
    ),
)
def test_a_subset_in_any_order_comes_back_in_the_order_of_the_dataset(
    points: list[tuple[Keypoint, ...]], asked: tuple[str, ...]
) -> None:
    sample = pose_sample(tuple(thing("cat", one) for one in points), asked)

    found = keypoints_of(sample)
    back = to_dataset_order(found.points_nK3, asked, NAMES)

    assert found.points_nK3.shape == (len(points), len(asked), 3)
    for row, one in zip(back.tolist(), points, strict=True):
        for name, (x, y, visible), (wanted_x, wanted_y, v) in zip(NAMES, row, one, strict=True):
            if name in asked and v:
                assert (x, y, visible) == pytest.approx((wanted_x / 40, wanted_y / 20, 1), abs=1e-6)
            else:
                assert (x, y, visible) == (0, 0, 0)


def test_a_keypoint_that_the_dataset_does_not_have_cannot_be_put_into_its_order() -> None:
    with pytest.raises(ModelError, match="keypoints: 'nise' is none of the dataset's; did you mean 'nose'"):
        to_dataset_order(torch.zeros((1, 1, 3)), ["nise"], NAMES)


@pytest.mark.parametrize("off", [(-0.5, 5, 2), (40.5, 5, 2), (10, -3, 2), (10, 20.1, 1)])
def test_defect_12_a_keypoint_off_the_picture_is_not_seen_and_not_moved(off: Keypoint) -> None:
    rest: tuple[Keypoint, ...] = ((10, 5, 2),) * 4
    sample = pose_sample((thing("cat", (off, *rest)),))

    found = keypoints_of(sample)

    assert found.points_nK3[0, 0].tolist() == [0, 0, 0]
    assert found.points_nK3[0, 1:, 2].tolist() == [1] * 4


def test_a_flip_exchanges_partners_in_the_order_of_the_prompt() -> None:
    points: tuple[Keypoint, ...] = ((10, 5, 2), (8, 4, 2), (12, 4, 2), (0, 0, 0), (0, 0, 0))
    sample = pose_sample((thing("cat", points),), asked=("right eye", "nose"))

    turned, _ = flip(sample, [])

    found = keypoints_of(turned).points_nK3[0]
    # The right eye of the mirrored cat is where its left one was seen.
    torch.testing.assert_close(found, torch.tensor([[32 / 40, 4 / 20, 1], [30 / 40, 5 / 20, 1]]))


def test_a_class_and_a_keypoint_may_have_one_name() -> None:
    points: tuple[Keypoint, ...] = ((10, 5, 2), *(((0, 0, 0),) * 4))
    sample = pose_sample((thing("nose", points),), asked=("tail", "nose"), classes=("cat", "nose"))

    targets = object_targets(sample, sample.routes, IMAGE)

    assert targets.labels_n.tolist() == [1]
    assert targets.keypoints is not None
    assert targets.keypoints.points_nK3[0, :, 2].tolist() == [0, 1]


def test_labels_are_positions_among_the_classes_wherever_their_tokens_stand() -> None:
    sample = pose_sample((thing("dog", ((1, 1, 1),) * 5),))
    mixed = (*sample.routes[2:4], *sample.routes[:2], *sample.routes[4:])

    targets = object_targets(msgspec.structs.replace(sample, routes=mixed), mixed, IMAGE)

    assert targets.labels_n.tolist() == [1]


def test_objects_to_be_ignored_have_no_keypoints() -> None:
    crowd = msgspec.structs.replace(thing("cat", ((1, 1, 1),) * 5), ignore=True)
    bare = msgspec.structs.replace(thing("dog", ()), keypoints=None)

    targets = object_targets(pose_sample((crowd, bare)), pose_sample(()).routes, IMAGE)

    assert targets.labels_n.tolist() == [1]
    assert len(targets.ignore_m4) == 1
    assert targets.keypoints is not None
    assert targets.keypoints.points_nK3.tolist() == [[[0.0] * 3] * 5]
    assert targets.keypoints.known_n.tolist() == [False]


def test_a_keypoint_that_the_targets_do_not_name_is_refused() -> None:
    sample = pose_sample((), asked=("nose", "horn"))

    with pytest.raises(ModelError, match="1#keypoints: a routing token asks for keypoint 'horn'"):
        object_targets(sample, sample.routes, IMAGE)


@pytest.mark.parametrize("num_queries", [1, 4])
def test_batches_hold_the_keypoints_of_each_sample_and_count_the_objects_that_have_some(
    num_queries: int,
) -> None:
    whole: tuple[Keypoint, ...] = ((10, 5, 2),) * 5
    hidden: tuple[Keypoint, ...] = ((0, 0, 0),) * 5
    samples = [
        pose_sample((thing("cat", whole), thing("dog", hidden))),
        pose_sample((thing("dog", whole),), asked=("tail", "nose")),
    ]
    queries = {**QUERIES, "[DET]": num_queries, "[POSE]": num_queries}
    encoding = EncodeSettings(
        tile_side=14,
        tokens_per_tile=4,
        decoder_short=(32,),
        decoder_longest=64,
        num_queries=queries,
    )
    pictures = [np.zeros((20, 40, 3), np.uint8)]

    made = collate([encode(sample, pictures, TOKENIZER, encoding, None) for sample in samples], 0)

    assert made.family == "pose"
    assert made.group_tokens == ("[DET]",) * 2 + ("[POSE]",) * 5 + ("[DET]",) * 2 + ("[POSE]",) * 2
    shapes = [target.keypoints.points_nK3.shape for target in made.targets if target.keypoints]
    assert shapes == [(2, 5, 3), (1, 2, 3)]
    assert batch.counts(made).tolist()[1:] == [3, 0, 0, 2]
    assert made.to("cpu").targets[1].keypoints is not None


def test_an_encoded_sample_may_be_mirrored() -> None:
    points: tuple[Keypoint, ...] = ((10, 5, 2), *(((0, 0, 0),) * 4))
    sample = pose_sample((thing("cat", points),))
    always = EncodeSettings(
        tile_side=14, tokens_per_tile=4, decoder_short=(32,), decoder_longest=64, flip_ratio=1.0
    )
    pictures = [np.zeros((20, 40, 3), np.uint8)]

    found = encode(sample, pictures, TOKENIZER, always, random.Random(0)).targets.keypoints

    assert found is not None
    assert found.points_nK3[0, 0].tolist() == [0.75, 0.25, 1]
