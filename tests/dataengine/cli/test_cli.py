from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from dataengine.cli import VERBS, main
from dataengine.shares import Recipe
from dataengine.stream import Stream

if TYPE_CHECKING:
    from tests.conftest import Tiny

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs a command line here and gives (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(one) for one in arguments])
        printed = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, printed.out, printed.err

    return run


def _apart(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "dataengine"]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_waits_for_none_of_the_heavy_modules() -> None:
    code = (
        "import sys\nfrom dataengine.cli import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    print({'ray', 'torch', 'pyarrow', 'transformers', 'polars'} & set(sys.modules), file=sys.stderr)"
    )

    done = _apart(code=code)

    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "set()"
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(call: Call, verb: str) -> None:
    code, out, _ = call(verb, "--help")

    assert code == 0
    assert out.startswith(f"Usage: dataengine {verb}")
    assert len(out.split("\n\n")) >= 3


def test_no_verb_at_all_is_a_usage_error(call: Call) -> None:
    code, _, err = call()

    assert code == 2
    assert "Usage: dataengine" in err


@pytest.mark.parametrize(
    "arguments",
    [["catalogue"], ["convert"], ["convert", "x"], ["stream"], ["mix", "x", "--policy", "best"], ["show", "nothing"],
     ["convert", "nothing", "--root", "/", "--out", "/tmp/x"], ["stream", "/nowhere"], ["shard", "/nowhere"],
     ["shard", "--verify"], ["audit", "/nowhere"], ["preview", "demo_coco", "--root", ".", "--out", "x.gif"],
     ["trace", "/nowhere", "x"], ["run", "nothing"]],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_done_exits_2_without_a_traceback(call: Call, arguments: list[str]) -> None:
    code, out, err = call(*arguments)

    assert code == 2
    assert "Traceback" not in out + err
    assert err.strip()


def test_catalog_lists_every_task_spec(call: Call) -> None:
    code, out, _ = call("catalog", "--json")

    entries = json.loads(out)
    assert code == 0
    assert len(entries) > 10
    for entry in entries:
        assert {"id", "dataset", "task", "format", "license", "status", "use"} <= set(entry)
        assert entry["id"] == f"{entry['dataset']}/{entry['task']}"
        assert entry["use"] in ("train", "eval")


def test_show_gives_the_resolved_spec(call: Call, tiny: Tiny) -> None:
    code, out, _ = call("show", tiny.spec, "--json")

    shown = json.loads(out)
    assert code == 0
    assert shown["id"] == "tiny/detection"
    assert shown["task"]["builder"] == "instances"
    assert shown["bank"]["id"] == "detection"


def test_check_of_all_that_ships_finds_nothing(call: Call) -> None:
    code, out, _ = call("check", "--json")

    assert code == 0
    assert json.loads(out)["mistakes"] == []


def test_check_exits_1_with_a_line_a_mistake(call: Call, tiny: Tiny) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("title:", "titel:"))

    code, out, _ = call("check", tiny.spec)

    assert code == 1
    assert f"{tiny.spec}:2: unknown key 'titel'; did you mean 'title'?" in out.splitlines()


def _convert(call: Call, tiny: Tiny, *more: object) -> tuple[int, str, str]:
    return call("convert", tiny.spec, "--root", tiny.root, "--out", tiny.out, *more)


def test_convert_writes_the_files_of_every_split(call: Call, tiny: Tiny) -> None:
    code, out, _ = _convert(call, tiny, "--json")

    assert code == 0
    assert {name: one["samples"] for name, one in json.loads(out).items()} == {
        "tiny/detection/train": 6,
        "tiny/detection/val": 3,
    }
    for split in ("train", "val"):
        folder = tiny.out / "tiny/detection" / split
        ledger = json.loads((folder / "ledger.json").read_text())
        assert (folder / "samples.parquet").is_file()
        assert (folder / "quarantine.parquet").is_file()
        lost = sum(ledger["skipped"].values()) + sum(ledger["quarantined"].values())
        assert ledger["units"] == ledger["samples"] + lost


def test_convert_takes_a_split_a_limit_and_a_folder_of_specs(call: Call, tiny: Tiny) -> None:
    (tiny.spec.parent / "datasets").mkdir()
    shutil.copy(tiny.spec, tiny.spec.parent / "datasets")

    code, out, _ = call("convert", "tiny/detection", "--specs", tiny.spec.parent, "--root", tiny.root, "--out",
                        tiny.out, "--split", "train", "--limit", 2, "--json")  # fmt: skip

    assert code == 0
    assert {name: one["units"] for name, one in json.loads(out).items()} == {"tiny/detection/train": 2}


def test_a_truncated_split_is_one_line_and_exit_2_and_the_others_are_done(call: Call, tiny: Tiny) -> None:
    text = (tiny.root / "train.json").read_text()
    (tiny.root / "train.json").write_text(text[: len(text) // 2])

    code, out, err = _convert(call, tiny, "--json")

    errors = [line for line in err.splitlines() if line.startswith("error")]
    assert code == 2
    assert len(errors) == 1
    assert errors[0].startswith("error: tiny/detection/train: train.json")
    assert "Traceback" not in err
    assert json.loads(out)["tiny/detection/val"]["samples"] == 3


def test_a_broken_budget_exits_3_after_the_account_is_written(call: Call, tiny: Tiny) -> None:
    tiny.spec.write_text(tiny.spec.read_text() + "budgets: {image.missing: 0.01}\n")
    (tiny.root / "images/001.jpg").unlink()

    code, out, err = _convert(call, tiny, "--json")

    assert code == 3
    assert "error: tiny/detection train: image.missing hit 1 of 6 units, budget 0.01" in err
    assert json.loads(out)["tiny/detection/train"]["quarantined"] == {"image.missing": 1}
    assert json.loads((tiny.out / "tiny/detection/train/ledger.json").read_text())["samples"] == 5
    assert (tiny.out / "tiny/detection/val/ledger.json").is_file()


def test_an_unknown_key_of_a_spec_exits_2_with_its_line(call: Call, tiny: Tiny) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("license:", "lisence:"))

    code, _, err = _convert(call, tiny)

    assert code == 2
    assert err.strip() == f"error: {tiny.spec}:3: unknown key 'lisence'; did you mean 'license'?"


def test_the_whole_way_on_ray_in_a_process_of_its_own(tiny: Tiny, tmp_path: Path) -> None:
    runner = ["--runner", "ray", "--workers", "2"]
    converted = _apart("convert", str(tiny.spec), "--root", str(tiny.root), "--out", str(tiny.out), "--split", "train",
                       *runner, "--json")  # fmt: skip
    local, _ = tiny.convert(out=tmp_path / "local")

    assert converted.returncode == 0, converted.stderr
    assert json.loads(converted.stdout)["tiny/detection/train"]["samples"] == 6
    ray = tiny.out / "tiny/detection/train"
    assert (ray / "samples.parquet").read_bytes() == (local / "samples.parquet").read_bytes()


def test_shard_writes_verifies_and_rebuilds(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    out = tmp_path / "s"

    made = call("shard", tiny.out, "--out", out, "--layout", "mixed", "--samples-per-shard", 4, "--json")
    whole = call("shard", out, "--verify")
    tar = min(out.glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    damaged = call("shard", out, "--verify", "--json")
    mended = call("shard", out, "--rebuild", "--only", tar.stem)
    again = call("shard", "--out", out, "--verify")

    assert (made[0], json.loads(made[1])["samples"], json.loads(made[1])["shards"]) == (0, 6, 2)
    assert {path.name for path in out.iterdir()} == {
        "mixed-000000.tar", "mixed-000001.tar", "index.parquet", "shards.json", "ATTRIBUTION.md", "attribution.json"
    }  # fmt: skip
    assert (whole[0], whole[1].strip()) == (0, "0 findings")
    assert damaged[0] == 1
    assert str(tar) in json.loads(damaged[1])["findings"][0]
    assert mended[0] == 0
    assert again[0] == 0


def test_the_rebuild_that_a_finding_names_works_as_it_stands(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    out = tmp_path / "s"
    call("shard", tiny.out, "--out", out)
    min(out.glob("*.tar")).unlink()
    _, found, _ = call("shard", out, "--verify", "--json")

    command = json.loads(found)["findings"][0].partition("'dataengine ")[2].rstrip("'")
    code, _, _ = call(*command.split(" "))

    assert code == 0
    assert call("shard", out, "--verify")[0] == 0


def test_a_conversion_of_nothing_fails_unless_that_is_right(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    tiny.write({"images": [], "annotations": [], "categories": []})
    command = ("convert", tiny.spec, "--root", tiny.root, "--out", tmp_path / "m", "--json")

    code, out, err = call(*command)

    assert code == 3
    assert (
        "error: tiny/detection train: the source has no record for it, expected some; is the split's file"
        in err
    )
    accounts = json.loads(out)
    assert [accounts[f"tiny/detection/{split}"]["samples"] for split in ("train", "val")] == [0, 3]
    assert call(*command, "--allow-empty")[0] == 0
    assert call(*command)[0] == 3  # Asking again does not make it better.


def test_an_out_folder_that_is_a_file_is_one_line(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    tiny.convert()
    (tmp_path / "file").touch()

    converted = call("convert", tiny.spec, "--root", tiny.root, "--out", tmp_path / "file")
    sharded = call("shard", tiny.out, "--out", tmp_path / "file")

    assert (converted[0], sharded[0]) == (2, 2)
    assert "cannot be written" in converted[2]
    assert "cannot be written" in sharded[2]


def test_a_budget_that_breaks_inside_a_pipeline_exits_3(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    tiny.spec.write_text(tiny.spec.read_text() + "budgets: {image.missing: 0.01}\n")
    (tiny.root / "images/001.jpg").unlink()
    (tmp_path / "pipelines.yaml").write_text(
        f"small: {{title: t, out: {tmp_path / 'run'}, roots: {{here: {tiny.root}}}, train: null, workers: 1,"
        f" convert: [{{spec: {tiny.spec}, root: here}}]}}\n"
    )

    code, _, err = call("run", "small", "--file", tmp_path / "pipelines.yaml")

    assert code == 3
    assert "image.missing hit 1 of 6 units, budget 0.01" in err


def test_mix_prints_the_plan(call: Call, tiny_shards: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.yaml"
    weights.write_text("tiny/detection/train: 3\ntiny/detection/other: 1\n")

    table = call(
        "mix", tiny_shards, "--policy", "explicit", "--weights", weights, "--steps", 10, "--global-batch", 4
    )
    code, out, _ = call("mix", tiny_shards, "--policy", "explicit", "--weights", weights, "--steps", 10,
                        "--global-batch", 4, "--json")  # fmt: skip

    rows = {row["source"]: (row["samples"], row["share"]) for row in json.loads(out)["rows"]}
    assert (code, table[0]) == (0, 0)
    assert rows == {"tiny/detection/train": (30, 0.75), "tiny/detection/other": (10, 0.25)}
    assert "tiny/detection/other" in table[1]


def test_mix_prints_totals_and_segments_of_a_recipe_in_a_file(
    call: Call, tiny_shards: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mix.yaml"
    recipe.write_text(
        "policy: cap\ncap_samples: 3\nglobal_batch: 4\nschedule: [{step: 6, over: 2, policy: proportional}]\n"
    )

    code, out, _ = call("mix", tiny_shards, "--recipe", recipe, "--steps", 12, "--json")
    table = call("mix", tiny_shards, "--recipe", recipe, "--steps", 12)
    _, capped, _ = call("mix", tiny_shards, "--recipe", recipe, "--cap-samples", 9, "--steps", 6, "--json")

    found = json.loads(out)
    assert (code, table[0]) == (0, 0)
    assert {row["source"]: row["samples"] for row in found["rows"]} == {
        "tiny/detection/train": 28, "tiny/detection/other": 20,
    }  # fmt: skip
    ((dataset,), (task,)) = found["datasets"], found["tasks"]
    assert (dataset["name"], dataset["samples"], task["name"], task["epochs"]) == (
        "tiny",
        48,
        "detection",
        48 / 9,
    )
    assert [(row["start"], row["stop"], row["samples"]) for row in found["segments"]] == [
        (0, 6, 24), (6, 8, 8), (8, 12, 16),
    ]  # fmt: skip
    assert "from step" in table[1] and "cap, mixed, 12 steps of 4" in table[1]
    assert [row["share"] for row in json.loads(capped)["rows"]] == pytest.approx([1 / 3, 2 / 3])


def test_mix_tells_a_wrong_recipe_with_file_and_line(call: Call, tiny_shards: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mix.yaml"
    recipe.write_text("policy: cap\ncap_sample: 3\n")

    code, _, err = call("mix", tiny_shards, "--recipe", recipe)

    assert code == 2
    assert err.strip().endswith("mix.yaml:2: unknown key 'cap_sample'; did you mean 'cap_samples'?")


def test_mix_holds_a_run_against_its_plan_and_ends_with_one_where_they_differ(
    call: Call, tiny_shards: Path, tmp_path: Path
) -> None:
    stream = Stream(tiny_shards, Recipe(seed=1, global_batch=4, mode="unmixed"))
    ids = [[stream.entry(t)["id"] for t in range(4 * step, 4 * step + 4)] for step in range(5)]
    (tmp_path / "config.json").write_text('{"seed": 1, "global_batch": 4, "mixture": {}}')

    def write() -> None:
        lines = [{"step": step + 1, "ids": some, "skipped": []} for step, some in enumerate(ids)]
        (tmp_path / "served.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    write()
    code, out, _ = call("mix", tiny_shards, "--served", tmp_path)
    lost = ids[3].pop()
    write()
    differs, told, _ = call("mix", tiny_shards, "--served", tmp_path)
    _, as_json, _ = call("mix", tiny_shards, "--served", tmp_path, "--json")
    refused = call("mix", tiny_shards, "--served", tmp_path, "--policy", "sqrt", "--recipe", "r.yaml")

    assert (code, differs) == (0, 1)
    assert "planned" in out and "missing" not in out
    assert f"step 4: {lost} is missing" in told.splitlines()
    assert json.loads(as_json)["differences"] == [f"step 4: {lost} is missing"]
    assert refused[0] == 2 and "--served: --policy, --recipe given too" in refused[2]


@pytest.mark.parametrize("mode", ["mixed", "unmixed", "stratified"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_stream_gives_each_position_once_over_all_ranks(
    call: Call, tiny_shards: Path, mode: str, world: int
) -> None:
    lines: list[dict[str, Any]] = []
    for rank in range(world):
        part = ["--world", world, "--rank", rank, "--policy", "sqrt", "--mode", mode, "--global-batch", 6]
        code, out, _ = call(
            "stream", tiny_shards, "--seed", 5, "--position", 7, "--count", 20, *part, "--json"
        )
        assert code == 0
        lines += [json.loads(line) for line in out.splitlines()]

    stream = Stream(tiny_shards, Recipe(seed=5, global_batch=6, policy="sqrt", mode=mode))  # type: ignore[arg-type]
    assert sorted(line["t"] for line in lines) == list(range(7, 27))
    assert sorted(lines, key=lambda line: int(line["t"])) == [stream.entry(t) for t in range(7, 27)]


def test_a_simulation_proves_the_plan_for_every_rank_before_and_after_a_stop(
    call: Call, tiny_shards: Path
) -> None:
    asked = ["stream", tiny_shards, "--simulate", "--global-batch", 8, "--steps", 10, "--world", 8,
             "--workers", 2, "--stop-at", 28, "--then-world", 3]  # fmt: skip

    code, out, _ = call(*asked, "--json")
    table = call(*asked)

    found = json.loads(out)
    assert (code, table[0]) == (0, 0)
    assert found["findings"] == [] and found["positions"] == 80
    assert [(run["start"], run["stop"], run["world"], run["workers"]) for run in found["runs"]] == [
        (0, 28, 8, 2), (28, 80, 3, 2),
    ]  # fmt: skip
    assert [sum(row["positions"] for row in ranks) for ranks in found["ranks"]] == [28, 52]
    assert f"80 positions, each served once, each the sample of plan {found['plan']}" in table[1]


def test_a_simulated_stop_lies_inside_the_run(call: Call, tiny_shards: Path) -> None:
    code, _, err = call(
        "stream", tiny_shards, "--simulate", "--global-batch", 2, "--steps", 3, "--stop-at", 7
    )

    assert code == 2
    assert err.startswith("error: --stop-at: position 7, expected 0 to 6")


def test_stream_shows_the_words_of_each_pass(call: Call, tiny_shards: Path) -> None:
    policy = ["--policy", "proportional", "--seed", 3, "--global-batch", 6]

    code, out, _ = call("stream", tiny_shards, *policy, "--count", 27, "--render", "--json")

    lines = [json.loads(line) for line in out.splitlines()]
    said: dict[str, list[str]] = {}
    for line in lines:
        said.setdefault(line["id"], []).append(json.dumps(line["conversation"]))
    assert code == 0
    assert [line["epoch"] for line in lines] == [0] * 9 + [1] * 9 + [2] * 9
    assert (
        {len(several) for several in said.values()} == {len({*several}) for several in said.values()} == {3}
    )
    assert all(line["prompt"]["bank"] == "detection" and line["routes"] for line in lines)


def test_words_are_shown_as_json_alone(call: Call, tiny_shards: Path) -> None:
    code, _, err = call("stream", tiny_shards, "--render")

    assert code == 2
    assert "--render shows whole conversations, expected --json with it" in err


@pytest.mark.parametrize("store", ["null", "[1]", "here"])
def test_options_of_a_store_cannot_be_added_to_what_is_no_mapping(
    call: Call, tiny_shards: Path, tmp_path: Path, store: str
) -> None:
    (tmp_path / "t.yaml").write_text(f"store: {store}\n")

    code, _, err = call("train", tiny_shards, "--out", tmp_path / "run", "--config", tmp_path / "t.yaml",
                        "--cache-dir", tmp_path / "cache")  # fmt: skip

    assert code == 2
    assert err.startswith(f"error: {tmp_path / 't.yaml'}: store is ") and "expected a mapping" in err


def test_stream_into_a_pipe_that_closes_is_no_traceback(tiny_shards: Path) -> None:
    command = f"{sys.executable} -m dataengine stream {tiny_shards} --count 20000 --json | head -n 1"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)

    assert json.loads(done.stdout)["t"] == 0
    assert "Traceback" not in done.stderr


def test_too_many_ranks_are_refused(call: Call, tiny_shards: Path) -> None:
    code, _, err = call("stream", tiny_shards, "--world", 9, "--rank", 0, "--global-batch", 8, "--json")

    assert code == 2
    assert err.startswith("error: slots: 9 ranks share a global batch of 8")


def test_a_rank_outside_its_world_is_refused_even_where_nothing_is_asked_for(
    call: Call, tiny_shards: Path
) -> None:
    assert call("stream", tiny_shards, "--world", 2, "--rank", 2, "--count", 0, "--json")[0] == 2


def test_trace_leads_back_to_the_source_and_on_to_the_steps(
    call: Call, tiny_shards: Path, tmp_path: Path
) -> None:
    stream = Stream(tiny_shards, Recipe(seed=0, global_batch=4))
    entry = stream.entry(3)
    served = [["x", entry["id"]], [], [entry["id"]]]
    lines = [json.dumps({"step": step, "ids": ids}) for step, ids in enumerate(served)]
    (tmp_path / "served.jsonl").write_text("\n".join(lines))

    code, out, _ = call("trace", tiny_shards, entry["id"], "--run", tmp_path, "--json")

    found = json.loads(out)
    number = int(entry["id"].split("/")[2].split("#")[0])
    split = entry["id"].split("/")[1]
    assert code == 0
    assert found["file"] == ("train.json" if split == "train" else "val.json")
    assert found["record"] == f"images[{number - (1 if split == 'train' else 7)}]"
    assert (found["spec"], found["shard"], found["offset"]) == (
        "tiny/detection",
        entry["shard"],
        entry["offset"],
    )
    assert found["steps"] == [0, 2]


def test_trace_of_an_unknown_sample_exits_2(call: Call, tiny_shards: Path) -> None:
    code, _, err = call("trace", tiny_shards, "nothing", "--json")

    assert code == 2
    assert "no sample 'nothing'" in err


def test_new_writes_a_spec_that_gives_samples_and_replaces_none(
    call: Call, tiny: Tiny, tmp_path: Path
) -> None:
    out = tmp_path / "mine.yaml"

    code, said, _ = call("new", tiny.root, "--out", out, "--json")
    again = call("new", tiny.root, "--out", out)

    found = json.loads(said)
    assert (code, found["spec"]) == (0, str(out))
    assert found["fits"][0]["format"] == "coco_instances"
    assert found["fits"][0]["result"] == "4 samples of its first 4 records"
    assert call("convert", out, "--root", tiny.root, "--out", tmp_path / "m")[0] == 0
    assert call("check", out)[0] == 0
    assert again[0] == 2
    assert "is there already" in again[2]


def test_new_in_a_folder_of_no_layout_says_why_and_exits_1(call: Call, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    code, said, _ = call("new", tmp_path / "empty", "--out", tmp_path / "x.yaml")

    assert code == 1
    assert "no: voc_xml: no XML file" in said
    assert not (tmp_path / "x.yaml").exists()


def test_preview_draws_a_picture_and_a_page(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    picture = call("preview", tiny.spec, "--root", tiny.root, "--out", tmp_path / "p/a.png", "--count", 2)
    page = call(
        "preview", f"{tiny.spec}", "--root", tiny.root, "--out", tmp_path / "p/a.html", "--split", "val"
    )

    assert (picture[0], page[0]) == (0, 0)
    with Image.open(tmp_path / "p/a.png") as drawn:
        assert drawn.width > 400
    html = (tmp_path / "p/a.html").read_text()
    assert html.count("<article") == 3
    assert "tiny/val/7#detection" in html


def test_preview_says_that_a_picture_cannot_show_every_script(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    english = call("preview", tiny.spec, "--root", tiny.root, "--out", tmp_path / "a.png")
    tiny.spec.write_text(tiny.spec.read_text() + "lang: zh\n")

    picture = call("preview", tiny.spec, "--root", tiny.root, "--out", tmp_path / "b.png")
    page = call("preview", tiny.spec, "--root", tiny.root, "--out", tmp_path / "b.html")

    line = "letters that its font lacks are boxes; an .html file shows every script"
    assert [line in "".join(map(str, found)) for found in (english, picture, page)] == [False, True, False]


def test_preview_in_json_is_one_value(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "a.png"

    code, out, _ = call("preview", tiny.spec, "--root", tiny.root, "--out", path, "--count", 2, "--json")

    found = json.loads(out)
    assert code == 0
    assert found["out"] == str(path)
    assert len(found["samples"]) == 2
    assert found["looked_at"]["tiny/detection/train"]["ledger"]["samples"] == 2


@pytest.mark.parametrize("verb", ["preview", "audit", "train"])
def test_a_place_that_cannot_be_written_is_one_line(
    call: Call, tiny: Tiny, tiny_shards: Path, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "file").write_text("")
    arguments: dict[str, list[object]] = {
        "preview": [tiny.spec, "--root", tiny.root, "--out", tmp_path / "file/a.png"],
        "audit": [tiny_shards, "--report", tmp_path / "file/report"],
        "train": [tiny_shards, "--out", tmp_path / "file/run", "--steps", 1],
    }

    code, _, err = call(verb, *arguments[verb])

    assert code == 2
    assert "cannot be written" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_preview_without_a_sample_exits_2_and_says_why(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    for path in (tiny.root / "images").iterdir():
        path.unlink()

    code, out, err = call("preview", tiny.spec, "--root", tiny.root, "--out", tmp_path / "a.png")

    assert code == 2
    assert "image.missing 6" in out
    assert "no sample could be made" in err


def test_audit_of_sound_manifests_and_shards_exits_0(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    document = tiny.document()
    tiny.write(document)
    tiny.convert()
    call("shard", tiny.out, "--out", tmp_path / "s")

    manifests = call("audit", tiny.out, "--json")
    shards = call("audit", tmp_path / "s", "--json")

    assert (manifests[0], json.loads(manifests[1])["rules"]) == (0, {})
    assert (shards[0], json.loads(shards[1])["rules"]) == (0, {})


def test_audit_prints_any_number_of_findings_as_one_value(
    call: Call, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tiny.document()
    for one in document["annotations"][:5]:
        one["bbox"] = [20, 10, 30, 8]
    tiny.write(document)
    tiny.convert()

    whole = call("audit", tiny.out, "--json")[1]
    monkeypatch.setattr("dataengine.cli.audit.PRINTED_AT_ONCE", 2)
    pieces = call("audit", tiny.out, "--json")[1]

    found = json.loads(whole)
    assert pieces == whole
    assert (
        [one["rule"] for one in found["findings"]].count("box.outside") == found["rules"]["box.outside"] == 5
    )


def test_audit_exits_1_where_findings_break_no_budget(call: Call, tiny: Tiny) -> None:
    code, out, _ = call("audit", tiny.root / "train.json", "--format", "coco_instances")

    assert code == 1
    assert "license.missing" in out
    assert "budget" not in out


def test_audit_exits_0_where_all_findings_are_infos(call: Call, tiny: Tiny) -> None:
    tiny.repeat(60)
    document = tiny.document()
    for number, one in enumerate(document["annotations"]):
        one["category_id"] = 3 if number else 1
        one["bbox"] = [number % 19, number % 13, 5 + number % 7, 6 + number % 3]
    tiny.write(document)
    tiny.convert()

    code, out, _ = call("audit", tiny.out, "--json")

    assert (code, json.loads(out)["rules"]) == (0, {"label.imbalance": 1})


def test_audit_of_a_foreign_file_exits_3_where_a_budget_is_broken_with_its_findings_and_a_report(
    call: Call, tiny: Tiny, tmp_path: Path
) -> None:
    document = tiny.document()
    document["annotations"][0]["bbox"] = [5, 5, 0, 4]
    tiny.write(document)

    code, out, _ = call("audit", tiny.root / "train.json", "--format", "coco_instances", "--source", "images=images",
                        "--root", tiny.root, "--report", tmp_path / "r", "--json")  # fmt: skip

    assert code == 3
    assert json.loads(out)["rules"] == {"box.degenerate": 1, "license.missing": 1}
    assert [(one["rule"], one["checked"]) for one in json.loads(out)["broken"]] == [("box.degenerate", 12)]
    assert {path.name for path in (tmp_path / "r").iterdir()} == {
        "index.html",
        "issues.parquet",
        "report.json",
    }


def test_audit_of_a_file_outside_its_root_exits_2(call: Call, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()

    code, _, err = call(
        "audit", tiny.root / "train.json", "--format", "coco_instances", "--root", tmp_path / "elsewhere"
    )

    assert code == 2
    assert err.startswith("error: ")


def test_a_command_phones_nobody(tiny: Tiny) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('a connection was tried')\n"
        "socket.socket.connect = refuse\nsocket.create_connection = refuse\nsocket.getaddrinfo = refuse\n"
        "from dataengine.cli import main\nmain(sys.argv[1:])"
    )

    done = _apart("convert", str(tiny.spec), "--root", str(tiny.root), "--out", str(tiny.out), code=code)

    assert done.returncode == 0, done.stderr
    assert (tiny.out / "tiny/detection/val/ledger.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["convert", "demo_scenes", "--root", ".", "--out", "s3://b/m"], "--out"),
        (["convert", "demo_scenes", "--root", "s3://b/m", "--out", "m"], "--root"),
        (["shard", "m", "--out", "s3://b/m"], "--out"),
        (["shard", "s3://b/m", "--rebuild"], "PATHS"),
    ],
    ids=str,
)
def test_a_url_is_no_relative_path(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)

    code, _, err = call(*arguments)

    assert code == 2
    assert f"{name}: s3://b/m is a URL, expected a path of this machine; " in err
    assert list(tmp_path.iterdir()) == []


def test_a_url_in_a_message_shows_no_login(call: Call) -> None:
    _, _, err = call("shard", "https://me:secret@host/m?signature=secret", "--rebuild")

    assert "https://host/m is a URL" in err
    assert "secret" not in err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--append", "--verify"], "--verify and --append are two calls"),
        (["--rebuild", "--replace"], "--rebuild and --replace are two calls"),
        (["--verify", "--index"], "--verify and --index are two calls"),
        (["--index", "--append"], "--index and --append are two calls"),
        (["--verify", "--for", "dali"], "--verify and --for are two calls"),
        (["--only", "x"], "--only goes with --rebuild"),
        (["--verify", "--only", "x"], "--only goes with --rebuild"),
    ],
    ids=str,
)
def test_a_flag_of_shard_that_would_be_ignored_is_refused(
    call: Call, tiny: Tiny, tmp_path: Path, flags: list[str], says: str
) -> None:
    tiny.convert()

    code, _, err = call("shard", tiny.out, "--out", tmp_path / "s", *flags)

    assert code == 2
    assert says in err
    assert not (tmp_path / "s").exists()


def test_a_wrong_folder_or_shard_is_told_before_anything_is_read(
    call: Call, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.convert()
    call("shard", tiny.out, "--out", tmp_path / "s")

    _, _, no_shard = call("shard", tmp_path / "s", "--rebuild", "--only", "tiny-detection-train-00000")
    monkeypatch.setattr("dataengine.cli.shard.verify", None)
    code, _, no_folder = call("shard", tmp_path / "s", tmp_path / "t", "--verify")

    assert "no shard 'tiny-detection-train-00000'; did you mean 'tiny-detection-train-000000'?" in no_shard
    assert code == 2
    assert f"{tmp_path / 't/shards.json'}: no such file" in no_folder
