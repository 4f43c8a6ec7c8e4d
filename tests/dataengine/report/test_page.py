from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from dataengine.annotation import Turn
from dataengine.report.page import Card, Section, Table, card, data_uri, render, turns_of
from dataengine.sample import Sample, SampleImage, SampleLicense, SampleOrigin, TextTargets

HOSTILE = "</div><script>alert('x')</script>{{ 7 * 7 }}<img src=http://evil.example/x>"
SAMPLE = Sample(
    id=HOSTILE, task="caption", dataset="a", split="b",
    images=(SampleImage(path="a.png", width=4, height=4, format="png"),),
    conversation=(Turn("user", "<image>"), Turn("assistant", HOSTILE)),
    targets=TextTargets(),
    origin=SampleOrigin(dataset="a", file=HOSTILE, record="r", spec="s", spec_hash="h", reader="x"),
    license=SampleLicense(annotations="CC0-1.0", images="CC0-1.0"),
)  # fmt: skip


def test_every_text_is_escaped() -> None:
    made = card(SAMPLE, [np.zeros((4, 4, 3), np.uint8)])
    table = Table(columns=[HOSTILE], rows=[[HOSTILE, 3, 0.12345678]], title=HOSTILE)

    html = render(HOSTILE, [Section(title=HOSTILE, note=HOSTILE, tables=[table], cards=[made])], HOSTILE)

    assert html.count("<script") == 1  # the page's own
    assert "<img src=http" not in html
    assert "{{ 7 * 7 }}" in html
    assert html.count("&lt;script&gt;") >= 8
    assert "0.1235" in html


def test_the_alt_text_cannot_leave_its_attribute() -> None:
    html = render(
        "x",
        [Section(title="y", cards=[Card(id="1", pictures=["data:,"], turns=[], alt='" onload="alert(1)')])],
    )

    assert 'onload="alert' not in html


def test_a_data_uri_holds_the_picture() -> None:
    uri = data_uri(Image.new("RGBA", (7, 5), (255, 0, 0, 255)))

    kind, _, data = uri.partition(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert (kind, picture.size) == ("data:image/jpeg;base64", (7, 5))


def test_long_turns_are_cut_with_their_length() -> None:
    assert turns_of(SAMPLE, limit=5)[1] == ("assistant", f"{HOSTILE[:5]} … ({len(HOSTILE)} characters)")
    assert turns_of(SAMPLE, limit=1000)[1] == ("assistant", HOSTILE)
