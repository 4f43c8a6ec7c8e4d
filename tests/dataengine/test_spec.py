from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dataengine.catalog import Catalog
from dataengine.errors import SpecError
from dataengine.spec import Resolved, load_dataset, load_labels, split_names

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _resolved(tiny: Tiny) -> Resolved:
    (found,) = Catalog().find(str(tiny.spec))
    return found


def _edit(tiny: Tiny, old: str, new: str) -> None:
    text = tiny.spec.read_text()
    assert old in text
    tiny.spec.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("id: tiny", "id: Tiny Set", "id 'Tiny Set': expected lower-case letters"),
        ("license: {annotations: CC0-1.0, images: CC-BY-4.0}", "license: {annotations: CC0-1.0}",
         ":3: license: missing key 'images'"),
        ("status: layout", "status: proven", ":12: status: invalid enum value 'proven'"),
        ("  format: coco_instances\n", "", "source.format: missing"),
        ("train: {annotations: train.json, use: train}", "train: [a, b]", "source.splits.train: expected a mapping"),
        ("train: {annotations", "Train-1: {annotations", "source.splits.Train-1: expected lower-case"),
        ("status: layout", "status: layout\nbudgets: {box.degenerate: 2}", "expected 0 to 1"),
        ("status: layout", "status: layout\nbudgets: {box.degenerate: .nan}", "expected 0 to 1"),
        ("detection: {}", "detection: {budgets: {box.degenerate: 7}}", "expected 0 to 1"),
        ("detection: {}", "detection: {budgets: {box.degenerate: no}}", "expected 'float'"),
        ("detection: {}", "detection: 5", "expected 'object | null'"),
        ("use: eval", "use: eval, images_expected: many", "images_expected"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_file(tiny: Tiny, old: str, new: str, says: str) -> None:
    _edit(tiny, old, new)

    with pytest.raises(SpecError) as caught:
        load_dataset(tiny.spec)

    text = str(caught.value)
    assert text.startswith(f"{tiny.spec}:")
    assert says in text
    assert "\n" not in text


def test_the_hash_changes_with_what_a_sample_depends_on_and_with_nothing_else(tiny: Tiny) -> None:
    first = _resolved(tiny).hash()
    _edit(tiny, "title: Tiny pictures for tests", "title: Another title\nhomepage: https://example.org")
    _edit(tiny, "status: layout", "status: real\nnotes: words")
    _edit(tiny, "  detection: {}", "  detection: {}\n  instance_segmentation: {}")
    (second,) = (one.hash() for one in Catalog().find(str(tiny.spec)) if one.task.id == "detection")
    changed = []
    for old, new in (
        ("CC0-1.0", "CC-BY-4.0"),
        ("detection: {}", "detection: {max_classes: 9}"),
        ("use: eval", "use: train"),
        ("train.json", "other.json"),
    ):
        _edit(tiny, old, new)
        changed += [one.hash() for one in Catalog().find(str(tiny.spec)) if one.task.id == "detection"]

    assert first == second
    assert len({first, *changed}) == 5


def test_a_key_of_the_source_holds_for_every_split_and_a_splits_own_wins(tiny: Tiny) -> None:
    _edit(tiny, "val: {annotations: val.json", "val: {annotations: val.json, images: elsewhere")

    spec = _resolved(tiny)

    assert spec.source("train").images == "images"
    assert spec.source("val").images == "elsewhere"


def test_a_task_may_name_its_splits(tiny: Tiny) -> None:
    _edit(tiny, "detection: {}", "detection: {splits: [val]}")

    spec = _resolved(tiny)

    assert split_names(spec, None) == ("val",)
    with pytest.raises(SpecError, match="no split 'train' for tiny/detection"):
        split_names(spec, "train")


def test_budgets_of_a_task_go_before_those_of_its_dataset(tiny: Tiny) -> None:
    _edit(tiny, "detection: {}", "detection: {budgets: {image.missing: 0.5}}")
    _edit(tiny, "status: layout", "status: layout\nbudgets: {image.missing: 0.1, text.empty: 0.2}")

    assert _resolved(tiny).budgets() == {"image.missing": 0.5, "text.empty": 0.2}


def test_evaluation_splits_are_not_worded_at_random(tiny: Tiny) -> None:
    spec = _resolved(tiny)

    assert spec.runtime("train", None).train
    assert not spec.runtime("val", None).train


def test_loading_a_spec_imports_no_reader_and_runs_no_code_of_it(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "trap.py").write_text("open('sprung', 'w').close()\n")
    _edit(tiny, "format: coco_instances", "format: trap.door")
    code = (
        "import sys; from pathlib import Path; from dataengine.spec import load_dataset;"
        "load_dataset(Path(sys.argv[1]))"
    )

    subprocess.run([sys.executable, "-c", code, str(tiny.spec)], cwd=tmp_path, check=True, timeout=30)

    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("labels: [{name: a}, {name: a}]", "'a' stands twice"),
        ("labels: [{name: a, keypoints: [x, y], skeleton: [[0, 2]]}]", "leaves 0..1"),
        ("labels: [{name: a, keypoints: [x, y], flip_pairs: [[1, 1]]}]", "its own mirror partner"),
        ("labels: [{nane: a}]", "did you mean 'name'?"),
    ],
)
def test_a_wrong_label_space_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"id: mine\n{text}\n")

    with pytest.raises(SpecError) as caught:
        load_labels(path)

    assert says in str(caught.value)
