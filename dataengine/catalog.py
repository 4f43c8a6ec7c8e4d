"""Where specs live, and how one is found by name."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from dataengine import yaml12
from dataengine.annotation import LabelSpace
from dataengine.errors import SpecError, nearest
from dataengine.prompts import PromptBank, load_bank
from dataengine.spec import DatasetSpec, Resolved, load_dataset, load_labels, load_task
from dataengine.task import TaskSpec

KINDS = ("datasets", "prompts", "labels", "tasks")


def shipped_specs() -> Path:
    """Return the folder of the specs that come with the package."""
    return Path(str(importlib.resources.files("task_specs")))


class Catalog:
    """The specs of some folders; a later folder's file replaces an earlier one's of the same name."""

    def __init__(self, *directories: Path) -> None:
        for directory in directories:
            if not directory.is_dir():
                raise SpecError(f"{directory}: no such folder; --specs needs a folder of specs")
            if any(directory.glob("*.yaml")) and not any((directory / kind).is_dir() for kind in KINDS):
                raise SpecError(
                    f"{directory}: specs lie in it as they are, expected {', '.join(f'{kind}/' for kind in KINDS)}"
                    " in it; move them there, or name each YAML file itself"
                )
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
        path, task = self.file_of(name)
        spec = self.dataset(path)
        if task and task not in spec.tasks:
            raise SpecError(f"{name}: dataset {spec.id!r} has no task {task!r}{nearest(task, spec.tasks)}")
        return [self.resolve(spec, one, path) for one in ([task] if task else spec.tasks)]

    def file_of(self, name: str) -> tuple[Path, str | None]:
        """Return the file that a name means, and the task where it names one. Raises SpecError."""
        if name.endswith((".yaml", ".yml")):
            if not Path(name).is_file():
                raise SpecError(f"{name}: no such file")
            return Path(name), None
        dataset, _, task = name.partition("/")
        found = self.dataset_files.get(dataset)
        if found is None and Path(name).is_dir():
            raise SpecError(f"{name}: is a folder, expected a spec; name a YAML file in it")
        if found is None:
            raise SpecError(f"{name}: unknown dataset {dataset!r}{nearest(dataset, self.dataset_files)}")
        return found, task or None

    def resolve(self, spec: DatasetSpec, name: str, path: Path) -> Resolved:
        """Return one task of a dataset with all that it names. Raises SpecError with every name that is unknown."""
        task = self.tasks.get(name)
        if task is None:
            raise SpecError(
                f"{_place(path, 'tasks', name)}: tasks: unknown task {name!r}{nearest(name, self.tasks)}"
            )
        mistakes = []
        use = spec.tasks[name]
        for split in use.splits:
            if split not in spec.source.splits:
                place = _place(path, "tasks", name, "splits")
                mistakes.append(
                    f"{place}: tasks.{name}.splits: no split {split!r}{nearest(split, spec.source.splits)}"
                )
        labels = spec.labels if spec.labels != "source" else None
        if labels is not None and labels not in self.labels:
            mistakes.append(
                f"{_place(path, 'labels')}: labels: unknown {labels!r}{nearest(labels, self.labels)}"
            )
        if task.prompts is not None and task.prompts not in self.banks:
            mistakes.append(
                f"task {name!r}: prompts: unknown {task.prompts!r}{nearest(task.prompts, self.banks)}"
            )
        if mistakes:
            raise SpecError(*mistakes)
        return Resolved(
            dataset=spec,
            task=task,
            options={**task.options, **use.options},
            splits=use.splits or tuple(spec.source.splits),
            bank=self.banks[task.prompts] if task.prompts is not None else None,
            labels=self.labels[labels] if labels is not None else None,
            path=str(path),
        )


def _place(path: Path, *keys: str) -> str:
    line = yaml12.line_of(path, [*keys])
    return f"{path}:{line}" if line else str(path)
