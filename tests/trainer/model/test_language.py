from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
from transformers.models.internlm3 import InternLM3Config

from dataengine.errors import ModelError
from trainer.batch import Packed
from trainer.model.config import LanguageConfig
from trainer.model.language import LanguageModel, resize_vocabulary
from trainer.model.pretrained import describe_language

SMALL = LanguageConfig(
    vocab_size=40, hidden_size=16, intermediate_size=32, num_layers=2, num_heads=2, max_length=64
)


def build(config: LanguageConfig = SMALL) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(config)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 40, (2, 12), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[:, :5] = -100
    labels[1, 9:] = -100
    attention = torch.ones_like(ids, dtype=torch.bool)
    attention[1, 9:] = False
    return ids, labels, attention


def test_text_loss_is_that_of_the_packaged_model() -> None:
    language = build()
    ids, labels, attention = batch()

    output = language(language.embeddings(ids), attention, labels)

    expected = language.model(input_ids=ids, attention_mask=attention, labels=labels).loss
    torch.testing.assert_close(output.text.loss, expected)
    assert output.text.num_tokens_B.tolist() == [7, 4]


@pytest.fixture
def packed() -> tuple[torch.Tensor, Packed]:
    """Two rows: samples of 5 and 7 tokens, and one of 8 with padding behind."""
    ids = torch.randint(0, 40, (2, 12), generator=torch.Generator().manual_seed(4))
    sample_BL = torch.tensor([[0] * 5 + [1] * 7, [2] * 8 + [-1] * 4])
    position_BL = torch.tensor([[*range(5), *range(7)], [*range(8), *[0] * 4]])
    return ids, Packed(sample_BL=sample_BL, position_BL=position_BL, num_samples=3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("one_row", [False, True])
def test_packed_samples_are_what_they_are_alone(
    packed: tuple[torch.Tensor, Packed], attention: str, one_row: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    language = build(replace(SMALL, attention=attention))
    # Flash attention needs a GPU; that all samples may lie in one row is shown with others.
    monkeypatch.setattr(LanguageModel, "_wants_one_row", property(lambda self: one_row))
    ids, layout = packed
    mask, labels = layout.sample_BL >= 0, ids.masked_fill(layout.position_BL == 0, -100)

    together = language(language.embeddings(ids), mask, labels, layout)

    for number in range(3):
        alone_ids = ids[layout.sample_BL == number][None]
        alone = language(
            language.embeddings(alone_ids), torch.ones_like(alone_ids, dtype=torch.bool), alone_ids
        )
        torch.testing.assert_close(together.hidden_BLC[layout.sample_BL == number], alone.hidden_BLC[0])
        torch.testing.assert_close(together.text.sample_loss_B[number], alone.text.sample_loss_B[0])
    assert together.text.num_tokens_B.tolist() == [4, 6, 7]


def test_hidden_states_are_taken_after_the_final_norm() -> None:
    language = build()
    ids, labels, attention = batch()

    output = language(language.embeddings(ids), attention, labels)

    logits = language.model(input_ids=ids, attention_mask=attention).logits
    torch.testing.assert_close(language.head(output.hidden_BLC), logits)


def test_new_rows_are_the_mean_of_the_old_rows() -> None:
    language = build()
    old_input = language.embeddings.weight.detach().clone()
    old_output = language.head.weight.detach().clone()

    resize_vocabulary(language.model, 66)

    assert language.embeddings.weight.shape == (66, 16)
    torch.testing.assert_close(language.embeddings.weight[:40], old_input)
    torch.testing.assert_close(language.embeddings.weight[40:], old_input.mean(0).expand(26, -1))
    torch.testing.assert_close(language.head.weight[40:], old_output.mean(0).expand(26, -1))


def test_rows_that_the_tokenizer_never_used_are_no_start_for_a_token() -> None:
    language = build()
    known = language.embeddings.weight[:30].detach().clone()

    resize_vocabulary(language.model, 36, known=30)

    torch.testing.assert_close(language.embeddings.weight[:30], known)
    torch.testing.assert_close(language.embeddings.weight[30:36], known.mean(0).expand(6, -1))
    assert language.embeddings.num_embeddings == 40


def test_a_vocabulary_that_is_large_enough_is_left_alone() -> None:
    language = build()

    resize_vocabulary(language.model, 30)

    assert language.embeddings.num_embeddings == 40


def test_weights_load_from_a_folder_and_grow(tmp_path: Path) -> None:
    original = build()
    original.model.save_pretrained(tmp_path)

    loaded = build(LanguageConfig(vocab_size=66, pretrained=str(tmp_path)))

    ids, labels, attention = batch()
    expected = original(original.embeddings(ids), attention, labels).hidden_BLC
    torch.testing.assert_close(loaded(loaded.embeddings(ids), attention, labels).hidden_BLC, expected)
    assert loaded.head.weight.shape[0] == 66


def test_heads_may_start_by_looking_back() -> None:
    torch.manual_seed(0)
    config = LanguageConfig(
        vocab_size=40,
        hidden_size=64,
        intermediate_size=32,
        num_layers=2,
        num_heads=2,
        max_length=64,
        look_back=(3,),
    )
    language = LanguageModel(config)
    language.model.set_attn_implementation("eager")
    ids = torch.randint(0, 40, (4, 50))

    with torch.no_grad():
        shares = language.model(input_ids=ids, output_attentions=True).attentions

    def near(layer: int, head: int) -> float:
        """Return how much of a head's attention lies two to four tokens back, from tokens with enough before them."""
        rows = [shares[layer][:, head, place, place - 4 : place - 1].sum(-1) for place in range(20, 50)]
        return float(torch.stack(rows).mean())

    assert near(0, 0) > 0.8
    assert near(0, 1) < 0.2 and near(1, 0) < 0.2


def test_more_offsets_than_heads_are_refused() -> None:
    with pytest.raises(ModelError, match="look_back has 3 offsets, expected at most one for each of 2 heads"):
        build(replace(SMALL, look_back=(1, 2, 3)))


def test_recomputed_activations_give_the_same_gradient() -> None:
    ids, labels, attention = batch()
    gradients = []
    for checkpointing in (False, True):
        language = build(replace(SMALL, gradient_checkpointing=checkpointing)).train()
        language(language.embeddings(ids), attention, labels).text.loss.backward()
        gradients.append(language.embeddings.weight.grad)

    torch.testing.assert_close(gradients[0], gradients[1])


SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "internlm3": InternLM3Config(**SIZES),
}


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Save a causal model of random weights in half precision, as others publish theirs."""
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(FAMILIES[request.param]).to(torch.bfloat16).save_pretrained(tmp_path)
    return tmp_path


def test_other_language_models_give_their_own_loss_and_grow(folder: Path) -> None:
    language = build(LanguageConfig(vocab_size=66, known_tokens=40, pretrained=str(folder)))
    ids, labels, attention = batch()

    output = language(language.embeddings(ids), attention, labels)

    assert {p.dtype for p in language.parameters()} == {torch.float32}
    assert language.embeddings.num_embeddings == language.head.weight.shape[0] == 66
    expected = language.model(input_ids=ids, attention_mask=attention, labels=labels).loss
    torch.testing.assert_close(output.text.loss, expected)


def test_samples_packed_in_other_language_models_are_what_they_are_alone(
    folder: Path, packed: tuple[torch.Tensor, Packed]
) -> None:
    language = build(LanguageConfig(vocab_size=40, pretrained=str(folder)))
    ids, layout = packed

    labels = ids.masked_fill(layout.position_BL == 0, -100)

    together = language(language.embeddings(ids), layout.sample_BL >= 0, labels, layout)

    for number in range(3):
        alone_ids = ids[layout.sample_BL == number][None]
        mask = torch.ones_like(alone_ids, dtype=torch.bool)
        alone = language(language.embeddings(alone_ids), mask, alone_ids)
        torch.testing.assert_close(together.hidden_BLC[layout.sample_BL == number], alone.hidden_BLC[0])


def test_a_language_model_is_built_again_without_its_folder(folder: Path) -> None:
    original = build(LanguageConfig(vocab_size=66, pretrained=str(folder)))
    config = LanguageConfig(vocab_size=66, **describe_language(str(folder)))

    again = build(config)
    again.load_state_dict(original.state_dict())

    ids, labels, attention = batch()
    expected = original(original.embeddings(ids), attention, labels).hidden_BLC
    torch.testing.assert_close(again(again.embeddings(ids), attention, labels).hidden_BLC, expected)
