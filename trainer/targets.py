"""What a decoder must find, on its own picture, or what picture it must make.

Shape suffixes: n m objects, H W decoder picture, S side of a square picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dataengine.annotation import Box
from dataengine.errors import ModelError
from dataengine.sample import ImageTargets, InstanceTargets, KeypointTargets, Sample, TargetInstance
from trainer import views
from trainer.batch import ObjectTargets, PictureTargets
from trainer.settings import EDITING, GENERATION, EncodeSettings
from trainer.views import Frame, Pixels

# How the picture that a family makes is brought to a square: text-to-image keeps all of it, editing
# its middle, of both pictures alike.
FRAMES: dict[str, Frame] = {GENERATION: "pad", EDITING: "crop"}


def object_targets(sample: Sample, names: list[str], image_3HW: torch.Tensor | None) -> ObjectTargets:
    """Return the targets of the decoder, labels as positions among `names`, the first where one stands twice."""
    instances: tuple[TargetInstance, ...] = ()
    if isinstance(sample.targets, InstanceTargets | KeypointTargets):
        instances = sample.targets.instances
    if image_3HW is None:
        return ObjectTargets(
            labels_n=torch.zeros(0, dtype=torch.int64),
            boxes_n4=torch.zeros((0, 4)),
            masks_nHW=torch.zeros((0, 1, 1), dtype=torch.uint8),
            has_mask_n=torch.zeros(0, dtype=torch.bool),
            ignore_m4=torch.zeros((0, 4)),
        )
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    unasked = sorted({item.label for item in instances} - set(places))
    if unasked:
        raise ModelError(
            f"{sample.id}: no routing token that the decoder reads asks for {unasked[0]!r}, expected one of"
            f" {names[:5]!r}; check the sample's routes"
        )
    shown = sample.images[sample.object_image]
    void = sample.targets.void if isinstance(sample.targets, InstanceTargets) else None
    wanted = [item for item in instances if not item.ignore]
    height, width = image_3HW.shape[-2:]
    masks_nHW = torch.zeros((len(wanted), height, width), dtype=torch.uint8)
    rows = [row for row, item in enumerate(wanted) if item.mask is not None]
    if rows:
        masks_nHW[rows] = views.object_masks([item.mask for item in wanted if item.mask], width, height)
    return ObjectTargets(
        labels_n=torch.tensor([places[item.label] for item in wanted], dtype=torch.int64),
        boxes_n4=_boxes([item.box for item in wanted], shown.width, shown.height),
        masks_nHW=masks_nHW,
        # A mask too small for the decoder picture is no proof that nothing is there: the box alone is taught.
        has_mask_n=masks_nHW.flatten(1).any(1).to(torch.bool),
        ignore_m4=_boxes([item.box for item in instances if item.ignore], shown.width, shown.height),
        void_HW=None if void is None else views.object_masks([void], width, height)[0],
    )


def shown_pictures(sample: Sample, family: str) -> tuple[int, ...]:
    """Return the pictures that a family's decoder is shown, by position: the one to make, and where it edits, the last
    input, which is the one to be edited.
    """
    assert isinstance(sample.targets, ImageTargets)
    return (sample.targets.image, sample.object_image) if family == EDITING else (sample.targets.image,)


def picture_targets(
    sample: Sample, images: Sequence[Pixels], family: str, settings: EncodeSettings
) -> PictureTargets:
    """Return the picture to make, the one to edit, and the caption of a sample, as a batch of one."""
    assert isinstance(sample.targets, ImageTargets)
    side, frame = settings.picture_side[family], FRAMES[family]
    wanted, *given = (
        views.framed(images[place], side, frame)[None] for place in shown_pictures(sample, family)
    )
    return PictureTargets(
        wanted_B3SS=wanted, given_B3SS=given[0] if given else None, captions=(sample.targets.caption,)
    )


def _boxes(boxes: Sequence[Box], width: int, height: int) -> torch.Tensor:
    """Return xyxy pixels as cxcywh divided by the picture's size, float32 [n, 4], cut to the picture."""
    xyxy = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    size = torch.tensor([width, height, width, height], dtype=torch.float64)
    low, high = (xyxy / size).clamp(0, 1).split(2, dim=1)
    return torch.cat([(low + high) / 2, high - low], dim=1).to(torch.float32)
