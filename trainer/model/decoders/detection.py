"""The object decoder: Grounding DINO conditioned by super-link queries, with a mask head, its losses and its
predictions.

Shape suffixes: B samples, G groups of the batch, M groups of the sample with the most, N super-link queries,
C width of the language model, D width of the decoder, Q object queries, K predictions, H W a picture, h w
stride-4 map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from dataengine import tokens
from trainer import losses
from trainer.batch import Batch
from trainer.model.config import DetectionConfig
from trainer.model.decoders import DecoderLosses
from trainer.model.decoders.denoise import make_denoising
from trainer.model.decoders.grounding import GroundingTransformer
from trainer.model.decoders.inputs import by_sample, check_groups, check_targets, decoder_view, inside
from trainer.model.decoders.masks import MaskHead
from trainer.model.decoders.match import pad_targets
from trainer.model.decoders.objective import objective
from trainer.model.options import read
from trainer.model.superlink import PerceptionProjection

GROUPS_AT_ONCE = 16  # of a label map


@dataclass(frozen=True)
class ObjectPredictions:
    """The objects found in one sample, best first.

    `boxes_K4` are xyxy pixels of the original picture, `scores_K` in [0, 1], `labels_K` positions among the
    sample's groups (the order of its routing tokens); `masks_KHW` bool on the original picture, or None where
    none were asked for. A label map, where it was asked for, is `classes_HW`, the group of each pixel, and
    `class_scores_HW`, how much speaks for it.
    """

    boxes_K4: torch.Tensor
    scores_K: torch.Tensor
    labels_K: torch.Tensor
    masks_KHW: torch.Tensor | None
    classes_HW: torch.Tensor | None = None
    class_scores_HW: torch.Tensor | None = None


class DetectionDecoder(nn.Module):
    """Finds the objects of each group: category, expression or region."""

    family = "detection"
    tokens = (tokens.DET, tokens.GRD, tokens.SEG)
    options = DetectionConfig

    def __init__(self, config: DetectionConfig, language_width: int) -> None:
        super().__init__()
        self.config = config
        self.num_queries = config.num_queries
        self.transformer = GroundingTransformer(config)
        self.projection = PerceptionProjection(language_width, config.link_width, self.transformer.width)
        self.mask_head = MaskHead(
            self.transformer.backbone.channels[0], self.transformer.width, config.mask_width
        )

    @classmethod
    def build(cls, options: Mapping[str, Any], language_width: int) -> DetectionDecoder:
        """Build from the fields of DetectionConfig; raises ModelError for unknown or ill-typed ones."""
        return cls(read(DetectionConfig, options, "detection"), language_width)

    def forward(self, hidden_GNC: torch.Tensor, batch: Batch, generator: torch.Generator) -> DecoderLosses:
        """Return the losses: classification, L1, GIoU, mask cross entropy and dice, summed over all decoder
        layers, the encoder's proposals ("_enc") and the denoising queries ("_dn").
        """
        images_B3HW, pixel_mask_BHW = decoder_view(batch)
        vectors_BMD, group_mask_BM = self._group_vectors(hidden_GNC, batch)
        check_targets(batch, group_mask_BM)
        targets = pad_targets(batch.targets)
        denoising = make_denoising(
            targets,
            vectors_BMD,
            group_mask_BM.sum(1),
            num_positive=self.config.denoising,
            label_noise=self.config.label_noise,
            box_noise=self.config.box_noise,
            generator=generator,
        )
        output = self.transformer(images_B3HW, pixel_mask_BHW, vectors_BMD, group_mask_BM, denoising)
        return objective(
            output,
            denoising,
            targets,
            batch.targets,
            group_mask_BM,
            self.mask_head,
            self.config,
            generator,
            None if batch.whole is None else batch.whole.counts_5[1:3],
        )

    @torch.no_grad()
    def predict(
        self,
        hidden_GNC: torch.Tensor,
        batch: Batch,
        *,
        top_k: int = 100,
        min_score: float = 0.0,
        with_masks: bool = True,
        label_map: bool = False,
    ) -> list[ObjectPredictions]:
        """Return the `top_k` best pairs of query and group of each sample, without those below `min_score`, and its
        label map where asked.

        Of a [GRD] token, which asks for something that is there, the best one is kept whatever its score.
        """
        images_B3HW, pixel_mask_BHW = decoder_view(batch)
        vectors_BMD, group_mask_BM = self._group_vectors(hidden_GNC, batch)
        output = self.transformer(images_B3HW, pixel_mask_BHW, vectors_BMD, group_mask_BM)
        feature_BDhw = self.mask_head.features(output) if with_masks or label_map else None
        num_groups_B = group_mask_BM.sum(1).tolist()
        group_tokens: list[list[str]] = [[] for _ in batch.sample_ids]
        for sample, token in zip(batch.groups_G2[:, 0].tolist(), batch.group_tokens, strict=True):
            group_tokens[sample].append(token)
        results = []
        for b, (size, num_groups) in enumerate(
            zip(inside(pixel_mask_BHW).tolist(), num_groups_B, strict=True)
        ):
            height, width = batch.original_sizes[b] if batch.original_sizes else size
            score_QM = output.logits[-1][b, :, :num_groups].float().sigmoid()
            scores_K, index_K = score_QM.flatten().topk(min(top_k, score_QM.numel()))
            kept_K = (scores_K >= min_score) | _best_of_grounded(index_K % num_groups, group_tokens[b])
            scores_K, index_K = scores_K[kept_K], index_K[kept_K]
            query_K = torch.div(index_K, num_groups, rounding_mode="floor")
            scale_4 = scores_K.new_tensor([width, height, width, height])
            boxes_K4 = losses.to_xyxy(output.boxes[-1][b, query_K].float()).clamp(0, 1) * scale_4
            masks_KHW = None
            if with_masks and feature_BDhw is not None:
                embedding_KD = self.mask_head.embed(output.queries[-1][b, query_K])
                logits_Khw = torch.einsum("kd,dhw->khw", embedding_KD, feature_BDhw[b]).float()
                masks_KHW = _to_original(logits_Khw, images_B3HW.shape[-2:], size, (height, width))
            maps = ()
            if label_map and feature_BDhw is not None:
                embedding_QD = self.mask_head.embed(output.queries[-1][b])
                mask_Qhw = torch.einsum("qd,dhw->qhw", embedding_QD, feature_BDhw[b]).float().sigmoid()
                maps = vote(score_QM, mask_Qhw, images_B3HW.shape[-2:], size, (height, width))
            results.append(ObjectPredictions(boxes_K4, scores_K, index_K % num_groups, masks_KHW, *maps))
        return results

    def _group_vectors(self, hidden_GNC: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Project the groups and lay them out by sample: [B, M, D] and which of them exist [B, M]."""
        sample_G = batch.groups_G2[:, 0]
        check_groups(batch, sample_G, self.config.max_groups, "the detection decoder")
        return by_sample(self.projection(hidden_GNC), sample_G, len(batch.sample_ids))


def _best_of_grounded(labels_K: torch.Tensor, group_tokens: list[str]) -> torch.Tensor:
    """Return which of some predictions, best first, is the first of its [GRD] token, bool [K]."""
    first_K = torch.zeros_like(labels_K, dtype=torch.bool)
    for label, token in enumerate(group_tokens):
        places = (labels_K == label).nonzero()
        if token == tokens.GRD and len(places):
            first_K[places[0]] = True
    return first_K


def vote(
    score_QM: torch.Tensor,
    mask_Qhw: torch.Tensor,
    padded: torch.Size,
    inside: list[int],
    original: tuple[int, int] | list[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the group of each pixel of the original picture and how much speaks for it: over all queries, the sum of
    its probability times that of the query's mask.

    The sum is taken at stride 4 and then resized, a few groups at a time: all of them on a large picture, or all
    queries, would not fit into memory.
    """
    best_HW = torch.full(tuple(original), -1.0, device=mask_Qhw.device)
    class_HW = torch.zeros(tuple(original), dtype=torch.int64, device=mask_Qhw.device)
    for first in range(0, score_QM.shape[1], GROUPS_AT_ONCE):
        sum_Mhw = torch.einsum("qm,qhw->mhw", score_QM[:, first : first + GROUPS_AT_ONCE], mask_Qhw)
        top_HW, place_HW = _resized(sum_Mhw, padded, inside, original).max(0)
        better_HW = top_HW > best_HW
        best_HW = torch.where(better_HW, top_HW, best_HW)
        class_HW = torch.where(better_HW, place_HW + first, class_HW)
    return class_HW, best_HW


def _to_original(
    logits_Khw: torch.Tensor, padded: torch.Size, inside: list[int], original: tuple[int, int] | list[int]
) -> torch.Tensor:
    """Resize mask logits as `_resized` does, threshold at .5.

    One mask after the other: the logits of a hundred on a large photograph are gigabytes.
    """
    masks_KHW = torch.zeros((len(logits_Khw), *original), dtype=torch.bool, device=logits_Khw.device)
    for mask_HW, logits_hw in zip(masks_KHW, logits_Khw, strict=True):
        mask_HW[:] = _resized(logits_hw[None], padded, inside, original)[0] > 0
    return masks_KHW


def _resized(
    maps_Khw: torch.Tensor, padded: torch.Size, inside: list[int], original: tuple[int, int] | list[int]
) -> torch.Tensor:
    """Resize maps to the padded decoder image, cut the padding, resize to the original picture."""
    maps_KHW = F.interpolate(maps_Khw[:, None], size=tuple(padded), mode="bilinear", align_corners=False)
    maps_KHW = maps_KHW[..., : inside[0], : inside[1]]
    return F.interpolate(maps_KHW, size=tuple(original), mode="bilinear", align_corners=False)[:, 0]
