from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Picture

from converters.formats.reasonseg import Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_area, rle_box


def _square(label: str, x0: float, y0: float, x1: float, y1: float) -> dict[str, Any]:
    points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    return {"label": label, "points": points, "shape_type": "polygon", "group_id": None}


TARGET = _square("target", 2, 2, 12, 12)
QUESTION = "What would one sit on?"


def _folder(folder: Path, **files: Any) -> Root:
    (folder / "train").mkdir()
    for stem, content in files.items():
        Picture.new("RGB", (20, 16)).save(folder / "train" / f"{stem}.jpg")
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / "train" / f"{stem}.json").write_bytes(data)
    return Root(folder)


def _file(*shapes: dict[str, Any], text: Any = (QUESTION,), is_sentence: Any = True) -> dict[str, Any]:
    return {"shapes": list(shapes), "text": list(text), "is_sentence": is_sentence, "comment": "x"}


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(annotations="train", **options), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_all_texts_of_a_file_mean_the_union_of_its_targets(tmp_path: Path) -> None:
    shapes = [_square("target", 0, 0, 4, 4), _square("Target", 10, 10, 14, 14)]
    root = _folder(tmp_path, a=_file(*shapes, text=["One?", "Two?"]))

    (found,), rejected = _split(root)

    assert rejected == []
    assert (found.key, found.images[0].path) == ("a", "train/a.jpg")
    assert [(item.text, item.instances) for item in found.expressions] == [("One?", (0,)), ("Two?", (0,))]
    (target,) = found.instances
    assert target.mask is not None
    assert (rle_area(target.mask), rle_box(target.mask)) == (32, (0, 0, 14, 14))
    assert not found.exhaustive


def test_the_smaller_outline_counts_where_two_overlap(tmp_path: Path) -> None:
    hole = _square("ignore", 4, 4, 6, 6)
    root = _folder(tmp_path, a=_file(hole, TARGET), b=_file(TARGET, _square("ignore", 0, 0, 20, 16)))

    (a, b), _ = _split(root)

    target, ignored = a.instances
    assert target.mask is not None and ignored.mask is not None
    assert (rle_area(target.mask), rle_area(ignored.mask), ignored.ignore) == (96, 4, True)
    assert mask_from_rle(target.mask)[4, 4] == 0
    assert b.instances[0].mask is not None
    assert rle_area(b.instances[0].mask) == 100


def test_a_flag_means_nothing(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_file(TARGET, {"label": "flag", "points": [[1, 1]]}))

    (found,), rejected = _split(root)

    assert rejected == []
    assert len(found.instances) == 1


@pytest.mark.parametrize(("texts", "counts"), [("all", [1, 1]), ("sentences", [1, 0]), ("phrases", [0, 1])])
def test_questions_and_phrases_can_be_told_apart(tmp_path: Path, texts: str, counts: list[int]) -> None:
    root = _folder(tmp_path, a=_file(TARGET), b=_file(TARGET, text=["the chair"], is_sentence=False))

    found, _ = _split(root, texts=texts)

    assert [len(item.expressions) for item in found] == counts


def test_an_explanation_answers_all_texts_of_its_picture(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_file(TARGET), b=_file(TARGET))
    items = [{"image": "b.jpg"}, {"image": "a.jpg", "query": QUESTION, "outputs": "A chair is to sit on."}]
    (tmp_path / "explained.json").write_text(json.dumps(items))

    (a, b), (rejected,) = _split(root, explanations="explained.json")

    assert [item.answer for item in a.expressions] == ["A chair is to sit on."]
    assert [item.answer for item in b.expressions] == [None]
    assert "explained.json" in root.digests
    assert (rejected.reason, rejected.origin.file, rejected.origin.record) == (
        "schema",
        "explained.json",
        "[0]",
    )


def test_a_file_in_windows_1252_is_read(tmp_path: Path) -> None:
    text = json.dumps(_file(TARGET, text=["the man’s café"]), ensure_ascii=False)
    root = _folder(tmp_path, a=text.encode("cp1252"), b=b"\xef\xbb\xbf" + text.encode())

    found, rejected = _split(root)

    assert rejected == []
    assert [item.expressions[0].text for item in found] == ["the man’s café"] * 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"shapes": [', "schema"),
        (b"", "schema"),
        (_file(TARGET) | {"text": "one text"}, "schema"),
        (_file({"label": "target", "points": [[1, "x"], [2, 2], [3, 1]]}), "schema"),
        (_file({"label": "target", "points": [[1, float("nan")], [2, 2], [3, 1]]}), "schema"),
        (_file({"label": "target", "points": [[1, 1], [2, 2]]}), "polygon.invalid"),
        (_file({"label": "target", "points": [[1, 1], [2e9, 2], [3, 9]]}), "polygon.invalid"),
        (_file(), "mask.empty"),
        (_file(_square("target", 100, 100, 120, 120)), "mask.empty"),
        (_file(_square("ignore", 0, 0, 9, 9)), "mask.empty"),
    ],
)
def test_a_defective_file_is_rejected_alone(tmp_path: Path, content: Any, reason: str) -> None:
    root = _folder(tmp_path, a=content, b=_file(TARGET))

    (found,), (rejected,) = _split(root)

    assert found.key == "b"
    assert (rejected.key, rejected.reason, rejected.origin.file) == ("a", reason, "train/a.json")


def test_a_file_whose_picture_is_not_there_is_rejected(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_file(TARGET))
    (tmp_path / "train" / "a.jpg").unlink()

    found, (rejected,) = _split(root)

    assert found == []
    assert rejected.reason == "image.missing"


def test_a_folder_without_files_and_a_broken_file_of_explanations_are_errors(tmp_path: Path) -> None:
    root = _folder(tmp_path, a=_file(TARGET))
    (tmp_path / "explained.json").write_text("[{")

    with pytest.raises(SourceError, match=r"source\.annotations"):
        list(read(Source(annotations="val"), root))
    with pytest.raises(SourceError, match="explained"):
        _split(root, explanations="explained.json")
