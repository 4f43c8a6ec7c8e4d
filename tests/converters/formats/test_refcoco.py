from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.formats.refcoco import Source, load_refs, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
SOURCE = Source(refs="refs(unc).p", annotations="instances.json", images="train2014")


def _ref(**fields: Any) -> dict[str, Any]:
    return {
        "ref_id": 3,
        "ann_id": 11,
        "image_id": 1,
        "category_id": 2,
        "split": "train",
        "sent_ids": [0, 1],
        "sentences": [
            {"sent_id": 0, "sent": "the left cat", "raw": "The LEFT cat", "tokens": ["the", "left", "cat"]},
            {"sent_id": 1, "sent": "cat  on left\n", "raw": "cat on left", "tokens": []},
        ],
        **fields,
    }


def _root(folder: Path, refs: Any, name: str = "refs(unc).p", protocol: int = 2) -> Root:
    instances = {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 20, "height": 10},
            {"id": 2, "file_name": "b.jpg", "width": 20, "height": 10},
        ],
        "annotations": [
            {"id": 11, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]},
            {"id": 12, "image_id": 1, "category_id": 2, "bbox": [5, 2, 3, 4]},
            {"id": 21, "image_id": 2, "category_id": 2, "bbox": [5, 2, 3, 4]},
            {"id": 22, "image_id": 2, "category_id": 9, "bbox": [5, 2, 3, 4]},
        ],
        "categories": [{"id": 2, "name": "cat"}],
    }
    (folder / "instances.json").write_text(json.dumps(instances))
    data = json.dumps(refs).encode() if name.endswith(".json") else pickle.dumps(refs, protocol=protocol)
    (folder / name).write_bytes(data)
    return Root(folder)


def _split(root: Root, source: Source = SOURCE) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(source, root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_ref_is_its_object_and_one_expression_a_sentence(tmp_path: Path) -> None:
    (found,), rejected = _split(_root(tmp_path, [_ref()]))

    assert rejected == []
    assert found.key == "3"
    assert found.images[0].path == "train2014/a.jpg"
    assert [(item.id, item.category, item.box) for item in found.instances] == [("11", "cat", (1, 2, 4, 6))]
    assert [(item.id, item.text, item.instances) for item in found.expressions] == [
        ("0", "the left cat", (0,)),
        ("1", "cat on left", (0,)),
    ]
    assert not found.exhaustive
    assert (found.origin.file, found.origin.record) == ("refs(unc).p", "[0]")


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_every_pickle_protocol_of_plain_values_reads_the_same(tmp_path: Path, protocol: int) -> None:
    refs = [_ref(extra=[None, True, -1, 10**30, 1.5, (1, 2), ()])]

    assert load_refs("refs.p", pickle.dumps(refs, protocol=protocol)) == refs
    assert len(_split(_root(tmp_path, refs, protocol=protocol))[0]) == 1


def test_json_reads_the_same_as_the_pickle(tmp_path: Path) -> None:
    by_pickle = _split(_root(tmp_path, [_ref()]))[0][0]
    root = _root(tmp_path, [_ref()], name="refs.json")

    (by_json,), _ = _split(root, Source(refs="refs.json", annotations="instances.json", images="train2014"))

    assert by_json.instances == by_pickle.instances
    assert by_json.expressions == by_pickle.expressions


def test_refs_of_another_split_are_reported_as_such(tmp_path: Path) -> None:
    root = _root(tmp_path, [_ref(), _ref(ref_id=4, split="testA")])

    found, (rejected,) = _split(root, Source(refs="refs(unc).p", annotations="instances.json", split="testA"))

    assert [item.key for item in found] == ["4"]
    assert (rejected.key, rejected.reason) == ("3", "split.other")


def test_several_objects_are_all_meant(tmp_path: Path) -> None:
    (found,), _ = _split(_root(tmp_path, [_ref(ann_id=[12, 11])]))

    assert [item.id for item in found.instances] == ["12", "11"]
    assert {item.instances for item in found.expressions} == {(0, 1)}


@pytest.mark.parametrize("ann_id", [-1, [-1], []])
def test_no_target_means_no_object(tmp_path: Path, ann_id: Any) -> None:
    (found,), rejected = _split(_root(tmp_path, [_ref(ann_id=ann_id)]))

    assert found.instances == ()
    assert [item.instances for item in found.expressions] == [(), ()]
    assert rejected == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image_id": 9}, "id.orphan"),
        ({"ann_id": 99}, "id.orphan"),
        ({"ann_id": [11, 99]}, "id.orphan"),
        ({"ann_id": 21}, "id.orphan"),
        ({"ann_id": 22, "image_id": 2}, "category.unknown"),
        ({"ann_id": None}, "schema"),
        ({"sentences": ["the cat"]}, "schema"),
        ({"sentences": [{"sent_id": 1, "sent": 5}]}, "schema"),
        ({"ref_id": [1]}, "schema"),
    ],
)
def test_a_defective_ref_is_rejected_alone(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    root = _root(tmp_path, [_ref(**fields), _ref(ref_id=4)])

    (found,), (rejected,) = _split(root)

    assert found.key == "4"
    assert (rejected.reason, rejected.origin.record) == (reason, "[0]")
    assert rejected.detail


def test_a_ref_that_comes_twice_is_rejected_once(tmp_path: Path) -> None:
    (found,), (rejected,) = _split(_root(tmp_path, [_ref(), _ref(ann_id=12)]))

    assert found.instances[0].id == "11"
    assert (rejected.reason, rejected.origin.record) == ("id.duplicate", "[1]")


def test_an_empty_sentence_is_rejected_alone(tmp_path: Path) -> None:
    sentences = [{"sent_id": 0, "sent": " ", "raw": ""}, {"sent_id": 1, "sent": "", "raw": "left cat"}]

    (found,), (rejected,) = _split(_root(tmp_path, [_ref(sentences=sentences)]))

    assert [item.text for item in found.expressions] == ["left cat"]
    assert (rejected.key, rejected.reason) == ("3.0", "text.empty")
    assert rejected.origin.record == "[0].sentences[0]"


def test_text_of_python_2_is_utf_8_or_else_latin_1() -> None:
    # Protocol 1 of Python 2 writes `str` as bytes: SHORT_BINSTRING, length, bytes.
    def pickled(text: bytes) -> bytes:
        return b"]q\x00U" + bytes([len(text)]) + text + b"q\x01a."

    assert load_refs("refs.p", pickled("café".encode())) == ["café"]
    assert load_refs("refs.p", pickled("café".encode("latin-1"))) == ["café"]


class _Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_pickle_that_calls_a_function_is_refused_by_its_name(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    root = _root(tmp_path, [_Call(os.system, f"touch {mark}")], protocol=protocol)

    with pytest.raises(SourceError, match=r"^refs\(unc\)\.p: the pickle asks for \w+\.system; refused"):
        _split(root)

    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"(S'touch x'\nios\nsystem\n.",
        b"\x80\x02cos\nsystem\n.",
    ],
)
def test_a_pickle_that_names_a_function_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"the pickle asks for (__builtin__|builtins|os)\.\w+; refused"):
        load_refs("refs.p", data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"]",
        b"\x80\x02]q",
        b"\x80\x63].",
        b"a.",
        b"N.",
        b"}.",
        b"\x82\x01.",
        b"Pname\n.",
        b"]}(K\x01u.",
        b"]]K\x01s.",
        b"K\x01K\x02a.",
        b"L1" + b"0" * 9999 + b"\n.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x96\x00\x00\x00\x00\x00\x00\x00\x7f.",
        b"not a pickle",
        b"\xff\xd8\xff\xe0",
    ],
)
def test_a_file_that_is_no_list_of_plain_values_is_an_error(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"^refs\.p: .*expected"):
        load_refs("refs.p", data)


def test_a_pickle_cannot_claim_memory_by_a_number() -> None:
    # LONG_BINPUT stores an empty list at place 2**31 - 1: the fast unpickler would make room for all places before.
    assert load_refs("refs.p", b"]r\xff\xff\xff\x7f.") == []


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=40))
def test_no_bytes_do_more_than_fail(data: bytes) -> None:
    try:
        refs = load_refs("refs.p", data)
    except SourceError as error:
        assert "\n" not in str(error).strip()
    else:
        assert isinstance(refs, list)


def test_real_pickle_and_json_are_the_same(samples: Samples) -> None:
    root = samples("refcoco_unc")

    by_pickle = load_refs("refs(unc).p", root.read("refcoco/refs(unc).p", "refs"))
    by_json = load_refs("refs.json", root.read("refcoco/refs_unc.json", "refs"))

    assert by_pickle == by_json
    assert by_pickle[0]["sentences"][0]["sent"] == "the lady with the blue shirt"
