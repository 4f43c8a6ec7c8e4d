from __future__ import annotations

from pathlib import Path

import pytest

from dataengine.catalog import Catalog
from dataengine.errors import SpecError
from dataengine.spec import load_labels
from dataengine.wording import one_line

SPACES = Catalog().labels


def test_the_classes_of_coco_stand_in_the_order_of_their_ids() -> None:
    names = SPACES["coco80"].names

    assert len(names) == 80
    assert (names[0], names[11], names[26], names[62], names[79]) == (
        "person",
        "stop sign",
        "handbag",
        "tv",
        "toothbrush",
    )


def test_the_classes_of_pascal_voc_stand_in_the_order_of_the_alphabet() -> None:
    names = SPACES["voc20"].names

    assert len(names) == 20
    assert list(names) == sorted(names)


def test_the_person_of_coco_is_symmetric() -> None:
    (person,) = SPACES["coco_person"].labels
    partner = {a: b for pair in person.flip_pairs for a, b in (pair, pair[::-1])}

    assert len(person.keypoints) == len(person.sigmas) == 17
    assert set(partner) == set(range(1, 17))
    for left, right in person.flip_pairs:
        assert person.keypoints[left].replace("left", "right") == person.keypoints[right]
        assert person.sigmas[left] == person.sigmas[right]
    bones = {frozenset(bone) for bone in person.skeleton}
    assert len(bones) == 19
    assert {frozenset(partner.get(end, end) for end in bone) for bone in bones} == bones


@pytest.mark.parametrize(
    ("name", "count", "jaw"), [("face29", 29, 0), ("face68", 68, 17), ("face98", 98, 33)]
)
def test_the_landmarks_of_a_face_mirror_by_side_and_the_jaw_by_its_middle(
    name: str, count: int, jaw: int
) -> None:
    (face,) = SPACES[name].labels
    points = face.keypoints
    swapped = [
        point.replace("left", "@").replace("right", "left").replace("@", "right") for point in points[jaw:]
    ]

    pairs = {(a, jaw + points[jaw:].index(other)) for a, other in enumerate(swapped, jaw)}

    assert len(set(points)) == count
    assert points[:jaw] == tuple(f"jaw {number}" for number in range(1, jaw + 1))
    expected = {(a, b) for a, b in pairs if a < b} | {(a, jaw - 1 - a) for a in range(jaw // 2)}
    assert set(face.flip_pairs) == expected


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_description_is_a_phrase_that_a_sentence_can_end_with(name: str) -> None:
    for label in SPACES[name].labels:
        text = label.description
        assert text == one_line(text) and not text.endswith((".", ",", ":", ";"))
        assert not text or label.name.casefold() != text.casefold()
        assert text[:1] == text[:1].lower() or text.startswith(("European", "Japanese"))


def test_every_code_of_a_label_space_leads_to_its_name() -> None:
    assert SPACES["skin_lesions7"].codes["nv"] == SPACES["skin_lesions7"].codes["NV"] == "melanocytic nevus"
    assert SPACES["retinopathy_grades"].codes == {
        str(number): name for number, name in enumerate(SPACES["retinopathy_grades"].names)
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("labels: [{name: cat}, {name: cat}]", "'cat' stands twice"),
        ("labels: [{name: cat, codes: [c]}, {name: dog, codes: [c]}]", "'c' stands twice"),
        ("labels: [{name: cat, codes: [dog]}, {name: dog}]", "'dog' stands twice"),
        ("labels: [{name: cat, keypoints: [a, b], skeleton: [[0, 2]]}]", r"leaves 0\.\.1"),
        ("labels: [{name: cat, keypoints: [a, b], flip_pairs: [[1, 1]]}]", "its own mirror partner"),
        ("labels: [{name: cat, colour: red}]", "unknown key 'colour'"),
    ],
)
def test_a_faulty_label_space_is_refused(tmp_path: Path, body: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(f"id: space\n{body}\n")

    with pytest.raises(SpecError, match=message):
        load_labels(path)
