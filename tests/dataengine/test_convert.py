from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dataengine import ledger as ledgers
from dataengine import manifest as manifests
from dataengine.errors import BudgetBroken, EmptySplit, SourceError, SpecError
from dataengine.sample import InstanceTargets, Sample

if TYPE_CHECKING:
    from tests.conftest import Tiny

FILES = ("samples.parquet", "quarantine.parquet", "manifest.json", "ledger.json")


def _bytes(directory: Path, names: tuple[str, ...] = FILES) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in names}


def _samples(directory: Path) -> list[Sample]:
    return list(manifests.read_samples(directory))


def _lost(directory: Path) -> list[tuple[str, str]]:
    rows = pq.read_table(directory / "quarantine.parquet").to_pylist()
    return [(row["record"], row["reason"]) for row in rows]


def test_every_image_becomes_a_sample_with_its_objects(tiny: Tiny) -> None:
    directory, ledger = tiny.convert()

    samples = _samples(directory)

    assert (ledger.units, ledger.samples, ledger.skipped, ledger.quarantined) == (6, 6, {}, {})
    assert (ledger.records, ledger.images, ledger.objects_read) == (6, 6, 12)
    assert [sample.id for sample in samples] == [f"tiny/train/{n}#detection" for n in range(1, 7)]
    targets = samples[0].targets
    assert isinstance(targets, InstanceTargets)
    assert {(one.label, one.box) for one in targets.instances} == {
        ("dog", (2, 3, 11, 9)),
        ("dog", (16, 12, 25, 18)),
    }
    assert samples[0].origin.file == "train.json"
    assert samples[0].origin.record == "images[0]"
    assert (samples[0].images[0].format, samples[1].images[0].format) == ("jpeg", "png")


def test_the_license_of_a_picture_is_the_records_own_where_it_states_one(tiny: Tiny) -> None:
    document = tiny.document()
    document["licenses"] = [{"id": 4, "name": "CC-BY-SA-2.0"}]
    document["images"][2]["license"] = 4
    tiny.write(document)

    directory, _ = tiny.convert()

    licenses = [sample.license.images for sample in _samples(directory)]
    assert licenses == ["CC-BY-4.0", "CC-BY-4.0", "CC-BY-SA-2.0", *["CC-BY-4.0"] * 3]


# What can be put anywhere in a record: other types, numbers that no picture has, and text that tries to break out.
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        ["../../x.jpg", "/etc/passwd", "001.jpg", "a\0b", "x" * 5000, "[DET]", "<image>", "\u202e"]
    ),
    st.lists(st.integers(-5, 50), max_size=6),
    st.dictionaries(st.sampled_from(["id", "counts", "size"]), st.integers(0, 9), max_size=2),
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damage=st.lists(
        st.tuples(st.sampled_from(["images", "annotations"]), st.integers(0, 11), st.integers(0, 6), JUNK),
        max_size=8,
    )
)
def test_units_are_samples_and_skipped_and_quarantined_whatever_the_damage(
    tiny: Tiny, damage: list[tuple[str, int, int, Any]]
) -> None:
    document = tiny.document()
    for part, number, field, value in damage:
        record = document[part][number % len(document[part])]
        record[sorted(record)[field % len(record)]] = value
    content = json.dumps(document)

    with tempfile.TemporaryDirectory(dir=tiny.root.parent) as folder:
        (tiny.root / "damaged.json").write_text(content)
        spec = Path(folder) / "tiny.yaml"
        spec.write_text(tiny.spec.read_text().replace("train.json", "damaged.json"))
        directory, ledger = type(tiny)(root=tiny.root, spec=spec, out=Path(folder)).convert()

        lost = pq.read_table(directory / "quarantine.parquet").to_pylist()
        samples = _samples(directory)

    assert ledger.units == ledger.samples + sum(ledger.skipped.values()) + sum(ledger.quarantined.values())
    assert len(samples) == ledger.samples
    assert len(lost) == ledger.units - ledger.samples
    assert all(re.fullmatch(r"[a-z_]+\.[a-z_]+|schema", row["reason"]) for row in lost)
    hurt = {str(document["images"][number % 6]["id"]) for part, number, _, _ in damage if part == "images"}
    hurt |= {str(number % 6 + 1) for part, number, _, _ in damage if part == "images"}
    hurt |= {str(number // 2 + 1) for part, number, _, _ in damage if part == "annotations"}
    hurt |= {
        str(document["annotations"][number]["image_id"]) for part, number, _, _ in damage if part != "images"
    }
    served = {sample.id for sample in samples}
    assert served >= {f"tiny/train/{n}#detection" for n in range(1, 7) if str(n) not in hurt}


def _damage_bbox(document: dict[str, Any], _: Path) -> None:
    document["annotations"][0]["bbox"] = {"x": [1, {"y": "deep"}]}


def _lose_picture(_: dict[str, Any], root: Path) -> None:
    (root / "images/001.jpg").unlink()


def _climb_out(document: dict[str, Any], _: Path) -> None:
    document["images"][0]["file_name"] = "../../secret.jpg"


def _absolute(document: dict[str, Any], root: Path) -> None:
    document["images"][0]["file_name"] = str(root / "images/001.jpg")


def _link_out(_: dict[str, Any], root: Path) -> None:
    Image.new("RGB", (32, 24)).save(root.parent / "outside.jpg")
    (root / "images/001.jpg").unlink()
    (root / "images/001.jpg").symlink_to(root.parent / "outside.jpg")


def _bomb(_: dict[str, Any], root: Path) -> None:
    (root / "images/001.jpg").write_bytes(_png_header(60_000, 60_000))


def _cut(_: dict[str, Any], root: Path) -> None:
    (root / "images/001.jpg").write_bytes(b"\xff\xd8\xff")


def _other_size(document: dict[str, Any], _: Path) -> None:
    document["images"][0]["width"] = 64


def _twice(document: dict[str, Any], _: Path) -> None:
    document["images"].append({**document["images"][0], "file_name": "002.png"})


def _orphan(document: dict[str, Any], _: Path) -> None:
    document["annotations"].append({**document["annotations"][0], "image_id": 999})


def _pipe(_: dict[str, Any], root: Path) -> None:
    (root / "images/001.jpg").unlink()
    os.mkfifo(root / "images/001.jpg")


def _folder(_: dict[str, Any], root: Path) -> None:
    (root / "images/001.jpg").unlink()
    (root / "images/001.jpg").mkdir()


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("damage", "record", "reason"),
    [
        (_lose_picture, "images[0]", "image.missing"),
        (_climb_out, "images[0]", "path.outside"),
        (_absolute, "images[0]", "image.missing"),
        (_link_out, "images[0]", "path.outside"),
        (_bomb, "images[0]", "image.too_large"),
        (_cut, "images[0]", "image.corrupt"),
        (_pipe, "images[0]", "path.invalid"),
        (_folder, "images[0]", "image.corrupt"),
        (_other_size, "images[0]", "box.size_mismatch"),
    ],
)
def test_a_bad_picture_costs_its_own_sample_and_no_other(
    tiny: Tiny, damage: Callable[[dict[str, Any], Path], None], record: str, reason: str
) -> None:
    document = tiny.document()
    damage(document, tiny.root)
    tiny.write(document)

    directory, ledger = tiny.convert()

    assert (ledger.units, ledger.samples, ledger.quarantined) == (6, 5, {reason: 1})
    assert _lost(directory) == [(record, reason)]


@pytest.mark.parametrize(
    ("damage", "record", "reason"),
    [
        (_damage_bbox, "annotations[0]", "schema"),
        (_twice, "images[6]", "id.duplicate"),
        (_orphan, "annotations[12]", "id.orphan"),
    ],
)
def test_a_bad_record_is_a_unit_of_its_own_and_costs_no_sample(
    tiny: Tiny, damage: Callable[[dict[str, Any], Path], None], record: str, reason: str
) -> None:
    document = tiny.document()
    damage(document, tiny.root)
    tiny.write(document)

    directory, ledger = tiny.convert()

    assert (ledger.units, ledger.samples, ledger.quarantined) == (7, 6, {reason: 1})
    assert _lost(directory) == [(record, reason)]


def test_an_object_that_cannot_be_read_is_neither_target_nor_proof_of_absence(tiny: Tiny) -> None:
    document = tiny.document()
    document["annotations"][1]["bbox"] = "a text"
    tiny.write(document)

    directory, _ = tiny.convert()

    targets = _samples(directory)[0].targets
    assert isinstance(targets, InstanceTargets)
    assert len(targets.instances) == 1
    assert not targets.exhaustive


def test_a_png_named_jpg_is_converted_as_the_png_that_it_is(tiny: Tiny) -> None:
    Image.new("RGB", (32, 24)).save(tiny.root / "images/001.jpg", "PNG")

    directory, ledger = tiny.convert()

    assert ledger.samples == 6
    assert _samples(directory)[0].images[0].format == "png"


@pytest.mark.parametrize(
    ("stated", "lost"), [((32, 24), {"image.exif_orientation": 1}), ((24, 32), {}), ((None, None), {})]
)
def test_a_turned_jpeg_fits_only_a_stated_size_after_its_turn(
    tiny: Tiny, stated: tuple[int | None, int | None], lost: dict[str, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (32, 24)).save(tiny.root / "images/001.jpg", exif=exif)
    document = tiny.document()
    document["images"][0]["width"], document["images"][0]["height"] = stated
    tiny.write(document)

    directory, ledger = tiny.convert()

    assert ledger.quarantined == lost
    if not lost:
        image = _samples(directory)[0].images[0]
        assert (image.width, image.height) == (24, 32)


CAPTION_SPEC = """\
id: tiny
title: Captions
license: {annotations: CC0-1.0, images: CC0-1.0}
source:
  format: coco_captions
  images: images
  splits: {train: {annotations: captions.json}}
tasks: {caption: {}}
status: layout
"""


def _captions(tiny: Tiny, *texts: Any) -> None:
    tiny.spec.write_text(CAPTION_SPEC)
    images = tiny.document()["images"][: len(texts)]
    records = [
        {"id": n, "image_id": image["id"], "caption": text}
        for n, (image, text) in enumerate(zip(images, texts, strict=True))
    ]
    (tiny.root / "captions.json").write_text(json.dumps({"images": images, "annotations": records}))


@pytest.mark.parametrize(
    "text",
    ["a cat [SEG] it", "look: <image>", "a [det] b", "</s> ignore all", "<|im_start|>system", "a <reg> b"],
)
def test_a_token_of_the_model_in_a_caption_is_quarantined(tiny: Tiny, text: str) -> None:
    _captions(tiny, "a red box", text, "a [bracket] and a <tag>")

    directory, ledger = tiny.convert(task="caption")

    assert ledger.quarantined == {"text.special_token": 1}
    assert [sample.conversation[1].text for sample in _samples(directory)] == [
        "a red box",
        "a [bracket] and a <tag>",
    ]


@pytest.mark.parametrize("name", ["[DET]", "</s>", "<|im_end|>", "<image>", "<reg>", "[det]", "a [EMB] b"])
def test_a_token_of_the_model_in_a_category_name_reaches_no_sample(tiny: Tiny, name: str) -> None:
    document = tiny.document("val")
    document["categories"][2]["name"] = name
    tiny.write(document, "val")

    directory, ledger = tiny.convert("val", allow_empty=True)  # To evaluate, every prompt names every class.

    assert sum(ledger.quarantined.values()) == 3
    assert {reason.split(".")[0] for reason in ledger.quarantined} <= {"text", "token", "media"}
    assert _samples(directory) == []


def test_a_token_in_the_name_of_an_object_costs_only_the_samples_that_would_say_it(tiny: Tiny) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("detection: {}", "detection: {max_classes: 1}"))
    document = tiny.document()
    document["categories"][2]["name"] = "</s>"
    tiny.write(document)

    directory, ledger = tiny.convert()

    said = [route.name for sample in _samples(directory) for route in sample.routes]
    assert 0 < ledger.samples < 6
    assert ledger.quarantined == {"text.special_token": 6 - ledger.samples}
    assert set(said) <= {"cat", "dog"}


def test_a_nul_in_a_caption_is_quarantined(tiny: Tiny) -> None:
    _captions(tiny, "a\0b", "fine")

    _, ledger = tiny.convert(task="caption")

    assert ledger.quarantined == {"text.control": 1}


def test_an_id_that_two_units_share_stays_with_the_first(tiny: Tiny) -> None:
    _captions(tiny, "one", "two", "three")
    document = json.loads((tiny.root / "captions.json").read_text())
    for record in document["annotations"]:
        record["id"], record["image_id"] = 5, 1
    (tiny.root / "captions.json").write_text(json.dumps(document))

    directory, ledger = tiny.convert(task="caption")

    texts = [sample.conversation[1].text for sample in _samples(directory)]
    assert len({sample.id for sample in _samples(directory)}) == len(texts)
    assert ledger.units == ledger.samples + sum(ledger.quarantined.values()) + sum(ledger.skipped.values())


def test_a_truncated_file_is_one_error_that_names_it(tiny: Tiny) -> None:
    whole = (tiny.root / "train.json").read_text()
    (tiny.root / "train.json").write_text(whole[: len(whole) // 2])

    with pytest.raises(SourceError, match=r"^train\.json") as caught:
        tiny.convert()

    assert "\n" not in str(caught.value)
    assert not (tiny.out / "tiny/detection/train/ledger.json").exists()


def test_a_source_that_cannot_be_read_any_more_leaves_no_old_answer(tiny: Tiny) -> None:
    directory, _ = tiny.convert()
    (tiny.root / "train.json").write_text('{"images": [')

    with pytest.raises(SourceError):
        tiny.convert()

    with pytest.raises(SourceError, match="no finished manifest here"):
        manifests.load(directory)


def test_a_missing_file_is_named_with_the_key_that_needs_it(tiny: Tiny) -> None:
    (tiny.root / "train.json").unlink()

    with pytest.raises(
        SourceError, match=r"train\.json: no such file; the spec needs it as source\.annotations"
    ):
        tiny.convert()


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("title: Tiny", "titel: Tiny", 2, "unknown key 'titel'; did you mean 'title'?"),
        ("annotations: train.json", "annotation: train.json", 8, "did you mean 'annotations'?"),
        (
            "detection: {}",
            "detection: {max_clases: 3}",
            11,
            "unknown key 'max_clases'; did you mean 'max_classes'?",
        ),
        ("use: train", "use: trian", 8, "invalid enum value 'trian'"),
    ],
)
def test_a_wrong_key_of_a_spec_is_named_with_its_line(
    tiny: Tiny, old: str, new: str, line: int, says: str
) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace(old, new))

    with pytest.raises(SpecError) as caught:
        tiny.convert()

    assert str(caught.value).startswith(f"{tiny.spec}:{line}: ")
    assert says in str(caught.value)


def test_a_split_of_which_nothing_is_left_fails_and_says_why(tiny: Tiny) -> None:
    for path in (tiny.root / "images").glob("00[1-4].*"):
        path.unlink()
    for path in (tiny.root / "images").glob("00[56].*"):
        path.write_bytes(b"no picture")

    with pytest.raises(EmptySplit) as caught:
        tiny.convert()

    assert str(caught.value) == (
        "tiny/detection train: no sample of 6 units (image.missing 4, image.corrupt 2), expected some; see"
        " quarantine.parquet and the spec, or give --allow-empty where this is right"
    )
    ledger = ledgers.load(tiny.out / "tiny/detection/train/ledger.json")
    assert (ledger.samples, ledger.units) == (0, 6)
    assert tiny.convert(allow_empty=True)[1] == ledger


@pytest.mark.parametrize(
    ("expected", "right"), [("", False), ("records_expected: 3, ", False), ("records_expected: 0, ", True)]
)
def test_a_source_without_records_is_right_where_the_spec_expects_none(
    tiny: Tiny, expected: str, right: bool
) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("train: {", f"train: {{{expected}"))
    tiny.write({**tiny.document(), "images": [], "annotations": []})

    with nullcontext() if right else pytest.raises(EmptySplit, match="the source has no record for it"):
        assert tiny.convert()[1].units == 0


def test_a_spec_that_expects_no_records_does_not_hide_that_all_are_lost(tiny: Tiny) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("train: {", "train: {records_expected: 0, "))
    shutil.rmtree(tiny.root / "images")

    with pytest.raises(EmptySplit, match=r"no sample of 6 units \(image.missing 6\)"):
        tiny.convert()


def test_a_broken_budget_is_an_error_after_the_account_is_written(tiny: Tiny) -> None:
    tiny.spec.write_text(tiny.spec.read_text() + "budgets: {image.missing: 0.1}\n")
    (tiny.root / "images/001.jpg").unlink()

    with pytest.raises(BudgetBroken, match=r"image\.missing hit 1 of 6 units, budget 0\.1"):
        tiny.convert()
    with pytest.raises(BudgetBroken):  # Asking again does not make it better.
        tiny.convert()

    ledger = ledgers.load(tiny.out / "tiny/detection/train/ledger.json")
    assert (ledger.samples, ledger.quarantined) == (5, {"image.missing": 1})


def test_a_budget_that_just_holds_is_none_broken(tiny: Tiny) -> None:
    tiny.spec.write_text(tiny.spec.read_text() + "budgets: {image.missing: 0.5}\n")
    for number in (1, 3, 5):
        (tiny.root / f"images/00{number}.jpg").unlink()

    _, ledger = tiny.convert()

    assert ledger.quarantined == {"image.missing": 3}


def test_objects_lost_inside_samples_break_a_budget_of_objects(tiny: Tiny) -> None:
    tiny.spec.write_text(tiny.spec.read_text() + "budgets: {box.degenerate: 0.05}\n")
    document = tiny.document()
    document["annotations"][0]["bbox"][2] = 0
    tiny.write(document)

    with pytest.raises(BudgetBroken, match=r"box\.degenerate hit 1 of 12 objects"):
        tiny.convert()


def test_a_second_run_changes_no_file(tiny: Tiny) -> None:
    directory, first = tiny.convert()
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}

    _, second = tiny.convert()

    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before
    assert second == first


def test_a_changed_source_is_converted_again(tiny: Tiny) -> None:
    directory, _ = tiny.convert()
    document = tiny.document()
    document["annotations"][0]["bbox"] = [4, 4, 9, 9]
    tiny.write(document)

    tiny.convert()

    targets = _samples(directory)[0].targets
    assert isinstance(targets, InstanceTargets)
    assert (4, 4, 13, 13) in {one.box for one in targets.instances}


def test_a_changed_spec_seed_or_limit_is_converted_again(tiny: Tiny) -> None:
    directory, _ = tiny.convert()
    first = _bytes(directory)

    seeded = tiny.convert(seed=1) and _bytes(directory)
    limited, ledger = tiny.convert(limit=2)
    tiny.spec.write_text(tiny.spec.read_text().replace("detection: {}", "detection: {max_classes: 1}"))
    tiny.convert()

    assert seeded["samples.parquet"] != first["samples.parquet"]
    assert ledger.units == 2
    assert all(len(sample.routes) <= 1 for sample in _samples(limited))


def test_a_picture_that_was_missing_and_came_is_converted(tiny: Tiny) -> None:
    picture = (tiny.root / "images/001.jpg").read_bytes()
    (tiny.root / "images/001.jpg").unlink()
    _, before = tiny.convert()
    (tiny.root / "images/001.jpg").write_bytes(picture)

    _, after = tiny.convert()

    assert (before.samples, after.samples) == (5, 6)


def test_a_lost_samples_file_is_made_again(tiny: Tiny) -> None:
    directory, _ = tiny.convert()
    before = _bytes(directory)
    (directory / "samples.parquet").unlink()

    tiny.convert()

    assert _bytes(directory) == before


def test_a_limited_run_over_lines_notices_a_changed_source(tiny: Tiny) -> None:
    tiny.spec.write_text(
        tiny.spec.read_text()
        .replace("coco_instances", "image_prompt_jsonl")
        .replace("train.json", "train.jsonl")
        .replace("val.json", "train.jsonl")
        .replace("detection", "text_to_image")
    )
    lines = [{"image": f"{n:03d}.{'jpg' if n % 2 else 'png'}", "prompt": f"box {n}"} for n in range(1, 7)]
    (tiny.root / "train.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    _, before = tiny.convert(task="text_to_image", limit=2)
    lines[0]["prompt"] = "another box"
    (tiny.root / "train.jsonl").write_text("\n".join(json.dumps(line) for line in lines))

    directory, after = tiny.convert(task="text_to_image", limit=2)

    written = (directory / "samples.parquet").stat().st_mtime_ns
    tiny.convert(task="text_to_image", limit=2)

    assert (directory / "samples.parquet").stat().st_mtime_ns == written
    assert (before.units, after.units) == (2, 2)
    assert any("another box" in turn.text for turn in _samples(directory)[0].conversation)


def test_a_split_without_records_is_an_empty_manifest(tiny: Tiny) -> None:
    tiny.write({**tiny.document(), "images": [], "annotations": []})

    directory, ledger = tiny.convert(allow_empty=True)

    assert (ledger.units, ledger.samples) == (0, 0)
    assert _samples(directory) == []


def test_workers_change_no_byte(tiny: Tiny, tmp_path: Path) -> None:
    tiny.repeat(1100)

    one, _ = tiny.convert(out=tmp_path / "one", workers=1)
    two, _ = tiny.convert(out=tmp_path / "two", workers=2)

    assert _bytes(one) == _bytes(two)
    assert not list(tmp_path.glob("*/tiny/detection/train/.*"))


def test_the_order_of_records_changes_no_sample(tiny: Tiny, tmp_path: Path) -> None:
    first, _ = tiny.convert(out=tmp_path / "one")
    document = tiny.document()
    document["images"].reverse()
    tiny.write(document)

    second, _ = tiny.convert(out=tmp_path / "two")

    def told(directory: Path) -> dict[str, Any]:
        return {one.id: (one.conversation, one.targets) for one in _samples(directory)}

    assert told(first) == told(second)


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dataengine", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tiny: Tiny, tmp_path: Path) -> None:
    tiny.repeat(9000)
    whole, _ = tiny.convert(out=tmp_path / "whole")
    directory = tmp_path / "killed/tiny/detection/train"
    process = _start("convert", str(tiny.spec), "--root", str(tiny.root), "--out", str(tmp_path / "killed"),
                     "--split", "train")  # fmt: skip
    deadline = time.monotonic() + 30
    while not list(directory.glob(".parts/0*.msgpack")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    parts = {path: path.stat().st_mtime_ns for path in directory.glob(".parts/0*.msgpack")}
    assert 0 < len(parts) < 18
    assert not (directory / "ledger.json").exists()

    seen: list[int] = []
    kept: list[dict[Path, int]] = []

    def look(count: int, text: str) -> None:
        seen.append(count)
        kept.append({path: path.stat().st_mtime_ns for path in parts})

    tiny.convert(out=tmp_path / "killed", progress=look)

    assert _bytes(directory) == _bytes(whole)
    assert sum(seen) == 9000
    assert kept[-1] == parts  # what was done is not done again


def test_a_full_disk_is_one_line_and_the_next_run_finishes(tiny: Tiny, tmp_path: Path) -> None:
    tiny.repeat(1100)
    whole, _ = tiny.convert(out=tmp_path / "whole")
    out = tmp_path / "full"
    code = (
        "import resource, sys; from dataengine.cli import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); main(sys.argv[2:])"
    )
    arguments = ["convert", str(tiny.spec), "--root", str(tiny.root), "--out", str(out), "--split", "train"]
    table = (whole / "samples.parquet").stat().st_size

    for limit in (10_000, table - 5000):  # in the middle of a part, and in the middle of the table
        command = [sys.executable, "-c", code, str(limit), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert "cannot be written: File too large; free space" in done.stderr
        assert not (out / "tiny/detection/train/ledger.json").exists()
    directory, _ = tiny.convert(out=out)

    assert _bytes(directory) == _bytes(whole)
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)


def test_a_part_of_a_killed_run_is_not_used_for_another_label_space(tiny: Tiny, tmp_path: Path) -> None:
    document = tiny.document()
    tiny.write({**document, "categories": [*document["categories"], {"id": 9, "name": "horse"}]})
    expected, _ = tiny.convert(out=tmp_path / "expected")
    tiny.write(document)
    out = tmp_path / "out"

    class Killed(BaseException):
        pass

    def kill(count: int, text: str) -> None:
        raise Killed

    with pytest.raises(Killed):
        tiny.convert(out=out, progress=kill)
    assert list(out.glob("tiny/detection/train/.parts/0*.msgpack"))
    tiny.write({**document, "categories": [*document["categories"], {"id": 9, "name": "horse"}]})

    directory, _ = tiny.convert(out=out)

    assert _bytes(directory) == _bytes(expected)


def test_a_category_outside_the_named_label_space_quarantines_its_picture(tiny: Tiny) -> None:
    tiny.spec.write_text(tiny.spec.read_text() + "labels: coco80\n")
    document = tiny.document()
    document["categories"][0]["name"] = "unicorn"
    tiny.write(document)

    directory, ledger = tiny.convert()

    unicorns = sum(one["category_id"] == 1 for one in document["annotations"])
    assert ledger.quarantined == {"category.unknown": unicorns}
    assert len(_samples(directory)) == 6 - unicorns
