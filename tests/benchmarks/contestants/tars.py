"""The samples of tars, for contestants that convert them into formats of their own."""

# mypy: ignore-errors
# What it imports is in an environment of its own, or beside it.
from __future__ import annotations

import tarfile
from collections.abc import Iterator


def members(tars: list[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the key of each sample and its members by extension."""
    for path in tars:
        key, sample = "", {}
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                stem, _, extension = member.name.partition(".")
                if sample and stem != key:
                    yield key, sample
                    sample = {}
                key = stem
                file = tar.extractfile(member)
                assert file is not None
                sample[extension] = file.read()
        if sample:
            yield key, sample
