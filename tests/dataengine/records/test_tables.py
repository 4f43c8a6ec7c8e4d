from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataengine.annotation import Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.records.tables import Row, Table, read_rows, spelled

ALL = frozenset({"id", "name", "n", "text", "a"})
ROWS = [{"id": "1", "name": "cat"}, {"id": "2", "name": "dög\n2"}]


def _read(folder: Path, words: frozenset[str] = ALL, **table: Any) -> tuple[list[Row], list[Rejected]]:
    found = list(read_rows(Table(**table), Root(folder), "table.path", words))
    return [row for row in found if isinstance(row, Row)], [row for row in found if isinstance(row, Rejected)]


def _save(folder: Path, kind: str) -> dict[str, Any]:
    """Write ROWS as a table of a kind; return what declares it."""
    path = folder / f"table.{kind}"
    match kind:
        case "json":
            path.write_text(json.dumps(ROWS))
        case "jsonl":
            path.write_text("\ufeff" + "\n\n".join(map(json.dumps, ROWS)), encoding="utf-8")
        case "csv" | "tsv":
            with path.open("w", newline="", encoding="utf-8-sig") as file:
                writer = csv.DictWriter(file, ["id", "name"], delimiter="," if kind == "csv" else "\t")
                writer.writeheader()
                writer.writerows(ROWS)
        case "yaml":
            path.write_text(json.dumps({"rows": ROWS}))
            return {"path": path.name, "kind": kind, "rows": "rows"}
        case "parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist(ROWS), path)
        case "hf":
            from datasets import Dataset

            Dataset.from_list(ROWS).save_to_disk(str(path))
    return {"path": path.name, "kind": kind}


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv", "yaml", "parquet", "hf"])
def test_every_kind_of_table_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    rows, rejected = _read(tmp_path, **_save(tmp_path, kind))

    assert [row.cells for row in rows] == ROWS
    assert rejected == []


@pytest.mark.parametrize(
    ("kind", "places", "keys"),
    [
        ("json", ["[0]", "[1]"], [0, 1]),
        ("jsonl", ["line 1", "line 3"], [1, 3]),
        ("csv", ["line 2", "line 3"], [2, 3]),
        ("yaml", ["rows[0]", "rows[1]"], [0, 1]),
        ("parquet", ["row 0", "row 1"], [0, 1]),
        ("hf", ["row 0", "row 1"], [0, 1]),
    ],
)
def test_a_row_says_where_it_stands(tmp_path: Path, kind: str, places: list[str], keys: list[int]) -> None:
    rows, _ = _read(tmp_path, **_save(tmp_path, kind))

    assert [(row.place, row.key) for row in rows] == list(zip(places, keys, strict=True))


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "yaml", "parquet", "hf"])
def test_a_table_that_was_read_is_remembered_by_digest(tmp_path: Path, kind: str) -> None:
    table = Table(**_save(tmp_path, kind))
    digests = []
    for _ in range(2):
        root = Root(tmp_path)
        list(read_rows(table, root, "table.path", ALL))
        digests.append(root.digests)
        path = next(tmp_path.rglob("*.arrow"), tmp_path / table.path)
        if kind not in ("hf", "parquet"):
            path.write_bytes(path.read_bytes() + b" ")

    assert digests[0].keys() == digests[1].keys() != set()
    assert (digests[0] == digests[1]) is (kind in ("hf", "parquet"))


def test_a_mapping_of_rows_gives_the_keys(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"data": {"x": {"n": 1}, "y": "bare"}}')

    rows, _ = _read(tmp_path, path="t.json", kind="json", rows="data")

    assert [(row.key, row.place, row.cells) for row in rows] == [
        ("x", "data[x]", {"n": 1}),
        ("y", "data[y]", {"$value": "bare"}),
    ]


def test_the_document_itself_may_be_the_mapping_of_rows(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"x": {"n": 1}, "y": {"n": 2}}')

    rows, _ = _read(tmp_path, path="t.json", kind="json", rows=".")

    assert [(row.key, row.cells) for row in rows] == [("x", {"n": 1}), ("y", {"n": 2})]


def test_one_object_a_file_is_one_row_a_file_in_order_of_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.json").write_text(json.dumps({"n": name}))

    rows, _ = _read(tmp_path, path="*/data.json", kind="json")

    assert [(row.file, row.place, row.cells["n"]) for row in rows] == [
        ("a/data.json", "$", "a"),
        ("b/data.json", "$", "b"),
        ("c/data.json", "$", "c"),
    ]


def test_a_table_without_header_takes_its_names_from_the_spec(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text('1 a"b\n2 \n')

    rows, _ = _read(
        tmp_path,
        path="t.txt",
        kind="csv",
        delimiter=" ",
        header=False,
        columns=("id", "name"),
        quote="",
        nulls=("",),
    )

    assert [row.cells for row in rows] == [{"id": "1", "name": 'a"b'}, {"id": "2", "name": None}]


def test_a_wrong_header_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Box [x,y],,\n1,2\n")

    rows, rejected = _read(tmp_path, path="t.csv", kind="csv", columns=("id", "n"))

    assert [row.cells for row in rows] == [{"id": "1", "n": "2"}]
    assert rejected == []


def test_a_broken_row_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b'{"n": 1}\n{"n": \n{"n": "\xff"}\n' + b"[" * 100_000 + b'\n{"n": 2}')
    (tmp_path / "t.csv").write_bytes(b"id,n\n1,2\n3\n4,5,6\n7,\xff\n8,9\n")

    lines, bad_lines = _read(tmp_path, path="t.jsonl", kind="jsonl")
    cells, bad_cells = _read(tmp_path, path="t.csv", kind="csv")

    assert [row.cells["n"] for row in lines] == [1, 2]
    assert [(bad.origin.record, bad.reason) for bad in bad_lines] == [
        ("line 2", "schema"),
        ("line 3", "schema"),
        ("line 4", "schema"),
    ]
    assert [row.cells["id"] for row in cells] == ["1", "8"]
    assert [(bad.origin.record, bad.detail) for bad in bad_cells] == [
        ("line 3", "1 cells, expected 2"),
        ("line 4", "3 cells, expected 2"),
        ("line 5", "not utf-8"),
    ]


def test_a_cell_that_is_nan_costs_no_row(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"rows": [{"n": 1}, {"n": NaN}, {"n": 3}]}')

    rows, rejected = _read(tmp_path, path="t.json", kind="json", rows="rows")

    assert [row.cells["n"] for row in rows] == [1, None, 3]
    assert rejected == []


def test_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("id,name\n1,Käse\n".encode("cp1252"))

    rows, rejected = _read(tmp_path, path="t.csv", kind="csv", encoding="cp1252")

    assert rows[0].cells["name"] == "Käse"
    assert rejected == []


@pytest.mark.parametrize(
    ("name", "data", "table", "words"),
    [
        ("t.json", b"[{", {"kind": "json"}, "expected a JSON document"),
        ("t.json", b"3", {"kind": "json"}, "expected a JSON document"),
        ("t.json", b'{"a": []}', {"kind": "json", "rows": "b"}, "has no 'b'"),
        ("t.json", b'{"a": 3}', {"kind": "json", "rows": "a"}, "with a list or mapping of rows under 'a'"),
        ("t.yaml", b"a: [", {"kind": "yaml"}, "t.yaml"),
        ("t.csv", b'id,n\n1,"never closed\n', {"kind": "csv"}, "line 2"),
        ("t.csv", b"id,id\n1,2\n", {"kind": "csv"}, "column 'id' stands twice"),
        ("t.parquet", b"PAR1 no", {"kind": "parquet"}, "expected a Parquet file"),
        ("t/x", b"", {"kind": "hf"}, "no state.json"),
        ("t/state.json", b'{"_data_files": 3}', {"kind": "hf"}, "expected what save_to_disk wrote"),
        ("t/train/state.json", b"{}", {"kind": "hf"}, "name one of its splits: train"),
        (
            "t/state.json",
            b'{"_data_files": [{"filename": "../../x"}]}',
            {"kind": "hf"},
            "must stay inside",
        ),
        ("other", b"", {"kind": "jsonl"}, "no such file"),
        ("other", b"", {"kind": "json", "path": "*.json"}, "no file matches"),
    ],
)
def test_a_file_that_is_no_such_table_is_an_error_of_the_source(
    tmp_path: Path, name: str, data: bytes, table: dict[str, Any], words: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)

    with pytest.raises(SourceError, match=words):
        _read(
            tmp_path,
            **{"path": name.split("/")[0] if table["kind"] == "hf" else f"t.{table['kind']}", **table},
        )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"path": "/etc/passwd", "kind": "csv"}, "expected one inside the root"),
        ({"path": "../x", "kind": "csv"}, "expected one inside the root"),
        ({"path": "x", "kind": "csv", "rows": "a"}, "rows: a csv table has none"),
        ({"path": "x", "kind": "json", "rows": "a[]"}, "expected names with dots"),
        ({"path": "x", "kind": "json", "columns": ("a",)}, "columns: a json table has none"),
        ({"path": "x", "kind": "csv", "header": False}, "columns: a table without header"),
        ({"path": "x", "kind": "csv", "columns": ("a", "a")}, "a name stands twice"),
        ({"path": "x", "kind": "csv", "delimiter": "::"}, "expected one character"),
        ({"path": "x", "kind": "csv", "encoding": "latin"}, None),
        ({"path": "x", "kind": "csv", "encoding": "klingon"}, "is unknown"),
        ({"path": "x", "kind": "csv", "encoding": "utf-16"}, "has no plain line ends"),
        ({"path": "x", "kind": "parquet", "encoding": "cp1252"}, "encoding: a parquet table has none"),
    ],
)
def test_a_table_is_declared_with_the_keys_of_its_kind(table: dict[str, Any], words: str | None) -> None:
    if words is None:
        assert Table(**table).encoding == "latin"
        return

    with pytest.raises(ValueError, match=words):
        Table(**table)


def test_only_columns_that_the_spec_names_are_read(tmp_path: Path) -> None:
    table = _save(tmp_path, "parquet")

    rows, _ = _read(tmp_path, frozenset({"name"}), **table)
    bare, _ = _read(tmp_path, frozenset(), **table)

    assert [row.cells for row in rows] == [{"name": "cat"}, {"name": "dög\n2"}]
    assert [row.cells for row in bare] == [{}, {}]


@pytest.mark.parametrize(
    ("spec", "column"),
    [
        ({"from": "Finding Labels"}, "Finding Labels"),
        ({"from": "rows[].a b.c"}, "a b"),
        ("images/{image_id:012d}.jpg", "image_id"),
        ("`size[w,h]`[0] > 3 and split == 'x'", "size[w,h]"),
        (["not crowd"], "crowd"),
        ({"by": {"left.id": "right"}}, "right"),
        ({"by": {"left.id": "right"}}, "left"),
    ],
)
def test_a_column_that_a_spec_spells_is_found(spec: Any, column: str) -> None:
    assert column in spelled(spec)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_long_table_is_read_in_little_memory(tmp_path: Path, kind: str) -> None:
    path, count = tmp_path / "t", 20_000
    text = "x" * 200
    if kind == "jsonl":
        path.write_text("".join(f'{{"id": {n}, "text": "{text}"}}\n' for n in range(count)))
    elif kind == "csv":
        path.write_text("id,text\n" + "".join(f"{n},{text}\n" for n in range(count)))
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = pa.table({"id": list(range(count)), "text": [f"{n}{text}" for n in range(count)]})
        pq.write_table(rows, path, row_group_size=1000)
    table, root = Table(path="t", kind=kind), Root(tmp_path)  # type: ignore[arg-type]  # a kind, as listed above

    tracemalloc.start()
    seen = sum(1 for _ in read_rows(table, root, "table.path", ALL))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert seen == count
    assert peak < 2 * 2**20  # of more than 4 MB


def test_a_row_group_is_not_read_whole(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = [f"{number:08d}" * 100 for number in range(40_000)]
    pq.write_table(pa.table({"text": text}), tmp_path / "t", use_dictionary=False, compression="none")
    rows = read_rows(Table(path="t", kind="parquet"), Root(tmp_path), "table.path", ALL)
    before = pa.total_allocated_bytes()

    peak = max(pa.total_allocated_bytes() for _ in islice(rows, 20_000)) - before

    assert pq.ParquetFile(tmp_path / "t").num_row_groups == 1
    assert (tmp_path / "t").stat().st_size > 30 * 2**20
    assert peak < 8 * 2**20


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cells=st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))] * 2),
        max_size=6,
    )
)
def test_what_a_csv_writer_wrote_is_read_back(tmp_path: Path, cells: list[tuple[str, str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("id", "name"), *cells])
    (tmp_path / "t.csv").write_bytes(buffer.getvalue().encode())

    rows, rejected = _read(tmp_path, path="t.csv", kind="csv")

    assert [(row.cells["id"], row.cells["name"]) for row in rows] == cells
    assert rejected == []


def test_files_are_rows_in_the_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    for name in ("b/frame_10.png", "b/frame_9.png", "a/x.png", "b/frame_9.txt", "b/frame_1x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    rows, rejected = _read(tmp_path, path="*/*.png", kind="files")

    assert rejected == []
    assert [row.cells["path"] for row in rows] == [
        "a/x.png", "b/frame_1x.png", "b/frame_9.png", "b/frame_10.png",
    ]  # fmt: skip
    assert [(row.key, row.place) for row in rows] == [(number, "file") for number in range(4)]
    with pytest.raises(SourceError, match=r"no file matches; the spec needs it as source\.table\.path"):
        _read(tmp_path, path="c/x.png", kind="files")


def test_a_document_may_be_in_gzip(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(ROWS).encode()))

    rows, rejected = _read(tmp_path, path="a.json.gz", kind="json")

    assert ([row.cells for row in rows], rejected) == (ROWS, [])


def test_a_document_in_torn_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(ROWS).encode())[:-12])

    with pytest.raises(SourceError, match="expected a JSON document"):
        _read(tmp_path, path="a.json.gz", kind="json")


@pytest.mark.parametrize("kind", ["parquet", "hf"])
def test_a_cell_of_parquet_or_arrow_that_is_no_utf8_costs_its_row_alone(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array([b"one", b"\xf3\x28", b"three"], pa.binary()).view(pa.string())
    table = pa.table({"text": texts})
    if kind == "parquet":
        pq.write_table(table, tmp_path / "t")
    else:
        (tmp_path / "t").mkdir()
        (tmp_path / "t/state.json").write_text(json.dumps({"_data_files": [{"filename": "0.arrow"}]}))
        with pa.ipc.new_stream(str(tmp_path / "t/0.arrow"), table.schema) as writer:
            writer.write_table(table)

    rows, rejected = _read(tmp_path, frozenset({"text"}), path="t", kind=kind)

    assert [(row.place, row.cells["text"]) for row in rows] == [("row 0", "one"), ("row 2", "three")]
    assert [(one.key, one.reason) for one in rejected] == [("row 1", "schema")]
    assert "no UTF-8" in rejected[0].detail


def test_a_column_whose_name_is_no_utf8_is_an_error_of_one_line(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"name_of_it": ["a"]}), file, store_schema=False)
    file.write_bytes(file.read_bytes().replace(b"name_of_it", b"name\xf3\x28f_it"))

    with pytest.raises(SourceError, match="expected a Parquet file") as caught:
        _read(tmp_path, frozenset({"text"}), path="t.parquet", kind="parquet")

    assert "\n" not in str(caught.value)
