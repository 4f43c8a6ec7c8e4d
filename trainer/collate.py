"""Encoded samples to one batch, padded or packed. Every sample is looked at, not the first alone.

Shape suffixes as in `trainer.batch`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from dataengine.errors import ModelError
from trainer.batch import IGNORED, Batch, ObjectTargets, Packed, PictureTargets
from trainer.encode import Encoded
from trainer.settings import TEXT
from trainer.views import pad_to

SIZE_MULTIPLE = 32  # the coarsest stride of a decoder's backbone


def collate(samples: Sequence[Encoded], pad_id: int, rows: Sequence[int] | None = None) -> Batch:
    """Return the batch of some samples, text padded to the right, decoder pictures to a multiple of 32.

    With `rows`, the samples are packed: the first `rows[0]` of them lie one after another in the first row, and so on.
    Samples with and without masks, regions or pictures go together; `has_mask_n` says which masks are real. Raises
    ModelError, naming samples, where they answer to different decoders or were encoded for different models.
    """
    _check(samples)
    num_tiles = [len(sample.tiles_T3SS) for sample in samples]
    first_tile = [0, *itertools.accumulate(num_tiles)]
    images_B3HW, pixel_mask_BHW = _decoder_pictures(samples)
    return Batch(
        family=samples[0].family,
        sample_ids=tuple(sample.id for sample in samples),
        tasks=tuple(sample.task for sample in samples),
        tiles_T3SS=torch.cat([sample.tiles_T3SS for sample in samples]),
        tiles_per_image=tuple(sample.tiles_per_image for sample in samples),
        regions_RSS=torch.cat([sample.regions_RSS for sample in samples]),
        region_tile_R=torch.cat(
            [sample.region_tile_R + first for sample, first in zip(samples, first_tile, strict=False)]
        ),
        group_tokens=tuple(itertools.chain.from_iterable(sample.tokens for sample in samples)),
        images_B3HW=images_B3HW,
        pixel_mask_BHW=pixel_mask_BHW,
        targets=tuple(_pad_targets(sample.targets, images_B3HW) for sample in samples),
        pictures=_pictures(samples),
        original_sizes=() if images_B3HW is None else tuple(sample.original_size for sample in samples),
        **(_padded_text(samples, pad_id) if rows is None else _packed_text(samples, pad_id, rows)),
    )


def _padded_text(samples: Sequence[Encoded], pad_id: int) -> dict[str, Any]:
    groups = [(row, position) for row, sample in enumerate(samples) for position in sample.groups]
    lengths_B1 = torch.tensor([[len(sample.input_ids_L)] for sample in samples])
    input_ids_BL = pad_sequence([sample.input_ids_L for sample in samples], True, pad_id)
    return {
        "input_ids_BL": input_ids_BL,
        "labels_BL": pad_sequence([sample.labels_L for sample in samples], True, IGNORED),
        "attention_mask_BL": torch.arange(input_ids_BL.shape[1])[None] < lengths_B1,
        "groups_G2": torch.tensor(groups, dtype=torch.int64).reshape(-1, 2),
    }


def _packed_text(samples: Sequence[Encoded], pad_id: int, rows: Sequence[int]) -> dict[str, Any]:
    if samples[0].family != TEXT:
        raise ModelError(
            f"{samples[0].id}: samples of family {samples[0].family!r} cannot be packed, expected {TEXT!r}: a decoder"
            " takes one sample a row; give them micro_batch instead of pack"
        )
    lengths = [len(sample.input_ids_L) for sample in samples]
    place = [(row, number) for row, count in enumerate(rows) for number in range(count)]
    starts = [sum(lengths[k - number : k]) for k, (_, number) in enumerate(place)]
    groups = [
        (row, start + position)
        for (row, _), start, sample in zip(place, starts, samples, strict=True)
        for position in sample.groups
    ]
    numbers = [torch.full((length,), k) for k, length in enumerate(lengths)]
    # Nothing stands before a sample's first token that could foretell it.
    labels = [torch.cat([torch.tensor([IGNORED]), sample.labels_L[1:]]) for sample in samples]

    def lay(parts: Sequence[torch.Tensor], padding: int) -> torch.Tensor:
        return pad_sequence([torch.cat(list(part)) for part in _by_row(parts, rows)], True, padding)

    sample_BL = lay(numbers, -1)
    return {
        "input_ids_BL": lay([sample.input_ids_L for sample in samples], pad_id),
        "labels_BL": lay(labels, IGNORED),
        "attention_mask_BL": sample_BL >= 0,
        "groups_G2": torch.tensor(groups, dtype=torch.int64).reshape(-1, 2),
        "packed": Packed(
            sample_BL=sample_BL,
            position_BL=lay([torch.arange(length) for length in lengths], 0),
            num_samples=len(samples),
        ),
    }


def _by_row(parts: Sequence[torch.Tensor], rows: Sequence[int]) -> list[Sequence[torch.Tensor]]:
    ends = list(itertools.accumulate(rows))
    return [parts[end - count : end] for end, count in zip(ends, rows, strict=True)]


def _check(samples: Sequence[Encoded]) -> None:
    if not samples:
        raise ModelError(
            "batch: has no samples, expected at least one; leave out steps whose samples were all skipped"
        )
    families: dict[str, str] = {}
    for sample in samples:
        families.setdefault(sample.family, sample.id)
        if sum(sample.tiles_per_image) != len(sample.tiles_T3SS):
            raise ModelError(
                f"{sample.id}: has {len(sample.tiles_T3SS)} tiles, expected {sum(sample.tiles_per_image)}; encode again"
            )
        if (sample.image_3HW is None) != (samples[0].image_3HW is None):
            raise ModelError(
                f"{sample.id}: one of it and {samples[0].id} has no decoder picture, expected all or none; encode them"
                " for one family"
            )
        if _form(sample) != _form(samples[0]):
            raise ModelError(
                f"{sample.id}: the pictures to make and to edit are {_form(sample)}, those of {samples[0].id}"
                f" {_form(samples[0])}, expected one form; encode with one EncodeSettings"
            )
    if len(families) > 1:
        shown = ", ".join(f"{sample_id} ({family})" for family, sample_id in families.items())
        raise ModelError(
            f"batch: mixes decoder families: {shown}, expected one; plan the mixture with mode: unmixed"
        )
    sides = {sample.tiles_T3SS.shape[-1]: sample.id for sample in samples}
    if len(sides) > 1:
        raise ModelError(
            f"batch: tiles have sides {sorted(sides)}, in {', '.join(sides.values())}, expected one; encode with one"
            " EncodeSettings"
        )


def _decoder_pictures(samples: Sequence[Encoded]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    pictures = [sample.image_3HW for sample in samples if sample.image_3HW is not None]
    if not pictures:
        return None, None
    height = _up(max(picture.shape[1] for picture in pictures))
    width = _up(max(picture.shape[2] for picture in pictures))
    inside = [torch.ones(picture.shape[1:], dtype=torch.bool) for picture in pictures]
    return (
        torch.stack([pad_to(picture, height, width) for picture in pictures]),
        torch.stack([pad_to(mask, height, width) for mask in inside]),
    )


def _form(sample: Encoded) -> list[list[int] | None] | None:
    picture = sample.picture
    if picture is None:
        return None
    return [
        None if part is None else list(part.shape[1:]) for part in (picture.wanted_B3SS, picture.given_B3SS)
    ]


def _pictures(samples: Sequence[Encoded]) -> PictureTargets | None:
    pictures = [sample.picture for sample in samples if sample.picture is not None]
    if not pictures:
        return None

    def joined(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
        found = [part for part in parts if part is not None]
        return torch.cat(found) if found else None

    return PictureTargets(
        wanted_B3SS=joined([picture.wanted_B3SS for picture in pictures]),
        given_B3SS=joined([picture.given_B3SS for picture in pictures]),
        captions=tuple(itertools.chain.from_iterable(picture.captions for picture in pictures)),
    )


def _pad_targets(targets: ObjectTargets, images_B3HW: torch.Tensor | None) -> ObjectTargets:
    if images_B3HW is None:
        return targets
    return ObjectTargets(
        labels_n=targets.labels_n,
        boxes_n4=targets.boxes_n4,
        masks_nHW=pad_to(targets.masks_nHW, *images_B3HW.shape[-2:]),
        has_mask_n=targets.has_mask_n,
        ignore_m4=targets.ignore_m4,
        void_HW=None if targets.void_HW is None else pad_to(targets.void_HW, *images_B3HW.shape[-2:]),
        keypoints=targets.keypoints,
    )


def _up(size: int) -> int:
    return -(-size // SIZE_MULTIPLE) * SIZE_MULTIPLE
