"""The account of a chain holds, and a change of one in any place is found and named."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataengine.audit.account import find, findings, prove
from dataengine.audit.identity import Identity
from dataengine.audit.summary import Summary
from dataengine.catalog import Catalog
from dataengine.cli import main
from dataengine.convert import convert
from dataengine.errors import UsageError
from dataengine.index import Index
from dataengine.mix import adapted
from dataengine.served import run_plan
from dataengine.shard import shard
from dataengine.state import Hole
from dataengine.store import Url
from dataengine.stream import Stream, recipe
from tests.conftest import make_tiny

if TYPE_CHECKING:
    from tests.conftest import Tiny

STEPS, BATCH = 5, 3
SPECS = Path(__file__).parents[2] / "conformance/specs"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what `chain` copies."""
    made = make_tiny(tmp_path_factory.mktemp("chain"))
    text = made.spec.read_text().replace("detection: {}", "detection: {}\n  region_recognition: {}")
    made.spec.write_text(text.replace("tasks:", "    other: {annotations: val.json, use: train}\ntasks:"))
    folder = made.out.parent / "chain"
    (made.root / "images/001.jpg").rename(made.root / "images/away")
    document = made.document()
    document["annotations"][5]["category_id"] = 99
    made.write(document)
    for split in ("train", "other", "val"):
        for task in ("detection", "region_recognition"):
            made.convert(split, task, out=folder / "manifests")
    (made.root / "images/004.png").unlink()
    shard([folder / "manifests"], folder / "shards", samples_per_shard=2)
    _run(folder / "shards", folder / "run")
    return folder


@pytest.fixture
def chain(whole: Path, tmp_path: Path) -> Path:
    """Return a folder of manifests, shards and a run: two splits to train on and one to evaluate, of two tasks.

    Of the pictures to train on one was missing when they were converted, and another when they were sharded.
    """
    copy = tmp_path / "chain"
    shutil.copytree(whole, copy)
    _in_json("run/config.json", lambda one: one.update(shards=str(copy / "shards")))(copy)
    return copy


def _run(shards: Path, out: Path) -> None:
    """Write what a run of the plan writes; the first sample of each step is skipped."""
    mixture = {"policy": "uniform"}
    stream = Stream(shards, recipe(mode="unmixed", seed=4, global_batch=BATCH, **mixture))
    config = {"seed": 4, "global_batch": BATCH, "mixture": mixture, "shards": str(shards), "steps": STEPS}
    saved = out / "checkpoints/step-00000005"
    saved.mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(config))
    with (out / "served.jsonl").open("w") as file:
        for step in range(STEPS):
            first, *ids = [stream.entry(step * BATCH + place)["id"] for place in range(BATCH)]
            line = {"step": step + 1, "ids": ids, "skipped": [[first, "image.corrupt"]]}
            file.write(json.dumps(line) + "\n")
    marks = msgspec.to_builtins(stream.plan.marks)
    record = {"step": STEPS, "plan": run_plan(Index(shards), out).digest, "sources": marks}
    (saved / "checkpoint.json").write_text(json.dumps(record))


def _differing(lines: list[Identity]) -> list[Identity]:
    return [line for line in lines if line.verdict == "differs"]


def test_the_account_of_a_chain_holds_from_records_to_steps(chain: Path) -> None:
    lines = prove([chain])

    assert _differing(lines) == []
    assert {line.stage for line in lines} == {
        "source", "samples", "objects", "shards", "tars", "plan", "served",
    }  # fmt: skip
    by_place = {(line.stage, line.place): line for line in lines}
    train = by_place["samples", "tiny/detection/train"]
    assert (train.left.number, str(train.right)) == (7, "7 rows: 5 samples + 0 skipped + 2 quarantined")
    assert train.detail == "category.unknown 1, image.missing 1"
    sharded = by_place["shards", f"{chain / 'shards'}: tiny/detection/train"]
    assert str(sharded.right) == "5 samples: 4 in index.parquet + 1 dropped"
    assert sharded.detail == "dropped: image.missing 1"
    served = by_place["served", str(chain / "run")]
    assert (served.left.number, served.detail) == (STEPS * BATCH, "skipped: image.corrupt 5")
    objects = by_place["objects", "tiny/detection/other"]
    assert (objects.verdict, objects.left.number, objects.right.number) == ("proven", 6, 6)


def test_the_objects_dropped_from_samples_are_in_the_account(tiny: Tiny) -> None:
    document = tiny.document()
    document["annotations"][2]["bbox"] = [5, 5, 0, 5]
    tiny.write(document)
    tiny.convert()

    (line,) = [one for one in prove([tiny.out]) if one.stage == "objects"]

    assert (line.verdict, line.left.number, line.detail) == ("proven", 12, "box.degenerate 1")
    assert str(line.right) == "12 objects: 11 in samples + 1 dropped"


def _in_json(path: str, change: Callable[[Any], object]) -> Callable[[Path], None]:
    def damage(chain: Path) -> None:
        document = json.loads((chain / path).read_text())
        change(document)
        (chain / path).write_text(json.dumps(document))

    return damage


def _without_row(path: str, number: int = 0) -> Callable[[Path], None]:
    def damage(chain: Path) -> None:
        table = pq.read_table(chain / path)
        kept = [place for place in range(table.num_rows) if place != number]
        pq.write_table(table.take(kept), chain / path)

    return damage


def _other_reason(chain: Path) -> None:
    path = chain / "manifests/tiny/detection/train/quarantine.parquet"
    rows = pq.read_table(path)
    reasons = ["box.degenerate", *rows.column("reason").to_pylist()[1:]]
    column = pa.array(reasons).dictionary_encode()
    pq.write_table(rows.set_column(1, "reason", column.cast(rows.schema.field("reason").type)), path)


def _other_id(chain: Path) -> None:
    path = chain / "manifests/tiny/detection/train/samples.parquet"
    rows = pq.read_table(path)
    ids = rows.column("id").to_pylist()
    pq.write_table(rows.set_column(0, "id", pa.array([ids[1], *ids[1:]])), path)


def _without_member(chain: Path) -> None:
    path = sorted((chain / "shards").glob("*.tar"))[0]
    with tarfile.open(path) as old:
        members = [(info, old.extractfile(info)) for info in old.getmembers()]
        kept = [(info, file.read()) for info, file in members[:-1] if file is not None]
    with tarfile.open(path, "w") as new:
        for info, data in kept:
            new.addfile(info, io.BytesIO(data))


def _served_lines(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Path], None]:
    def damage(chain: Path) -> None:
        path = chain / "run/served.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        change(lines)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    return damage


LEDGER = "manifests/tiny/detection/train/ledger.json"
TRAIN = "tiny/detection/train"


def _more(name: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document[name] += 1

    return change


@pytest.mark.parametrize(
    ("damage", "stages", "place", "named"),
    [
        (_without_row("manifests/tiny/detection/train/samples.parquet"), {"source", "samples", "shards"}, TRAIN,
         "samples 5 against 4"),
        (_without_row("manifests/tiny/detection/train/samples.parquet"), {"source", "samples", "shards"}, TRAIN,
         "not in the manifest, or there twice: tiny/train/2#detection"),
        (_other_id, {"samples", "shards"}, TRAIN, "ids that stand twice: tiny/train/3#detection"),
        (_without_row("manifests/tiny/detection/train/quarantine.parquet"), {"source", "samples"}, TRAIN,
         "1 against 0"),
        (_other_reason, {"samples"}, TRAIN, "quarantined box.degenerate 0 against 1"),
        (_in_json(LEDGER, _more("records")), {"source", "shards"}, TRAIN, "source files unchanged: 1"),
        (_in_json(LEDGER, _more("units")), {"source", "samples", "shards"}, TRAIN, "whose parts are 7"),
        (_in_json(LEDGER, _more("samples")), {"samples", "shards"}, TRAIN, "samples 6 against 5"),
        (_in_json(LEDGER, _more("objects_read")), {"shards"}, TRAIN, "has objects_read 11, shards.json 10"),
        (_in_json(LEDGER, lambda one: one["quarantined"].update({"image.missing": 2})), {"samples", "shards"}, TRAIN,
         "quarantined image.missing 2 against 1"),
        (_in_json("shards/shards.json", lambda one: one["dropped"].pop(0)), {"shards"}, TRAIN,
         "in no shard and not dropped: tiny/train/4#detection"),
        (_in_json("shards/shards.json", lambda one: _more("samples")(one["sources"][1])), {"shards", "plan"}, "",
         "5 samples in shards.json"),
        (_in_json("shards/shards.json", lambda one: _more("samples")(one["shards"][0])), {"shards"}, "",
         "tiny-detection-other-000000.tar 3 against 2"),
        (_without_row("shards/index.parquet"), {"shards", "tars"}, "shards",
         "in no shard and not dropped: tiny/other/7#detection"),
        (_without_row("shards/index.parquet"), {"shards", "tars"}, "shards",
         "2 too many tiny-detection-other-000000-000000.0, tiny-detection-other-000000-000000.json"),
        (_without_member, {"tars"}, "shards",
         "tiny-detection-other-000000.tar: 1 missing tiny-detection-other-000000-000001.0"),
        (lambda chain: sorted((chain / "shards").glob("*.tar"))[1].unlink(), {"tars"}, "shards",
         "tiny-detection-other-000001.tar is gone"),
        (lambda chain: shutil.copy(sorted((chain / "shards").glob("*.tar"))[0], chain / "shards/x.tar"), {"tars"},
         "shards", "x.tar: is not in shards.json"),
        (lambda chain: (chain / "shards/x.tar").write_bytes(b"\0" * 1024), {"tars"}, "shards",
         "x.tar: is not in shards.json"),
        (_served_lines(lambda lines: lines[2]["ids"].pop()), {"served"}, "run", "step 3: tiny/"),
        (_served_lines(lambda lines: lines[2]["ids"].append("no/such#one")), {"served"}, "run",
         "step 3: no/such#one is not in the plan of this step"),
        (_served_lines(lambda lines: lines[2]["skipped"].pop()), {"served"}, "run", "is missing"),
        (_served_lines(lambda lines: lines.pop(2)), {"served"}, "run", "step 3: "),
        (_in_json("run/config.json", lambda one: one.update(seed=5)), {"plan", "served"}, "run",
         "the plan (recipe, seed, sources) is "),
        (_in_json("run/config.json", lambda one: one["mixture"].update(policy="proportional")), {"plan", "served"},
         "run", "the plan (recipe, seed, sources) is "),
        (_in_json("run/checkpoints/step-00000005/checkpoint.json", lambda one: _more("num_samples")(one["sources"][0])),
         {"plan"}, "run", "sources changed since: tiny/detection/other"),
    ],
)  # fmt: skip
def test_a_change_of_one_is_found_and_named(
    chain: Path, damage: Callable[[Path], object], stages: set[str], place: str, named: str
) -> None:
    damage(chain)

    differing = _differing(prove([chain]))

    assert {line.stage for line in differing} <= stages
    assert any(named in f"{line.detail}" and place in line.place for line in differing), differing
    assert all(line.difference > 0 for line in differing)
    assert {finding.rule for finding in findings(differing)} == {"ledger.unbalanced"}


@pytest.mark.parametrize(
    "folder", ["tusimple_lanenet", "fmt_cvat", "voc_yolo", "coco_captions", "flickr8k_tokens"]
)
def test_the_accounts_of_real_records_hold(
    samples_dir: Callable[[str], Path], tmp_path: Path, folder: str
) -> None:
    root = samples_dir(folder)
    for spec in Catalog().find(str(SPECS / f"{folder}.yaml")):
        for split in spec.splits:
            convert(spec, split, root, tmp_path, allow_empty=True)

    lines = prove([tmp_path])

    assert lines and _differing(lines) == []
    assert {line.verdict for line in lines if line.stage in ("source", "samples")} == {"proven"}


def test_what_is_gone_is_not_proven_and_no_difference(chain: Path) -> None:
    shutil.rmtree(chain / "manifests")

    lines = [line for line in prove([chain / "shards"]) if line.place.endswith(TRAIN)]

    assert [(line.verdict, line.left.number, line.right.number) for line in lines] == [("not proven", 5, 5)]
    assert "is gone; name it beside the shards" in lines[0].detail
    shutil.rmtree(chain / "shards")
    (line,) = prove([chain / "run"])
    assert (line.verdict, line.detail.endswith("are gone; name them beside it")) == ("not proven", True)


def test_a_manifest_that_is_gone_hides_no_difference(chain: Path) -> None:
    shutil.rmtree(chain / "manifests")
    _in_json("shards/shards.json", lambda one: one["dropped"].pop(0))(chain)

    (line,) = [one for one in prove([chain / "shards"]) if one.place.endswith(TRAIN)]

    assert (line.verdict, line.difference) == ("differs", 1)


def test_a_manifest_that_was_moved_is_proven_where_it_is_named(chain: Path) -> None:
    (chain / "manifests").rename(chain / "elsewhere")

    alone, beside = prove([chain / "shards"]), prove([chain / "shards", chain / "elsewhere"])

    assert {line.verdict for line in alone if TRAIN in line.place} == {"not proven"}
    assert {line.verdict for line in beside if line.stage == "shards"} == {"proven"}


def test_a_manifest_that_was_converted_again_is_not_that_of_the_shards(chain: Path) -> None:
    _in_json("manifests/tiny/detection/other/manifest.json", lambda one: one.update(fingerprint="other"))(
        chain
    )

    lines = [
        line for line in prove([chain]) if "tiny/detection/other" in line.place and line.stage == "shards"
    ]

    assert [(line.verdict, "was converted again since" in line.detail) for line in lines] == [
        ("not proven", True)
    ]


def test_a_run_leads_to_its_shards_and_these_to_their_manifests(chain: Path) -> None:
    assert prove([chain / "run"]) == prove([chain])


def test_several_workers_walk_the_same_members(chain: Path) -> None:
    assert prove([chain], workers=2) == prove([chain])


def test_a_folder_that_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no manifest, no shards and no run"):
        find([tmp_path])


def _call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(one) for one in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_the_command_prints_the_account_and_ends_with_one_where_a_unit_differs(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = chain / "report"
    assert _call("audit", "--account", chain, "--report", report) == 0
    assert " 0 differs" in capsys.readouterr().out

    _served_lines(lambda lines: lines[2]["ids"].pop())(chain)
    assert _call("audit", "--account", chain, "--json", "--report", report) == 1
    found = json.loads(capsys.readouterr().out)

    assert found["verdicts"]["differs"] == 1
    summary = msgspec.json.decode((report / "report.json").read_bytes(), type=Summary)
    assert summary.rules == {"ledger.unbalanced": 1}
    assert [msgspec.to_builtins(line) for line in summary.identities] == found["account"]
    assert "step 3: tiny/" in (report / "index.html").read_text()


def test_options_of_foreign_files_are_refused(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _call("audit", "--account", chain, "--format", "coco_instances") == 2
    assert "--account: --format given too" in capsys.readouterr().err


def test_shards_that_mix_sources_have_an_account(chain: Path) -> None:
    shutil.rmtree(chain / "run")
    shutil.rmtree(chain / "shards")
    shard([chain / "manifests"], chain / "shards", layout="mixed", samples_per_shard=4)

    lines = [line for line in prove([chain]) if line.stage in ("shards", "tars")]

    assert {line.verdict for line in lines} == {"proven"}
    assert [line.left.number for line in lines if line.stage == "tars"] == [2 * 20]
    _without_member(chain)
    assert [line.difference for line in _differing(prove([chain]))] == [1]


def test_a_mixture_that_was_changed_on_the_way_is_followed_and_holes_are_named(chain: Path) -> None:
    run, saved = chain / "run", chain / "run/checkpoints/step-00000005/checkpoint.json"
    index = Index(chain / "shards")
    weights = {"detection": 3.0, "region_recognition": 1.0}
    made = adapted(run_plan(index, run), 2, weights)
    decision = {"step": 1, "start": 2, "weights": weights, "plan": made.digest}
    ids = {
        name: index.table.column("id").take(rows).to_pylist() for name, rows in index.rows_by_source.items()
    }
    drawn = [made[t] for t in range(STEPS * BATCH)]
    names = [ids[made.sources[one.source].name][one.index] for one in drawn]
    lines = [{"step": n + 1, "ids": names[n * BATCH : (n + 1) * BATCH]} for n in range(STEPS)]
    (run / "served.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "mixture.jsonl").write_text(json.dumps(decision))
    _in_json("run/config.json", lambda one: one.update(adapt={"function": "a:b"}))(chain)
    hole = Hole(
        position=4,
        reason="image.corrupt",
        id=names[4],
        source="s",
        index=0,
        file="x.tar",
        offset=512,
        detail="",
    )
    noted = {"plan": made.digest, "adapt": {"decisions": [decision]}, "holes": [msgspec.to_builtins(hole)]}
    saved.write_text(json.dumps(noted))

    by_stage = {line.stage: line for line in prove([run])}

    assert (by_stage["plan"].verdict, by_stage["served"].verdict) == ("proven", "proven")
    assert by_stage["served"].detail == f"holes that last: {names[4]} (image.corrupt, x.tar offset 512)"
    saved.write_text(json.dumps(noted | {"adapt": {}}))
    assert {line.stage for line in _differing(prove([run]))} == {"plan"}
    (run / "mixture.jsonl").write_text(json.dumps(decision | {"start": 3}))
    (line,) = [line for line in _differing(prove([run])) if "leads to plan" in line.detail]
    assert line.stage == "plan"


def test_tars_at_a_url_are_not_proven(chain: Path) -> None:
    there = Url("memory://account")
    files = fsspec.filesystem("memory")
    for path in (chain / "shards").iterdir():
        files.pipe(f"/account/{path.name}", path.read_bytes())

    lines = prove([there, chain / "manifests"])

    assert {line.verdict for line in lines if line.stage == "shards"} == {"proven"}
    (tars,) = [line for line in lines if line.stage == "tars"]
    assert (tars.verdict, "--verify' reads every byte" in tars.detail) == ("not proven", True)
    files.rm("/account", recursive=True)
