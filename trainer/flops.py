"""How much a step computes, and how much a device could: what the MFU of a log is made from (Chowdhery et al. 2022,
appendix B: operations that the model needs, those of recomputed activations not counted).

A multiplication and an addition are two operations. The backward pass of a layer takes as many again for its input, and
as many again for its weights where they are trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trainer.batch import IGNORED, Batch
from trainer.model.visionllm import VisionLLM

# bfloat16, dense, in 10^12 operations a second, by a part of the device's name: the makers' data sheets.
PEAK_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "A10G": 70.0,
    "L4": 121.0,
    "4090": 165.2,
}


def peak_flops(device: torch.device, precision: str, given_tflops: float | None) -> float | None:
    """Return the operations a second that a device can do: as given, or by its name; None where nobody knows."""
    if given_tflops is not None:
        return given_tflops * 1e12
    if device.type != "cuda" or precision != "bf16":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak * 1e12 for part, peak in PEAK_TFLOPS.items() if part in name), None)


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """Weights that are multiplied with, and the share of them that is trained."""

    number: int
    trained: float

    @staticmethod
    def of(model: nn.Module, without: nn.Module | None = None) -> _Weights:
        found = [
            layer.weight
            for layer in model.modules()
            if isinstance(layer, nn.Linear | nn.Conv2d) and layer is not without
        ]
        number = sum(weight.numel() for weight in found)
        trained = sum(weight.numel() for weight in found if weight.requires_grad)
        return _Weights(number=number, trained=trained / max(number, 1))


class Flops:
    """Counts the operations of batches of one model: by formula, and of decoders as their first call was measured."""

    def __init__(self, model: VisionLLM) -> None:
        """Take a model before ranks share it. The next call of each decoder is measured, once."""
        settings = model.language.model.config
        head_side = (
            getattr(settings, "head_dim", None) or settings.hidden_size // settings.num_attention_heads
        )
        self.attention = settings.num_attention_heads * head_side * settings.num_hidden_layers
        self.head = _Weights.of(model.language.head)
        self.language = _Weights.of(model.language, model.language.head)
        self.vision = _Weights.of(model.vision.encoder)
        self.vision_attention = model.vision.width * model.vision.encoder.config.num_hidden_layers
        self.projector = _Weights.of(model.vision.projector)
        self.stem = _Weights.of(model.region.stem)
        self.region_forward = _stem_operations(model.region.stem, model.config.vision.image_size)
        self.num_patches = (model.config.vision.image_size // model.config.vision.patch_size) ** 2
        self.num_tokens = model.config.vision.tokens_per_tile
        self.inputs_trained = any(
            parameter.requires_grad
            for part in (model.vision, model.region, model.language.embeddings)
            for parameter in part.parameters()
        )
        self.queries_trained = any(parameter.requires_grad for parameter in model.superlink.parameters())
        self.decoders = {family: _Weights.of(decoder) for family, decoder in model.decoders.items()}
        # Operations of a decoder's forward pass for each pixel of its pictures.
        self.per_pixel: dict[str, float] = {}
        for family, decoder in model.decoders.items():
            self._measure_next(family, decoder)

    def of(self, batch: Batch) -> float:
        """Return the operations of both passes over a batch."""
        tiles, regions = len(batch.tiles_T3SS), len(batch.regions_RSS)
        through = self.inputs_trained or (self.queries_trained and len(batch.groups_G2) > 0)
        total = self.language_forward(batch) * (1 + float(through) + self.language.trained)
        total += tiles * self.vision_forward() * (1 + 2 * self.vision.trained)
        projected = 2 * self.projector.number * self.num_tokens
        total += tiles * projected * (1 + float(self.vision.trained > 0) + self.projector.trained)
        total += regions * self.region_forward * (1 + 2 * self.stem.trained)
        if batch.family in self.decoders:
            forward = _pixels(batch) * self.per_pixel.get(batch.family, 0.0)
            total += forward * (2 + self.decoders[batch.family].trained)
        return total

    def language_forward(self, batch: Batch) -> float:
        """Return the operations of the language model's forward pass over what is no padding. Causal attention is half
        of all pairs, and takes two multiplications a pair and width."""
        lengths = _lengths(batch)
        labelled = int((batch.labels_BL[:, 1:] != IGNORED).sum())
        linear = 2 * self.language.number * sum(lengths) + 2 * self.head.number * labelled
        return linear + sum(2 * self.attention * length**2 for length in lengths)

    def vision_forward(self) -> float:
        """Return the operations of the image encoder's forward pass over a tile; its attention has no mask."""
        tokens = self.num_patches + 1
        return 2 * self.vision.number * tokens + 4 * self.vision_attention * tokens**2

    def _measure_next(self, family: str, decoder: nn.Module) -> None:
        counter = FlopCounterMode(display=False)

        def begin(*_: object) -> None:
            counter.__enter__()

        def end(_: object, inputs: tuple[object, Batch, object], __: object) -> None:
            counter.__exit__(None, None, None)
            self.per_pixel[family] = counter.get_total_flops() / _pixels(inputs[1])
            for handle in handles:
                handle.remove()

        handles = [decoder.register_forward_pre_hook(begin), decoder.register_forward_hook(end)]


def _pixels(batch: Batch) -> int:
    """Return how many pixels a batch's decoder pictures have, padding included."""
    pictures = batch.images_B3HW if batch.pictures is None else batch.pictures.wanted_B3SS
    return 0 if pictures is None else pictures[:, 0].numel()


def _lengths(batch: Batch) -> list[int]:
    """Return the tokens of each sample."""
    if batch.packed is None:
        return batch.attention_mask_BL.sum(1).tolist()
    samples_BL = batch.packed.sample_BL
    return torch.bincount(samples_BL[samples_BL >= 0], minlength=batch.packed.num_samples).tolist()


def _stem_operations(stem: nn.Module, side: int) -> float:
    """Return the operations of a stem of strided convolutions over a picture."""
    total, stride = 0.0, 1
    for layer in stem.modules():
        if isinstance(layer, nn.Conv2d):
            stride *= layer.stride[0]
            total += 2 * layer.weight.numel() * (side // stride) ** 2
    return total
