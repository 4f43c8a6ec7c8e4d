from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataengine.annotation import Label, LabelSpace, Turn
from dataengine.geometry import rle_of_box
from dataengine.marks import COLORS
from dataengine.report.draw import SIDE, color_of, contact_sheet, draw_sample, lacks_letters, mark_box
from dataengine.sample import (
    InstanceTargets,
    KeypointTargets,
    Mark,
    Region,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
    TextTargets,
)

GREY = (128, 128, 128)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A “dog”, no. 7\nruns …", False), ("", False), ("一只狗", True), ("a 犬", True), ("собака", True)],
)
def test_letters_that_the_font_lacks_are_known(text: str, expected: bool) -> None:
    assert lacks_letters(text) == expected


def _pixels(width: int, height: int) -> Any:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def _sample(**fields: Any) -> Sample:
    values = {
        "id": "a/b/1#c", "task": "c", "dataset": "a", "split": "b",
        "images": (SampleImage(path="a.png", width=SIDE, height=SIDE, format="png"),),
        "conversation": (Turn("user", "<image>"), Turn("assistant", "ok")),
        "targets": TextTargets(),
        "origin": SampleOrigin(dataset="a", file="f", record="r", spec="s", spec_hash="h", reader="x"),
        "license": SampleLicense(annotations="CC0-1.0", images="CC0-1.0"),
    }  # fmt: skip
    return Sample(**{**values, **fields})


def _draw(sample: Sample, width: int = SIDE, height: int = SIDE, labels: LabelSpace | None = None) -> Any:
    (picture,) = draw_sample(sample, [_pixels(width, height)], labels)
    return np.asarray(picture)


def _is(color: tuple[int, int, int], where: Any) -> bool:
    return bool((np.asarray(where).reshape(-1, 3) == color).all())


def test_a_box_is_drawn_on_its_first_and_last_pixels() -> None:
    # As wide as the drawing: one source pixel is one drawn pixel.
    box = (100.0, 150.0, 201.0, 251.0)
    target = InstanceTargets(instances=(TargetInstance(label="cat", box=box, area=1),))

    drawn = _draw(_sample(targets=target))

    color = color_of("cat")
    assert _is(color, drawn[180:251, 100:102])  # left edge
    assert _is(color, drawn[180:251, 199:201])  # right edge: 201 is exclusive
    assert _is(color, drawn[150:152, 150:201])  # top edge
    assert _is(color, drawn[249:251, 100:201])  # bottom edge
    assert _is(GREY, drawn[180:251, 98:100])
    assert _is(GREY, drawn[180:251, 201:204])
    assert _is(GREY, drawn[251:254, 100:201])
    assert _is(GREY, drawn[153:248, 103:198])


def test_a_box_is_drawn_where_it_lies_on_a_scaled_picture() -> None:
    target = InstanceTargets(instances=(TargetInstance(label="cat", box=(210, 420, 630, 840), area=1),))

    drawn = _draw(_sample(targets=target), width=840, height=840)

    color = color_of("cat")
    assert drawn.shape == (SIDE, SIDE, 3)
    assert _is(color, drawn[300:400, 105])
    assert _is(color, drawn[300:400, 314])
    assert _is(GREY, drawn[300:400, 107:313])
    assert _is(GREY, drawn[300:400, 316])


def test_a_mask_tints_its_pixels_and_no_other() -> None:
    mask = rle_of_box((50, 60, 80, 100), SIDE, SIDE)
    target = InstanceTargets(
        instances=(TargetInstance(label="cat", box=(50, 60, 80, 100), area=1, mask=mask),)
    )

    drawn = _draw(_sample(targets=target))

    inside = drawn[65:95, 55:75].reshape(-1, 3)
    expected = np.array(GREY) * 0.58 + np.array(color_of("cat")) * 0.42
    assert np.abs(inside - expected).max() <= 1
    assert _is(GREY, drawn[62:100, 82:120])


def test_an_ignored_object_is_dashed() -> None:
    target = InstanceTargets(
        instances=(TargetInstance(label="cat", box=(100, 150, 200, 250), area=1, ignore=True),)
    )

    edge = _draw(_sample(targets=target))[160:245, 100].tolist()

    assert list(color_of("cat")) in edge
    assert list(GREY) in edge


def test_keypoints_are_discs_where_visible_rings_where_hidden_and_nothing_where_unlabelled() -> None:
    labels = LabelSpace(
        id="x", labels=(Label(name="cat", keypoints=("a", "b", "c"), skeleton=((0, 1), (1, 2))),)
    )
    points = ((100.0, 100.0, 2), (200.0, 100.0, 1), (300.0, 300.0, 0))
    item = TargetInstance(label="cat", box=(60, 60, 360, 360), area=1, keypoints=points)

    drawn = _draw(_sample(targets=KeypointTargets(names=("a", "b", "c"), instances=(item,))), labels=labels)

    assert not _is(GREY, drawn[100, 100])
    assert not _is((255, 255, 255), drawn[100, 100])
    assert _is((255, 255, 255), drawn[100, 110:190])  # the bone between the two that are labelled
    assert not _is(GREY, drawn[100, 203])
    assert _is(GREY, drawn[290:310, 290:310])


def test_regions_are_marked_on_the_picture_that_they_name() -> None:
    region = Region(kind="box", box=(100, 100, 200, 200), image=1)
    images = tuple(SampleImage(path=f"{n}.png", width=SIDE, height=SIDE, format="png") for n in range(2))

    first, second = draw_sample(_sample(images=images, regions=(region,)), [_pixels(SIDE, SIDE)] * 2)

    assert _is(GREY, first)
    assert not _is(GREY, np.asarray(second)[100:200, 100:102])


def test_marks_are_drawn_unless_the_picture_has_them_already() -> None:
    mark = Mark(kind="box", color="red", solid=False, box=(100, 100, 200, 200))
    raw = SampleImage(path="a.png", width=SIDE, height=SIDE, format="png")
    from_shard = SampleImage(path="a.png", width=SIDE, height=SIDE, format="png", digest="0")

    drawn = _draw(_sample(images=(raw,), marks=(mark,)))

    assert drawn[100, 150].tolist() == list(COLORS["red"])
    assert _is(GREY, _draw(_sample(images=(from_shard,), marks=(mark,))))


def test_targets_lie_on_the_last_input_picture() -> None:
    images = tuple(SampleImage(path=f"{n}.png", width=SIDE, height=SIDE, format="png") for n in range(2))
    target = InstanceTargets(instances=(TargetInstance(label="cat", box=(50, 50, 90, 90), area=1),))

    first, last = draw_sample(_sample(images=images, targets=target), [_pixels(SIDE, SIDE)] * 2)

    assert _is(GREY, first)
    assert not _is(GREY, last)


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 900)])
def test_pictures_of_any_shape_are_drawn(size: tuple[int, int]) -> None:
    box = (0.0, 0.0, float(size[0]), float(size[1]))
    target = InstanceTargets(instances=(TargetInstance(label="cat", box=box, area=1),))

    assert max(_draw(_sample(targets=target), *size).shape[:2]) <= SIDE


def test_a_label_has_the_same_color_everywhere_and_a_long_name_is_cut() -> None:
    picture = Image.new("RGB", (200, 100), GREY)

    mark_box(picture, (0, 0, 50, 50), 1.0, color_of("x"), "x" * 300, dashed=False)

    assert color_of("cat") == color_of("cat")
    assert picture.size == (200, 100)


def test_a_sheet_holds_every_card_without_overlap() -> None:
    red, blue = Image.new("RGB", (30, 20), (255, 0, 0)), Image.new("RGB", (30, 20), (0, 0, 255))

    sheet = np.asarray(
        contact_sheet([([red, blue], ["one"]), ([red], ["two", "lines"]), ([], ["three"])], columns=2)
    )

    assert (sheet == (255, 0, 0)).all(axis=2).sum() == 2 * 600
    assert (sheet == (0, 0, 255)).all(axis=2).sum() == 600


def test_a_sheet_of_nothing_is_a_picture() -> None:
    assert min(contact_sheet([]).size) > 0


def test_objects_are_drawn_on_the_last_input_picture() -> None:
    images = (
        SampleImage(path="a.png", width=SIDE, height=SIDE, format="png"),
        SampleImage(path="b.png", width=SIDE, height=SIDE, format="png"),
        SampleImage(path="c.png", width=SIDE, height=SIDE, format="png", role="target"),
    )
    found = TargetInstance(label="cat", box=(100.0, 100.0, 200.0, 200.0), area=1)
    sample = _sample(images=images, targets=InstanceTargets(instances=(found,)))

    drawn = [np.asarray(picture) for picture in draw_sample(sample, [_pixels(SIDE, SIDE)] * 3)]

    assert _is(GREY, drawn[0]) and _is(GREY, drawn[2])
    assert _is(color_of("cat"), drawn[1][150:190, 100:102])


def test_frames_of_a_film_share_the_width_of_three_pictures() -> None:
    images = tuple(SampleImage(path=f"{n}.png", width=SIDE, height=SIDE, format="png") for n in range(8))

    frames = draw_sample(_sample(images=images), [_pixels(SIDE, SIDE)] * 8)

    assert {picture.width for picture in frames} == {3 * SIDE // 8}
    assert [
        picture.width for picture in draw_sample(_sample(images=images[:3]), [_pixels(SIDE, SIDE)] * 3)
    ] == [SIDE] * 3
