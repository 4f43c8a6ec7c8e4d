"""The weights that a run starts with: those of another run, module by module (`init_from`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch

from dataengine.errors import ModelError
from trainer.checkpoint import load_model
from trainer.model.visionllm import VisionLLM


class Inherited(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it, by module: `taken` over, `new` in this run, and `left` behind in the other."""

    origin: str
    taken: tuple[str, ...]
    new: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        parts = (("taken", self.taken), ("new", self.new), ("left behind", self.left))
        return f"weights of {self.origin}: " + "; ".join(
            f"{name}: {', '.join(modules)}" for name, modules in parts if modules
        )


def inherit(model: VisionLLM, directory: Path) -> Inherited:
    """Put the weights of another run, or of one of its checkpoints, into a model.

    A module is taken over as a whole. Adapters of a run whose model has none here are added to the weights that they
    stand beside. Raises ModelError where a module that both have is not of the same size in both, and where the other
    run's tokens have other ids.
    """
    other, _, _ = load_model(directory, merge=model.config.language.lora is None)
    if other.config.token_ids != model.config.token_ids:
        raise ModelError(
            f"{directory}: its tokens have other ids than this model's, expected the same tokenizer; leave out"
            " tokenizer, so that its own is used"
        )
    ours, theirs = _modules(model), _modules(other)
    taken = [name for name in ours if name in theirs]
    for name in taken:
        _copy(ours[name], theirs[name], f"{directory}: {name}")
    return Inherited(
        origin=str(directory),
        taken=tuple(taken),
        new=tuple(name for name in ours if name not in theirs),
        left=tuple(name for name in theirs if name not in ours),
    )


def _modules(model: VisionLLM) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors of the model by module: "vision", "language", "lora", "decoders.pose", ..."""
    adapters = {id(parameter) for parameter in model.parts().get("lora", [])}
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        words = name.split(".")
        module = {"decoders": ".".join(words[:2]), "superlink": ".".join([words[0], *words[2:3]])}.get(
            words[0], words[0]
        )
        module = "lora" if id(value) in adapters else module
        # peft names a layer that has adapters anew.
        modules.setdefault(module, {})[name.replace(".base_layer.", ".")] = value
    return modules


@torch.no_grad()
def _copy(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], place: str) -> None:
    shapes, expected = (
        {name: tuple(value.shape) for name, value in module.items()} for module in (theirs, ours)
    )
    if differing := sorted(name for name in shapes | expected if shapes.get(name) != expected.get(name)):
        name = differing[0]
        raise ModelError(
            f"{place}: {name} has shape {shapes.get(name)}, expected {expected.get(name)}: a module is taken over as a"
            " whole; give the model the same sizes"
        )
    for name, value in ours.items():
        value.copy_(theirs[name])
