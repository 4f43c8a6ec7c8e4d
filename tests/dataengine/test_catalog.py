from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dataengine import yaml12
from dataengine.catalog import Catalog, shipped_specs
from dataengine.errors import SpecError

if TYPE_CHECKING:
    from tests.conftest import Tiny

CITATION = re.compile(r"[A-Z][^,]+(?: et al\.)?, [^\s].*, .+ (?:19|20)\d\d")


def _own(tiny: Tiny) -> Path:
    """Return a folder of specs that holds the tiny dataset."""
    folder = tiny.spec.parent / "own"
    (folder / "datasets").mkdir(parents=True)
    (folder / "datasets/tiny.yaml").write_text(tiny.spec.read_text() + "\n")
    return folder


def test_every_shipped_spec_resolves_and_its_names_are_unique() -> None:
    found = [one.id for one in Catalog()]

    assert len(found) > 10
    assert len(set(found)) == len(found)
    assert {one.partition("/")[0] for one in found} == {
        path.stem for path in (shipped_specs() / "datasets").glob("*.yaml")
    }


def test_citations_read_alike_and_stand_behind_the_homepage() -> None:
    # Sets without a paper: our own, and some that a company or a repository hands out.
    catalog = Catalog()
    without = []

    for name, path in catalog.dataset_files.items():
        dataset, keys = catalog.dataset(path), list(yaml12.load(path))
        if not dataset.citation:
            without.append(name)
            continue
        assert CITATION.fullmatch(dataset.citation), f"{name}: {dataset.citation}"
        assert keys[keys.index("citation") - 1] in ("homepage", "title"), name

    assert len(without) < len(catalog.dataset_files) / 2, without


def test_a_spec_is_found_as_dataset_as_task_and_as_file(tiny: Tiny) -> None:
    catalog = Catalog(_own(tiny))

    by_dataset, by_task, by_file = (catalog.find(name) for name in ("tiny", "tiny/detection", str(tiny.spec)))

    assert [one.id for one in by_dataset] == ["tiny/detection"]
    assert [one.hash() for one in by_dataset] == [one.hash() for one in by_task] == [by_file[0].hash()]


def test_ones_own_spec_takes_the_place_of_a_shipped_one(tiny: Tiny) -> None:
    folder = _own(tiny)
    name = min(Catalog().dataset_files)
    text = tiny.spec.read_text().replace("id: tiny", f"id: {name}")
    (folder / f"datasets/{name}.yaml").write_text(text)

    (found,) = Catalog(folder).find(name)

    assert found.dataset.title == "Tiny pictures for tests"


def test_ones_own_task_and_bank_are_used(tiny: Tiny) -> None:
    folder = _own(tiny)
    (folder / "tasks").mkdir()
    (folder / "prompts").mkdir()
    shipped = (shipped_specs() / "tasks/detection.yaml").read_text()
    (folder / "tasks/detection.yaml").write_text(shipped.replace("prompts: detection", "prompts: mine"))
    (folder / "prompts/mine.yaml").write_text(
        "id: mine\nquestion_slots: [classes]\nanswer_slots: [classes]\n"
        'questions: {en01: "Where are {classes}?"}\nanswers: {en01: "{classes}"}\n'
    )

    (found,) = Catalog(folder).find("tiny")

    assert found.bank is not None
    assert found.bank.id == "mine"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tinny", "tinny: unknown dataset 'tinny'; did you mean 'tiny'?"),
        ("tiny/detect", "dataset 'tiny' has no task 'detect'; did you mean 'detection'?"),
        ("absent.yaml", "absent.yaml: no such file"),
    ],
)
def test_an_unknown_name_is_met_with_the_nearest_one(tiny: Tiny, name: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        Catalog(_own(tiny)).find(name)

    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("detection: {}", "detektion: {}", "tasks: unknown task 'detektion'; did you mean 'detection'?"),
        ("detection: {}", "detection: {splits: [trian]}", "no split 'trian'; did you mean 'train'?"),
        (
            "status: layout",
            "status: layout\nlabels: coco8",
            "labels: unknown 'coco8'; did you mean 'coco80'?",
        ),
    ],
)
def test_a_name_inside_a_spec_that_is_not_there_is_met_with_the_nearest_one(
    tiny: Tiny, old: str, new: str, says: str
) -> None:
    tiny.spec.write_text(tiny.spec.read_text().replace(old, new))

    with pytest.raises(SpecError) as caught:
        Catalog().find(str(tiny.spec))

    assert says in str(caught.value)
    assert str(caught.value).startswith(str(tiny.spec))


def test_a_specs_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such folder; --specs needs a folder of specs"):
        Catalog(tmp_path / "absent")
