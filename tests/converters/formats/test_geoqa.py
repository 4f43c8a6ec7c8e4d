from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.formats.geoqa import Source, prepare, read
from dataengine import manifest
from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.errors import SourceError
from dataengine.files import Root

DIAGRAM = np.arange(35, dtype=np.uint8).reshape(5, 7)
PROBLEM: dict[str, Any] = {
    "id": 12, "subject": "如图,∠1的度数为( )", "token_list": ["如", "图"], "choices": ["30°", "45°", "60°", "90°"],
    "choice_nums": [30, 45, 60, 90], "label": 2, "image": DIAGRAM, "numbers": [np.float64(1.0)],
}  # fmt: skip


def _write(folder: Path, content: Any, name: str = "train.pk") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(content, 3))
    return folder


def test_a_problem_has_its_diagram_written_out(tmp_path: Path) -> None:
    source = Source(annotations="train.pk", images="unpacked/train")

    prepare(source, _write(tmp_path, [PROBLEM]))
    (found,) = read(source, Root(tmp_path))

    assert isinstance(found, Annotation)
    assert (found.key, found.images[0].path) == ("0", "unpacked/train/0.png")
    (question,) = found.questions
    assert (question.text, question.choices[2], question.answer_index, question.answers) == (
        PROBLEM["subject"], "60°", 2, ("60°",),
    )  # fmt: skip
    with Image.open(tmp_path / "unpacked/train/0.png") as picture:
        assert np.array_equal(np.asarray(picture), DIAGRAM)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ({**PROBLEM, "label": 4}, "qa.format"),
        ({**PROBLEM, "label": "2"}, "qa.format"),
        ({**PROBLEM, "choices": []}, "qa.format"),
        ({**PROBLEM, "choices": ["a", " "]}, "text.empty"),
        ({**PROBLEM, "subject": None}, "text.empty"),
        ("text", "schema"),
    ],
)
def test_a_defective_problem_costs_no_other(problem: Any, reason: str, tmp_path: Path) -> None:
    source = Source(annotations="train.pk")

    prepare(source, _write(tmp_path, [problem, PROBLEM]))
    bad, good = read(source, Root(tmp_path))

    assert isinstance(bad, Rejected)
    assert (bad.reason, bad.origin.record) == (reason, "[0]")
    assert isinstance(good, Annotation)
    assert (tmp_path / good.images[0].path).is_file()


def test_a_pickle_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no list"):
        prepare(Source(annotations="train.pk"), _write(tmp_path, {}))


def test_the_spec_asks_with_all_choices(tmp_path: Path) -> None:
    # The second diagram is none, so its problem has no picture.
    root = _write(tmp_path / "root", [PROBLEM, {**PROBLEM, "image": None}], "dev.pk")
    (spec,) = Catalog().find("geoqa_plus")

    ledger = convert(spec, "dev", root, tmp_path / "out")

    (sample,) = manifest.read_samples(tmp_path / "out/geoqa_plus/multiple_choice_vqa/dev")
    assert ledger.quarantined == {"image.missing": 1}
    assert all(choice in sample.conversation[0].text for choice in PROBLEM["choices"])
    assert sample.conversation[1].text.startswith("C")
