"""A stage starts from another run's weights, module by module, and from nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from dataengine.errors import ModelError, SpecError
from trainer.checkpoint import load_model
from trainer.config import TrainConfig, make_config, model_config
from trainer.inherit import Inherited, inherit
from trainer.model.lora import lora_parameters
from trainer.model.visionllm import VisionLLM
from trainer.tokenizer import train_tokenizer
from trainer.train import train

LORA: dict[str, Any] = {"preset": "tiny", "decoders": [], "language": {"lora": {"rank": 2}}}


def query(model: VisionLLM) -> Any:
    """Return the first layer that may have adapters."""
    return model.language.model.get_submodule("model.layers.0.self_attn.q_proj")


def fresh(origin: Path, model: Any) -> VisionLLM:
    """Return a model of other random weights for the tokens of a run."""
    _, tokenizer, _ = load_model(origin)
    config = make_config({"shards": "s", "steps": 1, "global_batch": 1, "seed": 77, "model": model})
    return VisionLLM(model_config(config, tokenizer.get_vocab()))


def test_a_run_takes_over_weights_and_nothing_else(
    straight: Path, make_run: Callable[..., TrainConfig], make_reader: Callable[..., Any], tmp_path: Path
) -> None:
    told: list[str] = []
    config = make_run(init_from=str(straight), steps=1, seed=9, stage="3", lr=1e-12)

    result = train(config, tmp_path, reader=make_reader(), progress=lambda count, text: told.append(text))

    before, after = load_model(straight)[0], load_model(tmp_path)[0]
    assert result.step == 1
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=1e-9, msg=name)
    assert "taken: language, vision, region, decoders.detection, superlink.detection" in told[0]
    saved = msgspec.json.decode((tmp_path / "init_from.json").read_bytes(), type=Inherited)
    assert (saved.new, saved.left) == ((), ())


def test_modules_that_one_side_lacks_are_named(straight: Path) -> None:
    model = fresh(straight, {"preset": "tiny", "decoders": []})
    other = load_model(straight)[0]

    found = inherit(model, straight)

    assert found.left == ("decoders.detection", "superlink.detection")
    assert str(found).endswith("left behind: decoders.detection, superlink.detection")
    assert torch.equal(model.language.head.weight, other.language.head.weight)


def test_adapters_that_are_new_leave_the_language_model_as_it_was(straight: Path) -> None:
    model = fresh(straight, LORA)
    other = load_model(straight)[0]

    found = inherit(model, straight)

    assert found.new == ("lora",)
    assert torch.equal(query(model).base_layer.weight, query(other).weight)


def test_adapters_are_kept_or_added_to_the_weights(
    straight: Path, make_run: Callable[..., TrainConfig], make_reader: Callable[..., Any], tmp_path: Path
) -> None:
    train(make_run(model=LORA, steps=1, learning_rates={"lora": 0.5}), tmp_path, reader=make_reader())
    with_adapters, merged = fresh(tmp_path, LORA), fresh(tmp_path, {"preset": "tiny", "decoders": []})

    kept, added = inherit(with_adapters, tmp_path), inherit(merged, tmp_path)

    assert "lora" in kept.taken and kept.left == added.left == added.new == ()
    assert any(parameter.abs().sum() > 1 for parameter in lora_parameters(with_adapters.language))
    plain, found = query(with_adapters), query(merged).weight
    torch.testing.assert_close(found, plain.base_layer.weight + plain.get_delta_weight("default"))
    assert not torch.allclose(found, plain.base_layer.weight)


def test_a_module_of_another_size_is_refused(straight: Path) -> None:
    model = fresh(straight, {"preset": "tiny", "detection": {"num_objects": 17}})

    with pytest.raises(
        ModelError, match=r"decoders\.detection: decoders\.detection\..* has shape \(40, 64\), expected"
    ):
        inherit(model, straight)


def test_other_tokens_are_refused(straight: Path) -> None:
    config = make_config({"shards": "s", "steps": 1, "global_batch": 1})
    model = VisionLLM(model_config(config, train_tokenizer(["other words"], 270).get_vocab()))

    with pytest.raises(ModelError, match="its tokens have other ids than this model's"):
        inherit(model, straight)


def test_a_tokenizer_beside_it_is_refused() -> None:
    with pytest.raises(SpecError, match="tokenizer stands beside init_from"):
        make_config({"shards": "s", "steps": 1, "global_batch": 1, "init_from": "a", "tokenizer": "b"})
