"""AS-V2: conversations whose objects and predicates carry their boxes."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.all_seeing import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, draw, write

DOG, BALL = "[[100, 300, 300, 600]]", "[[500, 300, 700, 600]]"
ANSWER = (
    f"<ref>A dog</ref><box>{DOG}</box> <pred>chases</pred><box>{DOG}</box><box>{BALL}</box> "
    f"<ref>a ball</ref><box>{BALL}</box>."
)


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with a conversation each."""
    rows = []
    for number in (1, 2):
        draw(root / source.images / f"{number}.jpg")
        turns = [{"from": "human", "value": "<image>\nWhat happens here?"}, {"from": "gpt", "value": ANSWER}]
        rows.append({"id": number, "image": f"{number}.jpg", "conversations": turns})
    write(root / source.annotations, json.dumps(rows))
    return Made(2, frozenset({"chases"}), placed=False)
