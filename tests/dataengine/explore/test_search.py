"""Filters find exactly what looking at every sample finds."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine import manifest as manifests
from dataengine.errors import DataEngineError
from dataengine.explore import parts, search
from dataengine.explore.findings import Findings
from dataengine.explore.marked import Mark
from dataengine.explore.search import Filter, shuffled
from dataengine.explore.session import Ask, Found, Session
from dataengine.sample import Sample
from tests.dataengine.explore.making import made, report, write

WORDS = [
    "Katze",
    "KATZE,",
    "cat",
    "concat",
    "straße",
    "STRASSE",
    "猫",
    "猫と犬",
    "a.c",
    "[DET]",
    "x_cat",
    "élan",
    "%",
    "\\",
]
LABELS = ["cat", "dog", "Straße"]
LICENSES = ["CC-BY-4.0", "unspecified"]


def _samples() -> dict[str, list[Sample]]:
    found = {}
    for number, (dataset, task, split) in enumerate(
        [("d", "detection", "train"), ("d", "detection", "val"), ("e", "grounding", "train")]
    ):
        found[f"{dataset}/{task}/{split}"] = [
            made(
                i,
                " ".join(WORDS[(i * k + number) % len(WORDS)] for k in (1, 3, 5)),
                tuple(name for k, name in enumerate(LABELS) if (i >> k) & 1),
                LICENSES[i % 3 == 0],
                dataset,
                task,
                split,
                f"{i // 2}.png",
            )
            for i in range(23)
        ]
    return found


def _findings() -> list[dict[str, Any]]:
    return [
        {
            "rule": "box.tiny", "subject": "d/detection/train", "key": "d/train/3#detection", "file": "all.json",
            "record": "images[9]",
        },
        {"rule": "box.tiny", "subject": "d/detection/val", "key": "7", "file": "all.json", "record": "images[7]"},
        {"rule": "image.blank", "subject": "e/grounding/train", "image": "4.png"},
        {"rule": "image.blank", "subject": "somewhere/else/train", "image": "1.png"},
        {"rule": "class.rare", "subject": "d/detection/train", "detail": "of all"},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("explore")
    for samples in _samples().values():
        write(folder / "manifests", samples)
    before, parts.PART = parts.PART, 5
    session = Session(
        [folder / "manifests"],
        folder / "cache",
        folder / "marks.parquet",
        report(folder / "report", _findings()),
    )
    parts.PART = before
    for number in (0, 5, 40):
        name = session.page(Ask(filter=Filter()), number, 1)["cards"][0]["id"]
        session.put(name, Mark(keep=number == 5), None)
    yield session
    session.close()


def _all(session: Session, ask: Ask) -> Found:
    until = time.monotonic() + 20
    while not (found := session.found(ask)).complete:
        assert time.monotonic() < until
    return found


def _has_rule(sample: Sample, source: str, rule: str) -> bool:
    for one in _findings():
        if one["rule"] != rule or one["subject"] != source:
            continue
        if "#" in one.get("key", ""):
            hit = one["key"] == sample.id
        elif "file" in one:
            hit = (one["file"], one["record"]) == (sample.origin.file, sample.origin.record)
        else:
            hit = one.get("image") in [image.path for image in sample.images]
        if hit:
            return True
    return False


def _fits(sample: Sample, source: str, wanted: Filter) -> bool:
    text = "\n".join(turn.text for turn in sample.conversation).casefold()
    asked = wanted.text.casefold()
    if not wanted.text.strip():
        said = True
    elif wanted.how == "contains":
        said = asked in text
    else:
        # A letter or digit is what str.isalnum says, `_` belongs to words as well.
        said = all(
            any(
                not (text[at - 1 : at] or " ").replace("_", "a").isalnum()
                and not (text[at + len(word) : at + len(word) + 1] or " ").replace("_", "a").isalnum()
                for at in (match.start() for match in re.finditer(f"(?={re.escape(word)})", text))
            )
            for word in asked.split()
        )
    dataset, task, split = source.split("/")
    return (
        said
        and (not wanted.task or task in wanted.task)
        and (not wanted.dataset or dataset in wanted.dataset)
        and (not wanted.split or split in wanted.split)
        and (
            not wanted.license
            or bool({sample.license.images, sample.license.annotations} & {*wanted.license})
        )
        and (not wanted.label or bool({one.label for one in sample.targets.instances} & {*wanted.label}))  # type: ignore[union-attr]
        and (not wanted.rule or any(_has_rule(sample, source, rule) for rule in wanted.rule))
        and not wanted.unreadable
    )


def _some(*names: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), max_size=2, unique=True).map(tuple)


FILTERS = st.builds(
    Filter,
    task=_some("detection", "grounding", "none"),
    dataset=_some("d", "e"),
    split=_some("train", "val"),
    rule=_some("box.tiny", "image.blank", "class.rare", "gone.rule"),
    license=_some("CC-BY-4.0", "unspecified", "CC0-1.0"),
    label=_some(*LABELS, "lion"),
    text=st.sampled_from([
        "", " ", "CAT", "katze", "straße", "strasse", "犬", "[det]", "a.c", "a_c", "cat straße", "ÉLAN", "%",
        "\\",
    ]),
    how=st.sampled_from(["contains", "words"]),
)  # fmt: skip


@given(wanted=FILTERS)
def test_a_filter_finds_what_looking_at_all_samples_finds(opened: Session, wanted: Filter) -> None:
    every = [(sample, source) for source, samples in _samples().items() for sample in samples]

    found = _all(opened, Ask(filter=wanted))

    assert found.rows.tolist() == [
        row for row, (sample, source) in enumerate(every) if _fits(sample, source, wanted)
    ]


@given(wanted=FILTERS, seed=st.integers(0, 2**40))
def test_every_order_holds_the_same_samples_and_marks_part_them(
    opened: Session, wanted: Filter, seed: int
) -> None:
    rows = _all(opened, Ask(filter=wanted)).rows.tolist()

    by_chance = _all(opened, Ask(filter=wanted, seed=seed)).rows.tolist()
    parted = {
        name: _all(opened, Ask(filter=wanted, mark=name, seed=seed)).rows.tolist()
        for name in ("kept", "dropped", "unmarked")
    }

    assert sorted(by_chance) == rows
    assert {name: set(some) & {0, 5, 40} for name, some in parted.items()} == {
        "kept": {5} & {*rows}, "dropped": {0, 40} & {*rows}, "unmarked": set(),
    }  # fmt: skip
    assert sorted(row for some in parted.values() for row in some) == rows
    # Without those that are marked, the others stand in the same order.
    assert parted["unmarked"] == [row for row in by_chance if row not in (0, 5, 40)]


@given(wanted=FILTERS, seed=st.none() | st.integers(0, 9), row=st.integers(0, 68))
def test_going_on_from_any_sample_meets_its_neighbours(
    opened: Session, wanted: Filter, seed: int | None, row: int
) -> None:
    ask = Ask(filter=wanted, seed=seed)
    rows = _all(opened, ask).rows.tolist()

    shown = opened.sample(ask, row)

    if row in rows:
        place = rows.index(row)
        assert shown["position"] == place
        assert shown["before"] == (rows[place - 1] if place else None)
        assert shown["after"] == (rows[place + 1] if place + 1 < len(rows) else None)
    else:
        order = (
            shuffled(np.array(sorted([*rows, row]), np.uint32), seed).tolist()
            if seed is not None
            else sorted([*rows, row])
        )
        place = order.index(row)
        assert shown["position"] is None
        assert shown["before"] == (order[place - 1] if place else None)
        assert shown["after"] == (order[place + 1] if place + 1 < len(order) else None)


def test_pages_cut_the_hits_without_loss(opened: Session) -> None:
    ask = Ask(filter=Filter(label=("dog",)), seed=4)

    pages = [opened.page(ask, start, 7) for start in range(0, 40, 7)]

    assert [card["row"] for page in pages for card in page["cards"]] == _all(opened, ask).rows.tolist()
    assert {page["total"] for page in pages} == {len(_all(opened, ask).rows)}


def test_a_sample_shows_the_findings_that_are_about_it(opened: Session) -> None:
    rules = {
        row: [one["rule"] for one in opened.sample(Ask(filter=Filter()), row)["findings"]]
        for row in (3, 9, 30, 54, 55)
    }

    assert rules == {3: ["box.tiny"], 9: [], 30: ["box.tiny"], 54: ["image.blank"], 55: ["image.blank"]}
    assert [one["rule"] for one in opened.about()["whole"]] == ["class.rare"]


def test_names_are_counted_by_samples(opened: Session) -> None:
    _all(opened, Ask(filter=Filter(text="x")))

    names = opened.about()["names"]

    every = [sample for samples in _samples().values() for sample in samples]
    assert names["task"] == {"detection": 46, "grounding": 23}
    assert names["label"]["dog"] == sum(
        _fits(one, "d/detection/train", Filter(label=("dog",))) for one in every
    )
    assert names["license"]["CC0-1.0"] == 69
    assert names["rule"] == {"box.tiny": 2, "image.blank": 2, "class.rare": 1}


def test_the_index_is_made_once_and_what_is_half_made_is_made_again(
    tmp_path: Path, open_session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART", 3)
    write(tmp_path / "m", [made(i, f"number {i}") for i in range(10)])
    first = open_session(tmp_path / "m")
    assert len(_all(first, Ask(filter=Filter(text="number"))).rows) == 10
    files = sorted((tmp_path / "cache").rglob("*.parquet"))
    assert len(files) == 4
    stamps = {path: path.stat().st_mtime_ns for path in files}
    files[1].write_bytes(files[1].read_bytes()[:-5])
    files[2].unlink()

    again = open_session(tmp_path / "m")

    assert _all(again, Ask(filter=Filter(text="number 7"))).rows.tolist() == [7]
    kept = {path for path in files if path.stat().st_mtime_ns == stamps[path]}
    assert kept == {files[0], files[3]}


def test_other_samples_in_the_same_place_have_an_index_of_their_own(
    tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    place = write(tmp_path / "m", [made(i, "old") for i in range(4)])
    assert len(_all(open_session(tmp_path / "m"), Ask(filter=Filter(text="old"))).rows) == 4
    rows = [manifests.sample_row(made(i, "new"), None) for i in range(4)]
    pq.write_table(manifests.table(rows, manifests.SAMPLE_SCHEMA), place / manifests.SAMPLES)
    known = msgspec.structs.replace(manifests.load(place), fingerprint="another")
    manifests.dump(known, place)

    session = open_session(tmp_path / "m")

    assert len(_all(session, Ask(filter=Filter(text="old"))).rows) == 0
    assert len(_all(session, Ask(filter=Filter(text="new"))).rows) == 4


def test_what_cannot_be_read_is_counted_and_found(
    tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    place = write(tmp_path / "m", [made(i) for i in range(6)])
    table = pq.read_table(place / manifests.SAMPLES)
    broken = [b"{" if i == 2 else data for i, data in enumerate(table.column("sample").to_pylist())]
    rows = table.set_column(table.schema.get_field_index("sample"), "sample", [broken])
    pq.write_table(rows, place / manifests.SAMPLES)

    session = open_session(tmp_path / "m")

    assert _all(session, Ask(filter=Filter(unreadable=True))).rows.tolist() == [2]
    assert session.about()["unreadable"] == 1
    assert "is no sample" in session.page(Ask(filter=Filter()), 2, 1)["cards"][0]["problem"]
    assert "is no sample" in session.sample(Ask(filter=Filter()), 2)["problem"]


def test_the_findings_of_a_set_of_shards_are_those_of_its_folder(
    tiny_shards: Path, tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    session = open_session(tiny_shards)
    names = [card["id"] for card in session.page(Ask(filter=Filter()), 0, 20)["cards"]]
    rows = [
        {"rule": "a", "subject": str(tiny_shards), "key": names[4]},
        {"rule": "b", "subject": "/another/place", "key": names[4]},
    ]

    session = open_session(tiny_shards, report=report(tmp_path / "r", rows))

    assert _all(session, Ask(filter=Filter(rule=("a",)))).rows.tolist() == [4]
    assert _all(session, Ask(filter=Filter(rule=("b",)))).rows.tolist() == []
    assert len(Findings(tmp_path / "r", session.collection)) == 2


def test_no_thread_outlives_a_session(
    tmp_path: Path, open_session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow aborts a process that ends while a thread is in it."""
    begun, matches = threading.Event(), search.matches

    def slow(*given: Any) -> Any:
        begun.set()
        time.sleep(0.3)
        return matches(*given)

    monkeypatch.setattr(search, "matches", slow)
    write(tmp_path / "m", [made(i) for i in range(10)])
    session = open_session(tmp_path / "m")
    threading.Thread(target=session.found, args=(Ask(filter=Filter(text="here")),), daemon=True).start()
    assert begun.wait(20)

    session.close()

    assert {"search", "parts"} & {thread.name for thread in threading.enumerate()} == set()


def test_an_empty_split_is_no_trouble(tmp_path: Path, open_session: Callable[..., Session]) -> None:
    place = write(tmp_path / "m", [made(0)])
    pq.write_table(manifests.table([], manifests.SAMPLE_SCHEMA), place / manifests.SAMPLES)
    write(tmp_path / "m", [made(1, dataset="e")])

    alone, both = open_session(place), open_session(tmp_path / "m")

    assert (len(_all(alone, Ask(filter=Filter(text="x"), seed=1)).rows), alone.about()["samples"]) == (0, 0)
    assert _all(both, Ask(filter=Filter(text="here"))).rows.tolist() == [0]
    assert both.about()["names"]["dataset"] == {"e": 1, "d": 0}


def test_a_defect_of_the_index_is_told(
    tmp_path: Path, open_session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path / "m", [made(1)])
    open_session(tmp_path / "m").close()
    for file in (tmp_path / "cache").rglob("*.parquet"):
        file.unlink()
    monkeypatch.setattr(parts, "write_atomic", full)

    session = open_session(tmp_path / "m")

    with pytest.raises(DataEngineError, match=r"search index cannot be made: .*No space"):
        _all(session, Ask(filter=Filter(text="x")))
    assert "No space" in session.about()["error"]
    assert len(_all(session, Ask(filter=Filter())).rows) == 1
