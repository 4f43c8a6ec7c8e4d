"""`pipelines.yaml`: whole runs by name, from source files to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from dataengine import yaml12
from dataengine.errors import SpecError, nearest
from dataengine.shares import Change, Mode, Policy
from dataengine.strict import convert


class ConvertStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Convert a spec (a dataset, or dataset/task) whose files lie in one of the pipeline's roots."""

    spec: str
    root: str
    splits: tuple[str, ...] = ()
    limit: int | None = None
    allow_empty: bool = False


class CurateStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the manifests stays out of the shards, as `dataengine curate` says it; `where` rates them first."""

    profile: str | None = None
    profiles: str | None = None
    where: tuple[str, ...] = ()


class ShardStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the manifests become tars; `selections` are tables of samples to leave out."""

    layout: Literal["by_task", "mixed"] = "by_task"
    samples_per_shard: int = 1000
    runner: Literal["local", "ray"] = "ray"
    selections: tuple[str, ...] = ()


class MixStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mixture; the fields are those of a recipe."""

    policy: Policy = "unimax"
    mode: Mode = "unmixed"
    temperature: float | None = None
    cap_epochs: float | None = None
    cap_samples: int | None = None
    budget: int | None = None
    tasks: Policy | None = None
    datasets: Policy | None = None
    weights: dict[str, float] | None = None
    loss_weights: dict[str, float] | None = None
    schedule: tuple[Change, ...] | None = None


class Pipeline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run. `roots` name folders of source files; `prepare` writes data that comes with the project.

    `train` holds the trainer's own settings, which it checks; the mixture, the seed and the shards come from here.
    """

    title: str
    out: str
    convert: tuple[ConvertStage, ...]
    seed: int = 0
    workers: int = 2
    roots: dict[str, str] = {}
    prepare: tuple[str, ...] = ()
    audit: bool = True
    curate: CurateStage | None = None
    shard: ShardStage = ShardStage()
    mix: MixStage = MixStage()
    train: dict[str, Any] | None = None
    evaluate: bool = True


Pipelines = dict[str, Pipeline]


def load(path: Path) -> Pipelines:
    """Load pipelines.yaml. Raises SpecError with file, line and key."""
    if not path.is_file():
        raise SpecError(f"{path}: no such file; run from the project's folder, or pass --file")
    # One by one, so that a mistake is named with its pipeline and line.
    return {name: convert(value, Pipeline, path, [name]) for name, value in yaml12.load(path).items()}


def find(path: Path, name: str) -> Pipeline:
    """Return one pipeline. Raises SpecError with the nearest known name."""
    known = load(path)
    if name not in known:
        raise SpecError(f"{path}: no pipeline {name!r}{nearest(name, known)}")
    return known[name]
