"""LLaVA JSON: a list of conversations, as the reader of that name states it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from converters.export_tables import LeftOut
from dataengine.annotation import Annotation, LabelSpace
from dataengine.files import write_atomic
from dataengine.modules import Written
from dataengine.tokens import REGION

FILE = "conversations.json"
_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `conversations.json`. Conversations about marked regions are left out: the layout cannot mark them."""
    left_out = LeftOut()
    records: list[dict[str, Any]] = []
    for item in annotations:
        left_out.unplaced(item, dialogs=True)
        paths = [image.path for image in item.images]
        for dialog in item.dialogs:
            if any(REGION in turn.text for turn in dialog.turns):
                left_out.add("dialog about regions")
                continue
            record: dict[str, Any] = {"id": f"{item.key}.{dialog.id}"}
            if paths:
                record["image"] = paths[0] if len(paths) == 1 else paths
            record["conversations"] = [
                {"from": _SPEAKERS[turn.role], "value": turn.text} for turn in dialog.turns
            ]
            records.append(record)
    write_atomic(folder / FILE, msgspec.json.encode(records))
    return Written({"annotations": FILE}, left_out.counts)
