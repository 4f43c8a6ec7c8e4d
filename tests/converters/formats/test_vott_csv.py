"""VoTT's CSV export needs no reader: a spec of the `records` format reads it, as does that of any box table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from converters.formats.records import Source, read
from dataengine.annotation import Annotation
from dataengine.files import Root
from dataengine.strict import convert

SPEC: dict[str, Any] = {
    "table": {"path": "train-export.csv", "kind": "csv"},
    "group": {"by": "image", "as": "boxes"},
    "key": "{image}",
    "fields": {
        "images": "{image}",
        "instances": {
            "each": "boxes",
            "category": "it.label",
            "box": {"from": ["it.xmin", "it.ymin", "it.xmax", "it.ymax"], "format": "xyxy"},
        },
    },
}
HEADER = '"image","xmin","ymin","xmax","ymax","label"\n'


def _read(root: Root, **changes: Any) -> list[Annotation]:
    source = convert(SPEC | changes, Source, Path("vott.yaml"), ["source"])
    found = list(read(source, root))
    assert all(isinstance(item, Annotation) for item in found)
    return [item for item in found if isinstance(item, Annotation)]


def test_the_boxes_of_a_picture_are_one_item(tmp_path: Path) -> None:
    rows = '"a.jpg",10,5,20,7,"helmet"\n"b.jpg",1,2,3,4,"cat"\n"a.jpg",11.5,12,21.7,32.5,"person"\n'
    (tmp_path / "train-export.csv").write_text(HEADER + rows)

    a, b = _read(Root(tmp_path))

    assert [(item.category, item.box) for item in a.instances] == [
        ("helmet", (10, 5, 20, 7)),
        ("person", (11.5, 12, 21.7, 32.5)),
    ]
    assert (b.key, len(b.instances)) == ("b.jpg", 1)


def test_the_real_layout_reads(samples: Callable[[str], Root]) -> None:
    root = samples("fmt_vott_csv")
    table = {"path": "dataset/test-export.csv", "kind": "csv"}

    train = _read(root, table={"path": "dataset/train-export.csv", "kind": "csv"})
    test = _read(root, table=table, labels=["helmet", "person"])

    assert [len(item.instances) for item in (*train, *test)] == [2, 1, 1, 1]
