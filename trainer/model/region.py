"""The region encoder: a picture and a mask in, one vector of the language model's width out (paper, appendix
B.1).

Shape suffixes: R regions, T tiles, S tile side in pixels, P patches, h w patch grid, D width of the image
encoder, n sampled points, C width of the language model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from dataengine.errors import ModelError
from trainer.model.config import RegionConfig


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of [batch, channels, height, width]."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class RegionEncoder(nn.Module):
    """Encodes each region from its picture, its mask and the image encoder's last hidden states."""

    def __init__(
        self, config: RegionConfig, *, patch_size: int, vision_width: int, language_width: int
    ) -> None:
        super().__init__()
        if patch_size % 2:
            raise ModelError(
                f"region: patch_size {patch_size!r} is odd, expected an even one; the stem halves it"
            )
        first, second = config.stem_channels
        self.config = config
        # The strides multiply to patch_size, so that the stem's map lies on the image encoder's patches (14 =
        # 7 * 2).
        self.stem = nn.Sequential(
            nn.Conv2d(4, first, kernel_size=patch_size // 2, stride=patch_size // 2),
            ChannelNorm(first),
            nn.GELU(),
            nn.Conv2d(first, second, kernel_size=2, stride=2),
            ChannelNorm(second),
            nn.GELU(),
            nn.Conv2d(second, vision_width, kernel_size=1),
        )
        self.projection = nn.Linear(vision_width, language_width)

    def forward(
        self,
        tiles_T3SS: torch.Tensor,
        levels_TPD: Sequence[torch.Tensor],
        regions_RSS: torch.Tensor,
        region_tile_R: torch.Tensor,
        names: Sequence[str],
        generator: torch.Generator | None,
        noise_RP: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return one vector per region, [R, C].

        `region_tile_R` says on which tile each binary mask lies; `names` name the sample of each region for
        errors. Points are drawn by `noise_RP` where it is given, else with `generator`; None draws the same ones each
        time (evaluation). Raises ModelError if a mask marks no pixel.
        """
        empty = ~(regions_RSS > 0).flatten(1).any(1)
        if empty.any():
            where = int(empty.nonzero()[0])
            raise ModelError(
                f"{names[where]}: region mask {where} of the batch marks no pixel, expected at least one; "
                "keep the nearest pixel when a mask is resized"
            )
        mask_R1SS = regions_RSS[:, None].to(tiles_T3SS.dtype)
        map_RDhw = self.stem(torch.cat([tiles_T3SS[region_tile_R], mask_R1SS], dim=1))
        grid_Rn2, valid_Rn = sample_foreground(regions_RSS, self.config.max_points, generator, noise_RP)
        weight_Rn = (valid_Rn / valid_Rn.sum(1, keepdim=True)).to(map_RDhw.dtype)
        side = math.isqrt(levels_TPD[0].shape[1])
        grid_Rn12 = grid_Rn2[:, :, None].to(map_RDhw.dtype)
        sampled_RD = map_RDhw.new_zeros(map_RDhw.shape[:2])
        for level_TPD in levels_TPD:
            # The map accumulates: the second level is sampled with the first one in it, as in the paper's
            # code.
            map_RDhw = map_RDhw + level_TPD[region_tile_R].transpose(1, 2).unflatten(2, (side, side))
            points_RDn = F.grid_sample(map_RDhw, grid_Rn12, align_corners=False)[..., 0]
            sampled_RD = sampled_RD + (points_RDn * weight_Rn[:, None]).sum(2)
        return self.projection(sampled_RD / len(levels_TPD))


def sample_foreground(
    regions_RSS: torch.Tensor,
    max_points: int,
    generator: torch.Generator | None,
    noise_RP: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw up to `max_points` foreground pixels of each mask, without replacement; all of them where there
    are fewer.

    Returns their centres as grid_sample coordinates in [-1, 1], [R, n, 2], and which of the n are real, [R,
    n]. Those with the largest noise are drawn (see `region_noise`). Without noise or a generator the draw depends
    on the mask alone, not on its place in the batch.
    """
    num_regions, height, width = regions_RSS.shape
    foreground = regions_RSS.flatten(1) > 0
    if noise_RP is None and generator is None:
        noise_RP = torch.rand((1, height * width), generator=torch.Generator().manual_seed(0))
    elif noise_RP is None:
        noise_RP = region_noise(num_regions, height * width, generator)
    score = torch.where(foreground, noise_RP.to(regions_RSS.device), -1.0)
    limit = min(max_points, int(foreground.sum(1).max()))
    top, index = score.topk(limit, dim=1)
    x = (index % width + 0.5) / width
    y = (torch.div(index, width, rounding_mode="floor") + 0.5) / height
    return torch.stack([x, y], dim=-1) * 2 - 1, top >= 0


def region_noise(num_regions: int, num_pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Return the chance by which points are drawn, [R, P]; its first rows are the same however many there are."""
    return torch.rand((num_regions, num_pixels), generator=generator, device=generator.device)
