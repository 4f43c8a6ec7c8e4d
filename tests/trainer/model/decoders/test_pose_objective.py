from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval

from trainer.batch import Batch
from trainer.model.config import PoseWeights
from trainer.model.decoders.match import Matches
from trainer.model.decoders.pose_objective import keypoint_costs, keypoint_losses, pad_poses

MakePoseBatch = Callable[..., Batch]


def asked(batch: Batch, *counts: int) -> torch.Tensor:
    """Return which slots the samples ask for."""
    return torch.arange(max(counts))[None] < torch.tensor(counts)[:, None]


def pair(sample: int, query: int, target: int, layer: int = 0) -> Matches:
    return Matches(*(torch.tensor([value]) for value in (layer, sample, query, target)))


def test_slots_and_objects_that_are_not_there_are_never_visible(make_pose_batch: MakePoseBatch) -> None:
    batch = make_pose_batch(2, keypoints=(2, 4), objects=(2, 1))

    poses = pad_poses(batch, asked(batch, 2, 4))

    assert poses.visible_BnK.tolist() == [
        [[True, True, False, False]] * 2,
        [[True] * 4, [False] * 4],
    ]
    assert poses.known_Bn.tolist() == [[True, True], [True, False]]


def test_costs_are_the_losses_of_every_instance_for_every_object(make_pose_batch: MakePoseBatch) -> None:
    batch = make_pose_batch(2, keypoints=(2, 4), objects=(2, 1))
    poses = pad_poses(batch, asked(batch, 2, 4))
    points = torch.rand((2, 2, 3, 4, 2), generator=torch.Generator().manual_seed(0))

    costs = keypoint_costs(points, poses, PoseWeights(keypoints=3.0, oks=7.0))

    assert costs.shape == (2, 2, 3, 2)
    for layer in range(2):
        for sample, num_objects in enumerate((2, 1)):
            for query in range(3):
                for target in range(num_objects):
                    l1, oks = keypoint_losses(points, pair(sample, query, target, layer), poses)
                    expected = 3 * float(l1[layer]) + 7 * float(oks[layer])
                    assert float(costs[layer, sample, query, target]) == pytest.approx(expected, rel=1e-5)
    assert (costs[:, 1, :, 1] == 0).all()


@pytest.mark.parametrize("size", [(128, 128), (64, 128), (96, 32)])
def test_oks_loss_is_pycocotools_on_pictures_of_any_shape(
    make_pose_batch: MakePoseBatch, size: tuple[int, int]
) -> None:
    height, width = size
    batch = make_pose_batch(1)
    mask = torch.zeros((1, 128, 128), dtype=torch.bool)
    mask[:, :height, :width] = True
    poses = pad_poses(replace(batch, pixel_mask_BHW=mask), asked(batch, 4))
    points = poses.points_BnK2[0, 0] + 0.03 * torch.randn((4, 2), generator=torch.Generator().manual_seed(3))

    _, found = keypoint_losses(points[None, None, None], pair(0, 0, 0), poses)

    scale = torch.tensor([width, height])
    coco = COCOeval(iouType="keypoints")
    coco.params.kpt_oks_sigmas = np.array(poses.sigmas_BK[0])
    seen = torch.full((4, 1), 2.0)
    wanted, given = (torch.cat([xy * scale, seen], 1).double() for xy in (poses.points_BnK2[0, 0], points))
    area = float(poses.areas_Bn[0, 0]) * width * height
    coco._gts[1, 1] = [{"keypoints": wanted.flatten().tolist(), "bbox": [0, 0, 1, 1], "area": area}]
    coco._dts[1, 1] = [{"keypoints": given.flatten().tolist(), "score": 1.0}]
    assert float(found[0]) == pytest.approx(1 - float(coco.computeOks(1, 1)[0, 0]), abs=1e-5)
    assert 0.05 < float(found[0]) < 0.95


def test_a_match_pays_for_its_own_keypoints(make_pose_batch: MakePoseBatch) -> None:
    batch = make_pose_batch(1)
    poses = pad_poses(batch, asked(batch, 4))
    points = torch.stack([poses.points_BnK2[0, 1], poses.points_BnK2[0, 0]])[None, None]

    right = [keypoint_losses(points, pair(0, *one), poses) for one in ((0, 1), (1, 0))]
    wrong = [keypoint_losses(points, pair(0, *one), poses) for one in ((0, 0), (1, 1))]

    assert [float(l1) + float(oks) for l1, oks in right] == pytest.approx([0, 0], abs=1e-6)
    assert all(float(l1) > 1 and float(oks) > 0.5 for l1, oks in wrong)
