"""The plots of an audit: each of its numbers is one that was counted."""

from __future__ import annotations

import re
from html import unescape

from dataengine.audit.figures import MOST_BARS, figures
from dataengine.audit.findings import Findings
from dataengine.audit.state import Account, Report
from dataengine.audit.statistics import COUNTS, SIDES, Collected


def plots(*accounts: Account, **checked: int) -> dict[str, str]:
    """Return the plots by their title."""
    made = figures(Report(accounts=list(accounts), findings=Findings(), checked=checked))
    return {unescape(re.findall("<figcaption>(.*?)</figcaption>", plot)[0]): plot for plot in made}


def rows(plot: str) -> list[tuple[str, str]]:
    """Return the names and numbers that a plot has as a table."""
    (body,) = re.findall("<tbody>(.*?)</tbody>", plot)
    cells = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", body)]
    return [(unescape(found[0]), found[-1]) for found in cells]


def test_what_no_subject_has_is_no_plot() -> None:
    assert plots(Account(subject="s", records=0)) == {}


def test_counts_of_several_subjects_are_added() -> None:
    one = Account(
        subject="a", records=1, labels={"cat": 2, "dog": 5}, licenses={"CC0-1.0": 3}, classes={"x": 1}
    )
    two = Account(subject="b", records=1, labels={"cat": 4})

    made = plots(one, two, box=7, mask=1, picture=3)

    assert rows(made["Objects by label"]) == [("cat", "6"), ("dog", "5")]
    assert rows(made["Records by class"]) == [("x", "1")]
    assert rows(made["Licenses of pictures"]) == [("CC0-1.0", "3")]
    assert rows(made["What marks objects"]) == [("boxes", "7"), ("masks", "1")]


def test_of_many_labels_the_most_frequent_are_shown_and_all_are_in_the_tail() -> None:
    labels = {f"label {number}": number + 1 for number in range(MOST_BARS + 9)}

    made = plots(Account(subject="a", records=1, labels=labels))

    shown = rows(made["Objects by label"])
    assert len(shown) == MOST_BARS and shown[0] == (f"label {MOST_BARS + 8}", str(MOST_BARS + 9))
    assert f"the {MOST_BARS} most frequent of {MOST_BARS + 9}" in made["Objects by label"]
    tail = dict(rows(made["How often labels occur"]))
    assert sum(map(int, tail.values())) == len(labels)
    assert tail["1"] == "1" and tail["10–19"] == "10"


def test_every_picture_is_in_the_map_of_sizes() -> None:
    side = len(SIDES.edges) + 1
    bins = [0] * side * side
    bins[3 * side + 5] = 7  # [height][width]

    made = plots(Account(subject="a", records=1, statistics=Collected(histograms={"size": bins})))

    assert rows(made["Sizes of pictures"]) == [(f"{SIDES.names()[5]} × {SIDES.names()[3]}", "7")]


def test_texts_are_drawn_by_kind_and_boxes_of_a_record_only_where_there_are_boxes() -> None:
    bins = [0, 0, 4, *[0] * (len(COUNTS.edges) - 2)]
    collected = Collected(
        histograms={"boxes": bins, "text/caption": [0, 1, 2, *[0] * 15]}, counts={"lang": {"de": 3}}
    )
    one = Account(subject="a", records=1, statistics=collected)

    assert {"Lengths of texts", "Languages, as stated"} == set(plots(one))
    made = plots(one, box=1)
    assert rows(made["Boxes of a record"]) == [("1", "4")]
    assert "caption" in made["Lengths of texts"] and "3 texts" in made["Lengths of texts"]


def test_a_name_of_a_source_cannot_leave_its_plot() -> None:
    made = plots(Account(subject="a", records=1, labels={"</svg><script>": 1}))

    assert "<script" not in made["Objects by label"]
    assert rows(made["Objects by label"]) == [("</svg><script>", "1")]
