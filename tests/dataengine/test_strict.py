from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from dataengine.errors import SpecError
from dataengine.strict import convert, load_struct


class Leaf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The innermost settings."""

    path: str
    count: Annotated[int, msgspec.Meta(ge=1)] = 1
    use: Literal["train", "eval"] = "train"


class Tree(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings with every kind of nesting that a spec has."""

    id: str
    license: Leaf | None = None
    splits: dict[str, Leaf] = {}
    tables: tuple[Leaf, ...] = ()
    grid: dict[str, list[Leaf]] = {}
    ratio: float = 0.5


def explain(tmp_path: Path, text: str) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_struct(path, Tree)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert "`" not in message
    return message.removeprefix(str(path))


def test_a_file_becomes_a_struct(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("id: x\nratio: 1\nsplits: {train: {path: a}}\ntables: [{path: b, use: eval, count: 2}]\n")

    assert load_struct(path, Tree) == Tree(
        id="x", ratio=1.0, splits={"train": Leaf(path="a")}, tables=(Leaf(path="b", use="eval", count=2),)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id: x\nlisence: {path: a}\n", ":2: unknown key 'lisence'; did you mean 'license'?"),
        ("id: x\nlicense:\n  pth: a\n", ":3: license: unknown key 'pth'; did you mean 'path'?"),
        ("id: x\ntables:\n  - path: a\n    cuont: 2\n", ":4: tables.0: unknown key 'cuont'; did you mean 'count'?"),
        ("id: x\nsplits:\n  train: {path: a, usee: eval}\n", "unknown key 'usee'; did you mean 'use'?"),
        ("id: x\ngrid: {a: [{path: a, usee: eval}]}\n", "unknown key 'usee'; did you mean 'use'?"),
        ("id: x\nzzzzzz: 1\n", ":2: unknown key 'zzzzzz'; known: grid, id, license, ratio, splits, tables"),
        ("ratio: 1\n", ": missing key 'id'"),
        ("id: x\nlicense: {count: 2}\n", ":2: license: missing key 'path'"),
        ("id: 5\n", ":1: id: expected 'str', got 'int': 5"),
        ("id: x\nratio: fast\n", ":2: ratio: expected 'float', got 'str': 'fast'"),
        ("id: x\nlicense:\n  path: a\n  count: 0\n", ":4: license.count: expected 'int' >= 1: 0"),
        ("id: x\nlicense:\n  path: a\n  use: test\n", ":4: license.use: invalid enum value 'test'; known: eval, train"),
        ("id: x\nlicense:\n  path: a\n  use: trian\n", "invalid enum value 'trian'; did you mean 'train'?"),
        ("id: x\ntables: {path: a}\n", ":2: tables: expected 'array', got 'object': {'path': 'a'}"),
        ("id: x\nsplits: {train: 5}\n", "expected 'object', got 'int'"),
        ("id: true\n", ":1: id: expected 'str', got 'bool': True"),
        ("id: x\nlicense: {path: '1', count: '1'}\n", ":2: license.count: expected 'int', got 'str': '1'"),
    ],
)  # fmt: skip
def test_one_line_says_which_key_of_which_line_is_wrong(tmp_path: Path, text: str, expected: str) -> None:
    message = explain(tmp_path, text)

    assert message.endswith(expected)


def test_a_key_is_named_with_the_keys_around_it(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("id: x\nsource:\n  splits:\n    train:\n      pth: a\n")

    with pytest.raises(SpecError) as caught:
        convert({"pth": "a"}, Leaf, path, ["source", "splits", "train"])

    assert str(caught.value) == f"{path}:5: source.splits.train: unknown key 'pth'; did you mean 'path'?"


@pytest.mark.parametrize("value", [None, 5, "text", ["a"]])
def test_what_is_no_mapping_is_told_apart(value: Any) -> None:
    with pytest.raises(SpecError, match=r"^x\.yaml: source\.splits: expected 'object', got "):
        convert(value, Leaf, "x.yaml", ["source", "splits"])
