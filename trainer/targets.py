"""What a decoder must find, on its own picture, or what picture it must make.

Shape suffixes: n m objects, H W decoder picture, S side of a square picture, K predicted objects, J keypoints that are
asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dataengine import tokens
from dataengine.annotation import Box
from dataengine.errors import ModelError, nearest
from dataengine.sample import ImageTargets, InstanceTargets, KeypointTargets, Route, Sample, TargetInstance
from trainer import batch, views
from trainer.batch import ObjectTargets, PictureTargets
from trainer.settings import EDITING, GENERATION, EncodeSettings
from trainer.views import Frame, Pixels

# How the picture that a family makes is brought to a square: text-to-image keeps all of it, editing
# its middle, of both pictures alike.
FRAMES: dict[str, Frame] = {GENERATION: "pad", EDITING: "crop"}

# The OKS constant of a keypoint whose dataset states none (UniPose's).
UNKNOWN_SIGMA = 0.025


def object_targets(sample: Sample, routes: Sequence[Route], image_3HW: torch.Tensor | None) -> ObjectTargets:
    """Return the targets of the decoder that reads these of the sample's routes.

    Labels are positions among the routes, those to keypoints left out: the first where a name stands twice.
    """
    names = [route.name for route in routes if route.token != tokens.POSE]
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
        keypoints=_keypoints(sample, wanted, [route.name for route in routes if route.token == tokens.POSE]),
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


def _keypoints(
    sample: Sample, wanted: Sequence[TargetInstance], asked: Sequence[str]
) -> batch.KeypointTargets | None:
    """Return the keypoints that are asked for, in that order; the others do not exist."""
    targets = sample.targets
    if not isinstance(targets, KeypointTargets):
        return None
    places = {name: place for place, name in enumerate(targets.names)}
    unknown = [name for name in asked if name not in places]
    if unknown:
        raise ModelError(
            f"{sample.id}: a routing token asks for keypoint {unknown[0]!r}, expected one of {targets.names[:5]!r};"
            " check the sample's routes"
        )
    order = [places[name] for name in asked]
    shown = sample.images[sample.object_image]
    points = torch.zeros((len(wanted), len(asked), 3), dtype=torch.float64)
    for row, item in enumerate(wanted):
        if item.keypoints is not None:
            points[row] = torch.tensor([item.keypoints[place] for place in order], dtype=torch.float64)
    points[..., :2] /= torch.tensor([shown.width, shown.height], dtype=torch.float64)
    # A point that lies off the picture is not moved to its border, where nothing is: it is not seen.
    on_picture = ((points[..., :2] >= 0) & (points[..., :2] <= 1)).all(-1)
    points[..., 2] = (points[..., 2] > 0) & on_picture
    sigmas = targets.sigmas or (UNKNOWN_SIGMA,) * len(targets.names)
    return batch.KeypointTargets(
        points_nK3=(points * points[..., 2:]).to(torch.float32),
        areas_n=torch.tensor([item.area / (shown.width * shown.height) for item in wanted]),
        sigmas_K=torch.tensor([sigmas[place] for place in order]),
    )


def to_dataset_order(
    keypoints_KJ3: torch.Tensor, names: Sequence[str], dataset_names: Sequence[str]
) -> torch.Tensor:
    """Return keypoints in the order of `dataset_names`, [K, number of these, 3], zero where one was not asked for.

    `names` are those of the J groups that asked. Raises ModelError for a name that the dataset does not have.
    """
    places = {name: place for place, name in enumerate(dataset_names)}
    unknown = [name for name in names if name not in places]
    if unknown:
        raise ModelError(f"keypoints: {unknown[0]!r} is none of the dataset's{nearest(unknown[0], places)}")
    result = keypoints_KJ3.new_zeros((keypoints_KJ3.shape[0], len(dataset_names), 3))
    result[:, [places[name] for name in names]] = keypoints_KJ3
    return result


def _boxes(boxes: Sequence[Box], width: int, height: int) -> torch.Tensor:
    """Return xyxy pixels as cxcywh divided by the picture's size, float32 [n, 4], cut to the picture."""
    xyxy = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    size = torch.tensor([width, height, width, height], dtype=torch.float64)
    low, high = (xyxy / size).clamp(0, 1).split(2, dim=1)
    return torch.cat([(low + high) / 2, high - low], dim=1).to(torch.float32)
