"""`mix` and `stream` make one recipe of the same options and files, and refuse what they would not read."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.catalog import Catalog
from dataengine.cli import main
from dataengine.convert import convert
from dataengine.shard import shard
from tests.conftest import SPEC


@pytest.fixture(scope="module")
def shards(tiny_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of two families: the tiny pictures to detect in, to count in, and to recognise regions of."""
    folder = tmp_path_factory.mktemp("families")
    spec = folder / "tiny.yaml"
    spec.write_text(
        SPEC.replace("  detection: {}\n", "  detection: {}\n  counting: {}\n  region_recognition: {}\n")
    )
    for one in Catalog().find(str(spec)):
        convert(one, "train", tiny_shards.parent / "source", out=folder / "m")
    shard([folder / "m"], folder / "s", samples_per_shard=4)
    return folder / "s"


def _call(*arguments: object) -> tuple[int, str, str]:
    """Run a command line here; return exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stopped,
    ):
        main([str(one) for one in arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, out.getvalue(), err.getvalue()


_LEVELS = st.sampled_from(["uniform", "proportional", "sqrt"])
_POLICIES = st.one_of(
    st.fixed_dictionaries({"policy": _LEVELS}),
    st.fixed_dictionaries({"policy": st.just("cap"), "cap_samples": st.integers(1, 9)}),
    st.fixed_dictionaries({"policy": st.just("temperature"), "temperature": st.sampled_from([0.5, 2.0])}),
    st.fixed_dictionaries({"policy": st.just("unimax"), "budget": st.integers(5, 60)}),
    st.fixed_dictionaries({"policy": st.just("hierarchical"), "tasks": _LEVELS, "datasets": _LEVELS}),
    st.fixed_dictionaries(
        {"policy": st.just("repeats"), "weights": st.just({"counting": 2, "detection": 0.5})}
    ),
)
_CHANGES = st.lists(st.tuples(_POLICIES, st.integers(1, 3), st.integers(0, 3)), max_size=2)


@st.composite
def _recipes(draw: st.DrawFn) -> dict[str, Any]:
    """Return the fields of a recipe whose schedule, if any, ends within the first dozen steps."""
    found = {**draw(_POLICIES), "seed": draw(st.integers(0, 99)), "global_batch": draw(st.integers(6, 9))}
    found["mode"] = draw(st.sampled_from(["mixed", "unmixed", "stratified", "accumulate"]))
    if found["mode"] == "accumulate" and draw(st.booleans()):
        found["loss_weights"] = {"detection": 0.5, "text/counting": 2.0}
    step, schedule = 0, []
    for settings_, pause, over in draw(_CHANGES):
        schedule.append({"step": step + pause, "over": over, **settings_})
        step += pause + max(over, 1)
    return {**found, "schedule": schedule}


@settings(max_examples=25, deadline=None)
@given(recipe=_recipes(), world=st.integers(1, 6), start=st.integers(0, 50), count=st.integers(0, 80))
def test_all_ranks_together_are_given_each_position_once(
    shards: Path,
    tmp_path_factory: pytest.TempPathFactory,
    recipe: dict[str, Any],
    world: int,
    start: int,
    count: int,
) -> None:
    file = tmp_path_factory.getbasetemp() / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    asked = ["stream", shards, "--recipe", file, "--position", start, "--count", count, "--json"]

    answers = [_call(*asked, "--world", world, "--rank", rank) for rank in range(world)]
    alone = _call(*asked)

    assert [answer[0] for answer in answers] == [0] * world
    lines = [json.loads(line) for _, out, _ in answers for line in out.splitlines()]
    assert sorted(line["t"] for line in lines) == list(range(start, start + count))
    assert sorted(lines, key=lambda line: int(line["t"])) == [
        json.loads(line) for line in alone[1].splitlines()
    ]


@settings(max_examples=10, deadline=None)
@given(recipe=_recipes())
def test_a_plan_and_its_stream_serve_equally_many_samples_of_each_source(
    shards: Path, tmp_path_factory: pytest.TempPathFactory, recipe: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    count = 15 * recipe["global_batch"]

    planned = json.loads(_call("mix", shards, "--recipe", file, "--steps", 15, "--json")[1])
    _, served, _ = _call("stream", shards, "--recipe", file, "--count", count, "--json")

    tasks = [json.loads(line)["task"] for line in served.splitlines()]
    assert {row["name"]: row["samples"] for row in planned["tasks"]} == {
        name: tasks.count(name) for name in ("counting", "detection", "region_recognition")
    }


@pytest.mark.parametrize("options", [
    ("--policy", "cap", "--cap-samples", 2),
    ("--policy", "hierarchical", "--tasks", "uniform", "--datasets", "sqrt"),
    ("--policy", "unimax", "--cap-epochs", 2, "--budget", 90),
])  # fmt: skip
def test_options_mean_the_same_to_both_verbs(shards: Path, options: tuple[object, ...]) -> None:
    code, planned, _ = _call("mix", shards, *options, "--json")
    _, simulated, _ = _call("stream", shards, *options, "--simulate", "--json")

    assert code == 0
    assert json.loads(planned)["plan"] == json.loads(simulated)["plan"]


@pytest.mark.parametrize("verb", ["mix", "stream"])
@pytest.mark.parametrize(("options", "told"), [
    (("--temperature", 5), "policy 'unimax' reads no temperature, expected 'temperature' with it"),
    (("--policy", "sqrt", "--budget", 50), "policy 'sqrt' reads no budget, expected 'unimax' with it"),
    (("--policy", "uniform", "--cap-epochs", 2), "policy 'uniform' reads no cap_epochs"),
    (("--recipe", "none.yaml"), "none.yaml: cannot be read"),
])  # fmt: skip
def test_settings_that_the_policy_does_not_read_are_refused(
    shards: Path, verb: str, options: tuple[object, ...], told: str
) -> None:
    code, _, err = _call(verb, shards, *options)

    assert code == 2
    assert told in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(("content", "told"), [
    ("counting: 1\ndetection: many\n", "'detection' is 'many', expected a number"),
    ("counting: {a: 1}\n", "'counting' is {'a': 1}, expected a number"),
    ("counting: true\n", "'counting' is True, expected a number"),
    ("- counting\n", "holds list, expected a mapping of keys"),
    ("# nothing\n", "holds nothing, expected a mapping of keys"),
])  # fmt: skip
def test_a_file_that_holds_no_weights_is_told_by_its_key(
    shards: Path, tmp_path: Path, content: str, told: str
) -> None:
    (tmp_path / "w.yaml").write_text(content)

    code, _, err = _call("mix", shards, "--policy", "repeats", "--weights", tmp_path / "w.yaml")

    assert code == 2
    assert err.startswith(f"error: {tmp_path / 'w.yaml'}: {told}")


@pytest.mark.parametrize(("options", "told"), [
    (("--steps", 3), None),
    (("--workers", 2), "--workers belongs to a simulation, expected --simulate with it; add it"),
    (("--then-world", 2), "--then-world belongs to a simulation"),
    (("--simulate", "--then-world", 2), "--then-world says what comes after a stop, expected --stop-at"),
    (("--simulate", "--rank", 0), "--rank belongs to a list of positions, expected none with --simulate"),
    (("--simulate", "--count", 5), "--count belongs to a list of positions"),
    (("--simulate", "--render", "--json"), "--render belongs to a list of positions"),
])  # fmt: skip
def test_options_that_would_change_nothing_are_refused(
    shards: Path, options: tuple[object, ...], told: str | None
) -> None:
    code, _, err = _call("stream", shards, *options)

    assert code == 2
    assert (told or "--steps belongs to a simulation") in err


@pytest.mark.parametrize("verb", ["mix", "stream"])
@pytest.mark.parametrize("listed", [0, 7])
def test_an_index_with_other_numbers_of_samples_is_refused(
    shards: Path, tmp_path: Path, verb: str, listed: int
) -> None:
    copy = tmp_path / "s"
    shutil.copytree(shards, copy)
    found = json.loads((copy / "shards.json").read_text())
    found["sources"][0]["samples"] = listed
    (copy / "shards.json").write_text(json.dumps(found))

    code, _, err = _call(verb, copy)

    assert code == 2
    assert f"has 6 samples of {found['sources'][0]['name']}, shards.json {listed}; the index is stale" in err


def test_an_index_that_is_not_there_is_told(shards: Path, tmp_path: Path) -> None:
    shutil.copytree(shards, tmp_path / "s")
    (tmp_path / "s" / "index.parquet").unlink()

    code, _, err = _call("mix", tmp_path / "s")

    assert code == 2
    assert "index.parquet: no such file; run 'dataengine shard' again" in err


def test_words_of_what_is_damaged_are_a_hole_and_no_end(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "s"
    shutil.copytree(shards, copy)
    (copy / "tiny-counting-train-000000.tar").unlink()

    code, out, _ = _call("stream", copy, "--policy", "proportional", "--count", 18, "--render", "--json")

    lines = [json.loads(line) for line in out.splitlines()]
    holes = [line for line in lines if "hole" in line]
    assert (code, len(lines)) == (0, 18)
    assert [line["hole"]["reason"] for line in holes] == ["shard.unreadable"] * 4
    assert {line["shard"] for line in holes} == {"tiny-counting-train-000000.tar"}
    assert all("conversation" in line for line in lines if line not in holes)
