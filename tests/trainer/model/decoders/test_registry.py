from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dataengine.errors import ModelError
from dataengine.tokens import DET
from trainer.batch import Batch
from trainer.model.config import ModelConfig
from trainer.model.decoders import DECODERS, DecoderLosses, find_decoder
from trainer.model.visionllm import VisionLLM

MakeBatch = Callable[..., Batch]
COUNT = "[COUNT]"


class Counter(nn.Module):
    """A decoder of one's own: how many objects does each routing token stand for?"""

    family = "counting"
    tokens = (COUNT,)

    def __init__(self, language_width: int, num_queries: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.head = nn.Linear(language_width, 1)

    @classmethod
    def build(cls, options: Mapping[str, Any], language_width: int) -> Counter:
        return cls(language_width, **options)

    def forward(self, hidden_GNC: torch.Tensor, batch: Batch, generator: torch.Generator) -> DecoderLosses:
        wanted = torch.tensor([float(len(target.labels_n)) for target in batch.targets])
        error = self.head(hidden_GNC.mean(1))[:, 0] - wanted[batch.groups_G2[:, 0]]
        return DecoderLosses({"square": (error**2).mean()})

    def predict(self, hidden_GNC: torch.Tensor, batch: Batch, **settings: Any) -> list[float]:
        counts: list[float] = self.head(hidden_GNC.mean(1))[:, 0].tolist()
        return counts


@pytest.fixture
def user_module() -> Iterator[str]:
    """Put the decoder where a user's package would be."""
    module = types.ModuleType("my_counting_package")
    module.__dict__["Counter"] = Counter
    sys.modules["my_counting_package"] = module
    yield "my_counting_package:Counter"
    del sys.modules["my_counting_package"]


@pytest.fixture
def counting(config: ModelConfig, vocabulary: dict[str, int], user_module: str) -> ModelConfig:
    """The tiny model with a new routing token, which takes the place of the word 'yellow', and the user's decoder."""
    routing = {**config.token_ids.routing, COUNT: vocabulary["yellow"]}
    return replace(
        config,
        decoders={**config.decoders, user_module: {"num_queries": 2}},
        token_ids=replace(config.token_ids, routing=routing),
    )


def test_a_new_token_table_decoder_and_loss_need_no_change_of_the_model(
    counting: ModelConfig, make_batch: MakeBatch
) -> None:
    model = VisionLLM(counting)
    batch = make_batch(3, classes=(2, 1, 2), num_queries=2, token="yellow", family="counting")

    output = model(batch)
    output.loss.backward()

    assert set(output.losses) == {"text", "counting/square"}
    assert model.superlink.table("counting").shape == (2, 128)
    assert model.superlink.tables["counting"].grad.abs().sum() > 0
    assert model.superlink.tables["detection"].grad is None
    assert len(model.predict(batch, batch.family)) == 5


def test_a_decoder_of_ones_own_learns(counting: ModelConfig, make_batch: MakeBatch) -> None:
    model = VisionLLM(counting)
    batch = make_batch(3, classes=(2, 1, 2), num_queries=2, token="yellow", family="counting")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    losses = []
    for _ in range(12):
        output = model(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(float(output.losses["counting/square"]))

    assert losses[-1] < 0.2 * losses[0]


def test_every_decoder_of_the_table_can_be_found() -> None:
    for name in DECODERS:
        decoder = find_decoder(name)

        assert decoder.family == name
        assert decoder.tokens


def test_an_unknown_decoder_names_the_nearest() -> None:
    with pytest.raises(ModelError, match="'detektion'; did you mean 'detection'"):
        find_decoder("detektion")


def test_a_missing_class_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"cannot find 'trainer\.losses:Nothing'"):
        find_decoder("trainer.losses:Nothing")


def test_a_token_that_the_vocabulary_lacks_is_an_error(config: ModelConfig, user_module: str) -> None:
    with pytest.raises(ModelError, match=r"decoder 'counting' reads '\[COUNT\]'"):
        VisionLLM(replace(config, decoders={user_module: {"num_queries": 2}}))


def test_a_batch_for_a_missing_decoder_is_an_error(config: ModelConfig, make_batch: MakeBatch) -> None:
    with pytest.raises(ModelError, match="decoder family 'pose'"):
        VisionLLM(config)(make_batch(1, token=DET, family="pose"))
