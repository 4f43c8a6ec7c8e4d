"""All that other programs want beside the tars of a folder, ours or anybody's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from dataengine.errors import ShardError
from dataengine.index import SHARDS, Index
from dataengine.members import read_tars, tars_in
from dataengine.peers import croissant, dali, energon
from dataengine.runners import RunnerName

Peer = Literal["croissant", "dali", "energon"]
Progress = Callable[[int, str], None]


def write_beside(
    folder: Path,
    peers: Sequence[Peer],
    *,
    runner: RunnerName = "local",
    workers: int = 1,
    progress: Progress = lambda count, text: None,
) -> list[str]:
    """Write the files that some programs want and return what there is to say, one line each.

    Of a finished set its shards are described, else all tars of the folder. Raises ShardError.
    """
    index = Index(folder) if (folder / SHARDS).exists() else None
    lines: list[str] = []
    if "croissant" in peers:
        if index is None:
            raise ShardError(
                f"{folder}: no {SHARDS}; Croissant describes a set of ours, whose index '--index' restores"
            )
        lines.append(f"wrote {croissant.dump(index, progress)}")
    if not {"dali", "energon"} & set(peers):
        return lines
    names = tars_in(folder) if index is None else [file.name for file in index.set.shards]
    contents = list(read_tars(folder, names, runner=runner, workers=workers))
    empty = [one.name for one in contents if not one.samples]
    lines += [f"{folder / name}: has no sample, and is left out" for name in empty]
    contents = [one for one in contents if one.samples]
    if "dali" in peers:
        lines += [f"wrote {dali.dump(folder, one)}" for one in contents]
    if "energon" in peers:
        splits = splits_of(index) if index is not None else dict.fromkeys(names, "train")
        lines += [
            f"{folder / one.name}: holds samples to train on and to evaluate with; it is in no split of Energon"
            for one in contents
            if one.name not in splits
        ]
        lines.append(f"wrote {energon.dump(folder, contents, splits)}")
    return lines


def splits_of(index: Index) -> dict[str, str]:
    """Return `train` or `val` for each tar of a set whose samples all have one use."""
    use = {source.name: source.use for source in index.set.sources}
    uses: dict[str, set[str]] = {}
    pairs = index.table.select(["shard", "source"]).group_by(["shard", "source"]).aggregate([]).to_pylist()
    for pair in pairs:
        uses.setdefault(pair["shard"], set()).add(use[pair["source"]])
    return {
        f"{shard}.tar": "train" if found == {"train"} else "val"
        for shard, found in uses.items()
        if len(found) == 1
    }
