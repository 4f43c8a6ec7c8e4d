from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from PIL import Image

from dataengine import manifest as manifests
from dataengine.annotation import Annotation
from dataengine.audit.run import audit
from dataengine.catalog import Catalog
from dataengine.check import check_spec
from dataengine.convert import convert
from dataengine.errors import Quarantine
from dataengine.modules import load_builder
from dataengine.sample import InstanceTargets
from dataengine.spec import Resolved


def without_cats(item: Annotation) -> Annotation:
    """An adapter as a user writes it: objects of one class are left out, a picture of dogs alone is refused."""
    kept = tuple(one for one in item.instances if one.category != "cat")
    if len(kept) == len(item.instances):
        raise Quarantine("adapt.no_cat", "nothing to leave out")
    return msgspec.structs.replace(item, instances=kept)


def labels_of(folder: Path) -> list[set[str]]:
    """Return the labels of the objects of each sample."""
    found = []
    for sample in manifests.read_samples(folder):
        assert isinstance(sample.targets, InstanceTargets)
        found.append({one.label for one in sample.targets.instances})
    return found


def test_an_adapter_changes_items_and_rejects_them_one_by_one(tiny: Any) -> None:
    plain, _ = tiny.convert()
    cats = sum("cat" in labels for labels in labels_of(plain))
    tiny.spec.write_text(tiny.spec.read_text() + f"adapt: {__name__}:without_cats\n")

    folder, ledger = tiny.convert()

    assert 0 < cats < 6
    assert (ledger.samples, ledger.quarantined) == (cats, {"adapt.no_cat": 6 - cats})
    assert labels_of(folder) == [{"dog"}] * cats


def test_an_adapter_that_does_not_exist_is_a_mistake_of_the_spec(tiny: Any) -> None:
    tiny.spec.write_text(tiny.spec.read_text() + "adapt: json:no_such_function\n")

    (mistake,) = check_spec(Catalog(), str(tiny.spec))

    assert mistake.endswith("adapt: module 'json' has no function 'no_such_function'")


def test_a_picture_of_another_size_is_converted_again(tiny: Any) -> None:
    folder, before = tiny.convert()
    path = next(iter(manifests.read_samples(folder))).images[0].path
    with Image.open(tiny.root / path) as picture:
        smaller = picture.resize((16, 12))
    smaller.save(tiny.root / path)

    _, after = tiny.convert()

    assert before.quarantined == {}
    assert after.quarantined == {"box.size_mismatch": 1}


def test_another_builder_version_converts_again(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = tiny.convert()
    before = manifests.load(folder).fingerprint
    builder = load_builder("instances", "test")
    newer = SimpleNamespace(VERSION="next", Options=builder.Options, build=builder.build)
    monkeypatch.setattr("dataengine.units.load_builder", lambda name, place: newer)

    tiny.convert()

    assert manifests.load(folder).fingerprint != before


def test_a_picture_that_several_records_show_counts_once(tiny: Any) -> None:
    tiny.repeat(18)

    _, ledger = tiny.convert()

    assert (ledger.records, ledger.images) == (18, 6)


def test_a_number_that_is_none_costs_its_object_and_no_other_record(tiny: Any) -> None:
    document = tiny.document()
    document["annotations"][0]["bbox"][0] = float("nan")
    (tiny.root / "train.json").write_text(json.dumps(document))
    assert "NaN" in (tiny.root / "train.json").read_text()

    _, ledger = tiny.convert()

    assert (ledger.samples, ledger.quarantined) == (6, {"schema": 1})


def test_a_user_module_may_be_a_reader(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_reader.py").write_text(
        "from converters.formats.coco_instances import *\nVERSION = 'mine'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    tiny.spec.write_text(tiny.spec.read_text().replace("format: coco_instances", "format: my_pkg.my_reader"))
    (tmp_path / "my_pkg").mkdir()
    (tmp_path / "my_reader.py").rename(tmp_path / "my_pkg" / "my_reader.py")

    folder, ledger = tiny.convert()

    assert ledger.samples == 6
    assert next(iter(manifests.read_samples(folder))).origin.reader == "my_pkg.my_reader mine"


def _voc(tmp_path: Path, *names: bytes) -> Resolved:
    """Make a folder of VOC's files of some names, and return the spec that reads it."""
    (tmp_path / "root/xml").mkdir(parents=True)
    (tmp_path / "root/pics").mkdir()
    for name in names:
        place = bytes(tmp_path / "root") + b"/"
        text = b"<annotation><object><name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"  # noqa: E501
        Path((place + b"xml/" + name + b".xml").decode(errors="surrogateescape")).write_bytes(text)
        with Path((place + b"pics/" + name + b".jpg").decode(errors="surrogateescape")).open("wb") as file:
            Image.new("RGB", (16, 12)).save(file, "JPEG")
    spec = tmp_path / "odd.yaml"
    spec.write_text(
        "id: odd\ntitle: t\nlicense: {annotations: x, images: x}\nstatus: layout\ntasks: {detection: {}}\n"
        "source: {format: voc_xml, annotations: xml, images: pics, splits: {train: {}}}\n"
    )
    (found,) = Catalog().find(str(spec))
    return found


def test_a_file_whose_name_is_no_utf8_costs_its_own_record_alone(tmp_path: Path) -> None:
    spec = _voc(tmp_path, b"good", b"b\xff\xfed", "größe".encode())

    ledger = convert(spec, "train", tmp_path / "root", tmp_path / "out")

    assert (ledger.samples, ledger.quarantined) == (2, {"path.invalid": 1})


def test_a_file_that_is_listed_and_cannot_be_read_is_counted(tmp_path: Path) -> None:
    spec = _voc(tmp_path, b"good", b"away")
    away = tmp_path / "root/xml/away.xml"
    away.rename(tmp_path / "away.xml")
    away.symlink_to(tmp_path / "away.xml")

    ledger = convert(spec, "train", tmp_path / "root", tmp_path / "out")
    (report,) = audit([tmp_path / "root"], format_name="voc_xml", options={"annotations": "xml"}).accounts

    assert (ledger.records, ledger.samples, ledger.quarantined) == (2, 1, {"path.outside": 1})
    assert (report.records, report.quarantined) == (2, {"path.outside": 1})
