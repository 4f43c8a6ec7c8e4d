"""The whole model: pictures, regions and text in; text loss and decoder losses out.

Shape suffixes: B sequences, L text positions, C width of the language model, T tiles, K tokens of a tile, R
regions, G groups, N super-link queries of a group.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dataengine.errors import ModelError, nearest
from dataengine.tokens import query_ids
from trainer.batch import REGIONS, TILES, Batch
from trainer.model.config import ModelConfig, without_folders
from trainer.model.decoders import Decoder, find_decoder, token_owners
from trainer.model.hollow import forget, hollow, solid
from trainer.model.language import LanguageModel, LanguageOutput
from trainer.model.lora import lora_parameters
from trainer.model.region import RegionEncoder
from trainer.model.superlink import SuperLink, check_placeholders, gather_queries
from trainer.model.vision import VisionEncoder

TEXT = "text"


@dataclass(frozen=True)
class Output:
    """`loss` carries the gradient; it is the sum of `losses`: "text" and `<family>/<term>`. All but `loss` is
    for the log.

    `detail` holds `<family>/<term>_<layer>`; `text_loss_B` the mean text loss of each sample (of several in a
    sequence, where they are packed) over its `text_tokens_B`.
    """

    loss: torch.Tensor
    losses: dict[str, torch.Tensor]
    detail: dict[str, torch.Tensor]
    text_loss_B: torch.Tensor
    text_tokens_B: torch.Tensor


class VisionLLM(nn.Module):
    """An image encoder, a region encoder, a language model, super-link queries, and decoders that read them.

    Random weights are drawn from `config.seed` and leave the global random state as it was.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.language = LanguageModel(config.language)
            self.vision = VisionEncoder(config.vision, self.language.width, config.region.num_levels)
            self.region = RegionEncoder(
                config.region,
                patch_size=config.vision.patch_size,
                vision_width=self.vision.width,
                language_width=self.language.width,
            )
            decoders = [
                _build(name, options, self.language.width) for name, options in config.decoders.items()
            ]
            self.decoders = nn.ModuleDict({decoder.family: decoder for decoder in decoders})
            self.superlink = SuperLink(
                config.superlink, {d.family: d.num_queries for d in decoders}, self.language.width
            )
        self.owner_of_id = _token_owners(config, decoders)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return every parameter once, under the name of the part that it belongs to.

        The parts: "vision", "projector", "region", "lora" (where there is one), "language" (the body), "embeddings"
        (input and output), "superlink" and `decoders.<family>`, of which the picture backbone is
        `decoders.<family>.backbone` where a decoder has one. Stages freeze parts and give them learning rates by these
        names.
        """
        embeddings = [*self.language.embeddings.parameters(), *self.language.head.parameters()]
        named: list[tuple[str, list[nn.Parameter]]] = [
            ("projector", list(self.vision.projector.parameters())),
            ("vision", list(self.vision.encoder.parameters())),
            ("region", list(self.region.parameters())),
            ("embeddings", embeddings),
            ("lora", lora_parameters(self.language)),
            ("language", list(self.language.parameters())),
            ("superlink", list(self.superlink.parameters())),
        ]
        for family, decoder in self.decoders.items():
            backbone = getattr(getattr(decoder, "transformer", None), "backbone", None)
            if backbone is not None:
                named.append((f"decoders.{family}.backbone", list(backbone.parameters())))
            named.append((f"decoders.{family}", list(decoder.parameters())))
        seen: set[int] = set()
        result: dict[str, list[nn.Parameter]] = {}
        for name, parameters in named:
            result[name] = [p for p in dict.fromkeys(parameters) if id(p) not in seen]
            seen.update(id(p) for p in parameters)
        return {name: parameters for name, parameters in result.items() if parameters or name != "lora"}

    def train_only(self, names: set[str]) -> None:
        """Let only the named parts be trained (see `parts`); raises ModelError for an unknown name.

        Gradients still flow through frozen parts to what lies before them, so queries learn through a frozen
        language model.
        """
        parts = self.parts()
        unknown = sorted(names - set(parts))
        if unknown:
            raise ModelError(f"model: no part is called {unknown[0]!r}{nearest(unknown[0], parts)}")
        for name, parameters in parts.items():
            for parameter in parameters:
                parameter.requires_grad_(name in names)
        self.vision.freeze_unused()
        for decoder in self.decoders.values():
            # What a decoder itself keeps frozen, such as a pretrained autoencoder.
            if hasattr(decoder, "freeze"):
                decoder.freeze()

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Output:
        """Return the losses of a batch.

        `generator` (on the CPU or the batch's device) draws points and noise; without one it is seeded by the
        sample ids and the model's seed, so that a step is a function of its batch. Raises ModelError, naming
        the sample, where text and pictures, regions, queries or targets do not fit each other.
        """
        if generator is None:
            generator = _generator_of(batch.sample_ids, self.config.seed)
        language = self._language(batch, generator if self.training else None)
        losses = {TEXT: language.text.loss}
        detail: dict[str, torch.Tensor] = {}
        if batch.family != TEXT:
            decoder = self._decoder(batch.family, batch)
            hidden_GNC = gather_queries(language.hidden_BLC, batch.groups_G2, decoder.num_queries)
            found = decoder(hidden_GNC, batch, generator)
            losses |= {f"{batch.family}/{term}": value for term, value in found.terms.items()}
            detail |= {f"{batch.family}/{term}": value for term, value in found.detail.items()}
        loss = torch.stack(list(losses.values())).sum()
        if batch.used is not None and batch.family != TEXT:
            # What this rank's samples have no use for (no masks, no keypoints), another's may.
            loss = loss + zero(self._decoder(batch.family, batch).parameters())
        return Output(
            loss=loss,
            losses={name: value.detach() for name, value in losses.items()},
            detail=detail,
            text_loss_B=language.text.sample_loss_B,
            text_tokens_B=language.text.num_tokens_B,
        )

    def learns_from(self, family: str, used: Collection[str]) -> bool:
        """Return whether something that is trained computes a batch of that family, with pictures, regions and routing
        tokens as in `used` (see `Batch.used`): where all of it is frozen, its loss has no gradient."""
        routing = self.config.token_ids.routing
        owners = {self.owner_of_id[routing[token]] for token in used if token in routing}
        parts: list[nn.Module] = [self.language]
        parts += [part for what, part in ((TILES, self.vision), (REGIONS, self.region)) if what in used]
        parts += [self.decoders[family]] if family in self.decoders else []
        tables = (table for owner in sorted(owners) for table in self.superlink.tables_of(owner))
        parameters = itertools.chain(tables, *(part.parameters() for part in parts))
        return any(parameter.requires_grad for parameter in parameters)

    @torch.no_grad()
    def predict(self, batch: Batch, family: str, **settings: Any) -> list[Any]:
        """Return what a family's decoder makes of each sample, its routing tokens given (teacher forcing).

        All groups of the batch must be of tokens that the decoder reads. `settings` are the decoder's own (`top_k`,
        `with_masks`, ...). The targets of the batch are not looked at.
        """
        decoder = self._decoder(family, batch)
        hidden_BLC = self._language(batch, None).hidden_BLC
        return decoder.predict(
            gather_queries(hidden_BLC, batch.groups_G2, decoder.num_queries), batch, **settings
        )

    def queries(self, token_id: int) -> torch.Tensor | None:
        """Return the embeddings that follow a routing token, [N, C]; None for a token that no decoder reads."""
        if token_id not in self.owner_of_id:
            return None
        owner = self.owner_of_id[token_id]
        if self.superlink.config.mode == "token":
            ids = query_ids(self.config.token_ids.emb, self.superlink.num_queries[owner])
            return self.language.embeddings.weight[list(ids)]
        return self.superlink.table(owner).to(self.language.embeddings.weight.dtype)

    def embed(self, batch: Batch) -> torch.Tensor:
        """Return the text's embeddings with pictures, regions and queries in their places, [B, L, C]."""
        return self._embed(batch, None)

    def _decoder(self, family: str, batch: Batch) -> Decoder:
        if family not in self.decoders:
            raise ModelError(
                f"{batch.sample_ids[0]}: batch is for decoder family {family!r}, which the model does not have"
                f"{nearest(family, self.decoders.keys())}"
            )
        return self.decoders[family]

    def _language(self, batch: Batch, generator: torch.Generator | None) -> LanguageOutput:
        count = None if batch.whole is None else batch.whole.counts_5[0]
        return self.language(
            self._embed(batch, generator), batch.attention_mask_BL, batch.labels_BL, batch.packed, count
        )

    def _embed(self, batch: Batch, generator: torch.Generator | None) -> torch.Tensor:
        """Return the text's embeddings with pictures, regions and queries in their places."""
        ids = self.config.token_ids
        embeds_BLC = self.language.embeddings(batch.input_ids_BL)
        is_patch_BL = batch.input_ids_BL == ids.image_patch
        is_region_BL = batch.input_ids_BL == ids.region
        self._check_pictures(batch, is_patch_BL, is_region_BL)
        idle: list[torch.Tensor] = []
        if batch.tiles_T3SS.shape[0]:
            features = self.vision(batch.tiles_T3SS)
            embeds_BLC = _place(embeds_BLC, is_patch_BL, features.tokens_TKC)
            if _lacks(batch, REGIONS):
                idle += features.levels_TPD
            if batch.regions_RSS.shape[0]:
                owners = batch.sample_at(*is_region_BL.nonzero(as_tuple=True)).tolist()
                regions_RC = self.region(
                    batch.tiles_T3SS,
                    features.levels_TPD,
                    batch.regions_RSS,
                    batch.region_tile_R,
                    [batch.sample_ids[sample] for sample in owners],
                    generator,
                    None if batch.whole is None else batch.whole.region_noise_RP,
                )
                embeds_BLC = _place(embeds_BLC, is_region_BL, regions_RC)
        elif _lacks(batch, TILES):
            # The image encoder is gathered layer by layer, from all ranks: one blank tile that no text reads.
            side = self.config.vision.image_size
            features = self.vision(batch.tiles_T3SS.new_zeros((1, 3, side, side)))
            idle += [features.tokens_TKC, *(features.levels_TPD if _lacks(batch, REGIONS) else ())]
        idle += self._idle_parameters(batch)
        if idle:
            embeds_BLC = embeds_BLC + zero(idle)
        return self.superlink.insert(embeds_BLC, batch.groups_G2, self._owners(batch))

    def _idle_parameters(self, batch: Batch) -> list[nn.Parameter]:
        """Return the weights of small parts that other ranks use with this batch, and this one does not."""
        found = list(self.region.parameters()) if _lacks(batch, REGIONS) else []
        lacking = (batch.used or frozenset()) - set(batch.group_tokens)
        ids = self.config.token_ids.routing
        owners = {self.owner_of_id[ids[token]] for token in lacking & ids.keys()}
        return found + [table for owner in sorted(owners) for table in self.superlink.tables_of(owner)]

    def _check_pictures(self, batch: Batch, is_patch_BL: torch.Tensor, is_region_BL: torch.Tensor) -> None:
        per_tile = self.config.vision.tokens_per_tile
        num_patches_B, num_regions_B = (_by_sample(batch, where) for where in (is_patch_BL, is_region_BL))
        for sample_id, tiles, count in zip(
            batch.sample_ids, batch.tiles_per_image, num_patches_B, strict=True
        ):
            if sum(tiles) * per_tile != count:
                raise ModelError(
                    f"{sample_id}: text has {count} <im_patch>, expected {sum(tiles)} tiles x {per_tile} tokens; "
                    "encode the text with the model's tokens per tile"
                )
        num_tiles = sum(map(sum, batch.tiles_per_image))
        if num_tiles != batch.tiles_T3SS.shape[0]:
            raise ModelError(
                f"{batch.sample_ids[0]}: batch has {batch.tiles_T3SS.shape[0]} tiles, tiles_per_image says "
                f"{num_tiles}; collate the tiles of every picture"
            )
        if int(is_region_BL.sum()) != batch.regions_RSS.shape[0]:
            counts = dict(zip(batch.sample_ids, num_regions_B, strict=True))
            raise ModelError(
                f"{batch.sample_ids[0]}: batch has {batch.regions_RSS.shape[0]} region masks, its text has {counts!r} "
                "<region>; collate one mask for each"
            )

    def _owners(self, batch: Batch) -> list[str]:
        """Return the family whose queries follow each group's routing token, after checking the
        placeholders.
        """
        row_G, position_G = batch.groups_G2.unbind(1)
        names = [batch.sample_ids[sample] for sample in batch.sample_at(row_G, position_G).tolist()]
        token_ids = batch.input_ids_BL[row_G, position_G].tolist()
        for name, token_id in zip(names, token_ids, strict=True):
            if token_id not in self.owner_of_id:
                raise ModelError(
                    f"{name}: a group points to token id {token_id!r}, expected a routing "
                    "token that a decoder reads; check groups_G2"
                )
        owners = [self.owner_of_id[token_id] for token_id in token_ids]
        counts = [self.superlink.num_queries[owner] for owner in owners]
        check_placeholders(batch.input_ids_BL, batch.groups_G2, counts, self.config.token_ids.emb, names)
        return owners


def hollow_model(config: ModelConfig) -> VisionLLM:
    """Return the model without the values of its weights, and of its buffers that are kept with them.

    Only a decoder that comes from a folder is read, and forgotten.
    """
    with hollow():
        model = VisionLLM(without_folders(config))
    forget(model)
    return model


class _Zero(torch.autograd.Function):
    """Nothing, made of tensors that thereby get a gradient of nothing."""

    @staticmethod
    def forward(ctx: Any, *tensors: torch.Tensor) -> torch.Tensor:
        ctx.tensors = [(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors]
        return tensors[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.tensors)


def zero(tensors: Iterable[torch.Tensor]) -> torch.Tensor | float:
    """Return 0 as if it were computed from those of the tensors that are trained, whatever they hold.

    Ranks sum the gradients of a layer's weights in one go: each must have those that any other has.
    """
    trained = [tensor for tensor in tensors if tensor.requires_grad]
    return _Zero.apply(*trained) if trained else 0.0


def _lacks(batch: Batch, what: str) -> bool:
    """Return whether other ranks' batches have some of what this one has none of."""
    if batch.used is None or what not in batch.used:
        return False
    return not len(batch.tiles_T3SS if what == TILES else batch.regions_RSS)


def _token_owners(config: ModelConfig, decoders: list[Decoder]) -> dict[int, str]:
    owners = token_owners((decoder.family, decoder.tokens, decoder.num_queries) for decoder in decoders)
    for token, (family, _) in owners.items():
        if token not in config.token_ids.routing:
            raise ModelError(
                f"model: decoder {family!r} reads {token!r}, which token_ids.routing does not list"
                f"{nearest(token, config.token_ids.routing)}"
            )
    return {config.token_ids.routing[token]: family for token, (family, _) in owners.items()}


def _build(name: str, options: dict[str, Any], width: int) -> Decoder:
    with solid() if options.get("pretrained") else nullcontext():
        return find_decoder(name).build(options, width)


def _by_sample(batch: Batch, where_BL: torch.Tensor) -> list[int]:
    """Return how many of the marked positions each sample has."""
    samples = batch.sample_at(*where_BL.nonzero(as_tuple=True))
    return torch.bincount(samples, minlength=len(batch.sample_ids)).tolist()


def _place(embeds_BLC: torch.Tensor, where_BL: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Put `values`, flattened to [positions, C], at the marked positions, row by row."""
    return embeds_BLC.masked_scatter(where_BL[..., None], values.to(embeds_BLC.dtype))


def _generator_of(sample_ids: tuple[str, ...], seed: int) -> torch.Generator:
    digest = hashlib.sha256(repr((seed, sample_ids)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
