"""Pictures as files: each is decoded whole, once, however many subjects show it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import xxhash

from dataengine.audit.paths import otherwise_named
from dataengine.audit.rule import Hit
from dataengine.audit.state import Audit, Progress
from dataengine.audit.table import PICTURE_RULES
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.images import decode, probe
from dataengine.runners import run


class Looked(NamedTuple):
    """What is wrong with a picture, and the xxh3-64 of its bytes, None where they could not be read."""

    found: list[tuple[str, Hit]]
    digest: int | None


Pictures = dict[tuple[str, str], Looked]


def check_picture(data: bytes, path: str) -> list[tuple[str, Hit]]:
    """Decode a picture whole and return what is wrong with it."""
    try:
        header = probe(data)
        found = [(rule_id, hit) for rule_id, check in PICTURE_RULES for hit in check(path, header)]
        decode(data)
    except Quarantine as error:
        return [(error.reason, Hit(f"{path}: {error.detail}"))]
    return found


def _check_file(root_dir: str, path: str) -> tuple[str, Looked]:
    root = Root(Path(root_dir))
    try:
        data = root.inside(path).read_bytes()
    except Quarantine as error:
        return path, Looked([(error.reason, Hit(f"{path}: {error.detail}"))], None)
    except OSError as error:
        missing = ("image.missing", Hit(f"{path}: {error.strerror}"))
        other = otherwise_named(root, path)
        return path, Looked([missing, other] if other is not None else [missing], None)
    return path, Looked(check_picture(data, path), xxhash.xxh3_64_intdigest(data))


def check_pictures(
    state: Audit, root: str, paths: list[str], workers: int, progress: Progress, known: Pictures
) -> None:
    """Look at pictures of a root; those that were looked at before are in `known`."""
    unseen = [path for path in paths if (root, path) not in known]
    for path, looked in run(partial(_check_file, root), unseen, runner="local", workers=workers):
        known[root, path] = looked
        progress(1, "")
    for path in paths:
        state.picture(path, known[root, path].found)
