from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow.parquet as pq
import pytest

from dataengine import sample as samples
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.errors import ShardError
from dataengine.index import load_set
from dataengine.render import Renderer, RenderOptions
from dataengine.sample import InstanceTargets, Sample
from dataengine.shard import shard
from dataengine.shares import Recipe
from dataengine.stream import Stream

if TYPE_CHECKING:
    from tests.conftest import Tiny

ANEW = RenderOptions(first_pass="anew")


def open_stream(shards: Path, render: RenderOptions | None = ANEW, seed: int = 3, **fields: Any) -> Stream:
    recipe = Recipe(seed=seed, global_batch=6, policy="proportional", **fields)
    return Stream(shards, recipe, render=render)


def read(stream: Stream, count: int = 45) -> list[Sample]:
    return [stream.read(position)[0] for position in range(count)]


def words(sample: Sample) -> tuple[Any, ...]:
    return sample.conversation, sample.routes, sample.prompt


def test_the_first_pass_is_as_stored_and_the_next_ones_are_not(tiny_shards: Path) -> None:
    stored = read(open_stream(tiny_shards, None))

    served = read(open_stream(tiny_shards, RenderOptions()))

    assert served[:9] == stored[:9]
    assert all(words(a) != words(b) for a, b in zip(served[9:], stored[9:], strict=True))
    assert [msgspec.structs.replace(a, conversation=b.conversation, routes=b.routes, prompt=b.prompt)
            for a, b in zip(served, stored, strict=True)] == stored  # fmt: skip


def test_the_first_pass_can_be_worded_anew_too(tiny_shards: Path) -> None:
    stored = read(open_stream(tiny_shards, None), 9)

    served = read(open_stream(tiny_shards), 9)

    assert all(words(a) != words(b) for a, b in zip(served, stored, strict=True))


def test_words_depend_on_seed_sample_and_pass_alone(tiny_shards: Path) -> None:
    straight = read(open_stream(tiny_shards))

    backwards = open_stream(tiny_shards)
    other_order = {
        (sample.id, stream.plan[position].epoch): sample
        for stream in [open_stream(tiny_shards, mode="stratified")]
        for position, sample in enumerate(read(stream))
    }

    assert [backwards.read(position)[0] for position in reversed(range(45))] == straight[::-1]
    plan = backwards.plan
    assert all(other_order[one.id, plan[t].epoch] == one for t, one in enumerate(straight))


def test_a_sample_is_described_in_the_words_that_it_is_served_in(tiny_shards: Path) -> None:
    stream = open_stream(tiny_shards)

    described = [stream.describe(position) for position in range(20)]

    assert described == read(stream, 20)


def test_another_seed_or_pass_gives_other_words(tiny_shards: Path) -> None:
    found = load_set(tiny_shards)
    (sample, *_) = read(open_stream(tiny_shards, None))

    said = {
        words(Renderer(found, ANEW, seed).render(sample, epoch)) for seed in (1, 2) for epoch in range(20)
    }

    assert len(said) > 30


def test_what_is_to_evaluate_keeps_its_words(tiny: Tiny, tmp_path: Path) -> None:
    # Of a number that is asked for, only the template can be another.
    tiny.spec.write_text(tiny.spec.read_text().replace("detection: {}", "counting: {}"))
    for split in ("train", "val"):
        tiny.convert(split, "counting")
    shard([tiny.out], tmp_path / "s")
    changed = {}
    for use, count in (("train", 12), ("eval", 12)):
        recipe = Recipe(seed=1, global_batch=3)
        stored, anew = (Stream(tmp_path / "s", recipe, use=use, render=one) for one in (None, ANEW))
        changed[use] = [anew.read(t) != stored.read(t) for t in range(count)]

    assert sum(changed["train"]) > 6 and not any(changed["eval"])


def test_options_of_the_run_limit_the_class_list(tiny_shards: Path) -> None:
    asked = {len(one.routes) for one in read(open_stream(tiny_shards), 90)}
    few = {
        len(one.routes)
        for one in read(open_stream(tiny_shards, RenderOptions(first_pass="anew", max_classes=1)), 90)
    }
    all_of_them = read(open_stream(tiny_shards, RenderOptions(first_pass="anew", all_ratio=1.0)), 90)

    assert asked >= {2, 3} and few == {1}
    assert {len(one.routes) for one in all_of_them} == {3}


def test_older_shards_that_do_not_tell_what_was_left_out_name_only_what_was_named_as_absent(
    tiny_shards: Path, tmp_path: Path
) -> None:
    older = Path(shutil.copytree(tiny_shards, tmp_path / "s"))
    table = pq.read_table(older / "index.parquet")
    pq.write_table(table.drop_columns(["unsure"]), older / "index.parquet")
    named = {one.id: {route.name for route in one.routes} for one in read(open_stream(older, None), 9)}
    assert {len(names) for names in named.values()} == {1, 2, 3}

    for sample in read(open_stream(older, RenderOptions(first_pass="anew", all_ratio=1.0))):
        assert {route.name for route in sample.routes} == named[sample.id]


def test_a_class_whose_only_object_is_a_crowd_is_never_named(tiny: Tiny, tmp_path: Path) -> None:
    document = tiny.document()
    for one in document["annotations"]:
        # Every picture has a dog, and some have a bird as well.
        one["iscrowd"] = int(one["category_id"] == 7)
    tiny.write(document)
    tiny.convert()
    found = shard([tiny.out], tmp_path / "s")
    crowded = {f"tiny/train/{one['image_id']}#detection" for one in document["annotations"] if one["iscrowd"]}
    assert found.sources[0].samples == 6 and 0 < len(crowded) < 6

    named: dict[str, set[str]] = {}
    for sample in read(open_stream(tmp_path / "s"), 120):
        named.setdefault(sample.id, set()).update(route.name for route in sample.routes)

    for name, classes in named.items():
        assert classes == ({"cat", "dog"} if name in crowded else {"cat", "dog", "bird"})


def test_an_object_whose_class_is_not_asked_for_is_no_target(tiny_shards: Path) -> None:
    for sample in read(open_stream(tiny_shards, RenderOptions(first_pass="anew", max_classes=1))):
        assert isinstance(sample.targets, InstanceTargets)
        assert {one.label for one in sample.targets.instances} == {one.name for one in sample.routes}


@pytest.mark.parametrize(
    ("field", "value"), [("max_classes", 0), ("max_absent", -1), ("all_ratio", 1.5), ("first_pass", "never")]
)
def test_options_that_cannot_be_are_refused(field: str, value: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert({field: value}, RenderOptions)


BANK = """\
id: mine
question_slots: [classes]
answer_slots: [classes]
questions: {en01: "Mine: {classes}?", en02: "Also mine: {classes}!", en03: "Tell me of {classes}."}
answers: {en01: "These: {classes}.", en02: "Look: {classes}."}
"""
TASK = """\
id: my_detection
title: Mine
unit: image
builder: instances
decoder: detection
routing: ["[DET]"]
prompts: mine
requires: [box]
"""


def test_shards_of_own_specs_and_banks_are_enough(tiny: Tiny, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    for folder, name, text in (
        ("prompts", "mine", BANK),
        ("tasks", "my_detection", TASK),
        ("datasets", "tiny", tiny.spec.read_text().replace("detection: {}", "my_detection: {}")),
    ):
        (mine / folder).mkdir(parents=True)
        (mine / folder / f"{name}.yaml").write_text(text)
    (spec,) = Catalog(mine).find("tiny")
    convert(spec, "train", tiny.root, tiny.out)
    shard([tiny.out], tmp_path / "s")
    for gone in (mine, tiny.root, tiny.out, tiny.spec.parent):
        shutil.rmtree(gone)

    asked = {one.conversation[0].text.split(":")[0] for one in read(open_stream(tmp_path / "s"), 30)}

    assert asked >= {"<image>\nMine", "<image>\nAlso mine"}
    assert {one.prompt.bank for one in read(open_stream(tmp_path / "s"), 6)} == {"mine"}


def test_splits_of_different_specs_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    text = tiny.spec.read_text().replace("val: {annotations: val.json, use: eval}",
                                         "val: {annotations: val.json, use: train}")  # fmt: skip
    tiny.spec.write_text(text)
    tiny.convert("train")
    tiny.spec.write_text(text.replace("detection: {}", "detection: {max_classes: 2}"))
    tiny.convert("val")
    shard([tiny.out], tmp_path / "s")

    assert len(read(open_stream(tmp_path / "s", None), 9)) == 9
    with pytest.raises(
        ShardError, match="detection/train and tiny/detection/val were made with different specs"
    ):
        open_stream(tmp_path / "s")


def test_words_anew_pass_the_sample_check(tiny_shards: Path) -> None:
    for sample in read(open_stream(tiny_shards), 90):
        samples.check(sample)
        assert samples.decode(samples.encode(sample)) == sample


def test_a_set_that_does_not_know_a_spec_is_not_worded_anew(tiny_shards: Path, tmp_path: Path) -> None:
    restored = Path(shutil.copytree(tiny_shards, tmp_path / "s"))
    found = load_set(restored)
    (restored / "shards.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(found, specs={})))

    assert len(read(open_stream(restored, None), 9)) == 9
    with pytest.raises(ShardError, match="detection: missing, expected the spec that tiny/detection/other"):
        open_stream(restored)


def test_classes_of_an_unknown_label_space_are_chosen_among_those_that_a_sample_names(
    tiny_shards: Path, tmp_path: Path
) -> None:
    restored = Path(shutil.copytree(tiny_shards, tmp_path / "s"))
    found = load_set(restored)
    sources = tuple(msgspec.structs.replace(source, labels=None) for source in found.sources)
    (restored / "shards.json").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(found, sources=sources))
    )
    named = {one.id: {route.name for route in one.routes} for one in read(open_stream(restored, None), 9)}

    for sample in read(open_stream(restored)):
        assert {route.name for route in sample.routes} <= named[sample.id]
        samples.check(sample)
