"""Super-link queries: learned vectors after a routing token, whose last hidden states condition a decoder
(section 3.2).

Shape suffixes: B sequences, L text positions, G groups (one per routing token), N queries per group, C width of
the language model, D width of a decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from dataengine.errors import ModelError
from trainer.model.config import SuperLinkConfig


class SuperLink(nn.Module):
    """The query tables, one per decoder family, or a single one for all."""

    def __init__(self, config: SuperLinkConfig, num_queries: Mapping[str, int], width: int) -> None:
        """`num_queries` gives N per family; a shared table has as many rows as the largest N."""
        super().__init__()
        self.config = config
        self.num_queries = dict(num_queries)
        sizes = dict(num_queries)
        if config.mode == "token":
            sizes = {}
        elif config.shared:
            sizes = {"shared": max(sizes.values(), default=0)} if sizes else {}
        self.tables = nn.ParameterDict(
            {_key(name): nn.Parameter(torch.randn(size, width) * 0.02) for name, size in sizes.items()}
        )

    def table(self, family: str) -> torch.Tensor:
        """Return the queries of a family, [N, C]."""
        name = "shared" if self.config.shared else family
        return self.tables[_key(name)][: self.num_queries[family]]

    def tables_of(self, family: str) -> list[nn.Parameter]:
        """Return the parameters that hold the queries of a family; none in "token" mode."""
        name = _key("shared" if self.config.shared else family)
        return [self.tables[name]] if name in self.tables else []

    def insert(self, embeds_BLC: torch.Tensor, groups_G2: torch.Tensor, owners: list[str]) -> torch.Tensor:
        """Return the embeddings with the positions after each routing token overwritten by its owner's
        queries.

        `owners` gives, for each group, the family whose table follows its routing token. In "token" mode
        nothing changes: the placeholders keep their vocabulary embeddings.
        """
        if self.config.mode == "token" or not owners:
            return embeds_BLC
        embeds_BLC = embeds_BLC.clone()
        for family in sorted(set(owners)):
            chosen = torch.tensor([owner == family for owner in owners], device=groups_G2.device)
            row_G1, positions_GN = query_positions(groups_G2[chosen], self.num_queries[family])
            embeds_BLC[row_G1, positions_GN] = self.table(family).to(embeds_BLC.dtype)
        return embeds_BLC


def query_positions(groups_G2: torch.Tensor, num_queries: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (row [G, 1], positions [G, N]) of the N positions that follow each routing token."""
    offsets_N = torch.arange(1, num_queries + 1, device=groups_G2.device)
    return groups_G2[:, :1], groups_G2[:, 1:] + offsets_N


def gather_queries(hidden_BLC: torch.Tensor, groups_G2: torch.Tensor, num_queries: int) -> torch.Tensor:
    """Return the hidden states at the query positions, [G, N, C]."""
    row_G1, positions_GN = query_positions(groups_G2, num_queries)
    return hidden_BLC[row_G1, positions_GN]


def check_placeholders(
    input_ids_BL: torch.Tensor,
    groups_G2: torch.Tensor,
    num_queries: list[int],
    placeholders: tuple[int, ...],
    names: Sequence[str],
) -> None:
    """Raise ModelError, naming the group's sample, if a routing token is not followed by exactly its N placeholders.

    Up to eight queries are written `[EMB][EMB2]...`, more (generation) as `[EMB]` repeated; both are
    accepted.
    """
    ids = input_ids_BL.tolist()
    allowed = set(placeholders)
    for (row, position), count, name in zip(groups_G2.tolist(), num_queries, names, strict=True):
        found = 0
        while position + 1 + found < len(ids[row]) and ids[row][position + 1 + found] in allowed:
            found += 1
        if found != count:
            raise ModelError(
                f"{name}: {found} query placeholders follow the routing token at position {position}, "
                f"expected {count}; encode the text with the model's number of queries"
            )


class PerceptionProjection(nn.Module):
    """Hidden states of a group's queries to one vector: an MLP on each, then the mean over the N queries."""

    def __init__(self, language_width: int, hidden_width: int, out_width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(language_width, hidden_width),
            nn.ReLU(),
            nn.Linear(hidden_width, hidden_width),
            nn.ReLU(),
            nn.Linear(hidden_width, out_width),
        )
        # PyTorch's own start shrinks the vectors layer by layer. Denoising queries carry them beside object
        # queries of unit variance, where they must not be drowned.
        *inner, last = (layer for layer in self.layers if isinstance(layer, nn.Linear))
        for layer in (*inner, last):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is last else "relu")
            nn.init.zeros_(layer.bias)

    def forward(self, hidden_GNC: torch.Tensor) -> torch.Tensor:
        """Return [G, D]."""
        return self.layers(hidden_GNC).mean(1)


def _key(name: str) -> str:
    # A parameter's name may hold no dot, the name of a decoder of one's own is `package.module:Class`.
    return name.replace(".", "/")
