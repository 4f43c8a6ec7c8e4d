"""Where specs live, and how one is found by name."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from dataengine.annotation import LabelSpace
from dataengine.errors import SpecError, nearest
from dataengine.prompts import PromptBank, load_bank
from dataengine.spec import DatasetSpec, Resolved, load_dataset, load_labels, load_task
from dataengine.task import TaskSpec


def shipped_specs() -> Path:
    """Return the folder of the specs that come with the package."""
    return Path(str(importlib.resources.files("task_specs")))


class Catalog:
    """The specs of some folders; a later folder's file replaces an earlier one's of the same name."""

    def __init__(self, *directories: Path) -> None:
        for directory in directories:
            if not directory.is_dir():
                raise SpecError(f"{directory}: no such folder; --specs needs a folder of specs")
        self.directories = (shipped_specs(), *directories)
        self._datasets: dict[Path, DatasetSpec] = {}

    def _files(self, folder: str) -> dict[str, Path]:
        return {
            path.stem: path
            for directory in self.directories
            for path in sorted((directory / folder).glob("*.yaml"))
        }

    @cached_property
    def tasks(self) -> dict[str, TaskSpec]:
        """All task types by id."""
        return {task.id: task for task in map(load_task, self._files("tasks").values())}

    @cached_property
    def banks(self) -> dict[str, PromptBank]:
        """All prompt banks by id."""
        return {bank.id: bank for bank in map(load_bank, self._files("prompts").values())}

    @cached_property
    def labels(self) -> dict[str, LabelSpace]:
        """All label spaces by id."""
        return {space.id: space for space in map(load_labels, self._files("labels").values())}

    @cached_property
    def dataset_files(self) -> dict[str, Path]:
        """The file of each dataset by id, which is the file's stem."""
        return self._files("datasets")

    def dataset(self, path: Path) -> DatasetSpec:
        """Return the dataset of a file, loaded once."""
        if path not in self._datasets:
            self._datasets[path] = load_dataset(path)
        return self._datasets[path]

    def __iter__(self) -> Iterator[Resolved]:
        """Yield every task spec of every dataset, in order of names."""
        for name in sorted(self.dataset_files):
            yield from self.find(name)

    def find(self, name: str) -> list[Resolved]:
        """Return the task specs that a name means: a dataset's id, `dataset/task`, or a YAML file anywhere.

        Raises SpecError with the nearest known name.
        """
        if name.endswith((".yaml", ".yml")):
            path, task = Path(name), None
            if not path.is_file():
                raise SpecError(f"{name}: no such file")
        else:
            dataset, _, task = name.partition("/")
            found = self.dataset_files.get(dataset)
            if found is None:
                raise SpecError(f"{name}: unknown dataset {dataset!r}{nearest(dataset, self.dataset_files)}")
            path = found
        spec = self.dataset(path)
        if task and task not in spec.tasks:
            raise SpecError(f"{name}: dataset {spec.id!r} has no task {task!r}{nearest(task, spec.tasks)}")
        return [self._resolve(spec, one, path) for one in ([task] if task else spec.tasks)]

    def _resolve(self, spec: DatasetSpec, name: str, path: Path) -> Resolved:
        task = self.tasks.get(name)
        if task is None:
            raise SpecError(f"{path}: tasks: unknown task {name!r}{nearest(name, self.tasks)}")
        use = spec.tasks[name]
        for split in use.splits:
            if split not in spec.source.splits:
                raise SpecError(
                    f"{path}: tasks.{name}.splits: no split {split!r}{nearest(split, spec.source.splits)}"
                )
        return Resolved(
            dataset=spec,
            task=task,
            options={**task.options, **use.options},
            splits=use.splits or tuple(spec.source.splits),
            bank=self._named(task.prompts, self.banks, "prompts", path),
            labels=self._named(spec.labels if spec.labels != "source" else None, self.labels, "labels", path),
            path=str(path),
        )

    @staticmethod
    def _named(name: str | None, known: dict[str, Any], key: str, path: Path) -> Any:
        if name is None:
            return None
        if name not in known:
            raise SpecError(f"{path}: {key}: unknown {name!r}{nearest(name, known)}")
        return known[name]
