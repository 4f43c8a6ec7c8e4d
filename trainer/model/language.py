"""The language model: embeddings in, last hidden states and the text loss out.

Shape suffixes: B sequences, L text positions, C width, V vocabulary.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from trainer.batch import IGNORED, Packed
from trainer.losses import TextLoss, text_loss
from trainer.model.config import LanguageConfig
from trainer.model.lora import add_lora
from trainer.model.pretrained import built_config
from trainer.model.starts import copy_lists, look_back


@dataclass(frozen=True)
class LanguageOutput:
    """`hidden_BLC` are the last hidden states, after the final norm."""

    hidden_BLC: torch.Tensor
    text: TextLoss


class LanguageModel(nn.Module):
    """A causal language model with room for our added tokens."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        self.model: PreTrainedModel = _build(config)
        if config.lora is not None:
            add_lora(self.model, config.lora)
        self.width: int = self.model.config.hidden_size
        if config.gradient_checkpointing:
            recompute_activations(self.model)

    @property
    def embeddings(self) -> nn.Embedding:
        """Return the input embeddings."""
        return self.model.get_input_embeddings()

    @property
    def head(self) -> nn.Linear:
        """Return the output embeddings."""
        return self.model.get_output_embeddings()

    def forward(
        self,
        embeds_BLC: torch.Tensor,
        attention_mask_BL: torch.Tensor,
        labels_BL: torch.Tensor,
        packed: Packed | None = None,
        count: torch.Tensor | None = None,
    ) -> LanguageOutput:
        """Run causal attention over right-padded embeddings; a label is predicted from the position before.

        Where samples are packed, each sees itself alone, and its positions count from 0. The text loss is divided by
        `count`, or without it by the number of labels (see `losses.text_loss`).
        """
        if packed is None:
            hidden_BLC = self._run(inputs_embeds=embeds_BLC, attention_mask=attention_mask_BL)
        else:
            hidden_BLC = self._run_packed(embeds_BLC, packed.position_BL)
        # Most positions carry no label (pictures, questions, queries): the vocabulary is only scored where
        # one does.
        next_BL = labels_BL[:, 1:]
        scored = next_BL != IGNORED
        logits = self.head(hidden_BLC[:, :-1][scored])
        row = torch.arange(labels_BL.shape[0], device=labels_BL.device)[:, None].expand_as(next_BL)
        sample = row if packed is None else packed.sample_BL[:, 1:]
        num_samples = labels_BL.shape[0] if packed is None else packed.num_samples
        return LanguageOutput(
            hidden_BLC, text_loss(logits, next_BL[scored], sample[scored], num_samples, count)
        )

    @property
    def max_positions(self) -> int:
        """Return how many positions a sequence can have."""
        return self.model.config.max_position_embeddings

    def new_cache(self) -> DynamicCache:
        """Return an empty cache of keys and values, of the kind that each layer's attention needs."""
        return DynamicCache(config=self.model.config)

    def extend(
        self,
        embeds_BWC: torch.Tensor,
        position_BW: torch.Tensor,
        attention_mask_BL: torch.Tensor | None,
        cache: DynamicCache,
    ) -> torch.Tensor:
        """Return the last hidden states of W more positions, which are added to the cache, [B, W, C].

        `attention_mask_BL` says which positions exist, those of the cache and the new ones; without it, all do.
        """
        return self.model.base_model(
            inputs_embeds=embeds_BWC,
            position_ids=position_BW,
            attention_mask=attention_mask_BL,
            use_cache=True,
            **{self._cache_name: cache},
        ).last_hidden_state

    @cached_property
    def _cache_name(self) -> str:
        # The argument was renamed within transformers 5.
        known = inspect.signature(self.model.base_model.forward).parameters
        return "cache" if "cache" in known else "past_key_values"

    @property
    def _wants_one_row(self) -> bool:
        """Flash attention takes lengths instead of a mask, and those of one row alone."""
        return "flash" in (self.model.config._attn_implementation or "")

    def _run_packed(self, embeds_BLC: torch.Tensor, position_BL: torch.Tensor) -> torch.Tensor:
        # transformers sees a sample begin where positions start again, and keeps the samples apart in whatever
        # attention the model has.
        if self._wants_one_row:
            hidden_1LC = self._run(
                inputs_embeds=embeds_BLC.flatten(0, 1)[None], position_ids=position_BL.view(1, -1)
            )
            return hidden_1LC.view_as(embeds_BLC)
        return self._run(inputs_embeds=embeds_BLC, position_ids=position_BL)

    def _run(self, **inputs: torch.Tensor) -> torch.Tensor:
        return self.model.base_model(use_cache=False, **inputs).last_hidden_state


def recompute_activations(model: PreTrainedModel) -> None:
    """Let a model of transformers compute its activations anew in the backward pass instead of keeping them."""
    # The method was renamed within transformers 5.
    renamed = getattr(model, "activation_checkpointing_enable", None)
    (renamed or model.gradient_checkpointing_enable)()


def resize_vocabulary(model: PreTrainedModel, vocab_size: int, known: int | None = None) -> None:
    """Grow the input and output embeddings to `vocab_size` rows; rows from `known` on, without it the new ones, become
    the mean of those before.

    Models may have more rows than their tokenizer has tokens: what was never trained there is no start for a token.
    """
    old = model.get_input_embeddings().num_embeddings
    if vocab_size > old:
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
    known = old if known is None else min(known, old)
    with torch.no_grad():
        for table in {
            id(t): t for t in (model.get_input_embeddings(), model.get_output_embeddings())
        }.values():
            table.weight[known:vocab_size] = table.weight[:known].mean(0)


def _build(config: LanguageConfig) -> PreTrainedModel:
    if config.pretrained is None and config.architecture is not None:
        model = AutoModelForCausalLM.from_config(
            built_config(config.architecture), attn_implementation=config.attention
        )
        resize_vocabulary(model, config.vocab_size)
        return model
    if config.pretrained is None:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                num_key_value_heads=config.num_heads,
                head_dim=config.head_size or config.hidden_size // config.num_heads,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
                max_position_embeddings=config.max_length,
                # The usual .02 is 1/sqrt(width) of a wide model. A narrow one starts with attention that is the same
                # everywhere, and learns late which class name stands before a query.
                initializer_range=config.hidden_size**-0.5,
                attention_bias=bool(config.look_back),
                bos_token_id=None,
                eos_token_id=None,
                pad_token_id=None,
                attn_implementation=config.attention,
            )
        )
        look_back(model, config.look_back, exact=config.copy_across is not None)
        if config.copy_across is not None:
            copy_lists(model, config.look_back, config.copy_across)
        return model
    # Weights are kept in full precision, whatever the folder's: autocast computes in less where it may.
    model = AutoModelForCausalLM.from_pretrained(
        config.pretrained, dtype=torch.float32, attn_implementation=config.attention
    )
    resize_vocabulary(model, config.vocab_size, config.known_tokens)
    return model
