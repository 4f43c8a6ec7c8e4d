"""From every sample there is a way to its record and back, and from every step to its samples and back."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from dataengine import sample as samples
from dataengine.became import became
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.demo.prepare import prepare
from dataengine.errors import ShardError, SourceError
from dataengine.index import Index
from dataengine.manifest import QUARANTINE, SAMPLES, find, load
from dataengine.origins import find_record
from dataengine.render import RenderOptions
from dataengine.shard import shard
from dataengine.stream import Stream, recipe
from dataengine.trace import served_by, step_of, steps_of, trace

if TYPE_CHECKING:
    from tests.conftest import Tiny

STEPS, BATCH = 12, 3
SPECS = Path(__file__).parents[1] / "conformance/specs"
DEMO = ("demo_coco", "demo_captions", "demo_voc", "demo_refcoco", "demo_vqa", "demo_llava", "demo_edits")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the shards of the demo's photographs in seven layouts, their manifests beside them."""
    folder = tmp_path_factory.mktemp("demo")
    prepare(folder / "data")
    for name in DEMO:
        for spec in Catalog().find(name):
            for split in spec.splits:
                convert(spec, split, folder / "data", folder / "manifests")
    shard([folder / "manifests"], folder / "shards", samples_per_shard=50)
    return folder / "shards"


@pytest.fixture
def run(tiny_shards: Path, tmp_path: Path) -> Path:
    """Return what a run writes whose words are made anew in every pass; the first sample of a step is skipped."""
    config = {"seed": 4, "global_batch": BATCH, "mixture": {"policy": "uniform"}, "render": "each_epoch"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    stream = _stream(tiny_shards)
    with (tmp_path / "served.jsonl").open("w") as file:
        for step in range(STEPS):
            first, *ids = [stream.entry(step * BATCH + place)["id"] for place in range(BATCH)]
            line = {"step": step + 1, "ids": ids, "skipped": [[first, "image.corrupt"]]}
            file.write(json.dumps(line) + "\n")
    return tmp_path


def _stream(shards: Path) -> Stream:
    made = recipe(mode="unmixed", seed=4, global_batch=BATCH, policy="uniform")
    return Stream(shards, made, render=RenderOptions())


def test_every_sample_leads_to_its_record_and_the_record_to_it(demo: Path) -> None:
    index = Index(demo)
    ids = index.table.column("id").to_pylist()
    by_source = [
        index.row(int(row))["id"] for rows in index.rows_by_source.values() for row in (rows[0], rows[-1])
    ]

    for one in [*random.Random(3).sample(ids, 12), *by_source]:
        found = trace(index, one)
        back = became(demo, f"{found.file}:{found.record}")

        assert (found.notes, found.source.note, found.whole) == ((), "", True)
        assert all(picture.whole for picture in found.pictures) and found.source.at
        assert one in {unit.id for unit in back.units if unit.outcome == "sample"}
        assert {(unit.file, unit.record) for unit in back.units} == {(found.file, found.record)}
        (unit,) = [unit for unit in back.units if unit.id == one]
        assert (unit.shard, unit.offset) == (found.shard, found.offset)


def test_a_sample_of_coco_is_read_where_its_trace_points(demo: Path) -> None:
    found = trace(Index(demo), "demo_coco/train/5#detection")
    data = (demo.parent / "data/coco/instances.json").read_bytes()

    assert (found.record, found.source.at) == ("images[4]", "$.images[4]")
    assert json.loads(data[found.source.start : found.source.stop])["id"] == 5
    records = [json.loads(data[one.start : one.stop]) for one in found.source.parts]
    assert records and {one["image_id"] for one in records} == {5}
    tar = (demo / found.shard).read_bytes()
    assert samples.decode(tar[found.offset : found.offset + found.size]).conversation == found.conversation
    assert [found.seed, found.reader.split()[0], found.license["annotations"]] == [
        0, "coco_instances", "Apache-2.0",
    ]  # fmt: skip


def test_an_annotation_is_answered_by_its_picture(demo: Path) -> None:
    found = became(demo, "coco/instances.json:annotations[17]")

    assert {unit.record for unit in found.units} == {"images[4]"}
    assert found.notes == ("annotations[17], object 18, belongs to images[4]",)
    assert "demo_coco/train/5#detection" in {unit.id for unit in found.units}


def test_an_object_that_was_dropped_from_its_sample_is_told(tiny: Tiny) -> None:
    document = tiny.document()
    document["annotations"][2]["bbox"] = [5, 5, 0, 5]
    tiny.write(document)
    tiny.convert()
    shard([tiny.out], tiny.out.parent / "s")

    for place in (tiny.out, tiny.out.parent / "s"):
        details = [became(place, f"train.json:annotations[{number}]").units[0].detail for number in (2, 3)]

        assert details == [
            "object 102 is not among its targets: it was dropped, or is not asked for",
            "object 103 is among its targets",
        ]


def test_a_record_of_several_units_tells_all_of_them(demo: Path) -> None:
    found = became(demo.parent / "manifests/demo_refcoco/region_caption", "refcoco/refs.json")
    skipped = [unit for unit in found.units if unit.outcome == "skipped"]

    assert len(found.units) == 70
    assert {unit.reason for unit in skipped} == {"text.too_short"}
    one = became(demo, f"refcoco/refs.json:{skipped[0].record}")
    assert skipped[0] in one.units and len(one.units) > 1


@pytest.fixture
def lossy(tiny: Tiny) -> Path:
    """Return shards of a split of which one record was quarantined and one sample was dropped."""
    (tiny.root / "images/001.jpg").rename(tiny.root / "images/away")
    tiny.convert()
    (tiny.root / "images/004.png").unlink()
    shard([tiny.out], tiny.out.parent / "s")
    return tiny.out.parent / "s"


def test_no_record_vanishes_without_an_answer(lossy: Path, tiny: Tiny) -> None:
    outcomes = {}
    for number in range(6):
        (unit,) = became(lossy, f"train.json:images[{number}]").units
        outcomes[number] = (unit.outcome, unit.reason)

    assert outcomes == {
        0: ("quarantined", "image.missing"),
        3: ("dropped", "image.missing"),
        **dict.fromkeys((1, 2, 4, 5), ("sample", "")),
    }
    with pytest.raises(
        SourceError, match=r"the file is known, the record is not; did you mean 'images\[\d\]'"
    ):
        became(lossy, "train.json:images[66]")
    with pytest.raises(SourceError, match=r"the file is not known; did you mean 'train\.json'"):
        became(tiny.out, "trains.json:images[0]")


def test_files_that_are_gone_cost_an_answer_its_part_and_no_more(lossy: Path, tiny: Tiny) -> None:
    index = Index(lossy)
    shutil.rmtree(tiny.root)

    lost = trace(index, "tiny/train/2#detection")
    shutil.rmtree(tiny.out)
    less = trace(index, "tiny/train/2#detection")

    assert "is not found" in lost.source.note and lost.whole and lost.notes == ()
    assert less.notes[0].startswith("the manifest of tiny/detection/train cannot be read")
    assert less.source.note.startswith("where the source lies is not known")
    (note,) = became(lossy, "train.json:images[1]").notes
    assert "what it skipped and quarantined is not known" in note
    with pytest.raises(SourceError, match="is no record of it"):
        became(lossy, "train.json:images[0]")
    with pytest.raises(ShardError, match="no sample 'nothing'"):
        trace(index, "nothing")


def test_a_source_that_moved_is_named_and_one_that_changed_is_noted(lossy: Path, tiny: Tiny) -> None:
    moved = tiny.root.rename(tiny.root.parent / "moved")
    (moved / "train.json").write_text((moved / "train.json").read_text() + "\n")

    found = trace(Index(lossy), "tiny/train/2#detection", moved)

    assert found.source.at == "$.images[1]"
    assert found.source.note == "the file has changed since it was converted"


def test_a_damaged_sample_is_traced_and_said_to_be_damaged(lossy: Path) -> None:
    index = Index(lossy)
    found = trace(index, "tiny/train/2#detection")
    data = bytearray((lossy / found.shard).read_bytes())
    data[found.pictures[0].offset + 60] ^= 1
    (lossy / found.shard).write_bytes(data)

    picture = trace(index, "tiny/train/2#detection")
    data[found.offset + 3] ^= 1
    (lossy / found.shard).write_bytes(data)
    whole = trace(index, "tiny/train/2#detection")

    assert (picture.whole, [one.whole for one in picture.pictures]) == (True, [False])
    assert (whole.whole, whole.file) == (False, "train.json")
    assert "differs from its digest" in whole.notes[0]


def test_every_step_leads_to_its_samples_and_every_sample_to_its_steps(tiny_shards: Path, run: Path) -> None:
    index, stream = Index(tiny_shards), _stream(tiny_shards)
    met: dict[str, set[tuple[int, int]]] = {}
    for number in range(1, STEPS + 1):
        made = step_of(index, run, number)
        assert [row.t for row in made.rows] == [*range((number - 1) * BATCH, number * BATCH)]
        assert [row.outcome for row in made.rows] == ["image.corrupt", "served", "served"]
        for row in made.rows:
            entry = stream.entry(row.t)
            assert (row.id, row.shard, row.offset) == (entry["id"], entry["shard"], entry["offset"])
            met.setdefault(row.id, set()).add((number, row.t))

    for one, places in met.items():
        found = served_by(index, trace(index, one), run)
        assert isinstance(found.servings, tuple)
        assert {(serving.step, serving.t) for serving in found.servings} == places
        assert found.steps == tuple(steps_of(run, one))
        assert found.steps == tuple(s.step for s in found.servings if s.outcome == "served")


def test_a_serving_has_the_words_that_the_stream_gives_there(tiny_shards: Path, run: Path) -> None:
    index, stream = Index(tiny_shards), _stream(tiny_shards)
    anew = 0
    for number in range(len(index)):
        found = trace(index, index.row(number)["id"])
        told = served_by(index, found, run).servings
        for one in told if isinstance(told, tuple) else ():
            assert (one.conversation or found.conversation) == stream.read(one.t)[0].conversation
            anew += one.conversation is not None

    assert anew > 3


def test_a_step_says_what_was_served_without_a_plan_and_what_is_missing(tiny_shards: Path, run: Path) -> None:
    lines = [json.loads(line) for line in (run / "served.jsonl").read_text().splitlines()]
    lost = lines[4]["ids"].pop()
    lines[4]["ids"].append("no/such#one")
    (run / "served.jsonl").write_text("\n".join(map(json.dumps, lines)))

    made = step_of(Index(tiny_shards), run, 5)

    assert made.unplanned == ("no/such#one",)
    assert [row.id for row in made.rows if row.outcome == "missing"] == [lost]
    with pytest.raises(SourceError, match="took no step 99, expected 1 to 12"):
        step_of(Index(tiny_shards), run, 99)


def test_one_step_of_a_sample_is_told_alone(tiny_shards: Path, run: Path) -> None:
    index = Index(tiny_shards)
    (row, *_) = step_of(index, run, 7).rows

    found = served_by(index, trace(index, row.id), run, only=7)

    assert isinstance(found.servings, tuple)
    assert {one.step for one in found.servings} == {7}


def test_a_run_without_settings_still_tells_its_steps(tiny_shards: Path, run: Path) -> None:
    index = Index(tiny_shards)
    one = json.loads((run / "served.jsonl").read_text().splitlines()[0])["ids"][0]
    (run / "config.json").unlink()

    found = served_by(index, trace(index, one), run)

    assert found.steps == tuple(steps_of(run, one))
    assert "positions and words are not told" in found.notes[-1]


@pytest.mark.parametrize(
    "folder",
    ["wider_face", "fmt_cvat", "fmt_roboflow__tfrecord", "voc_yolo", "screenspot", "fmt_mnist_csv", "fmt_datumaro"],
)  # fmt: skip
def test_real_records_are_found_and_lead_back(
    samples_dir: Callable[[str], Path], tmp_path: Path, folder: str
) -> None:
    root = tmp_path / "root"
    shutil.copytree(samples_dir(folder.partition("__")[0]), root)
    for spec in Catalog().find(str(SPECS / f"{folder}.yaml")):
        for split in spec.splits:
            convert(spec, split, root, tmp_path / "out", allow_empty=True)

    assert _both_directions(tmp_path / "out") > 0


def _both_directions(manifests: Path) -> int:
    """Hold what the first rows of every manifest say of their records against what the records became."""
    count = 0
    for path in find(manifests):
        manifest = load(path)
        rows = [
            row | {"id": row.get("id", row.get("key"))}
            for name in (SAMPLES, QUARANTINE)
            for row in pq.read_table(path / name).slice(0, 3).to_pylist()
        ]
        for row in rows:
            file, record = row["file"], row["record"]
            spot = find_record(Path(manifest.root), file, record, manifest.source_files.get(file))
            assert spot.at, (file, record, spot)
            assert not spot.note or spot.note.endswith("grouped with it"), (file, record, spot)
            units = became(path, f"{file}:{record}").units
            assert (row["id"], row.get("reason", "")) in {(unit.id, unit.reason) for unit in units}
            count += 1
    return count
