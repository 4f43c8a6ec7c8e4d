"""Dataset specs: declared content, checked without running anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import xxhash

from dataengine import yaml12
from dataengine.annotation import LabelSpace
from dataengine.errors import SpecError, nearest
from dataengine.modules import load_builder, load_reader
from dataengine.prompts import PromptBank
from dataengine.remote import Fetch
from dataengine.resize import Pictures
from dataengine.strict import attempt, convert, load_struct
from dataengine.task import Task, TaskSpec

ID = re.compile(r"[a-z0-9][a-z0-9_]{0,47}")
_LANG = re.compile(r"[a-z]{2,3}")


class License(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SPDX ids, or `per_record`, `unspecified`, `unknown`, or the owner's own name for the terms."""

    annotations: str
    images: str


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """One split: what it may be used for, what it should hold, its language where it is not the dataset's, and the keys
    that the reader needs."""

    use: Literal["train", "eval"]
    images_expected: int | None = None
    records_expected: int | None = None
    license: str | None = None
    lang: str | None = None
    options: dict[str, Any] = {}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where the annotations are: a format, and per split the keys that its reader takes."""

    format: str
    splits: dict[str, Split]


MAX_SHOTS = 5


class Gather(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each source item gets other items of its split as examples (`dataengine.gather`).

    `by`: the fact that makes an item an example. By `label` and `category` (of an object) examples share a class with
    the item that is asked about: `all` of them, or `some`, at least one, with other classes beside it. `shots`: the
    least and the most examples; `pool`: how many items of a class are kept to draw from.
    """

    by: Literal["label", "category", "caption", "question", "dialog", "text"]
    same: Literal["all", "some"] = "all"
    shots: tuple[int, int] = (1, MAX_SHOTS)
    pool: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.shots[0] <= self.shots[1] <= MAX_SHOTS:
            raise ValueError(f"shots: {list(self.shots)} is no range of 1 to {MAX_SHOTS}")
        if self.pool <= self.shots[1]:
            raise ValueError(f"pool: {self.pool} items give no choice, expected more than {self.shots[1]}")


class TaskUse(msgspec.Struct, frozen=True, kw_only=True):
    """A task on a dataset: options for its builder, the splits that it applies to, budgets by reason, its examples, and
    how large its pictures may be in shards, where that differs from the dataset's."""

    options: dict[str, Any] = {}
    splits: tuple[str, ...] = ()
    budgets: dict[str, float] = {}
    gather: Gather | None = None
    pictures: Pictures | None = None


class DatasetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A public collection and its tasks."""

    id: str
    title: str
    license: License
    source: Source
    tasks: dict[str, TaskUse]
    status: Literal["real", "layout"]
    homepage: str = ""
    citation: str = ""
    labels: str | None = None
    lang: str = "en"
    budgets: dict[str, float] = {}
    covers: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    adapt: str | None = None
    fetch: Fetch | None = None
    pictures: Pictures | None = None
    notes: str = ""


class SplitFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a split that are ours; all others are the reader's."""

    use: Literal["train", "eval"] = "train"
    images_expected: int | None = None
    records_expected: int | None = None
    license: str | None = None
    lang: str | None = None


class DatasetFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a dataset's YAML file may hold; the reader's and the builder's own keys complete `source` and `tasks`."""

    id: str
    title: str
    license: License
    source: dict[str, Any]
    tasks: dict[str, dict[str, Any] | None]
    status: Literal["real", "layout"]
    homepage: str = ""
    citation: str = ""
    labels: str | None = None
    lang: str = "en"
    budgets: dict[str, float] = {}
    covers: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    adapt: str | None = None
    fetch: Fetch | None = None
    pictures: Pictures | None = None
    notes: str = ""


_SPLIT_KEYS = set(SplitFacts.__struct_fields__)
_TASK_KEYS = ("splits", "budgets", "gather", "pictures")


def load_dataset(path: Path) -> DatasetSpec:
    """Load a dataset spec; imports nothing and opens no other file. Raises SpecError with file, line and key."""
    found, mistakes = read_dataset(path)
    if found is None or mistakes:
        raise SpecError(*mistakes)
    return found


def read_dataset(path: Path) -> tuple[DatasetSpec | None, list[str]]:
    """Return a dataset spec without what is wrong in it, and every mistake; None where too little is right.

    Raises SpecError where the file is no YAML mapping.
    """
    raw, mistakes = attempt(yaml12.load(path), DatasetFile, path, [])
    if raw is None:
        return None, mistakes
    if not ID.fullmatch(raw.id):
        mistakes.append(f"{path}: id {raw.id!r}: expected lower-case letters, digits and '_', at most 48")
    mistakes += _budget_mistakes(raw.budgets, path, ["budgets"]) + _lang_mistakes(raw.lang, path, ["lang"])
    source = _source(raw.source, path, mistakes)
    tasks = {task: _task_use(task, use, path, mistakes) for task, use in raw.tasks.items()}
    if source is None:
        return None, mistakes
    if raw.fetch is not None and isinstance(raw.source.get("splits"), dict):
        for keys, says in raw.fetch.unknown_splits(tuple(raw.source["splits"])):
            line = yaml12.line_of(path, keys)
            mistakes.append(f"{path}:{line}: {says}" if line else f"{path}: {says}")
    shared = {
        name: getattr(raw, name) for name in DatasetFile.__struct_fields__ if name not in ("source", "tasks")
    }
    return DatasetSpec(**shared, source=source, tasks=tasks), mistakes


def _source(raw: dict[str, Any], path: Path, mistakes: list[str]) -> Source | None:
    shared = {key: value for key, value in raw.items() if key not in ("format", "splits")}
    splits = raw.get("splits")
    if not isinstance(raw.get("format"), str):
        mistakes.append(f"{path}: source.format: missing; expected the name of a format")
    if not isinstance(splits, dict) or not splits:
        mistakes.append(f"{path}: source.splits: missing; expected at least one split")
        return None
    found = {}
    for name, split in splits.items():
        if not ID.fullmatch(name):
            mistakes.append(f"{path}: source.splits.{name}: expected lower-case letters, digits and '_'")
        if not isinstance(split, dict | None):
            mistakes.append(f"{path}: source.splits.{name}: expected a mapping of keys")
            continue
        merged = {**shared, **(split or {})}
        ours = {key: value for key, value in merged.items() if key in _SPLIT_KEYS}
        facts, wrong = attempt(ours, SplitFacts, path, ["source", "splits", name])
        mistakes += wrong
        if facts is not None:
            mistakes += _lang_mistakes(facts.lang, path, ["source", "splits", name, "lang"])
            options = {key: value for key, value in merged.items() if key not in _SPLIT_KEYS}
            found[name] = Split(**msgspec.structs.asdict(facts), options=options)
    return (
        Source(format=raw["format"], splits=found) if found and isinstance(raw.get("format"), str) else None
    )


def _lang_mistakes(lang: str | None, path: Path, keys: list[str]) -> list[str]:
    if lang is None or _LANG.fullmatch(lang):
        return []
    place = f"{path}:{yaml12.line_of(path, keys)}: {'.'.join(keys)}"
    return [f"{place}: {lang!r} is no language, expected two or three letters such as 'zh'"]


def _budget_mistakes(budgets: dict[str, float], path: Path, keys: list[str]) -> list[str]:
    mistakes = []
    for reason, rate in budgets.items():
        if not 0 <= rate <= 1:
            place = f"{path}:{yaml12.line_of(path, [*keys, reason])}: {'.'.join(keys)}"
            mistakes.append(f"{place}: {reason}: {rate} is no rate, expected 0 to 1")
    return mistakes


def _task_use(task: str, raw: dict[str, Any] | None, path: Path, mistakes: list[str]) -> TaskUse:
    options = dict(raw or {})
    ours = {key: options.pop(key) for key in _TASK_KEYS if key in options}
    use, wrong = attempt(ours, TaskUse, path, ["tasks", task])
    mistakes += wrong
    if use is None:
        return TaskUse(options=options)
    mistakes += _budget_mistakes(use.budgets, path, ["tasks", task, "budgets"])
    return msgspec.structs.replace(use, options=options)


def load_task(path: Path) -> TaskSpec:
    """Load a task type. Raises SpecError."""
    return load_struct(path, TaskSpec)


def load_labels(path: Path) -> LabelSpace:
    """Load a label space.

    Raises SpecError, also where a name or code stands twice or a mirror partner does not exist.
    """
    space = load_struct(path, LabelSpace)
    names = [*space.names, *(code for label in space.labels for code in label.codes)]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SpecError(f"{path}: labels: {twice!r} stands twice")
    for label in space.labels:
        count = len(label.keypoints)
        if any(not 0 <= end < count for pair in (*label.skeleton, *label.flip_pairs) for end in pair):
            raise SpecError(f"{path}: labels: {label.name!r}: a skeleton or flip pair leaves 0..{count - 1}")
        if any(a == b for a, b in label.flip_pairs):
            raise SpecError(f"{path}: labels: {label.name!r}: a keypoint is its own mirror partner")
    return space


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """One task spec with everything it names: what convert runs on, and what `show` prints."""

    dataset: DatasetSpec
    task: TaskSpec
    options: dict[str, Any]
    splits: tuple[str, ...]
    bank: PromptBank | None
    labels: LabelSpace | None
    path: str

    @property
    def id(self) -> str:
        """The task spec's name, `dataset/task`."""
        return f"{self.dataset.id}/{self.task.id}"

    def budgets(self) -> dict[str, float]:
        """Return the largest rate of units that each reason may take."""
        return {**self.dataset.budgets, **self.dataset.tasks[self.task.id].budgets}

    @property
    def gather(self) -> Gather | None:
        """How source items get examples, where the task asks for some."""
        return self.dataset.tasks[self.task.id].gather

    @property
    def pictures(self) -> Pictures | None:
        """How large pictures may be in shards, None where they keep their bytes."""
        return self.dataset.tasks[self.task.id].pictures or self.dataset.pictures

    def source(self, split: str) -> Any:
        """Return the reader's own Source Struct for a split. Raises SpecError for a key that the format lacks."""
        reader = load_reader(self.dataset.source.format, self.path)
        place = Path(self.path)
        return convert(
            self.dataset.source.splits[split].options,
            reader.Source,
            place,
            ["source", "splits", split],
            tuple(SplitFacts.__struct_fields__),
        )

    def runtime(self, split: str, labels: LabelSpace | None) -> Task:
        """Return what the builder needs. Raises SpecError for an option that the builder lacks."""
        builder = load_builder(self.task.builder, self.path)
        options = convert(self.options, builder.Options, Path(self.path), ["tasks", self.task.id], _TASK_KEYS)
        return Task(
            spec=self.task,
            options=options,
            bank=self.bank,
            labels=self.labels or labels,
            train=self.dataset.source.splits[split].use == "train",
            lang=self.lang(split),
        )

    def lang(self, split: str) -> str:
        """Return the language that a split is in."""
        return self.dataset.source.splits[split].lang or self.dataset.lang

    def hash(self) -> str:
        """Return a digest of all declared content: the same for the same words, whatever the file's name."""
        content = msgspec.to_builtins((self.dataset, self.task, self.options, self.bank, self.labels))
        # The other tasks of a dataset, where its files come from, and prose do not change what this one makes.
        for key in (
            "tasks",
            "title",
            "homepage",
            "citation",
            "notes",
            "covers",
            "unverified",
            "status",
            "fetch",
            "pictures",
        ):
            content[0].pop(key)
        if self.gather is not None:
            content = (*content, msgspec.to_builtins(self.gather))
        if self.pictures is not None:
            content = (*content, msgspec.to_builtins({"pictures": self.pictures}))
        return xxhash.xxh3_128_hexdigest(msgspec.json.encode(content, order="sorted"))


def split_names(spec: Resolved, wanted: str | None) -> tuple[str, ...]:
    """Return the splits to work on. Raises SpecError for one that the spec lacks."""
    if wanted is None:
        return spec.splits
    if wanted not in spec.splits:
        raise SpecError(f"{spec.path}: no split {wanted!r} for {spec.id}{nearest(wanted, spec.splits)}")
    return (wanted,)


def with_split(specs: list[Resolved], wanted: str | None) -> list[Resolved]:
    """Return the task specs that have a split; all where none does, so that `split_names` can say what there is."""
    return [spec for spec in specs if wanted is None or wanted in spec.splits] or specs
