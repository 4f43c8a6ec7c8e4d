from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.audit.findings import Finding, Findings
from dataengine.errors import DataEngineError


def finding(rule: str, number: int, subject: str = "s", image: str = "") -> Finding:
    return Finding(
        rule=rule, severity="warn", subject=subject, place="box", key=str(number), file="f.json",
        record=f"images[{number}]", detail=f"detail {number}", image=image, box=(0.5, 1, 2, number),
    )  # fmt: skip


def _num_open(folder: Path) -> int:
    """Return how many files that were made in a folder this process has open, whether they have a name or not."""
    return sum(str(one.resolve()).startswith(str(folder)) for one in Path("/proc/self/fd").iterdir())


some = st.lists(
    st.builds(
        finding,
        st.sampled_from(["box.outside", "text.case"]),
        st.integers(0, 99),
        st.sampled_from("ab"),
        st.sampled_from(["", "1.jpg"]),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(first=some, second=some, third=some)
def test_findings_are_what_was_put_in_whether_on_disk_or_not(
    first: list[Finding], second: list[Finding], third: list[Finding]
) -> None:
    whole, part = Findings(held=3), Findings(held=4)
    for one in first:
        whole.append(one)
    for one in second:
        part.append(one)
    whole.extend(part)
    for one in third:
        whole.append(one)
    expected = first + second + third

    assert list(whole) == expected
    assert list(whole) == expected  # once more
    assert len(whole) == len(expected)
    assert list(part) == second
    for key, count in whole.counts.items():
        assert count == sum((one.subject, one.rule, one.place) == key for one in expected)
    assert whole.counts.total() == len(expected)
    assert list(whole.of("text.case")) == [one for one in expected if one.rule == "text.case"]
    assert list(whole.of("text.case", "a", pictured=True)) == [
        one for one in expected if one.rule == "text.case" and one.subject == "a" and one.image
    ]


def test_what_is_added_while_somebody_reads_is_not_read_and_not_lost() -> None:
    found = Findings(held=4)
    for number in range(10):
        found.append(finding("box.outside", number))

    reading = iter(found)
    first = next(reading)
    for number in range(10, 20):
        found.append(finding("box.outside", number))

    assert [one.key for one in (first, *reading)] == [str(number) for number in range(10)]
    assert [one.key for one in found] == [str(number) for number in range(20)]


def test_the_first_of_a_rule_are_found_without_reading_what_holds_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Findings(held=10)
    for number in range(1000):
        found.append(finding("text.case" if number == 777 else "box.outside", number))
    read = []
    unpacked = Findings._unpacked

    def counted(self: Findings, block: Any) -> list[Finding]:
        read.append(block)
        return unpacked(self, block)

    monkeypatch.setattr(Findings, "_unpacked", counted)

    assert [one.key for one in islice(found.of("box.outside"), 3)] == ["0", "1", "2"]
    assert [one.key for one in found.of("text.case")] == ["777"]
    assert list(found.of("box.outside", pictured=True)) == []
    assert len(read) == 2


def test_no_file_has_a_name_and_none_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("dataengine.spill.HELD_BYTES", 1)
    found = Findings(held=2)
    for number in range(5):
        found.append(finding("box.outside", number))

    assert list(tmp_path.iterdir()) == []
    assert _num_open(tmp_path) == 1
    del found
    gc.collect()
    assert _num_open(tmp_path) == 0


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    script = """
import os, signal
from dataengine import spill
from dataengine.audit.findings import Finding, Findings
spill.HELD_BYTES = 1
found = Findings(held=2)
for number in range(9):
    found.append(Finding(rule="schema", severity="warn", subject="", place="box", key="", file="", record="",
                         detail=str(number)))
print(len(found), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert (ended.returncode, ended.stdout) == (-9, "9\n")
    assert list(tmp_path.iterdir()) == []


def test_a_text_that_is_no_utf8_is_spelled_out() -> None:
    found = Findings(held=1)
    found.append(finding("path.invalid", 1, image="b\udcff.jpg"))

    assert [one.image for one in found] == ["b\\udcff.jpg"]


def test_a_folder_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    monkeypatch.setattr("dataengine.spill.HELD_BYTES", 1)
    found = Findings(held=2)
    found.append(finding("box.outside", 1))

    with pytest.raises(DataEngineError, match="cannot be written: No space left on device"):
        found.append(finding("box.outside", 2))
