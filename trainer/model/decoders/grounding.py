"""Grounding DINO's transformer with class vectors in place of text features (Liu et al. 2023; VisionLLM v2,
appendix B.2).

The layers are those of transformers; the walk through them is written out here, because class vectors,
denoising queries and the mask head need what the packaged forward does not give.

Shape suffixes: B images, D width, M groups (categories) of a sample, F positions of all levels, V levels, Q
queries (J denoising ones before the object ones), H W image, h w map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig
from transformers.models.grounding_dino.modeling_grounding_dino import (
    GroundingDinoBiMultiHeadAttention,
    GroundingDinoDecoder,
    GroundingDinoEncoder,
    GroundingDinoMLPPredictionHead,
    GroundingDinoMultiscaleDeformableAttention,
    build_position_encoding,
    encode_sinusoidal_position_embedding,
)

from dataengine.errors import ModelError
from trainer.model.config import GroundingConfig
from trainer.model.decoders.backbone import ConvBackbone, build_swin
from trainer.model.decoders.denoise import Denoising, attention_mask


@dataclass(frozen=True)
class GroundingOutput:
    """One entry a decoder layer, first to last. Boxes are cxcywh in [0, 1] of the image without padding.

    `queries`, `logits` and `boxes` hold the denoising queries (`num_denoising` of them) before the object
    queries. Logits of groups that do not exist are -inf. The encoder's proposals are the ones that became
    object queries. `fine_BDhw` (stride 4) comes from the backbone, `coarse_BDhw` (stride 8) from the encoder.
    """

    queries: list[torch.Tensor]
    logits: list[torch.Tensor]
    boxes: list[torch.Tensor]
    num_denoising: int
    proposal_logits_BQM: torch.Tensor
    proposal_boxes_BQ4: torch.Tensor
    fine_BDhw: torch.Tensor
    coarse_BDhw: torch.Tensor


@dataclass(frozen=True)
class Levels:
    """The flattened maps: features, which positions are picture, position embeddings, sizes, share of each
    level in use.
    """

    feature_BFD: torch.Tensor
    real_BF: torch.Tensor
    position_BFD: torch.Tensor
    sizes: list[tuple[int, int]]
    sizes_V2: torch.Tensor
    starts_V: torch.Tensor
    ratios_BV2: torch.Tensor


@dataclass(frozen=True)
class Memory:
    """What the encoder made of pictures and groups: all that the decoder's layers look at.

    `fine_BDhw` (stride 4) comes from the backbone, past the encoder.
    """

    picture_BFD: torch.Tensor
    groups_BMD: torch.Tensor
    group_mask_BM: torch.Tensor
    levels: Levels
    fine_BDhw: torch.Tensor


@dataclass(frozen=True)
class Queries:
    """What a decoder layer starts from; `blocked_B1QQ` is added to the scores of self-attention, if there is any.

    `num_denoising` queries stand before the others.
    """

    states_BQD: torch.Tensor
    boxes_BQ4: torch.Tensor
    blocked_B1QQ: torch.Tensor | None
    num_denoising: int


class GroundingTransformer(nn.Module):
    """Backbone, fusion encoder, two-stage query selection and decoder."""

    def __init__(self, config: GroundingConfig) -> None:
        super().__init__()
        parts = _load(config) if config.pretrained else _build(config)
        # Read sizes from the parts' own configuration: with pretrained weights it is the one that holds.
        self.settings: GroundingDinoConfig = parts["encoder"].config
        self.width: int = self.settings.d_model
        self.calibrated = config.calibrated
        self.backbone = parts["backbone"]
        self.input_projections = parts["input_projections"]
        self.position_encoding = build_position_encoding(self.settings)
        self.level_embedding = parts["level_embedding"]
        self.encoder = parts["encoder"]
        self.proposal_projection = parts["proposal_projection"]
        self.proposal_norm = parts["proposal_norm"]
        self.proposal_box_head = parts["proposal_box_head"]
        self.object_queries = parts["object_queries"]
        self.decoder = parts["decoder"]
        self.box_head = parts["box_head"]
        if config.calibrated:
            # A vector: ranks that share a model cannot slice a scalar.
            self.class_bias = nn.Parameter(torch.tensor([-math.log(99.0)]))

    def forward(
        self,
        images_B3HW: torch.Tensor,
        pixel_mask_BHW: torch.Tensor,
        vectors_BMD: torch.Tensor,
        group_mask_BM: torch.Tensor,
        denoising: Denoising | None = None,
    ) -> GroundingOutput:
        """Detect the groups' objects. Every sample must have at least one group; see GroundingOutput."""
        memory = self.encode(images_B3HW, pixel_mask_BHW, vectors_BMD, group_mask_BM)
        proposal_logits_BQM, proposal_boxes_BQ4 = self.propose(memory)
        start = self.start(proposal_boxes_BQ4.detach(), denoising)
        states_BQD, boxes_BQ4 = start.states_BQD, start.boxes_BQ4
        queries, logits, boxes = [], [], []
        for layer in self.decoder.layers:
            states_BQD = self.attend(layer, states_BQD, boxes_BQ4, start.blocked_B1QQ, memory)
            normed_BQD = self.decoder.layer_norm(states_BQD)
            queries.append(normed_BQD)
            logits.append(self.classify(normed_BQD, memory))
            boxes.append(self.refine(normed_BQD, boxes_BQ4))
            boxes_BQ4 = self.refine(states_BQD, boxes_BQ4).detach()

        height, width = memory.levels.sizes[0]
        coarse_BDhw = memory.picture_BFD[:, : height * width].transpose(1, 2).unflatten(2, (height, width))
        return GroundingOutput(
            queries,
            logits,
            boxes,
            start.num_denoising,
            proposal_logits_BQM,
            proposal_boxes_BQ4,
            memory.fine_BDhw,
            coarse_BDhw,
        )

    def encode(
        self,
        images_B3HW: torch.Tensor,
        pixel_mask_BHW: torch.Tensor,
        vectors_BMD: torch.Tensor,
        group_mask_BM: torch.Tensor,
    ) -> Memory:
        """Fuse the pictures and the groups' vectors with each other."""
        maps = self.backbone(images_B3HW)
        levels = self._flatten(maps[1:], pixel_mask_BHW)
        # All groups of a sample see each other and stand at positions 0, 1, ...: no sentence structure is
        # left.
        visible_BMM = group_mask_BM[:, None] & group_mask_BM[:, :, None]
        visible_BMM = visible_BMM | torch.eye(
            group_mask_BM.shape[1], dtype=torch.bool, device=images_B3HW.device
        )
        encoded = self.encoder(
            vision_features=levels.feature_BFD,
            vision_attention_mask=~levels.real_BF,
            vision_position_embedding=levels.position_BFD,
            spatial_shapes=levels.sizes_V2,
            spatial_shapes_list=levels.sizes,
            level_start_index=levels.starts_V,
            valid_ratios=levels.ratios_BV2,
            text_features=vectors_BMD,
            text_attention_mask=~group_mask_BM,
            text_self_attention_masks=~visible_BMM,
            text_position_ids=None,
            return_dict=True,
        )
        return Memory(
            picture_BFD=encoded.last_hidden_state_vision,
            groups_BMD=encoded.last_hidden_state_text,
            group_mask_BM=group_mask_BM,
            levels=levels,
            fine_BDhw=maps[0],
        )

    def classify(self, states_BQD: torch.Tensor, memory: Memory) -> torch.Tensor:
        """Return the logit of each state for each group, [B, Q, M]; -inf for groups that do not exist."""
        logits_BQM = states_BQD @ memory.groups_BMD.transpose(1, 2)
        if self.calibrated:
            logits_BQM = logits_BQM / math.sqrt(self.width) + self.class_bias
        return logits_BQM.masked_fill(~memory.group_mask_BM[:, None], -torch.inf)

    def propose(self, memory: Memory) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits [B, Q, M] and boxes [B, Q, 4] of the best positions of the pictures (first stage)."""
        proposal_BFD, anchor_BF4, usable_BF = self._proposals(memory.picture_BFD, memory.levels)
        logits_BFM = self.classify(proposal_BFD, memory)
        boxes_BF4 = (self.proposal_box_head(proposal_BFD) + anchor_BF4).sigmoid()
        best_BF = logits_BFM.detach().amax(-1).masked_fill(~usable_BF, -torch.inf)
        chosen_BQ1 = best_BF.topk(self._num_objects(memory.levels), dim=1).indices[..., None]
        chosen_logits_BQM = logits_BFM.gather(1, chosen_BQ1.expand(-1, -1, logits_BFM.shape[2]))
        return chosen_logits_BQM, boxes_BF4.gather(1, chosen_BQ1.expand(-1, -1, 4))

    def start(self, boxes_BQ4: torch.Tensor, denoising: Denoising | None) -> Queries:
        """Return learned contents at the proposed boxes, with denoising queries before them (second stage)."""
        num_objects = boxes_BQ4.shape[1]
        states_BQD = self.object_queries.weight[:num_objects].expand(boxes_BQ4.shape[0], -1, -1)
        if denoising is None:
            return Queries(states_BQD, boxes_BQ4, None, 0)
        states_BQD = torch.cat([denoising.content_BJD, states_BQD], dim=1)
        boxes_BQ4 = torch.cat([denoising.boxes_BJ4, boxes_BQ4], dim=1)
        blocked_B1QQ = additive(~attention_mask(denoising, num_objects), states_BQD.dtype)[:, None]
        return Queries(states_BQD, boxes_BQ4, blocked_B1QQ, denoising.boxes_BJ4.shape[1])

    def attend(
        self,
        layer: nn.Module,
        states_BQD: torch.Tensor,
        boxes_BQ4: torch.Tensor,
        blocked_B1QQ: torch.Tensor | None,
        memory: Memory,
    ) -> torch.Tensor:
        """Return the states after one decoder layer, before the decoder's norm."""
        levels = memory.levels
        reference_BQV4 = boxes_BQ4[:, :, None] * levels.ratios_BV2.repeat(1, 1, 2)[:, None]
        position_BQD = self.decoder.reference_points_head(
            encode_sinusoidal_position_embedding(
                reference_BQV4[:, :, 0], num_pos_feats=self.settings.d_model // 2
            )
        )
        return layer(
            hidden_states=states_BQD,
            position_embeddings=position_BQD,
            reference_points=reference_BQV4,
            spatial_shapes=levels.sizes_V2,
            spatial_shapes_list=levels.sizes,
            level_start_index=levels.starts_V,
            vision_encoder_hidden_states=memory.picture_BFD,
            vision_encoder_attention_mask=levels.real_BF,
            text_encoder_hidden_states=memory.groups_BMD,
            text_encoder_attention_mask=additive(~memory.group_mask_BM, states_BQD.dtype)[:, None, None],
            self_attn_mask=blocked_B1QQ,
        )[0]

    def refine(self, states_BQD: torch.Tensor, boxes_BQ4: torch.Tensor) -> torch.Tensor:
        """Return the boxes moved by what the states say.

        A layer's boxes come from its states after the norm; the next layer starts from the refinement of those before
        it, as pretrained weights expect.
        """
        return (self.box_head(states_BQD) + torch.special.logit(boxes_BQ4, eps=1e-5)).sigmoid()

    def _num_objects(self, levels: Levels) -> int:
        # A picture smaller than expected may have fewer positions than object queries.
        return min(self.settings.num_queries, levels.feature_BFD.shape[1])

    def _flatten(self, maps: list[torch.Tensor], pixel_mask_BHW: torch.Tensor) -> Levels:
        """Project the maps (strides 8, 16, 32, then further strided ones) to one sequence."""
        features = [project(feature) for project, feature in zip(self.input_projections, maps, strict=False)]
        source = maps[-1]
        for project in list(self.input_projections)[len(maps) :]:
            source = project(source)
            features.append(source)
        flat, real, positions, sizes, ratios = [], [], [], [], []
        for level, feature_BDhw in enumerate(features):
            height, width = feature_BDhw.shape[-2:]
            mask_Bhw = F.interpolate(pixel_mask_BHW[None].float(), size=(height, width))[0].bool()
            position_BDhw = self.position_encoding(feature_BDhw, mask_Bhw).to(feature_BDhw.dtype)
            flat.append(feature_BDhw.flatten(2).transpose(1, 2))
            real.append(mask_Bhw.flatten(1))
            positions.append(position_BDhw.flatten(2).transpose(1, 2) + self.level_embedding[level])
            sizes.append((height, width))
            in_use = torch.stack([mask_Bhw[:, 0].sum(1) / width, mask_Bhw[:, :, 0].sum(1) / height], -1)
            ratios.append(in_use.to(feature_BDhw.dtype))
        sizes_V2 = torch.tensor(sizes, device=pixel_mask_BHW.device)
        areas_V = sizes_V2.prod(1)
        return Levels(
            torch.cat(flat, 1),
            torch.cat(real, 1),
            torch.cat(positions, 1),
            sizes,
            sizes_V2,
            areas_V.cumsum(0) - areas_V,
            torch.stack(ratios, 1),
        )

    def _proposals(
        self, memory_BFD: torch.Tensor, levels: Levels
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return for each position its proposal feature, its anchor as logits of cxcywh, and whether it may
        be chosen.

        Anchors are centred on the position and 5 % of the image wide on the finest level, twice that on each
        next.
        """
        anchors = []
        for level, (height, width) in enumerate(levels.sizes):
            y, x = torch.meshgrid(
                torch.arange(height, device=memory_BFD.device) + 0.5,
                torch.arange(width, device=memory_BFD.device) + 0.5,
                indexing="ij",
            )
            center_1F2 = torch.stack([x / width, y / height], -1).reshape(1, -1, 2)
            center_BF2 = center_1F2 / levels.ratios_BV2[:, None, level].float()
            anchors.append(torch.cat([center_BF2, torch.full_like(center_BF2, 0.05 * 2.0**level)], -1))
        anchor_BF4 = torch.cat(anchors, 1)
        usable_BF = ((anchor_BF4 > 0.01) & (anchor_BF4 < 0.99)).all(-1) & levels.real_BF
        anchor_BF4 = torch.logit(anchor_BF4).masked_fill(~usable_BF[..., None], torch.inf)
        feature_BFD = memory_BFD * usable_BF[..., None]
        return self.proposal_norm(self.proposal_projection(feature_BFD)), anchor_BF4, usable_BF


def additive(blocked: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to attention scores so that blocked places get no weight."""
    return torch.zeros(blocked.shape, dtype=dtype, device=blocked.device).masked_fill(
        blocked, torch.finfo(dtype).min
    )


def _build(config: GroundingConfig) -> dict[str, nn.Module]:
    """Build the parts with random weights, initialised as Grounding DINO's authors do (Xavier in the
    transformer).
    """
    if config.d_model % 32:
        raise ModelError(
            f"detection: d_model {config.d_model!r} is not a multiple of 32; choose one (group norm of 32 groups)"
        )
    swin = SwinConfig(
        embed_dim=config.backbone_width,
        depths=list(config.swin_depths),
        num_heads=list(config.swin_heads),
        window_size=config.swin_window,
        out_indices=[2, 3, 4],
    )
    settings = GroundingDinoConfig(
        backbone_config=swin,
        num_queries=config.num_objects,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_ffn_dim=config.ffn_dim,
        decoder_ffn_dim=config.ffn_dim,
        encoder_attention_heads=config.num_heads,
        decoder_attention_heads=config.num_heads,
        d_model=config.d_model,
        dropout=config.dropout,
        fusion_droppath=config.drop_path,
        num_feature_levels=config.num_levels,
        encoder_n_points=config.num_points,
        decoder_n_points=config.num_points,
        max_text_len=config.max_groups,
    )
    width = config.d_model
    backbone = (
        ConvBackbone(config.backbone_width) if config.backbone == "conv" else build_swin(swin.to_dict())
    )
    channels = backbone.channels[1:]
    projections = [
        nn.Sequential(nn.Conv2d(count, width, kernel_size=1), nn.GroupNorm(32, width)) for count in channels
    ]
    before = channels[-1]
    for _ in range(config.num_levels - len(channels)):
        projections.append(
            nn.Sequential(
                nn.Conv2d(before, width, kernel_size=3, stride=2, padding=1), nn.GroupNorm(32, width)
            )
        )
        before = width
    parts = {
        "backbone": backbone,
        "input_projections": nn.ModuleList(projections[: config.num_levels]),
        "level_embedding": nn.Parameter(torch.randn(config.num_levels, width)),
        "encoder": GroundingDinoEncoder(settings),
        "proposal_projection": nn.Linear(width, width),
        "proposal_norm": nn.LayerNorm(width),
        "proposal_box_head": GroundingDinoMLPPredictionHead(width, width, 4, 3),
        "object_queries": nn.Embedding(config.num_objects, width),
        "decoder": GroundingDinoDecoder(settings),
        "box_head": GroundingDinoMLPPredictionHead(width, width, 4, 3),
    }
    for name in ("encoder", "decoder"):
        _initialise(parts[name])
    for name in ("proposal_box_head", "box_head"):
        # Boxes start as their anchors.
        nn.init.zeros_(parts[name].layers[-1].weight)
        nn.init.zeros_(parts[name].layers[-1].bias)
    return parts


def _initialise(module: nn.Module) -> None:
    """Redo the linear layers that transformers leaves at a standard deviation of .02, which is too little at
    small widths.
    """
    kept = {
        id(parameter)
        for part in module.modules()
        if isinstance(part, GroundingDinoMultiscaleDeformableAttention | GroundingDinoBiMultiHeadAttention)
        for parameter in part.parameters()
    }
    for parameter in module.parameters():
        if parameter.dim() > 1 and id(parameter) not in kept:
            nn.init.xavier_uniform_(parameter)


def _load(config: GroundingConfig) -> dict[str, nn.Module]:
    """Take the parts of a Grounding DINO checkpoint; its text encoder is left behind."""
    return take_parts(GroundingDinoForObjectDetection.from_pretrained(config.pretrained))


def take_parts(model: GroundingDinoForObjectDetection) -> dict[str, nn.Module]:
    """Return the parts of a packaged model that GroundingTransformer is made of.

    Raises ModelError for the variants that Grounding DINO's published weights do not use.
    """
    settings = model.config
    if not (settings.two_stage and settings.embedding_init_target and settings.decoder_bbox_embed_share):
        raise ModelError(
            "detection: pretrained decoder has no two-stage selection, learned queries or shared box head, "
            "expected all three; use a checkpoint such as grounding-dino-tiny"
        )
    if settings.backbone_config.model_type != "swin":
        raise ModelError(
            f"detection: pretrained backbone is {settings.backbone_config.model_type!r}, expected 'swin'; "
            "use a checkpoint such as grounding-dino-tiny"
        )
    body = model.model
    backbone = build_swin(settings.backbone_config.to_dict())
    # The packaged backbone gives strides 8 to 32; ours gives stride 4 too, whose output norm alone is new.
    missing, unexpected = backbone.swin.load_state_dict(
        body.backbone.conv_encoder.model.state_dict(), strict=False
    )
    if unexpected or any("hidden_states_norms.stage1" not in name for name in missing):
        raise ModelError(
            f"detection: backbone weights do not fit ({[*unexpected, *missing][0]!r}), expected a Swin transformer; "
            "check the checkpoint"
        )
    # The packaged decoder holds the box head a second time.
    body.decoder.bbox_embed = None
    return {
        "backbone": backbone,
        "input_projections": body.input_proj_vision,
        "level_embedding": body.level_embed,
        "encoder": body.encoder,
        "proposal_projection": body.enc_output,
        "proposal_norm": body.enc_output_norm,
        "proposal_box_head": body.encoder_output_bbox_embed,
        "object_queries": body.query_position_embeddings,
        "decoder": body.decoder,
        "box_head": model.bbox_embed[0],
    }
