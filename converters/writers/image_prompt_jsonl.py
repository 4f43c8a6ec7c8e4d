"""Pictures to generate: JSON Lines of a picture's path and its prompt, as the reader of that name states it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from converters.export_tables import LeftOut
from dataengine.annotation import Annotation, LabelSpace
from dataengine.files import atomic
from dataengine.modules import Written

FILE = "prompts.jsonl"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `prompts.jsonl`, a line for each caption of one picture; every picture becomes one to make."""
    left_out = LeftOut()
    with atomic(folder / FILE) as file:
        for item in annotations:
            left_out.unplaced(item, captions=True)
            for caption in item.captions:
                if len(item.images) != 1 or not caption.text.strip():
                    left_out.add("caption without text or of several pictures")
                    continue
                image = item.images[0]
                left_out.add("picture to look at, not to make", image.role != "target")
                left_out.add("language of a caption", caption.lang is not None)
                file.write(msgspec.json.encode({"img_path": image.path, "prompt": caption.text}) + b"\n")
    return Written({"annotations": FILE}, left_out.counts)
