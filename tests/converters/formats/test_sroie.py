from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.sroie import QUESTIONS, Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.files import Root

Samples = Callable[[str], Root]
LINES = "72,25,326,25,326,64,72,64,TAN WOON YANN\r\n110,144,383,144,383,163,110,163,NO.53 55,57 & 59\r\n"
KEY = '{"company": "TAN", "date": " 25/12/2018 ", "address": "NO.53\\n55", "total": "9.00"}'


def _folder(folder: Path, key: str | None = KEY, lines: str = LINES) -> Root:
    for name in ("box", "key"):
        (folder / name).mkdir()
    (folder / "box" / "000.txt").write_text(lines, newline="")
    if key is not None:
        (folder / "key" / "000.txt").write_text(key)
    return Root(folder)


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    source = Source(**{"annotations": "box", "images": "img", "keys": "key", **options})
    found = list(read(source, root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_receipt_has_its_lines_and_a_question_a_fact(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path))

    assert rejected == []
    assert (found.key, found.images[0].path) == ("000", "img/000.jpg")
    assert [(item.text, item.box) for item in found.instances] == [
        ("TAN WOON YANN", (72, 25, 326, 64)),
        ("NO.53 55,57 & 59", (110, 144, 383, 163)),
    ]
    assert [(item.id, item.answers) for item in found.questions] == [
        ("company", ("TAN",)),
        ("date", ("25/12/2018",)),
        ("address", ("NO.53 55",)),
        ("total", ("9.00",)),
    ]
    assert found.questions[3].text == QUESTIONS["total"]


def test_a_fact_that_is_not_stated_is_not_asked_for(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, '{"company": "", "date": null, "total": "1", "tax": "2"}'))

    assert rejected == []
    assert [item.id for item in found.questions] == ["total"]


def test_hash_marks_are_text_on_a_receipt(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, lines="1,2,3,2,3,4,1,4,###"))

    assert found.instances[0].text == "###"


@pytest.mark.parametrize(
    ("key", "reason"), [(None, "id.orphan"), ("{", "schema"), ("[]", "schema"), ('{"total": 9}', "schema")]
)
def test_a_key_file_that_is_none_costs_the_questions_alone(
    tmp_path: Path, key: str | None, reason: str
) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, key))

    assert (len(found.instances), found.questions) == (2, ())
    assert (rejected.reason, rejected.origin.file) == (reason, "key/000.txt")


def test_without_keys_there_are_no_questions(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, None), keys=None)

    assert (found.questions, rejected) == ((), [])


def test_a_line_that_is_no_text_is_rejected(tmp_path: Path) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, lines=LINES + "1,2,3"))

    assert (rejected.reason, rejected.origin.record) == ("schema", "line 3")
    assert [item.ignore for item in found.instances] == [False, False, True]


def test_real_receipts(samples: Samples) -> None:
    root = samples("sroie")

    found, rejected = _split(
        root, annotations="data/box", images="data/img", keys="data/key", suffix=".csv", key_suffix=".json"
    )

    assert rejected == []
    assert [(one.key, len(one.instances), len(one.questions)) for one in found] == [
        ("000", 44, 4),
        ("001", 48, 4),
        ("002", 54, 4),
        ("003", 60, 4),
    ]
    assert found[0].instances[3].text == "NO.53 55,57 & 59, JALAN SAGU 18,"
    assert all(item.mask is not None for one in found for item in one.instances)
    assert labels(Source(annotations=""), root).names == ("text",)
