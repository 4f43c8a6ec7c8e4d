"""Readers and builders, found by the name that a spec gives; nothing registers itself."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

from dataengine.annotation import Annotation, LabelSpace, Rejected
from dataengine.errors import SpecError, nearest
from dataengine.files import Root
from dataengine.sample import Rendering
from dataengine.task import Task, Unit

FORMATS_PACKAGE = "converters.formats"
BUILDERS_PACKAGE = "converters.tasks"
WRITERS_PACKAGE = "converters.writers"


class Reader(Protocol):
    """A module that reads one annotation layout."""

    VERSION: str
    Source: Any  # a msgspec Struct: the keys that a spec may give under `source` and its splits

    def read(self, source: Any, root: Root) -> Iterator[Annotation | Rejected]:
        """Yield one annotation or rejection a source item, in the order of the source."""
        ...


class Written(NamedTuple):
    """What a writer made: the `source` keys of a spec that read it back, and how many facts of each kind it left out.

    A fact is left out where the layout has no place for it (`expression`), or the fact lacks what it needs
    (`instance without a box`). `source` is None for a layout that no reader reads; `format` is the reader, if it does
    not have the writer's name.
    """

    source: dict[str, Any] | None
    left_out: dict[str, int]
    format: str | None = None


class Writer(Protocol):
    """A module that writes one annotation layout, so that the reader that it names gives the facts back."""

    def write(self, annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
        """Write the files of a layout into `folder`; pictures are already there, under the paths that they have."""
        ...


class Builder(Protocol):
    """A module that words one family of tasks.

    It may have `recover(annotation, sample, task, unsure)`, which returns the annotation and unit from which `build`
    chooses anew what a sample asks for, or None (`dataengine.render`); `annotation` is what the sample says.
    """

    VERSION: str
    Options: Any  # a msgspec Struct: the options that a task or a dataset may set

    def build(self, annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
        """Return the conversation and targets of a unit, or raise Skip or Quarantine with a reason."""
        ...


@cache
def names(package: str) -> tuple[str, ...]:
    """Return the modules of a package by listing it (once a process), without importing them."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return ()
    return tuple(sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)))


def _load(name: str, package: str, kind: str, place: str) -> ModuleType:
    path = name if "." in name else f"{package}.{name}"
    if path in sys.modules:
        return sys.modules[path]  # every unit asks for its builder, and listing a folder takes a while
    if "." not in name and name not in names(package):
        raise SpecError(f"{place}: unknown {kind} {name!r}{nearest(name, names(package))}")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path and not path.startswith(f"{error.name}."):
            raise
        raise SpecError(f"{place}: {kind} {name!r}: no module {path!r} can be imported") from error


def load_reader(name: str, place: str) -> Reader:
    """Return the reader module of a format: ours by its short name, a user's by its dotted path. Raises SpecError."""
    return cast(Reader, _load(name, FORMATS_PACKAGE, "format", place))


def load_writer(name: str, place: str) -> Writer:
    """Return the writer module of a format: ours by its short name, a user's by its dotted path. Raises SpecError."""
    return cast(Writer, _load(name, WRITERS_PACKAGE, "format to write", place))


def load_builder(name: str, place: str) -> Builder:
    """Return the builder module of that name: ours by its short name, a user's by its dotted path. Raises SpecError."""
    return cast(Builder, _load(name, BUILDERS_PACKAGE, "builder", place))


def source_labels(reader: Reader, source: Any, root: Root) -> LabelSpace | None:
    """Return the label space that the source itself states, or None where the format has none."""
    labels = getattr(reader, "labels", None)
    return cast("LabelSpace | None", labels(source, root)) if labels is not None else None


def load_function(name: str, place: str) -> Callable[..., Any]:
    """Return the function that `package.module:function` names. Raises SpecError."""
    path, colon, function = name.partition(":")
    if not colon:
        raise SpecError(f"{place}: {name!r} names no function, expected 'package.module:function'")
    try:
        found = getattr(importlib.import_module(path), function, None)
    except ModuleNotFoundError as error:
        raise SpecError(f"{place}: no module {path!r} can be imported ({error})") from error
    if not callable(found):
        raise SpecError(f"{place}: module {path!r} has no function {function!r}")
    return cast("Callable[..., Any]", found)
