from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.formats.awa_pose import Source, labels, read
from dataengine.annotation import Annotation, Rejected
from dataengine.errors import SourceError
from dataengine.files import Root

Samples = Callable[[str], Root]
GOOD = {"a1": {"nose": [10.5, 20], "left_eye": [-1, -1], "right_eye": (3, 4), "bbox": [1, 2, 30, 40]}}


def _folder(folder: Path, **files: Any) -> Root:
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "class_names.txt").write_text("_background_\nleft_eye\nright_eye\nnose\n")
    for name, content in files.items():
        path = folder / "Annotations" / f"{name.replace('__', '/').replace('_and_', '+')}.pickle"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return Root(folder)


def _split(root: Root) -> tuple[list[Annotation], list[Rejected]]:
    found = list(read(Source(), root))
    return (
        [item for item in found if isinstance(item, Annotation)],
        [item for item in found if isinstance(item, Rejected)],
    )


def test_keypoints_follow_the_list_of_names(tmp_path: Path) -> None:
    root = _folder(tmp_path, giant_and_panda__g_1=GOOD)

    (found,), rejected = _split(root)

    assert rejected == []
    assert found.key == "giant+panda/g_1"
    assert found.images[0].path == "Animals_with_Attributes2/JPEGImages/giant+panda/g_1.jpg"
    (animal,) = found.instances
    assert (animal.id, animal.category, animal.box) == ("a1", "giant panda", (1, 2, 30, 40))
    assert animal.keypoints == ((0.0, 0.0, 0), (3.0, 4.0, 2), (10.5, 20.0, 2))
    assert not found.exhaustive


def test_classes_are_the_folders_and_share_the_keypoints(tmp_path: Path) -> None:
    root = _folder(tmp_path, fox__1=GOOD, giant_and_panda__1=GOOD, fox__2=GOOD)

    space = labels(Source(), root)

    assert space.names == ("fox", "giant panda")
    assert all(label.keypoints == ("left_eye", "right_eye", "nose") for label in space.labels)
    assert all(label.flip_pairs == ((0, 1),) for label in space.labels)


def test_several_animals_are_several_objects(tmp_path: Path) -> None:
    (found,), _ = _split(_folder(tmp_path, fox__1={"a1": GOOD["a1"], "a2": GOOD["a1"]}))

    assert [item.id for item in found.instances] == ["a1", "a2"]


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "schema"),
        ([GOOD], "schema"),
        ({"a1": 5}, "schema"),
        ({"a1": {"nose": [1, 2]}}, "schema"),
        ({"a1": {"nose": [1], "bbox": [1, 2, 3, 4]}}, "schema"),
        ({"a1": {"nose": [1, "2"], "bbox": [1, 2, 3, 4]}}, "schema"),
        ({"a1": {"nose": [1, float("nan")], "bbox": [1, 2, 3, 4]}}, "schema"),
        ({"a1": {"nose": [1, 10**400], "bbox": [1, 2, 3, 4]}}, "schema"),
        ({"a1": {"nose": [-1, -1], "bbox": [1, 2, 3, 4]}}, "keypoint.none"),
        ({"a1": {"tusk": [1, 1], "bbox": [1, 2, 3, 4]}}, "keypoint.unknown"),
        ({"a1": {5: [1, 1], "bbox": [1, 2, 3, 4]}}, "keypoint.unknown"),
        (_Evil(), "schema"),
        (b"", "schema"),
        (pickle.dumps(GOOD)[:20], "schema"),
    ],
)
def test_a_defective_or_hostile_file_costs_no_other(tmp_path: Path, content: Any, reason: str) -> None:
    (found,), (rejected,) = _split(_folder(tmp_path, fox__1=content, fox__2=GOOD))

    assert found.key == "fox/2"
    assert (rejected.key, rejected.reason) == ("fox/1", reason)


def test_a_folder_without_pickles_or_names_is_an_error(tmp_path: Path) -> None:
    root = _folder(tmp_path)

    with pytest.raises(SourceError, match=r"source\.annotations"):
        _split(root)
    (tmp_path / "Annotations" / "class_names.txt").write_text("\n")
    with pytest.raises(SourceError, match=r"class_names\.txt"):
        _split(root)


def test_real_files_read(samples: Samples) -> None:
    root = samples("awa_pose")

    found, rejected = _split(root)

    assert rejected == []
    assert len(found) == 12
    assert {len(one.keypoints or ()) for item in found for one in item.instances} == {39}
    assert labels(Source(), root).names == ("antelope", "fox", "giant panda", "persian cat")
