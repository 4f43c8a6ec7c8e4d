from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.coco_captions import Source, read
from dataengine.annotation import Annotation, Caption, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]


def _split(root: Root, source: Source) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(source, root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _read(folder: Path, *captions: Any, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    images = [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}, {"id": 2, "file_name": "b.jpg"}]
    content = {"images": images, "annotations": list(captions)}
    (folder / "captions.json").write_text(json.dumps(content))
    return _split(Root(folder), Source(annotations="captions.json", images="val", **options))


def test_all_captions_of_an_image_stand_together(tmp_path: Path) -> None:
    captions = [
        {"id": 10, "image_id": 2, "caption": "two"},
        {"id": 11, "image_id": 1, "caption": "one"},
        {"id": 12, "image_id": 2, "caption": "three"},
    ]

    (first, second), rejected = _read(tmp_path, *captions)

    assert rejected == []
    assert first.captions == (Caption(id="11", text="one"),)
    assert second.captions == (Caption(id="10", text="two"), Caption(id="12", text="three"))
    assert second.images[0].path == "val/b.jpg"
    assert second.origin.record == "images[1]"


def test_stray_white_space_goes(tmp_path: Path) -> None:
    (first, _), _ = _read(tmp_path, {"id": 1, "image_id": 1, "caption": "  A cat\n on  a mat. \n"})

    assert first.captions[0].text == "A cat on a mat."


def test_captions_prove_no_class_absent(tmp_path: Path) -> None:
    (first, _), _ = _read(tmp_path, {"id": 1, "image_id": 1, "caption": "A cat."})

    assert not first.exhaustive


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"id": 1, "image_id": 1, "caption": " \n"}, "text.empty"),
        ({"id": 1, "image_id": 1, "caption": None}, "schema"),
        ({"id": 1, "image_id": 1}, "schema"),
        ({"id": 1, "image_id": 9, "caption": "x"}, "id.orphan"),
        ("A cat.", "schema"),
    ],
)
def test_a_defective_caption_is_rejected_alone(tmp_path: Path, record: Any, reason: str) -> None:
    (first, _), (rejected,) = _read(tmp_path, record, {"id": 2, "image_id": 1, "caption": "A cat."})

    assert [caption.id for caption in first.captions] == ["2"]
    assert (rejected.reason, rejected.origin.record) == (reason, "annotations[0]")


def test_a_caption_without_an_id_goes_by_its_place(tmp_path: Path) -> None:
    (first, _), _ = _read(tmp_path, {"image_id": 1, "caption": "A cat."})

    assert first.captions[0].id == "annotations[0]"


def test_another_layout_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text('{"images": {"1": "a.jpg"}}')

    with pytest.raises(SourceError, match=r"^captions\.json: .*expected a COCO file"):
        _split(Root(tmp_path), Source(annotations="captions.json"))


def test_real_coco_captions_read_without_a_rejection(samples: Samples) -> None:
    found, rejected = _split(
        samples("coco_captions"), Source(annotations="annotations/captions_train2014.json")
    )

    texts = [caption.text for item in found for caption in item.captions]
    assert rejected == []
    assert len(found) == 6
    assert len(texts) == 4
    assert all(text == text.strip() for text in texts)


def test_real_chinese_captions_read_without_a_rejection(samples: Samples) -> None:
    found, rejected = _split(samples("coco_cn_captions"), Source(annotations="coco-cn_test.json"))

    captions = [caption for item in found for caption in item.captions]
    assert rejected == []
    assert (len(found), len(captions)) == (20, 23)
    assert any(ord(char) > 0x4E00 for char in captions[0].text)
