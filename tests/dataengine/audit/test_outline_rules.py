"""Polygons, masks and corners: what breaks a rule, and its sound neighbour."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Image, Instance, Origin
from dataengine.audit import outlines
from dataengine.audit.block import Block
from dataengine.audit.rule import Facts
from dataengine.audit.table import ANNOTATION_RULES
from dataengine.geometry import rle_of_box

SQUARE = (10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0)
BOW_TIE = (10.0, 10.0, 30.0, 30.0, 30.0, 10.0, 10.0, 30.0)
HOLE = (15.0, 15.0, 25.0, 15.0, 25.0, 25.0)
NOTCH = (10.0, 10.0, 30.0, 10.0, 20.0, 20.0, 30.0, 30.0, 10.0, 30.0)
BOX = (10.0, 10.0, 30.0, 30.0)


def facts(size: tuple[int, int] | None = (64, 48), **fields: Any) -> Facts:
    image = Image(path="a.jpg", license="CC-BY-4.0")
    item = Instance(**{"id": "1", "category": "cat", "box": BOX, **fields})
    annotation = Annotation(key="1", images=(image,), origin=Origin(file="f", record="r"), instances=(item,))
    return Facts(annotation, [size])


def rules(looked: Facts) -> list[str]:
    return [rule for rule, check in ANNOTATION_RULES for _ in check(looked)]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"polygons": ((10.0, 10.0, 20.0, 20.0, 30.0, 30.0),)}, "polygon.invalid"),
        ({"polygons": ((10.0, 10.0, 10.0, 10.0, 10.0, 10.0), SQUARE)}, "polygon.invalid"),
        ({"polygons": (BOW_TIE,)}, "polygon.self_intersect"),
        ({"polygons": (SQUARE, HOLE)}, "polygon.holes_lost"),
        ({"polygons": ((-9.0, 10.0, 30.0, 10.0, 30.0, 30.0),), "box": (-0.5, 10, 30, 30)}, "polygon.outside"),
        ({"polygons": ((10.0, 10.0, 20.0, 10.0, 20.0, 30.0),)}, "mask.box_mismatch"),
        ({"mask": rle_of_box((10, 10, 20, 30), 64, 48)}, "mask.box_mismatch"),
        ({"mask": rle_of_box(BOX, 48, 64)}, "rle.size_mismatch"),
        ({"quad": BOW_TIE}, "quad.self_intersect"),
    ],
)
def test_each_rule_is_hit_by_what_breaks_it_and_by_that_alone(fields: dict[str, Any], rule: str) -> None:
    assert rules(facts(**fields)) == [rule]


@pytest.mark.parametrize(
    "fields",
    [
        {"polygons": (SQUARE,)},
        {"polygons": ((*SQUARE, *SQUARE[:2]),)},  # closed by its first point
        {"polygons": ((*SQUARE[:4], *SQUARE[2:]),)},  # a point that stands twice
        {"polygons": (NOTCH,)},
        {"polygons": ((10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 20.0, 10.0, 10.0, 30.0),)},  # touches itself
        {"polygons": (SQUARE, (30.0, 10.0, 31.0, 10.0, 31.0, 11.0))},  # parts side by side
        {"polygons": ((-0.9, 10.0, 30.0, 10.0, 30.0, 30.0),), "box": (0, 10, 30, 30)},
        {"polygons": ((11.9, 10.0, 28.1, 10.0, 28.1, 30.0, 11.9, 30.0),)},  # a box that is rounded outwards
        {"polygons": ((10.0, 10.0, 20.0, 10.0, 20.0, 30.0),), "crowd": True},
        {"polygons": ((10.0, 10.0, 90.0, 10.0, 90.0, 30.0),), "size": None, "box": (10, 10, 90, 30)},
        {"mask": rle_of_box(BOX, 64, 48)},
        {"quad": SQUARE},
        {"quad": (10.0, 10.0, 30.0, 10.0, 15.0, 15.0, 10.0, 30.0)},  # not convex
        {"quad": (10.0, 10.0, 20.0, 10.0, 30.0, 10.0, 10.0, 30.0)},  # three corners in a line
    ],
)
def test_a_sound_neighbour_is_no_hit(fields: dict[str, Any]) -> None:
    assert rules(facts(**fields)) == []


def _star(count: int, rng: random.Random) -> list[tuple[float, float]]:
    """Return an outline that goes around its middle once, so that it cannot cross itself."""
    angles = [2 * math.pi * (place + rng.random() * 0.8) / count for place in range(count)]
    far = [rng.uniform(5, 20) for _ in angles]
    return [(24 + d * math.cos(a), 24 + d * math.sin(a)) for a, d in zip(angles, far, strict=True)]


@given(
    counts=st.lists(st.integers(4, 400), min_size=1, max_size=5),
    crossed=st.lists(st.booleans(), min_size=5, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_exactly_the_outlines_that_cross_are_found_whatever_their_length_and_neighbours(
    counts: list[int], crossed: list[bool], seed: int
) -> None:
    rng = random.Random(seed)
    polygons = []
    for count, broken in zip(counts, crossed, strict=False):
        points = [(4000 * math.cos(6.2 * p / count), 4000 * math.sin(6.2 * p / count)) for p in range(count)]
        points = points if broken else _star(count, rng)
        if broken:
            place = rng.randrange(count - 3)
            points[place + 1], points[place + 2] = points[place + 2], points[place + 1]
        polygons.append(tuple(value for point in points for value in point))

    hits = list(outlines.polygon_crossed(facts(polygons=tuple(polygons), box=None)))

    expected = [count for count, broken in zip(counts, crossed, strict=False) if broken]
    assert [int(hit.detail.split(" of ")[1].split()[0]) for hit in hits] == expected


def test_corners_that_go_counter_clockwise_are_counted() -> None:
    order = outlines.QuadOrder()
    for quad in (SQUARE, (10.0, 10.0, 10.0, 30.0, 30.0, 30.0, 30.0, 10.0), BOW_TIE):
        looked = facts(quad=quad)
        order.add(Block([looked.annotation], [looked.sizes]))

    assert [hit.detail[:42] for hit in order.hits()] == ["1 of 3 quadrilaterals go counter-clockwise"]
