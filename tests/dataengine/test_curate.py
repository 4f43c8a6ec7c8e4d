"""Selections by license and by ratings: what they leave out, what is said before, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine import selection
from dataengine.cli import main
from dataengine.cli.output import progress
from dataengine.curate import Left, curate, parse
from dataengine.errors import SourceError, UsageError
from dataengine.index import Index, load_set
from dataengine.pipeline import Pipeline
from dataengine.ratings.table import load, rate
from dataengine.run import run_pipeline

if TYPE_CHECKING:
    from tests.conftest import Tiny


def _call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    return int(str(ended.value.code))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sharpnes < 20", "unknown rating 'sharpnes'; did you mean 'sharpness'?"),
        ("sharpness", "expected NAME OP VALUE"),
        ("sharpness < x", "sharpness is a number, expected one instead of 'x'"),
        ("sharpness < nan", "expected one instead of 'nan'"),
        ("sharpness < inf", "expected one instead of 'inf'"),
        ("language < en", "language is a word, expected == or !="),
        ("__import__('os') == 1", "expected NAME OP VALUE"),
        ("words > 80 or 1", "words is a number"),
        ("", "expected NAME OP VALUE"),
    ],
)
def test_mistakes_in_a_filter_are_named(text: str, says: str) -> None:
    with pytest.raises(UsageError) as found:
        parse(text)

    assert says in str(found.value)


@given(
    st.sampled_from(["words", "aspect", "repetition"]),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    st.floats(-1e6, 1e6),
    st.floats(-1e6, 1e6),
    st.sampled_from(["", " ", "  "]),
)
def test_a_filter_compares_as_python_does(
    name: str, sign: str, bound: float, value: float, space: str
) -> None:
    found = parse(f"{space}{name}{space}{sign}{space}{bound!r}{space}")

    assert found.holds(value) == eval(f"{value!r} {sign} {bound!r}")


def test_words_may_be_quoted() -> None:
    assert parse("language != en") == parse("language!='en'") == parse('language != "en"')
    assert parse("language != en").holds("de")
    assert str(parse("sharpness<20")) == "sharpness < 20"


def test_each_filter_leaves_out_and_notes_say_value_and_bound(tiny: Tiny) -> None:
    folder, _ = tiny.convert()
    rate([folder])
    rows = load(folder).to_pylist()
    bound = sorted(row["brightness"] for row in rows)[2]
    where = [parse(f"brightness < {bound!r}"), parse("side < 25"), parse("script == han")]

    choices, counts = curate([folder], where=where)

    dark = [row for row in rows if row["brightness"] < bound]
    assert [(one.out, one.unrated, one.samples) for one in counts] == [(2, 0, 6), (6, 0, 6), (0, 0, 6)]
    assert [one.id for one in choices if one.reason == "rating.brightness"] == [row["id"] for row in dark]
    assert choices[0].note == f"{dark[0]['brightness']:g}: brightness < {bound:g}"
    assert {one.note for one in choices if one.reason == "rating.side"} == {"24: side < 25"}


def test_what_is_not_rated_stays_in(tiny: Tiny) -> None:
    folder, _ = tiny.convert()
    (tiny.root / "images/001.jpg").unlink()
    rate([folder])

    choices, counts = curate([folder], where=[parse("sharpness >= 0")])

    assert counts == [Left(source="tiny/detection/train", by="sharpness >= 0", out=5, unrated=1, samples=6)]
    assert "tiny/train/1#detection" not in {one.id for one in choices}
    with pytest.raises(
        UsageError, match="no sample has a rating 'agreement'; rate them with --rate --agreement"
    ):
        curate([folder], where=[parse("agreement < 0.2")])


def test_a_filter_needs_ratings(tiny: Tiny) -> None:
    folder, _ = tiny.convert()

    with pytest.raises(SourceError, match="has no ratings yet"):
        curate([folder], where=[parse("side < 25")])
    assert curate([folder], profile="commercial_ok") == (
        [], [Left(source="tiny/detection/train", by="commercial_ok", out=0, unrated=0, samples=6)]
    )  # fmt: skip


def test_the_command_says_what_it_would_do_and_does_it_when_told(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace("images: CC-BY-4.0", "images: CC-BY-NC-4.0"))
    tiny.convert()
    out = tmp_path / "selection.parquet"
    asked = ("curate", tiny.out, "--rate", "--profile", "commercial_ok", "--where", "words < 1")

    assert _call(*asked) == 0
    said = capsys.readouterr().out
    assert not out.exists()
    assert _call(*asked, "--out", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)

    assert "6 of 6 samples left out; nothing is written without --out" in said
    assert (found["distinct"], found["samples"], found["rated"][0]["kept"]) == (6, 6, True)
    assert [(one["by"], one["out"]) for one in found["left_out"]] == [("commercial_ok", 6), ("words < 1", 0)]
    assert {one.note for one in selection.read(out)} == {"pictures: CC-BY-NC-4.0: commercial is no"}
    assert _call("shard", tiny.out, "--out", tmp_path / "s", "--selection", out) == 2
    assert "the selections leave out all 6 samples" in capsys.readouterr().err


def test_ratings_are_shown_and_pictures_without_are_said(
    tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.convert()
    (tiny.root / "images/001.jpg").unlink()

    assert _call("curate", tiny.out, "--rate") == 0
    first = capsys.readouterr()
    assert _call("curate", tiny.out, "--json") == 0

    assert "tiny/detection/train: 1 pictures could not be read and have no ratings" in first.err
    assert {one["rating"] for one in json.loads(capsys.readouterr().out)["histograms"]} >= {
        "sharpness",
        "words",
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", "x"], "--out needs --profile or --where"),
        (["--agreement", "x"], "--agreement goes with --rate"),
        (["--profile", "comercial_ok"], "did you mean 'commercial_ok'"),
        (["--where", "sides < 3"], "did you mean 'side'"),
    ],
)
def test_what_cannot_be_is_one_line(
    tiny: Tiny, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    tiny.convert()

    assert _call("curate", tiny.out, *options) == 2
    assert says in capsys.readouterr().err


def _pipeline(tiny: Tiny, **stages: Any) -> Pipeline:
    return msgspec.convert(
        {
            "title": "Tiny",
            "out": "unused",
            "roots": {"tiny": str(tiny.root)},
            "convert": [{"spec": str(tiny.spec), "root": "tiny", "splits": ["train"]}],
            "audit": False,
            **stages,
        },
        Pipeline,
    )


def test_a_pipeline_leaves_out_what_its_stages_say(tiny: Tiny, tmp_path: Path) -> None:
    mine = tmp_path / "mine.parquet"
    selection.write([selection.Choice(id="tiny/train/2#detection", keep=False, reason="marked")], mine)
    shards = {"runner": "local", "selections": [str(mine)]}
    roots = {"tiny": tiny.root}

    for curated, expected in (
        (None, [1, 3, 4, 5, 6]),
        ({"profile": "commercial_ok", "where": ["brightness < 0.4"]}, None),
        (None, [1, 3, 4, 5, 6]),
    ):
        stages = {"shard": shards} | ({"curate": curated} if curated else {})
        run_pipeline("tiny", _pipeline(tiny, **stages), progress, out=tmp_path / "out", roots=roots)
        ids = Index(tmp_path / "out/shards").table.column("id").to_pylist()
        if expected is not None:
            assert ids == [f"tiny/train/{number}#detection" for number in expected]
        else:
            rows = load(tmp_path / "out/manifests/tiny/detection/train").to_pylist()
            bright = [row["id"] for row in rows if row["brightness"] >= 0.4]
            assert 0 < len(bright) < 6
            assert ids == [name for name in bright if name != "tiny/train/2#detection"]
            reasons = {one.reason for one in load_set(tmp_path / "out/shards").dropped}
            assert reasons == {"selected.marked", "selected.rating.brightness"}
