"""Pictures as files: each is decoded whole, once, however many subjects show it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dataengine.audit.rule import Hit
from dataengine.audit.state import Audit, Progress
from dataengine.audit.table import PICTURE_RULES
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import decode, probe
from dataengine.runners import run

Pictures = dict[tuple[str, str], list[tuple[str, Hit]]]


def check_picture(data: bytes, path: str) -> list[tuple[str, Hit]]:
    """Decode a picture whole and return what is wrong with it."""
    try:
        header = probe(data)
        found = [(rule_id, hit) for rule_id, check in PICTURE_RULES for hit in check(path, header)]
        decode(data)
    except Quarantine as error:
        return [(error.reason, Hit(f"{path}: {error.detail}"))]
    return found


def _check_file(root_dir: str, path: str) -> tuple[str, list[tuple[str, Hit]]]:
    try:
        return path, check_picture(Root(Path(root_dir)).inside(path).read_bytes(), path)
    except Quarantine as error:
        return path, [(error.reason, Hit(f"{path}: {error.detail}"))]
    except OSError as error:
        return path, [("image.missing", Hit(f"{path}: {error.strerror}"))]


def check_pictures(
    state: Audit, root: str, paths: list[str], workers: int, progress: Progress, known: Pictures
) -> None:
    """Look at pictures of a root; those that were looked at before are in `known`."""
    unseen = [path for path in paths if (root, path) not in known]
    for path, found in run(partial(_check_file, root), unseen, runner="local", workers=workers):
        known[root, path] = found
        progress(1, "")
    for path in paths:
        state.picture(path, known[root, path])
