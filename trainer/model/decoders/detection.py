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
from trainer.model.config import DetectionConfig, read_options
from trainer.model.decoders import DecoderLosses
from trainer.model.decoders.denoise import make_denoising
from trainer.model.decoders.grounding import GroundingTransformer
from trainer.model.decoders.inputs import by_sample, check_groups, check_targets, decoder_view, inside
from trainer.model.decoders.masks import MaskHead
from trainer.model.decoders.match import pad_targets
from trainer.model.decoders.objective import objective
from trainer.model.superlink import PerceptionProjection


@dataclass(frozen=True)
class ObjectPredictions:
    """The objects found in one sample, best first.

    `boxes_K4` are xyxy pixels of the original picture, `scores_K` in [0, 1], `labels_K` positions among the
    sample's groups (the order of its routing tokens); `masks_KHW` bool on the original picture, or None where
    none were asked for.
    """

    boxes_K4: torch.Tensor
    scores_K: torch.Tensor
    labels_K: torch.Tensor
    masks_KHW: torch.Tensor | None


class DetectionDecoder(nn.Module):
    """Finds the objects of each group: category, expression or region."""

    family = "detection"
    tokens = (tokens.DET, tokens.GRD, tokens.SEG)

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
        return cls(read_options(cls.family, options, DetectionConfig), language_width)

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
        self, hidden_GNC: torch.Tensor, batch: Batch, *, top_k: int = 100, with_masks: bool = True
    ) -> list[ObjectPredictions]:
        """Return the `top_k` best pairs of query and group of each sample."""
        images_B3HW, pixel_mask_BHW = decoder_view(batch)
        vectors_BMD, group_mask_BM = self._group_vectors(hidden_GNC, batch)
        output = self.transformer(images_B3HW, pixel_mask_BHW, vectors_BMD, group_mask_BM)
        feature_BDhw = self.mask_head.features(output) if with_masks else None
        num_groups_B = group_mask_BM.sum(1).tolist()
        results = []
        for b, (size, num_groups) in enumerate(
            zip(inside(pixel_mask_BHW).tolist(), num_groups_B, strict=True)
        ):
            height, width = batch.original_sizes[b] if batch.original_sizes else size
            score_QM = output.logits[-1][b, :, :num_groups].float().sigmoid()
            scores_K, index_K = score_QM.flatten().topk(min(top_k, score_QM.numel()))
            query_K = torch.div(index_K, num_groups, rounding_mode="floor")
            scale_4 = scores_K.new_tensor([width, height, width, height])
            boxes_K4 = losses.to_xyxy(output.boxes[-1][b, query_K].float()).clamp(0, 1) * scale_4
            masks_KHW = None
            if feature_BDhw is not None:
                embedding_KD = self.mask_head.embed(output.queries[-1][b, query_K])
                logits_Khw = torch.einsum("kd,dhw->khw", embedding_KD, feature_BDhw[b]).float()
                masks_KHW = _to_original(logits_Khw, images_B3HW.shape[-2:], size, (height, width))
            results.append(ObjectPredictions(boxes_K4, scores_K, index_K % num_groups, masks_KHW))
        return results

    def _group_vectors(self, hidden_GNC: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Project the groups and lay them out by sample: [B, M, D] and which of them exist [B, M]."""
        sample_G = batch.groups_G2[:, 0]
        check_groups(batch, sample_G, self.config.max_groups, "the detection decoder")
        return by_sample(self.projection(hidden_GNC), sample_G, len(batch.sample_ids))


def _to_original(
    logits_Khw: torch.Tensor, padded: torch.Size, inside: list[int], original: tuple[int, int] | list[int]
) -> torch.Tensor:
    """Resize mask logits to the padded decoder image, cut the padding, resize to the original picture,
    threshold at .5.
    """
    logits_KHW = F.interpolate(logits_Khw[:, None], size=tuple(padded), mode="bilinear", align_corners=False)
    logits_KHW = logits_KHW[..., : inside[0], : inside[1]]
    return F.interpolate(logits_KHW, size=tuple(original), mode="bilinear", align_corners=False)[:, 0] > 0
