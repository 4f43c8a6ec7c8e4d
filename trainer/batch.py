"""The typed batch between collation and the model.

Shape suffixes: B samples, L text positions, T image tiles, S tile side, R regions, G groups (one per routing token
that a decoder reads), N super-link queries per group, H W decoder image, n objects of one sample.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch


@dataclass(frozen=True, kw_only=True)
class ObjectTargets:
    """The objects of one sample for the detection decoder.

    `labels_n` int64 are positions among the sample's groups (the order of its routing tokens); `boxes_n4` float32 are
    cxcywh divided by the decoder image's size before padding; `masks_nHW` uint8 lie on the padded decoder image, with
    `has_mask_n` bool saying which rows are real. Objects to be ignored are in `ignore_m4` (cxcywh): a prediction that
    matches one is neither right nor wrong. `void_HW` uint8 are pixels
    where no mask is right or wrong, if there are any.
    """

    labels_n: torch.Tensor
    boxes_n4: torch.Tensor
    masks_nHW: torch.Tensor
    has_mask_n: torch.Tensor
    ignore_m4: torch.Tensor
    void_HW: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's input. All samples use the same decoder family (`text` where no decoder is asked)."""

    family: str
    sample_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    # Text: right padded; every <image> is expanded to one <im_patch> a token, every routing token followed by N [EMB*].
    input_ids_BL: torch.Tensor
    labels_BL: torch.Tensor
    attention_mask_BL: torch.Tensor
    # Pictures for the image encoder: tiles of all pictures of all samples, in the order in which the text names them;
    # the last tile of a picture is its global view.
    tiles_T3SS: torch.Tensor
    tiles_per_image: tuple[tuple[int, ...], ...]
    # Regions (visual prompts): one binary mask each on the global view of its picture; `region_tile_R` is the position
    # of that view in tiles_T3SS. The k-th region belongs to the k-th <region> token of the batch, row by row.
    regions_RSS: torch.Tensor
    region_tile_R: torch.Tensor
    # Groups: for each routing token that the family's decoder reads (text: that any decoder does), (sample, position).
    # The N query positions are the next N. Sorted by sample, then by position.
    groups_G2: torch.Tensor
    # Decoder view.
    images_B3HW: torch.Tensor | None
    pixel_mask_BHW: torch.Tensor | None
    targets: tuple[ObjectTargets, ...]
    # Original (height, width) in pixels of each sample's decoder picture: predictions are given on it. Empty where
    # nothing is predicted; then predictions are given on the decoder image without its padding.
    original_sizes: tuple[tuple[int, int], ...] = ()

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with every tensor on `device`."""

        def move(value: object) -> object:
            if isinstance(value, torch.Tensor):
                return value.to(device, non_blocking=True)
            if isinstance(value, tuple) and value and isinstance(value[0], ObjectTargets):
                return tuple(
                    ObjectTargets(**{f.name: move(getattr(target, f.name)) for f in fields(target)})
                    for target in value
                )
            return value

        return Batch(**{f.name: move(getattr(self, f.name)) for f in fields(self)})
