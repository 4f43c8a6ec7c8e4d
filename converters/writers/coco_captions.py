"""COCO captions: one JSON with images and annotations of one caption each, as the reader of that name states it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from converters.export_tables import LeftOut, Pictures
from dataengine.annotation import Annotation, LabelSpace
from dataengine.files import write_atomic
from dataengine.modules import Written

FILE = "captions.json"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `captions.json`. Captions of several pictures at once are left out."""
    pictures, left_out = Pictures(), LeftOut()
    records: list[dict[str, object]] = []
    for item in annotations:
        left_out.unplaced(item, captions=True)
        if len(item.images) != 1:
            left_out.add("caption of several pictures", len(item.captions))
            continue
        image_id = pictures.number(item.images[0])
        for caption in item.captions:
            records.append({"id": len(records) + 1, "image_id": image_id, "caption": caption.text})
    document = {"images": pictures.records(), "annotations": records}
    write_atomic(folder / FILE, msgspec.json.encode(document))
    return Written({"annotations": FILE}, left_out.counts)
