"""The pose decoder: UniPose conditioned by super-link queries of classes and of keypoints, its losses and its
predictions.

Shape suffixes: B samples, G groups of the batch, M classes of the sample with the most, N super-link queries, C width
of the language model, D width of the decoder, I instances, J keypoints of a sample, K predictions of one (of a batch:
keypoints of the sample that asks for the most).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dataengine import tokens
from trainer import losses
from trainer.batch import Batch
from trainer.model.config import PoseConfig
from trainer.model.decoders import DecoderLosses
from trainer.model.decoders.denoise import make_denoising
from trainer.model.decoders.inputs import by_sample, check_groups, check_targets, decoder_view, inside
from trainer.model.decoders.match import pad_targets
from trainer.model.decoders.pose_objective import pad_poses, pose_objective
from trainer.model.decoders.pose_transformer import PoseTransformer
from trainer.model.options import read
from trainer.model.superlink import PerceptionProjection


@dataclass(frozen=True)
class PosePredictions:
    """The objects found in one sample with their keypoints, best first.

    `boxes_K4` are xyxy pixels of the original picture, `scores_K` in [0, 1], `labels_K` positions among the sample's
    [DET] groups. `keypoints_KJ3` are x and y in pixels and a score, in the order of the sample's [POSE] groups; the
    score is the object's, since the decoder says nothing of single keypoints.
    """

    boxes_K4: torch.Tensor
    scores_K: torch.Tensor
    labels_K: torch.Tensor
    keypoints_KJ3: torch.Tensor


@dataclass(frozen=True)
class _Asked:
    """The vectors of a batch's classes and keypoints by sample, and which of them exist."""

    vectors_BMD: torch.Tensor
    group_mask_BM: torch.Tensor
    keypoints_BKD: torch.Tensor
    keypoint_mask_BK: torch.Tensor


class PoseDecoder(nn.Module):
    """Finds the objects of each class and, of each object, the keypoints that the sample asks for."""

    family = "pose"
    tokens = (tokens.DET, tokens.POSE)
    options = PoseConfig

    def __init__(self, config: PoseConfig, language_width: int) -> None:
        super().__init__()
        self.config = config
        self.num_queries = config.num_queries
        self.transformer = PoseTransformer(config)
        self.projection, self.keypoint_projection = (
            PerceptionProjection(language_width, config.link_width, self.transformer.width) for _ in range(2)
        )

    @classmethod
    def build(cls, options: Mapping[str, Any], language_width: int) -> PoseDecoder:
        """Build from the fields of PoseConfig; raises ModelError for unknown or ill-typed ones."""
        return cls(read(PoseConfig, options, cls.family), language_width)

    def forward(self, hidden_GNC: torch.Tensor, batch: Batch, generator: torch.Generator) -> DecoderLosses:
        """Return the losses: classification, L1 and GIoU, summed over all decoder layers, the encoder's proposals
        ("_enc") and the denoising queries ("_dn"), and L1 and OKS of keypoints over the layers that find them.
        """
        images_B3HW, pixel_mask_BHW = decoder_view(batch)
        asked = self._asked(hidden_GNC, batch)
        check_targets(batch, asked.group_mask_BM)
        targets = pad_targets(batch.targets)
        denoising = make_denoising(
            targets,
            asked.vectors_BMD,
            asked.group_mask_BM.sum(1),
            num_positive=self.config.denoising,
            label_noise=self.config.label_noise,
            box_noise=self.config.box_noise,
            generator=generator,
        )
        output = self.transformer(
            images_B3HW,
            pixel_mask_BHW,
            asked.vectors_BMD,
            asked.group_mask_BM,
            asked.keypoints_BKD,
            asked.keypoint_mask_BK,
            denoising,
        )
        poses = pad_poses(batch, asked.keypoint_mask_BK)
        return pose_objective(output, denoising, targets, poses, batch, asked.group_mask_BM, self.config)

    @torch.no_grad()
    def predict(self, hidden_GNC: torch.Tensor, batch: Batch, *, top_k: int = 20) -> list[PosePredictions]:
        """Return the `top_k` best pairs of instance and class of each sample; the targets are not looked at."""
        images_B3HW, pixel_mask_BHW = decoder_view(batch)
        asked = self._asked(hidden_GNC, batch)
        output = self.transformer(
            images_B3HW,
            pixel_mask_BHW,
            asked.vectors_BMD,
            asked.group_mask_BM,
            asked.keypoints_BKD,
            asked.keypoint_mask_BK,
        )
        last = output.instances[-1]
        assert last.points_BIK2 is not None
        sizes = batch.original_sizes or inside(pixel_mask_BHW).tolist()
        num_groups_B = asked.group_mask_BM.sum(1).tolist()
        num_keypoints_B = asked.keypoint_mask_BK.sum(1).tolist()
        results = []
        for b, (height, width) in enumerate(sizes):
            score_IM = last.logits_BXM[b, :, : num_groups_B[b]].float().sigmoid()
            scores_K, index_K = score_IM.flatten().topk(min(top_k, score_IM.numel()))
            instance_K = torch.div(index_K, num_groups_B[b], rounding_mode="floor")
            scale_4 = scores_K.new_tensor([width, height, width, height])
            boxes_K4 = losses.to_xyxy(last.boxes_BX4[b, instance_K].float()).clamp(0, 1)
            points_KJ2 = last.points_BIK2[b, instance_K, : num_keypoints_B[b]].float() * scale_4[:2]
            score_KJ1 = scores_K[:, None, None].expand(-1, points_KJ2.shape[1], -1)
            results.append(
                PosePredictions(
                    boxes_K4 * scale_4,
                    scores_K,
                    index_K % num_groups_B[b],
                    torch.cat([points_KJ2, score_KJ1], -1),
                )
            )
        return results

    def _asked(self, hidden_GNC: torch.Tensor, batch: Batch) -> _Asked:
        """Project the groups, each kind by its own projection, and lay them out by sample."""
        sample_G = batch.groups_G2[:, 0]
        is_keypoint_G = torch.tensor(
            [token == tokens.POSE for token in batch.group_tokens], dtype=torch.bool, device=sample_G.device
        )
        num_samples = len(batch.sample_ids)
        check_groups(batch, sample_G[~is_keypoint_G], self.config.max_groups, "the pose decoder's objects")
        check_groups(
            batch, sample_G[is_keypoint_G], self.config.max_keypoints, "the pose decoder's keypoints"
        )
        vectors_GD = self.projection(hidden_GNC[~is_keypoint_G])
        keypoints_GD = self.keypoint_projection(hidden_GNC[is_keypoint_G])
        return _Asked(
            *by_sample(vectors_GD, sample_G[~is_keypoint_G], num_samples),
            *by_sample(keypoints_GD, sample_G[is_keypoint_G], num_samples),
        )
