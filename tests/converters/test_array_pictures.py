from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.array_pictures import write
from dataengine.files import Root

GREY = np.arange(6, dtype=np.uint8).reshape(2, 3)


@pytest.mark.parametrize(
    "values",
    [GREY, GREY[:, :, None], GREY.astype(float), np.stack([GREY] * 3, axis=2)],
    ids=["grey", "one channel", "floats", "color"],
)
def test_an_array_becomes_a_picture_with_its_numbers(values: Any, tmp_path: Path) -> None:
    assert write(Root(tmp_path), [("unpacked/1.png", lambda: values)]) == 1

    with Image.open(tmp_path / "unpacked/1.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(values).squeeze())


@pytest.mark.parametrize(
    "values",
    [GREY[0], np.zeros((2, 3, 2), np.uint8), GREY.astype(float) + 300, np.zeros((0, 3)), np.array([["a"]])],
    ids=["a row", "two channels", "too bright", "empty", "text"],
)
def test_an_array_that_is_no_picture_is_passed_over(values: Any, tmp_path: Path) -> None:
    assert write(Root(tmp_path), [("unpacked/1.png", lambda: values)]) == 0
    assert not (tmp_path / "unpacked/1.png").exists()


def test_what_is_there_is_not_asked_for_again(tmp_path: Path) -> None:
    def fail() -> Any:
        raise AssertionError("was asked for")

    write(Root(tmp_path), [("unpacked/1.png", lambda: GREY)])

    assert write(Root(tmp_path), [("unpacked/1.png", fail), ("../1.png", fail)]) == 0
