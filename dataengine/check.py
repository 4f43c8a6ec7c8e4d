"""Every mistake in specs, found without data: loading, names, and the options of readers and builders."""

from __future__ import annotations

from pathlib import Path

from dataengine.catalog import Catalog
from dataengine.errors import SpecError, nearest
from dataengine.modules import load_builder, load_function
from dataengine.prompts import load_bank
from dataengine.spec import Resolved, load_labels, load_task, read_dataset


def check_spec(catalog: Catalog, name: str) -> list[str]:
    """Return the mistakes of one spec, one line each: what is right is checked although something else is wrong."""
    mistakes: list[str] = []
    try:
        path, wanted = catalog.file_of(name)
        dataset, mistakes = read_dataset(path)
    except SpecError as error:
        return [*error.mistakes]
    if dataset is None:
        return mistakes
    if wanted and wanted not in dataset.tasks:
        return [
            *mistakes,
            f"{name}: dataset {dataset.id!r} has no task {wanted!r}{nearest(wanted, dataset.tasks)}",
        ]
    for task in [wanted] if wanted else dataset.tasks:
        try:
            mistakes += check_resolved(catalog.resolve(dataset, task, path))
        except SpecError as error:
            mistakes += error.mistakes
    return list(dict.fromkeys(mistakes))


def check_resolved(spec: Resolved) -> list[str]:
    """Return the mistakes that show only when a spec meets its reader and builder."""
    mistakes: list[str] = []
    for split in spec.splits:
        for attempt in (spec.source, lambda one: spec.runtime(one, None)):
            try:
                attempt(split)
            except SpecError as error:
                mistakes += error.mistakes
    path = Path(spec.path)
    if path.stem != spec.dataset.id:
        mistakes.append(f"{path}: id is {spec.dataset.id!r}, expected the file's name {path.stem!r}")
    if spec.dataset.adapt is not None:
        try:
            load_function(spec.dataset.adapt, f"{spec.path}: adapt")
        except SpecError as error:
            mistakes += error.mistakes
    try:
        builder = load_builder(spec.task.builder, spec.path)
    except SpecError as error:
        return [*mistakes, *error.mistakes]
    if getattr(builder, "NEEDS_BANK", False) and spec.bank is None:
        mistakes.append(f"{spec.path}: task {spec.task.id!r} names no prompt bank, but its builder needs one")
    if spec.gather is not None and not getattr(builder, "TAKES_EXAMPLES", False):
        mistakes.append(
            f"{spec.path}: task {spec.task.id!r} cannot show examples; remove tasks.{spec.task.id}.gather"
        )
    return mistakes


def check_all(catalog: Catalog) -> tuple[int, list[str]]:
    """Return the number of files checked and every mistake in tasks, prompts, labels and datasets."""
    mistakes: list[str] = []
    count = 0
    for directory in catalog.directories:
        for folder, load in (("tasks", load_task), ("prompts", load_bank), ("labels", load_labels)):
            for path in sorted((directory / folder).glob("*.yaml")):
                count += 1
                try:
                    found = load(path)
                except SpecError as error:
                    mistakes += error.mistakes
                    continue
                if found.id != path.stem:
                    mistakes.append(f"{path}: id is {found.id!r}, expected the file's name {path.stem!r}")
    if mistakes:
        # Datasets stand on these; their own mistakes would only repeat the ones above.
        return count, mistakes
    for name in sorted(catalog.dataset_files):
        count += 1
        mistakes += check_spec(catalog, name)
    return count, mistakes
