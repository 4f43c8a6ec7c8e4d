"""Self-contained HTML pages: no network, every text escaped, and no script runs but the page's own.

The page's script only adds to what is there without it: a box that filters rows and cards, tables sorted by a click on
their head, a switch of the theme. A policy names its digest, and that of the style, so that no other runs even where a
text were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

import jinja2
import msgspec
from markupsafe import Markup, escape
from PIL import Image

from dataengine.annotation import LabelSpace
from dataengine.images import Pixels
from dataengine.report.draw import contact_sheet, draw_sample
from dataengine.report.text import number, seen
from dataengine.sample import Sample

MAX_TURN = 700
Tone = Literal["", "good", "note", "warn", "bad"]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A text in a table that is more than text.

    `value` is the number that it stands for: such a cell stands right, and sorts by it. `to` is the id of a section of
    the page to jump to, `tone` how good or bad it is, `bar` a share to draw below it.
    """

    text: str
    value: float | None = None
    to: str = ""
    tone: Tone = ""
    bar: float | None = None


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table: numbers stand right. A cell is a text, a number, or a Cell."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""
    note: str = ""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A sample to look at: pictures as data URIs, a caption for each or none, turns as (role, text)."""

    id: str
    pictures: Sequence[str]
    turns: Sequence[tuple[str, str]]
    origin: str = ""
    alt: str = ""
    captions: Sequence[str] = ()


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """A number that matters, shown large, with what it counts and a word more."""

    label: str
    value: int | float | str
    note: str = ""
    tone: Tone = ""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a page. `plots` are SVG figures made by `report.plots`.

    `id` is what links on the page jump to; `verdict` a sentence that stands out in its tone. An `inner` section belongs
    to the one above it, and is not in the list of contents.
    """

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    plots: Sequence[str] = ()
    cards: Sequence[Card] = ()
    numbers: Sequence[Number] = ()
    verdict: tuple[Tone, str] | None = None
    id: str = ""
    inner: bool = False


def render(title: str, sections: Sequence[Section], subtitle: str = "") -> str:
    """Return a page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dataengine.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    style, script = _asset("page.css"), _asset("page.js")
    shown = [
        {
            **msgspec.structs.asdict(section),
            "id": section.id or f"s{place}",
            # Plots are our own SVG, in which every name was escaped when it was drawn.
            "plots": [Markup(plot) for plot in section.plots if plot],
            "tables": [
                {
                    **msgspec.structs.asdict(table),
                    "rows": [[_cell(cell) for cell in row] for row in table.rows],
                }
                for table in section.tables
            ],
            "cards": [_card(one) for one in section.cards],
            "numbers": [
                {
                    **msgspec.structs.asdict(one),
                    "value": one.value if isinstance(one.value, str) else number(one.value),
                }
                for one in section.numbers
            ],
        }
        for place, section in enumerate(sections, start=1)
    ]
    return environment.get_template("page.html").render(
        title=title,
        subtitle=subtitle,
        sections=shown,
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'",
    )


@cache
def _asset(name: str) -> str:
    loader = jinja2.PackageLoader("dataengine.report")
    return loader.get_source(jinja2.Environment(loader=loader), name)[0]


def _digest(text: str) -> Markup:
    """Return what a Content-Security-Policy calls an inline script or style."""
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")


def _shown(value: object) -> object:
    return seen(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _cell(value: object) -> Cell:
    if isinstance(value, Cell):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(text=number(value) if math.isfinite(value) else str(value), value=value)
    return Cell(text=str(value))


def _card(one: Card) -> dict[str, object]:
    captions = [*one.captions, *[""] * (len(one.pictures) - len(one.captions))]
    # A picture is longer than any text may be.
    pictures = [(escape(uri), text) for uri, text in zip(one.pictures, captions, strict=True)]
    return {**msgspec.structs.asdict(one), "pictures": pictures}


def data_uri(picture: Image.Image, quality: int = 82) -> str:
    """Return a picture as a JPEG data URI."""
    sink = io.BytesIO()
    picture.convert("RGB").save(sink, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}"


def turns_of(sample: Sample, limit: int = MAX_TURN) -> list[tuple[str, str]]:
    """Return the conversation as (role, text), long turns cut."""
    return [
        (
            turn.role,
            turn.text if len(turn.text) <= limit else f"{turn.text[:limit]} … ({len(turn.text)} characters)",
        )
        for turn in sample.conversation
    ]


def card(sample: Sample, pictures: Sequence[Pixels], labels: LabelSpace | None = None) -> Card:
    """Return a sample as a card with its pictures drawn."""
    return Card(
        id=sample.id,
        pictures=[data_uri(picture) for picture in draw_sample(sample, pictures, labels)],
        turns=turns_of(sample),
        origin=f"{sample.origin.file} · {sample.origin.record}",
        alt=f"{sample.task} on {sample.dataset}",
    )


def sheet(samples: Sequence[tuple[Sample, Sequence[Pixels], LabelSpace | None]]) -> Image.Image:
    """Return samples as one picture."""
    return contact_sheet(
        [
            (
                draw_sample(sample, pictures, labels),
                [sample.id, *(f"{role}: {text}" for role, text in turns_of(sample, 300))],
            )
            for sample, pictures, labels in samples
        ]
    )
