"""One process or many: who they are, what they tell each other, and how they share a model.

`torchrun` (or Ray Train) starts as many processes as there are GPUs. All of them run `train`; each computes its part of
every step. Rank 0 alone writes logs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from dataengine.errors import ModelError
from trainer.batch import REGIONS, TILES, Batch
from trainer.data import PartData
from trainer.model.decoders import DecoderLosses
from trainer.model.visionllm import VisionLLM

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those of a run.

    `control` is a group on CPUs, apart from that of the gradients, for what ranks tell each other; `saving` one more,
    for the thread that writes checkpoints. Both are None where the process is alone.
    """

    device: torch.device
    rank: int = 0
    world: int = 1
    control: dist.ProcessGroup | None = None
    saving: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Return whether this is the rank that writes logs."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in their order. Every rank must call it equally often."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self.control)
        return cast(list[T], found)

    def all(self, value: bool) -> bool:
        """Return whether it is so on every rank."""
        return all(self.gather(value))

    def any(self, value: bool) -> bool:
        """Return whether it is so on some rank."""
        return any(self.gather(value))


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Give this process its place among those that `torchrun` or Ray Train started; alone, there is nothing to join.

    `device` is the configuration's. Raises ModelError where this machine has none, and where another process ended.
    """
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(device=find_device(device, None))
        return
    found = find_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if found.type == "cuda":
        torch.cuda.set_device(found)
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("cpu:gloo,cuda:nccl" if found.type == "cuda" else "gloo")
    groups = [dist.new_group(backend="gloo") for _ in range(2)]
    try:
        with bereaved(rank := dist.get_rank()):
            yield Ranks(
                device=found,
                rank=rank,
                world=dist.get_world_size(),
                control=groups[0],
                saving=groups[1],
            )
    finally:
        for group in (None,) if ours else groups:
            dist.destroy_process_group(group)


@contextmanager
def bereaved(rank: int) -> Iterator[None]:
    """Raise ModelError where this rank fails only because another one has ended."""
    try:
        yield
    except RuntimeError as error:
        # Gloo's errors have no class of their own, but say where in Gloo they arose.
        if not isinstance(error, dist.DistError) and "/gloo/" not in str(error):
            raise
        raise ModelError(
            f"rank {rank}: another rank cannot be reached any more, expected all until the end; see why it ended, and"
            " run the same command again to go on from the newest checkpoint"
        ) from error


def find_device(name: str, local_rank: int | None) -> torch.device:
    """Return the device of that name; of several GPUs, that of this process. Raises ModelError where there is none."""
    found = torch.cuda.is_available()
    if name.startswith("cuda") and not found:
        raise ModelError(f"device: {name!r} cannot be used, no GPU was found; take 'cpu' or 'auto'")
    if name == "auto":
        name = "cuda" if found else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device: {name!r} is unknown, expected 'cpu', 'cuda' or 'auto'") from error
    if device.type == "cuda" and device.index is None and local_rank is not None:
        return torch.device("cuda", local_rank)
    return device


# The model


def sliced(ranks: Ranks, parallel: str) -> bool:
    """Return whether each rank holds a slice of the model alone."""
    return ranks.world > 1 and parallel == "fsdp"


def share_model(model: VisionLLM, ranks: Ranks, parallel: str, precision: str) -> nn.Module:
    """Return what to call for the losses of a batch: the model, on its device, shared by all ranks.

    "ddp": each rank has all of it, and gradients are averaged. "fsdp": each holds its slice of every weight, gradient
    and moment in float32; a layer is gathered when it is computed, those of the language model and the image encoder
    in bfloat16 where that is the run's precision. Decoders stay in float32: boxes need more than eight bits. Slices of
    a model without values (`hollow_model`) have room for them, and still none (see `spread`).
    """
    if ranks.world == 1:
        return model.to(ranks.device)
    if parallel == "ddp":
        return DistributedDataParallel(model.to(ranks.device), find_unused_parameters=True)
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    full = half = MixedPrecisionPolicy()
    if precision == "bf16":
        half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in (*layers(model.vision), *layers(model.language)):
        fully_shard(layer, mesh=mesh, mp_policy=half)
    # What ends the forward pass begins the backward one: nothing is gained by giving it away in between.
    if model.language.embeddings.weight is not model.language.head.weight:
        fully_shard(model.language.embeddings, mesh=mesh, mp_policy=half)
        fully_shard(model.language.head, mesh=mesh, mp_policy=half, reshard_after_forward=False)
    for decoder in model.decoders.values():
        decoder.register_forward_hook(_without_views)
        fully_shard(decoder, mesh=mesh, mp_policy=full, reshard_after_forward=False)
    shared = fully_shard(model, mesh=mesh, mp_policy=full, reshard_after_forward=False)
    return shared._apply(partial(_with_room, ranks.device))


def _with_room(device: torch.device, tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device=device) if tensor.is_meta else tensor.to(device)


def spread(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor] | None, ranks: Ranks) -> None:
    """Fill tensors, of which each rank may have a slice, with those of the same names that rank 0 has whole.

    One after the other goes through the device of each rank. `theirs` is None on all but rank 0.
    """
    for name, tensor in ours.items():
        if theirs is None:
            value = torch.empty(tensor.shape, dtype=tensor.dtype, device=ranks.device)
        else:
            value = theirs[name].to(ranks.device)
        if isinstance(tensor, DTensor):
            tensor.copy_(distribute_tensor(value, tensor.device_mesh, tensor.placements))
        else:
            dist.broadcast(value, 0)
            tensor.copy_(value)


def _without_views(_: nn.Module, __: Any, found: DecoderLosses) -> DecoderLosses:
    """Return the losses as tensors of their own: what hangs on a view would be lost with a change of its base."""
    return replace(found, terms={name: value.clone() for name, value in found.terms.items()})


def compile_layers(model: VisionLLM, backend: str) -> None:
    """Have the language model's layers compiled, before ranks share it: what they gather for a layer, and what it
    computes again in the backward pass, stays outside or inside as it was.
    """
    for layer in layers(model.language):
        layer.compile(backend=backend, dynamic=True)


def layers(model: nn.Module) -> list[nn.Module]:
    """Return what a model repeats, in its order: elements of lists whose class is named a layer or a block."""
    return [
        layer
        for part in model.modules()
        if isinstance(part, nn.ModuleList)
        for layer in part
        if type(layer).__name__.endswith(("Layer", "Block"))
    ]


def plain(shared: nn.Module) -> VisionLLM:
    """Return the model itself."""
    return cast(VisionLLM, shared.module if isinstance(shared, DistributedDataParallel) else shared)


def syncing(shared: nn.Module, wanted: bool) -> AbstractContextManager[None]:
    """Let ranks sum their gradients in the backward pass inside, or only add to their own."""
    if isinstance(shared, DistributedDataParallel):
        return nullcontext() if wanted else shared.no_sync()
    if isinstance(shared, FSDPModule):
        shared.set_requires_gradient_sync(wanted)
    return nullcontext()


@contextmanager
def looking(shared: nn.Module) -> Iterator[None]:
    """Compute a batch that nothing learns from: without a backward pass, no rank gives away what it gathered."""
    with torch.no_grad():
        yield
    for module in shared.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of which each rank has a slice."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


# The steps


def level(ranks: Ranks, parts: Sequence[PartData]) -> tuple[PartData, ...]:
    """Return the parts of a step, each batch knowing what those use that other ranks compute at the same time.

    Ranks compute together: what one gathers, all have to. The data layer sees to it that they have equally many
    batches; here they learn which parts of the model these need.
    """
    if ranks.world == 1:
        return tuple(parts)
    told = ranks.gather([[uses(batch) for batch in part.batches] for part in parts])
    found = []
    for part, *of_ranks in zip(parts, *told, strict=True):
        used = [frozenset().union(*together) for together in zip(*of_ranks, strict=True)]
        batches = tuple(replace(batch, used=names) for batch, names in zip(part.batches, used, strict=True))
        found.append(replace(part, batches=batches))
    return tuple(found)


def uses(batch: Batch) -> frozenset[str]:
    """Return what not every batch has a use for: pictures, regions, and the routing tokens that queries follow."""
    found = set(batch.group_tokens)
    found |= {TILES} if len(batch.tiles_T3SS) else set()
    found |= {REGIONS} if len(batch.regions_RSS) else set()
    return frozenset(found)
