from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine import sample as samples
from dataengine import schema, yaml12
from dataengine.audit.state import explain
from dataengine.catalog import shipped_specs
from dataengine.index import load_set
from dataengine.ledger import dump
from dataengine.sample import Sample

if TYPE_CHECKING:
    from tests.conftest import Tiny


@pytest.mark.parametrize("name", schema.PUBLISHED)
def test_a_published_schema_equals_the_type_it_was_made_from(name: str) -> None:
    assert (schema.folder() / f"{name}.json").read_bytes() == schema.encode(schema.PUBLISHED[name])


def test_no_schema_is_published_that_has_no_type() -> None:
    assert {path.stem for path in schema.folder().glob("*.json")} == set(schema.PUBLISHED)


@pytest.mark.parametrize("name", schema.PUBLISHED)
def test_a_schema_is_valid_draft_2020_12(name: str) -> None:
    made = schema.generate(schema.PUBLISHED[name])

    jsonschema.Draft202012Validator.check_schema(made)

    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def _valid(name: str, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema.generate(schema.PUBLISHED[name])).is_valid(value))


@pytest.mark.parametrize(
    ("name", "folder"),
    [("dataset", "datasets"), ("task", "tasks"), ("prompts", "prompts"), ("labels", "labels")],
)
def test_shipped_specs_fit_their_published_schema(name: str, folder: str) -> None:
    paths = sorted((shipped_specs() / folder).glob("*.yaml"))

    assert paths
    assert [path.name for path in paths if not _valid(name, yaml12.load(path))] == []


def test_what_convert_and_shard_write_fits_its_published_schema(tiny: Tiny, tiny_shards: Path) -> None:
    _, ledger = tiny.convert()

    assert _valid("ledger", json.loads(dump(ledger)))
    assert _valid("shards", json.loads((tiny_shards / "shards.json").read_bytes()))
    assert load_set(tiny_shards).schema_hash == schema.digest(Sample)


SAMPLE: dict[str, Any] = {
    "id": "tiny/train/1#detection", "task": "detection", "dataset": "tiny", "split": "train",
    "images": [{"path": "a.jpg", "width": 32, "height": 24, "format": "jpeg"}],
    "conversation": [{"role": "user", "text": "<image>\nWhere?"}, {"role": "assistant", "text": "cat[DET]"}],
    "targets": {"type": "instances", "instances": [{"label": "cat", "box": [1, 2, 3.5, 4], "area": 5.0}]},
    "origin": {"dataset": "tiny", "file": "f", "record": "r", "spec": "s", "spec_hash": "h", "reader": "x"},
    "license": {"annotations": "CC0-1.0", "images": "CC0-1.0"},
    "routes": [{"token": "[DET]", "kind": "category", "name": "cat"}],
}  # fmt: skip
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.text(max_size=3), st.lists(st.integers(), max_size=5),
    st.just({}), st.sampled_from(["jpeg", "user", "instances", "text", [1, 2, 3, 4]]),
)  # fmt: skip


BY_RUST = jsonschema_rs.Draft202012Validator(schema.generate(Sample))


def _agree(value: Any) -> tuple[bool, bool, bool]:
    """Say whether a sample is valid by its type, and by two validators that know only its schema."""
    try:
        samples.decode(json.dumps(value))
    except msgspec.ValidationError:
        by_msgspec = False
    else:
        by_msgspec = True
    return by_msgspec, _valid("sample", value), BY_RUST.is_valid(value)


def test_a_sound_sample_passes_all_validators() -> None:
    assert _agree(SAMPLE) == (True, True, True)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in _places(inner, (*path, key)))][
        bool(not path) :
    ]


@settings(deadline=None, max_examples=150)
@given(place=st.sampled_from(_places(SAMPLE)), junk=JUNK, how=st.sampled_from(["replace", "remove", "add"]))
def test_all_validators_agree_on_a_mutated_sample_and_what_is_wrong_is_explained(
    place: tuple[Any, ...], junk: Any, how: str
) -> None:
    value = json.loads(json.dumps(SAMPLE))
    holder = value
    for key in place[:-1]:
        holder = holder[key]
    if how == "remove":
        del holder[place[-1]]
    elif how == "add" and isinstance(holder, dict):
        holder["strange"] = junk
    else:
        holder[place[-1]] = junk

    verdicts = _agree(value)

    assert len(set(verdicts)) == 1
    assert bool(explain(json.dumps(value).encode())) is not verdicts[0]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"id": 5}, "$.id: 5 is not of type 'string'"),
        ({"images": [{"path": "a.jpg", "width": "wide", "height": 24, "format": "jpeg"}]},
         "$.images[0].width: 'wide' is not of type 'integer'"),
        ({"images": [{"path": "a.jpg", "width": 32, "height": 24, "format": "jp2"}]},
         "$.images[0].format: 'jp2' is not one of ['bmp', 'gif', 'jpeg', 'png', 'tiff', 'webp']"),
        ({"targets": {"type": "instances", "instances": [{"label": "cat", "box": [1, 2, 3], "area": 5.0}]}},
         "$.targets.instances[0].box: [1, 2, 3] is too short"),
        ({"strange": 1}, "$: Additional properties are not allowed ('strange' was unexpected)"),
    ],
)  # fmt: skip
def test_every_violation_is_told_by_path_and_value(change: dict[str, Any], line: str) -> None:
    assert explain(json.dumps({**SAMPLE, **change}).encode()) == [line]


def test_all_violations_are_told() -> None:
    value = {**SAMPLE, "id": 5, "strange": 1}
    del value["license"]

    places = [line.partition(":")[0] for line in explain(json.dumps(value).encode())]
    assert sorted(places) == ["$", "$", "$.id"]


def test_a_value_of_several_kinds_is_held_against_the_one_whose_tag_it_has() -> None:
    found = {"label": 1, "box": [1, 2, 3], "area": "wide", "strange": 1}
    value = {**SAMPLE, "targets": {"type": "instances", "instances": [found]}}

    lines = explain(json.dumps(value).encode())

    assert len(lines) == 4
    assert all(line.startswith("$.targets.instances[0]") for line in lines)
