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
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from dataengine.errors import ModelError
from trainer import checkpoint as checkpoints
from trainer.checkpoint import Saver, export, find_all, load_model, newest, open_checkpoint, superfluous
from trainer.distributed import Ranks
from trainer.model.config import make_model
from trainer.model.visionllm import VisionLLM

WEIGHTS = "shard-00001-model-00001-of-00002.safetensors"
ALONE = Ranks(device=torch.device("cpu"))
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
    # Weights and optimiser of the one rank, which can be read apart.
    assert {path.name for path in found.directory.iterdir()} == {
        "checkpoint.json",
        "tokenizer",
        "shard-00001-model-00001-of-00002.safetensors",
        "shard-00001-model-00002-of-00002.safetensors",
    }


def test_the_model_comes_back_from_run_or_checkpoint(straight: Path) -> None:
    model, tokenizer, config = load_model(straight)
    same, _, _ = load_model(straight / "checkpoints/step-00000006")

    saved = load_file(straight / "checkpoints/step-00000006" / WEIGHTS)
    assert all(torch.equal(value, saved[f"model.{name}"]) for name, value in model.state_dict().items())
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
    with Saver(tmp_path / "run/checkpoints", ALONE, keep=1) as saver:
        saver.save(record, model, optimizer, tokenizer)

    shutil.rmtree(vision)
    shutil.rmtree(language)
    again, _, _ = load_model(tmp_path / "run")

    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_weights_that_are_exported_are_those_of_the_run(straight: Path, tmp_path: Path) -> None:
    folder = export(straight, tmp_path / "weights")

    model, tokenizer, config = load_model(folder)
    same, _, _ = load_model(straight)

    assert {path.name for path in folder.iterdir()} == {"checkpoint.json", "tokenizer", "model.safetensors"}
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert (len(tokenizer), config.steps) == (model.config.language.vocab_size, 6)


def test_an_unfinished_checkpoint_is_not_found(copy: Path) -> None:
    folder = copy / "checkpoints"
    (folder / ".step-00000009.tmp").mkdir()

    found = newest(folder)
    Saver(folder, ALONE, keep=1).clear()

    assert found is not None and found.record.step == 6
    assert newest(copy / "nowhere") is None
    assert [path.name for path in folder.iterdir()] == ["step-00000006"]


def test_a_write_that_fails_leaves_the_old_checkpoint(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, _ = load_model(copy)
    found = newest(copy / "checkpoints")
    assert found is not None
    optimizer = torch.optim.AdamW(model.parameters())

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints, "save_tokenizer", full)
    saver = Saver(copy / "checkpoints", ALONE, keep=1)
    saver.save(found.record, model, optimizer, tokenizer)
    with pytest.raises(ModelError, match=r"could not be written: .*no space left"):
        saver.wait()

    assert find_all(copy / "checkpoints") == [found.directory]
    assert load_model(copy)[2].steps == 6


def test_only_the_newest_are_kept(copy: Path) -> None:
    model, tokenizer, _ = load_model(copy)
    found = newest(copy / "checkpoints")
    assert found is not None
    optimizer = torch.optim.AdamW(model.parameters())

    with Saver(copy / "checkpoints", ALONE, keep=2) as saver:
        for step in (7, 8, 9):
            record = msgspec.structs.replace(found.record, step=step)
            saver.save(record, model, optimizer, tokenizer)

    assert [path.name for path in find_all(copy / "checkpoints")] == ["step-00000008", "step-00000009"]


class Hostile:
    """What a pickle can do to whoever opens it."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("hostile-code-ran",)


def test_a_hostile_checkpoint_runs_no_code(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    folder = copy / "checkpoints/step-00000006"
    # What torch's own form of a distributed checkpoint is opened by.
    (folder / ".metadata").write_bytes(pickle.dumps(Hostile()))
    assert load_model(copy)[2].steps == 6
    torch.save({"weight": Hostile()}, folder / WEIGHTS)

    with pytest.raises(ModelError, match="cannot be read"):
        load_model(copy)

    assert not (copy / "hostile-code-ran").exists()


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a checkpoint"):
        open_checkpoint(tmp_path)


def test_weights_of_another_model_are_refused(copy: Path) -> None:
    path = copy / "checkpoints/step-00000006" / WEIGHTS
    state = load_file(path)
    state.pop("model.vision.projector.0.weight")
    save_file(state, path)

    with pytest.raises(
        ModelError, match=r"do not fit the model \(model\.vision\.projector\.0\.weight is absent"
    ):
        load_model(copy)


def test_a_truncated_file_is_refused(copy: Path) -> None:
    path = copy / "checkpoints/step-00000006" / WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(ModelError, match=r"step-00000006: cannot be read"):
        load_model(copy)


def test_what_is_written_is_what_was_there_when_it_began(copy: Path) -> None:
    model, tokenizer, _ = load_model(copy)
    found = newest(copy / "checkpoints")
    assert found is not None
    before = {name: value.clone() for name, value in model.state_dict().items()}

    with Saver(copy / "checkpoints", ALONE, keep=1) as saver:
        record = msgspec.structs.replace(found.record, step=7)
        saver.save(record, model, torch.optim.AdamW(model.parameters()), tokenizer)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()

    after = load_model(copy)[0].state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


@pytest.mark.parametrize(
    ("hours", "keep", "every", "gone"),
    [
        ([0, 1, 2, 3], 2, None, [0, 1]),
        ([0, 1, 2, 3], 9, None, []),
        ([0, 1, 2, 3, 4, 5], 1, 2, [1, 3]),
        ([0, 1, 2, 3, 4, 5], 2, 24, [1, 2, 3]),
        ([5], 1, 1, []),
    ],
)
def test_checkpoints_are_kept_by_count_and_by_age(
    hours: list[float], keep: int, every: float | None, gone: list[int]
) -> None:
    assert superfluous(hours, keep, every) == gone
