"""What a user asks about: pictures, marks on them, and the words of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataengine.catalog import Catalog
from dataengine.errors import Quarantine, UsageError
from dataengine.geometry import mask_from_rle
from dataengine.request import (
    Boxed,
    Masked,
    Pointed,
    Spot,
    find_pictures,
    read_box,
    read_points,
    region_on,
    show_regions,
    word_task,
)

CATALOG = Catalog()


def test_folders_stand_for_their_pictures_and_every_name_comes_once(tmp_path: Path) -> None:
    for name in ("a/one.JPG", "a/deep/one.png", "a/notes.txt", "b/one.jpg", "c.bmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    found = find_pictures(
        [tmp_path / "a", tmp_path / "b" / "one.jpg", tmp_path / "c.bmp", tmp_path / "gone.png"]
    )

    assert [(name, str(path.relative_to(tmp_path))) for name, path in found] == [
        ("deep-one", "a/deep/one.png"),
        ("one", "a/one.JPG"),
        ("one-2", "b/one.jpg"),
        ("c", "c.bmp"),
        ("gone", "gone.png"),
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: holds no picture"):
        find_pictures([tmp_path / "empty"])


def test_regions_are_boxes_masks_or_points(tmp_path: Path) -> None:
    marked = np.zeros((6, 8), np.uint8)
    marked[2:4, 3:6] = 255
    Image.fromarray(marked).save(tmp_path / "mask.png")

    box = region_on(read_box("1,2,30,5.5"), 0, 8, 6)
    mask = region_on(read_box(str(tmp_path / "mask.png")), 1, 8, 6)
    points = region_on(read_points("1,2 7,5"), 0, 8, 6)

    assert (box.kind, box.box, box.mask, box.image) == ("box", (1, 2, 8, 5.5), None, 0)
    assert mask.mask is not None and points.mask is not None
    assert (mask.kind, mask.box, mask.image) == ("mask", (3, 2, 6, 4), 1)
    assert np.array_equal(mask_from_rle(mask.mask), marked // 255)
    assert points.kind == "point"
    assert np.argwhere(mask_from_rle(points.mask)).tolist() == [[2, 1], [5, 7]]


@pytest.mark.parametrize("text", ["1,2,3", "5,1,2,9", "-1,0,4,4", "a,b,c,d", "gone.png"])
def test_a_region_that_is_none_is_told_at_once(text: str) -> None:
    with pytest.raises(UsageError, match="--region"):
        read_box(text)


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1,2 x,y"])
def test_points_that_are_none_are_told_at_once(text: str) -> None:
    with pytest.raises(UsageError, match="--point"):
        read_points(text)


def test_a_region_beyond_its_picture_is_set_aside(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "other.png")
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "empty.png")
    spots: dict[str, list[Spot]] = {
        "region.outside": [Boxed((8, 0, 9, 3)), Pointed(((1, 6),))],
        "region.size": [Masked(tmp_path / "other.png")],
        "region.empty": [Masked(tmp_path / "empty.png")],
    }

    for reason, some in spots.items():
        for spot in some:
            with pytest.raises(Quarantine) as raised:
                region_on(spot, 0, 8, 6)
            assert raised.value.reason == reason


def test_regions_are_marked_where_they_are_first_named() -> None:
    assert show_regions("Is region1 near region2, or region1?", 2) == (
        "Is <reg>region1<region></reg> near <reg>region2<region></reg>, or region1?"
    )
    assert show_regions("What is <region>?", 1) == "What is <region>?"
    assert show_regions("No region3 here.", 0) == "No region3 here."
    with pytest.raises(UsageError, match="does not name region2"):
        show_regions("What is region1?", 2)


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        (
            "detection",
            {"lists": {"classes": ("cat", "dog")}},
            "Can you find every object of these classes in the picture: cat, dog?",
        ),
        (
            "keypoints",
            {"lists": {"classes": ("person",), "keypoints": ("nose", "left eye")}},
            "Can you find every object of these classes: person? For each one, where are these keypoints: nose, left"
            " eye?",
        ),
        ("grounding", {"prompt": "The red cup. "}, "Where in the picture is this: the red cup?"),
        ("text_to_image", {"prompt": "A cat."}, "Please make a picture of this: a cat."),
        ("image_edit", {"prompt": "Make it snow"}, "Please change the picture as follows: make it snow."),
        (
            "interactive_segmentation",
            {"num_regions": 2},
            "Can you segment the objects that are marked by <reg>region1<region></reg>, <reg>region2<region></reg>?",
        ),
        ("conversation", {"prompt": "Who is  this?"}, "Who is this?"),
        ("detection", {"lists": {"classes": ("猫", "狗")}, "lang": "zh"}, None),
    ],
)
def test_a_task_is_asked_in_the_words_of_evaluation(
    task: str, given: dict[str, Any], expected: str | None
) -> None:
    text = word_task(CATALOG, task, **given)

    if expected is None:
        assert "猫、狗" in text
    else:
        assert text == expected


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        ("detektion", {}, "did you mean 'detection'"),
        ("detection", {}, "give --classes"),
        ("detection", {"lists": {"classes": ("cat",)}, "prompt": "now"}, "no place for a prompt"),
        ("detection", {"lists": {"classes": ("cat",), "keypoints": ("nose",)}}, "has no keypoints"),
        ("grounding", {}, "which expression; give it as prompt"),
        ("interactive_segmentation", {}, "give at least one region"),
        ("region_caption", {"num_regions": 2}, "give one region"),
        ("multiple_choice_vqa", {"prompt": "x"}, "several gaps"),
        ("conversation", {}, "give a prompt"),
    ],
)
def test_what_a_task_lacks_is_told(task: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        word_task(CATALOG, task, **given)
