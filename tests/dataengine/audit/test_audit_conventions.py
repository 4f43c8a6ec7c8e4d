from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataengine.annotation import Annotation, Image, Instance, Origin
from dataengine.audit.conventions import BoxEvidence
from dataengine.audit.run import Report, audit

WIDTH, HEIGHT = 100, 80
# xywh of objects all over a picture, some of them at its borders.
OBJECTS = [(x, y, 20 + x % 7, 15 + y % 5) for x in (0, 10, 40, 70) for y in (0, 7, 20, 30, 50, 60)]


def _verdicts(change: Callable[[float, float, float, float], Any]) -> list[str]:
    evidence = BoxEvidence()
    for number, box in enumerate(OBJECTS):
        item = Instance(id=str(number), category="cat", box=change(*map(float, box)))
        one = Annotation(
            key=str(number),
            images=(Image(path="a"),),
            origin=Origin(file="f", record="r"),
            instances=(item,),
        )
        evidence.add(one, [(WIDTH, HEIGHT)])
    return evidence.verdicts()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y, w, h: (x / 100, y / 80, (x + w) / 100, (y + h) / 80), "fractions of the picture"),
        (lambda x, y, w, h: (x, y, w / 9, h / 9), "is the order another one"),
        (lambda x, y, w, h: (x, y, 2 * x + w, 2 * y + h), "last two numbers corners"),
        (lambda x, y, w, h: (x + 1, y + 1, x + w, y + h), "count pixels from 1"),
        (lambda x, y, w, h: (x, y, WIDTH + 1, HEIGHT + 1), "end counted twice"),
    ],
)
def test_a_wrong_convention_shows_over_many_boxes(
    change: Callable[[float, float, float, float], Any], says: str
) -> None:
    assert any(says in line for line in _verdicts(change))


def test_the_right_convention_gives_no_verdict() -> None:
    assert _verdicts(lambda x, y, w, h: (x, y, x + w, y + h)) == []


def test_few_boxes_are_no_evidence() -> None:
    evidence = BoxEvidence()
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
