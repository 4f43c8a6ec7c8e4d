"""A checkpoint is there whole or not at all, and opening one runs no code."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from dataengine.errors import ModelError
from trainer import checkpoint as checkpoints
from trainer.checkpoint import find_all, load_model, newest, open_checkpoint
from trainer.model.config import make_model
from trainer.model.visionllm import VisionLLM

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


@pytest.fixture
def copy(straight: Path, tmp_path: Path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(straight, tmp_path / "run"))


def test_a_checkpoint_says_what_it_is(straight: Path) -> None:
    found = newest(straight / "checkpoints")

    assert found is not None
    assert (found.record.step, found.record.position, found.record.plan) == (6, 12, "toy")
    assert found.record.config.seed == 3
    assert {path.name for path in found.directory.iterdir()} == {
        "weights.pt", "optimizer.pt", "checkpoint.json", "tokenizer",
    }  # fmt: skip


def test_the_model_comes_back_from_run_or_checkpoint(straight: Path) -> None:
    model, tokenizer, config = load_model(straight)
    same, _, _ = load_model(straight / "checkpoints/step-00000006")

    saved = torch.load(straight / "checkpoints/step-00000006/weights.pt")
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert not model.training
    assert len(tokenizer) == model.config.language.vocab_size
    assert config.steps == 6


def test_a_checkpoint_needs_no_folder_that_its_weights_came_from(straight: Path, tmp_path: Path) -> None:
    _, tokenizer, _ = load_model(straight)
    vision = tmp_path / "vision"
    CLIPVisionModel(CLIPVisionConfig(**TINY, image_size=28, patch_size=14)).save_pretrained(vision)
    language = tmp_path / "language"
    LlamaForCausalLM(LlamaConfig(**TINY, vocab_size=100, num_key_value_heads=2)).save_pretrained(language)
    folders = {
        "vision": {"pretrained": str(vision), "pixel_shuffle": 1},
        "language": {"pretrained": str(language)},
    }
    model = VisionLLM(make_model({"preset": "tiny", "decoders": [], **folders}, tokenizer.get_vocab()))
    record = newest(straight / "checkpoints").record  # type: ignore[union-attr]
    record = msgspec.structs.replace(record, model=model.config.to_dict())
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoints.save(tmp_path / "run/checkpoints", record, model, optimizer, tokenizer, keep=1)

    shutil.rmtree(vision)
    shutil.rmtree(language)
    again, _, _ = load_model(tmp_path / "run")

    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_an_unfinished_checkpoint_is_not_found(copy: Path) -> None:
    folder = copy / "checkpoints"
    (folder / ".step-00000009.tmp1").mkdir()

    found = newest(folder)

    assert found is not None and found.record.step == 6
    assert newest(copy / "nowhere") is None


def test_a_write_that_fails_leaves_the_old_checkpoint(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, _ = load_model(copy)
    found = newest(copy / "checkpoints")
    assert found is not None
    optimizer = torch.optim.AdamW(model.parameters())

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints, "save_tokenizer", full)
    with pytest.raises(OSError, match="no space left"):
        checkpoints.save(copy / "checkpoints", found.record, model, optimizer, tokenizer, keep=1)

    assert find_all(copy / "checkpoints") == [found.directory]
    assert load_model(copy)[2].steps == 6


def test_only_the_newest_are_kept(copy: Path) -> None:
    import msgspec

    model, tokenizer, _ = load_model(copy)
    found = newest(copy / "checkpoints")
    assert found is not None
    optimizer = torch.optim.AdamW(model.parameters())

    for step in (7, 8, 9):
        record = msgspec.structs.replace(found.record, step=step)
        checkpoints.save(copy / "checkpoints", record, model, optimizer, tokenizer, keep=2)

    assert [path.name for path in find_all(copy / "checkpoints")] == ["step-00000008", "step-00000009"]


class Hostile:
    """What a pickle can do to whoever opens it."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("hostile-code-ran",)


def test_a_hostile_checkpoint_runs_no_code(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    torch.save({"weight": Hostile()}, copy / "checkpoints/step-00000006/weights.pt")

    with pytest.raises((ModelError, pickle.UnpicklingError)):
        load_model(copy)

    assert not (copy / "hostile-code-ran").exists()


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a checkpoint"):
        open_checkpoint(tmp_path)


def test_weights_of_another_model_are_refused(copy: Path) -> None:
    path = copy / "checkpoints/step-00000006/weights.pt"
    state = torch.load(path)
    state.pop("vision.projector.0.weight")
    torch.save(state, path)

    with pytest.raises(ModelError, match="weights do not fit the model"):
        load_model(copy)


def test_a_truncated_file_is_refused(copy: Path) -> None:
    path = copy / "checkpoints/step-00000006/weights.pt"
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(ModelError, match=r"weights\.pt: cannot be read"):
        load_model(copy)
