from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from converters.formats.interleaved import Source, read, recognise
from dataengine.annotation import Annotation, Rejected
from dataengine.files import Root
from dataengine.listing import Fit, Listing

# No public excerpt is small enough to keep; rows have the columns that the datasets' pages state.
DOCUMENT = {
    "images": [None, "u", "v", None, "w", None, "x"],
    "texts": ["Hello", None, None, "Two.", None, "One.", None],
}


def _obelics(folder: Path, *rows: dict[str, Any], **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "train-0.parquet")
    return _split(folder, annotations="*.parquet", layout="obelics", **options)


def _mmc4(folder: Path, *rows: Any) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "d.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return _split(folder, annotations="d.jsonl", layout="mmc4")


def _split(folder: Path, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(msgspec.convert(options, Source), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _said(item: Annotation) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in item.dialogs[0].turns]


def test_pictures_are_shown_and_the_text_after_them_is_the_answer(tmp_path: Path) -> None:
    (found,), rejected = _obelics(tmp_path, DOCUMENT)

    assert rejected == []
    assert _said(found) == [
        ("user", "Hello\n<image>\n<image>"),
        ("assistant", "Two."),
        ("user", "<image>"),
        ("assistant", "One."),
    ]
    # No text follows the last picture, so nothing is asked about it.
    assert [image.path for image in found.images] == [f"images/train-0_0/{place}.jpg" for place in (1, 2, 4)]
    assert (found.key, found.origin.record) == ("train-0_0.0", "row 0")


def test_a_document_of_many_pictures_is_cut_between_its_rounds(tmp_path: Path) -> None:
    found, _ = _obelics(tmp_path, DOCUMENT, max_images=2)

    assert [(item.key, len(item.images)) for item in found] == [("train-0_0.0", 2), ("train-0_0.1", 1)]
    assert _said(found[1]) == [("user", "<image>"), ("assistant", "One.")]
    alone, _ = _obelics(tmp_path, DOCUMENT, max_images=1)
    assert [len(item.images) for item in alone] == [2, 1]


def test_a_picture_of_mmc4_stands_before_the_text_that_it_belongs_to(tmp_path: Path) -> None:
    row = {
        "text_list": ["First.", "Second.", "Third."],
        "image_info": [
            {"image_name": "b.png", "matched_text_index": 1, "raw_url": "u"},
            {"image_name": "a.png", "matched_text_index": 1},
        ],
    }

    (found,), _ = _mmc4(tmp_path, row)

    assert [image.path for image in found.images] == ["images/a.png", "images/b.png"]
    assert _said(found) == [("user", "First.\n<image>\n<image>"), ("assistant", "Second.\nThird.")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"images": ["u", None], "texts": [None]}, "schema"),
        ({"images": ["u"], "texts": ["a"]}, "schema"),
        ({"images": [None], "texts": [None]}, "schema"),
        ({"images": ["u", None], "texts": [None, " "]}, "dialog.no_answer"),
        ({"images": [None], "texts": ["alone"]}, "dialog.no_answer"),
        ({"images": ["u", None], "texts": [None, "see [DET]"]}, "text.special_token"),
    ],
)
def test_a_row_that_is_no_document_is_rejected_alone(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    found, (rejected,) = _obelics(tmp_path, row, DOCUMENT)

    assert (len(found), rejected.reason, rejected.origin.record) == (1, reason, "row 0")


@pytest.mark.parametrize(
    "row",
    [
        {"text_list": ["a"], "image_info": [{"image_name": "b.png", "matched_text_index": 1}]},
        {"text_list": ["a"], "image_info": [{"image_name": "b.png"}]},
        {"text_list": "a", "image_info": []},
        ["a"],
    ],
)
def test_a_row_of_another_shape_is_rejected(tmp_path: Path, row: Any) -> None:
    found, (rejected,) = _mmc4(tmp_path, row)

    assert (found, rejected.reason, rejected.key) == ([], "schema", "d_1")


def test_mmc4_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text_list": ["a"], "image_info": []}\n')

    fit = recognise(Listing(Root(tmp_path)))

    assert isinstance(fit, Fit)
    assert fit.splits == {"d": {"annotations": "d.jsonl", "layout": "mmc4"}}
    (tmp_path / "d.jsonl").write_text('{"text": "a"}\n')
    assert isinstance(recognise(Listing(Root(tmp_path))), str)
