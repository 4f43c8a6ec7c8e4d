"""Chat text as tokens with labels: pictures and super-link queries take their places, answers are labelled.

Shape suffix: L text positions.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from dataengine import tokens
from dataengine.annotation import Turn
from dataengine.errors import ModelError
from trainer.batch import IGNORED
from trainer.settings import EncodeSettings

# Of Unicode's private use: no text has it.
_ANOTHER = "\uf8ff"
_ADDED = re.compile("|".join(map(re.escape, tokens.ADDED_TOKENS)))


@dataclass(frozen=True)
class Text:
    """Tokens, labels (-100: none), and the position in L of each routing token, in order."""

    input_ids_L: torch.Tensor
    labels_L: torch.Tensor
    routing: tuple[int, ...]


def render(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerFast) -> tuple[str, list[tuple[int, int]]]:
    """Return the chat text and the character spans [start, end) that the model must say, end token included.

    Uses the tokenizer's own chat template, without thinking where it can be asked for that; without one,
    `USER: ... ASSISTANT: ...</s>`. A conversation that ends with a question gives the text up to where the assistant
    would begin. Raises ModelError where a template rewrites what a turn says, since then no span can be told.
    """
    if tokenizer.chat_template is None:
        return _render_plain(turns, str(tokenizer.eos_token))

    def shown(some: Sequence[Turn], ask: bool) -> str:
        messages = [{"role": turn.role, "content": turn.text} for turn in some]
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=ask, enable_thinking=False
            )
        )

    whole = shown(turns, turns[-1].role != "assistant")
    spans = []
    for place, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        before, after = shown(turns[:place], True), shown(turns[: place + 1], False)
        if whole.startswith(after) and after.startswith(before):
            spans.append((len(before), len(after.rstrip())))
            continue
        # Some templates show an earlier answer otherwise than the last (without the place to think). It ends
        # where a character more at its end is shown.
        longer = shown([*turns[:place], Turn(turn.role, turn.text + _ANOTHER), *turns[place + 1 :]], False)
        end = longer.find(_ANOTHER)
        if end < 0 or whole[:end] != longer[:end] or not whole[:end].endswith(turn.text):
            raise ModelError(
                f"{tokenizer.name_or_path}: the chat template rewrites earlier turns, expected one that only appends;"
                " remove chat_template from the tokenizer"
            )
        closing = str(tokenizer.eos_token) if whole.startswith(str(tokenizer.eos_token), end) else ""
        spans.append((end - len(turn.text), end + len(closing)))
    return whole, spans


def _render_plain(turns: Sequence[Turn], end: str) -> tuple[str, list[tuple[int, int]]]:
    text, spans = "", []
    for turn in turns:
        if turn.role == "assistant":
            # The space is the model's to say: where a prompt ends after the colon, it is in the first token.
            text += "ASSISTANT:"
            spans.append((len(text), len(text) + 1 + len(turn.text) + len(end)))
            text += f" {turn.text}{end}"
        else:
            text += f"USER: {turn.text} " if turn.role == "user" else f"{turn.text} "
    return text if turns[-1].role == "assistant" else f"{text}ASSISTANT:", spans


def plain_texts(turns: Sequence[Turn]) -> list[str]:
    """Return what a conversation says without a chat template, cut at our tokens: what a tokenizer can learn from."""
    return [text for text in _ADDED.split(_render_plain(turns, "")[0]) if text]


def encode_text(
    turns: Sequence[Turn], tiles: Sequence[int], tokenizer: PreTrainedTokenizerFast, settings: EncodeSettings
) -> Text:
    """Tokenise a conversation whose k-th `<image>` has `tiles[k]` tiles.

    Each `<image>` becomes one `<im_patch>` a picture token, each routing token is followed by its queries'
    placeholders. What the assistant says is labelled, with the routing tokens, the token after the placeholders and
    the end, but not the placeholders.
    """
    rendered, spans = render(turns, tokenizer)
    # The backend is called directly: the tokenizer's own call changes its settings and is not safe in threads.
    coded = tokenizer.backend_tokenizer.encode(rendered, add_special_tokens=False)
    vocabulary = _vocabulary(tokenizer)
    ends = [end for _, end in spans]
    input_ids: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if coded.ids[:1] == input_ids:
        input_ids = []  # the template has written it
    labels = [IGNORED] * len(input_ids)
    routing, pictures = [], iter(tiles)
    for token_id, (start, end) in zip(coded.ids, coded.offsets, strict=True):
        nearest = bisect_right(ends, start)
        spoken = nearest < len(spans) and end > spans[nearest][0]
        if token_id == vocabulary.image:
            count = next(pictures) * settings.tokens_per_tile
            input_ids += [vocabulary.image_patch] * count
            labels += [IGNORED] * count
            continue
        input_ids.append(token_id)
        labels.append(token_id if spoken else IGNORED)
        if (token := vocabulary.routing.get(token_id)) is not None:
            routing.append(len(input_ids) - 1)
            count = settings.num_queries[token]
            input_ids += tokens.query_ids(vocabulary.emb, count)
            labels += [IGNORED] * count
    return Text(torch.tensor(input_ids), torch.tensor(labels), tuple(routing))


def end_tokens(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Return the tokens that end an answer: the tokenizer's own, and the one with which its chat template does."""
    rendered, spans = render((Turn("user", "?"), Turn("assistant", "!")), tokenizer)
    last = tokenizer.backend_tokenizer.encode(rendered[: spans[0][1]], add_special_tokens=False).ids[-1]
    return frozenset({tokenizer.eos_token_id, last} & set(tokenizer.all_special_ids))


@dataclass(frozen=True)
class _Vocabulary:
    image: int
    image_patch: int
    routing: dict[int, str]
    emb: tuple[int, ...]


def _vocabulary(tokenizer: PreTrainedTokenizerFast) -> _Vocabulary:
    of = tokenizer.convert_tokens_to_ids
    return _Vocabulary(
        of(tokens.IMAGE),
        of("<im_patch>"),
        {of(token): token for token in tokens.ROUTING_TOKENS},
        tuple(of(token) for token in tokens.EMB_TOKENS),
    )
