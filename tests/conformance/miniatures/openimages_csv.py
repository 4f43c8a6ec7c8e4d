"""Open Images: a table of boxes or of masks, the classes, what people confirmed or denied, and the hierarchy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from converters.formats.openimages_csv import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import HEIGHT, WIDTH, Made, box_of, draw, png, write

NAMES = {"/m/01": "Dog", "/m/02": "Ball", "/m/03": "Tree"}


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures with a dog and a ball and without a tree."""
    boxes = [
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    ]
    if source.masks is not None:
        boxes = ["MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"]
    labels = ["ImageID,Source,LabelName,Confidence"]
    for name in ("0a1", "0b2"):
        draw(root / source.images / f"{name}.{source.extension}")
        for place, code in enumerate(list(NAMES)[:2]):
            x0, y0, x1, y1 = box_of(place)
            shares = f"{x0 / WIDTH},{x1 / WIDTH},{y0 / HEIGHT},{y1 / HEIGHT}"
            if source.masks is None:
                boxes.append(f"{name},xclick,{code},1,{shares},0,0,0,0,0")
                continue
            file = f"{name}_{place}.png"
            boxes.append(f"{file},{name},{code},{place},{shares},0.9,")
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            mask[int(y0) : int(y1), int(x0) : int(x1)] = 255
            png(root / source.masks / file, mask)
        labels += [f"{name},verification,/m/01,1", f"{name},verification,/m/03,0"]
    write(root / source.annotations, "".join(f"{line}\n" for line in boxes))
    write(root / source.classes, "".join(f"{code},{name}\n" for code, name in NAMES.items()))
    if source.image_labels is not None:
        write(root / source.image_labels, "".join(f"{line}\n" for line in labels))
    if source.hierarchy is not None:
        kinds = [{"LabelName": code} for code in NAMES]
        write(root / source.hierarchy, json.dumps({"LabelName": "/m/00", "Subcategory": kinds}))
    return Made(2, frozenset({"Dog", "Ball"}))
