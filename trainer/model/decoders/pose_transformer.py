"""UniPose's transformer: Grounding DINO whose later decoder layers refine the best boxes together with their keypoints
(ED-Pose, Yang et al. 2023; UniPose, Yang et al. 2023; VisionLLM v2, appendix B.2).

An instance is a box and one token for each keypoint that its sample asks for. A keypoint's token has a box of its own:
its centre is the keypoint, its size how far around it the layers look.

Shape suffixes: B images, D width, M groups (classes) of a sample, Q object queries, J denoising queries, I instances,
K keypoints of the sample that asks for the most, T tokens (J, then 1 + K of each instance), X boxes (J + I of them).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMLPPredictionHead

from dataengine.errors import ModelError
from trainer.model.config import PoseConfig
from trainer.model.decoders.denoise import Denoising, attention_mask
from trainer.model.decoders.grounding import GroundingTransformer, Memory, Queries, additive


@dataclass(frozen=True)
class Found:
    """What one decoder layer says: X boxes (cxcywh) and their logits, denoising queries before the others, and the
    keypoints (xy) of the instances where the layer finds some. All lie in [0, 1] of the image without padding.

    Logits of groups that do not exist are -inf; points of keypoints that a sample does not ask for mean nothing.
    """

    logits_BXM: torch.Tensor
    boxes_BX4: torch.Tensor
    points_BIK2: torch.Tensor | None = None


@dataclass(frozen=True)
class PoseOutput:
    """What the layers found, first to last: `objects` those that see boxes alone, `instances` the later ones.

    The proposals are the encoder's that became object queries. `num_denoising` is J.
    """

    proposal_logits_BQM: torch.Tensor
    proposal_boxes_BQ4: torch.Tensor
    objects: list[Found]
    instances: list[Found]
    num_denoising: int


@dataclass(frozen=True)
class Tokens:
    """What the first layer with keypoints starts from: states of all tokens, which see which, the boxes of denoising
    queries and instances, and where the keypoints' boxes are and how large.
    """

    states_BTD: torch.Tensor
    blocked_B1TT: torch.Tensor
    boxes_BX4: torch.Tensor
    points_BIK2: torch.Tensor
    sizes_BIK2: torch.Tensor


class PoseTransformer(nn.Module):
    """Backbone, fusion encoder, two-stage query selection, box layers and keypoint layers."""

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        self.grounding = GroundingTransformer(config)
        self.width = width = self.grounding.width
        num_layers = len(self.grounding.decoder.layers)
        if not 1 <= config.box_layers < num_layers:
            raise ModelError(
                f"pose: box_layers is {config.box_layers}, expected 1 to {num_layers - 1}: the last of {num_layers}"
                " decoder layers find keypoints; change it or decoder_layers"
            )
        self.box_layers = config.box_layers
        self.num_instances = config.num_instances
        # Where a keypoint is looked for first (in sides of the box, from its centre), and how large its box is (as a
        # part of these sides, before the sigmoid). Both come from its vector: names stand in any order, so that no
        # slot has a meaning of its own.
        self.first_head = GroundingDinoMLPPredictionHead(width, width, 4, 3)
        self.point_head = GroundingDinoMLPPredictionHead(width, width, 2, 3)
        self.size_head = GroundingDinoMLPPredictionHead(width, width, 2, 3)
        for head in (self.first_head, self.point_head, self.size_head):
            nn.init.zeros_(head.layers[-1].weight)
            nn.init.zeros_(head.layers[-1].bias)

    @property
    def backbone(self) -> nn.Module:
        """The picture backbone."""
        return self.grounding.backbone

    def forward(
        self,
        images_B3HW: torch.Tensor,
        pixel_mask_BHW: torch.Tensor,
        vectors_BMD: torch.Tensor,
        group_mask_BM: torch.Tensor,
        keypoints_BKD: torch.Tensor,
        keypoint_mask_BK: torch.Tensor,
        denoising: Denoising | None = None,
    ) -> PoseOutput:
        """Detect the groups' objects and, of each, the keypoints. Every sample must have at least one of both."""
        memory = self.grounding.encode(images_B3HW, pixel_mask_BHW, vectors_BMD, group_mask_BM)
        logits_BQM, boxes_BQ4 = self.grounding.propose(memory)
        queries = self.grounding.start(boxes_BQ4.detach(), denoising)
        objects, queries = self._find_objects(queries, memory)
        best_BQ = objects[-1].logits_BXM[:, queries.num_denoising :].detach().amax(-1)
        tokens = self._expand(queries, best_BQ, keypoints_BKD, keypoint_mask_BK, denoising)
        instances = self._find_instances(tokens, queries.num_denoising, memory)
        return PoseOutput(logits_BQM, boxes_BQ4, objects, instances, queries.num_denoising)

    def _find_objects(self, queries: Queries, memory: Memory) -> tuple[list[Found], Queries]:
        """Walk through the layers that see boxes alone."""
        grounding, found = self.grounding, []
        states_BQD, boxes_BQ4 = queries.states_BQD, queries.boxes_BQ4
        for layer in grounding.decoder.layers[: self.box_layers]:
            states_BQD = grounding.attend(layer, states_BQD, boxes_BQ4, queries.blocked_B1QQ, memory)
            normed_BQD = grounding.decoder.layer_norm(states_BQD)
            found.append(
                Found(grounding.classify(normed_BQD, memory), grounding.refine(normed_BQD, boxes_BQ4))
            )
            boxes_BQ4 = grounding.refine(states_BQD, boxes_BQ4).detach()
        return found, Queries(states_BQD, boxes_BQ4, queries.blocked_B1QQ, queries.num_denoising)

    def _expand(
        self,
        queries: Queries,
        best_BQ: torch.Tensor,
        keypoints_BKD: torch.Tensor,
        keypoint_mask_BK: torch.Tensor,
        denoising: Denoising | None,
    ) -> Tokens:
        """Choose the best objects and give each its keypoints' tokens; denoising queries go on as they are."""
        end = queries.num_denoising
        num_instances = min(self.num_instances, best_BQ.shape[1])
        chosen_BI1 = best_BQ.topk(num_instances, dim=1).indices[..., None]
        states_BID = queries.states_BQD[:, end:].gather(1, chosen_BI1.expand(-1, -1, self.width))
        boxes_BI4 = queries.boxes_BQ4[:, end:].gather(1, chosen_BI1.expand(-1, -1, 4))
        states_BXD = torch.cat([queries.states_BQD[:, :end], states_BID], 1)
        center_BI12, side_BI12 = boxes_BI4[:, :, None].split(2, -1)
        offset_B1K2, part_B1K2 = self.first_head(keypoints_BKD)[:, None].split(2, -1)
        allowed_BTT = visible_tokens(keypoint_mask_BK, num_instances, denoising)
        return Tokens(
            states_BTD=_join(states_BXD, keypoints_BKD[:, None].expand(-1, num_instances, -1, -1), end),
            blocked_B1TT=additive(~allowed_BTT, states_BXD.dtype)[:, None],
            boxes_BX4=torch.cat([queries.boxes_BQ4[:, :end], boxes_BI4], 1),
            points_BIK2=center_BI12 + offset_B1K2 * side_BI12,
            sizes_BIK2=part_B1K2.sigmoid() * side_BI12,
        )

    def _find_instances(self, tokens: Tokens, end: int, memory: Memory) -> list[Found]:
        """Walk through the layers that see instances."""
        grounding, found = self.grounding, []
        states_BTD, boxes_BX4 = tokens.states_BTD, tokens.boxes_BX4
        points_BIK2, sizes_BIK2 = tokens.points_BIK2, tokens.sizes_BIK2
        num_keypoints = points_BIK2.shape[2]
        for layer in grounding.decoder.layers[self.box_layers :]:
            reference_BT4 = _join(boxes_BX4, torch.cat([points_BIK2.detach(), sizes_BIK2], -1), end)
            states_BTD = grounding.attend(layer, states_BTD, reference_BT4, tokens.blocked_B1TT, memory)
            normed_BXD, normed_BIKD = _split(grounding.decoder.layer_norm(states_BTD), num_keypoints, end)
            # What the first layer adds to is not detached: only so the first places are taught.
            points_BIK2 = _shift(points_BIK2, self.point_head(normed_BIKD))
            # Nor are sizes. No loss compares them with anything; they learn by what the next layer sees with them.
            sizes_BIK2 = _shift(sizes_BIK2, self.size_head(normed_BIKD))
            logits_BXM = grounding.classify(normed_BXD, memory)
            found.append(Found(logits_BXM, grounding.refine(normed_BXD, boxes_BX4), points_BIK2))
            points_BIK2 = points_BIK2.detach()
            boxes_BX4 = grounding.refine(_split(states_BTD, num_keypoints, end)[0], boxes_BX4).detach()
        return found


def visible_tokens(
    keypoint_mask_BK: torch.Tensor, num_instances: int, denoising: Denoising | None
) -> torch.Tensor:
    """Return which token may see which, bool [B, T, T].

    A keypoint sees its own instance: the box and the keypoints that the sample asks for. A box sees the other boxes
    besides (ED-Pose, section 3.3). Denoising queries see their repeat and the instances' boxes, and are seen by no
    other. Everything sees itself, so that no row is empty.
    """
    num_samples, num_keypoints = keypoint_mask_BK.shape
    device = keypoint_mask_BK.device
    token_t = torch.arange(num_instances * (1 + num_keypoints), device=device)
    instance_t = token_t // (1 + num_keypoints)
    is_box_t = token_t % (1 + num_keypoints) == 0
    real_B1K = torch.cat([keypoint_mask_BK.new_ones((num_samples, 1)), keypoint_mask_BK], 1)[:, None]
    real_Bt = real_B1K.expand(-1, num_instances, -1).flatten(1)
    same_tt = instance_t[:, None] == instance_t[None]
    boxes_tt = is_box_t[:, None] & is_box_t[None]
    itself_tt = torch.eye(len(token_t), dtype=torch.bool, device=device)
    allowed_Btt = ((same_tt | boxes_tt) & real_Bt[:, None]) | itself_tt
    if denoising is None:
        return allowed_Btt
    end = denoising.valid_BJ.shape[1]
    allowed_BTT = allowed_Btt.new_zeros((num_samples, end + len(token_t), end + len(token_t)))
    allowed_BTT[:, :end, :end] = attention_mask(denoising, 0)
    allowed_BTT[:, :end, end:] = is_box_t
    allowed_BTT[:, end:, end:] = allowed_Btt
    return allowed_BTT


def _join(boxes_BXD: torch.Tensor, keypoints_BIKD: torch.Tensor, end: int) -> torch.Tensor:
    """Lay out tokens: the first `end` boxes, then each instance's box and keypoints, [B, T, D]."""
    instances = torch.cat([boxes_BXD[:, end:, None], keypoints_BIKD], 2)
    return torch.cat([boxes_BXD[:, :end], instances.flatten(1, 2)], 1)


def _split(tokens_BTD: torch.Tensor, num_keypoints: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Undo `_join`."""
    instances = tokens_BTD[:, end:].unflatten(1, (-1, 1 + num_keypoints))
    return torch.cat([tokens_BTD[:, :end], instances[:, :, 0]], 1), instances[:, :, 1:]


def _shift(values: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    return (torch.special.logit(values, eps=1e-5) + by).sigmoid()
