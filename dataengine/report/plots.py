"""Small line plots and bars as SVG, drawn without any script."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from dataengine.report.draw import color_of

WIDTH, HEIGHT = 560, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 14, 28


def line_plot(title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_label: str) -> str:
    """Return an SVG of one line a series of (x, y) points; values that are not finite are left out."""
    clean = {
        name: [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        for name, points in series.items()
    }
    clean = {name: points for name, points in clean.items() if points}
    if not clean:
        return ""
    xs = [x for points in clean.values() for x, _ in points]
    ys = [y for points in clean.values() for _, y in points]
    x0, x1 = min(xs), max(max(xs), min(xs) + 1e-9)
    y0, y1 = min(0.0, *ys), max(max(ys), 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - x0) / (x1 - x0) * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - _TOP - _BOTTOM),
        )

    parts = [_grid(y0, y1, place, x0, x1)]
    for name, points in clean.items():
        color = "#{:02x}{:02x}{:02x}".format(*color_of(name))
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(x, y) for x, y in points))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8">'
            f"<title>{html.escape(name)}</title></polyline>"
        )
    legend = "".join(
        f'<span class="key"><i style="background:#{"{:02x}{:02x}{:02x}".format(*color_of(name))}"></i>'
        f"{html.escape(name)}</span>"
        for name in clean
    )
    axis = (
        f'<text x="{_LEFT}" y="{HEIGHT - 8}">{x0:g}</text>'
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{x1:g} {html.escape(x_label)}</text>'
    )
    return (
        f'<figure><figcaption>{html.escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}{axis}</svg><div class="legend">{legend}</div></figure>'
    )


def _grid(y0: float, y1: float, place: object, x0: float, x1: float) -> str:
    assert callable(place)
    lines = []
    for number in range(5):
        y = y0 + (y1 - y0) * number / 4
        left, height = place(x0, y)
        right, _ = place(x1, y)
        lines.append(
            f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{height:.1f}" y2="{height:.1f}" class="grid"/>'
            f'<text x="{left - 6:.1f}" y="{height + 4:.1f}" text-anchor="end">{y:.3g}</text>'
        )
    return "".join(lines)


def bars(title: str, counts: Mapping[str, float]) -> str:
    """Return horizontal bars, one a name, in the order given."""
    if not counts:
        return ""
    top = max(max(counts.values()), 1e-9)
    rows = "".join(
        f'<div class="bar"><span>{html.escape(name)}</span><b style="width:{value / top * 55:.2f}%"></b>'
        f"<em>{value:g}</em></div>"
        for name, value in counts.items()
    )
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{rows}</figure>"
