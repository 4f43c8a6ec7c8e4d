from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.scenes.layout import draw_thing
from dataengine.scenes.objects import BONES, CATEGORIES, JOINTS, SHAPES, Shape, Thing
from dataengine.scenes.shapes import bounds, cover

RADIUS = 60.0


def shape(category: Shape, angle: int = 0, aspect: float = 0.5) -> Thing:
    return Thing(
        category=category,
        color="red",
        rgb=(200, 0, 0),
        size="large",
        center=(80.25, 80.0),
        radius=RADIUS,
        angle=angle,
        aspect=aspect,
    )


def ring_of(corners: int, first_degrees: float, radius: float) -> list[tuple[float, float]]:
    turns = [math.radians(first_degrees + 360 / corners * number) for number in range(corners)]
    return [(radius * math.cos(turn), radius * math.sin(turn)) for turn in turns]


def inside_polygon(x: float, y: float, points: list[tuple[float, float]]) -> bool:
    inside = False
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
            inside = not inside
    return inside


@pytest.mark.parametrize("angle", [0, 17, -40])
@pytest.mark.parametrize(
    ("category", "area"),
    [
        ("circle", math.pi),
        ("ellipse", math.pi * 0.5),
        ("square", 2.0),
        ("rectangle", 4 * 0.5 / (1 + 0.25)),
        ("triangle", 3 * math.sqrt(3) / 4),
        ("hexagon", 3 * math.sqrt(3) / 2),
        ("cross", 4 * (2 * 0.3 * 0.95) - 4 * 0.3 * 0.3),
        ("ring", math.pi * (1 - 0.52**2)),
    ],
)
def test_a_shape_has_the_area_of_its_formula(category: Shape, area: float, angle: int) -> None:
    _, _, mask = cover(shape(category, angle))

    assert np.count_nonzero(mask) == pytest.approx(area * RADIUS**2, rel=0.01)


@pytest.mark.parametrize(
    ("category", "corners"),
    [
        ("triangle", ring_of(3, -90, RADIUS)),
        ("hexagon", ring_of(6, -90, RADIUS)),
        (
            "star",
            [
                corner
                for pair in zip(ring_of(5, -90, RADIUS), ring_of(5, -54, 0.381966 * RADIUS), strict=True)
                for corner in pair
            ],
        ),
    ],
)
def test_a_pixel_is_covered_where_its_center_lies_in_the_polygon(
    category: Shape, corners: list[tuple[float, float]]
) -> None:
    thing = shape(category)

    x0, y0, mask = cover(thing)

    expected = [
        [
            inside_polygon(x0 + column + 0.5 - 80.25, y0 + row + 0.5 - 80.0, corners)
            for column in range(mask.shape[1])
        ]
        for row in range(mask.shape[0])
    ]
    # The shape's numbers have four places: a pixel or two on an edge may fall to the other side.
    assert np.count_nonzero(mask != np.array(expected)) <= 4


def test_a_turned_shape_is_the_shape_turned_clockwise() -> None:
    upright = cover(shape("rectangle", 0))[2]

    x, y, upended = cover(shape("rectangle", 90))
    slanted = cover(shape("rectangle", 30))[2]

    rows, columns = np.nonzero(upended)
    assert np.ptp(rows) + y > np.ptp(columns) + x
    assert np.ptp(np.nonzero(upright)[1]) > np.ptp(np.nonzero(upright)[0])
    # y points down: a clockwise turn sinks the right end of the long side.
    rows, columns = np.nonzero(slanted)
    assert rows[columns > columns.mean()].mean() > rows[columns < columns.mean()].mean()


@given(seed=st.integers(0, 2**32), category=st.sampled_from(CATEGORIES), side=st.sampled_from([96, 128, 200]))
@settings(deadline=None, max_examples=60)
def test_an_object_fills_its_window_and_nothing_beyond(seed: int, category: str, side: int) -> None:
    thing = draw_thing(random.Random(seed), side, category)  # type: ignore[arg-type]

    x0, y0, mask = cover(thing)

    assert mask.shape == (bounds(thing)[3] - y0, bounds(thing)[2] - x0)
    assert mask.any()
    for x, y in thing.joints:
        assert mask[int(y) - y0, int(x) - x0]
    if not thing.joints:
        rows, columns = np.nonzero(mask)
        far = np.hypot(columns + x0 + 0.5 - thing.center[0], rows + y0 + 0.5 - thing.center[1])
        assert far.max() <= thing.radius * 1.001


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_a_figure_faces_the_viewer_on_its_feet(seed: int) -> None:
    thing = draw_thing(random.Random(seed), 128, "figure")

    joint = dict(zip(JOINTS, thing.joints, strict=True))

    for part in ("shoulder", "hip"):
        assert joint[f"left_{part}"][0] > joint[f"right_{part}"][0]
    assert joint["head"][1] < joint["neck"][1] < min(joint["left_hip"][1], joint["right_hip"][1])
    assert min(joint["left_foot"][1], joint["right_foot"][1]) > joint["neck"][1]


def test_every_joint_hangs_on_the_figure_and_every_shape_has_a_form() -> None:
    reached = {0}
    for a, b in BONES:
        assert a in reached
        reached.add(b)

    forms = {category: cover(shape(category))[2].tobytes() for category in SHAPES}

    assert reached == set(range(len(JOINTS)))
    assert len(set(forms.values())) == len(SHAPES)
