"""Annotation files that nobody has converted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import xxhash

from dataengine.annotation import Annotation, Measure, Rejected
from dataengine.audit.gallery import Gallery, Source
from dataengine.audit.guess import Guess, use_of
from dataengine.audit.pictures import Looked, Pictures, check_pictures
from dataengine.audit.policy import is_known
from dataengine.audit.rule import Hit
from dataengine.audit.state import Audit, Progress, Report, close, side
from dataengine.conventions import PictureSizes
from dataengine.errors import SourceError, SpecError, UsageError
from dataengine.files import Root
from dataengine.leaks.parts import Part, Unconverted
from dataengine.modules import Reader, load_reader, source_labels
from dataengine.source import everything
from dataengine.spill import Kept, Rows
from dataengine.units import SKIP_REASONS


def foreign_source(reader: Reader, format_name: str, file: Path, root: Path, options: dict[str, str]) -> Any:
    """Return the reader's Source for one file: its first required key takes the file, `options` the others.

    A list or a mapping is written as JSON.
    """
    fields = msgspec.structs.fields(reader.Source)
    required = [field.encode_name for field in fields if field.required and field.encode_name not in options]
    values: dict[str, Any] = {key: _value(text) for key, text in options.items()}
    if required:
        values[required[0]] = file.relative_to(root).as_posix()
    try:
        return msgspec.convert(values, reader.Source, strict=False)
    except msgspec.ValidationError as error:
        raise SpecError(
            f"format {format_name!r}: {error}; give the missing keys with --source KEY=VALUE"
        ) from error


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text) if text[:1] in ("[", "{") else text
    except msgspec.DecodeError:
        return text


def _sizes_on_disk(state: Audit, item: Annotation, sizes: PictureSizes) -> None:
    """Hold the stated sizes of pictures with objects against their files, as conversion does."""
    for number, image in enumerate(item.images if item.instances else ()):
        real = sizes.on_disk(image.path) if image.width and image.height else None
        if real is not None and real != (image.width, image.height):
            text = f"{image.path}: stated {image.width} x {image.height}, is {real[0]} x {real[1]}"
            state.hit("box.size_mismatch", Hit(text, None, number), item)


class Beside(NamedTuple):
    """What is held against each other when all is read: pictures, and splits against evaluation sets."""

    gallery: Gallery
    parts: list[Part]


def audit_foreign(
    path: Path,
    format_name: str,
    root: Path | None,
    options: dict[str, str],
    workers: int,
    progress: Progress,
    beside: Beside,
) -> Report:
    """Audit an annotation file that nobody has converted; pictures are looked at where `root` is given."""
    reader = load_reader(format_name, "--format")
    folder = root or (path if path.is_dir() else path.parent)
    if not path.exists():
        raise SourceError(f"{path}: no such file")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{path}: lies outside {folder}; --root must be a folder that holds it")
    source = foreign_source(reader, format_name, path.resolve(), folder.resolve(), options)
    split = _Split(str(path), str(folder), use_of(path.stem), format_name, reader, source, folder, root)
    return _audit_source(split, workers, progress, beside)


def audit_guessed(
    path: Path, found: Guess, root: Path | None, workers: int, progress: Progress, beside: Beside
) -> Iterator[Report]:
    """Audit each split of what was recognised; its pictures where `root` is given, or `path` is a folder of them."""
    reader = load_reader(found.format, "--format")
    folder = path if path.is_dir() else (root or path.parent)
    for split, keys in found.splits.items():
        subject = str(path) if len(found.splits) == 1 else f"{path}/{split}"
        try:
            source = msgspec.convert(keys, reader.Source)
        except msgspec.ValidationError as error:
            raise SpecError(f"{path}: format {found.format!r}: {error}; give it with --format") from error
        pictures = root if found.alone or path.is_file() else path
        one = _Split(subject, str(path), use_of(split), found.format, reader, source, folder, pictures)
        yield _audit_source(one, workers, progress, beside)


class _Split(NamedTuple):
    """A split as its reader reads it from `folder`; its pictures are looked at where `root` is known."""

    subject: str
    dataset: str
    use: str
    format: str
    reader: Reader
    source: Any
    folder: Path
    root: Path | None

    def read(self) -> Iterator[Annotation | Rejected]:
        """Yield all that it gives."""
        return everything(self.reader, self.source, Root(self.folder.resolve()))


def _audit_source(split: _Split, workers: int, progress: Progress, beside: Beside) -> Report:
    labels, root = source_labels(split.reader, split.source, Root(split.folder.resolve())), split.root
    state = Audit(split.subject, str(split.folder), labels, kind="annotations")
    state.versions = {"reader": f"{split.format} {split.reader.VERSION}"}
    pictures: Kept[str, Measure | None] = Kept(str, Measure | None)
    paths = Rows()
    quarantined: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    stated = 0
    sizes = PictureSizes(root)
    for item in split.read():
        state.counts["records"] += 1
        if isinstance(item, Rejected):
            (skipped if item.reason in SKIP_REASONS else quarantined)[item.reason] += 1
            if item.reason not in SKIP_REASONS:
                state.rejected(item)
        else:
            state.annotation(item, sizes.of(item))
            paths.add([xxhash.xxh3_64_intdigest(image.path.encode()) for image in item.images])
            for image in item.images if root is not None else ():
                pictures[image.path] = image.measure
            if root is not None and len(item.images) > 1:
                beside.gallery.together(str(root), [image.path for image in item.images])
            _sizes_on_disk(state, item, sizes)
            for image in item.images:
                known = is_known(image.license)
                state.license(image.license if known and image.license else "none stated")
                stated += known
                if image.width and image.height:
                    state.sides[side(image.width, image.height)] += 1
        progress(1, "")
    state.whole()
    if missing := state.licenses["none stated"]:
        state.add(
            "license.missing",
            Hit(f"{missing} of {missing + stated} pictures have no license"),
            place="subject",
        )
    if root is not None:
        name = Source(subject=split.subject, name=split.subject, dataset=split.dataset, use=split.use)
        beside.gallery.open(name)
        seen: Pictures = Kept(tuple[str, str], Looked)
        check_pictures(state, str(root), pictures, workers, progress, seen, beside.gallery)
    beside.parts.append(Unconverted(split.subject, split.use, str(root or ""), split.read))
    account = close(state, None)
    first = msgspec.structs.replace(
        account.accounts[0],
        records=state.counts["records"],
        skipped=dict(skipped),
        quarantined=dict(quarantined),
        images=sum(len(np.unique(table)) for table in paths.groups()),
    )
    return msgspec.structs.replace(account, accounts=[first])
