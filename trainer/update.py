"""One step's update: the gradient of all of its batches, clipped once, and one move of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch

from dataengine.mix import key
from trainer.batch import Whole, counts
from trainer.config import TrainConfig
from trainer.data import PartData
from trainer.losses import mean_count
from trainer.model.decoders.chance import draw_seed
from trainer.model.region import region_noise
from trainer.model.visionllm import Output, VisionLLM


def update(
    config: TrainConfig,
    model: VisionLLM,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[PartData],
    step: int,
) -> tuple[Output, float]:
    """Take one step on all batches of all parts, and return the sum of their outputs and the norm of the gradient.

    Where loss or gradient is not finite, the weights stay and the norm is returned as it is.
    """
    optimizer.zero_grad(set_to_none=True)
    outputs = [
        output
        for number, part in enumerate(parts)
        for output in _accumulate(config, model, part, step, f"noise:{number}" if number else "noise")
    ]
    output = _sum(outputs)
    if not torch.isfinite(output.loss):
        return output, math.nan
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    grad_norm = float(torch.nn.utils.clip_grad_norm_(trained, config.grad_clip))
    if math.isfinite(grad_norm):
        optimizer.step()
    return output, grad_norm


def _accumulate(
    config: TrainConfig, model: VisionLLM, part: PartData, step: int, noise: str
) -> Iterator[Output]:
    """Add the gradient of a part's loss, and yield what each of its batches adds to it.

    Sums are divided by the counts of the whole part, and points of regions drawn by their numbers in it: the part's
    loss is the same, however it is cut. A decoder's noise is each micro-batch's own.
    """
    device = next(model.parameters()).device
    whole = _whole(config, model, part, step, noise, device)
    for place, batch in enumerate(part.batches):
        idle = place >= len(part.counted)
        weight = 0.0 if idle else part.weight
        batch = batch.to(device)
        name = noise
        if whole is not None:
            name = f"{noise}:{batch.number}"
            region_noise_RP = whole.region_noise_RP[batch.region_numbers_R.cpu()]
            batch = replace(batch, whole=replace(whole, region_noise_RP=region_noise_RP))
        bf16 = config.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
            output = model(batch, _generator(config, name, step))
        (output.loss * weight).backward()
        yield _weighted(output, weight, 0 if idle else len(batch.sample_ids))


def _whole(
    config: TrainConfig, model: VisionLLM, part: PartData, step: int, noise: str, device: torch.device
) -> Whole | None:
    """Return what batches must know of the part that they are cut from; None where its one batch is all of it."""
    if not part.cut:
        return None
    numbers = [batch.region_numbers_R for batch in part.batches]
    counted = sum((counts(batch) for batch in part.counted), torch.zeros(5, dtype=torch.int64))
    num_regions = max(int(numbers_R.max()) + 1 if len(numbers_R) else 0 for numbers_R in numbers)
    num_pixels = model.config.vision.image_size**2
    # Drawn in the order in which a batch that is the whole part would draw.
    generator = _generator(config, noise, step)
    return Whole(
        counts_5=mean_count(counted.to(device)),
        region_noise_RP=region_noise(num_regions, num_pixels, generator),
        seed=draw_seed(generator),
    )


def _generator(config: TrainConfig, name: str, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(key(config.seed, name, step) >> 1)


def _weighted(output: Output, weight: float, num_samples: int) -> Output:
    """Return an output for the log, without its graph: losses times their weight in the step's, and the samples that
    count."""
    return Output(
        loss=output.loss.detach() * weight,
        losses={name: value * weight for name, value in output.losses.items()},
        detail={name: value * weight for name, value in output.detail.items()},
        text_loss_B=output.text_loss_B.detach()[:num_samples],
        text_tokens_B=output.text_tokens_B[:num_samples],
    )


def _sum(outputs: Sequence[Output]) -> Output:
    """Return the sum of the losses, and the samples' one after another."""

    def summed(tables: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        names = dict.fromkeys(name for table in tables for name in table)
        return {name: sum(table[name] for table in tables if name in table) for name in names}

    return Output(
        loss=torch.stack([output.loss for output in outputs]).sum(),
        losses=summed([output.losses for output in outputs]),
        detail=summed([output.detail for output in outputs]),
        text_loss_B=torch.cat([output.text_loss_B for output in outputs]),
        text_tokens_B=torch.cat([output.text_tokens_B for output in outputs]),
    )
