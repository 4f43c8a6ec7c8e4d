"""The table of decoders: a name and where its class lives. A decoder of one's own needs no entry here.

`ModelConfig.decoders` names either a key of DECODERS or `package.module:Class`; the class follows the
protocol below.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from dataengine.errors import ModelError, nearest
from trainer.batch import Batch

DECODERS = {
    "detection": "trainer.model.decoders.detection:DetectionDecoder",
    "pose": "trainer.model.decoders.pose:PoseDecoder",
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
    one's query table follows the token.
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
