"""Every reader says in its docstring what its numbers mean, and where that is written down."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import cast

import pytest

from dataengine.modules import FORMATS_PACKAGE, load_reader, names

FORMATS = names(FORMATS_PACKAGE)
# Readers of layouts that are ours, or that every spec defines anew.
OURS = {"records", "scenes"}
SOURCE = re.compile(r"Conventions?\b|Sources?: |Source\b|There is no standard|own loader")
PLACED = re.compile(r"\b(box|keypoints|quad|polygons)=|from_xywh|outline\(|corners\(|rle_from_polygons")
UNIT = re.compile(r"pixels?\b|shares of", re.IGNORECASE)
ORIGIN = re.compile(
    r"from 0|from 1|top left pixel is \(1, 1\)|as in COCO|COCO's|shares of|pixels? of the m", re.IGNORECASE
)


def module(name: str) -> ModuleType:
    return cast(ModuleType, load_reader(name, "test"))


@pytest.mark.parametrize("name", sorted({*FORMATS} - OURS))
def test_a_reader_says_where_its_conventions_are_written_down(name: str) -> None:
    assert SOURCE.search(module(name).__doc__ or "")


@pytest.mark.parametrize("name", sorted({*FORMATS} - OURS))
def test_a_reader_of_places_says_their_unit_and_origin(name: str) -> None:
    if not PLACED.search(inspect.getsource(module(name))):
        return
    text = " ".join((module(name).__doc__ or "").split())

    assert UNIT.search(text), "in pixels, or in shares of the picture?"
    assert ORIGIN.search(text), "from which number does the source count, and does a box's end belong to it?"
