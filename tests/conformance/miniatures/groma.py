"""Groma Instruct: conversations whose answers ground their phrases in boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converters.formats.groma import Source
from dataengine.geometry import to_xywh
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, write

ANSWER = "<p>A dog</p> <roi><ground_box></roi> runs after <p>a ball</p> <roi><ground_box></roi>."


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with a conversation each."""
    rows: list[dict[str, Any]] = []
    for number in (1, 2):
        draw(root / source.images / f"{number}.jpg")
        asked = {"from": "human", "value": "What happens here?", "box_inds": []}
        said = {"from": "gpt", "value": ANSWER, "box_inds": [0, 1]}
        rows.append({
            "id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT,
            "boxes": [to_xywh(box_of(0)), to_xywh(box_of(1))], "conversation": [asked, said],
        })  # fmt: skip
    write(root / source.annotations, json.dumps(rows))
    return Made(2, frozenset({"<p>A dog</p><region1> runs after <p>a ball</p><region2>."}))
