"""Plots as SVG, drawn without any script: bars, histograms, maps of two sizes, lines.

All take their colours from classes of the page, so that they are legible in both themes; lines differ by dashes, too,
and every figure has its numbers as a table.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from dataengine.report.text import number, seen

WIDTH, HEIGHT = 380, 220
COLORS = 8  # the page's classes of lines, c0 to c7 (Okabe and Ito's palette)
MAX_NAME, MAX_LABEL = 80, 600
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 40
_TICK_WIDTH, _LETTER = 30, 5.8  # what a label of an axis needs, and a letter of it, in units of the drawing
MAX_ROWS = 100


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

    parts = []
    for step in range(5):
        y = y0 + (y1 - y0) * step / 4
        parts.append(_grid_line(place(x0, y)[1], f"{y:.3g}"))
    keys = []
    for order, (name, points) in enumerate(clean.items()):
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(x, y) for x, y in points))
        parts.append(
            f'<polyline points="{path}" class="line c{order % COLORS} d{order // COLORS % 4}">'
            f"<title>{_text(name)}</title></polyline>"
        )
        keys.append(_key(order, name))
    parts += [
        _tick(_LEFT, f"{x0:g}", "start"),
        _tick(WIDTH - _RIGHT, f"{x1:g}", "end"),
        _axis_name(x_label),
    ]
    last = {name: points[-1][1] for name, points in clean.items()}
    says = f"{title}: " + "; ".join(f"{name} ends at {value:.4g}" for name, value in list(last.items())[:6])
    legend = f'<div class="legend">{"".join(keys)}</div>'
    return _figure(title, _svg(parts, says) + legend + _numbers(("line", "last value"), list(last.items())))


def histogram(
    title: str, counts: Sequence[int], labels: Sequence[str], x_label: str, y_label: str, note: str = ""
) -> str:
    """Return an SVG of one upright bar a bin; empty bins at both ends are left out. Axes name their units."""
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return ""
    span = range(filled[0], filled[-1] + 1)
    shown = [(labels[place], counts[place]) for place in span]
    top = max(count for _, count in shown)
    room, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    step = room / len(shown)
    parts = [_grid_line(HEIGHT - _BOTTOM - height * value / top, number(value)) for value in _ticks(top)]
    every = max(1, math.ceil(max(_TICK_WIDTH, *(_LETTER * len(label) + 6 for label, _ in shown)) / step))
    for place, (label, count) in enumerate(shown):
        size, left = height * count / top, _LEFT + place * step
        parts.append(
            f'<rect x="{left + step * 0.08:.2f}" y="{HEIGHT - _BOTTOM - size:.2f}" width="{step * 0.84:.2f}" '
            f'height="{size:.2f}" class="fill"><title>{_text(label)}: {number(count)}</title></rect>'
        )
        if place % every == 0:
            parts.append(_tick(left + step / 2, label, "middle"))
    total = sum(counts)
    peak = max(shown, key=lambda one: one[1])
    says = f"{title}: {number(total)} in all, most ({number(peak[1])}) at {peak[0]} {x_label}"
    parts.append(_axis_name(x_label))
    table = _numbers((x_label, y_label), [one for one in shown if one[1]])
    return _figure(title, _svg(parts, says) + table, f"{number(total)} {y_label}{'; ' if note else ''}{note}")


def heat(
    title: str,
    counts: Sequence[Sequence[int]],
    rows: Sequence[str],
    columns: Sequence[str],
    x_label: str,
    y_label: str,
    what: str,
) -> str:
    """Return an SVG map of counts [rows][columns], the first row at the bottom; the more, the stronger the colour.

    Rows and columns without any count at the ends are left out. Strength is the root of the share of the greatest.
    """
    found = [(y, x, count) for y, row in enumerate(counts) for x, count in enumerate(row) if count]
    if not found:
        return ""
    ys = range(min(y for y, _, _ in found), max(y for y, _, _ in found) + 1)
    xs = range(min(x for _, x, _ in found), max(x for _, x, _ in found) + 1)
    top, total = max(count for _, _, count in found), sum(count for _, _, count in found)
    left = min(max(_LEFT, *(6 * len(rows[y]) + 10 for y in ys)), WIDTH // 2)
    wide, high = (WIDTH - left - _RIGHT) / len(xs), (HEIGHT - _TOP - _BOTTOM) / len(ys)
    parts = [
        f'<rect x="{left}" y="{_TOP}" width="{wide * len(xs):.2f}" height="{high * len(ys):.2f}" class="frame"/>'
    ]
    for y, x, count in found:
        parts.append(
            f'<rect x="{left + (x - xs[0]) * wide:.2f}" y="{HEIGHT - _BOTTOM - (y - ys[0] + 1) * high:.2f}" '
            f'width="{wide:.2f}" height="{high:.2f}" class="fill" fill-opacity="{_strength(count / top):.3f}">'
            f"<title>{_text(columns[x])} × {_text(rows[y])}: {number(count)}</title></rect>"
        )
    every = math.ceil(max(_TICK_WIDTH, *(_LETTER * len(columns[x]) + 6 for x in xs)) / wide)
    parts += [_tick(left + (x - xs[0] + 0.5) * wide, columns[x], "middle") for x in xs[::every]]
    for y in ys[:: math.ceil(13 / high)]:
        parts.append(_side_tick(left, HEIGHT - _BOTTOM - (y - ys[0] + 0.5) * high, rows[y]))
    parts.append(_axis_name(x_label))
    most = sorted(found, key=lambda one: -one[2])[:MAX_ROWS]
    y, x, count = most[0]
    says = f"{title}: {number(total)} {what}, most ({number(count)}) at {columns[x]} × {rows[y]}"
    cells = [(f"{columns[x]} × {rows[y]}", count) for y, x, count in most]
    table = _numbers((f"{x_label} × {y_label}", what), cells)
    return _figure(title, _svg(parts, says) + table, f"{number(total)} {what}; upwards: {y_label}")


def _strength(share: float) -> float:
    return 0.12 + 0.88 * math.sqrt(share)


def bars(title: str, counts: Mapping[str, float], unit: str = "", note: str = "") -> str:
    """Return horizontal bars, one a name, in the order given: a table whose middle column is drawn."""
    if not counts:
        return ""
    top = max(max(counts.values()), 1e-9)
    # Of the width, in hundredths; the letters are those of the page, in a figure of its usual width.
    wide = min(max(map(len, counts)) * 2.4 + 7, 48)
    narrow = min(max(len(number(value)) for value in counts.values()) * 2.4 + 6, 32)
    columns = f'<colgroup><col width="{wide:.0f}%"/><col/><col width="{narrow:.0f}%"/></colgroup>'
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td class="track"><svg aria-hidden="true" height="12" width="100%">'
        f'<rect class="fill" width="{max(value, 0) / top * 100:.2f}%" height="12"/></svg></td>'
        f'<td class="num">{number(value)}</td></tr>'
        for name, value in counts.items()
    )
    said = "; ".join(part for part in (f"in {unit}" if unit else "", note) if part)
    return _figure(title, f'<table class="bars">{columns}<tbody>{rows}</tbody></table>', said)


def _ticks(top: float) -> list[float]:
    """Return 0 and up to four round numbers, evenly spaced, that end at or below the greatest value."""
    rough = top / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    if top >= 1:
        step = max(step, 1.0)
    return [step * place for place in range(int(top / step) + 1)]


def _text(text: str) -> str:
    return html.escape(seen(text, MAX_NAME))


def _grid_line(y: float, label: str) -> str:
    return f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>' + _side_tick(
        _LEFT, y, label
    )


def _side_tick(left: float, y: float, label: str) -> str:
    return f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_text(label)}</text>'


def _tick(x: float, label: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 15}" text-anchor="{anchor}">{_text(label)}</text>'


def _axis_name(label: str) -> str:
    return f'<text x="{(_LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{_text(label)}</text>'


def _key(order: int, name: str) -> str:
    line = f'<line x2="22" y1="6" y2="6" class="line c{order % COLORS} d{order // COLORS % 4}"/>'
    return (
        f'<span class="key"><svg width="22" height="12" aria-hidden="true">{line}</svg> {_text(name)}</span>'
    )


def _svg(parts: Sequence[str], says: str) -> str:
    label = html.escape(seen(says, MAX_LABEL))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _numbers(columns: tuple[str, str], rows: Sequence[tuple[str, float]]) -> str:
    body = "".join(
        f'<tr><td>{_text(name)}</td><td class="num">{number(value)}</td></tr>' for name, value in rows
    )
    head = f'<tr><th>{_text(columns[0])}</th><th class="num">{_text(columns[1])}</th></tr>'
    return (
        f'<details><summary>Numbers</summary><div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody>'
        "</table></div></details>"
    )


def _figure(title: str, inside: str, note: str = "") -> str:
    more = f'<p class="note">{_text(note)}</p>' if note else ""
    return f"<figure><figcaption>{_text(title)}</figcaption>{more}{inside}</figure>"
