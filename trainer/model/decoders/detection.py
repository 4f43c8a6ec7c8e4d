"""The object decoder: Grounding DINO conditioned by super-link queries, with a mask head, its losses and its
predictions.

Shape suffixes: B samples, G groups of the batch, M groups of the sample with the most, N super-link queries,
C width of the language model, D width of the decoder, Q object queries, J denoising queries, X sets of
predictions, K matched pairs, P points, H W decoder image, h w its stride-4 map, n m objects of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMLPPredictionHead

from dataengine import tokens
from dataengine.errors import ModelError
from trainer import losses
from trainer.batch import Batch, ObjectTargets
from trainer.model.config import DetectionConfig
from trainer.model.decoders import DecoderLosses
from trainer.model.decoders.denoise import Denoising, make_denoising
from trainer.model.decoders.grounding import GroundingOutput, GroundingTransformer
from trainer.model.decoders.match import Matches, PaddedTargets, match, pad_targets
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


@dataclass(frozen=True)
class _Pairs:
    """Matched predictions of one set (a layer, the encoder, a layer's denoising queries), and what they
    should be.
    """

    set_K: torch.Tensor
    boxes_K4: torch.Tensor
    target_boxes_K4: torch.Tensor


class MaskHead(nn.Module):
    """Stride-4 mask features from the encoder's stride-8 map and the backbone's stride-4 map, and query
    embeddings on them.
    """

    def __init__(self, fine_width: int, coarse_width: int, mask_width: int) -> None:
        super().__init__()
        self.lateral = nn.Sequential(
            nn.Conv2d(fine_width, mask_width, kernel_size=1, bias=False), nn.GroupNorm(8, mask_width)
        )
        self.reduce = (
            nn.Identity()
            if coarse_width == mask_width
            else nn.Conv2d(coarse_width, mask_width, kernel_size=1)
        )
        self.merge = nn.Sequential(
            nn.Conv2d(mask_width, mask_width, kernel_size=3, padding=1, bias=False),
            nn.GroupNorm(8, mask_width),
            nn.ReLU(),
        )
        self.out = nn.Conv2d(mask_width, mask_width, kernel_size=1)
        self.embed = GroundingDinoMLPPredictionHead(coarse_width, coarse_width, mask_width, 3)

    def features(self, output: GroundingOutput) -> torch.Tensor:
        """Return [B, D, h, w] at stride 4."""
        fine_BDhw = self.lateral(output.fine_BDhw)
        coarse_BDhw = F.interpolate(
            self.reduce(output.coarse_BDhw), size=fine_BDhw.shape[-2:], mode="bilinear", align_corners=False
        )
        return self.out(self.merge(fine_BDhw + coarse_BDhw))


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
        known = set(DetectionConfig.__dataclass_fields__)
        unknown = sorted(set(options) - known)
        if unknown:
            raise ModelError(f"detection: unknown option {unknown[0]!r}, expected one of {sorted(known)!r}")
        try:
            config = msgspec.convert(dict(options), DetectionConfig)
        except msgspec.ValidationError as error:
            raise ModelError(f"detection: {error}; see DetectionConfig") from error
        return cls(config, language_width)

    def forward(self, hidden_GNC: torch.Tensor, batch: Batch, generator: torch.Generator) -> DecoderLosses:
        """Return the losses: classification, L1, GIoU, mask cross entropy and dice, summed over all decoder
        layers, the encoder's proposals ("_enc") and the denoising queries ("_dn").
        """
        images_B3HW, pixel_mask_BHW = _decoder_view(batch)
        if len(batch.targets) != len(batch.sample_ids):
            raise ModelError(
                f"{batch.sample_ids[0]}: batch has {len(batch.targets)} targets for {len(batch.sample_ids)} samples; "
                "collate one ObjectTargets a sample"
            )
        vectors_BMD, group_mask_BM = self._group_vectors(hidden_GNC, batch)
        _check_labels(batch.targets, group_mask_BM, batch.sample_ids)
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
        return self._losses(output, denoising, targets, batch, group_mask_BM, generator)

    @torch.no_grad()
    def predict(
        self, hidden_GNC: torch.Tensor, batch: Batch, *, top_k: int = 100, with_masks: bool = True
    ) -> list[ObjectPredictions]:
        """Return the `top_k` best pairs of query and group of each sample."""
        images_B3HW, pixel_mask_BHW = _decoder_view(batch)
        vectors_BMD, group_mask_BM = self._group_vectors(hidden_GNC, batch)
        output = self.transformer(images_B3HW, pixel_mask_BHW, vectors_BMD, group_mask_BM)
        feature_BDhw = self.mask_head.features(output) if with_masks else None
        inside_B2 = torch.stack([pixel_mask_BHW[:, :, 0].sum(1), pixel_mask_BHW[:, 0].sum(1)], 1).tolist()
        num_groups_B = group_mask_BM.sum(1).tolist()
        results = []
        for b, (inside, num_groups) in enumerate(zip(inside_B2, num_groups_B, strict=True)):
            height, width = batch.original_sizes[b] if batch.original_sizes else inside
            score_QM = output.logits[-1][b, :, :num_groups].float().sigmoid()
            scores_K, index_K = score_QM.flatten().topk(min(top_k, score_QM.numel()))
            query_K = torch.div(index_K, num_groups, rounding_mode="floor")
            scale_4 = scores_K.new_tensor([width, height, width, height])
            boxes_K4 = losses.to_xyxy(output.boxes[-1][b, query_K].float()).clamp(0, 1) * scale_4
            masks_KHW = None
            if feature_BDhw is not None:
                embedding_KD = self.mask_head.embed(output.queries[-1][b, query_K])
                logits_Khw = torch.einsum("kd,dhw->khw", embedding_KD, feature_BDhw[b]).float()
                masks_KHW = _to_original(logits_Khw, images_B3HW.shape[-2:], inside, (height, width))
            results.append(ObjectPredictions(boxes_K4, scores_K, index_K % num_groups, masks_KHW))
        return results

    def _group_vectors(self, hidden_GNC: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Project the groups and lay them out by sample: [B, M, D] and which of them exist [B, M]."""
        sample_G = batch.groups_G2[:, 0]
        num_groups_B = torch.bincount(sample_G, minlength=len(batch.sample_ids))
        for sample_id, count in zip(batch.sample_ids, num_groups_B.tolist(), strict=True):
            if not 1 <= count <= self.config.max_groups:
                raise ModelError(
                    f"{sample_id}: {count} routing tokens for the detection decoder, expected 1 to "
                    f"{self.config.max_groups}; split the class list"
                )
        first_B = num_groups_B.cumsum(0) - num_groups_B
        place_G = torch.arange(sample_G.shape[0], device=sample_G.device) - first_B[sample_G]
        vectors_GD = self.projection(hidden_GNC)
        most = int(num_groups_B.max())
        vectors_BMD = vectors_GD.new_zeros((len(batch.sample_ids), most, vectors_GD.shape[1]))
        vectors_BMD = vectors_BMD.index_put((sample_G, place_G), vectors_GD)
        return vectors_BMD, torch.arange(most, device=sample_G.device)[None] < num_groups_B[:, None]

    def _losses(
        self,
        output: GroundingOutput,
        denoising: Denoising | None,
        targets: PaddedTargets,
        batch: Batch,
        group_mask_BM: torch.Tensor,
        generator: torch.Generator,
    ) -> DecoderLosses:
        weights, num_layers, start = self.config.weights, len(output.logits), output.num_denoising
        # The sets of predictions: decoder layers 0 to L-1, then the encoder's proposals.
        all_logits_LBQM, all_boxes_LBQ4 = torch.stack(output.logits), torch.stack(output.boxes)
        logits_XBQM = torch.cat([all_logits_LBQM[:, :, start:], output.proposal_logits_BQM[None]])
        boxes_XBQ4 = torch.cat([all_boxes_LBQ4[:, :, start:], output.proposal_boxes_BQ4[None]])
        feature_BDhw = self.mask_head.features(output)
        masks, has_mask = _stack_masks(batch.targets)
        has_mask_Bn = _take_rows(has_mask, targets)
        queries_LBQD = torch.stack(output.queries)
        extra = None
        if self.config.costs.mask or self.config.costs.dice:
            extra = self._mask_costs(
                queries_LBQD[:, :, start:], feature_BDhw, masks, has_mask_Bn, targets, generator
            )
        matches = match(logits_XBQM, boxes_XBQ4, targets, self.config.costs, extra)
        num_boxes, num_masks = losses.mean_count(
            torch.stack([targets.valid_Bn.sum(), has_mask_Bn.sum()])
        ).unbind(0)

        # Classification: positives are the matched pairs; queries that lie in an ignored area are left out as
        # negatives.
        counted_XBQ = torch.ones(boxes_XBQ4.shape[:3], dtype=torch.bool, device=boxes_XBQ4.device)
        if any(len(target.ignore_m4) for target in batch.targets):
            counted_XBQ = ~_ignored(boxes_XBQ4.detach(), batch.targets)
        cls_X = _class_losses(logits_XBQM, counted_XBQ, matches, targets, group_mask_BM) / num_boxes
        pairs = _Pairs(
            matches.set_K,
            boxes_XBQ4[matches.set_K, matches.sample_K, matches.query_K],
            targets.boxes_Bn4[matches.sample_K, matches.target_K],
        )
        l1_X, giou_X = (sums / num_boxes for sums in _box_losses(pairs, num_layers + 1))
        table = {"cls": weights.cls * cls_X, "l1": weights.l1 * l1_X, "giou": weights.giou * giou_X}
        names = [*(str(layer) for layer in range(num_layers)), "enc"]

        # The decoder's matched pairs with masks; the encoder's proposals have none.
        keep = (matches.set_K < num_layers) & has_mask_Bn[matches.sample_K, matches.target_K]
        mask_pairs = [
            torch.stack(
                [matches.set_K, matches.sample_K, matches.query_K + start, matches.target_K, matches.set_K]
            )[:, keep]
        ]
        if denoising is not None:
            dn_set, dn_matches = _denoising_matches(denoising, num_layers)
            repeats = denoising.num_repeats
            dn_cls = _class_losses(
                all_logits_LBQM[:, :, :start],
                denoising.valid_BJ.expand(num_layers, -1, -1),
                dn_matches,
                targets,
                group_mask_BM,
            ) / (num_boxes * repeats)
            dn_pairs = _Pairs(
                dn_set,
                all_boxes_LBQ4[dn_set, dn_matches.sample_K, dn_matches.query_K],
                targets.boxes_Bn4[dn_matches.sample_K, dn_matches.target_K],
            )
            dn_l1, dn_giou = (sums / (num_boxes * repeats) for sums in _box_losses(dn_pairs, num_layers))
            table["cls"] = torch.cat([table["cls"], weights.cls * dn_cls])
            table["l1"] = torch.cat([table["l1"], weights.l1 * dn_l1])
            table["giou"] = torch.cat([table["giou"], weights.giou * dn_giou])
            names += [f"dn_{layer}" for layer in range(num_layers)]
            keep = has_mask_Bn[dn_matches.sample_K, dn_matches.target_K]
            mask_pairs.append(
                torch.stack(
                    [
                        dn_set,
                        dn_matches.sample_K,
                        dn_matches.query_K,
                        dn_matches.target_K,
                        dn_set + num_layers + 1,
                    ]
                )[:, keep]
            )

        layer_K, sample_K, query_K, target_K, set_K = torch.cat(mask_pairs, dim=1).unbind(0)
        embedding_KD = self.mask_head.embed(queries_LBQD[layer_K, sample_K, query_K])
        bce_K, dice_K = self._mask_losses(
            embedding_KD, feature_BDhw, sample_K, masks, targets.row_Bn[sample_K, target_K], generator
        )
        # Denoising repeats every target; each repeat counts for its share.
        share_K = torch.where(set_K > num_layers, 1 / (denoising.num_repeats if denoising else 1), 1.0)
        for name, weight, each_K in (("mask", weights.mask, bce_K), ("dice", weights.dice, dice_K)):
            sums = each_K.new_zeros(len(names)).index_add(0, set_K, each_K * share_K)
            table[name] = weight * sums / num_masks
        return _summarise(table, names, num_layers)

    def _mask_losses(
        self,
        embedding_KD: torch.Tensor,
        feature_BDhw: torch.Tensor,
        sample_K: torch.Tensor,
        masks_nHW: torch.Tensor,
        row_K: torch.Tensor,
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cross entropy and dice of each pair, [K], on points where its mask is uncertain."""
        if sample_K.shape[0] == 0:
            # Keep the head in the graph: a rank without masks must still give its parameters a gradient.
            nothing = embedding_KD.sum(1) + feature_BDhw.sum() * embedding_KD.new_zeros(0)
            return nothing, nothing
        logits_Khw = embedding_KD.new_empty((sample_K.shape[0], *feature_BDhw.shape[-2:]))
        order = sample_K.argsort(stable=True)
        counts = torch.bincount(sample_K, minlength=feature_BDhw.shape[0]).tolist()
        parts = [
            embedding_kD @ feature_Dhw.flatten(1)
            for embedding_kD, feature_Dhw in zip(embedding_KD[order].split(counts), feature_BDhw, strict=True)
        ]
        logits_Khw = torch.cat(parts)[order.argsort()].unflatten(1, feature_BDhw.shape[-2:])
        points_KP2 = losses.uncertain_points(logits_Khw, self.config.mask_points, generator)
        sampled_KP = losses.sample_logits(logits_Khw, points_KP2).float()
        wanted_KP = losses.sample_masks(masks_nHW, row_K, points_KP2)
        return losses.mask_bce(sampled_KP, wanted_KP), losses.dice(sampled_KP, wanted_KP)

    @torch.no_grad()
    def _mask_costs(
        self,
        queries_LBQD: torch.Tensor,
        feature_BDhw: torch.Tensor,
        masks_nHW: torch.Tensor,
        has_mask_Bn: torch.Tensor,
        targets: PaddedTargets,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Return the weighted mask costs [X, B, Q, n] at random points, the same ones for all queries and
        targets.

        The encoder's proposals, the last set, and targets without a mask cost nothing.
        """
        num_layers, num_samples, num_objects = queries_LBQD.shape[:3]
        points_12P = torch.rand(
            (1, self.config.mask_points, 2), generator=generator, device=generator.device
        ).to(feature_BDhw.device)
        embedding_LBQD = self.mask_head.embed(queries_LBQD)
        sampled_BDP = F.grid_sample(
            feature_BDhw, points_12P.expand(num_samples, -1, -1)[:, :, None] * 2 - 1, align_corners=False
        )[..., 0]
        logits_LBQP = torch.einsum("lbqd,bdp->lbqp", embedding_LBQD, sampled_BDP).float()
        cost = logits_LBQP.new_zeros((num_layers + 1, num_samples, num_objects, has_mask_Bn.shape[1]))
        if not has_mask_Bn.any():
            return cost
        row = targets.row_Bn[has_mask_Bn]
        wanted_BnP = logits_LBQP.new_zeros((*has_mask_Bn.shape, self.config.mask_points))
        wanted_BnP[has_mask_Bn] = losses.sample_masks(
            masks_nHW, row, points_12P.expand(row.shape[0], -1, -1)
        ).to(logits_LBQP.dtype)
        positive, negative = F.softplus(-logits_LBQP), F.softplus(logits_LBQP)
        bce = torch.einsum("lbqp,bnp->lbqn", positive, wanted_BnP)
        bce = (bce + torch.einsum("lbqp,bnp->lbqn", negative, 1 - wanted_BnP)) / self.config.mask_points
        probability = logits_LBQP.sigmoid()
        overlap = 2 * torch.einsum("lbqp,bnp->lbqn", probability, wanted_BnP) + 1
        dice = 1 - overlap / (probability.sum(-1)[..., None] + wanted_BnP.sum(-1)[:, None] + 1)
        total = self.config.costs.mask * bce + self.config.costs.dice * dice
        cost[:num_layers] = total * has_mask_Bn[:, None]
        return cost


def _decoder_view(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    if batch.images_B3HW is None or batch.pixel_mask_BHW is None:
        raise ModelError(
            f"{batch.sample_ids[0]}: batch has no decoder images, the detection decoder needs them; "
            "collate images_B3HW and pixel_mask_BHW"
        )
    return batch.images_B3HW, batch.pixel_mask_BHW.bool()


def _check_labels(
    targets: tuple[ObjectTargets, ...], group_mask_BM: torch.Tensor, ids: tuple[str, ...]
) -> None:
    for target, count, sample_id in zip(targets, group_mask_BM.sum(1).tolist(), ids, strict=True):
        if len(target.labels_n) and not 0 <= int(target.labels_n.min()) <= int(target.labels_n.max()) < count:
            raise ModelError(
                f"{sample_id}: target labels are {target.labels_n.unique().tolist()!r}, expected positions among its "
                f"{count} routing tokens; check how labels are mapped to routes"
            )


def _stack_masks(targets: tuple[ObjectTargets, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all masks [n, H, W], one sample after another, and which of them are real [n]."""
    return torch.cat([t.masks_nHW for t in targets]), torch.cat([t.has_mask_n.bool() for t in targets])


def _take_rows(values: torch.Tensor, targets: PaddedTargets) -> torch.Tensor:
    result = torch.zeros(targets.valid_Bn.shape, dtype=values.dtype, device=values.device)
    result[targets.valid_Bn] = values
    return result


def _ignored(boxes_XBQ4: torch.Tensor, targets: tuple[ObjectTargets, ...]) -> torch.Tensor:
    """Return which predicted boxes lie by more than half of their area in one ignored area, [X, B, Q]."""
    result = torch.zeros(boxes_XBQ4.shape[:3], dtype=torch.bool, device=boxes_XBQ4.device)
    for b, target in enumerate(targets):
        if len(target.ignore_m4):
            boxes_XQ14 = losses.to_xyxy(boxes_XBQ4[:, b, :, None])
            overlap_XQm = losses.intersections(boxes_XQ14, losses.to_xyxy(target.ignore_m4))
            result[:, b] = (overlap_XQm > 0.5 * losses.box_areas(boxes_XQ14)).any(-1)
    return result


def _class_losses(
    logits_XBQM: torch.Tensor,
    counted_XBQ: torch.Tensor,
    matches: Matches,
    targets: PaddedTargets,
    group_mask_BM: torch.Tensor,
) -> torch.Tensor:
    """Return the focal loss summed over samples, queries and existing groups, [X].

    Queries that are not counted add nothing unless they are matched.
    """
    where = (matches.set_K, matches.sample_K, matches.query_K)
    labels_K = targets.labels_Bn[matches.sample_K, matches.target_K]
    wanted_XBQM = torch.zeros_like(logits_XBQM, dtype=torch.float32)
    wanted_XBQM[(*where, labels_K)] = 1.0
    counted_XBQ = counted_XBQ.clone()
    counted_XBQ[where] = True
    # Groups that do not exist have logits of -inf; they are replaced first, since inf * 0 is not 0.
    logits_XBQM = logits_XBQM.float().masked_fill(~group_mask_BM[:, None], 0.0)
    focal_XBQM = losses.sigmoid_focal(logits_XBQM, wanted_XBQM)
    return (focal_XBQM * (counted_XBQ[..., None] & group_mask_BM[:, None])).sum((1, 2, 3))


def _box_losses(pairs: _Pairs, num_sets: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums of L1 and of 1 - GIoU over the pairs of each set, [X] each."""
    boxes_K4 = pairs.boxes_K4.float()
    l1_K = (boxes_K4 - pairs.target_boxes_K4).abs().sum(-1)
    giou_K = 1 - losses.generalized_iou(losses.to_xyxy(boxes_K4), losses.to_xyxy(pairs.target_boxes_K4))
    zeros_X = l1_K.new_zeros(num_sets)
    return zeros_X.index_add(0, pairs.set_K, l1_K), zeros_X.index_add(0, pairs.set_K, giou_K)


def _denoising_matches(denoising: Denoising, num_layers: int) -> tuple[torch.Tensor, Matches]:
    """Return the pairs that denoising knows without matching, for each decoder layer."""
    sample_k, query_k = denoising.positive_BJ.nonzero(as_tuple=True)
    target_k = denoising.target_BJ[sample_k, query_k]
    layer_K = torch.arange(num_layers, device=sample_k.device).repeat_interleave(sample_k.shape[0])
    repeated = [values.repeat(num_layers) for values in (sample_k, query_k, target_k)]
    return layer_K, Matches(layer_K, *repeated)


def _summarise(table: dict[str, torch.Tensor], names: list[str], num_layers: int) -> DecoderLosses:
    """Sum each term over decoder layers, and over denoising; list every single value as detail."""
    terms: dict[str, torch.Tensor] = {}
    detail: dict[str, torch.Tensor] = {}
    for term, values_X in table.items():
        terms[term] = values_X[:num_layers].sum()
        if term not in ("mask", "dice"):
            terms[f"{term}_enc"] = values_X[num_layers]
        if len(names) > num_layers + 1:
            terms[f"{term}_dn"] = values_X[num_layers + 1 :].sum()
        for name, value in zip(names, values_X.detach(), strict=True):
            if not (name == "enc" and term in ("mask", "dice")):
                detail[f"{term}_{name}"] = value
    return DecoderLosses(terms, detail)


def _to_original(
    logits_Khw: torch.Tensor, padded: torch.Size, inside: list[int], original: tuple[int, int] | list[int]
) -> torch.Tensor:
    """Resize mask logits to the padded decoder image, cut the padding, resize to the original picture,
    threshold at .5.
    """
    logits_KHW = F.interpolate(logits_Khw[:, None], size=tuple(padded), mode="bilinear", align_corners=False)
    logits_KHW = logits_KHW[..., : inside[0], : inside[1]]
    return F.interpolate(logits_KHW, size=tuple(original), mode="bilinear", align_corners=False)[:, 0] > 0
