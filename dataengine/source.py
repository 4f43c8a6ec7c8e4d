"""A split's source, opened: its root, its label space and its items, with everything that a spec says about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from dataengine.annotation import Annotation, LabelSpace, Origin, Rejected
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.modules import Reader, load_function, load_reader, source_labels
from dataengine.spec import Resolved

MAX_DETAIL = 1000  # characters

Adapter = Callable[[Annotation], Annotation]


def reader_name(spec: Resolved) -> str:
    """Return the reader and its version, as origins and fingerprints name it."""
    reader = load_reader(spec.dataset.source.format, spec.path)
    return f"{spec.dataset.source.format} {reader.VERSION}"


def open_root(spec: Resolved, split: str, directory: Path) -> Root:
    """Return the root of a split; a reader that makes its own pictures does so first. Raises SourceError."""
    reader = load_reader(spec.dataset.source.format, spec.path)
    prepare = getattr(reader, "prepare", None)
    if prepare is not None:
        prepare(spec.source(split), directory)
    return Root(directory)


def labels_of(spec: Resolved, split: str, root: Root) -> LabelSpace | None:
    """Return the label space that the spec names, or the source's own, or None."""
    reader = load_reader(spec.dataset.source.format, spec.path)
    return spec.labels or source_labels(reader, spec.source(split), root)


def items_of(
    spec: Resolved, split: str, root: Root, limit: int | None = None
) -> Iterator[Annotation | Rejected]:
    """Yield a split's items, at most `limit`, each passed through the spec's `adapt` where it names one.

    Classes that the label space of the spec knows by a code get their names. Raises SpecError or SourceError. An
    adapter's Quarantine rejects its item alone.
    """
    reader = load_reader(spec.dataset.source.format, spec.path)
    items: Iterator[Annotation | Rejected] = islice(everything(reader, spec.source(split), root), limit)
    if spec.dataset.adapt is not None:
        adapt: Adapter = load_function(spec.dataset.adapt, f"{spec.path}: adapt")
        items = (_adapted(adapt, item) if isinstance(item, Annotation) else item for item in items)
    codes = spec.labels.codes if spec.labels is not None else {}
    if codes:
        items = (_spelled(item, codes) if isinstance(item, Annotation) else item for item in items)
    return items


def everything(reader: Reader, source: Any, root: Root) -> Iterator[Annotation | Rejected]:
    """Yield all that a reader makes of a source, and then a rejection of each listed file that cannot be read."""
    yield from map(named, reader.read(source, root))
    yield from map(named, _left_out(root))


def _left_out(root: Root) -> Iterator[Rejected]:
    for name, (reason, detail) in sorted(root.left_out.items()):
        yield Rejected(key=name, reason=reason, detail=detail, origin=Origin(file=name, record="file"))


def _spelled(item: Annotation, codes: dict[str, str]) -> Annotation:
    """Return an annotation with its classes by name where it calls them by a code."""
    return msgspec.structs.replace(
        item,
        instances=tuple(
            msgspec.structs.replace(one, category=codes[one.category]) if one.category in codes else one
            for one in item.instances
        ),
        labels=tuple(dict.fromkeys(codes.get(name, name) for name in item.labels)),
        negatives=tuple(dict.fromkeys(codes.get(name, name) for name in item.negatives)),
    )


def named(item: Annotation | Rejected) -> Annotation | Rejected:
    """Return an item, rejected where a file of it has a name that is no UTF-8: nothing that is written can hold one.

    What is said of a rejected one is cut where a source's own text makes it longer than anybody reads.
    """
    if isinstance(item, Rejected) and len(item.detail) > MAX_DETAIL:
        item = msgspec.structs.replace(item, detail=f"{item.detail[:MAX_DETAIL]} …")
    images = item.images if isinstance(item, Annotation) else ()
    names = (item.key, item.origin.file, item.origin.record, *(image.path for image in images))
    if all(map(str.isascii, names)):
        return item
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        key, file, record = (name.encode(errors="backslashreplace").decode() for name in names[:3])
        wrong = next(name for name in names if not _is_utf8(name))
        detail = f"{wrong.encode(errors='backslashreplace').decode()!r}: the file's name is not UTF-8"
        return Rejected(
            key=key, reason="path.invalid", detail=detail, origin=Origin(file=file, record=record)
        )
    return item


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _adapted(adapt: Adapter, item: Annotation) -> Annotation | Rejected:
    try:
        return adapt(item)
    except Quarantine as error:
        return Rejected(key=item.key, reason=error.reason, detail=error.detail, origin=item.origin)
