"""Low-rank adapters of a language model's linear layers, by peft."""

from __future__ import annotations

from collections.abc import Iterator

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from dataengine.errors import ModelError
from trainer.model.config import LoraConfig


def add_lora(model: nn.Module, config: LoraConfig) -> None:
    """Put adapters beside the layers that are called as `config.targets`; what the model computes stays as it was.

    Raises ModelError where no layer has one of these names.
    """
    found = {
        name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)
    }
    missing = [name for name in config.targets if name not in found]
    if missing or not config.targets:
        raise ModelError(
            f"language.lora: no layer is called {missing[:1] or config.targets!r}, expected targets among"
            f" {sorted(found)!r}; name those of this model"
        )
    # What is drawn for the adapters is drawn apart, so that all other random weights are those without them.
    with torch.random.fork_rng(devices=[]):
        peft.inject_adapter_in_model(
            peft.LoraConfig(
                r=config.rank,
                lora_alpha=config.alpha,
                lora_dropout=config.dropout,
                target_modules=list(config.targets),
            ),
            model,
        )
    # peft freezes the rest; here a stage says what learns.
    model.requires_grad_(True)


def lora_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the adapters' own parameters."""
    return [
        parameter
        for _, layer in _layers(model)
        for name in layer.adapter_layer_names
        for parameter in getattr(layer, name).parameters()
    ]


def merge_lora(model: nn.Module) -> None:
    """Add the adapters to the weights that they stand beside, and remove them."""
    for name, layer in list(_layers(model)):
        layer.merge(safe_merge=True)
        model.set_submodule(name, layer.get_base_layer())


def _layers(model: nn.Module) -> Iterator[tuple[str, BaseTunerLayer]]:
    return ((name, layer) for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer))
