"""Annotation files that nobody has converted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash

from dataengine.annotation import Annotation, Measure, Rejected
from dataengine.audit.guess import Guess
from dataengine.audit.pictures import Looked, check_pictures
from dataengine.audit.policy import is_known
from dataengine.audit.rule import Hit
from dataengine.audit.state import Audit, Progress, Report, close, side
from dataengine.conventions import PictureSizes
from dataengine.errors import SourceError, SpecError, UsageError
from dataengine.files import Root
from dataengine.modules import Reader, load_reader, source_labels
from dataengine.source import named
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


def audit_foreign(
    path: Path, format_name: str, root: Path | None, options: dict[str, str], workers: int, progress: Progress
) -> Report:
    """Audit an annotation file that nobody has converted; pictures are looked at where `root` is given."""
    reader = load_reader(format_name, "--format")
    folder = root or (path if path.is_dir() else path.parent)
    if not path.exists():
        raise SourceError(f"{path}: no such file")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{path}: lies outside {folder}; --root must be a folder that holds it")
    source = foreign_source(reader, format_name, path.resolve(), folder.resolve(), options)
    return _audit_source(str(path), format_name, reader, source, folder, root, workers, progress)


def audit_guessed(
    path: Path, found: Guess, root: Path | None, workers: int, progress: Progress
) -> Iterator[Report]:
    """Audit each split of what was recognised; its pictures where `root` is given, or `path` is a folder."""
    reader = load_reader(found.format, "--format")
    folder = path if path.is_dir() else (root or path.parent)
    for split, keys in found.splits.items():
        subject = str(path) if len(found.splits) == 1 else f"{path}/{split}"
        try:
            source = msgspec.convert(keys, reader.Source)
        except msgspec.ValidationError as error:
            raise SpecError(f"{path}: format {found.format!r}: {error}; give it with --format") from error
        pictures = path if path.is_dir() else root
        yield _audit_source(subject, found.format, reader, source, folder, pictures, workers, progress)


def _audit_source(
    subject: str,
    format_name: str,
    reader: Reader,
    source: Any,
    folder: Path,
    root: Path | None,
    workers: int,
    progress: Progress,
) -> Report:
    labels = source_labels(reader, source, Root(folder.resolve()))
    state = Audit(subject, str(folder), labels)
    state.versions = {"reader": f"{format_name} {reader.VERSION}"}
    pictures: Kept[str, Measure | None] = Kept(str, Measure | None)
    paths = Rows()
    quarantined: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    stated = 0
    sizes = PictureSizes(root)
    for item in map(named, reader.read(source, Root(folder.resolve()))):
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
        check_pictures(state, str(root), pictures, workers, progress, Kept(tuple[str, str], Looked))
    account = close(state, None)
    first = msgspec.structs.replace(
        account.accounts[0],
        records=state.counts["records"],
        skipped=dict(skipped),
        quarantined=dict(quarantined),
        images=sum(len(np.unique(table)) for table in paths.groups()),
    )
    return msgspec.structs.replace(account, accounts=[first])
