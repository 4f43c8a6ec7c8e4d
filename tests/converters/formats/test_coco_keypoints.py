from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.formats.coco_keypoints import COCO_NAMES, Source, flip_pairs, labels, read, zero_based
from dataengine.annotation import Annotation, Instance, Rejected
from dataengine.files import Root

Samples = Callable[[str], Root]
SOURCE = Source(annotations="poses.json", images="train")


def _root(folder: Path, *objects: dict[str, Any], **category: Any) -> Root:
    person = {"id": 1, "name": "person", "keypoints": ["nose", "left_eye"], "skeleton": [[1, 2]], **category}
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 20, "height": 10}],
        "annotations": [
            {"id": number, "image_id": 5, "category_id": 1, "bbox": [0, 0, 9, 9], **fields}
            for number, fields in enumerate(objects)
        ],
        "categories": [person],
    }
    (folder / "poses.json").write_text(json.dumps(content))
    return Root(folder)


def _objects(root: Root, source: Source = SOURCE) -> tuple[list[Instance], list[Rejected]]:
    found = list(read(source, root))
    instances = [one for item in found if isinstance(item, Annotation) for one in item.instances]
    return instances, [item for item in found if isinstance(item, Rejected)]


def test_keypoints_become_triples(tmp_path: Path) -> None:
    root = _root(tmp_path, {"keypoints": [1.5, 2, 2, 3, 4, 1]})

    (found,), rejected = _objects(root)

    assert found.keypoints == ((1.5, 2, 2), (3, 4, 1))
    assert found.box == (0, 0, 9, 9)
    assert rejected == []


def test_visibility_may_be_written_as_a_fraction_and_is_an_integer(tmp_path: Path) -> None:
    root = _root(tmp_path, {"keypoints": [1, 2, 2.0, 3, 4, 0.0]})

    (found,), _ = _objects(root)

    assert found.keypoints == ((1, 2, 2), (3, 4, 0))
    assert all(type(v) is int for _, _, v in found.keypoints or ())


def test_a_person_without_labelled_keypoints_keeps_them(tmp_path: Path) -> None:
    root = _root(tmp_path, {"keypoints": [0] * 6, "num_keypoints": 0})

    (found,), rejected = _objects(root)

    assert found.keypoints == ((0, 0, 0), (0, 0, 0))
    assert not found.ignore
    assert rejected == []


def test_the_stated_number_of_keypoints_is_kept_for_the_audit(tmp_path: Path) -> None:
    points = [1, 2, 2, 3, 4, 1]
    root = _root(
        tmp_path,
        {"keypoints": points, "num_keypoints": 5},
        {"keypoints": points, "num_keypoints": "many"},
        {"keypoints": points},
    )

    found, rejected = _objects(root)

    assert [item.attributes for item in found] == [{"num_keypoints": "5"}, {}, {}]
    assert rejected == []


def test_the_stated_number_says_nothing_of_other_keypoints(tmp_path: Path) -> None:
    root = _root(tmp_path, {"keypoints_2": [1, 2, 2, 3, 4, 1], "num_keypoints": 5})

    (found,), _ = _objects(root, Source(annotations="poses.json", keypoints_field="keypoints_2"))

    assert found.keypoints is not None
    assert found.attributes == {}


def test_a_real_crowdpose_states_wrong_numbers_of_keypoints(samples: Samples) -> None:
    found, _ = _objects(samples("crowdpose"), Source(annotations="test_crowdpose.json"))

    wrong = [
        item
        for item in found
        if int(item.attributes["num_keypoints"]) != sum(v > 0 for _, _, v in item.keypoints or ())
    ]
    assert len(wrong) == 4


@pytest.mark.parametrize("fields", [{}, {"keypoints": None}, {"keypoints": []}])
def test_an_object_without_the_key_has_no_keypoints(tmp_path: Path, fields: dict[str, Any]) -> None:
    (found,), rejected = _objects(_root(tmp_path, fields))

    assert found.keypoints is None
    assert rejected == []


def test_keypoints_may_be_nested(tmp_path: Path) -> None:
    root = _root(tmp_path, {"keypoints": [[1, 2, 2], [3, 4, 1]]})

    (found,), _ = _objects(root)

    assert found.keypoints == ((1, 2, 2), (3, 4, 1))


@pytest.mark.parametrize(
    ("keypoints", "reason"),
    [
        ([1, 2, 2, 3, 4], "keypoint.count"),
        ([1, 2, 2], "keypoint.count"),
        ([1, 2, 2] * 3, "keypoint.count"),
        ([[1, 2], [3, 4]], "keypoint.count"),
        ([1, 2, 3, 3, 4, 1], "keypoint.visibility"),
        ([1, 2, -1, 3, 4, 1], "keypoint.visibility"),
        ([1, 2, 0.5, 3, 4, 1], "keypoint.visibility"),
        ([1, 2, None, 3, 4, 1], "schema"),
        ("1 2 2", "schema"),
    ],
)
def test_defective_keypoints_reject_their_object_alone(tmp_path: Path, keypoints: Any, reason: str) -> None:
    root = _root(tmp_path, {"keypoints": keypoints}, {"keypoints": [1, 2, 2, 3, 4, 1]})

    found, (rejected,) = _objects(root)

    assert rejected.reason == reason
    assert rejected.detail
    assert rejected.origin.record == "annotations[0]"
    assert [(item.id, item.ignore, item.keypoints is None) for item in found] == [
        ("0", True, True),
        ("1", False, False),
    ]


def test_the_count_is_free_where_the_category_names_no_keypoint(tmp_path: Path) -> None:
    root = _root(tmp_path, {"keypoints": [1, 1, 1] * 68}, keypoints=[], skeleton=[])

    (found,), rejected = _objects(root)

    assert found.keypoints is not None
    assert len(found.keypoints) == 68
    assert rejected == []


def test_a_keypoint_is_three_numbers_even_where_the_count_is_free(tmp_path: Path) -> None:
    _, (rejected,) = _objects(_root(tmp_path, {"keypoints": [1, 1, 1, 1]}, keypoints=[], skeleton=[]))

    assert (rejected.reason, rejected.detail) == ("keypoint.count", "4 numbers, expected x, y, v for each")


def test_num_keypoints_states_the_count_where_the_category_names_none(tmp_path: Path) -> None:
    root = _root(tmp_path, {"keypoints": [1, 1, 1] * 68}, {"keypoints": [1, 1, 1] * 67}, keypoints=[])

    _, (rejected,) = _objects(root, Source(annotations="poses.json", num_keypoints=68))

    assert (rejected.reason, rejected.origin.record) == ("keypoint.count", "annotations[1]")


def test_another_field_can_hold_the_keypoints(tmp_path: Path) -> None:
    root = _root(tmp_path, {"keypoints": [9, 9, 2], "keypoints_2": [1, 2, 2, 3, 4, 1]})

    (found,), rejected = _objects(root, Source(annotations="poses.json", keypoints_field="keypoints_2"))

    assert found.keypoints == ((1, 2, 2), (3, 4, 1))
    assert rejected == []


def test_a_schema_can_be_cut_to_its_first_keypoints(tmp_path: Path) -> None:
    root = _root(
        tmp_path,
        {"keypoints": [1, 2, 2, 3, 4, 1]},
        keypoints=["left_eye", "right_eye", "left_toe", "right_toe"],
        skeleton=[[1, 2], [1, 3]],
    )
    source = Source(annotations="poses.json", num_keypoints=2)

    (found,), rejected = _objects(root, source)
    (label,) = labels(source, root).labels

    assert found.keypoints == ((1, 2, 2), (3, 4, 1))
    assert rejected == []
    assert label.keypoints == ("left_eye", "right_eye")
    assert label.skeleton == ((0, 1),)
    assert label.flip_pairs == ((0, 1),)


def test_labels_hold_names_skeleton_partners_and_sigmas(tmp_path: Path) -> None:
    skeleton = [[16, 14], [1, 2]]
    root = _root(tmp_path, name=" person ", keypoints=list(COCO_NAMES), skeleton=skeleton)

    (label,) = labels(SOURCE, root).labels

    assert label.name == "person"
    assert label.keypoints == COCO_NAMES
    assert label.skeleton == ((15, 13), (0, 1))
    assert label.flip_pairs == ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16))
    assert len(label.sigmas) == 17
    assert label.sigmas[:2] == (0.026, 0.025)


def test_keypoints_of_another_schema_have_no_sigmas(tmp_path: Path) -> None:
    (label,) = labels(SOURCE, _root(tmp_path)).labels

    assert label.sigmas == ()


@pytest.mark.parametrize(
    ("skeleton", "count", "expected"),
    [
        ([[1, 2], [2, 3]], 3, ((0, 1), (1, 2))),
        ([[0, 1], [1, 2]], 3, ((0, 1), (1, 2))),
        ([[1, 2], [3, 17]], 14, ()),
        ([[1, 2, 3]], 3, ()),
        ([[-1, 2]], 3, ()),
        ([], 3, ()),
    ],
)
def test_a_skeleton_counts_from_zero_or_is_left_out(
    skeleton: list[list[int]], count: int, expected: tuple[tuple[int, int], ...]
) -> None:
    assert zero_based(skeleton, count) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["nose", "left_eye", "right_eye"], ((1, 2),)),
        (["Right Hip", "Left Hip", "Neck"], ((0, 1),)),
        (["Eye_Left", "Eye_Right"], ((0, 1),)),
        (["L_F_Paw", "R_F_Paw", "L_B_Paw", "R_B_Paw"], ((0, 1), (2, 3))),
        (["eyeL", "eyeR", "forelegL1", "forelegR1", "forelegL2"], ((0, 1), (2, 3))),
        (["left_ear", "nose"], ()),
        (["Lip", "Rip", "upright", "upleft_x"], ()),
    ],
)
def test_mirror_partners_are_found_by_their_names(
    names: list[str], expected: tuple[tuple[int, int], ...]
) -> None:
    assert flip_pairs(names) == expected


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.sampled_from(["left", "right", "L_a", "R_a", "aL", "aR", "nose", "Left Right"]), unique=True)
)
def test_a_keypoint_has_at_most_one_partner_and_never_itself(names: list[str]) -> None:
    ends = [end for pair in flip_pairs(names) for end in pair]

    assert len(set(ends)) == len(ends)
    assert all(0 <= end < len(names) for end in ends)


@pytest.mark.parametrize(
    ("folder", "source", "num_objects", "num_keypoints", "num_skeleton", "num_pairs"),
    [
        ("coco_keypoints", Source(annotations="test_coco.json"), 14, 17, 19, 8),
        ("crowdpose", Source(annotations="test_crowdpose.json"), 5, 14, 0, 6),
        ("ap10k", Source(annotations="test_ap10k.json"), 2, 17, 17, 7),
        ("humanart", Source(annotations="test_humanart.json", num_keypoints=17), 4, 17, 19, 8),
        ("humanart", Source(annotations="test_humanart.json", keypoints_field="keypoints_21"), 4, 21, 23, 10),
        ("macaquepose", Source(annotations="test_macaque.json"), 2, 17, 19, 8),
        ("aic", Source(annotations="test_aic.json"), 9, 14, 14, 6),
        ("ochuman", Source(annotations="test_ochuman.json"), 5, 17, 19, 8),
        ("coco_wholebody", Source(annotations="test_coco_wholebody.json"), 14, 17, 19, 8),
        ("freihand", Source(annotations="test_freihand.json"), 8, 21, 20, 0),
        ("onehand10k", Source(annotations="test_onehand10k.json"), 4, 21, 20, 0),
        ("jhmdb", Source(annotations="test_jhmdb_sub1.json"), 3, 15, 14, 6),
        ("vinegar_fly", Source(annotations="test_fly.json"), 2, 32, 25, 14),
        ("zebra", Source(annotations="test_zebra.json"), 2, 9, 8, 2),
        ("atrw", Source(annotations="test_atrw.json"), 2, 15, 14, 6),
        ("animalpose", Source(annotations="test_animalpose.json"), 2, 20, 20, 8),
        ("rhd", Source(annotations="test_rhd.json"), 3, 21, 20, 0),
        ("posetrack18", Source(annotations="annotations/test_posetrack18_val.json"), 14, 17, 19, 7),
        ("deepfashion2_landmarks", Source(annotations="deepfasion2.json"), 2, 294, 0, 0),
    ],
)
def test_real_poses_read_without_a_rejection(
    samples: Samples,
    folder: str,
    source: Source,
    num_objects: int,
    num_keypoints: int,
    num_skeleton: int,
    num_pairs: int,
) -> None:
    root = samples(folder)

    objects, rejected = _objects(root, source)
    label = labels(source, root).labels[0]
    # PoseTrack18 has regions beside its people.
    found = [item for item in objects if not item.ignore]

    assert rejected == []
    assert len(found) == num_objects
    assert {len(item.keypoints or ()) for item in found} == {num_keypoints}
    assert any(v for item in found for _, _, v in item.keypoints or ())
    assert (len(label.keypoints), len(label.skeleton), len(label.flip_pairs)) == (
        num_keypoints,
        num_skeleton,
        num_pairs,
    )


@pytest.mark.parametrize(
    ("folder", "file", "num_keypoints"),
    [
        ("300w", "test_300w.json", 68),
        ("300vw", "anno_300vw.json", 68),
        ("300w_lp", "test_300wlp.json", 68),
        ("wflw", "test_wflw.json", 98),
        ("cofw", "test_cofw.json", 29),
    ],
)
def test_real_face_sets_read_without_names(
    samples: Samples, folder: str, file: str, num_keypoints: int
) -> None:
    source = Source(annotations=file, num_keypoints=num_keypoints)

    found, rejected = _objects(samples(folder), source)

    assert rejected == []
    assert {len(item.keypoints or ()) for item in found} == {num_keypoints}


def test_real_animal_kingdom_names_a_class_that_it_lacks(samples: Samples) -> None:
    source = Source(annotations="test_animalkingdom.json")

    found, rejected = _objects(samples("animal_kingdom"), source)

    assert {item.reason for item in rejected} == {"category.unknown"}
    assert all(item.ignore for item in found)


def test_real_ubody_points_without_visibility_are_rejected(samples: Samples) -> None:
    _, rejected = _objects(samples("ubody"), Source(annotations="ubody3d_train.json"))

    assert [item.reason for item in rejected] == ["keypoint.count"]
