from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dataengine import ledger as ledgers
from dataengine import manifest as manifests
from dataengine.audit.report import write
from dataengine.audit.run import audit, broken, rates
from dataengine.audit.state import Report, explain
from dataengine.errors import SourceError, SpecError
from dataengine.shard import shard

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _rules(report: Report) -> dict[str, int]:
    return dict(Counter(finding.rule for finding in report.findings))


def test_a_sound_manifest_has_no_finding_and_its_account(tiny: Tiny) -> None:
    tiny.convert()

    report = audit([tiny.out])

    (account,) = report.accounts
    assert list(report.findings) == []
    assert (account.subject, account.records, account.samples) == ("tiny/detection/train", 6, 6)
    assert (account.objects, account.images) == (12, 6)
    assert account.labels == {"dog": 8, "bird": 2, "cat": 2}
    assert account.licenses == {"CC-BY-4.0": 6}
    assert report.checked == {"unit": 6, "sample": 6, "target": 12, "annotation": 6, "box": 12, "picture": 6}


def _outside(document: dict[str, Any], _: Path) -> None:
    document["annotations"][0]["bbox"] = [20, 10, 30, 8]


def _degenerate(document: dict[str, Any], _: Path) -> None:
    document["annotations"][0]["bbox"] = [5, 5, 0, 5]


def _missing(_: dict[str, Any], root: Path) -> None:
    (root / "images/001.jpg").unlink()


def _wrong_name(_: dict[str, Any], root: Path) -> None:
    Image.linear_gradient("L").resize((32, 24)).save(root / "images/001.jpg", "PNG")


def _cut(_: dict[str, Any], root: Path) -> None:
    data = (root / "images/002.png").read_bytes()
    (root / "images/002.png").write_bytes(data[:-40])


def _turned(document: dict[str, Any], root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.linear_gradient("L").resize((32, 24)).save(root / "images/001.jpg", exif=exif)


def _unlicensed(document: dict[str, Any], _: Path) -> None:
    document["licenses"] = [{"id": 1, "name": "unknown"}]
    document["images"][0]["license"] = 1


def _object_twice(document: dict[str, Any], _: Path) -> None:
    document["annotations"].append(document["annotations"][0])


@pytest.mark.parametrize(
    ("damage", "rules"),
    [
        (_outside, {"box.outside": 1}),
        (_degenerate, {"box.degenerate": 1}),
        (_missing, {"image.missing": 1}),
        (_wrong_name, {"image.format_vs_extension": 1}),
        (_cut, {"image.corrupt": 1}),
        (_turned, {"image.exif_orientation": 1}),
        (_unlicensed, {"license.missing": 2}),
        (_object_twice, {"id.duplicate": 1, "box.duplicate": 1}),
    ],
)
def test_each_defect_of_a_source_is_found_in_its_manifest(
    tiny: Tiny, damage: Callable[[dict[str, Any], Path], None], rules: dict[str, int]
) -> None:
    document = tiny.document()
    damage(document, tiny.root)
    tiny.write(document)
    tiny.convert()

    assert _rules(audit([tiny.out])) == rules


def test_a_rate_is_hits_by_the_places_that_the_rule_looked_at_and_a_budget_holds_it(tiny: Tiny) -> None:
    document = tiny.document()
    document["annotations"][0]["bbox"] = [5, 5, 0, 5]
    document["annotations"][1]["bbox"] = [20, 10, 30, 8]
    tiny.write(document)

    tiny.convert()
    report = audit([tiny.out])
    strict = tiny.spec.read_text()
    tiny.spec.write_text(f"{strict}budgets: {{box.degenerate: 0.1, box.outside: 0.05}}\n")
    tiny.convert()

    found = {one.rule: (one.hits, round(one.share, 3)) for one in rates(report)}
    assert found == {"box.degenerate": (1, 0.083), "box.outside": (1, 0.083)}
    assert [(one.rule, one.hits, one.checked, one.budget) for one in broken(report)] == [
        ("box.degenerate", 1, 12, 0.001)
    ]
    assert [(one.rule, one.budget) for one in broken(audit([tiny.out]))] == [("box.outside", 0.05)]


def test_a_count_that_the_spec_states_and_the_data_does_not_have_is_found(tiny: Tiny) -> None:
    tiny.spec.write_text(
        tiny.spec.read_text().replace("use: train", "use: train, images_expected: 7, records_expected: 6")
    )
    tiny.convert()

    (finding,) = audit([tiny.out]).findings

    assert (finding.rule, finding.detail) == ("count.expected", "6 images, the spec states 7")


def test_a_ledger_that_was_changed_is_found(tiny: Tiny) -> None:
    directory, ledger = tiny.convert()
    changed = msgspec.structs.replace(ledger, samples=5, skipped={"unit.none": 2})
    (directory / "ledger.json").write_bytes(ledgers.dump(changed))

    assert _rules(audit([tiny.out])) == {"ledger.unbalanced": 3}


def test_a_changed_sample_is_explained_in_full(tiny: Tiny) -> None:
    directory, _ = tiny.convert()
    rows = pq.read_table(directory / "samples.parquet").to_pylist()
    record = json.loads(rows[0]["sample"])
    record["images"][0]["width"] = "wide"
    record["strange"] = 1
    rows[0]["sample"] = json.dumps(record).encode()
    rows[1]["sample"] = rows[2]["sample"]
    pq.write_table(pa.Table.from_pylist(rows, manifests.SAMPLE_SCHEMA), directory / "samples.parquet")

    report = audit([tiny.out])

    details = sorted(finding.detail for finding in report.findings if finding.rule == "schema")
    assert _rules(report) == {"schema": 2, "id.duplicate": 1}
    assert (
        details[0].startswith("$.images[0].width: 'wide' is not of type 'integer'") or "width" in details[1]
    )
    assert any("strange" in detail for detail in details)


def test_what_is_no_json_is_said_to_be_none() -> None:
    assert explain(b"{")[0].startswith("not JSON")


def test_a_shard_set_that_trains_on_what_it_evaluates_on_has_no_other_finding(tiny_shards: Path) -> None:
    report = audit([tiny_shards])

    assert [(one.rule, one.image, one.detail) for one in report.findings] == [
        ("split.overlap", name, f"{name}: the picture is in tiny/detection/other")
        for name in ("images/007.jpg", "images/008.png", "images/009.jpg")
    ]
    assert report.checked == {"sample": 12, "target": 24, "picture": 12}
    assert report.accounts[0].samples == 12


def test_damaged_and_missing_shards_are_found_and_the_rest_is_looked_at(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    shard([tiny.out], tmp_path / "s", samples_per_shard=2)
    first, second, _ = sorted((tmp_path / "s").glob("*.tar"))
    data = bytearray(first.read_bytes())
    data[700] ^= 255
    first.write_bytes(data)
    second.unlink()

    report = audit([tmp_path / "s"])

    assert set(_rules(report)) <= {"shard.damaged", "schema", "image.corrupt"}
    named = " ".join(finding.detail for finding in report.findings)
    assert str(first) in named
    assert f"{second}: missing" in named
    assert report.checked["sample"] == 4


def test_pictures_dropped_by_sharding_keep_the_account_balanced(tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    (tiny.root / "images/001.jpg").unlink()
    shard([tiny.out], tmp_path / "s")
    assert _rules(audit([tmp_path / "s"])) == {}

    text = (tmp_path / "s/shards.json").read_text()
    document = json.loads(text)
    document["dropped"] = []
    (tmp_path / "s/shards.json").write_text(json.dumps(document))

    assert _rules(audit([tmp_path / "s"])) == {"ledger.unbalanced": 1}


def test_a_foreign_file_is_audited_without_conversion(tiny: Tiny) -> None:
    document = tiny.document()
    document["images"][0]["width"] = 20
    document["images"].append({"id": "no name"})
    tiny.write(document)

    report = audit([tiny.root / "train.json"], format_name="coco_instances")

    assert _rules(report) == {"box.outside": 1, "schema": 1, "license.missing": 1}
    assert (report.accounts[0].records, report.accounts[0].quarantined) == (7, {"schema": 1})


def test_a_file_whose_name_is_no_utf8_is_one_finding_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "data/xml").mkdir(parents=True)
    for stem in ("good", "b\udcff"):  # a byte that is no UTF-8, as Python writes it in a name
        document = "<annotation><size><width>8</width><height>6</height></size></annotation>"
        (tmp_path / "data/xml" / f"{stem}.xml").write_text(document)

    options = {"annotations": "xml", "images": "pictures"}
    report = audit([tmp_path / "data"], format_name="voc_xml", options=options)
    write(report, tmp_path / "report")

    assert [one.detail for one in report.findings if one.rule == "path.invalid"] == [
        "'b\\\\udcff': the file's name is not UTF-8"
    ]
    assert report.accounts[0].quarantined == {"path.invalid": 1}


def test_workers_change_no_finding(tiny: Tiny) -> None:
    _wrong_name({}, tiny.root)
    _cut({}, tiny.root)
    tiny.convert()

    one, two = audit([tiny.out]), audit([tiny.out], workers=2)

    assert (one.accounts, one.checked) == (two.accounts, two.checked)
    assert len(one.findings) == 2
    assert list(one.findings) == list(two.findings)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"format_name": "coco_instance"}, SpecError),
        ({"format_name": "coco_instances", "options": {"imagse": "x"}}, SpecError),
        ({"format_name": "coco_instances", "options": {"annotations": "absent.json"}}, SourceError),
    ],
)
def test_what_cannot_be_audited_is_one_line(
    tiny: Tiny, arguments: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind) as caught:
        audit([tiny.root / "train.json"], **arguments)

    assert "\n" not in str(caught.value)
