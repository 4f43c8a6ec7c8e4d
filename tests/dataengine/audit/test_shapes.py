"""Which object a finding means, and what of it is kept to be drawn."""

from __future__ import annotations

import math

import pytest

from dataengine.annotation import Instance, Label, LabelSpace, Rle
from dataengine.audit.findings import Finding
from dataengine.audit.rule import Hit
from dataengine.audit.shapes import MOST_POINTS, PICTURED, Shape, Shapes, name_of, shape_of
from dataengine.sample import TargetInstance

SQUARE = (0.0, 0.0, 4.0, 0.0, 4.0, 4.0)
SPACE = LabelSpace(id="s", labels=(Label(name="cat", keypoints=("a", "b"), skeleton=((0, 1),)),))


def finding(hit: Hit, *, rule: str = "polygon.outside", image: str = "a.png", subject: str = "s") -> Finding:
    return Finding(
        rule=rule, severity="warn", subject=subject, place="outline", key="k", file="", record="",
        detail=hit.detail, image=image, box=hit.box,
    )  # fmt: skip


def outlined(name: str, *, x: float = 0, box: tuple[float, float, float, float] | None = None) -> Instance:
    return Instance(id=name, box=box, polygons=((x, 0.0, x + 4, 0.0, x + 4, 4.0),))


def kept(hit: Hit, *objects: Instance | TargetInstance) -> Shape | None:
    shapes, one = Shapes(), finding(hit)
    shapes.add(one, hit, objects, SPACE)
    return shapes.of.get(name_of(one))


@pytest.mark.parametrize(
    ("hit", "x"),
    [
        (Hit("instance 2: it leaves"), 20),
        (Hit("instance 1 2: it leaves"), 30),
        (Hit("instance 2 stands 2 times"), 20),
        (Hit("target 2"), 20),
        (Hit("whatever", (1, 1, 2, 2)), 10),
        # The name says more than the box.
        (Hit("instance 2: it leaves", (1, 1, 2, 2)), 20),
    ],
)
def test_the_object_of_a_hit_is_found_by_its_name_or_else_by_its_box(hit: Hit, x: float) -> None:
    objects = [outlined("1", x=10, box=(1, 1, 2, 2)), outlined("2", x=20), outlined("1 2", x=30)]

    shape = kept(hit, *objects)

    assert shape is not None and shape.polygons[0][0] == x


def test_of_two_objects_of_one_name_the_box_tells_which() -> None:
    shape = kept(Hit("instance 2: x", (5, 5, 6, 6)), outlined("2", x=1), outlined("2", x=2, box=(5, 5, 6, 6)))

    assert shape is not None and shape.polygons[0][0] == 2


def test_an_object_on_another_picture_is_not_meant() -> None:
    other = Instance(id="2", image=1, polygons=(SQUARE,))

    assert kept(Hit("instance 2: x"), other) is None
    assert kept(Hit("instance 2: x", None, 1), other) is not None


def test_nothing_is_drawn_of_an_object_that_has_a_box_alone() -> None:
    assert shape_of(Instance(id="1", box=(0, 0, 1, 1)), None) is None
    assert kept(Hit("box ends before it begins"), outlined("1")) is None


def test_keypoints_are_joined_as_their_label_says() -> None:
    points = ((1.0, 2.0, 2), (3.0, 4.0, 1))

    of_source = shape_of(Instance(id="1", category="cat", keypoints=points), SPACE)
    of_sample = shape_of(TargetInstance(label="cat", box=(0, 0, 1, 1), area=1, keypoints=points), SPACE)

    assert of_source == of_sample == Shape(keypoints=points, skeleton=((0, 1),))
    assert shape_of(Instance(id="1", category="dog", keypoints=points), SPACE) == Shape(keypoints=points)


def test_four_corners_are_an_outline() -> None:
    quad = (0.0, 0.0, 4.0, 0.0, 4.0, 4.0, 0.0, 4.0)

    assert shape_of(Instance(id="1", quad=quad), None) == Shape(polygons=(quad,))


def test_a_mask_beyond_all_pictures_is_not_drawn() -> None:
    assert shape_of(Instance(id="1", mask=Rle((10**6, 10**6), "0")), None) is None


def test_an_outline_of_very_many_points_is_thinned_from_end_to_end() -> None:
    points = [(float(place), 2.0 * place) for place in range(3 * MOST_POINTS + 1)]

    shape = shape_of(Instance(id="1", polygons=(tuple(value for one in points for value in one),)), None)

    assert shape is not None
    (thin,) = shape.polygons
    pairs = [*zip(thin[0::2], thin[1::2], strict=True)]
    assert MOST_POINTS / 2 < len(pairs) <= MOST_POINTS
    assert set(pairs) <= set(points) and pairs[0] == points[0] and pairs[-1][0] > 0.99 * points[-1][0]


def test_only_the_first_findings_of_a_rule_that_lie_on_a_picture_are_kept() -> None:
    shapes = Shapes()
    for number in range(PICTURED + 3):
        hit = Hit(f"instance 1: {number}")
        shapes.add(finding(hit, image=""), hit, [outlined("1")], None)
        shapes.add(finding(hit), hit, [outlined("1")], None)

    assert [name[-1] for name in shapes.of] == [f"instance 1: {number}" for number in range(PICTURED)]


def test_several_audits_together_keep_no_more_than_one() -> None:
    together = Shapes()
    for subject in ("a", "b"):
        shapes = Shapes()
        for number in range(PICTURED - 2):
            hit = Hit(f"instance 1: {number}")
            shapes.add(finding(hit, subject=subject), hit, [outlined("1")], None)
        together.extend(shapes.of)

    subjects = [name[1] for name in together.of]
    assert subjects == ["a"] * (PICTURED - 2) + ["b"] * 2


def test_the_box_of_a_shape_is_around_all_that_is_finite_of_it() -> None:
    points = ((9.0, 1.0, 2), (0.0, 0.0, 0), (math.nan, 1.0, 2))

    assert Shape(polygons=((2.0, 3.0, 4.0, 5.0), (math.inf, 0.0, 1.0, 1.0)), keypoints=points).box == (
        1,
        1,
        9,
        5,
    )
    assert Shape(polygons=((math.nan, 3.0),)).box is None
