from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters.formats.mdetr import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.clean import clean
from dataengine.errors import SourceError
from dataengine.files import Root

TEXT = "a man next to two dogs"
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 40, "height": 30, "caption": TEXT, "data_source": "vg"}
SQUARE = [[0, 0, 10, 0, 10, 10, 0, 10]]


def _box(number: int, spans: Any, **more: Any) -> dict[str, Any]:
    bbox = [number, 2, 10, 20]
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": bbox, "tokens_positive": spans, **more}


def _split(
    folder: Path, annotations: list[Any], pictures: list[Any] | None = None, **options: Any
) -> tuple[list[Annotation], list[Rejected]]:
    document = {
        "images": pictures or [IMAGE],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    (folder / "a.json").write_text(json.dumps(document))
    found = list(read(Source(annotations="a.json", **options), Root(folder)))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_objects_with_the_same_words_are_one_phrase(tmp_path: Path) -> None:
    boxes = [_box(1, [[0, 5]]), _box(2, [[14, 22]]), _box(3, [[14, 22]]), _box(4, None)]

    (found,), rejected = _split(tmp_path, boxes)

    assert rejected == []
    assert [item.box for item in found.instances] == [(float(n), 2, n + 10.0, 22) for n in (1, 2, 3, 4)]
    assert [item.text for item in found.captions] == [TEXT]
    assert [(item.id, item.text, item.instances, item.spans) for item in found.expressions] == [
        ("0.0", "a man", (0,), ((0, 5),)),
        ("0.1", "two dogs", (1, 2), ((14, 22),)),
    ]


def test_a_phrase_may_stand_in_pieces(tmp_path: Path) -> None:
    (found,), _ = _split(tmp_path, [_box(1, [[0, 5], [14, 17]])])

    assert [(item.text, item.spans) for item in found.expressions] == [("a man two", ((0, 5), (14, 17)))]


def test_an_object_with_its_own_caption_is_an_expression(tmp_path: Path) -> None:
    image = {key: value for key, value in IMAGE.items() if key != "caption"}

    (found,), _ = _split(
        tmp_path, [_box(1, None, caption=" a  dog "), _box(2, None, sentence="a cat")], [image]
    )

    assert found.captions == ()
    assert [(item.id, item.text, item.instances) for item in found.expressions] == [
        ("o0", "a dog", (0,)),
        ("o1", "a cat", (1,)),
    ]


def test_a_mask_is_that_of_sam_or_of_the_segmentation(tmp_path: Path) -> None:
    rle = {"size": [30, 40], "counts": [0, 60, 1140]}

    (found,), _ = _split(
        tmp_path, [_box(1, None, sam_mask=rle), _box(2, None, segmentation=SQUARE), _box(3, None)]
    )

    cleaned = clean(found, [(40, 30)]).annotation.instances
    sizes = [item.mask.size if item.mask else None for item in cleaned]
    assert sizes == [(30, 40), (30, 40), None]


@pytest.mark.parametrize(
    ("options", "path"),
    [({}, "a.jpg"), ({"images": "b"}, "b/a.jpg"), ({"images": "b", "folders": {"vg": "c"}}, "c/a.jpg")],
)
def test_mixed_files_have_a_folder_for_each_source(
    tmp_path: Path, options: dict[str, Any], path: str
) -> None:
    (found,), _ = _split(tmp_path, [], **options)

    assert found.images[0].path == path


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (_box(2, [[0, 99]]), "span.invalid"),
        (_box(2, [[4, 4]]), "span.invalid"),
        (_box(2, [[-3, 4]]), "span.invalid"),
        ({**_box(2, None), "bbox": [1, 2, 3]}, "schema"),
        (_box(2, None, sam_mask={"size": [3, 4], "counts": "x"}), "rle.size_mismatch"),
    ],
)
def test_a_defective_object_is_ignored_and_moves_no_other(
    tmp_path: Path, record: dict[str, Any], reason: str
) -> None:
    (found,), (rejected,) = _split(tmp_path, [record, _box(3, [[0, 5]])])

    assert (rejected.reason, rejected.origin.record) == (reason, "annotations[0]")
    assert [item.ignore for item in found.instances] == [True, False]
    assert [item.instances for item in found.expressions] == [(1,)]


@pytest.mark.parametrize("spans", ["all", [[1]], [["a", 2]], [[1, 2, 3]]])
def test_an_object_of_another_shape_is_rejected(tmp_path: Path, spans: Any) -> None:
    (found,), (rejected,) = _split(tmp_path, [_box(1, spans)])

    assert rejected.reason == "schema"
    assert found.instances == ()


def test_an_image_that_is_none_is_rejected_once(tmp_path: Path) -> None:
    found, rejected = _split(tmp_path, [], [{"id": [1]}, {**IMAGE, "caption": 5}])

    assert [item.reason for item in rejected] == ["schema"]
    assert [item.captions for item in found] == [()]


def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [')

    with pytest.raises(SourceError, match="COCO file"):
        list(read(Source(annotations="a.json"), Root(tmp_path)))
