"""What builder tests share: the shipped tasks with their banks, and a whole sample of what a builder returns."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from dataengine.annotation import Annotation, LabelSpace
from dataengine.catalog import Catalog
from dataengine.modules import load_builder
from dataengine.sample import Rendering, Sample, SampleImage, SampleLicense, SampleOrigin, check
from dataengine.strict import convert
from dataengine.task import Task, Unit, explode

MakeTask = Callable[..., Task]


@pytest.fixture(scope="session")
def make_task() -> MakeTask:
    """Return a shipped task as a builder gets it; keywords besides `labels` and `train` are options."""
    catalog = Catalog()

    def make(
        name: str, labels: LabelSpace | None = None, train: bool = True, lang: str = "en", **options: Any
    ) -> Task:
        spec = catalog.tasks[name]
        builder = load_builder(spec.builder, name)
        return Task(
            spec=spec,
            options=convert({**spec.options, **options}, builder.Options, Path(name), []),
            bank=catalog.banks[spec.prompts] if spec.prompts else None,
            labels=labels,
            train=train,
            lang=lang,
        )

    return make


@pytest.fixture(scope="session")
def build() -> Callable[..., Rendering]:
    """Build one unit of an annotation (the first, or the given one) and check the sample that it makes."""

    def run(annotation: Annotation, task: Task, seed: int = 0, unit: Unit | None = None) -> Rendering:
        chosen = unit if unit is not None else explode(annotation, task.spec.unit)[0][1]
        builder = load_builder(task.spec.builder, task.spec.id)
        rendering = builder.build(annotation, chosen, task, random.Random(seed))
        check(_sample(annotation, task, rendering))
        return rendering

    return run


@pytest.fixture(scope="session")
def make_sample() -> Callable[[Annotation, Task, Rendering], Sample]:
    """Make the sample of what a builder returns."""
    return _sample


def _sample(annotation: Annotation, task: Task, rendering: Rendering) -> Sample:
    return Sample(
        id=f"test/train/{annotation.key}#{task.spec.id}",
        task=task.spec.id,
        dataset="test",
        split="train",
        images=tuple(
            SampleImage(path=image.path, width=100, height=80, format="jpeg", role=image.role)
            for one in (*annotation.examples, annotation)
            for image in one.images
        ),
        conversation=rendering.conversation,
        targets=rendering.targets,
        routes=rendering.routes,
        regions=rendering.regions,
        marks=rendering.marks or UNSET,
        prompt=rendering.prompt,
        origin=SampleOrigin(dataset="test", file="f", record="r", spec="test/t", spec_hash="0", reader="x 1"),
        license=SampleLicense(annotations="CC0-1.0", images="CC0-1.0"),
    )
