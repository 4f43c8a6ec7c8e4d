"""COCO captions, by the writer of that name."""

from __future__ import annotations

from pathlib import Path

from converters.formats.coco_captions import Source
from dataengine.annotation import Caption
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, annotation, draw, move, written

SAID = ("a dog on a lawn", "a wall", "two boats")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with a caption each."""
    annotations = [
        annotation(f"{number}.jpg", captions=(Caption(id="0", text=text),))
        for number, text in enumerate(SAID, start=1)
    ]
    keys = written("coco_captions", annotations, (), root / "written")
    move(root / "written" / keys["annotations"], root / source.annotations)
    for item in annotations:
        draw(root / source.images / item.images[0].path)
    return Made(len(annotations), frozenset(SAID))
