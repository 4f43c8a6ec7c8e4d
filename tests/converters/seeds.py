"""What the fuzz tests begin with: for each format, the folders that its reader's own tests read, and real samples.

A seed is found, not listed: the tests of `tests/converters/formats/test_<format>.py` run once with a reader that
keeps what it is given. A format whose reader has tests on files therefore has seeds.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from PIL import Image

from dataengine.annotation import Annotation, Rejected
from dataengine.catalog import Catalog
from dataengine.errors import DataEngineError
from dataengine.files import Root
from dataengine.images import EXTENSIONS
from dataengine.modules import FORMATS_PACKAGE, Reader, load_reader

FORMATS = Path(__file__).parent / "formats"
CONFORMANCE = Path(__file__).parent.parent / "conformance" / "test_samples.py"
SIDE = (64, 48)
# More facts than that only take longer.
RICH = 100


class Seed(NamedTuple):
    """A folder that a reader reads without complaint, the `source` that reads it, and how much came of it."""

    format: str
    folder: Path
    source: Any
    weight: int


def made(name: str, scratch: Path, enough: int) -> list[Seed]:
    """Return seeds of a format from its reader's own tests, the richest first; stop looking when there are enough."""
    reader = load_reader(name, "fuzz")
    kept: list[tuple[Path, Any]] = []
    original = reader.read

    def keep(source: Any, root: Root) -> Iterator[Annotation | Rejected]:
        if len(kept) < enough:
            target = scratch / f"seed{len(kept)}"
            shutil.copytree(root.directory, target, symlinks=True)
            kept.append((target, source))
        return original(source, root)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module(f"{FORMATS_PACKAGE}.{name}"), "read", keep)
        for file in sorted(FORMATS.glob(f"test_{name}*.py")):
            for number, (test, values) in enumerate(_tests(_module(file))):
                if len(kept) >= enough:
                    break
                folder = scratch / f"{file.stem}{number}"
                folder.mkdir()
                # What fails here fails in its own place as well, and is said there.
                with pytest.MonkeyPatch.context():
                    try:
                        test(tmp_path=folder, **values)
                    except (AssertionError, pytest.fail.Exception, pytest.skip.Exception):
                        continue
    seeds = [_weighed(reader, name, folder, source) for folder, source in kept]
    return sorted(
        (seed for seed in seeds if seed.weight), key=lambda seed: (seed.weight > RICH, -seed.weight)
    )


def _module(file: Path) -> ModuleType:
    """Return a test file as a module of its own, whose readers are those of this moment."""
    spec = importlib.util.spec_from_file_location(f"seeds_of_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _tests(module: ModuleType) -> Iterator[tuple[Callable[..., None], dict[str, Any]]]:
    """Yield the tests that need nothing but a folder, and the values of their parameters."""
    for name, test in vars(module).items():
        if not name.startswith("test_") or hasattr(test, "hypothesis"):
            continue
        wanted = set(inspect.signature(test).parameters)
        marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
        axes = [[*_axis(mark)] for mark in marks]
        for chosen in itertools.islice(itertools.product(*axes), 8):
            values = {key: value for part in chosen for key, value in part.items()}
            if wanted == {"tmp_path", *values}:
                yield test, values


def _axis(mark: pytest.Mark) -> Iterator[dict[str, Any]]:
    names = mark.args[0]
    names = [one.strip() for one in names.split(",")] if isinstance(names, str) else list(names)
    for value in mark.args[1]:
        if hasattr(value, "marks"):
            value = value.values
        elif len(names) == 1:
            value = (value,)
        yield dict(zip(names, value, strict=True))


def real(samples: Path, scratch: Path, most_bytes: int) -> Iterator[tuple[str, Callable[[], Seed]]]:
    """Yield (format, what makes the seed) of every real sample that a spec reads, the smallest folders first.

    A file of more than `most_bytes` is left out.
    """
    runs = _module(CONFORMANCE).runs()
    catalog = Catalog()
    for name, run in sorted(runs.items(), key=lambda pair: (_size(samples / pair[1].folder), pair[0])):
        if not (samples / run.folder).is_dir():
            continue
        spec = catalog.find(run.spec)[0]

        def make(name: str = name, run: Any = run, spec: Any = spec) -> Seed:
            target = scratch / name.replace("/", "_")
            for where, what in (run.place or {".": "."}).items():
                _copy(samples / run.folder / what, target / where, most_bytes)
            split = next(one for one in spec.dataset.source.splits if one in run.splits or not run.splits)
            reader = load_reader(spec.dataset.source.format, "fuzz")
            return _weighed(reader, spec.dataset.source.format, target, spec.source(split))

        yield spec.dataset.source.format, make


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _copy(source: Path, target: Path, most_bytes: int) -> None:
    """Copy a file or a folder, but no file that would make a test slow."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                _copy(path, target / path.relative_to(source), most_bytes)
    elif source.stat().st_size <= most_bytes:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _weighed(reader: Reader, name: str, folder: Path, source: Any) -> Seed:
    """Return a seed with its pictures made where they are not there; one that gives nothing weighs nothing."""
    weight = 0
    try:
        if prepare := getattr(reader, "prepare", None):
            prepare(source, folder)
        for item in reader.read(source, Root(folder)):
            if isinstance(item, Annotation):
                weight += 1 + sum(
                    len(getattr(item, kind))
                    for kind in (
                        "instances",
                        "captions",
                        "expressions",
                        "questions",
                        "dialogs",
                        "edits",
                        "relations",
                    )
                )
                _draw(item, folder)
    except DataEngineError:
        return Seed(name, folder, source, 0)
    return Seed(name, folder, source, weight)


def _draw(item: Annotation, folder: Path) -> None:
    """Make the pictures of an annotation that are not there, so that builders see its objects."""
    for image in item.images:
        path = folder / image.path
        if path.exists() or not path.resolve().is_relative_to(folder.resolve()):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new("L", (image.width or SIDE[0], image.height or SIDE[1]), 128)
            picture.save(path, EXTENSIONS.get(path.suffix.lower()[1:], "png"))
        except (OSError, ValueError):
            continue  # a name that no file can have: the annotation ends as image.missing
