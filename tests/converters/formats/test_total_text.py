from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from converters.formats.total_text import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import rle_area

Samples = Callable[[str], Root]


def _ints(*values: int) -> npt.NDArray[np.int16]:
    return np.array([values], np.int16)


WORD = "x: [[10 20 10  0]], y: [[ 0 10 20 10]], ornt: [u'm'], transcriptions: [u'Exit']\n"


ROW = [["x:", _ints(10, 20, 10, 0), "y:", _ints(0, 10, 20, 10), "Exit", "m"]]


def _folder(folder: Path, *texts: str | bytes, suffix: str = ".txt") -> Root:
    (folder / "gt").mkdir()
    (folder / "images").mkdir()
    for number, text in enumerate(texts, start=1):
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "gt" / f"poly_gt_img{number}{suffix}").write_bytes(data)
        Image.new("RGB", (40, 30)).save(folder / "images" / f"img{number}.jpg")
    return Root(folder)


def _mat(rows: list[list[Any]], name: str = "polygt") -> bytes:
    table = np.empty((len(rows), len(rows[0])), dtype=object)
    for number, row in enumerate(rows):
        table[number, :] = row
    file = io.BytesIO()
    scipy.io.savemat(file, {name: table})
    return file.getvalue()


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "gt", "images": "images", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


@pytest.mark.parametrize(("suffix", "data"), [(".txt", WORD), (".mat", _mat(ROW))])
def test_both_kinds_of_file_say_the_same(tmp_path: Path, suffix: str, data: str | bytes) -> None:
    root = _folder(tmp_path, data, suffix=suffix)

    (found,), rejected = _split(root, suffix=suffix)

    (item,) = found.instances
    assert rejected == []
    assert (found.key, found.images[0].path) == ("img1", "images/img1.jpg")
    assert (item.category, item.text, item.attributes) == ("text", "Exit", {"orientation": "m"})
    assert (item.box, item.quad) == ((0, 0, 20, 20), (10, 0, 20, 10, 10, 20, 0, 10))
    assert item.mask is not None and rle_area(item.mask) == pytest.approx(200, abs=25)
    assert labels(Source(annotations=""), root).names == ("text",)


def test_numbers_may_be_broken_over_lines(tmp_path: Path) -> None:
    text = (
        "x: [[10 20\n  15 10  0]], y: [[ 0 10\n 15 20 10]], ornt: [u'c'], transcriptions: [u'a']\r\n" + WORD
    )

    (found,), rejected = _split(_folder(tmp_path, text))

    assert rejected == []
    assert [(item.text, item.quad is None) for item in found.instances] == [("a", True), ("Exit", False)]


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        ("u'JOE\\'S'", "JOE'S"),
        ('u"JOE\'S"', "JOE'S"),
        ("u'caf\\xe9'", "café"),
        ("'50,-'", "50,-"),
        ("u'], [x'", "], [x"),
        ("u'x: [[1'", "x: [[1"),
        ("u'a\\qb'", "a\\qb"),
    ],
)
def test_text_is_read_as_python_prints_it(tmp_path: Path, printed: str, text: str) -> None:
    (found,), rejected = _split(_folder(tmp_path, WORD.replace("u'Exit'", printed)))

    assert rejected == []
    assert found.instances[0].text == text


@pytest.mark.parametrize(
    "ending",
    ["ornt: [u'#'], transcriptions: [u'#']", "ornt: [], transcriptions: []", "transcriptions: [u'']"],
)
def test_a_word_that_nobody_can_read_is_ignored_where_it_stands(tmp_path: Path, ending: str) -> None:
    text = WORD.partition("ornt")[0] + ending

    (found,), rejected = _split(_folder(tmp_path, text))

    (item,) = found.instances
    assert rejected == []
    assert (item.text, item.ignore, item.box, item.attributes) == (None, True, (0, 0, 20, 20), {})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("x: [[1 2 3]], y: [[1 2]], transcriptions: [u'a']", "polygon.invalid"),
        ("x: [[1 2]], y: [[1 2]], transcriptions: [u'a']", "polygon.invalid"),
        ("x: [[1 2 nan]], y: [[1 2 3]], transcriptions: [u'a']", "polygon.invalid"),
        ("x: [[1 2 three]], y: [[1 2 3]], transcriptions: [u'a']", "schema"),
        ("x: [[1 2 3]], transcriptions: [u'a']", "schema"),
        ("x: [[1 2 3]], y: [[1 2 3]]", "schema"),
        ("x: [[1 2 3]], y: [[1 2 3]], transcriptions: [u'\\x9']", "schema"),
        ("x: [[1 2 3]], y: [[1 2 3]], transcriptions: [__import__('os')]", "schema"),
    ],
)
def test_a_record_that_is_no_word_is_rejected_and_ignored(tmp_path: Path, bad: str, reason: str) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, f"{WORD}{bad}\n{WORD}"))

    assert (rejected.reason, rejected.origin.record) == (reason, "record 1")
    assert [item.ignore for item in found.instances] == [False, True, False]


def test_what_stands_before_the_first_record_is_not_lost(tmp_path: Path) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, "[[1 2 3]], y: [[1 2 3]]\n" + WORD))

    assert (rejected.reason, rejected.origin.record) == ("schema", "record 0")
    assert [item.ignore for item in found.instances] == [True, False]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["x:", "ten", "y:", _ints(1, 2, 3), "a", "c"], "schema"),
        (["x:", _ints(1, 2, 3), "y:", _ints(1, 2, 3), 7, "c"], "schema"),
        (["x:", _ints(1, 2, 3), "y:", np.array([[1, 2, np.nan]]), "a", "c"], "polygon.invalid"),
        (["x:", _ints(1, 2, 3), "y:", _ints(1, 2), "a", "c"], "polygon.invalid"),
    ],
)
def test_a_row_that_is_no_word_is_rejected_and_ignored(tmp_path: Path, row: list[Any], reason: str) -> None:
    root = _folder(tmp_path, _mat([*ROW, row]), suffix=".mat")

    (found,), (rejected,) = _split(root, suffix=".mat")

    assert (rejected.reason, rejected.origin.record) == (reason, "record 1")
    assert [item.ignore for item in found.instances] == [False, True]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "mat.malformed"),
        (b"MATLAB 5.0 MAT-file", "mat.malformed"),
        (_mat(ROW)[:200], "mat.malformed"),
        (_mat(ROW, "other"), "schema"),
        (_mat([["x:"]]), "schema"),
    ],
)
def test_a_matlab_file_that_is_another_costs_no_other(tmp_path: Path, data: bytes, reason: str) -> None:
    root = _folder(tmp_path, data, _mat(ROW), suffix=".mat")

    found, (rejected,) = _split(root, suffix=".mat")

    assert [item.key for item in found] == ["img2"]
    assert (rejected.key, rejected.reason) == ("img1", reason)


def test_a_text_file_of_other_bytes_costs_no_other(tmp_path: Path) -> None:
    found, (rejected,) = _split(_folder(tmp_path, b"\xff\xfe" + WORD.encode(), WORD))

    assert [item.key for item in found] == ["img2"]
    assert (rejected.key, rejected.reason) == ("img1", "schema")


def test_an_empty_file_is_a_picture_without_text(tmp_path: Path) -> None:
    (found,), rejected = _split(_folder(tmp_path, ""))

    assert (found.instances, rejected) == ((), [])


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(_folder(tmp_path))


@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=60)
def test_no_damaged_matlab_file_raises(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(_mat(ROW))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    root = _folder(tmp_path_factory.mktemp("x"), bytes(data), suffix=".mat")

    found, rejected = _split(root, suffix=".mat")

    assert len(found) + len(rejected) >= 1


def test_real_matlab_files(samples: Samples) -> None:
    found, rejected = _split(samples("total_text_mat"), annotations="Groundtruth", images="", suffix=".mat")

    assert rejected == []
    assert [(one.key, len(one.instances)) for one in found] == [
        ("img1", 1),
        ("img2", 9),
        ("img3", 4),
        ("img4", 12),
        ("img5", 1),
    ]
    assert [item.text for item in found[1].instances] == [
        "nauGHTY", "NURIS", "NURIS", "nauGHTY", "EST", "1996", "warunG", None, None,
    ]  # fmt: skip
    assert found[0].instances[0].box == (140, 629, 646, 1009)
