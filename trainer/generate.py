"""Answers in the model's own words, token after token; queries follow a routing token by themselves (section A.4).

Rows of a batch route at different times. So that no row has a gap in its cache, which attention with a window would
count, all rows take equally many positions in a step: one, or more where every row has so many waiting. A row alone
takes a routing token with all its queries in one step, as the paper does; beside rows that go on speaking it takes one
position a step.

Shape suffixes: B rows, L positions so far, W positions of a step, C width, N queries of a group, V vocabulary, Q
queries of all tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from dataengine.tokens import query_ids
from trainer.batch import Batch
from trainer.model.visionllm import VisionLLM

Ending = Literal["end", "length", "groups"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long an answer may be: tokens that the model says (queries are not), and routing tokens with queries.

    `max_length` are positions of prompt and answer together; the language model's own number of them is a limit, too.
    """

    max_new_tokens: int = 512
    max_groups: int = 256
    max_length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Generated:
    """An answer: `input_ids` are all positions after the prompt, placeholders of queries and end token included.

    `groups` are the places of its routing tokens that have queries, and `hidden` the last hidden states at these
    queries, [N, C] each. `ended` says why it ended: by itself, or which limit it met.
    """

    input_ids: tuple[int, ...]
    groups: tuple[int, ...]
    hidden: tuple[torch.Tensor, ...]
    ended: Ending


@torch.no_grad()
def generate(
    model: VisionLLM,
    batch: Batch,
    *,
    ends: Collection[int],
    never: Collection[int] = (),
    limits: Limits = Limits(),
    temperature: float = 0.0,
    generators: Sequence[torch.Generator] = (),
) -> list[Generated]:
    """Return the model's answer to each prompt of a batch, by default the likeliest token at a time.

    An answer ends with one of the tokens `ends`, or at a limit; it never has a token of `never`. Above a `temperature`
    of 0 tokens are drawn, those of row b by `generators[b]` (on the CPU), so that an answer does not depend on its
    neighbours.
    """
    inputs, progress = _Inputs(model), _Progress(model, batch)
    forbidden = torch.tensor(sorted(never), dtype=torch.int64, device=batch.input_ids_BL.device)
    most = min(model.language.max_positions, limits.max_length or model.language.max_positions)
    lengths = batch.attention_mask_BL.sum(1).tolist()
    rows = [_Row(number=number, room=most - length) for number, length in enumerate(lengths)]
    found: dict[int, Generated] = {}
    hidden_BWC = progress.take(_to_the_right(model.embed(batch), progress.padding_B))
    while True:
        # Where nothing waits, the last position foretells the next token.
        speaking = [place for place, row in enumerate(rows) if not row.waiting]
        logits_BV = model.language.head(
            hidden_BWC[:, -1] if len(speaking) == len(rows) else hidden_BWC[speaking, -1]
        )
        logits_BV[:, forbidden] = -torch.inf
        drawing = [generators[rows[place].number] for place in speaking] if temperature else ()
        for place, token_id in zip(speaking, _choose(logits_BV, temperature, drawing), strict=True):
            _say(rows[place], token_id, inputs, ends, limits)
        found |= {row.number: row.finished(row.ended) for row in rows if row.ended is not None}
        going = [place for place, row in enumerate(rows) if row.ended is None]
        if not going:
            return [found[number] for number in range(len(found))]
        if len(going) < len(rows):
            rows = [rows[place] for place in going]
            progress.keep(going)
        width = min(len(row.waiting) for row in rows)
        hidden_BWC = progress.take(inputs.embed([row.waiting[:width] for row in rows]))
        for row, hidden_WC in zip(rows, hidden_BWC, strict=True):
            row.took(hidden_WC, inputs.vocab_size)


@dataclass
class _Row:
    """An answer in the making. `waiting` are the inputs that were not taken yet, queries numbered from V; `room` is how
    many positions it may have."""

    number: int
    room: int
    input_ids: list[int] = field(default_factory=list)
    num_said: int = 0
    waiting: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    hidden: list[list[torch.Tensor]] = field(default_factory=list)
    ended: Ending | None = None

    def took(self, hidden_WC: torch.Tensor, vocab_size: int) -> None:
        """Go on by the positions of a step, and keep the hidden states at queries."""
        taken, self.waiting = self.waiting[: len(hidden_WC)], self.waiting[len(hidden_WC) :]
        if taken[-1] >= vocab_size:
            self.hidden[-1].append(hidden_WC[int(taken[0] < vocab_size) :])

    def finished(self, ended: Ending) -> Generated:
        hidden = tuple(torch.cat(parts) for parts in self.hidden)
        return Generated(
            input_ids=tuple(self.input_ids), groups=tuple(self.groups), hidden=hidden, ended=ended
        )


def _say(row: _Row, token_id: int, inputs: _Inputs, ends: Collection[int], limits: Limits) -> None:
    """Add a token and its queries to a row, or end the row.

    The last token that a limit allows may be a routing token: its queries are still taken.
    """
    queries = inputs.queries_of.get(token_id, ())
    if token_id in ends:
        row.input_ids.append(token_id)
        row.ended = "end"
    elif row.num_said == limits.max_new_tokens or len(row.input_ids) + 1 + len(queries) > row.room:
        row.ended = "length"
    elif queries and len(row.groups) == limits.max_groups:
        row.ended = "groups"
    else:
        row.num_said += 1
        if queries:
            row.groups.append(len(row.input_ids))
            row.hidden.append([])
        row.input_ids += [token_id, *inputs.placeholders_of.get(token_id, ())]
        row.waiting = [token_id, *queries]


class _Inputs:
    """Embeddings of tokens and queries. Query q of all is input V + q."""

    def __init__(self, model: VisionLLM) -> None:
        self.embeddings = model.language.embeddings
        self.vocab_size = self.embeddings.num_embeddings
        self.queries_of: dict[int, range] = {}
        self.placeholders_of: dict[int, tuple[int, ...]] = {}
        tables: list[torch.Tensor] = []
        first = self.vocab_size
        for token_id in model.owner_of_id:
            table_NC = model.queries(token_id)
            self.queries_of[token_id] = range(first, first + len(table_NC))
            self.placeholders_of[token_id] = query_ids(model.config.token_ids.emb, len(table_NC))
            tables.append(table_NC)
            first += len(table_NC)
        self.queries_QC = torch.cat(tables) if tables else None

    def embed(self, ids: list[list[int]]) -> torch.Tensor:
        """Return the embeddings of equally many inputs a row, [B, W, C]."""
        weight = self.embeddings.weight
        ids_BW = torch.tensor(ids, device=weight.device)
        embeds_BWC = self.embeddings(ids_BW.clamp(max=self.vocab_size - 1))
        if self.queries_QC is None or all(row[-1] < self.vocab_size for row in ids):
            return embeds_BWC
        is_query_BW = ids_BW >= self.vocab_size
        embeds_BWC[is_query_BW] = self.queries_QC[ids_BW[is_query_BW] - self.vocab_size]
        return embeds_BWC


class _Progress:
    """The cache of the rows that still speak. They end at the same column; row b begins at column `padding_B[b]`."""

    def __init__(self, model: VisionLLM, batch: Batch) -> None:
        self.language = model.language
        self.cache = model.language.new_cache()
        self.num_columns = 0
        self.padding_B = batch.attention_mask_BL.shape[1] - batch.attention_mask_BL.sum(1)
        self.is_padded = bool(self.padding_B.any())

    def take(self, embeds_BWC: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states of W more positions of each row, [B, W, C]."""
        before, self.num_columns = self.num_columns, self.num_columns + embeds_BWC.shape[1]
        column_L = torch.arange(self.num_columns, device=embeds_BWC.device)
        position_BW = (column_L[before:] - self.padding_B[:, None]).clamp(min=0)
        exists_BL = column_L >= self.padding_B[:, None] if self.is_padded else None
        return self.language.extend(embeds_BWC, position_BW, exists_BL, self.cache)

    def keep(self, places: list[int]) -> None:
        """Forget all rows but some."""
        index = torch.tensor(places, device=self.padding_B.device)
        self.cache.batch_select_indices(index)
        self.padding_B = self.padding_B[index]
        self.is_padded = bool(self.padding_B.any())


def _to_the_right(embeds_BLC: torch.Tensor, padding_B: torch.Tensor) -> torch.Tensor:
    """Move the padding of right-padded rows to their left."""
    length = embeds_BLC.shape[1]
    from_BL = (torch.arange(length, device=padding_B.device) - padding_B[:, None]) % length
    return embeds_BLC.gather(1, from_BL[..., None].expand_as(embeds_BLC))


def _choose(logits_BV: torch.Tensor, temperature: float, generators: Sequence[torch.Generator]) -> list[int]:
    if not temperature:
        return logits_BV.argmax(-1).tolist()
    chances_BV = (logits_BV.float() / temperature).softmax(-1).cpu()
    return [
        int(torch.multinomial(chances_V, 1, generator=generator))
        for chances_V, generator in zip(chances_BV, generators, strict=True)
    ]
