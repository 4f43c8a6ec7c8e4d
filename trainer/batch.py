"""The typed batch between collation and the model.

Shape suffixes: B sequences (of one sample each, or of several where samples are packed), L text positions, T image
tiles, S tile side, R regions, P pixels of a tile, G groups (one per routing token that a decoder reads), N super-link
queries per group, H W decoder image, n objects of one sample.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

IGNORED = -100  # a position without a label
# What a batch may lack: see `Batch.used`.
TILES, REGIONS = "tiles", "regions"


@dataclass(frozen=True, kw_only=True)
class KeypointTargets:
    """The keypoints of one sample's objects, in the order of its `[POSE]` routing tokens (K of them).

    `points_nK3` float32 are x and y divided by the decoder image's size before padding, and visibility: 1 where the
    point is labelled and on the picture, else 0. `areas_n` float32 are the objects' areas divided by that of the
    picture, `sigmas_K` float32 the keypoints' OKS constants.
    """

    points_nK3: torch.Tensor
    areas_n: torch.Tensor
    sigmas_K: torch.Tensor

    @property
    def known_n(self) -> torch.Tensor:
        """Say of which objects at least one keypoint counts, bool."""
        return (self.points_nK3[..., 2] > 0).any(-1)


@dataclass(frozen=True, kw_only=True)
class PictureTargets:
    """The pictures to make, one a sample, for the generation and editing decoders.

    `wanted_B3SS` float32 in [-1, 1], None where they are only asked for; `given_B3SS`, of the same form, are the
    pictures to be edited, None where pictures are made from text alone. `captions` describe the wanted ones.
    """

    wanted_B3SS: torch.Tensor | None
    given_B3SS: torch.Tensor | None
    captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ObjectTargets:
    """The objects of one sample for the detection decoder.

    `labels_n` int64 are positions among the sample's groups (the order of its routing tokens); `boxes_n4` float32 are
    cxcywh divided by the decoder image's size before padding; `masks_nHW` uint8 lie on the padded decoder image, with
    `has_mask_n` bool saying which rows are real. Objects to be ignored are in `ignore_m4` (cxcywh): a prediction that
    matches one is neither right nor wrong. `void_HW` uint8 are pixels
    where no mask is right or wrong, if there are any. `keypoints` are only given where the answer asks for some.
    """

    labels_n: torch.Tensor
    boxes_n4: torch.Tensor
    masks_nHW: torch.Tensor
    has_mask_n: torch.Tensor
    ignore_m4: torch.Tensor
    void_HW: torch.Tensor | None = None
    keypoints: KeypointTargets | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What a batch that is one of several has to know of all of them, so that their losses add up to that of one.

    `counts_5` float32 are those of all, which sums are divided by (see `counts`). `region_noise_RP` is the chance by
    which points of this batch's regions are drawn; None where it has none. `seed` is what each picture to make draws
    its chance from, the same for all batches of the whole.
    """

    counts_5: torch.Tensor
    region_noise_RP: torch.Tensor | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Where several samples lie in one row: whose each position is (-1: padding), and its position in that sample."""

    sample_BL: torch.Tensor
    position_BL: torch.Tensor
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What goes through the model at once. All samples use the same decoder family (`text` where no decoder is asked).

    Facts of samples (ids, tasks, pictures, targets) stand in the order of `sample_ids`, which is that of the text, row
    by row. Only family `text` is packed, so that wherever a decoder answers, row b is sample b.
    """

    family: str
    sample_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    # Text: right padded; every <image> is expanded to one <im_patch> a token, every routing token followed by N [EMB*].
    # The label of a sample's first token is not used: nothing foretells it.
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
    # Groups: for each routing token that the family's decoder reads (text: that any decoder does), (row, position).
    # The N query positions are the next N. Sorted by row, then by position.
    groups_G2: torch.Tensor
    # The routing token of each group, as text.
    group_tokens: tuple[str, ...]
    # Decoder view.
    images_B3HW: torch.Tensor | None
    pixel_mask_BHW: torch.Tensor | None
    targets: tuple[ObjectTargets, ...]
    pictures: PictureTargets | None = None
    # Original (height, width) in pixels of each sample's decoder picture: predictions are given on it. Empty where
    # nothing is predicted; then predictions are given on the decoder image without its padding.
    original_sizes: tuple[tuple[int, int], ...] = ()
    # None where row b is sample b.
    packed: Packed | None = None
    # Where a part of a step is laid out in micro-batches: this one's number, which seeds its noise, and the number of
    # each region among those of the part.
    number: int = 0
    region_numbers_R: torch.Tensor | None = None
    # None where the batch is all that its losses are about.
    whole: Whole | None = None
    # Where ranks compute together: TILES, REGIONS and the routing tokens of which some rank's batch has any. The parts
    # of the model that read them run on every rank. None where this process is alone.
    used: frozenset[str] | None = None

    def sample_at(self, row_K: torch.Tensor, position_K: torch.Tensor) -> torch.Tensor:
        """Return the number of the sample at each (row, position)."""
        return row_K if self.packed is None else self.packed.sample_BL[row_K, position_K]

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with every tensor on `device`."""

        def move(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value.to(device, non_blocking=True)
            if isinstance(value, ObjectTargets | KeypointTargets | PictureTargets | Packed | Whole):
                return type(value)(**{f.name: move(getattr(value, f.name)) for f in fields(value)})
            if isinstance(value, tuple) and value and isinstance(value[0], ObjectTargets):
                return tuple(map(move, value))
            return value

        return Batch(**{f.name: move(getattr(self, f.name)) for f in fields(self)})


def counts(batch: Batch) -> torch.Tensor:
    """Return what a batch's sums of losses are divided by, int64 [5].

    Labelled tokens, boxes, masks, pictures to make, and objects of which a keypoint is known.
    """
    labelled = batch.labels_BL[:, 1:] != IGNORED
    none = labelled.new_zeros((), dtype=torch.int64)
    num_boxes = sum(len(target.labels_n) for target in batch.targets)
    num_pictures = 0 if batch.pictures is None else len(batch.pictures.captions)
    posed = [target.keypoints.known_n for target in batch.targets if target.keypoints is not None]
    return torch.stack(
        [
            labelled.sum(),
            none + num_boxes,
            sum((target.has_mask_n.sum() for target in batch.targets), none),
            none + num_pictures,
            sum((known_n.sum() for known_n in posed), none),
        ]
    )
