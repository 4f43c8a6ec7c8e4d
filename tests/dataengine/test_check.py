from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dataengine.catalog import Catalog
from dataengine.check import check_all, check_spec
from dataengine.errors import SpecError

if TYPE_CHECKING:
    from tests.conftest import Tiny


def test_everything_that_ships_is_free_of_mistakes() -> None:
    count, mistakes = check_all(Catalog())

    assert mistakes == []
    assert count > 30


def test_a_sound_spec_has_no_mistake(tiny: Tiny) -> None:
    assert check_spec(Catalog(), str(tiny.spec)) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("format: coco_instances", "format: coco_instance", "unknown format 'coco_instance'; did you mean"),
        ("images: images", "image: images", "unknown key 'image'; did you mean 'images'?"),
        ("detection: {}", "detection: {all_ratoi: 1}", "did you mean 'all_ratio'?"),
        ("annotations: val.json, ", "", "missing key 'annotations'"),
        ("id: tiny", "id: little", "id is 'little', expected the file's name 'tiny'"),
    ],
)
def test_a_mistake_is_found_without_data(tiny: Tiny, old: str, new: str, says: str) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace(old, new))

    mistakes = check_spec(Catalog(), str(tiny.spec))

    assert mistakes
    assert all(text.startswith(str(tiny.spec)) for text in mistakes)
    assert any(says in text for text in mistakes)


def test_one_mistake_hides_no_other(tiny: Tiny) -> None:
    text = tiny.spec.read_text().replace("train.json, use", "train.json, imagse: x, use")
    tiny.spec.write_text(
        text.replace("detection: {}", "detection: {max_clases: 3}").replace("id: tiny", "id: t")
    )

    mistakes = check_spec(Catalog(), str(tiny.spec))

    assert len(mistakes) == 3


def test_every_mistake_of_a_file_is_told_with_its_line(tiny: Tiny) -> None:
    text = tiny.spec.read_text()
    text = text.replace("title:", "titel: x\ntitle:").replace(
        "status: layout", "status: fake\nbudgets: {a: 7}"
    )
    text = text.replace("detection: {}", "detektion: {}\n  detection: {splits: [trian], all_ratoi: 1}")
    text = text.replace("images: images", "image: images")
    tiny.spec.write_text(text)

    mistakes = check_spec(Catalog(), str(tiny.spec))

    said = "\n".join(mistakes)
    for expected in (
        "unknown key 'titel'; did you mean 'title'?",
        "status: invalid enum value 'fake'",
        "a: 7.0 is no rate, expected 0 to 1",
        "unknown task 'detektion'; did you mean 'detection'?",
        "no split 'trian'; did you mean 'train'?",
    ):
        assert expected in said
    assert all(line.removeprefix(str(tiny.spec))[:1] == ":" for line in mistakes)
    lines = [line.removeprefix(f"{tiny.spec}:").split(":")[0] for line in mistakes]
    assert all(number.isdigit() for number in lines)


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("prompts/mine.yaml", 'id: mine\nquestions: {en01: "{what}?"}\n', "has slots ['what']"),
        (
            "prompts/mine.yaml",
            'id: other\nquestions: {en01: "What?"}\n',
            "id is 'other', expected the file's name",
        ),
        (
            "tasks/mine.yaml",
            "id: mine\ntitle: x\nunit: picture\nbuilder: instances\ndecoder: text\n",
            "'picture'",
        ),
        ("labels/mine.yaml", "id: mine\nlabels: [{name: a}, {name: a}]\n", "stands twice"),
        (
            "datasets/mine.yaml",
            "{id: mine, title: t, license: {annotations: a, images: b}, source: {}, status: layout}",
            "missing key 'tasks'",
        ),
    ],
)
def test_mistakes_in_ones_own_files_are_found(tmp_path: Path, path: str, text: str, says: str) -> None:
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(text)

    _, mistakes = check_all(Catalog(tmp_path))

    assert len(mistakes) == 1
    assert str(tmp_path / path) in mistakes[0]
    assert says in mistakes[0]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("detection: {}", "detection: {picturs: {longest: 64}}",
         "tasks.detection: unknown key 'picturs'; did you mean 'pictures'?"),
        ("use: train", "use: train, images_expectd: 6",
         "source.splits.train: unknown key 'images_expectd'; did you mean 'images_expected'?"),
        ("status:", "pictures: {longst: 64, shortest: 32}\nstatus:", "unknown key 'longst'; did you mean 'longest'?"),
    ],
)  # fmt: skip
def test_the_nearest_key_is_one_of_all_that_may_stand_there(
    tiny: Tiny, old: str, new: str, says: str
) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace(old, new, 1))

    found = check_spec(Catalog(), str(tiny.spec))

    assert len(found) == 1
    assert says in found[0]


def test_a_folder_of_specs_that_would_not_be_read_is_refused(tiny: Tiny) -> None:
    folder = tiny.spec.parent

    with pytest.raises(SpecError, match=r"specs lie in it as they are, expected datasets/, prompts/"):
        Catalog(folder)
    assert check_spec(Catalog(), str(folder)) == [
        f"{folder}: is a folder, expected a spec; name a YAML file in it"
    ]
