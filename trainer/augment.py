"""What changes the geometry of a sample as a whole: a horizontal flip and a crop.

Pictures, regions, marks, targets and text change together before any view is made, so that tiles, decoder picture and
conversation cannot tell different stories. Where a change could make the text untrue, it is not made.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from dataengine.annotation import Box, Keypoint, Rle, Turn
from dataengine.errors import ModelError
from dataengine.geometry import box_area, clip_box, mask_from_rle, rle_area, rle_box, rle_from_mask
from dataengine.sample import InstanceTargets, KeypointTargets, Mark, Sample, TargetInstance
from trainer.views import Pixels

_LETTER = "[A-Za-z]"
# "is right here" names no side.
_SIDE = re.compile(
    rf"(?<!{_LETTER})(?!(?<=\bis )right (?:here|there|now)\b)(left|right)"
    rf"(?=(?:most|ward|wards|hand|handed|side)?(?!{_LETTER}))",
    re.IGNORECASE,
)
_FIXED_DIRECTION = re.compile(r"\b(?:(?:counter|anti)?-?clockwise|o'?clock|east|west)\w*\b", re.IGNORECASE)


def swap_sides(text: str) -> str:
    """Exchange the words left and right, and what is made of them (leftmost, right-hand), keeping their case.

    "bright", "upright" and "lefty" hold no such word.
    """

    def other(match: re.Match[str]) -> str:
        word = match.group()
        swapped = "right" if word.lower() == "left" else "left"
        return swapped.upper() if word.isupper() else swapped.title() if word[0].isupper() else swapped

    return _SIDE.sub(other, text)


def can_flip(sample: Sample, never: frozenset[str]) -> bool:
    """Say whether a sample stays true when it is mirrored and its text swaps left and right.

    Not where the answer is text or a picture (letters, clocks and driving sides do not mirror), nor for tasks in
    `never`, keypoints whose mirror partners are unknown, directions that swapping two words does not turn, or
    languages other than English.
    """
    if sample.task in never or sample.prompt.question[:2] not in ("", "en"):
        return False
    if any(_FIXED_DIRECTION.search(turn.text) for turn in sample.conversation):
        return False
    match sample.targets:
        case InstanceTargets():
            return True
        case KeypointTargets(names=names, flip_pairs=pairs):
            paired = {index for pair in pairs for index in pair}
            return all(index in paired or swap_sides(name) == name for index, name in enumerate(names))
        case _:
            return False


def flip(sample: Sample, images: Sequence[Pixels]) -> tuple[Sample, list[Pixels]]:
    """Mirror a sample: its pictures, regions, marks, targets and text.

    Keypoints exchange with their mirror partners, so their names stay; everywhere else left and right swap in the
    conversation, in the routes and in the labels alike.
    """
    mirrored = [mirror(image) for image in images]
    if sample.marks:
        turned = tuple(_flip_mark(mark, sample.images[mark.image].width) for mark in sample.marks)
        sample = msgspec.structs.replace(sample, marks=turned)
    regions = tuple(
        msgspec.structs.replace(
            region,
            box=_flip_box(region.box, sample.images[region.image].width),
            mask=None if region.mask is None else _flip_mask(region.mask),
        )
        for region in sample.regions
    )
    width = sample.images[sample.object_image].width
    match sample.targets:
        case KeypointTargets() as targets:
            order = list(range(len(targets.names)))
            for one, other in targets.flip_pairs:
                order[one], order[other] = other, one
            kept = tuple(_flip_instance(item, width, order) for item in targets.instances)
            moved = msgspec.structs.replace(targets, instances=kept)
            return msgspec.structs.replace(sample, regions=regions, targets=moved), mirrored
        case InstanceTargets() as targets:
            instances = tuple(
                msgspec.structs.replace(_flip_instance(item, width, []), label=swap_sides(item.label))
                for item in targets.instances
            )
            negatives = tuple(swap_sides(name) for name in targets.negatives)
            moved_objects = msgspec.structs.replace(
                targets,
                instances=instances,
                negatives=negatives,
                void=None if targets.void is None else _flip_mask(targets.void),
            )
            return (
                msgspec.structs.replace(
                    sample,
                    regions=regions,
                    targets=moved_objects,
                    conversation=tuple(
                        Turn(turn.role, swap_sides(turn.text)) for turn in sample.conversation
                    ),
                    routes=tuple(
                        msgspec.structs.replace(route, name=swap_sides(route.name)) for route in sample.routes
                    ),
                ),
                mirrored,
            )
        case other:
            raise TypeError(
                f"{sample.id}: {type(other).__name__} cannot be mirrored, expected objects or keypoints"
            )


def mirror(image: Pixels) -> Pixels:
    """Return a picture mirrored left to right."""
    return np.ascontiguousarray(image[:, ::-1])


def _flip_box(box: Box, width: int) -> Box:
    return (width - box[2], box[1], width - box[0], box[3])


def _flip_mask(mask: Rle) -> Rle:
    return rle_from_mask(mask_from_rle(mask)[:, ::-1])


def _flip_mark(mark: Mark, width: int) -> Mark:
    return msgspec.structs.replace(
        mark,
        box=_flip_box(mark.box, width),
        mask=None if mark.mask is None else _flip_mask(mark.mask),
        points=tuple((width - 1 - x, y) for x, y in mark.points),  # a pixel's place is its index
    )


def _flip_instance(item: TargetInstance, width: int, order: list[int]) -> TargetInstance:
    keypoints: tuple[Keypoint, ...] | None = None
    if item.keypoints is not None:
        points = [(width - x, y, v) if v else (x, y, v) for x, y, v in item.keypoints]
        keypoints = tuple(points[index] for index in order) if order else tuple(points)
    return msgspec.structs.replace(
        item,
        box=_flip_box(item.box, width),
        mask=None if item.mask is None else _flip_mask(item.mask),
        keypoints=keypoints,
    )


# Tasks whose answers stay true when a part of the picture is cut away: they list classes, present or not, or regions.
# Expressions and captions may speak of what is gone ("the second from the left", "beside the red car").
_CROPPED = frozenset(
    {
        "detection",
        "instance_segmentation",
        "interactive_segmentation",
        "keypoints",
        "oriented_detection",
        "panoptic_segmentation",
        "semantic_segmentation",
    }
)
# Less of an object than this is neither to be found nor background.
_LEAST_VISIBLE = 0.1


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of a picture of `width` x `height` pixels that a crop keeps: columns [x0, x1), rows [y0, y1)."""

    x0: int
    y0: int
    x1: int
    y1: int
    width: int
    height: int

    @property
    def box(self) -> Box:
        """Return the window as xyxy pixels."""
        return (float(self.x0), float(self.y0), float(self.x1), float(self.y1))


def can_crop(sample: Sample) -> bool:
    """Say whether a sample stays true when a part of its picture is cut away.

    Where several pictures belong together, or marks are drawn on one, it is shown whole.
    """
    num_inputs = sum(image.role == "input" for image in sample.images)
    kinds = {route.kind for route in sample.routes}
    return (
        sample.task in _CROPPED
        and num_inputs == 1
        and not sample.marks
        and kinds <= {"category", "keypoint", "region"}
    )


def draw_window(sample: Sample, rng: random.Random, least: float) -> Window:
    """Draw a window whose sides are at least `least` times the picture's, and which holds every region that is asked
    about."""
    shown = sample.images[sample.object_image]
    asked = [region.box for region in sample.regions]
    x0, x1 = _draw_span(shown.width, rng, least, [(box[0], box[2]) for box in asked])
    y0, y1 = _draw_span(shown.height, rng, least, [(box[1], box[3]) for box in asked])
    return Window(x0=x0, y0=y0, x1=x1, y1=y1, width=shown.width, height=shown.height)


def _draw_span(
    size: int, rng: random.Random, least: float, kept: Sequence[tuple[float, float]]
) -> tuple[int, int]:
    length = max(round(size * rng.uniform(least, 1)), 1)
    start = rng.randint(0, size - length)
    stop = start + length
    for low, high in kept:
        start, stop = min(start, max(int(low), 0)), max(stop, min(-int(-high // 1), size))
    return start, stop


def crop(sample: Sample, window: Window) -> Sample:
    """Return a sample as it is on the part of its picture that a window keeps.

    Objects are cut at its sides; those outside are gone, those of which little is left are to be ignored; keypoints
    outside are not visible. The conversation stays, see `can_crop`.
    """
    shown = sample.object_image
    images = list(sample.images)
    images[shown] = msgspec.structs.replace(
        images[shown], width=window.x1 - window.x0, height=window.y1 - window.y0
    )
    targets = sample.targets
    if isinstance(targets, InstanceTargets | KeypointTargets):
        found = (_crop_instance(item, window) for item in targets.instances)
        targets = msgspec.structs.replace(
            targets, instances=tuple(item for item in found if item is not None)
        )
    if isinstance(targets, InstanceTargets) and targets.void is not None:
        targets = msgspec.structs.replace(targets, void=_crop_mask(targets.void, window))
    regions = tuple(
        msgspec.structs.replace(
            region,
            box=_crop_box(region.box, window),
            mask=None if region.mask is None else _crop_mask(region.mask, window),
        )
        for region in sample.regions
    )
    return msgspec.structs.replace(sample, images=tuple(images), regions=regions, targets=targets)


def cut(image: Pixels, window: Window) -> Pixels:
    """Return the part of a picture that a window keeps. Raises ModelError for a picture of another size."""
    height, width = image.shape[:2]
    if (width, height) != (window.width, window.height):
        raise ModelError(
            f"picture is {width} x {height}, expected {window.width} x {window.height}; convert the dataset again"
        )
    return np.ascontiguousarray(image[window.y0 : window.y1, window.x0 : window.x1])


def _crop_box(box: Box, window: Window) -> Box:
    moved = (box[0] - window.x0, box[1] - window.y0, box[2] - window.x0, box[3] - window.y0)
    return clip_box(moved, window.x1 - window.x0, window.y1 - window.y0)


def _crop_mask(mask: Rle, window: Window) -> Rle:
    return rle_from_mask(mask_from_rle(mask)[window.y0 : window.y1, window.x0 : window.x1])


def _crop_instance(item: TargetInstance, window: Window) -> TargetInstance | None:
    """Return what a window keeps of an object, None where that is nothing."""
    box = _crop_box(item.box, window)
    mask = None if item.mask is None else _crop_mask(item.mask, window)
    whole, kept = box_area(item.box), box_area(box)
    if mask is not None and item.mask is not None:
        whole, kept = rle_area(item.mask), rle_area(mask)
    if not kept or not box_area(box):
        return None
    if mask is not None and _is_tight(item):
        box = rle_box(mask)
    return msgspec.structs.replace(
        item,
        box=box,
        mask=mask,
        area=item.area * kept / whole,
        ignore=item.ignore or kept < _LEAST_VISIBLE * whole,
        keypoints=None if item.keypoints is None else tuple(_crop_point(p, window) for p in item.keypoints),
    )


def _is_tight(item: TargetInstance) -> bool:
    """Say whether an object's box is that of its mask, but for the part of a pixel."""
    assert item.mask is not None
    return all(abs(a - b) <= 1 for a, b in zip(item.box, rle_box(item.mask), strict=True))


def _crop_point(point: Keypoint, window: Window) -> Keypoint:
    x, y, visible = point
    inside = window.x0 <= x < window.x1 and window.y0 <= y < window.y1
    return (x - window.x0, y - window.y0, visible) if visible and inside else (0, 0, 0)
