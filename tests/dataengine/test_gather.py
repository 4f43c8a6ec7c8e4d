from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Annotation, Image, Instance, Origin, Rejected
from dataengine.catalog import Catalog
from dataengine.check import check_spec
from dataengine.errors import SpecError
from dataengine.gather import Pools, gather
from dataengine.manifest import read_samples
from dataengine.preview import preview
from dataengine.spec import Gather

if TYPE_CHECKING:
    from tests.conftest import Tiny

ITEMS = st.lists(
    # A label or two of a few, and a picture of a few: several items show the same one.
    st.tuples(st.lists(st.sampled_from("abcd"), max_size=2, unique=True), st.integers(0, 30)),
    max_size=40,
)
HOW = st.builds(
    lambda low, more, pool, same: Gather(by="label", same=same, shots=(low, low + more), pool=low + more + pool),
    st.integers(1, 3), st.integers(0, 2), st.integers(1, 4), st.sampled_from(["all", "some"]),
)  # fmt: skip


def item(key: str, labels: tuple[str, ...] = (), picture: str | None = None, **facts: Any) -> Annotation:
    return Annotation(
        key=key,
        images=(Image(path=picture or f"{key}.jpg"),),
        labels=labels,
        origin=Origin(file="f", record=key),
        **facts,
    )


def present(path: str) -> bool:
    """Say of every picture that it is there."""
    return True


def made(content: list[tuple[list[str], int]]) -> list[Annotation | Rejected]:
    return [
        item(str(number), tuple(labels), f"{picture}.jpg") for number, (labels, picture) in enumerate(content)
    ]


@given(content=ITEMS, how=HOW, identity=st.text(max_size=3))
@settings(deadline=None, max_examples=200)
def test_every_item_is_asked_once_and_its_examples_are_other_pictures(
    content: list[tuple[list[str], int]], how: Gather, identity: str
) -> None:
    items = made(content)

    found = list(gather(how, identity, lambda: items, present))

    assert [one.key for one in found] == [one.key for one in items]
    for before, after in zip(items, found, strict=True):
        assert isinstance(before, Annotation)
        if isinstance(after, Rejected):
            assert after.reason == "gather.no_example"
            assert after.origin == before.origin
            continue
        paths = [image.path for one in (*after.examples, after) for image in one.images]
        assert len(set(paths)) == len(paths)
        assert how.shots[0] <= len(after.examples) <= how.shots[1]
        assert after.shared in before.labels
        of_class = [after.shared in one.labels for one in after.examples]
        assert all(of_class) if how.same == "all" else any(of_class)
        assert {one.key for one in after.examples} <= {one.key for one in items}


@given(content=ITEMS, how=HOW)
@settings(deadline=None, max_examples=100)
def test_an_item_is_left_out_only_where_its_split_has_too_few_others(
    content: list[tuple[list[str], int]], how: Gather
) -> None:
    items = made(content)

    for before, after in zip(items, gather(how, "x", lambda: items, present), strict=True):
        if isinstance(after, Rejected):
            assert isinstance(before, Annotation)
            own = before.images[0].path
            for name in before.labels:
                others = {
                    one.images[0].path
                    for one in items
                    if isinstance(one, Annotation) and name in one.labels and one.images[0].path != own
                }
                # A pool may hold one picture several times, so only a pool that nothing was dropped from is proof.
                num_items = sum(isinstance(one, Annotation) and name in one.labels for one in items)
                if num_items <= how.pool:
                    assert len(others) < how.shots[0]


@given(content=ITEMS, how=HOW, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_examples_do_not_depend_on_the_order_of_the_source(
    content: list[tuple[list[str], int]], how: Gather, seed: int
) -> None:
    items = made(content)
    turned = items[::-1]
    pools, turned_pools = Pools(how, f"{seed}", present), Pools(how, f"{seed}", present)

    for one, other in zip(items, turned, strict=True):
        assert isinstance(one, Annotation) and isinstance(other, Annotation)
        pools.add(one)
        turned_pools.add(other)

    assert pools.kept == turned_pools.kept


@given(content=ITEMS, how=HOW)
@settings(deadline=None, max_examples=60)
def test_no_pool_grows_beyond_its_size(content: list[tuple[list[str], int]], how: Gather) -> None:
    pools = Pools(how, "x", present)

    for one in made(content):
        assert isinstance(one, Annotation)
        pools.add(one)
        assert all(len(pool) <= how.pool for pool in pools.kept.values())


def test_a_stream_of_any_length_is_read_piece_by_piece() -> None:
    alive: list[int] = []

    def read() -> Iterator[Annotation | Rejected]:
        for number in range(3000):
            alive.append(number)
            yield item(f"{number}", ("a",))

    found = gather(Gather(by="label"), "x", read, present)
    next(iter(found))

    assert len(alive) == 3001  # once through for the pools, then no further than was asked for


def test_what_a_reader_rejects_stays_as_it_is_and_is_nobodys_example() -> None:
    bad = Rejected(key="bad", reason="schema", detail="", origin=Origin(file="f", record="0"))
    items: list[Annotation | Rejected] = [bad, item("1", ("a",)), item("2", ("a",))]

    first, second, third = gather(Gather(by="label", shots=(1, 1)), "x", lambda: items, present)

    assert first is bad
    assert isinstance(second, Annotation) and [one.key for one in second.examples] == ["2"]
    assert isinstance(third, Annotation) and [one.key for one in third.examples] == ["1"]


def test_an_item_whose_picture_is_missing_is_nobodys_example() -> None:
    items = [item(f"{number}", ("a",)) for number in range(40)]
    how = Gather(by="label", shots=(1, 2), pool=4)

    found = list(gather(how, "x", lambda: items, lambda path: path in ("3.jpg", "4.jpg")))

    examples = {
        asked.key: [one.key for one in asked.examples] for asked in found if isinstance(asked, Annotation)
    }
    assert examples == {f"{number}": [] for number in range(40)} | {"3": ["4"], "4": ["3"]}


def test_an_item_without_the_fact_or_with_several_pictures_is_left_out() -> None:
    pair = Annotation(
        key="pair",
        images=(Image(path="a.jpg"), Image(path="b.jpg")),
        labels=("a",),
        origin=Origin(file="f", record="r"),
    )
    items = [item("1", ("a",)), item("2", ("a",)), item("bare"), pair]

    found = list(gather(Gather(by="label", shots=(1, 1)), "x", lambda: items, present))

    assert [one.detail for one in found if isinstance(one, Rejected)] == [
        "no label",
        "2 pictures, expected one",
    ]
    assert not any(
        one.key in ("bare", "pair")
        for asked in found
        if isinstance(asked, Annotation)
        for one in asked.examples
    )


def test_an_example_of_another_class_has_none_of_the_asked_ones() -> None:
    items = [item("1", ("a", "b")), item("2", ("a",)), *(item(f"b{number}", ("b",)) for number in range(9))]
    items += [item("3", ("c",)), item("4", ("d",))]
    how = Gather(by="label", same="some", shots=(3, 3))

    for identity in map(str, range(40)):
        first = next(iter(gather(how, identity, lambda: items, present)))
        if isinstance(first, Annotation) and first.shared == "a":
            assert {one.key for one in first.examples} == {"2", "3", "4"}


def test_a_category_with_a_crowd_is_no_class_of_its_picture() -> None:
    def shows(key: str, crowd: bool) -> Annotation:
        one = Instance(id="0", category="cat", box=(0, 0, 5, 5))
        two = Instance(id="1", category="cat", box=(5, 5, 9, 9), crowd=crowd)
        return item(key, instances=(one, two))

    items = [shows("1", False), shows("2", False), shows("3", True)]

    found = list(gather(Gather(by="category", shots=(1, 2)), "x", lambda: items, present))

    assert [type(one).__name__ for one in found] == ["Annotation", "Annotation", "Rejected"]
    assert [one.key for asked in found[:2] if isinstance(asked, Annotation) for one in asked.examples] == [
        "2",
        "1",
    ]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("{}", "gather: missing key 'by'"),
        ("{by: lable}", "lable"),
        ("{by: label, shots: [0, 3]}", "no range of 1 to 5"),
        ("{by: label, shots: [2, 6]}", "no range of 1 to 5"),
        ("{by: label, pool: 5}", "expected more than 5"),
        ("{by: label, shorts: [1, 2]}", "did you mean 'shots'"),
    ],
)
def test_mistakes_in_the_key_are_named_with_their_line(tiny: Tiny, keys: str, says: str) -> None:
    text = tiny.spec.read_text().replace("detection: {}", f"in_context_text: {{fact: label, gather: {keys}}}")
    tiny.spec.write_text(text)

    with pytest.raises(SpecError, match=r"tiny\.yaml:\d+: .*") as caught:
        Catalog().find(str(tiny.spec))

    assert says in str(caught.value)


def test_a_task_that_shows_no_examples_is_told_so(tiny: Tiny) -> None:
    tiny.spec.write_text(
        tiny.spec.read_text().replace("detection: {}", "detection: {gather: {by: category}}")
    )

    (mistake,) = check_spec(Catalog(), str(tiny.spec))

    assert "task 'detection' cannot show examples" in mistake


@pytest.fixture
def shown(tiny: Tiny) -> Tiny:
    """The tiny dataset, asked with examples: every picture shows a dog and one of three animals."""
    more = "  in_context_mask: {gather: {by: category, same: all, shots: [1, 3]}}\n"
    more += "  in_context_text: {fact: category, gather: {by: category}}\n"
    tiny.spec.write_text(tiny.spec.read_text().replace("status:", f"{more}status:"))
    document = tiny.document()
    for one in document["annotations"]:
        x, y, width, height = one["bbox"]
        one["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    tiny.write(document)
    return tiny


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".parquet"}


def test_the_account_balances_and_names_the_asked_item(shown: Tiny) -> None:
    document = shown.document()
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] != 4]
    shown.write(document)

    folder, ledger = shown.convert(task="in_context_mask")

    assert (ledger.units, ledger.samples, ledger.skipped) == (6, 5, {"gather.no_example": 1})
    found = list(read_samples(folder))
    assert [sample.id for sample in found] == [f"tiny/train/{n}#in_context_mask" for n in (1, 2, 3, 5, 6)]
    assert [sample.origin.record for sample in found] == [f"images[{n}]" for n in (0, 1, 2, 4, 5)]
    assert [sample.images[-1].path for sample in found] == [
        f"images/{n:03d}.{'jpg' if n % 2 else 'png'}" for n in (1, 2, 3, 5, 6)
    ]


def test_workers_and_a_second_run_change_nothing(shown: Tiny, tmp_path: Path) -> None:
    one, _ = shown.convert(task="in_context_text")
    two, _ = shown.convert(task="in_context_text", out=tmp_path / "two", workers=2)

    assert parts(one) == parts(two)
    said: list[str] = []
    shown.convert(task="in_context_text", progress=lambda count, text: said.append(text))
    assert said == ["unchanged"]


def test_a_run_that_was_stopped_goes_on_with_what_is_done(shown: Tiny, tmp_path: Path) -> None:
    shown.repeat(1200)
    whole, _ = shown.convert(task="in_context_mask", out=tmp_path / "whole")

    class Stopped(BaseException):
        pass

    def stop(count: int, text: str) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        shown.convert(task="in_context_mask", progress=stop)
    (done,) = shown.out.glob("tiny/in_context_mask/train/.parts/*")
    before, kept = done.stat().st_mtime_ns, set[int]()
    folder, ledger = shown.convert(
        task="in_context_mask", progress=lambda count, text: kept.add(done.stat().st_mtime_ns)
    )

    assert parts(folder) == parts(whole)
    assert kept == {before}
    assert ledger.units == 1200


def test_the_order_of_records_changes_no_sample(shown: Tiny, tmp_path: Path) -> None:
    one, _ = shown.convert(task="in_context_text")
    document = shown.document()
    document["images"].reverse()
    shown.write(document)
    two, _ = shown.convert(task="in_context_text", out=tmp_path / "two")

    first, second = ({sample.id: sample for sample in read_samples(folder)} for folder in (one, two))
    assert first.keys() == second.keys()
    for name, sample in first.items():
        # The record of the file is another one.
        assert msgspec.structs.replace(second[name], origin=sample.origin) == sample


def test_another_seed_gives_other_examples(shown: Tiny, tmp_path: Path) -> None:
    one, _ = shown.convert(task="in_context_text")
    two, _ = shown.convert(task="in_context_text", out=tmp_path / "two", seed=1)

    assert parts(one)["samples.parquet"] != parts(two)["samples.parquet"]


def test_the_key_is_part_of_what_a_manifest_is_made_from(shown: Tiny) -> None:
    (before,) = Catalog().find(f"{shown.spec}")[2:]
    shown.spec.write_text(shown.spec.read_text().replace("{by: category}", "{by: category, pool: 31}"))

    (after,) = Catalog().find(f"{shown.spec}")[2:]

    assert before.gather is not None and before.hash() != after.hash()


def test_an_example_whose_picture_is_gone_is_left_out_and_lost_as_an_item(shown: Tiny) -> None:
    (shown.root / "images/003.jpg").write_bytes(b"no picture")

    folder, ledger = shown.convert(task="in_context_mask")

    assert ledger.quarantined == {"image.corrupt": 1}
    assert ledger.samples + sum(ledger.skipped.values()) == 5
    # Who had it among other examples does without; who had it alone is skipped.
    assert ledger.samples >= 3 and set(ledger.skipped) <= {"gather.no_example"}
    assert not any(image.path == "images/003.jpg" for one in read_samples(folder) for image in one.images)


def test_pictures_that_came_later_bring_their_items_back(shown: Tiny) -> None:
    pictures = sorted((shown.root / "images").iterdir())[1:6]
    kept = {path: path.read_bytes() for path in pictures}
    for path in pictures:
        path.unlink()
    _, before = shown.convert(task="in_context_mask", allow_empty=True)
    for path, data in kept.items():
        path.write_bytes(data)

    _, after = shown.convert(task="in_context_mask")

    assert (before.samples, before.quarantined) == (0, {"image.missing": 5})
    assert (after.samples, after.quarantined) == (6, {})


def test_a_preview_shows_the_samples_of_the_conversion(shown: Tiny) -> None:
    spec = Catalog().find(str(shown.spec))[1]

    found = preview(spec, "train", shown.root, 3)

    folder, _ = shown.convert(task="in_context_mask")
    assert [sample for sample, _ in found.samples] == list(read_samples(folder, 0, 3))
    assert [len(pictures) for _, pictures in found.samples] == [len(s.images) for s, _ in found.samples]


def test_licenses_of_all_shown_pictures_are_those_of_the_sample(shown: Tiny) -> None:
    document = shown.document()
    document["licenses"] = [{"id": 1, "name": "A"}, {"id": 2, "name": "B"}]
    for number, image in enumerate(document["images"]):
        image["license"] = 1 if number else 2
    shown.write(document)

    folder, _ = shown.convert(task="in_context_mask")

    for sample in read_samples(folder):
        stated = sorted({image.license for image in sample.images if image.license})
        assert stated and sample.license.images == " AND ".join(stated)
