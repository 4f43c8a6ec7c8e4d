"""A record is found where its reader named it, whatever the format of its file; what is not found is said."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine.files import digest_file
from dataengine.origins import find_record, owners

COCO = {
    "images": [{"id": 7, "file_name": "é.jpg"}, {"id": 9, "file_name": "b.jpg"}],
    "annotations": [{"id": 1, "image_id": 9}, {"id": 2, "image_id": 7}, {"id": 3, "image_id": 9}],
    "imgs": {"a.b": {"words": ["x", {"y": 1}]}, "12": {"id": 12}},
}


def _cut(root: Path, name: str, start: int | None, stop: int | None) -> bytes:
    assert start is not None
    return (root / name).read_bytes()[start:stop]


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n\n  "])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("record", "at", "value"),
    [
        ("images[1]", "$.images[1]", COCO["images"][1]),  # type: ignore[index]
        ("annotations[2]", "$.annotations[2]", COCO["annotations"][2]),  # type: ignore[index]
        ("imgs.12", "$.imgs[12]", {"id": 12}),
        ("imgs[a.b].words[1]", "$.imgs['a.b'].words[1]", {"y": 1}),
        ("$", "$", COCO),
        ("9", "$.images[1]", COCO["images"][1]),  # type: ignore[index]
        ("imgs", "$.imgs", COCO["imgs"]),
    ],
)
def test_a_path_into_json_leads_to_the_bytes_of_its_value(
    tmp_path: Path, before: bytes, indent: int | None, record: str, at: str, value: object
) -> None:
    (tmp_path / "a.json").write_bytes(before + json.dumps(COCO, indent=indent, ensure_ascii=False).encode())

    spot = find_record(tmp_path, "a.json", record)

    assert (spot.at, spot.note) == (at, "")
    assert json.loads(_cut(tmp_path, "a.json", spot.start, spot.stop)) == value
    assert json.loads(spot.text) == value


def test_a_picture_has_its_annotations_and_an_annotation_its_picture(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(COCO))

    picture, annotation = (find_record(tmp_path, "a.json", name) for name in ("images[1]", "annotations[1]"))

    assert [part.at for part in picture.parts] == ["$.annotations[0]", "$.annotations[2]"]
    assert [json.loads(_cut(tmp_path, "a.json", one.start, one.stop))["id"] for one in picture.parts] == [
        1,
        3,
    ]
    assert [part.at for part in annotation.parts] == ["$.images[0]"]
    assert owners(tmp_path, "a.json", "annotations[1]") == ("2", ["images[0]"])
    assert owners(tmp_path, "a.json", "images[1]") == owners(tmp_path, "a.json", "annotations[8]") == ("", [])


@given(
    st.recursive(
        st.none() | st.integers(-5, 5) | st.text("aé\"\\{}[],: ", max_size=4),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text("abé", min_size=1, max_size=2), inner, max_size=4)
        ),
        max_leaves=12,
    ).filter(lambda value: isinstance(value, list | dict)),
    st.data(),
)  # fmt: skip
def test_any_value_of_any_document_is_found(
    tmp_path_factory: pytest.TempPathFactory, document: object, data: st.DataObject
) -> None:
    root = tmp_path_factory.getbasetemp()
    (root / "any.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    path, value = "", document
    while isinstance(value, list | dict) and value and (not path or data.draw(st.booleans())):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys))
        path += f"[{key}]"
        value = value[key]

    spot = find_record(root, "any.json", path or "$")

    assert json.loads(_cut(root, "any.json", spot.start, spot.stop)) == value


def test_a_line_has_its_bytes_and_what_is_inside_it(tmp_path: Path) -> None:
    lines = ['{"a": 1}', "", '{"sentences": ["é", {"raw": "x"}]}', "last"]
    (tmp_path / "a.jsonl").write_bytes("\r\n".join(lines).encode())

    whole, inner, last = (
        find_record(tmp_path, "a.jsonl", name) for name in ("line 3", "line 3: sentences[1]", "line 4")
    )

    assert _cut(tmp_path, "a.jsonl", whole.start, whole.stop).decode() == lines[2]
    assert _cut(tmp_path, "a.jsonl", inner.start, inner.stop) == b'{"raw": "x"}'
    assert inner.at == "line 3: $.sentences[1]"
    assert last.text == "last"
    assert "fewer than 9 lines" in find_record(tmp_path, "a.jsonl", "line 9").note


def test_a_row_of_a_table_goes_over_line_ends_inside_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,"two\nlines"\n2,one\n')

    first, grouped = (find_record(tmp_path, "a.csv", name) for name in ("line 2", "line 4 and 2 more"))

    assert first.text == '1,"two\nlines"'
    assert (grouped.text, grouped.note) == ("2,one", "with 2 more of the file's records, grouped with it")


def test_a_row_of_parquet_is_named_with_its_group(tmp_path: Path) -> None:
    table = pa.table({"n": [*range(10)], "image": [b"\0"] * 10})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=4)

    spot = find_record(tmp_path, "a.parquet", "row 6")

    assert (spot.at, spot.text) == ("row 6 (row 2 of row group 1)", '{"n":6}')
    assert "fewer than 10 rows" in find_record(tmp_path, "a.parquet", "row 10").note


def test_an_example_of_a_tfrecord_file_has_its_bytes(tmp_path: Path) -> None:
    framed = b"".join(
        len(one).to_bytes(8, "little") + b"sum." + one + b"sum." for one in (b"a", b"", b"three")
    )
    (tmp_path / "a.tfrecord-00000").write_bytes(framed)

    spots = [find_record(tmp_path, "a.tfrecord-00000", f"row {number}") for number in range(4)]

    assert [_cut(tmp_path, one.file, one.start, one.stop) for one in spots[:3]] == [b"a", b"", b"three"]
    assert "fewer than 4 records" in spots[3].note


def test_the_members_of_a_tar_are_those_of_the_key(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, text in (("x/1.json", b"{}"), ("x/1.jpg", b"JPG"), ("x/10.json", b"[]")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))

    spot = find_record(tmp_path, "a.tar", "x/1")

    assert [part.at for part in spot.parts] == ["x/1.json", "x/1.jpg"]
    assert [_cut(tmp_path, "a.tar", one.start, one.stop) for one in spot.parts] == [b"{}", b"JPG"]
    assert "no member of the tar has this key" in find_record(tmp_path, "a.tar", "x/2").note


def test_an_element_of_xml_is_counted_among_those_of_its_name(tmp_path: Path) -> None:
    text = '<?xml version="1.0"?><a><image n="0"/><tag/><image n="é">\n<tag>x</tag><tag n="1"/></image></a>'
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")

    image, tag, whole = (
        find_record(tmp_path, "a.xml", name) for name in ("image[1]", "image[1].tag[1]", "annotation")
    )

    assert (image.at, image.text) == ("/*/image[2]", '<image n="é">\n<tag>x</tag><tag n="1"/></image>')
    assert (tag.at, tag.text) == ("/*/image[2]/tag[2]", '<tag n="1"/>')
    assert (whole.at, whole.text) == ("the whole file (annotation)", text)


def test_what_cannot_be_found_is_a_note_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [')
    (tmp_path / "b.png").write_bytes(b"\x89PNG\0\0")
    digest = digest_file(tmp_path / "b.png")

    assert find_record(None, "a.json", "x").note.startswith("where the source lies is not known")
    assert find_record(tmp_path / "gone", "a.json", "x").note.startswith("'x' is not found")
    assert find_record(tmp_path, "c.json", "x").note.endswith("c.json is gone")
    assert "leaves the root" in find_record(tmp_path, "../a.json", "x").note
    assert "the file cannot be read" in find_record(tmp_path, "a.json", "images[0]").note
    assert find_record(tmp_path, "b.png", "map", digest).note == ""
    assert (
        find_record(tmp_path, "b.png", "map", "0" * 32).note == "the file has changed since it was converted"
    )
