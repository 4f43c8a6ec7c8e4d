from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from converters.formats.im2latex import QUESTION, Source, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
SOURCE = Source(formulas="formulas.lst", pairs="train.lst", images="images")


def _split(root: Root, source: Source = SOURCE) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(source, root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def _root(
    folder: Path, pairs: str, formulas: bytes = b"a^{2}\\label{eq:1}\nb\x0bc\n\n\xe9=mc^2\n\\label{a}\n"
) -> Root:
    (folder / "formulas.lst").write_bytes(formulas)
    (folder / "train.lst").write_text(pairs)
    return Root(folder)


def test_formulas_are_counted_from_zero_by_line_feeds_alone(tmp_path: Path) -> None:
    found, rejected = _split(_root(tmp_path, "1 bb basic\n0 aa basic\n3 ee basic\n"))

    assert rejected == []
    assert [(item.key, item.images[0].path, item.questions[0].answers) for item in found] == [
        ("bb", "images/bb.png", ("b\x0bc",)),
        ("aa", "images/aa.png", ("a^{2}",)),
        ("ee", "images/ee.png", ("é=mc^2",)),
    ]
    assert found[0].questions[0].text == QUESTION
    assert found[0].origin.record == "line 1"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("5 x basic", "id.orphan"),
        ("999999999999 x basic", "schema"),
        ("-1 x basic", "schema"),
        ("² x basic", "schema"),
        ("0", "schema"),
        ("2 x basic", "text.empty"),
        ("4 x basic", "text.empty"),
        ("0 aa basic", "id.duplicate"),
    ],
)
def test_a_line_that_names_no_formula_is_rejected(tmp_path: Path, line: str, reason: str) -> None:
    (found,), (rejected,) = _split(_root(tmp_path, f"0 aa basic\n{line}\n"))

    assert (found.key, rejected.reason, rejected.origin.record) == ("aa", reason, "line 2")


@pytest.mark.parametrize("name", ["formulas", "pairs"])
def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    source = Source(**{"formulas": "formulas.lst", "pairs": "train.lst", name: "missing"})

    with pytest.raises(SourceError, match=rf"source\.{name}"):
        _split(_root(tmp_path, "0 a basic"), source)


def test_real_formulas(samples: Samples) -> None:
    found, rejected = _split(samples("im2latex100k"))

    assert (len(found), rejected) == (8, [])
    assert found[0].key == "60ee748793"
    assert found[0].questions[0].answers[0].startswith("ds^{2} = (1 - {qcos")
