"""Adapters of the language model start as nothing, learn alone, and can be added to its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dataengine.errors import ModelError
from trainer.batch import Batch
from trainer.model.config import LoraConfig, ModelConfig
from trainer.model.lora import lora_parameters, merge_lora
from trainer.model.visionllm import VisionLLM

MakeBatch = Callable[..., Batch]


def build(config: ModelConfig, lora: LoraConfig | None) -> VisionLLM:
    return VisionLLM(replace(config, language=replace(config.language, lora=lora))).eval()


@pytest.fixture
def adapted(config: ModelConfig) -> VisionLLM:
    return build(config, LoraConfig(rank=3, alpha=6.0, dropout=0.0))


def text_loss(model: VisionLLM, batch: Batch) -> float:
    with torch.no_grad():
        return float(model(batch, torch.Generator().manual_seed(0)).losses["text"])


def teach(model: VisionLLM) -> None:
    """Let the adapters be something."""
    with torch.no_grad():
        for parameter in lora_parameters(model.language):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))


def test_the_defaults_are_the_papers() -> None:
    assert LoraConfig() == LoraConfig(
        rank=32,
        alpha=64.0,
        dropout=0.05,
        targets=("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"),
    )


def test_new_adapters_change_nothing(config: ModelConfig, adapted: VisionLLM, make_batch: MakeBatch) -> None:
    batch = make_batch(2)

    assert text_loss(adapted, batch) == text_loss(build(config, None), batch)


def test_adapters_are_a_part_and_stand_beside_the_named_layers(adapted: VisionLLM) -> None:
    parts = adapted.parts()

    # Two matrices for each of six layers in each of three blocks.
    assert len(parts["lora"]) == 2 * 6 * 3
    assert {min(parameter.shape) for parameter in parts["lora"]} == {3}
    assert sum(map(len, parts.values())) == len(list(adapted.parameters()))


@pytest.mark.parametrize("rank", [None, 3])
def test_queries_learn_through_a_frozen_language_model_with_and_without_adapters(
    config: ModelConfig, rank: int | None, make_batch: MakeBatch
) -> None:
    model = build(config, None if rank is None else LoraConfig(rank=rank)).train()
    model.train_only({"superlink", "decoders.detection", *(() if rank is None else ("lora",))})

    model(make_batch(2), torch.Generator().manual_seed(0)).loss.backward()

    assert model.superlink.tables["detection"].grad.abs().sum() > 0
    assert all(p.grad is None for p in [*model.parts()["language"], *model.parts()["embeddings"]])
    # The second matrix of an adapter starts as nothing, so that the first has no gradient yet, but one of zeros.
    assert all(p.grad is not None for p in model.parts().get("lora", []))


def test_merged_adapters_answer_the_same_and_leave_no_layer_behind(
    config: ModelConfig, adapted: VisionLLM, make_batch: MakeBatch
) -> None:
    teach(adapted)
    batch = make_batch(2)
    before = text_loss(adapted, batch)

    merge_lora(adapted.language)

    assert text_loss(adapted, batch) == pytest.approx(before, abs=1e-5)
    assert before != pytest.approx(text_loss(build(config, None), batch), abs=1e-3)
    assert adapted.state_dict().keys() == build(config, None).state_dict().keys()


def test_a_layer_that_is_not_there_is_an_error(config: ModelConfig) -> None:
    with pytest.raises(ModelError, match=r"no layer is called \['c_attn'\], expected targets among"):
        build(config, LoraConfig(targets=("q_proj", "c_attn")))
