"""What can be in a scene: categories, colors, sizes, and the jointed figure. Lengths are pixels, x right, y down."""

from __future__ import annotations

from typing import Literal

import msgspec

from dataengine.annotation import Label, LabelSpace

Color = tuple[int, int, int]
Point = tuple[float, float]
Shape = Literal[
    "circle", "ellipse", "square", "rectangle", "triangle", "hexagon", "star", "cross", "ring", "heart"
]
Category = Shape | Literal["figure"]
Size = Literal["small", "medium", "large"]
Texture = Literal["plain", "graded", "striped", "mottled"]

SHAPES: tuple[Shape, ...] = (
    "circle", "ellipse", "square", "rectangle", "triangle", "hexagon", "star", "cross", "ring", "heart",
)  # fmt: skip
FIGURE: Category = "figure"
CATEGORIES: tuple[Category, ...] = (*SHAPES, FIGURE)
COLORS: dict[str, Color] = {
    "red": (214, 39, 40),
    "green": (34, 145, 58),
    "blue": (38, 84, 214),
    "yellow": (246, 212, 30),
    "orange": (247, 131, 22),
    "purple": (128, 48, 172),
    "pink": (250, 128, 190),
    "black": (24, 24, 26),
}
# Each channel of a drawn color stays this close to its name's: no two names come near each other.
COLOR_JITTER = 12
SIZES: tuple[Size, ...] = ("small", "medium", "large")
# Radius of the circle around a shape, and height of a figure, as ranges of the picture's side. Between two words lies
# a gap, so that a size can be told by eye.
RADIUS_RATIO: dict[Size, tuple[float, float]] = {
    "small": (0.070, 0.090),
    "medium": (0.120, 0.150),
    "large": (0.190, 0.235),
}
FIGURE_RATIO: dict[Size, tuple[float, float]] = {
    "small": (0.27, 0.32),
    "medium": (0.42, 0.49),
    "large": (0.62, 0.72),
}
TINTS: dict[str, Color] = {
    "white": (240, 240, 240),
    "gray": (178, 178, 180),
    "dark gray": (100, 103, 106),
    "beige": (222, 205, 172),
    "pale blue": (182, 204, 228),
    "pale green": (186, 218, 190),
}

JOINTS = (
    "head", "neck", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_hand", "right_hand",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_foot", "right_foot",
)  # fmt: skip
# Pairs of joints that a line joins, by position in JOINTS.
BONES = (
    (0, 1), (1, 2), (1, 3), (2, 4), (4, 6), (3, 5), (5, 7), (2, 8), (3, 9), (8, 9),
    (8, 10), (10, 12), (9, 11), (11, 13),
)  # fmt: skip
# Half the tolerance of a joint as a share of the object's size (COCO's sigmas for the like joints of a person).
SIGMAS = (
    0.079, 0.079, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
)  # fmt: skip


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a scene.

    `radius` is that of the circle around it; `aspect` (short over long side) shapes ellipses and rectangles;
    `angle` is in degrees, clockwise as seen. A figure faces the viewer, so its left is at the picture's right;
    `joints` are its places in the order of JOINTS, `limb` half the width of its lines, `skull` its head's radius.
    """

    category: Category
    color: str
    rgb: Color
    size: Size
    center: Point
    radius: float
    angle: int = 0
    aspect: float = 1.0
    joints: tuple[Point, ...] = ()
    limb: float = 0.0
    skull: float = 0.0


class Background(msgspec.Struct, frozen=True, kw_only=True):
    """What stands behind the objects: a named tint and a soft texture that `seed` varies."""

    tint: str
    texture: Texture
    seed: int


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """A square picture of `side` pixels; `things` from the back to the front."""

    side: int
    background: Background
    things: tuple[Thing, ...]


def label_space(name: str) -> LabelSpace:
    """Return the categories as a label space; only the figure has keypoints."""
    figure = Label(
        name=FIGURE,
        keypoints=JOINTS,
        skeleton=BONES,
        flip_pairs=tuple((number, number + 1) for number in range(2, len(JOINTS), 2)),
        sigmas=SIGMAS,
        description="a jointed stick figure that faces the viewer",
    )
    return LabelSpace(id=name, labels=(*(Label(name=shape) for shape in SHAPES), figure))
