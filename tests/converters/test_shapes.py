from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image as Picture

from converters.shapes import (
    code_mask,
    corners_box,
    document,
    ellipse,
    finite,
    gather,
    outline_mask,
    outlines_box,
    size_of,
    united,
)
from dataengine.annotation import Image, Instance
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_area, rle_from_polygons


def _make(place: str, record: str) -> Instance:
    if record == "bad":
        raise Quarantine("box.odd", "it is odd")
    return Instance(id=place, category=record)


def test_a_record_that_is_no_object_is_rejected_and_stays_ignored() -> None:
    found = gather([("o[0]", "cat"), ("o[1]", "bad")], _make, lambda _: "cat", "k", "f.json")

    assert found.instances == (
        Instance(id="o[0]", category="cat"),
        Instance(id="o[1]", category="cat", ignore=True),
    )
    assert [(item.key, item.reason, item.origin.record) for item in found.rejected] == [
        ("k.o[1]", "box.odd", "o[1]")
    ]
    assert found.known


def test_a_rejected_record_of_no_known_class_makes_the_picture_unsure() -> None:
    assert not gather([("o[0]", "bad")], _make, lambda _: None, "k", "f").known


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"a": "x"}', b"\xff", b"[" * 100_000])
def test_a_document_of_another_kind_is_rejected(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)

    with pytest.raises(Quarantine, match="schema"):
        document("a.json", Root(tmp_path), "annotations", dict[str, int], "a mapping")


def test_a_document_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        document("a.json", Root(tmp_path), "annotations", dict[str, int], "a mapping")


def test_the_size_is_the_stated_one_or_that_of_the_header(tmp_path: Path) -> None:
    Picture.new("RGB", (7, 5)).save(tmp_path / "a.png")
    root = Root(tmp_path)

    assert size_of(Image(path="a.png", width=3, height=4), root) == (3, 4)
    assert size_of(Image(path="a.png"), root) == size_of(Image(path="a.png", width=3), root) == (7, 5)
    with pytest.raises(Quarantine, match=r"image\.missing"):
        size_of(Image(path="b.png"), root)


def test_finite_numbers_stay_as_they_are() -> None:
    assert finite([1, -2.5], "points") == [1.0, -2.5]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_numbers_must_be_finite(value: float | None) -> None:
    with pytest.raises(Quarantine, match="schema"):
        finite([1.0, value], "points")


def test_two_corners_are_a_box_whichever_they_are() -> None:
    assert corners_box((9, 2), (4, 8)) == (4, 2, 9, 8)


def test_outlines_unite_to_one_mask_and_one_box() -> None:
    outlines = [[0.0, 0, 2, 0, 2, 2, 0, 2], [4.0, 4, 6, 4, 6, 6, 4, 6]]

    mask = outline_mask(outlines, (8, 8))

    assert rle_area(mask) == 8
    assert outlines_box(outlines) == (0, 0, 6, 6)


def test_an_outline_without_area_is_rejected() -> None:
    with pytest.raises(Quarantine, match=r"polygon\.invalid"):
        outline_mask([[0, 0, 1, 1]], (8, 8))
    with pytest.raises(Quarantine, match=r"polygon\.invalid"):
        outlines_box([[]])


def test_a_code_must_have_the_size_of_its_picture() -> None:
    rle = rle_from_polygons([[0, 0, 2, 0, 2, 2, 0, 2]], 4, 3)

    assert code_mask(rle.counts, (3, 4), (4, 3)) == rle
    assert code_mask(rle.counts, (3, 4), None) == rle
    for counts, stated in ((rle.counts, (4, 3)), ("!", (3, 4)), ([5, 99], (3, 4))):
        with pytest.raises(Quarantine, match=r"rle\.size_mismatch"):
            code_mask(counts, stated, (4, 3))


def test_an_ellipse_has_the_area_of_one() -> None:
    mask = outline_mask([ellipse((50, 40), (30, 10))], (100, 80))

    assert rle_area(mask) == pytest.approx(math.pi * 300, rel=0.02)
    assert outlines_box([ellipse((50, 40), (30, 10))]) == pytest.approx((20, 30, 80, 50))


def test_an_ellipse_turns_clockwise() -> None:
    mask = mask_from_rle(outline_mask([ellipse((50, 50), (40, 5), 45)], (100, 100)))

    assert mask[70, 70] and mask[30, 30]
    assert not mask[30, 70]
    assert outlines_box([ellipse((50, 40), (30, 10), 90)]) == pytest.approx((40, 10, 60, 70))


def test_an_ellipse_is_not_turned_without_end() -> None:
    with pytest.raises(Quarantine, match=r"polygon\.invalid"):
        ellipse((50, 40), (30, 10), math.inf)


def test_parts_that_share_an_id_are_one_object() -> None:
    left = outline_mask([[0.0, 0, 2, 0, 2, 2, 0, 2]], (8, 8))
    right = outline_mask([[4.0, 4, 6, 4, 6, 6, 4, 6]], (8, 8))
    parts = (
        Instance(id="a", category="cat", box=(0, 0, 2, 2), mask=left),
        Instance(id="b", category="dog"),
        Instance(id="a", category="cat", box=(4, 4, 6, 6), mask=right),
        Instance(id="a", category="cat"),
    )

    first, second = united(parts)
    without_mask, _ = united((parts[0], parts[1], Instance(id="a", box=(1, 1, 9, 3))))

    assert first.mask is not None
    assert (first.category, first.box, rle_area(first.mask)) == ("cat", (0, 0, 6, 6), 8)
    assert second == parts[1]
    assert (without_mask.box, without_mask.mask) == ((0, 0, 9, 3), None)
