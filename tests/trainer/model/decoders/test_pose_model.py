"""The pose decoder beside that of detection, in the whole model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dataengine.errors import ModelError
from trainer.batch import Batch
from trainer.model.config import DetectionConfig, ModelConfig, PoseConfig, SuperLinkConfig, tiny
from trainer.model.decoders.pose import PosePredictions
from trainer.model.visionllm import VisionLLM

MakePoseBatch = Callable[..., Batch]


def both(vocabulary: dict[str, int], num_queries: int = 4, poses: int | None = None) -> ModelConfig:
    """Return the tiny model with detection first, and pose, and their numbers of queries."""
    return tiny(
        vocabulary,
        detection=DetectionConfig.tiny(num_queries=num_queries, encoder_layers=1, num_objects=8),
        pose=PoseConfig.tiny(
            num_queries=poses or num_queries, encoder_layers=1, num_objects=8, num_instances=3
        ),
    )


@pytest.mark.parametrize("num_queries", [1, 4])
def test_defect_10_and_a_whole_step_with_any_number_of_queries(
    vocabulary: dict[str, int], make_pose_batch: MakePoseBatch, num_queries: int
) -> None:
    model = VisionLLM(both(vocabulary, num_queries))
    batch = make_pose_batch(2, keypoints=(2, 3), num_queries=num_queries)

    output = model(batch)
    output.loss.backward()

    assert {"text", "pose/keypoints", "pose/oks", "pose/cls_dn"} <= set(output.losses)
    assert all(torch.isfinite(value) for value in output.losses.values())
    # [DET] is read by detection first, whose queries follow it; [POSE] by pose alone.
    for family in ("detection", "pose"):
        gradient = model.superlink.tables[family].grad
        assert gradient is not None
        assert (gradient.abs().sum(1) > 0).all()
    assert model.superlink.table("pose").shape == (num_queries, 128)


def test_poses_are_predicted_with_the_answer_given(
    vocabulary: dict[str, int], make_pose_batch: MakePoseBatch
) -> None:
    batch = make_pose_batch(2, keypoints=(2, 3))

    found = VisionLLM(both(vocabulary)).eval().predict(replace(batch, targets=()), "pose", top_k=2)

    assert all(isinstance(one, PosePredictions) for one in found)
    assert [tuple(one.keypoints_KJ3.shape) for one in found] == [(2, 2, 3), (2, 3, 3)]


def test_decoders_that_read_one_token_have_one_number_of_queries(vocabulary: dict[str, int]) -> None:
    with pytest.raises(ModelError, match=r"'pose' reads \[DET\] with num_queries 2, expected 4"):
        VisionLLM(both(vocabulary, num_queries=4, poses=2))


def test_parts_of_the_decoder_are_trained_by_name(vocabulary: dict[str, int]) -> None:
    model = VisionLLM(both(vocabulary))

    parts = model.parts()

    assert parts["decoders.pose.backbone"]
    heads = {id(parameter) for parameter in parts["decoders.pose"]}
    assert id(model.get_parameter("decoders.pose.transformer.point_head.layers.0.weight")) in heads
    assert id(model.get_parameter("decoders.pose.keypoint_projection.layers.0.weight")) in heads


@pytest.mark.parametrize("superlink", [SuperLinkConfig(mode="token"), SuperLinkConfig(shared=True)])
def test_pose_works_with_each_kind_of_queries(
    vocabulary: dict[str, int], make_pose_batch: MakePoseBatch, superlink: SuperLinkConfig
) -> None:
    model = VisionLLM(replace(both(vocabulary), superlink=superlink))

    output = model(make_pose_batch(1))

    assert torch.isfinite(output.loss)
