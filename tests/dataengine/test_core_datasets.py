"""No dataset of VisionLLM v2 gets lost: each is covered by a spec, with the tasks that the paper takes from it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dataengine import yaml12
from dataengine.catalog import Catalog
from dataengine.spec import Resolved


class Core(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tasks by dataset, of those that may be trained on and those that may not."""

    train: dict[str, tuple[str, ...]]
    evaluate: dict[str, tuple[str, ...]]


CORE = msgspec.convert(yaml12.load(Path(__file__).with_name("core_datasets.yaml")), Core)


@pytest.fixture(scope="module")
def covering() -> dict[str, list[Resolved]]:
    """The task specs by the dataset that they cover."""
    found: dict[str, list[Resolved]] = {}
    for spec in Catalog():
        for name in spec.dataset.covers:
            found.setdefault(name, []).append(spec)
    return found


def test_the_core_has_147_datasets() -> None:
    assert len(CORE.train) + len(CORE.evaluate) == len(CORE.train | CORE.evaluate) == 147


@pytest.mark.parametrize("name", [*CORE.train, *CORE.evaluate])
def test_a_core_dataset_is_covered_with_its_tasks(name: str, covering: dict[str, list[Resolved]]) -> None:
    tasks = (CORE.train | CORE.evaluate)[name]

    assert name in covering
    assert set(tasks) <= {spec.task.id for spec in covering[name]}


@pytest.mark.parametrize("name", list(CORE.evaluate))
def test_what_is_for_evaluation_alone_has_no_split_to_train_on(
    name: str, covering: dict[str, list[Resolved]]
) -> None:
    splits = [split for spec in covering[name] for split in spec.dataset.source.splits.values()]

    assert {split.use for split in splits} == {"eval"}
