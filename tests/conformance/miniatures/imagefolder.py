"""Pictures in folders of classes, or with the class in their names; a list where the spec names one."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.imagefolder import Source
from dataengine.spec import Resolved
from tests.conformance.making.patterns import matching
from tests.conformance.making.scene import CLASSES, Made, draw, named, write

EACH = 2


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures of each of up to three classes."""
    spelled = _spelled(spec, source)
    listed: list[str] = []
    for text in list(spelled)[:3]:
        for number in range(1, EACH + 1):
            path = _path(source, text, number, len(listed))
            draw(root / source.images / path)
            listed.append(path if source.match == "path" else Path(path).name)
    if source.image_set is not None:
        write(root / source.image_set, "".join(f"{path}\n" for path in listed))
    if source.names is not None:
        _write_names(root / source.names, spelled, source)
    words = [named(spec, name) for name in list(spelled.values())[:3]]
    return Made(len(listed), frozenset(words))


def _spelled(spec: Resolved, source: Source) -> dict[str, str]:
    """Return the classes by what folders or names call them."""
    if source.rename:
        return dict(source.rename)
    names = source.labels or CLASSES
    if spec.labels is not None:
        names = tuple(label.codes[0] if label.codes else label.name for label in spec.labels.labels)
    if source.names is not None:
        return {f"n{number:08d}": name for number, name in enumerate(names, start=1)}
    return {name if source.depth == 1 else f"{name}/inside": name if source.depth == 1 else f"{name}/inside"
            for name in names}  # fmt: skip


def _path(source: Source, text: str, number: int, total: int) -> str:
    """Return a picture's path below `images`, from which the reader takes a class's text."""
    folders = "/".join(f"level{level}" for level in range(source.skip))
    if source.class_in == "name":
        found = _stem(source.pattern or "(.+)", text, total)
        return "/".join(filter(None, (folders, f"{found}.jpg")))
    folder = _stem(source.pattern, text, 0) if source.pattern else text
    return "/".join(filter(None, (folders, folder, f"{total}_{number}.jpg")))


def _stem(pattern: str, text: str, unlike: int) -> str:
    found = matching(pattern, text, unlike)
    assert found is not None, (pattern, text)
    if unlike and not pattern.endswith("$"):
        found += f"_{unlike}"
    return found


def _write_names(path: Path, spelled: dict[str, str], source: Source) -> None:
    said = {key: f"{name}{source.cut} another word" if source.cut else name for key, name in spelled.items()}
    if path.suffix == ".json":
        write(path, json.dumps(said))
    else:
        write(path, "".join(f"{key} {name}\n" for key, name in said.items()))
