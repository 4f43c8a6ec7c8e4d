"""A dataset of a known layout is one file of YAML: three of the catalog, each on a miniature in the declared layout.

The miniature is written by the writer of the format, put where the spec looks for it, and converted by the spec as it
ships. Nothing but the spec knows the dataset: no code of this project says its name.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from dataengine import yaml12
from dataengine.annotation import Annotation, Dialog, Image, Instance, Label, LabelSpace, Origin, Turn
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.manifest import read_samples
from dataengine.modules import load_writer
from dataengine.sample import InstanceTargets

PROJECT = Path(__file__).parent.parent.parent
SIDE = 40
Place = dict[str, str]


def _annotation(name: str, **facts: Any) -> Annotation:
    return Annotation(
        key=name,
        images=(Image(path=name, width=SIDE, height=SIDE),),
        origin=Origin(file="miniature", record=name),
        **facts,
    )


def _boxed(name: str, *categories: str) -> Annotation:
    return _annotation(
        name,
        instances=tuple(
            Instance(id=str(number), category=category, box=(2 + 5 * number, 3, 12 + 5 * number, 20))
            for number, category in enumerate(categories)
        ),
    )


def _talk(name: str, question: str, answer: str) -> Annotation:
    turns = (Turn("user", f"<image>\n{question}"), Turn("assistant", answer))
    return _annotation(name, dialogs=(Dialog(id="d0", turns=turns),))


# The spec, its split, what is in the miniature, and where what the writer makes belongs.
CASES: dict[str, tuple[str, list[Annotation], Place]] = {
    "duo": (
        "train",
        [_boxed("1.jpg", "echinus", "starfish"), _boxed("2.jpg", "holothurian"), _boxed("3.jpg")],
        {"instances.json": "DUO/annotations/instances_train.json", "*.jpg": "DUO/images/train"},
    ),
    "neu_det": (
        "all",
        [_boxed("patches_1.jpg", "patches", "patches"), _boxed("scratches_7.jpg", "scratches")],
        {"Annotations/*.xml": "NEU-DET/ANNOTATIONS", "*.jpg": "NEU-DET/IMAGES"},
    ),
    "llava_cc3m_pretrain_595k": (
        "train",
        [
            _talk("GCC_train_000000001.jpg", "Describe the image.", "a dog on a lawn"),
            _talk("GCC_train_000000002.jpg", "What is this?", "two boats"),
        ],
        {"conversations.json": "chat.json", "*.jpg": "images"},
    ),
}


def _miniature(name: str, folder: Path) -> list[Annotation]:
    """Write a case's pictures and annotations with the format's writer, and put them where the spec looks."""
    _, annotations, places = CASES[name]
    written, root = folder / "written", folder / "root"
    written.mkdir()
    for item in annotations:
        Pillow.new("RGB", (SIDE, SIDE), "grey").save(written / item.images[0].path)
    categories = sorted({str(one.category) for item in annotations for one in item.instances})
    space = LabelSpace(id="source", labels=tuple(Label(name=category) for category in categories))
    format_name = Catalog().find(name)[0].dataset.source.format
    left_out = load_writer(format_name, name).write(annotations, space, written).left_out
    assert not left_out
    for pattern, target in places.items():
        for file in written.glob(pattern):
            place = root / target / file.name if "*" in pattern else root / target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    return annotations


@pytest.mark.parametrize("name", CASES)
def test_a_miniature_in_the_declared_layout_converts_by_the_spec_alone(name: str, tmp_path: Path) -> None:
    annotations = _miniature(name, tmp_path)
    split = CASES[name][0]

    for spec in Catalog().find(name):
        ledger = convert(spec, split, tmp_path / "root", tmp_path / "out")

        assert (ledger.records, ledger.quarantined) == (len(annotations), {})
        # A picture without an object has no region to ask about.
        empty = _empty(annotations) if spec.task.id == "region_recognition" else 0
        assert (ledger.samples, sum(ledger.skipped.values())) == (len(annotations) - empty, empty)


def _empty(annotations: list[Annotation]) -> int:
    return sum(not item.instances for item in annotations)


@pytest.mark.parametrize("name", ["duo", "neu_det"])
def test_boxes_come_back_where_they_were_drawn(name: str, tmp_path: Path) -> None:
    annotations = _miniature(name, tmp_path)
    spec = next(one for one in Catalog().find(name) if one.task.id == "detection")

    convert(spec, CASES[name][0], tmp_path / "root", tmp_path / "out")

    found = {
        (sample.images[0].path.rpartition("/")[2], target.label, target.box)
        for sample in read_samples(tmp_path / "out" / name / "detection" / CASES[name][0])
        if isinstance(sample.targets, InstanceTargets)
        for target in sample.targets.instances
    }
    assert found == {
        (item.images[0].path, one.category, one.box) for item in annotations for one in item.instances
    }


@pytest.mark.parametrize("name", CASES)
def test_nothing_but_its_spec_knows_a_dataset(name: str) -> None:
    spec = PROJECT / "task_specs" / "datasets" / f"{name}.yaml"
    code = [
        path
        for folder in ("dataengine", "converters", "trainer")
        for path in (PROJECT / folder).rglob("*.py")
    ]

    assert yaml12.load(spec)["id"] == name
    assert not [path for path in code if name in path.read_text(encoding="utf-8").lower()]
