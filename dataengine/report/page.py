"""Self-contained HTML pages: no script, no network, every text escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import msgspec
from PIL import Image

from dataengine.annotation import LabelSpace
from dataengine.images import Pixels
from dataengine.report.draw import contact_sheet, draw_sample
from dataengine.sample import Sample

MAX_TURN = 700


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table: numbers stand right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A sample to look at: pictures as data URIs, turns as (role, text)."""

    id: str
    pictures: Sequence[str]
    turns: Sequence[tuple[str, str]]
    origin: str = ""
    alt: str = ""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a page. `plots` are SVG figures made by `report.plots`."""

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    plots: Sequence[str] = ()
    cards: Sequence[Card] = ()


def render(title: str, sections: Sequence[Section], subtitle: str = "") -> str:
    """Return a page as HTML."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dataengine.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    shown = [
        {
            **msgspec.structs.asdict(section),
            # Plots are our own SVG, in which every name was escaped when it was drawn.
            "plots": [Markup(plot) for plot in section.plots if plot],
        }
        for section in sections
    ]
    return environment.get_template("page.html").render(title=title, subtitle=subtitle, sections=shown)


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
