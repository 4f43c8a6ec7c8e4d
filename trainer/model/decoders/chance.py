"""Chance by sample: what a sample draws depends neither on the others of its batch nor on how a step is cut."""

from __future__ import annotations

import hashlib

import torch


def draw_seed(generator: torch.Generator) -> int:
    """Draw a number from which each sample draws its own chance (see `chance_of`)."""
    return int(torch.randint(1 << 62, (), generator=generator, device=generator.device))


def chance_of(seed: int, sample_id: str) -> torch.Generator:
    """Return a sample's own generator, on the CPU."""
    digest = hashlib.sha256(repr((seed, sample_id)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
