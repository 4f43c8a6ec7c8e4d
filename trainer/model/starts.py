"""How heads of a language model of random weights may start: looking a few tokens back, and copying lists.

Nothing here stays as it is: a start is a choice of random weights, and training may unlearn all of it.

Shape suffixes: C width of the model, D code of a token, S size of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from transformers import LlamaForCausalLM

from dataengine.errors import ModelError

# A head's logit for the token it looks at, above those of far ones, and the rotated pairs that carry it: only the
# fastest turning ones tell neighbours apart. Few pairs and a high peak leave the neighbours nothing.
_PEAK, _PAIRS = 12.0, 6
_EXACT_PEAK, _EXACT_PAIRS = 60.0, 3

# Pairs that turn less than a radian over so many tokens compare what tokens say, wherever they stand.
_FAR = 150
# Of the copying heads: how sharply they compare, what a token just before weighs beside the item's name, and how loud
# they say what they found. Of the first layer: how loud it says what stands where a query finds the name that it asks
# for, 2 to 4 tokens back, and how much of its feed-forward part is left beside the codes. Where copying heads are loud
# and these are not, class vectors know little of their names.
_SHARPNESS, _BEFORE, _LOUDNESS, _NAMES, _QUIET = 2.0, 0.7, 1.0, 2.0, 0.2
_NEAR = range(2, 5)


def look_back(model: LlamaForCausalLM, offsets: Sequence[int], *, exact: bool = False) -> None:
    """Let head k of the first layer start by attending about `offsets[k]` tokens back, or `exact`ly there.

    Rotary embeddings turn pair i of queries and keys by position times a frequency. Biases whose angles
    differ by `offset` times the frequency point the same way at that distance, whatever the tokens are. Raises
    ModelError where there are fewer heads.
    """
    heads: int = model.config.num_attention_heads
    if len(offsets) > heads:
        raise ModelError(
            f"language: look_back has {len(offsets)} offsets, expected at most one for each of {heads} heads; "
            "remove some"
        )
    side: int = model.config.head_dim
    frequencies = model.model.rotary_emb.inv_freq[: _EXACT_PAIRS if exact else _PAIRS]
    pairs = len(frequencies)
    length = math.sqrt((_EXACT_PEAK if exact else _PEAK) * math.sqrt(side) / pairs)
    first, second = slice(0, pairs), slice(side // 2, side // 2 + pairs)
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        for head, offset in enumerate(offsets):
            query, key = (_rows(part.bias, head, side) for part in (attention.q_proj, attention.k_proj))
            key[first] = length
            query[first] = length * torch.cos(frequencies * offset)
            query[second] = -length * torch.sin(frequencies * offset)
            if exact:
                for part in (attention.q_proj, attention.k_proj):
                    _rows(part.weight, head, side)[first] = 0
                    _rows(part.weight, head, side)[second] = 0


def copy_lists(model: LlamaForCausalLM, offsets: Sequence[int], across: int) -> None:
    """Let two heads of the second layer start by copying the next item of a list that stands earlier in the text.

    A question lists "cat, hot dog"; its answer has `across` tokens, a routing token and its queries, behind each item.
    The first layer's heads, which look back exactly, write what they see as codes, each in a place of its own. The
    second layer compares: at a comma of the answer, head 0 looks for a token behind a comma two behind the name of the
    last item, and head 1, a token later, for the one behind that token and three behind the name. What they find they
    pass on to the output embeddings, which start equal to the input embeddings.

    Raises ModelError where no head of the first layer looks where a name can stand, or there is no second layer.
    """
    side, width = model.config.head_dim, model.config.hidden_size
    wanted = {0, 1, 2, 3, across + 1, across + 2}
    code = min(width // max(1, len(offsets)), side)
    if not wanted <= set(offsets) or len(model.model.layers) < 2 or model.config.num_attention_heads < 2:
        raise ModelError(
            f"language: copy_across {across!r} needs two layers and look_back with {sorted(wanted)!r}, expected them"
            f" among {list(offsets)!r}; add them, or remove copy_across"
        )
    with torch.no_grad():
        into_DC = _orthogonal(width)[:code]
        read = _write_codes(model, offsets, into_DC)
        attention = model.model.layers[1].self_attn
        for head in (0, 1):
            compared = {(0, 1): _BEFORE, (across + 1 + head, 2 + head): 1.0}
            _match(model, head, compared, read)
            _pass_on(attention, head, side, read[0], _LOUDNESS * into_DC)
        model.get_output_embeddings().weight.copy_(model.get_input_embeddings().weight)
        model.model.layers[0].mlp.down_proj.weight.mul_(_QUIET)


def _write_codes(
    model: LlamaForCausalLM, offsets: Sequence[int], into_DC: torch.Tensor
) -> dict[int, torch.Tensor]:
    """Let each head of the first layer write the code of the token that it looks at, and return how it is read back,
    [D, C] by offset."""
    attention, side, code = model.model.layers[0].self_attn, model.config.head_dim, len(into_DC)
    places_CC = _orthogonal(into_DC.shape[1])
    read: dict[int, torch.Tensor] = {}
    for head, offset in enumerate(offsets):
        read[offset] = places_CC[head * code : (head + 1) * code]
        loudness = _NAMES if offset in _NEAR else 1.0
        _pass_on(attention, head, side, into_DC, loudness * read[offset])
    return read


def _pass_on(
    attention: nn.Module, head: int, side: int, seen_DC: torch.Tensor, said_DC: torch.Tensor
) -> None:
    """Let a head read what it attends to by `seen_DC`, and write it by `said_DC`."""
    values_SC = _rows(attention.v_proj.weight, head, side)
    out_SC = _rows(attention.o_proj.weight.T, head, side)
    for rows_SC, wanted_DC in ((values_SC, seen_DC), (out_SC, said_DC)):
        rows_SC.zero_()
        rows_SC[: len(wanted_DC)] = wanted_DC


def _match(
    model: LlamaForCausalLM,
    head: int,
    compared: dict[tuple[int, int], float],
    read: dict[int, torch.Tensor],
) -> None:
    """Let a head of the second layer compare the code so many tokens before the query with that so many before the key,
    for each pair of offsets with its weight. Each pair has slowly turning dimensions of its own."""
    attention, side = model.model.layers[1].self_attn, model.config.head_dim
    slow = (model.model.rotary_emb.inv_freq * _FAR < 1).nonzero()[:, 0]
    query, key = (_rows(part.weight, head, side) for part in (attention.q_proj, attention.k_proj))
    query.zero_()
    key.zero_()
    for ((here, there), weight), some in zip(compared.items(), slow.chunk(len(compared)), strict=True):
        rows = torch.cat([some, some + side // 2])
        mixed = torch.randn(len(rows), len(read[here])) / math.sqrt(len(read[here]))
        query[rows] = _SHARPNESS * weight * mixed @ read[here]
        key[rows] = _SHARPNESS * weight * mixed @ read[there]


def _rows(tensor: torch.Tensor, head: int, side: int) -> torch.Tensor:
    return tensor[head * side : (head + 1) * side]


def _orthogonal(size: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]
