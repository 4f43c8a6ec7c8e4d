"""NVIDIA DALI's index files, `X.idx` beside `X.tar` (its `wds2idx` tool, version v1.2)."""

from __future__ import annotations

from pathlib import Path

from dataengine.errors import ShardError
from dataengine.files import write_atomic
from dataengine.members import Contents


def dump(folder: Path, contents: Contents) -> Path:
    """Write one tar's index: a line a sample with extension, offset, size and name of each member.

    Raises ShardError for a name with a blank, which would be two words to DALI, and for a tar without samples.
    """
    lines = [f"v1.2 {len(contents.samples)}"]
    for sample in contents.samples:
        for part in sample:
            if len(f"{part.key}.{part.extension}".split()) != 1:
                raise ShardError(
                    f"{folder / contents.name}: offset {part.header}: {part.key!r} has a blank, which DALI cannot"
                    " read; rename the member"
                )
        words = [f"{part.extension} {part.start} {part.size} {part.key}.{part.extension}" for part in sample]
        lines.append(" ".join(words))
    if not contents.samples:
        raise ShardError(f"{folder / contents.name}: has no sample, which DALI cannot read; remove the tar")
    path = (folder / contents.name).with_suffix(".idx")
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    return path
