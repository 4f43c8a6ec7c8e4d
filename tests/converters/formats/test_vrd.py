from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.formats.vrd import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
MAN = {"category": 0, "bbox": [10, 60, 5, 25]}
HORSE = {"category": 1, "bbox": [30, 90, 0, 70]}
ROW = {"subject": MAN, "predicate": 1, "object": HORSE}


def _split(folder: Path, pictures: Any) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "objects.json").write_text('["person", "horse"]')
    (folder / "predicates.json").write_text('["near", "ride"]')
    (folder / "a.json").write_text(json.dumps(pictures))
    found = list(read(Source(annotations="a.json", images="sg"), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_an_object_of_several_relations_is_one(tmp_path: Path) -> None:
    rows = [ROW, {"subject": HORSE, "predicate": 0, "object": MAN}, ROW]

    (found, empty), rejected = _split(tmp_path, {"a.jpg": rows, "b.png": []})

    assert rejected == []
    assert (found.key, found.images[0].path) == ("a.jpg", "sg/a.jpg")
    assert [(item.category, item.box) for item in found.instances] == [
        ("person", (5, 10, 25, 60)),
        ("horse", (0, 30, 70, 90)),
    ]
    assert found.relations == ((0, "ride", 1), (1, "near", 0))
    assert not found.exhaustive
    assert empty.relations == ()


def test_labels_are_the_listed_names(tmp_path: Path) -> None:
    _split(tmp_path, {})

    assert labels(Source(annotations="a.json"), Root(tmp_path)).names == ("person", "horse")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{**ROW, "predicate": 2}], "category.unknown"),
        ([{**ROW, "predicate": -1}], "category.unknown"),
        ([{**ROW, "subject": {**MAN, "category": 9}}], "category.unknown"),
        ([{**ROW, "object": {**MAN, "bbox": [1, 2, 3]}}], "schema"),
        ([{"subject": MAN}], "schema"),
        ({"0": ROW}, "schema"),
        (None, "schema"),
    ],
)
def test_a_defective_picture_is_rejected_alone(tmp_path: Path, rows: Any, reason: str) -> None:
    (found,), (rejected,) = _split(tmp_path, {"a.jpg": rows, "b.jpg": [ROW]})

    assert found.key == "b.jpg"
    assert (rejected.key, rejected.reason) == ("a.jpg", reason)


@pytest.mark.parametrize("pictures", [[], 5])
def test_a_file_that_is_no_mapping_is_an_error(tmp_path: Path, pictures: Any) -> None:
    with pytest.raises(SourceError, match="mapping of pictures"):
        _split(tmp_path, pictures)


ENTRY: dict[str, Any] = {
    "img_path": "../data/sg_test_images/a.jpg",
    "boxes": np.array([[5, 10, 25, 60], [0, 30, 70, 90]], np.uint16),
    "classes": np.array([0, 1], np.int32),
    "ix1": np.array([0, 1], np.uint8),
    "ix2": np.array([1, 0], np.uint8),
    "rel_classes": [[1, 0], [0]],
}


def _pickled(folder: Path, data: bytes) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "obj.txt").write_text("person\nhorse\n\n")
    (folder / "rel.txt").write_text("near\nride\n")
    (folder / "a.pkl").write_bytes(data)
    source = Source(annotations="a.pkl", objects="obj.txt", predicates="rel.txt", images="sg")
    found = list(read(source, Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("it ran",))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02]",
        b"\x80\x02J\x01",
        pickle.dumps([_Hostile()], 2),
        pickle.dumps({"a": 1}, 2),
        b"\x80\x02cnumpy\nndarray\n(tR.",
        b"\x80\x02cnumpy\ndtype\n(X\x01\x00\x00\x00OtR.",
        b"\x80\x02]}b.",
        b"\x80\x02cnumpy\nndarray\n}b.",
        b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01K\x01K\x01K\x01tb.",
    ],
)
def test_a_pickle_of_anything_else_is_an_error_and_runs_nothing(
    tmp_path: Path, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SourceError, match=r"a\.pkl"):
        _pickled(tmp_path, data)

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "change",
    [
        {"ix1": [0, 9]},
        {"ix1": [0]},
        {"classes": [0]},
        {"boxes": [[1, 2, 3]]},
        {"boxes": "none"},
        {"img_path": 5},
        {"classes": [0, 7]},
    ],
)
def test_a_defective_entry_is_rejected_alone(tmp_path: Path, change: dict[str, Any]) -> None:
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in ENTRY.items()}

    (found,), rejected = _pickled(tmp_path, pickle.dumps([{**plain, **change}, plain, None], 2))

    assert found.relations == ((0, "ride", 1), (0, "near", 1), (1, "near", 0))
    assert [item.box for item in found.instances] == [(5, 10, 25, 60), (0, 30, 70, 90)]
    assert rejected[0].reason in ("schema", "id.orphan", "category.unknown")
    assert (rejected[1].key, rejected[1].reason) == ("[2]", "unit.none")


def test_the_real_pickle_reads_whole(samples: Samples) -> None:
    source = Source(annotations="test.pkl", objects="obj.txt", predicates="rel.txt", images="sg_test_images")

    found = list(read(source, samples("vrd")))

    pictures = [item for item in found if isinstance(item, Annotation)]
    assert len(labels(source, samples("vrd")).labels) == 100
    assert (len(pictures), len(found)) == (955, 1000)
    assert {item.reason for item in found if isinstance(item, Rejected)} == {"unit.none"}
    first = pictures[0]
    assert (first.instances[0].category, first.instances[0].box) == ("person", (274, 191, 567, 884))
    assert len(first.relations) == 13
