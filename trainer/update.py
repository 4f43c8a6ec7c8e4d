"""One step's update: the gradient of all of its batches on all ranks, clipped once, and one move of the weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import nn

from dataengine.mix import key
from trainer.batch import Batch, Whole, counts
from trainer.config import TrainConfig
from trainer.data import PartData
from trainer.distributed import Ranks, looking, plain, syncing, uses, whole
from trainer.losses import mean_count
from trainer.model.decoders.chance import draw_seed
from trainer.model.region import region_noise
from trainer.model.visionllm import Output


@dataclass(frozen=True, kw_only=True)
class Computed:
    """What a micro-batch of part `number` gave: its output without graph, its weight, 0 where it is idle, and whether
    anything learnt from it."""

    batch: Batch
    number: int
    weight: float
    learnt: bool
    output: Output

    @property
    def finite(self) -> bool:
        """Return whether its loss is a number."""
        return math.isfinite(float(self.output.loss))


def update(
    config: TrainConfig,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[PartData],
    step: int,
    ranks: Ranks | None = None,
) -> tuple[list[Computed], float]:
    """Take one step on all batches of all parts, and return what this rank's gave and the norm of the whole gradient.

    `model` is a `VisionLLM`, or what `share_model` made of it; then all ranks call with as many batches (see `level`).
    Where loss or gradient is not finite on any rank, the weights stay on all, and the norm is returned as it is.
    """
    optimizer.zero_grad(set_to_none=True)
    left = sum(_learns(model, batch) for part in parts for batch in part.batches)
    computed = []
    for number, part in enumerate(parts):
        for found in _accumulate(config, model, part, number, step, left):
            computed.append(found)
            left -= found.learnt
    finite = all(found.finite for found in computed)
    if not (finite if ranks is None else ranks.all(finite)):
        return computed, math.nan
    grad_norm = _clip(config, optimizer)
    if math.isfinite(grad_norm):
        optimizer.step()
    return computed, grad_norm


def _clip(config: TrainConfig, optimizer: torch.optim.Optimizer) -> float:
    """Clip the gradient, whole or each part's (a group of the optimiser) by itself; return the norm that all of it
    had."""
    groups = [[p for p in group["params"] if p.grad is not None] for group in optimizer.param_groups]
    if config.clip_by == "whole":
        groups = [list(itertools.chain(*groups))]
    clipped = (torch.nn.utils.clip_grad_norm_(some, config.grad_clip) for some in groups if some)
    return math.hypot(*(float(whole(norm)) for norm in clipped))


def _accumulate(
    config: TrainConfig, model: nn.Module, part: PartData, number: int, step: int, left: int
) -> Iterator[Computed]:
    """Add the gradient of a part's loss, and yield what each of its batches adds to it; the last of `left` batches that
    have a gradient has ranks sum theirs.

    Sums are divided by the counts of the whole part, and points of regions drawn by their numbers in it: the part's
    loss is the same, however it is cut. A decoder's noise is each micro-batch's own, by its number: also where the part
    has but one, which on several ranks is cut from it like any other.
    """
    device = next(model.parameters()).device
    name = f"noise:{number}" if number else "noise"
    if not part.batches:
        return
    of_part = _whole(config, model, part, step, name, device)
    for place, on_cpu in enumerate(part.batches):
        learns = _learns(model, on_cpu)
        weight = part.weight if place < len(part.counted) else 0.0
        batch = on_cpu.to(device)
        batch = replace(batch, whole=_of_batch(of_part, batch))
        own_name = f"{name}/{batch.number}" if batch.number else name
        # For dropout, which draws from the global state: a run goes on bit for bit without any state saved.
        torch.manual_seed(key(config.seed, f"dropout {own_name}", step) >> 1)
        bf16 = config.precision == "bf16"
        with syncing(model, left == 1) if learns else looking(model):
            with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
                output = model(batch, _generator(config, own_name, step))
            if learns:
                (output.loss * weight).backward()
        left -= learns
        yield Computed(batch=on_cpu, number=number, weight=weight, learnt=learns, output=_detached(output))


def _learns(model: nn.Module, batch: Batch) -> bool:
    """Return whether a batch has a gradient, on any of the ranks that compute it together."""
    return plain(model).learns_from(batch.family, uses(batch) if batch.used is None else batch.used)


def _whole(
    config: TrainConfig, model: nn.Module, part: PartData, step: int, noise: str, device: torch.device
) -> Whole:
    """Return what batches must know of the part that they are cut from."""
    counts_bn = torch.stack([counts(batch) for batch in part.batches])
    counted_b1 = torch.arange(len(part.batches))[:, None] < len(part.counted)
    numbers = [batch.region_numbers_R for batch in part.batches if batch.region_numbers_R is not None]
    num_regions = max((int(numbers_R.max()) + 1 for numbers_R in numbers if len(numbers_R)), default=0)
    num_pixels = plain(model).config.vision.image_size ** 2
    # Drawn in the order in which a batch that is the whole part would draw.
    generator = _generator(config, noise, step)
    return Whole(
        counts_5=mean_count((counts_bn * counted_b1).sum(0).to(device)),
        region_noise_RP=region_noise(num_regions, num_pixels, generator),
        seed=draw_seed(generator),
    )


def _of_batch(of_part: Whole, batch: Batch) -> Whole:
    """Return what one batch must know: without numbers of its regions, their points are drawn by its own noise."""
    noise_RP = None
    if batch.region_numbers_R is not None and of_part.region_noise_RP is not None:
        noise_RP = of_part.region_noise_RP[batch.region_numbers_R.cpu()]
    return replace(of_part, region_noise_RP=noise_RP)


def _generator(config: TrainConfig, name: str, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(key(config.seed, name, step) >> 1)


def _detached(output: Output) -> Output:
    return replace(output, loss=output.loss.detach(), text_loss_B=output.text_loss_B.detach())
