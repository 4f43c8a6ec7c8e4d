"""The in-context set of VisionLLM v2: rows of pictures, masks and a conversation about both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from converters.formats.mmic_jsonl import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, png, write

TEXT = (("<image>\nThis is a wall. <image>\nWhat is this?", "It is a lawn."),)
SHOWN = (("<image> <mask> shows a dog. Find the same in <image>.", "Here it is: <mask>."),)


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two rows: of whole pictures, or of pictures with masks, as the name of the file says."""
    masked = "mask" in source.annotations
    (asked, answer), *_ = SHOWN if masked else TEXT
    rows = []
    for number in (1, 2):
        names = [f"{number}_{place}.jpg" for place in range(2)]
        masks = [f"{number}_{place}.png" for place in range(2)]
        for place, name in enumerate(names):
            draw(root / source.images / name)
            pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
            x0, y0, x1, y1 = map(int, box_of(place))
            pixels[y0:y1, x0:x1] = 255
            png(root / source.masks / masks[place], pixels)
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]
        rows.append({"image": names, **({"mask": masks} if masked else {}), "conversations": turns})
    write(root / source.annotations, "".join(f"{json.dumps(row)}\n" for row in rows))
    return Made(2, frozenset({answer.replace("<mask>", "<region>")}))
