from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.columns import as_numpy, column

KINDS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(),
    pa.binary(): st.binary(),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
}
LISTS = {pa.list_(kind): st.lists(values, max_size=3) for kind, values in KINDS.items()}
DICTIONARIES = {pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["b", "a", ""])}
ALL = KINDS | LISTS | DICTIONARIES


@pytest.mark.parametrize("kind", ALL)
@settings(deadline=None)
@given(data=st.data())
def test_columns_are_those_of_arrow(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | ALL[kind], max_size=12))

    found = column(values, kind)

    found.validate(full=True)
    assert found.equals(pa.array(values, kind))
    assert found.to_pylist() == values
    assert found.null_count == values.count(None)


@pytest.mark.parametrize(("value", "kind"), [(2**31, pa.int32()), (2**63, pa.int64())])
def test_a_number_that_does_not_fit_is_refused(value: int, kind: pa.DataType) -> None:
    with pytest.raises(OverflowError):
        column([1, value], kind)


@given(values=st.lists(KINDS[pa.int32()], max_size=9), start=st.integers(0, 9))
def test_numbers_are_those_of_the_column_wherever_it_begins(values: list[int], start: int) -> None:
    found = as_numpy(column(values, pa.int32())[start:])

    assert found.dtype == np.int32
    assert found.tolist() == values[start:]


def test_shards_are_written_indexed_and_read_without_pandas(tiny_shards: Path, tmp_path: Path) -> None:
    # Who has pandas installed pays for it whenever Arrow imports it.
    (manifest,) = {path.parent for path in tiny_shards.parent.rglob("train/samples.parquet")}
    script = f"""
import sys
from pathlib import Path
imported = []
class Seen:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "pandas":
            imported.append(name)
sys.meta_path.insert(0, Seen)
from dataengine.restore import index
from dataengine.shard import shard
from dataengine.stream import Stream, recipe
out = Path({str(tmp_path / "s")!r})
shard([Path({str(manifest)!r})], out)
Stream(out, recipe(seed=1, global_batch=3, policy="proportional")).read(0)
(out / "index.parquet").unlink()
index(out)
print(imported)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
