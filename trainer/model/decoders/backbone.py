"""Image backbones of the object decoder: four maps at strides 4, 8, 16 and 32.

Shape suffixes: B images, H W image.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import SwinBackbone, SwinConfig


class ConvBackbone(nn.Module):
    """A small plain network: per stage one strided convolution and one residual one, group norm, widths w to
    4w.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width, 4 * width)
        self.stem = _convolution(3, width // 2, stride=2)
        self.down = nn.ModuleList(
            _convolution(before, after, stride=2)
            for before, after in zip((width // 2, *self.channels[:-1]), self.channels, strict=True)
        )
        self.refine = nn.ModuleList(_convolution(channels, channels, stride=1) for channels in self.channels)

    def forward(self, images_B3HW: torch.Tensor) -> list[torch.Tensor]:
        """Return the four maps."""
        feature = F.relu(self.stem(images_B3HW))
        maps = []
        for down, refine in zip(self.down, self.refine, strict=True):
            feature = F.relu(down(feature))
            feature = F.relu(feature + refine(feature))
            maps.append(feature)
        return maps


class SwinMaps(nn.Module):
    """A Swin transformer of transformers, with stride 4 among its outputs."""

    def __init__(self, swin: SwinBackbone) -> None:
        super().__init__()
        self.swin = swin
        self.channels = tuple(swin.channels)

    def forward(self, images_B3HW: torch.Tensor) -> list[torch.Tensor]:
        """Return the four maps."""
        return list(self.swin(images_B3HW).feature_maps)


def build_swin(settings: dict[str, Any]) -> SwinMaps:
    """Build a Swin backbone of random weights from the fields of transformers' SwinConfig."""
    return SwinMaps(
        SwinBackbone(SwinConfig(**{**settings, "out_indices": [1, 2, 3, 4], "out_features": None}))
    )


def _convolution(before: int, after: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False), nn.GroupNorm(8, after)
    )
