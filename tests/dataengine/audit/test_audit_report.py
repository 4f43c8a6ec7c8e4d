from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from dataengine.audit.identity import SAYS, Count, equal, unproven
from dataengine.audit.report import write
from dataengine.audit.run import audit

if TYPE_CHECKING:
    from tests.conftest import Tiny

HOSTILE = '</td><script>alert("1")</script><img src=x onerror=alert(1)>'


class _Attributes(HTMLParser):
    """Collects the tags of a page and their attributes, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
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
    assert parser.tags["script"] == 1  # the page's own
    assert not [name for name, _ in parser.found if name.startswith("on")]
    links = [value for name, value in parser.found if name in ("src", "href", "action", "srcset", "data")]
    assert links
    assert all(value.startswith(("data:image/webp;base64,", "#")) or value == "data:," for value in links)
    assert "http://" not in html
    assert "https://" not in html
    (policy,) = [value for name, value in parser.found if name == "content" and "-src" in value]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


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

    def rows(title: str) -> dict[str, list[str]]:
        table = second[second.index(title) :]
        found = [
            re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        return {
            re.sub("<.*?>", "", row[0]): [re.sub("<.*?>", "", cell) for cell in row]
            for row in reversed(found)
            if row
        }

    assert "last time" not in first
    assert rows("Rules with hits")["box.degenerate"][2:4] == ["2", "1"]
    changed = rows("Since the last audit</h2>")
    assert changed["box.degenerate"] == ["box.degenerate", "tiny/detection/train", "1", "2", "+1", "more"]
    assert changed["box.outside"] == ["box.outside", "tiny/detection/train", "1", "0", "-1", "gone"]
    assert json.loads((tmp_path / "r/report.json").read_text())["rules"] == {
        "box.degenerate": 2,
        "image.missing": 1,
    }


def rows_of(html: str, start: str) -> list[list[str]]:
    """Return the texts of the first table after a mark."""
    body = html[html.index(start) :].partition("</tbody>")[0]
    found = [
        re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]
    return [[re.sub("<.*?>", "", cell) for cell in row] for row in found if row]


def test_lines_of_an_account_stand_by_stage_with_their_verdict(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    lines = [
        equal("samples", "tiny", Count(6, "units"), Count(6, "samples")),
        equal("shards", "tiny", Count(6, "samples"), Count(5, "rows"), detail="tiny/train/1"),
        unproven("shards", "other", Count(2, "samples"), Count(2, "rows"), "no index"),
    ]

    write(audit([tiny.out]), tmp_path / "r", lines)

    html = (tmp_path / "r/index.html").read_text()
    assert rows_of(html, SAYS["samples"]) == [["tiny", "6 units", "6 samples", "0", "proven", ""]]
    assert rows_of(html, SAYS["shards"].partition(" +")[0]) == [
        ["tiny", "6 samples", "5 rows", "1", "differs", "tiny/train/1"],
        ["other", "2 samples", "2 rows", "0", "not proven", "no index"],
    ]
    tones = re.findall(r'<span class="tag (\w+)">(proven|differs|not proven)<', html)
    assert tones == [("good", "proven"), ("bad", "differs"), ("note", "not proven")]
    summary = json.loads((tmp_path / "r/report.json").read_text())
    assert [line["verdict"] for line in summary["identities"]] == ["proven", "differs", "not proven"]


def test_rules_without_a_hit_say_what_they_looked_at_or_why_not(tiny: Tiny, tmp_path: Path) -> None:
    write(
        audit([tiny.root / "train.json"], format_name="coco_instances", options={"images": "images"}),
        tmp_path / "r",
    )

    html = (tmp_path / "r/index.html").read_text()
    said = {row[0]: row[2] for row in rows_of(html, 'id="unbroken"')}
    assert said["box.degenerate"] == "12 boxes"
    assert said["quad.order"] == "no quads here"
    assert said["shard.damaged"] == "only looked for in shard sets, tars"
    assert said["category.gap_or_shift"] == "1 subject"
    assert said["image.blank"] == "no pictures here"
    whether = [said[rule][0].isdecimal() for rule in said]
    assert whether == sorted(whether, reverse=True)  # what was looked at comes first


def test_findings_without_a_picture_are_counted_and_all_are_said_to_be_in_the_table(
    damaged: Tiny, tmp_path: Path
) -> None:
    found = audit(
        [damaged.root / "train.json"],
        format_name="coco_instances",
        root=damaged.root,
        options={"images": "images"},
    )

    write(found, tmp_path / "r")

    html = (tmp_path / "r/index.html").read_text()
    assert html.count("Without a picture here: 1 (No such file or directory).") == 1
    assert f"all {len(found.findings)} are in issues.parquet, with places" in html


def test_pictures_come_before_the_table_of_findings(damaged: Tiny, tmp_path: Path) -> None:
    write(audit([damaged.out]), tmp_path / "r")

    html = (tmp_path / "r/index.html").read_text()
    section = html[html.index('id="rule-box.outside"') :].partition("</section>")[0]
    assert 0 < section.index("<img ") < section.index("<table>")


def test_a_report_without_findings_is_a_page_too(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()

    write(audit([tiny.out]), tmp_path / "r")

    assert "Fine: no rule is broken." in (tmp_path / "r/index.html").read_text()
    assert pq.read_table(tmp_path / "r/issues.parquet").num_rows == 0


def test_an_older_report_that_cannot_be_read_is_said_to_be_so(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    (tmp_path / "report.json").write_text("{")

    write(audit([tiny.out]), tmp_path)

    assert json.loads((tmp_path / "report.json").read_text())["rules"] == {}
    assert "The report that stood here cannot be read" in (tmp_path / "index.html").read_text()
