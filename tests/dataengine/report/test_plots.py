from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from dataengine.report.plots import HEIGHT, WIDTH, bars, line_plot


def _points(svg: str) -> list[tuple[float, float]]:
    (found,) = re.findall(r'<polyline points="([^"]*)"', svg)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found.split(" "))]


def test_a_line_rises_where_its_values_rise_and_stays_inside() -> None:
    points = _points(line_plot("loss", {"a": [(0, 1.0), (5, 3.0), (10, 2.0)]}, "step"))

    xs, ys = zip(*points, strict=True)
    assert list(xs) == sorted(xs)
    assert ys[1] < ys[2] < ys[0]  # SVG counts downwards
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)


def test_values_that_are_not_finite_are_left_out() -> None:
    svg = line_plot(
        "loss", {"a": [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)], "b": [(0, math.nan)]}, "step"
    )

    assert len(_points(svg)) == 2
    assert line_plot("loss", {"b": [(0, math.nan)]}, "step") == ""


def test_a_constant_line_and_a_single_point_are_drawn() -> None:
    assert len(_points(line_plot("x", {"a": [(3, 0.0)]}, "step"))) == 1
    assert len(_points(line_plot("x", {"a": [(0, -2.0), (1, -2.0)]}, "step"))) == 2


def test_names_are_escaped_and_the_figure_is_well_formed() -> None:
    name = "<script>&\"'"

    for figure in (line_plot(name, {name: [(0, 1.0), (1, 2.0)]}, name), bars(name, {name: 2.0, "b": 1.0})):
        assert "<script" not in figure
        ElementTree.fromstring(figure)


def test_the_longest_bar_is_the_greatest_count() -> None:
    widths = [
        float(one)
        for one in re.findall(r'class="fill" width="([0-9.]+)%', bars("x", {"a": 5, "b": 20, "c": 0}))
    ]

    assert widths == [25.0, 100.0, 0.0]
    assert bars("x", {}) == ""
