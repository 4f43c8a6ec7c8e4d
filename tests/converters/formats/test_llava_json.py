from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.formats.llava_json import Source, read
from dataengine.annotation import Annotation, Rejected, Turn
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
TALK = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]


def _row(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "image": "coco/a.jpg", "conversations": TALK, **fields}


def _split(root: Root, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(**{"annotations": "chat.json", **options}), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _read(folder: Path, *rows: Any, **options: Any) -> tuple[list[Annotation], list[Rejected]]:
    (folder / "chat.json").write_text(json.dumps(rows))
    return _split(Root(folder), **options)


def _texts(found: Annotation) -> list[str]:
    return [turn.text for turn in found.dialogs[0].turns]


def test_a_conversation_becomes_turns(tmp_path: Path) -> None:
    (found,), rejected = _read(tmp_path, _row(), images="pictures")

    assert rejected == []
    assert found.key == "a"
    assert [image.path for image in found.images] == ["pictures/coco/a.jpg"]
    assert found.dialogs[0].turns == (Turn("user", "<image>\nWhat is it?"), Turn("assistant", "A cat."))
    assert (found.origin.file, found.origin.record) == ("chat.json", "[0]")
    assert not found.exhaustive


@pytest.mark.parametrize("key", ["conversations", "conversation", "messages"])
@pytest.mark.parametrize(("speaker", "text"), [("from", "value"), ("role", "content")])
def test_the_keys_of_the_relatives_read_the_same(tmp_path: Path, key: str, speaker: str, text: str) -> None:
    roles = ("system", "user", "assistant") if speaker == "role" else ("system", "human", "bot")
    turns = [{speaker: role, text: "<image> hi" if place == 1 else "hi"} for place, role in enumerate(roles)]

    (found,), _ = _read(tmp_path, {"id": 1, "images": ["a.jpg"], key: turns})

    assert found.dialogs[0].turns == (
        Turn("system", "hi"),
        Turn("user", "<image> hi"),
        Turn("assistant", "hi"),
    )


def test_lines_read_the_same_as_a_list(tmp_path: Path) -> None:
    rows = [_row(), _row(id="b")]
    by_list, _ = _read(tmp_path, *rows)
    lines = "\n\n".join(json.dumps(row) for row in rows)
    (tmp_path / "chat.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode() + b"\r\n")

    by_line, rejected = _split(Root(tmp_path), annotations="chat.jsonl")

    assert rejected == []
    assert [item.dialogs for item in by_line] == [item.dialogs for item in by_list]
    assert [item.origin.record for item in by_line] == ["line 1", "line 3"]


def test_ids_are_text_and_a_row_without_one_goes_by_its_place(tmp_path: Path) -> None:
    found, _ = _read(tmp_path, _row(id=7), _row(id=None))

    assert [item.key for item in found] == ["7", "[1]"]


def test_ids_that_repeat_stay_apart(tmp_path: Path) -> None:
    found, rejected = _read(tmp_path, _row(), _row(id="a~2"), _row(), _row(), _row(id="b"))

    assert rejected == []
    assert [item.key for item in found] == ["a", "a~2", "a~3", "a~4", "b"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["a", "a~2", "a~2~2", "a~3", "b", None]), max_size=9))
def test_keys_are_always_different(tmp_path_factory: pytest.TempPathFactory, ids: list[str | None]) -> None:
    found, _ = _read(tmp_path_factory.mktemp("chat"), *[_row(id=name) for name in ids])

    assert len({item.key for item in found}) == len(ids)


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"image": "a.jpg"}, ["a.jpg"]),
        ({"image": ["a.jpg", "b.jpg"]}, ["a.jpg", "b.jpg"]),
        ({"image": None, "images": ["a.jpg", "b.jpg"]}, ["a.jpg", "b.jpg"]),
        ({"image": None, "images": "a.jpg"}, ["a.jpg"]),
        ({"image": "../../secret.jpg"}, ["../../secret.jpg"]),
        ({"image": None}, []),
        ({"image": None, "images": []}, []),
    ],
)
def test_pictures_come_one_by_one_or_as_a_list(
    tmp_path: Path, fields: dict[str, Any], paths: list[str]
) -> None:
    (found,), _ = _read(tmp_path, _row(**fields))

    assert [image.path for image in found.images] == paths


@pytest.mark.parametrize(
    ("images", "first", "expected"),
    [
        (["a.jpg"], "What is it?", "<image>\nWhat is it?"),
        (["a.jpg", "b.jpg"], "Which?", "<image>\n<image>\nWhich?"),
        (["a.jpg"], " What is it?\n<image> ", "What is it?\n<image>"),
        (["a.jpg", "b.jpg"], "<image> Which?", "<image> Which?"),
        (["a.jpg"], "<image><image>", "<image><image>"),
        ([], "No picture <image>", "No picture <image>"),
        ([], "Hello", "Hello"),
    ],
)
def test_placeholders_are_put_first_where_none_stands_and_else_left_alone(
    tmp_path: Path, images: list[str], first: str, expected: str
) -> None:
    turns = [{"from": "human", "value": first}, {"from": "gpt", "value": " Yes.\n"}]

    (found,), _ = _read(tmp_path, _row(image=images, conversations=turns))

    assert _texts(found) == [expected, "Yes."]


def test_a_placeholder_is_not_put_into_the_system_turn(tmp_path: Path) -> None:
    turns = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"}, TALK[1]]

    (found,), _ = _read(tmp_path, _row(conversations=turns))

    assert _texts(found) == ["Be brief.", "<image>\nHi", "A cat."]


def test_a_placeholder_in_a_later_turn_counts(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Hi"}, TALK[1], {"from": "human", "value": "And <image>?"}, TALK[1]]

    (found,), _ = _read(tmp_path, _row(conversations=turns))

    assert _texts(found)[0] == "Hi"


def test_another_placeholder_becomes_ours(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "Image1: <ImageHere>; Image2: <ImageHere>."}, TALK[1]]

    (found,), _ = _read(
        tmp_path, _row(image=["a.jpg", "b.jpg"], conversations=turns), placeholder="<ImageHere>"
    )

    assert _texts(found)[0] == "Image1: <image>; Image2: <image>."


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (_row(conversations=[{"from": "tool", "value": "x"}]), "turn.structure"),
        (_row(conversations=[{"value": "x"}]), "turn.structure"),
        (_row(conversations=[]), "turn.structure"),
        (_row(conversations=[{"from": "gpt", "value": "x"}]), "turn.structure"),
        (_row(conversations=[{"from": "human"}]), "schema"),
        (_row(conversations=[{"from": "human", "value": ["x"]}]), "schema"),
        (_row(conversations=None), "schema"),
        (_row(messages=TALK), "schema"),
        (_row(image=""), "image.missing"),
        (_row(image=[None]), "schema"),
        (_row(image={"bytes": "x"}), "schema"),
        (5, "schema"),
    ],
)
def test_a_defective_row_is_rejected_alone(tmp_path: Path, row: Any, reason: str) -> None:
    (found,), (rejected,) = _read(tmp_path, row, _row(id="good"))

    assert found.key == "good"
    assert (rejected.reason, rejected.origin.record) == (reason, "[0]")
    assert rejected.detail


@pytest.mark.parametrize("line", ['{"id": "b", "conv', "b", '{"id": "\\ud800"}', "[" * 50_000])
def test_a_line_that_is_no_json_is_rejected_alone(tmp_path: Path, line: str) -> None:
    (tmp_path / "chat.json").write_text(f"{json.dumps(_row())}\n{line}\n{json.dumps(_row(id='c'))}\n")

    found, (rejected,) = _split(Root(tmp_path))

    assert [item.key for item in found] == ["a", "c"]
    assert (rejected.key, rejected.reason) == ("line 2", "schema")


def test_a_line_in_another_encoding_is_rejected_alone(tmp_path: Path) -> None:
    good = json.dumps(_row()).encode()
    (tmp_path / "chat.json").write_bytes(good + b'\n{"id": "caf\xe9", "conversations": []}\n')

    found, (rejected,) = _split(Root(tmp_path))

    assert len(found) == 1
    assert rejected.reason == "schema"


def test_a_list_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "chat.json").write_text(json.dumps([_row(), _row()])[:-20])

    with pytest.raises(SourceError, match=r"^chat\.json: .*truncated .*expected a JSON list of records"):
        _split(Root(tmp_path))


def test_a_missing_file_is_an_error_with_the_key_of_the_spec(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"chat\.json: no such file; .*source\.annotations"):
        _split(Root(tmp_path))


@pytest.mark.parametrize(
    ("folder", "options", "num_rows", "num_images"),
    [
        ("llava_instruct_150k", {"annotations": "training_example.json"}, 2, 2),
        ("llamafactory_mllm_demo", {"annotations": "mllm_demo.json"}, 6, 8),
        ("mantis_instruct/chat", {"annotations": "train.json"}, 6, 22),
        (
            "xcomposer_finetune",
            {"annotations": "multi_turn_multi_images_example.json", "placeholder": "<ImageHere>"},
            2,
            4,
        ),
        ("xcomposer_finetune", {"annotations": "single_turn_single_image_example.json"}, 2, 2),
        ("xcomposer_finetune", {"annotations": "only_text_example.json"}, 2, 0),
    ],
)
def test_real_conversations_have_a_placeholder_a_picture(
    samples: Samples, folder: str, options: dict[str, Any], num_rows: int, num_images: int
) -> None:
    found, rejected = _split(samples(folder), **options)

    assert rejected == []
    assert len({item.key for item in found}) == len(found) == num_rows
    assert sum(len(item.images) for item in found) == num_images
    for item in found:
        assert sum(text.count("<image>") for text in _texts(item)) == len(item.images)
