"""Picture edits that are exact: the picture after is computed from the picture before, so the instruction is true."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dataengine.errors import SourceError

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Color = tuple[int, int, int]

# Rec. 601 luma, the weights of Pillow's own conversion to grey.
_LUMA = np.array([0.299, 0.587, 0.114])

Operation = Literal[
    "mirror",
    "flip",
    "rotate",
    "grayscale",
    "invert",
    "brightness",
    "posterize",
    "swap_red_blue",
    "fill",
    "paint_circle",
    "paint_rectangle",
    "paint_frame",
]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operation needs. `inside` restricts it to the pair's object (True) or to all around it (False)."""

    inside: bool | None = None
    degrees: int = 180
    factor: float = 1.0
    levels: int = 4
    color: Color = (0, 0, 0)
    center: tuple[int, int] = (0, 0)
    radius: int = 0
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    width: int = 0


class Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One picture that is edited; `ann_id` is the object of coco/instances.json that `inside` speaks of."""

    seed: str
    picture: str
    ann_id: int | None = None


class EditRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of edits.json: an instruction, the operation that does it, and the pictures that it is done to."""

    dir: str
    operation: Operation
    parameters: Parameters
    instruction: str
    input: str
    output: str
    pairs: tuple[Pair, ...]


def apply_edit(before: Pixels, operation: Operation, parameters: Parameters, thing: Mask | None) -> Pixels:
    """Return the edited copy of an RGB picture (H, W, 3), of the same size; `thing` (H, W) is the pair's object.

    Raises SourceError where the edit speaks of an object and the pair names none.
    """
    after = _everywhere(before, operation, parameters)
    if parameters.inside is None:
        return after
    if thing is None:
        raise SourceError(
            f"edits.json: {operation!r} has 'inside' but no object, expected ann_id in the pair"
        )
    region = thing if parameters.inside else ~thing
    return np.where(region[..., None], after, before)


def _everywhere(before: Pixels, operation: Operation, parameters: Parameters) -> Pixels:
    match operation:
        case "mirror":
            return np.ascontiguousarray(before[:, ::-1])
        case "flip":
            return np.ascontiguousarray(before[::-1])
        case "rotate":
            return np.ascontiguousarray(np.rot90(before, parameters.degrees // 90))
        case "grayscale":
            grey = np.rint(before @ _LUMA).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        case "invert":
            after: Pixels = np.invert(before)
            return after
        case "brightness":
            scaled = before.astype(np.float64) * parameters.factor
            return np.rint(scaled).clip(0, 255).astype(np.uint8)
        case "posterize":
            step = before.astype(np.int64) * parameters.levels // 256
            return (step * 255 // (parameters.levels - 1)).astype(np.uint8)
        case "swap_red_blue":
            return np.ascontiguousarray(before[..., ::-1])
        case "fill":
            return np.broadcast_to(np.array(parameters.color, np.uint8), before.shape).copy()
        case "paint_circle" | "paint_rectangle" | "paint_frame":
            return _paint(before, operation, parameters)


def _paint(before: Pixels, operation: Operation, parameters: Parameters) -> Pixels:
    picture = Image.fromarray(before)
    draw = ImageDraw.Draw(picture)
    (x, y), r = parameters.center, parameters.radius
    x0, y0, x1, y1 = parameters.box
    if operation == "paint_circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=parameters.color)
    elif operation == "paint_rectangle":
        # Boxes here end before their last column and row; Pillow's rectangle includes them.
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=parameters.color)
    else:
        corner = (picture.width - 1, picture.height - 1)
        draw.rectangle((0, 0, *corner), outline=parameters.color, width=parameters.width)
    return np.asarray(picture)
