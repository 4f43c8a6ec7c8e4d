"""Tars of others, as WebDataset reads them: every member, every sample, every picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from dataengine import members
from dataengine.annotation import Rejected
from dataengine.audit.gallery import Gallery, Source
from dataengine.audit.guess import use_of
from dataengine.audit.loose import Loose, Picture, Shown, audit_loose
from dataengine.audit.rule import Hit
from dataengine.audit.state import Audit, Progress, Report
from dataengine.errors import ShardError
from dataengine.images import EXTENSIONS, MAX_BYTES
from dataengine.members import Contents, Part
from dataengine.records.containers import TEXTS
from dataengine.records.tables import reject


def audit_tars(path: Path, workers: int, progress: Progress, gallery: Gallery) -> Report:
    """Audit a tar, or all tars in or below a folder, that have no index of ours. Raises ShardError without any."""
    folder, names = (path.parent, [path.name]) if path.is_file() else (path, members.tars_in(path))
    state = Audit(str(path), kind="tars")
    for line in members.packed_in(folder) if path.is_dir() else ():
        state.add("shard.damaged", Hit(line), place="subject")
    shown = Shown()
    gallery.open(Source(subject=str(path), name=str(path), dataset=str(path), use=use_of(path.stem)))
    # Members are read ahead of what is told of pictures, the further the more workers there are.
    members_alone = Audit(str(path))
    samples = _samples(members_alone, folder, names)
    report = audit_loose(state, samples, str(folder), workers, progress, shown, gallery)
    state.findings.extend(members_alone.findings)
    for one, first in shown.again():
        hit = Hit(f"{one.path}: has the bytes of {first.path}")
        state.add("image.duplicate_exact", hit, place="picture", image=one.path, other_image=first.path)
        gallery.copy(str(folder), one.path)
    if pictures := report.accounts[0].images:
        hit = Hit(f"{pictures} of {pictures} pictures have no license")
        state.add("license.missing", hit, place="subject")
    return report


def are_tars(path: Path) -> bool:
    """Say whether a path is a tar, or a folder of tars."""
    if path.is_file():
        return path.suffix.lower() == ".tar"
    return any(one.is_file() for one in path.rglob("*.tar"))


def _samples(state: Audit, folder: Path, names: list[str]) -> Iterator[Loose | Rejected]:
    for name in names:
        try:
            contents = members.read_tar(folder, name)
            descriptor = os.open(folder / name, os.O_RDONLY)
        except (ShardError, OSError) as error:
            state.add("shard.damaged", Hit(str(error)), place="unit", file=name)
            continue
        _note_faults(state, contents)
        try:
            for sample in contents.samples:
                yield _sample(name, sample, descriptor)
        finally:
            os.close(descriptor)


def _note_faults(state: Audit, contents: Contents) -> None:
    """Note what is wrong with a tar, with the offset where it is."""
    # Keys that come again are told with those of other tars.
    samples = contents.samples
    twice, half = set(members.parts_twice(samples)), set(members.halves(samples))
    again = set(members.keys_again(samples))
    for fault in contents.faults:
        if fault in again:
            continue
        if fault in twice:
            rule = "id.duplicate"
        elif fault in half:
            rule = "sample.incomplete"
        else:
            rule = "sample.left_out" if fault in contents.left_out else "shard.damaged"
        state.add(
            rule,
            Hit(f"{contents.name}: offset {fault.offset}: {fault.says}"),
            place="unit",
            file=contents.name,
            record=f"offset {fault.offset}",
        )


def _sample(tar: str, sample: list[Part], descriptor: int) -> Loose | Rejected:
    """Return a sample of a tar; one whose members cannot be read as what they are called is rejected."""
    key, place = sample[0].key, f"offset {sample[0].header}"
    cells: dict[str, Any] = {}
    pictures: list[Picture] = []
    labels: tuple[str, ...] = ()
    for part in sample:
        name = f"{key}.{part.extension}"
        kind = part.extension.lower().rpartition(".")[2]
        if kind not in EXTENSIONS and kind not in TEXTS and kind != "json":
            continue
        if part.size > MAX_BYTES:
            return reject(tar, place, "image.too_large", f"{name}: {part.size} bytes", key)
        data = os.pread(descriptor, part.size, part.start)
        if len(data) < part.size:
            return reject(tar, place, "shard.damaged", f"{name}: {len(data)} of {part.size} bytes", key)
        if kind in EXTENSIONS:
            pictures.append(Picture(f"{tar}/{name}", data))
            continue
        try:
            found = msgspec.json.decode(data) if kind == "json" else data.decode("utf-8-sig")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return reject(tar, place, "schema", f"{name}: {error}", key)
        if kind == "cls":
            labels = (found.strip(),)
        else:
            cells |= found if isinstance(found, dict) else {_cell(kind, found): found}
    return Loose(key, tar, place, cells, tuple(pictures), labels)


def _cell(kind: str, found: Any) -> str:
    """Return what a member's content is called: a list of JSON is a conversation, if anything."""
    return "conversations" if isinstance(found, list) else kind
