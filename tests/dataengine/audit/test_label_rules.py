"""Ids, joins, classes, names of pictures and splits: what breaks a rule, and its sound neighbour."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dataengine.annotation import (
    Annotation,
    Caption,
    Edit,
    Expression,
    Image,
    Instance,
    Label,
    LabelSpace,
    Origin,
    Question,
)
from dataengine.audit import geometry, labels, paths
from dataengine.audit.block import Block
from dataengine.audit.rule import Corpus, Facts, Hit, SampleFacts, Whole
from dataengine.audit.run import audit, broken
from dataengine.audit.table import ANNOTATION_RULES
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.sample import (
    InstanceTargets,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
)

if TYPE_CHECKING:
    from tests.conftest import Tiny

CAT = Instance(id="1", category="cat", box=(1, 2, 20, 18))


def annotation(**fields: Any) -> Annotation:
    images = (Image(path="a.jpg", width=32, height=24, license="CC-BY-4.0"),)
    values = {
        "key": "1",
        "images": images,
        "origin": Origin(file="f", record="r"),
        "instances": (CAT,),
        **fields,
    }
    return Annotation(**values)


def rules(item: Annotation) -> list[str]:
    return [rule for rule, check in ANNOTATION_RULES for _ in check(Facts(item, [(32, 24)]))]


def shown(corpus: Corpus, items: Iterable[Annotation]) -> list[str]:
    for item in items:
        corpus.add(Block([item], [[(32, 24)]]))
    return [hit.detail for hit in corpus.hits()]


def thing(**fields: Any) -> Instance:
    return Instance(**{"id": "2", "category": "dog", "box": (3, 3, 9, 9), **fields})


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"expressions": (Expression(id="e", text="it", instances=(1,)),)}, ["id.orphan"]),
        ({"questions": (Question(id="q", text="what?", instances=(-1,)),)}, ["id.orphan"]),
        ({"relations": ((0, "on", 3),)}, ["id.orphan"]),
        ({"edits": (Edit(id="e", instruction="paint it", before=0, after=1),)}, ["id.orphan"]),
        ({"instances": (CAT, thing(image=1))}, ["id.orphan"]),
        ({"relations": ((0, "on", 0),), "expressions": (Expression(id="e", text="it", instances=(0,)),)}, []),
        ({"instances": (CAT, thing(category="DontCare"))}, ["ignore.used_as_object"]),
        ({"instances": (CAT, thing(category="ignored regions"))}, ["ignore.used_as_object"]),
        ({"instances": (CAT, thing(category=None, text="###"))}, ["ignore.used_as_object"]),
        ({"instances": (CAT, thing(category="DontCare", ignore=True))}, []),
        ({"instances": (CAT, thing(category=None, text="ignored"))}, []),
        ({"negatives": ("dog",)}, ["label.not_exhaustive_used_as_negative"]),
        ({"negatives": ("dog",), "exhaustive": False}, []),
        ({"instances": (CAT, thing(category="cat", box=(1, 2, 20, 18)))}, ["box.duplicate"]),
        ({"instances": (thing(category="cat", box=(1.1, 2, 20, 18)), CAT)}, ["box.duplicate"]),
        ({"instances": (CAT, thing(box=CAT.box))}, []),
        ({"instances": (CAT, thing(category="cat", box=CAT.box, crowd=True))}, []),
        ({"instances": (CAT, thing(category="cat", box=(3, 2, 22, 18)))}, []),
        (
            {"instances": (thing(category=None, box=CAT.box), thing(id="3", category=None, box=CAT.box))},
            [],
        ),
        ({"captions": (Caption(id="1", text="a dog [0.1, 0.22, 1.31, 0.4]"),)}, ["point.norm_range"]),
        ({"captions": (Caption(id="1", text="a dog [0.1, 0.22, 1.001, 0.4] [1.5, 2.5, 9.5, 1.0]"),)}, []),
        ({"images": (Image(path="a\\b.jpg"),)}, ["path.separator"]),
        ({"images": (Image(path="a\nb.jpg"),)}, ["path.separator"]),
        ({"images": (Image(path="cafe\u0301.jpg"),)}, ["path.unicode"]),
        ({"images": (Image(path="caf\u00e9 (1).jpg"),)}, []),
    ],
)
def test_an_annotation_breaks_the_rule_that_it_should_and_no_other(
    fields: dict[str, Any], found: list[str]
) -> None:
    assert rules(annotation(**fields)) == found


def test_of_many_boxes_each_twin_is_found_once() -> None:
    boxes = [(x, x % 7, x + 5, 20) for x in range(20)]
    twins = [thing(id=str(n), category="cat", box=box) for n, box in enumerate(boxes * 2)]

    hits = list(geometry.duplicate(Facts(annotation(instances=tuple(twins)), [(32, 24)])))

    assert len(hits) == 20
    assert {hit.box for hit in hits} == set(boxes)


def _many(count: int, make: Callable[[int], Iterable[Instance]]) -> list[Annotation]:
    return [annotation(key=str(n), instances=tuple(make(n))) for n in range(count)]


def test_ids_that_count_on_through_a_file_and_stand_twice_are_named() -> None:
    def ids(number: int) -> tuple[Instance, ...]:
        return (thing(id=str(number)), thing(id=str(309 if number in (7, 9) else 1000 + number)))

    assert shown(labels.RepeatedIds(), _many(200, ids)) == ["1 object ids stand twice: 309"]


def test_ids_that_begin_anew_in_each_picture_stand_twice_for_no_reason() -> None:
    assert shown(labels.RepeatedIds(), _many(200, lambda _: (thing(id="0"), thing(id="1")))) == []


def test_a_box_over_the_whole_of_many_pictures_and_one_that_is_always_the_same_are_found() -> None:
    def box(number: int) -> tuple[float, float, float, float]:
        return (
            (0, 0, 32, 24) if number % 4 == 0 else (2, 2, 8, 8) if number % 4 == 1 else (1, 1, 9, 9 + number)
        )

    items = _many(400, lambda number: (thing(box=box(number)),))

    assert shown(geometry.WholeImage(), items) == [
        "in 100 of 400 pictures with boxes, a box covers the whole picture"
    ]
    assert shown(geometry.Constant(), items)[0].endswith("have the box (0, 0, 32, 24)")
    assert shown(geometry.Constant(), items)[1].endswith("have the box (2, 2, 8, 8)")


def test_boxes_that_move_are_not_the_same_however_many_there_are() -> None:
    items = _many(3000, lambda number: (thing(box=(number, 1, number + 5, 9)),))

    assert shown(geometry.Constant(), items) == []
    assert shown(geometry.WholeImage(), items) == []


def whole(names: tuple[str, ...], counts: dict[str, int]) -> Whole:
    return Whole(LabelSpace(id="x", labels=tuple(Label(name=name) for name in names)), Counter(counts))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("cat", "Cat"), 1),
        (("traffic light", "traffic_lights"), 1),
        (("sofa", "chair", "couch"), 1),
        (("tvmonitor", "TV"), 1),
        (("cat", "dog"), 0),
        (("glass", "glasses", "bus", "pants", "grass", "pan"), 0),
        (("B", "b1", "1", "11"), 0),
        (("car", "cart", "carts"), 1),
    ],
)
def test_names_of_one_class_are_proposed_to_be_one(names: tuple[str, ...], found: int) -> None:
    assert len(list(labels.alias(whole(names, {})))) == found


def test_a_rare_class_is_told_beside_the_most_frequent() -> None:
    hits = list(labels.imbalance(whole((), {"a": 6000, "b": 100})))

    assert [hit.detail for hit in hits] == ["'a' 6000 times, 'b' 100 times"]
    assert not list(labels.imbalance(whole((), {"a": 5000, "b": 100})))


def test_a_first_or_last_class_that_alone_never_occurs_looks_like_a_shift() -> None:
    names = ("a", "b", "c", "d", "e")
    used = dict.fromkeys(names, 30)

    assert len(list(labels.shift(whole(names, {**used, "a": 0})))) == 1
    assert len(list(labels.shift(whole(names, {**used, "e": 0})))) == 1
    assert not list(labels.shift(whole(names, {**used, "c": 0})))
    assert not list(labels.shift(whole(names, {**used, "a": 0, "b": 0})))
    assert not list(labels.shift(whole(("background", *names[1:]), {**used, "a": 0})))


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        (((1, 2), (3, 4)), []),
        (((1, 4),), ["mirror partners 'left_eye' and 'right_ear'", "'right_eye' has no mirror partner",
                     "'left_ear' has no mirror partner"]),
        (((1, 1), (3, 4)), ["'left_eye' is its own mirror partner", "'right_eye' has no mirror partner"]),
        (((1, 9), (3, 4)), ["mirror partners 1 and 9 of 5 keypoints", "'right_eye' has no mirror partner"]),
        (((1, 2),), ["'left_ear' has no mirror partner", "'right_ear' has no mirror partner"]),
        ((), []),
    ],
)  # fmt: skip
def test_a_mirror_partner_is_the_same_point_of_the_other_side(pairs: Any, found: list[str]) -> None:
    names = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    space = LabelSpace(id="x", labels=(Label(name="person", keypoints=names, flip_pairs=pairs),))

    lines = [hit.detail.removeprefix("person: ") for hit in labels.swap_map(Whole(space, Counter()))]

    assert [line for line in lines if "2 mirror" not in line] == found


def _sample(name: str, targets: InstanceTargets) -> SampleFacts:
    sample = Sample(
        id="d/t/1#x",
        task="detection",
        dataset="d",
        split="t",
        images=(SampleImage(path="a.jpg", width=32, height=24, format="jpeg"),),
        conversation=(),
        targets=targets,
        routes=(Route(token="[DET]", kind="category", name=name),),
        origin=SampleOrigin(dataset="d", file="f", record="r", spec="s", spec_hash="h", reader="x"),
        license=SampleLicense(annotations="CC0-1.0", images="CC0-1.0"),
    )
    return SampleFacts(sample)


def test_a_class_of_which_nobody_knows_is_not_asked_for() -> None:
    def hits(**fields: Any) -> list[Hit]:
        return list(labels.unknown_as_absent(_sample("dog", InstanceTargets(instances=(), **fields))))

    assert len(hits(exhaustive=False)) == 1
    assert hits(exhaustive=False, negatives=("dog",)) == hits(exhaustive=True) == []


def test_a_target_that_is_no_object_is_found_unless_it_is_ignored() -> None:
    def hits(**fields: Any) -> list[Hit]:
        item = TargetInstance(label="DontCare", box=(1, 1, 5, 5), area=16, **fields)
        return list(labels.target_none(_sample("DontCare", InstanceTargets(instances=(item,)))))

    assert len(hits()) == 1
    assert hits(ignore=True) == []


def test_names_that_differ_in_capitals_alone_are_counted() -> None:
    def named(*names: str) -> list[Annotation]:
        return [annotation(key=name, images=(Image(path=name),)) for name in names]

    assert shown(paths.SameButCase(), named("a.jpg", "A.jpg", "b.jpg")) == [
        "2 names of pictures are another one's but for capitals"
    ]
    assert shown(paths.SameButCase(), named("a.jpg", "a.jpg", "b.jpg")) == []


def _found(tiny: Tiny) -> dict[str, int]:
    return dict(Counter(finding.rule for finding in audit([tiny.out]).findings))


def test_a_missing_file_of_another_case_or_form_is_pointed_to(tiny: Tiny) -> None:
    tiny.convert()
    folder = tiny.root / "images"
    (folder / "001.jpg").rename(folder / "001.JPG")
    (folder / "002.png").unlink()

    assert _found(tiny) == {"image.missing": 2, "path.case": 1}


def test_a_picture_of_two_splits_is_found_by_name_and_by_its_bytes(tiny: Tiny) -> None:
    tiny.convert("train")
    tiny.convert("val")
    assert _found(tiny) == {}

    document = tiny.document("val")
    document["images"][0]["file_name"] = "001.jpg"
    tiny.write(document, "val")
    shutil.copy(tiny.root / "images/002.png", tiny.root / "images" / document["images"][1]["file_name"])
    tiny.convert("val")
    report = audit([tiny.out])

    overlap = [finding for finding in report.findings if finding.rule == "split.overlap"]
    assert [(one.subject, one.image) for one in overlap] == [
        ("tiny/detection/val", "images/001.jpg"),
        ("tiny/detection/val", f"images/{document['images'][1]['file_name']}"),
    ]
    assert [one.rule for one in broken(report)] == ["split.overlap"]


def test_a_stated_size_that_is_not_the_files_is_found_without_conversion(tiny: Tiny) -> None:
    document = tiny.document()
    document["images"][0]["width"] = 64
    tiny.write(document)

    report = audit(
        [tiny.root / "train.json"], format_name="coco_instances", root=tiny.root, options={"images": "images"}
    )

    assert Counter(one.rule for one in report.findings) == {"box.size_mismatch": 1, "license.missing": 1}


LVIS = ("lvis_v05_val100", "lvis_val_100.json", "coco_instances")
VRD = ("vrd", "test.pkl", "vrd")
VRD_FILES = {"objects": "obj.txt", "predicates": "rel.txt", "images": "sg_test_images"}


@pytest.mark.parametrize(
    ("file", "options", "rule", "hits"),
    [
        (("taco", "data/annotations.json", "coco_instances"), {}, "polygon.self_intersect", 3),
        (
            ("labelme_instance", "data_dataset_coco/annotations.json", "coco_instances"),
            {},
            "polygon.self_intersect",
            2,
        ),
        (("ochuman", "test_ochuman.json", "coco_keypoints"), {}, "mask.box_mismatch", 1),
        (
            ("coco_captions", "annotations/instances_train2014.json", "coco_instances"),
            {},
            "polygon.outside",
            3,
        ),
        (LVIS, {"media": "coco_url", "exhaustive": "false"}, "mask.box_mismatch", 13),
        (LVIS, {"media": "coco_url"}, "label.not_exhaustive_used_as_negative", 84),
        (VRD, VRD_FILES, "box.duplicate", 3),
        (VRD, VRD_FILES, "category.name_alias", 3),
        (VRD, VRD_FILES, "label.imbalance", 1),
    ],
)
def test_real_files_break_what_they_are_known_to_break(
    samples_dir: Callable[[str], Path],
    file: tuple[str, str, str],
    options: dict[str, str],
    rule: str,
    hits: int,
) -> None:
    folder, name, format_name = file

    report = audit([samples_dir(folder) / name], format_name=format_name, options=options)

    assert Counter(one.rule for one in report.findings)[rule] == hits


def test_corners_of_a_real_file_go_the_other_way(samples_dir: Callable[[str], Path], tmp_path: Path) -> None:
    (spec,) = (one for one in Catalog().find("wildreceipt") if one.task.id == "detection")

    convert(spec, "toy", samples_dir("wildreceipt"), tmp_path)

    found = [one.detail for one in audit([tmp_path]).findings if one.rule == "quad.order"]
    assert [line[:42] for line in found] == ["86 of 86 quadrilaterals go counter-clockwise"[:42]]


@pytest.mark.parametrize(
    "file",
    [
        ("coco_instances", "annotations/instances_val2017.json", "coco_instances"),
        ("coco_keypoints", "test_coco.json", "coco_keypoints"),
    ],
)
def test_real_files_that_are_sound_break_no_rule_on_geometry_or_labels(
    samples_dir: Callable[[str], Path], file: tuple[str, str, str]
) -> None:
    folder, name, format_name = file

    report = audit([samples_dir(folder) / name], format_name=format_name)

    families = ("polygon.", "mask.", "quad.", "box.", "label.", "category.", "path.", "id.", "ignore.")
    assert [one for one in report.findings if one.rule.startswith(families)] == []


def test_a_box_that_many_pictures_have_is_found_among_very_many_others() -> None:
    same = (2, 2, 8, 8)
    corpus = geometry.Constant()
    for place in range(3000):
        boxes = [(3 * place + number, 1, 3 * place + 40, 30 + place) for number in range(3)]
        twice = [same, same] if place % 3 == 0 else []
        things = tuple(thing(id=str(number), box=box) for number, box in enumerate([*boxes, *twice]))
        corpus.add(Block([annotation(instances=things)], [[(32, 24)]]))

    (found,) = [hit.detail for hit in corpus.hits()]

    at_least = int(found.split()[2])
    assert 1000 - 10000 / 256 <= at_least <= 1000
    assert found.endswith("of 3000 pictures with boxes have the box (2, 2, 8, 8)")
