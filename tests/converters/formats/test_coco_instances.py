from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.formats import voc_xml
from converters.formats.coco_instances import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.clean import clean
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.geometry import mask_from_rle

Samples = Callable[[str], Root]
SOURCE = Source(annotations="instances.json", images="train")


def _image(**fields: Any) -> dict[str, Any]:
    return {"id": 1, "file_name": "a.jpg", "width": 10, "height": 8, **fields}


def _object(**fields: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0, **fields}


def _root(folder: Path, **parts: Any) -> Root:
    content = {
        "images": [_image()],
        "annotations": [],
        "categories": [{"id": 3, "name": "cat"}, {"id": 1, "name": " dog "}],
        **parts,
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return Root(folder)


def _split(root: Root, source: Source = SOURCE) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(source, root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_a_box_becomes_corners_and_a_category_id_its_name(tmp_path: Path) -> None:
    root = _root(tmp_path, annotations=[_object()])

    (found,), rejected = _split(root)

    assert rejected == []
    assert found.key == "1"
    assert found.images[0].path == "train/a.jpg"
    assert (found.images[0].width, found.images[0].height) == (10, 8)
    assert [(item.id, item.category, item.box) for item in found.instances] == [("7", "cat", (1, 2, 4, 6))]
    assert found.exhaustive
    assert (found.origin.file, found.origin.record) == ("instances.json", "images[0]")


def test_labels_are_ordered_by_id_and_a_name_stands_once(tmp_path: Path) -> None:
    categories = [{"id": 9, "name": "cat"}, {"id": 3, "name": "cat"}, {"id": 1, "name": " dog "}]
    root = _root(tmp_path, categories=categories)

    assert labels(SOURCE, root).names == ("dog", "cat")


def test_a_category_that_only_groups_others_may_be_left_out(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "bees", "supercategory": "none"},
        {"id": 1, "name": "bees", "supercategory": "bees"},
        {"id": 2, "name": "wasps", "supercategory": "bees"},
        {"id": 3, "name": "hive", "supercategory": "none"},
        {"id": 4, "name": "odd", "supercategory": 7},
    ]
    root = _root(
        tmp_path, categories=categories, annotations=[_object(category_id=0), _object(category_id=1)]
    )
    skipping = Source(annotations="instances.json", images="train", parents="skip")

    assert labels(SOURCE, root).names == ("bees", "wasps", "hive", "odd")
    assert labels(skipping, root).names == ("bees", "wasps", "hive", "odd")
    (found,), rejected = _split(root, skipping)
    assert [item.reason for item in rejected] == ["category.unknown"]
    assert [(item.category, item.ignore) for item in found.instances] == [(None, True), ("bees", False)]

    categories[1]["name"] = "drone"
    grouped = _root(tmp_path, categories=categories)
    assert labels(SOURCE, grouped).names == ("bees", "drone", "wasps", "hive", "odd")
    assert labels(skipping, grouped).names == ("drone", "wasps", "hive", "odd")


def test_an_image_without_annotations_is_a_negative(tmp_path: Path) -> None:
    root = _root(tmp_path, annotations=[])

    (found,), _ = _split(root)

    assert found.instances == ()
    assert found.exhaustive


def test_a_crowd_is_marked_and_its_runs_are_kept(tmp_path: Path) -> None:
    runs = {"size": [8, 10], "counts": [8, 8, 64]}
    root = _root(tmp_path, annotations=[_object(iscrowd=1, segmentation=runs)])

    (found,), _ = _split(root)

    item = found.instances[0]
    assert item.crowd
    assert not item.ignore
    assert item.mask is not None
    mask = mask_from_rle(item.mask)
    # Runs go down the columns: the second column is the object.
    assert mask.shape == (8, 10)
    assert mask[:, 1].all()
    assert mask.sum() == 8


def test_polygons_of_one_object_are_united(tmp_path: Path) -> None:
    parts = [[0, 0, 2, 0, 2, 2, 0, 2], [6, 4, 8, 4, 8, 6, 6, 6]]
    root = _root(tmp_path, annotations=[_object(segmentation=parts)])

    (found,), _ = _split(root)

    assert found.instances[0].polygons == tuple(map(tuple, parts))
    mask = clean(found, [(10, 8)]).annotation.instances[0].mask
    assert mask is not None
    pixels = mask_from_rle(mask)
    assert pixels[:2, :2].all()
    assert pixels[4:6, 6:8].all()
    assert pixels.sum() == 8


def test_a_size_of_zero_is_a_size_that_nobody_knows(tmp_path: Path) -> None:
    root = _root(tmp_path, images=[_image(width=0, height=0)])

    (found,), _ = _split(root)

    assert (found.images[0].width, found.images[0].height) == (None, None)


def test_the_license_of_an_image_is_its_name(tmp_path: Path) -> None:
    root = _root(tmp_path, images=[_image(license=4)], licenses=[{"id": 4, "name": "CC BY 2.0", "url": "u"}])

    (found,), _ = _split(root)

    assert found.images[0].license == "CC BY 2.0"


def test_licenses_that_are_no_list_state_none(tmp_path: Path) -> None:
    root = _root(tmp_path, images=[_image(license=4)], licenses="see the site")

    (found,), _ = _split(root)

    assert found.images[0].license is None


def test_lvis_names_its_pictures_by_url(tmp_path: Path) -> None:
    image = {"id": 1, "coco_url": "http://images.cocodataset.org/val2017/000000000139.jpg"}
    root = _root(tmp_path, images=[image])

    (found,), _ = _split(root, Source(annotations="instances.json"))

    assert found.images[0].path == "val2017/000000000139.jpg"


def test_ids_as_numbers_and_as_text_are_the_same(tmp_path: Path) -> None:
    root = _root(tmp_path, images=[_image(id=1)], annotations=[_object(image_id="1")])

    (found,), rejected = _split(root)

    assert len(found.instances) == 1
    assert rejected == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"category_id": 2}, "category.unknown"),
        ({"bbox": [1, 2, 3]}, "schema"),
        ({"bbox": ["1", 2, 3, 4]}, "schema"),
        ({"segmentation": [[1, 1, 2, 2]]}, "polygon.invalid"),
        ({"segmentation": [[1, 1, 2, 2, 3]]}, "polygon.invalid"),
        ({"segmentation": [[[1, 1], [2, 2], [3, 3]]]}, "polygon.invalid"),
        ({"segmentation": {"size": [10, 8], "counts": [80]}}, "rle.size_mismatch"),
        ({"segmentation": {"size": [8, 10], "counts": [8, 8]}}, "rle.size_mismatch"),
        ({"segmentation": {"size": [8, 10], "counts": "~~~~"}}, "rle.size_mismatch"),
        ({"image_id": 99}, "id.orphan"),
        ({"image_id": None}, "schema"),
    ],
)
def test_a_defective_object_is_rejected_alone(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    root = _root(tmp_path, annotations=[_object(**fields), _object(id=8)])

    (found,), (rejected,) = _split(root)

    assert rejected.reason == reason
    assert rejected.detail
    assert rejected.origin.record == "annotations[0]"
    assert [item.id for item in found.instances if not item.ignore] == ["8"]


def test_a_rejected_object_stays_as_an_ignored_one(tmp_path: Path) -> None:
    root = _root(tmp_path, annotations=[_object(segmentation=[[1, 1, 2, 2]])])

    (found,), _ = _split(root)

    (item,) = found.instances
    assert (item.category, item.box, item.ignore, item.mask) == ("cat", (1, 2, 4, 6), True, None)
    assert found.exhaustive


@pytest.mark.parametrize("fields", [{"category_id": 2}, {"bbox": "wide"}])
def test_an_image_with_an_object_of_unknown_class_proves_no_absence(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    root = _root(
        tmp_path, images=[_image(), _image(id=2, file_name="b.jpg")], annotations=[_object(**fields)]
    )

    (first, second), _ = _split(root)

    assert not first.exhaustive
    assert second.exhaustive


def test_a_frame_that_is_not_labelled_proves_no_absence(tmp_path: Path) -> None:
    root = _root(tmp_path, images=[_image(is_labeled=False)])

    (found,), _ = _split(root)

    assert not found.exhaustive


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"id": 1}, "schema"),
        (_image(width=-4), "schema"),
        (_image(width="wide"), "schema"),
        ({"file_name": "a.jpg"}, "schema"),
        ("a.jpg", "schema"),
    ],
)
def test_a_defective_image_is_rejected_alone(tmp_path: Path, image: Any, reason: str) -> None:
    root = _root(tmp_path, images=[image, _image(id=2)])

    (found,), (rejected,) = _split(root)

    assert found.key == "2"
    assert (rejected.reason, rejected.origin.record) == (reason, "images[0]")


def test_the_second_image_of_an_id_is_rejected(tmp_path: Path) -> None:
    root = _root(tmp_path, images=[_image(), _image(file_name="b.jpg")], annotations=[_object()])

    (found,), (rejected,) = _split(root)

    assert found.images[0].path == "train/a.jpg"
    assert len(found.instances) == 1
    assert (rejected.reason, rejected.origin.record) == ("id.duplicate", "images[1]")


def test_a_name_that_leaves_the_root_is_passed_on_for_convert_to_refuse(tmp_path: Path) -> None:
    root = _root(tmp_path, images=[_image(file_name="../../secret.jpg")])

    (found,), _ = _split(root)

    assert found.images[0].path == "train/../../secret.jpg"


def test_a_file_that_is_cut_off_is_an_error_with_its_length(tmp_path: Path) -> None:
    root = _root(tmp_path)
    whole = (tmp_path / "instances.json").read_bytes()
    (tmp_path / "instances.json").write_bytes(whole[:40])

    with pytest.raises(
        SourceError, match=r"^instances\.json: .*truncated \(40 bytes read\); expected a COCO"
    ):
        _split(root)


def test_a_syntax_error_is_placed_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text('{"images": [],\n"annotations": [1,]}')

    with pytest.raises(SourceError, match=r"^instances\.json: line 2: "):
        _split(Root(tmp_path))


@pytest.mark.parametrize("text", ["[]", '{"images": {}, "annotations": []}', '{"annotations": []}', ""])
def test_another_layout_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "instances.json").write_text(text)

    with pytest.raises(SourceError, match="expected a COCO file"):
        _split(Root(tmp_path))


def test_brackets_without_end_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text('{"images": [' + "[" * 100_000)

    with pytest.raises(SourceError, match="recursion"):
        _split(Root(tmp_path))


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    root = _root(tmp_path)
    whole = (tmp_path / "instances.json").read_bytes()
    (tmp_path / "instances.json").write_bytes(b"\xef\xbb\xbf" + whole)

    assert len(_split(root)[0]) == 1


def test_reading_remembers_the_digest_of_the_file(tmp_path: Path) -> None:
    root = _root(tmp_path)

    _split(root)

    assert list(root.digests) == ["instances.json"]


_scrap = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats(-1e3, 1e3) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "image_id", "bbox", "counts", "size"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(
    images=st.lists(st.fixed_dictionaries({"id": _scrap, "file_name": _scrap, "width": _scrap}), max_size=4),
    objects=st.lists(
        st.fixed_dictionaries({"image_id": _scrap, "bbox": _scrap, "segmentation": _scrap, "id": _scrap}),
        max_size=6,
    ),
)
def test_every_image_and_every_object_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, images: list[Any], objects: list[Any]
) -> None:
    root = _root(tmp_path_factory.mktemp("coco"), images=images, annotations=objects)

    found, rejected = _split(root)

    places = [item.origin.record for item in found] + [item.origin.record for item in rejected]
    assert len([place for place in places if place.startswith("images")]) == len(images)
    used = sum(not item.ignore for annotation in found for item in annotation.instances)
    assert used + sum(place.startswith("annotations") for place in places) == len(objects)
    assert len({item.key for item in found}) == len(found)


def test_real_coco_reads_without_a_rejection(samples: Samples) -> None:
    root = samples("coco_instances")

    found, rejected = _split(root, Source(annotations="annotations/instances_val2017.json", images="val2017"))

    assert rejected == []
    assert len(found) == 2
    assert sum(len(item.instances) for item in found) == 26
    assert all((root.directory / item.images[0].path).is_file() for item in found)
    assert len(labels(Source(annotations="annotations/instances_val2017.json"), root).labels) == 80


def test_a_picture_is_named_by_its_address_where_the_source_says_so(tmp_path: Path) -> None:
    image = _image(coco_url="http://images.example.org/val2017/b.jpg")
    root = _root(tmp_path, images=[image])

    (found,), _ = _split(root, Source(annotations="instances.json", media="coco_url"))

    assert found.images[0].path == "val2017/b.jpg"


def test_the_start_of_a_file_name_is_stripped_once_and_only_where_it_stands(tmp_path: Path) -> None:
    names = ("all/images/all/images/a.jpg", "b.jpg")
    images = [_image(id=number, file_name=name) for number, name in enumerate(names)]
    root = _root(tmp_path, images=images)

    found, _ = _split(root, Source(annotations="instances.json", images="pictures", strip="all/images/"))

    assert [one.images[0].path for one in found] == ["pictures/all/images/a.jpg", "pictures/b.jpg"]


def test_categories_that_are_verified_absent_are_negatives(tmp_path: Path) -> None:
    root = _root(tmp_path, images=[_image(neg_category_ids=[1, 99])], annotations=[_object()])

    (found,), rejected = _split(root)

    assert found.negatives == ("dog",)
    assert not found.instances[0].ignore
    assert rejected == []


def test_objects_of_a_category_that_is_annotated_in_part_are_ignored(tmp_path: Path) -> None:
    image = _image(not_exhaustive_category_ids=[3])
    root = _root(tmp_path, images=[image], annotations=[_object(), _object(id=8, category_id=1)])

    (found,), _ = _split(root)

    assert [(item.category, item.ignore) for item in found.instances] == [("cat", True), ("dog", False)]
    assert not found.exhaustive


def test_a_region_where_nobody_was_annotated_is_an_ignored_object(tmp_path: Path) -> None:
    image = _image(ignore_regions_x=[[2, 6, 6, 2]], ignore_regions_y=[[1, 1, 5, 5]])
    root = _root(tmp_path, images=[image], categories=[{"id": 3, "name": "cat"}])

    (found,), rejected = _split(root)

    (region,) = found.instances
    assert (region.category, region.ignore) == ("cat", True)
    assert region.mask is not None
    rows, columns = mask_from_rle(region.mask).nonzero()
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (2, 1, 5, 4)
    assert rejected == []


@pytest.mark.parametrize(("xs", "ys"), [([[1, 2, 3]], [[1, 2]]), ([[1, 2]], [[1, 2]]), ([[1, 2, 3]], [])])
def test_a_region_that_is_no_polygon_is_rejected_and_nothing_is_known_to_be_absent(
    tmp_path: Path, xs: list[list[int]], ys: list[list[int]]
) -> None:
    root = _root(tmp_path, images=[_image(ignore_regions_x=xs, ignore_regions_y=ys)], annotations=[_object()])

    (found,), (rejected,) = _split(root)

    assert rejected.reason == "polygon.invalid"
    assert rejected.origin.record == "images[0].ignore_regions_x"
    assert len(found.instances) == 1
    assert not found.exhaustive


def test_real_lvis_states_what_is_absent_and_what_is_annotated_in_part(samples: Samples) -> None:
    source = Source(annotations="lvis_val_100.json", media="coco_url", exhaustive=False)

    found, rejected = _split(samples("lvis_v05_val100"), source)

    assert rejected == []
    assert len(found) == 100
    assert found[0].images[0].path == "val2017/000000266409.jpg"
    # Of 942 stated ids, all are in the file and none is annotated in the same picture.
    assert sum(len(one.negatives) for one in found) == 942
    assert not any({item.category for item in one.instances} & set(one.negatives) for one in found)
    assert any(item.ignore for one in found for item in one.instances)


def test_real_voc_boxes_are_the_same_numbers_in_coco_and_in_xml(samples: Samples) -> None:
    in_coco, _ = _split(samples("voc_coco_v1"), Source(annotations="instances_default.json"))
    voc = voc_xml.Source(image_set="ImageSets/Main/val.txt", origin=0)
    in_xml = [item for item in voc_xml.read(voc, samples("voc2007_2012_det")) if isinstance(item, Annotation)]

    def boxes(found: list[Annotation]) -> dict[str, list[Any]]:
        return {
            Path(item.images[0].path).stem: sorted((one.category, one.box) for one in item.instances)
            for item in found
        }

    assert boxes(in_coco) == boxes(in_xml)


def test_the_real_masks_lie_in_their_boxes(samples: Samples) -> None:
    root = samples("coco_instances")

    found, _ = _split(root, Source(annotations="annotations/instances_val2017.json"))

    masked = [
        item
        for one in found
        for item in clean(one, [(one.images[0].width or 0, one.images[0].height or 0)]).annotation.instances
        if item.mask is not None and item.box is not None
    ]
    assert masked
    for item in masked:
        assert item.mask is not None
        assert item.box is not None
        x0, y0, x1, y1 = item.box
        rows, columns = mask_from_rle(item.mask).nonzero()
        assert x0 - 2 <= columns.min() <= columns.max() <= x1 + 2
        assert y0 - 2 <= rows.min() <= rows.max() <= y1 + 2


@pytest.mark.parametrize("outline", [[], [[float(number) for number in range(40)]]])
def test_a_file_takes_less_than_three_times_its_size(tmp_path: Path, outline: list[list[float]]) -> None:
    count = 20_000
    objects = [
        _object(id=number, image_id=number // 10, segmentation=outline, area=12.5) for number in range(count)
    ]
    images = [_image(id=number) for number in range(count // 10)]
    root = _root(tmp_path, images=images, annotations=objects)
    size = (tmp_path / "instances.json").stat().st_size
    del objects

    tracemalloc.start()
    seen = sum(len(item.instances) for item in read(SOURCE, root) if isinstance(item, Annotation))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert seen == count
    assert peak < 3 * size
