"""InstructPix2Pix, by the writer of that name; the list of pairs where the spec names one."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.ip2p_folders import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write

EDITS = ("make it snow", "turn the wall blue")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two prompts with a pair of pictures each."""
    seeds = []
    for number, edit in enumerate(EDITS, start=1):
        folder, seed = f"{number:07d}", f"{number}7380018"
        seeds.append([folder, [seed]])
        place = root / source.folder / folder
        write(
            place / "prompt.json", json.dumps({"input": "a wall", "edit": edit, "output": "a wall, changed"})
        )
        for side in (0, 1):
            draw(place / f"{seed}_{side}.{source.extension}", shade=100 + side)
    if source.seeds is not None:
        write(root / source.seeds, json.dumps(seeds))
    return Made(len(EDITS), frozenset(EDITS))
