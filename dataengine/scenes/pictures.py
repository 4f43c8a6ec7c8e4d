"""Where the pictures lie, and how they get there."""

from __future__ import annotations

import os
from pathlib import Path

from dataengine.scenes.drawing import draw, encode_png
from dataengine.scenes.edits import Change, change
from dataengine.scenes.layout import GENERATION, View, chance, compose
from dataengine.scenes.wording import see


def picture_path(
    folder: str, seed: int, index: int, side: int, max_objects: int, *, edited: bool = False
) -> str:
    """Return a picture's path relative to the root.

    All that decides the pixels stands in it, so whatever file lies there is the right one.
    """
    settings = f"g{GENERATION}_seed{seed}_{side}px_{max_objects}"
    suffix = "_edited" if edited else ""
    return f"{folder}/{settings}/{index // 1000:04d}/{index:07d}{suffix}.png"


def edit_of(view: View, seed: int, index: int) -> Change | None:
    """Return the change that belongs to a scene."""
    return change(view, see(view), chance(seed, index, "edit"))


def write(
    root: Path,
    *,
    seed: int,
    count: int,
    side: int,
    max_objects: int,
    start: int = 0,
    folder: str = "scenes",
    edits: bool = False,
) -> int:
    """Write the pictures of the scenes `start` to `start + count` that are missing; return how many were written.

    `edits` asks for the changed pictures, too. Several processes may write at once: each file appears whole, by
    rename, and is the same whoever writes it.
    """
    written = 0
    for index in range(start, start + count):
        path = root / picture_path(folder, seed, index, side, max_objects)
        edited_path = root / picture_path(folder, seed, index, side, max_objects, edited=True)
        missing, edit_missing = not _is_there(path), edits and not _is_there(edited_path)
        if not missing and not edit_missing:
            continue
        view = compose(seed, index, side, max_objects)
        if missing:
            _put(path, encode_png(draw(view)))
            written += 1
        edit = edit_of(view, seed, index) if edit_missing else None
        if edit is not None:
            _put(edited_path, encode_png(draw(edit.view)))
            written += 1
    return written


def _is_there(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _put(path: Path, data: bytes) -> None:
    # No fsync, unlike files.write_atomic: it would take longer than the drawing, and a lost picture is drawn again.
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
