from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from converters.formats import scenes
from converters.formats.scenes import Source
from dataengine.annotation import Annotation
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.errors import SourceError, SpecError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle, rle_area
from dataengine.images import decode
from dataengine.scenes.layout import compose
from dataengine.scenes.objects import BONES, JOINTS
from dataengine.spec import Resolved
from dataengine.strict import convert as strict

SEEDS = st.integers(0, 2**40)


def read(source: Source, directory: Path) -> list[Annotation]:
    return list(scenes.read(source, Root(directory)))


@given(seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_masks_are_what_is_seen_and_boxes_are_tight(seed: int) -> None:
    source = Source(seed=seed, count=2, size=112, max_objects=8)

    for index, annotation in enumerate(read(source, Path())):
        masks = [mask_from_rle(item.mask) for item in annotation.instances if item.mask]
        expected = compose(seed, index, 112, 8).ids
        assert np.array_equal(sum((n + 1) * mask for n, mask in enumerate(masks)), expected)
        for item, mask in zip(annotation.instances, masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert item.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_a_joint_is_visible_where_its_figure_is_in_front(seed: int) -> None:
    (annotation,) = read(Source(seed=seed, count=1, max_objects=8), Path())
    masks = [mask_from_rle(item.mask) for item in annotation.instances if item.mask]

    for number, item in enumerate(annotation.instances):
        assert (item.keypoints is not None) == (item.category == "figure")
        for x, y, v in item.keypoints or ():
            shown = [n for n, mask in enumerate(masks) if mask[int(y), int(x)]]
            assert len(shown) == 1
            assert v == (2 if shown == [number] else 1)


def test_some_joints_are_hidden_by_other_objects() -> None:
    found = read(Source(seed=3, count=60, max_objects=8), Path())

    seen = [v for one in found for item in one.instances for _, _, v in item.keypoints or ()]

    assert 0.01 < seen.count(1) / len(seen) < 0.3


def test_the_facts_of_a_scene_do_not_depend_on_count_or_start() -> None:
    whole = read(Source(seed=8, count=12), Path())

    assert read(Source(seed=8, start=5, count=3), Path()) == whole[5:8]
    assert len({one.key for one in whole}) == 12
    assert read(Source(seed=9, count=12), Path()) != whole


@pytest.mark.parametrize("facts", ["objects", "generation", "edits"])
def test_every_picture_that_is_read_is_prepared(tmp_path: Path, facts: str) -> None:
    source = msgspec.convert({"seed": 2, "count": 6, "start": 30, "size": 96, "facts": facts}, Source)

    scenes.prepare(source, tmp_path)

    for annotation in read(source, tmp_path):
        roles = [image.role for image in annotation.images]
        assert roles == {"objects": ["input"], "generation": ["target"], "edits": ["input", "target"]}[facts]
        for image in annotation.images:
            assert decode((tmp_path / image.path).read_bytes()).shape == (96, 96, 3)
        assert (tmp_path / annotation.origin.file).is_file()


def test_before_and_after_differ_in_the_pictures_themselves(tmp_path: Path) -> None:
    source = Source(seed=2, count=8, size=96, facts="edits")

    scenes.prepare(source, tmp_path)

    for annotation in read(source, tmp_path):
        before, after = (decode((tmp_path / image.path).read_bytes()) for image in annotation.images)
        ratio = (before != after).any(axis=2).mean()
        assert 0 < ratio < 0.5
        assert (annotation.edits[0].before, annotation.edits[0].after) == (0, 1)


@pytest.mark.parametrize("folder", ["../elsewhere", "/elsewhere", "a/../../b", ""])
def test_no_picture_is_written_outside_the_root(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "root"
    root.mkdir()

    with pytest.raises(SourceError, match=r"source\.folder must stay inside --root"):
        scenes.prepare(Source(seed=1, count=1, folder=folder), root)

    assert [path.name for path in tmp_path.rglob("*")] == ["root"]


def test_no_picture_is_written_through_a_link_that_leads_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "root" / "scenes").symlink_to(tmp_path / "out")

    with pytest.raises(SourceError, match="leads out"):
        scenes.prepare(Source(seed=1, count=1), tmp_path / "root")

    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"seed": 1, "count": 2, "size": 40}, "source.size: expected `int` >= 96"),
        ({"seed": 1, "count": 2, "max_objects": 40}, "source.max_objects: expected `int` <= 12"),
        ({"seed": 1, "count": -2}, "source.count: expected `int` >= 0"),
        ({"seed": 1, "count": 2, "fact": "edits"}, "unknown key 'fact'; did you mean 'facts'?"),
        ({"count": 2}, "missing key 'seed'"),
    ],
)
def test_settings_that_make_no_scene_are_refused(keys: dict[str, object], text: str) -> None:
    with pytest.raises(SpecError) as caught:
        strict(keys, Source, "x.yaml", ["source"])

    assert text.replace("`", "'") in str(caught.value)


def test_the_label_space_fits_what_is_read() -> None:
    space = scenes.labels(Source(seed=1, count=1), Root(Path()))
    figure = space.find("figure")

    found = read(Source(seed=1, count=80, max_objects=8), Path())

    assert {item.category for one in found for item in one.instances} == set(space.names)
    assert figure is not None
    assert figure.keypoints == JOINTS
    assert figure.skeleton == BONES
    assert len(figure.sigmas) == len(JOINTS)
    mirrored = {
        figure.keypoints[a].replace("left_", "right_"): figure.keypoints[b] for a, b in figure.flip_pairs
    }
    assert all(left == right for left, right in mirrored.items())
    assert {name for pair in figure.flip_pairs for name in pair} == {
        n for n, name in enumerate(JOINTS) if name.startswith(("left_", "right_"))
    }
    assert all(len(item.keypoints) == 14 for one in found for item in one.instances if item.keypoints)


def test_the_area_of_a_visible_object_is_never_tiny() -> None:
    found = read(Source(seed=1, count=60, size=96, max_objects=12), Path())

    assert min(rle_area(item.mask) for one in found for item in one.instances if item.mask) >= 20


def test_training_and_evaluation_never_show_the_same_scene() -> None:
    splits = Catalog().find("scenes/detection")[0].dataset.source.splits
    numbers = {
        name: set(range(split.options["start"], split.options["start"] + split.options["count"]))
        for name, split in splits.items()
    }

    for name, split in splits.items():
        for other, partner in splits.items():
            if split.use != partner.use:
                assert not numbers[name] & numbers[other]


def few(spec: Resolved, count: int) -> Resolved:
    """Return the task spec with splits of `count` scenes."""
    source = spec.dataset.source
    splits = {
        name: replace(split, options={**split.options, "count": count})
        for name, split in source.splits.items()
    }
    return replace(spec, dataset=replace(spec.dataset, source=replace(source, splits=splits)))


@pytest.mark.parametrize("spec", Catalog().find("scenes"), ids=lambda spec: str(spec.id))
def test_every_task_on_scenes_converts_without_loss(tmp_path: Path, spec: Resolved) -> None:
    for split in spec.splits:
        ledger = convert(few(spec, 16), split, tmp_path / "root", tmp_path / "out")

        assert ledger.quarantined == {}
        assert ledger.objects_dropped == {}
        assert ledger.objects_fixed == {}
        assert ledger.skipped == {}
        assert ledger.samples == ledger.units >= 16


def test_the_same_facts_on_every_machine() -> None:
    found = read(Source(seed=7, count=4), Path())

    assert [xxhash.xxh3_64_hexdigest(msgspec.json.encode(one)) for one in found] == [
        "67ebac85d9c0abc6",
        "6b38e17cd046b1f1",
        "6a0fd259b44b3698",
        "e1925e64d914e137",
    ]
