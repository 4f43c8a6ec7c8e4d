"""What decoders that look at a picture take from a batch, checked.

Shape suffixes: B samples, G groups, M groups of the sample with the most, D width of the decoder, H W picture.
"""

from __future__ import annotations

import torch

from dataengine.errors import ModelError
from trainer.batch import Batch


def decoder_view(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pictures and which of their pixels are no padding; raises ModelError if the batch has none."""
    if batch.images_B3HW is None or batch.pixel_mask_BHW is None:
        raise ModelError(
            f"{batch.sample_ids[0]}: batch has no decoder images, the {batch.family} decoder needs them; "
            "collate images_B3HW and pixel_mask_BHW"
        )
    return batch.images_B3HW, batch.pixel_mask_BHW.bool()


def inside(pixel_mask_BHW: torch.Tensor) -> torch.Tensor:
    """Return (height, width) of each picture without its padding, [B, 2]."""
    return torch.stack([pixel_mask_BHW[:, :, 0].sum(1), pixel_mask_BHW[:, 0].sum(1)], 1)


def by_sample(
    vectors_GD: torch.Tensor, sample_G: torch.Tensor, num_samples: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the groups' vectors laid out by sample, [B, M, D], and which of them exist, [B, M]; samples in order."""
    count_B = torch.bincount(sample_G, minlength=num_samples)
    first_B = count_B.cumsum(0) - count_B
    place_G = torch.arange(sample_G.shape[0], device=sample_G.device) - first_B[sample_G]
    most = int(count_B.max())
    vectors_BMD = vectors_GD.new_zeros((num_samples, most, vectors_GD.shape[1]))
    vectors_BMD = vectors_BMD.index_put((sample_G, place_G), vectors_GD)
    return vectors_BMD, torch.arange(most, device=sample_G.device)[None] < count_B[:, None]


def check_groups(batch: Batch, sample_G: torch.Tensor, most: int, what: str) -> None:
    """Raise ModelError, naming the sample, where one has no groups or more than `most`."""
    counts = torch.bincount(sample_G, minlength=len(batch.sample_ids)).tolist()
    for sample_id, count in zip(batch.sample_ids, counts, strict=True):
        if not 1 <= count <= most:
            raise ModelError(
                f"{sample_id}: {count} routing tokens for {what}, expected 1 to {most}; split the class list"
            )


def check_targets(batch: Batch, group_mask_BM: torch.Tensor) -> None:
    """Raise ModelError, naming the sample, where targets are missing or point to no group."""
    if len(batch.targets) != len(batch.sample_ids):
        raise ModelError(
            f"{batch.sample_ids[0]}: batch has {len(batch.targets)} targets for {len(batch.sample_ids)} samples; "
            "collate one ObjectTargets a sample"
        )
    counts = group_mask_BM.sum(1).tolist()
    for target, count, sample_id in zip(batch.targets, counts, batch.sample_ids, strict=True):
        if len(target.labels_n) and not 0 <= int(target.labels_n.min()) <= int(target.labels_n.max()) < count:
            raise ModelError(
                f"{sample_id}: target labels are {target.labels_n.unique().tolist()!r}, expected positions among its "
                f"{count} routing tokens; check how labels are mapped to routes"
            )
