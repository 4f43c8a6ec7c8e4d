"""DOTA: numbered text files and pictures, as the reader of that name states it.

Pictures are called `P0000.png`: one that is no PNG keeps its bytes under that name (a hard link where the file system
allows it), and readers that go by the content take it as it is. An object without corners of its own gets those of its
box. An ignored one is written as difficult.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from converters.export_tables import LeftOut, OneWord
from converters.outlines import box_corners
from dataengine.annotation import Annotation, Instance, LabelSpace
from dataengine.files import link, make_folder, write_atomic
from dataengine.geometry import quad_box, rle_from_polygons
from dataengine.modules import Written

IMAGES, LABELS = "dota/images", "dota/labelTxt"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `dota/labelTxt/*.txt`, and the pictures to `dota/images`. Masks are left out but those of the corners."""
    left_out, exhaustive = LeftOut(), Counter[bool]()
    words = OneWord(labels, left_out)
    count = 0
    make_folder(folder / LABELS)
    for item in annotations:
        exhaustive[item.exhaustive] += 1
        left_out.unplaced(item, instances=True)
        for number, image in enumerate(item.images):
            objects = [one for one in item.instances if one.image == number]
            link(folder / image.path, folder / IMAGES / f"P{count:04d}.png")
            lines = "".join(_lines(objects, words, left_out))
            write_atomic(folder / LABELS / f"P{count:04d}.txt", lines.encode())
            count += 1
    source = {
        "annotations": LABELS,
        "images": IMAGES,
        "labels": words.words(),
        **left_out.exhaustive(exhaustive),
    }
    return Written(source, left_out.counts)


def _lines(objects: Iterable[Instance], words: OneWord, left_out: LeftOut) -> Iterator[str]:
    for one in objects:
        if one.category is None or (one.box is None and one.quad is None) or one.crowd:
            left_out.add("instance without category or box, or crowd")
            continue
        left_out.details(one, "quad", "mask", "difficult")
        corners = one.quad or box_corners(one.box or ())
        mask = one.mask
        left_out.add(
            "mask", mask is not None and mask != rle_from_polygons([corners], mask.size[1], mask.size[0])
        )
        left_out.add("box that is not its corners'", one.box not in (None, quad_box(corners)))
        place = " ".join(map(repr, corners))
        yield f"{place} {words.word(one.category)} {int(one.difficult or one.ignore)}\n"
