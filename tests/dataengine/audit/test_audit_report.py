from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from dataengine.audit.report import write
from dataengine.audit.run import audit

if TYPE_CHECKING:
    from tests.conftest import Tiny

HOSTILE = '</td><script>alert("1")</script><img src=x onerror=alert(1)>'


class _Attributes(HTMLParser):
    """Collects the tags of a page and their attributes, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [(name, value or "") for name, value in attrs]


@pytest.fixture
def damaged(tiny: Tiny) -> Tiny:
    document = tiny.document()
    document["categories"][0]["name"] = HOSTILE
    document["annotations"][0]["bbox"] = [20, 10, 30, 8]
    document["annotations"][2]["bbox"] = [5, 5, 0, 5]
    document["images"][4]["file_name"] = f"{HOSTILE}.jpg"
    tiny.write(document)
    tiny.convert()
    return tiny


def test_a_report_is_three_files_that_agree(damaged: Tiny, tmp_path: Path) -> None:
    report = audit([damaged.out])

    write(report, tmp_path / "r")

    summary = json.loads((tmp_path / "r/report.json").read_text())
    rows = pq.read_table(tmp_path / "r/issues.parquet").to_pylist()
    assert summary["rules"] == {"box.outside": 1, "box.degenerate": 1, "image.missing": 1}
    assert sorted(row["rule"] for row in rows) == sorted(summary["rules"])
    outside = next(row for row in rows if row["rule"] == "box.outside")
    assert (outside["key"], outside["record"], outside["image"]) == ("1", "images[0]", "images/001.jpg")
    assert outside["box"] == [20.0, 10.0, 50.0, 18.0]
    html = (tmp_path / "r/index.html").read_text()
    assert all(rule in html for rule in summary["rules"])
    assert html.count("<img ") == 2  # one picture a finding, but for the missing one


def test_text_of_the_source_is_escaped_and_the_page_needs_no_network(damaged: Tiny, tmp_path: Path) -> None:
    write(audit([damaged.out]), tmp_path / "r")

    html = (tmp_path / "r/index.html").read_text()
    parser = _Attributes()
    parser.feed(html)
    assert "&lt;script&gt;" in html
    assert "script" not in parser.tags
    assert not [name for name, _ in parser.found if name.startswith("on")]
    links = [value for name, value in parser.found if name in ("src", "href", "action", "srcset", "data")]
    assert links
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in links)
    assert "http://" not in html
    assert "https://" not in html
    assert "default-src 'none'" in html


def test_a_second_report_shows_what_the_last_one_found(damaged: Tiny, tmp_path: Path) -> None:
    write(audit([damaged.out]), tmp_path / "r")
    first = (tmp_path / "r/index.html").read_text()
    document = damaged.document()
    document["annotations"][0]["bbox"] = [2, 3, 4, 4]
    document["annotations"][4]["bbox"] = [5, 5, 0, 5]
    damaged.write(document)
    damaged.convert()

    write(audit([damaged.out]), tmp_path / "r")

    second = (tmp_path / "r/index.html").read_text()

    def row(rule: str) -> list[str]:
        cells = re.search(rf"<tr><td>{re.escape(rule)}</td>(.*?)</tr>", second, re.DOTALL)
        assert cells is not None
        return re.findall(r"<td[^>]*>(.*?)</td>", cells[1], re.DOTALL)

    assert "last time" not in first
    assert row("box.degenerate")[2:4] == ["2", "1"]
    assert row("box.outside")[2:4] == ["0", "1"]
    assert json.loads((tmp_path / "r/report.json").read_text())["rules"] == {
        "box.degenerate": 2,
        "image.missing": 1,
    }


def test_a_report_without_findings_is_a_page_too(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()

    write(audit([tiny.out]), tmp_path / "r")

    assert "0 findings by 0 rules" in (tmp_path / "r/index.html").read_text()
    assert pq.read_table(tmp_path / "r/issues.parquet").num_rows == 0


def test_an_older_report_that_cannot_be_read_is_as_good_as_none(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    (tmp_path / "report.json").write_text("{")

    write(audit([tiny.out]), tmp_path)

    assert json.loads((tmp_path / "report.json").read_text())["rules"] == {}
