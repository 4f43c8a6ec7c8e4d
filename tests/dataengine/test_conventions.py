from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataengine.annotation import Annotation, Image, Instance, Origin
from dataengine.audit.run import audit
from dataengine.audit.state import Report
from dataengine.conventions import Evidence

WIDTH, HEIGHT = 100, 80
# xywh of objects all over a picture, some of them at its borders.
OBJECTS = [(x, y, 20 + x % 7, 15 + y % 5) for x in (0, 10, 40, 70) for y in (0, 7, 20, 30, 50, 60)]


def _verdicts(change: Callable[[float, float, float, float], Any]) -> list[str]:
    return _lines([{"box": change(*map(float, box))} for box in OBJECTS])


def _lines(objects: list[dict[str, Any]]) -> list[str]:
    evidence = Evidence()
    for number, facts in enumerate(objects):
        item = Instance(id=str(number), category="cat", **facts)
        one = Annotation(
            key=str(number),
            images=(Image(path="a"),),
            origin=Origin(file="f", record="r"),
            instances=(item,),
        )
        evidence.add(one, [(WIDTH, HEIGHT)])
    return [line for _, line in evidence.verdicts()]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y, w, h: (x / 100, y / 80, (x + w) / 100, (y + h) / 80), "fractions of the picture"),
        (lambda x, y, w, h: (x, y, w / 9, h / 9), "is the order another one"),
        (lambda x, y, w, h: (x, y, 2 * x + w, 2 * y + h), "last two numbers corners"),
        (lambda x, y, w, h: (x + 1, y + 1, x + w, y + h), "count pixels from 1"),
        (lambda x, y, w, h: (x, y, WIDTH + 1, HEIGHT + 1), "end counted twice"),
        (lambda x, y, w, h: (y, x, y + h, x + w), "if x and y are swapped"),
        (lambda x, y, w, h: (x, y, 2 * x + w, 2 * y + h), "corners, read as width and height"),
        (lambda x, y, w, h: (x, y, w, h), "width and height, read as corners"),
        (lambda x, y, w, h: (x + 15, y + 10, x + 45, y + 30), "the center, read as a corner"),
        (lambda x, y, w, h: (x, x + w, y, y + h), "the numbers are x, x, y, y"),
    ],
)
def test_a_wrong_convention_shows_over_many_boxes(
    change: Callable[[float, float, float, float], Any], says: str
) -> None:
    assert any(says in line for line in _verdicts(change))


def test_the_right_convention_gives_no_verdict() -> None:
    assert _verdicts(lambda x, y, w, h: (x, y, x + w, y + h)) == []


def test_objects_that_keep_away_from_the_border_do_not_count_from_1() -> None:
    near = [(x + 1.0, y + 1.0, 9.0, 9.0) for x in range(6) for y in range(6)]

    assert _lines([{"box": (x, y, x + w, y + h)} for x, y, w, h in near]) == []


def test_swapped_keypoints_show_on_square_pictures_by_the_few_that_leave_their_box() -> None:
    near, far = (9.0, 3.0, 2), (38.0, 3.0, 2)
    objects = [
        {
            "box": (x, x + 10, x + 6, x + 40),
            "keypoints": tuple((x + a, x + b, v) for a, b, v in (near, near, near, far)),
        }
        for x in map(float, range(40))
    ]

    assert any("would not if x and y are swapped" in line for line in _lines(objects))


def test_boxes_that_leave_their_pictures_name_no_other_reading() -> None:
    lines = _verdicts(lambda x, y, w, h: (x, y, x + 3 * w, y + 3 * h))

    assert any("far outside" in line for line in lines)
    assert not any("nearly all would" in line for line in lines)


# Two keypoints of each object, inside its box.
POINTS = [((x + 0.3 * w, y + 0.6 * h), (x + 0.7 * w, y + 0.2 * h)) for x, y, w, h in OBJECTS]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y, x0, y0: (x, y), None),
        (lambda x, y, x0, y0: (x / WIDTH, y / HEIGHT), "fractions of the picture"),
        (lambda x, y, x0, y0: (y, x), "would not if x and y are swapped"),
        (lambda x, y, x0, y0: (x - x0, y - y0), "would not if they count from the corner of the box"),
        (lambda x, y, x0, y0: (3 * x, 3 * y), "is the picture another size"),
    ],
)
def test_keypoints_of_a_wrong_convention_show_by_their_boxes_and_pictures(
    change: Callable[[float, float, float, float], tuple[float, float]], says: str | None
) -> None:
    objects = [
        {
            "box": (float(x), float(y), float(x + w), float(y + h)),
            # A keypoint that is not labelled says nothing.
            "keypoints": (*((*change(px, py, x, y), 2) for px, py in points), (999.0, 999.0, 0)),
        }
        for (x, y, w, h), points in zip(OBJECTS, POINTS, strict=True)
    ]

    lines = _lines(objects)

    assert any(says in line for line in lines) if says else lines == []


def test_keypoints_without_boxes_show_by_their_pictures() -> None:
    swapped = [{"keypoints": tuple((y, x + 15, 2) for x, y in points)} for points in POINTS]

    assert any("and would not if x and y are swapped" in line for line in _lines(swapped))


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    whole, parts = Evidence(), [Evidence(), Evidence()]
    for number in range(9000):
        item = Instance(id="1", box=(1.0, number % 7, 5.0, 90.0), keypoints=((2.0, 3.0, 2),))
        one = Annotation(key="", images=(), origin=Origin(file="", record=""), instances=(item,))
        whole.add(one, [(WIDTH, HEIGHT)])
        parts[number % 2].add(one, [(WIDTH, HEIGHT)])

    assert whole.counts["boxes"] == whole.counts["points"] == 9000
    assert Counter(parts[0].counts) + Counter(parts[1].counts) == Counter(whole.counts)


def test_few_boxes_are_no_evidence() -> None:
    evidence = Evidence()
    item = Instance(id="1", category="cat", box=(0.1, 0.1, 0.2, 0.2))
    one = Annotation(
        key="1", images=(Image(path="a"),), origin=Origin(file="f", record="r"), instances=(item,) * 19
    )
    evidence.add(one, [(WIDTH, HEIGHT)])

    assert evidence.verdicts() == []
    evidence.add(msgspec.structs.replace(one, instances=(item,)), [None])
    assert len(evidence.verdicts()) == 1


def _voc(folder: Path, origin: int) -> Report:
    options = {"origin": str(origin), "annotations": "Annotations", "images": "JPEGImages"}
    return audit([folder], format_name="voc_xml", options=options)


@pytest.mark.parametrize("sample", ["voc2007_2012_det"])
def test_real_voc_boxes_read_as_if_they_began_at_0_are_found_out(
    samples_dir: Callable[[str], Path], sample: str
) -> None:
    folder = samples_dir(sample)

    right, wrong = _voc(folder, 1), _voc(folder, 0)

    assert [one.detail for one in right.findings if one.rule == "box.convention"] == []
    assert any(one.rule == "box.convention" and "count pixels from 1" in one.detail for one in wrong.findings)
