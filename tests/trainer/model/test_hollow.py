"""A model without values is the same model, but for what a checkpoint or another rank gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from dataengine.tokens import ADDED_TOKENS
from tests.trainer.model.decoders.test_grounding import packaged
from trainer.checkpoint import weights_of
from trainer.model.config import make_model
from trainer.model.hollow import hollow
from trainer.model.visionllm import VisionLLM, hollow_model

VOCABULARY = {str(number): number for number in range(60)} | {
    token: 60 + number for number, token in enumerate(ADDED_TOKENS)
}


def assert_same_but_for_values(options: dict[str, Any]) -> VisionLLM:
    config = make_model({"preset": "tiny", **options}, VOCABULARY)
    state = torch.random.get_rng_state()
    whole, empty = VisionLLM(config), hollow_model(config)

    ours, theirs = weights_of(empty), weights_of(whole)
    assert {name: (one.shape, one.dtype) for name, one in ours.items()} == {
        name: (one.shape, one.dtype) for name, one in theirs.items()
    }
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert [p.requires_grad for p in empty.parameters()] == [p.requires_grad for p in whole.parameters()]
    # Nothing gives these to a model later.
    kept = whole.state_dict()
    given = {name: one for name, one in empty.named_buffers() if name not in kept}
    assert given
    for name, one in whole.named_buffers():
        assert name in kept or torch.equal(given[name], one), name
    assert torch.equal(torch.random.get_rng_state(), state)
    # Modules are built as ever again.
    assert not torch.nn.Linear(1, 1).weight.is_meta
    return empty


def test_weights_have_no_values_from_the_moment_they_are_built() -> None:
    with hollow():
        shared = torch.nn.Linear(3, 2)
        other = torch.nn.Linear(3, 2)
        other.weight = shared.weight

    assert shared.weight.is_meta
    assert other.weight is shared.weight


def test_a_model_without_values_has_all_names_and_sizes() -> None:
    assert_same_but_for_values(
        {"decoders": ["detection", "pose", "generation", "editing"], "language": {"lora": {}}}
    )


def test_what_comes_from_folders_has_no_values_either(tmp_path: Path) -> None:
    packaged(tmp_path / "dino")
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
    }
    words = Qwen2Config(**sizes, num_key_value_heads=4, vocab_size=60, tie_word_embeddings=True)
    AutoModelForCausalLM.from_config(words).save_pretrained(tmp_path / "words")

    empty = assert_same_but_for_values(
        {
            "language": {"pretrained": str(tmp_path / "words"), "look_back": []},
            "detection": {"pretrained": str(tmp_path / "dino")},
        }
    )

    assert empty.language.head.weight is empty.language.embeddings.weight
