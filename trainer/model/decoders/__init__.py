"""The table of decoders: a name and where its class lives. A decoder of one's own needs no entry here.

`ModelConfig.decoders` names either a key of DECODERS or `package.module:Class`; the class follows the
protocol below.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from dataengine.errors import ModelError, nearest
from trainer.batch import Batch
from trainer.model.options import overlay, plain, read

DECODERS = {
    "detection": "trainer.model.decoders.detection:DetectionDecoder",
    "pose": "trainer.model.decoders.pose:PoseDecoder",
    "generation": "trainer.model.decoders.diffusion:GenerationDecoder",
    "editing": "trainer.model.decoders.diffusion:EditingDecoder",
}


@dataclass(frozen=True)
class DecoderLosses:
    """`terms` are weighted and add up to the decoder's loss; `detail` is detached, finer, and for the log
    alone.
    """

    terms: dict[str, torch.Tensor]
    detail: dict[str, torch.Tensor] = field(default_factory=dict)


class Decoder(Protocol):
    """What the model asks of a decoder, which is an `nn.Module` besides.

    `family` is the name that batches carry, `tokens` are the routing tokens it reads, `num_queries` the
    super-link queries after each (N). A token belongs to the first configured decoder that reads it: that
    one's query table follows the token, and all that read it have the same N.

    A class may name the dataclass of its options as `options` (DetectionDecoder.options is DetectionConfig). Options
    are then strict and written out in full, and a classmethod of the dataclass with the name of a preset of models
    (`tiny`, `small`) gives the options for that preset. Without one, options are what the configuration says.
    """

    family: str
    tokens: tuple[str, ...]
    num_queries: int

    @classmethod
    def build(cls, options: Mapping[str, Any], language_width: int) -> Decoder:
        """Make a decoder from its options, which are plain data; unknown ones are a ModelError."""

    def __call__(self, hidden_GNC: torch.Tensor, batch: Batch, generator: torch.Generator) -> DecoderLosses:
        """Return the losses of a batch; `hidden_GNC` are the last hidden states at the query positions of
        each group. Where `batch.whole` is given, sums are divided by its counts, not by those of the batch, so that
        the micro-batches of a step add up to one.
        """

    def predict(self, hidden_GNC: torch.Tensor, batch: Batch, **settings: Any) -> list[Any]:
        """Return one result a sample."""


def find_decoder(name: str) -> type[Decoder]:
    """Return the class of a decoder by its name in the table or by `package.module:Class`.

    Raises ModelError if there is none.
    """
    target = DECODERS.get(name, name)
    module_name, colon, class_name = target.partition(":")
    if not colon:
        raise ModelError(f"decoders: unknown decoder {name!r}{nearest(name, DECODERS)}")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"decoders: cannot find {target!r} ({error}), expected package.module:Class; check the name"
        ) from error


def decoder_options(name: str, changes: Mapping[str, Any], preset: str | None = None) -> dict[str, Any]:
    """Return a decoder's options in full, as plain data: those of the preset, or the defaults, with changes over them.

    Raises ModelError for an unknown or ill-typed change.
    """
    kind = getattr(find_decoder(name), "options", None)
    if kind is None:
        return dict(changes)
    sizes = getattr(kind, preset or "", kind)()
    return plain(read(kind, overlay(plain(sizes), changes), name))


def readers_of(decoders: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, tuple[str, ...], int]]:
    """Return (family, tokens, N) of each decoder of a configuration. Raises ModelError where N is not to be found."""
    found = []
    for name, options in decoders.items():
        decoder = find_decoder(name)
        number = decoder_options(name, options).get("num_queries", getattr(decoder, "num_queries", None))
        if not isinstance(number, int) or number < 1:
            raise ModelError(
                f"{name}: num_queries is {number!r}, expected at least 1; give the decoder's class num_queries, or the"
                " option of that name"
            )
        found.append((decoder.family, tuple(decoder.tokens), number))
    return found


def token_owners(readers: Iterable[tuple[str, tuple[str, ...], int]]) -> dict[str, tuple[str, int]]:
    """Return (family, N) of the first decoder that reads each token: its queries follow the token.

    Raises ModelError where a later one reads the token with another N.
    """
    owners: dict[str, tuple[str, int]] = {}
    for family, tokens, number in readers:
        for token in tokens:
            owner, expected = owners.setdefault(token, (family, number))
            if number != expected:
                raise ModelError(
                    f"decoders: {family!r} reads {token} with num_queries {number}, expected {expected}, as {owner!r}"
                    " does; the same queries serve both"
                )
    return owners
