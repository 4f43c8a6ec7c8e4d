"""KITTI object: numbered text files and pictures, as the reader of that name states it.

The kit's names are `000000.txt` and `000000.png`: a picture that is no PNG keeps its bytes under that name (a hard link
where the file system allows it), and readers that go by the content take it as it is. What nobody said of an object is
written as the kit does for `DontCare`: -1, -10 and -1000. `DontCare` is of no category, and stands for ignored objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from converters.export_tables import LeftOut, OneWord
from dataengine.annotation import Annotation, Box, Instance, LabelSpace
from dataengine.files import link, make_folder, write_atomic
from dataengine.modules import Written

IMAGES, LABELS = "training/image_2", "training/label_2"
IGNORED = "DontCare"
# Size, place and angle of a 3D box that nobody stated.
_NO_PLACE = "-1 -1 -1 -1000 -1000 -1000 -10"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `training/label_2/*.txt`, and the pictures to `training/image_2`. Objects without a box are left out."""
    left_out = LeftOut()
    words = OneWord(labels, left_out, taken=IGNORED)
    count = 0
    make_folder(folder / LABELS)
    for item in annotations:
        left_out.unplaced(item, instances=True)
        left_out.add("exhaustive", not item.exhaustive)
        for number, image in enumerate(item.images):
            objects = [one for one in item.instances if one.image == number]
            link(folder / image.path, folder / IMAGES / f"{count:06d}.png")
            lines = "".join(_lines(objects, words, labels, left_out))
            write_atomic(folder / LABELS / f"{count:06d}.txt", lines.encode())
            count += 1
    source = {"annotations": LABELS, "images": IMAGES, "categories": words.words()}
    return Written(source, left_out.counts)


def _lines(
    objects: Iterable[Instance], words: OneWord, labels: LabelSpace, left_out: LeftOut
) -> Iterable[str]:
    """Yield a line an object, and one for all ignored ones of a box."""
    regions: dict[Box, list[str]] = {}
    for one in objects:
        if one.box is None or (one.category is None and not one.ignore) or one.crowd:
            left_out.add("instance without category or box, or crowd")
            continue
        left_out.details(one, "attributes", "ignore")
        stated = dict(one.attributes)
        if one.ignore:
            regions.setdefault(one.box, []).extend([one.category] if one.category else [])
        elif one.category is not None:
            # A column takes one word.
            truncated, occluded = (
                "_".join(stated.pop(key, "").split()) or "-1" for key in ("truncated", "occluded")
            )
            x0, y0, x1, y1 = one.box
            yield f"{words.word(one.category)} {truncated} {occluded} -10 {x0!r} {y0!r} {x1!r} {y1!r} {_NO_PLACE}\n"
        left_out.add("attributes", len(stated) > 0)
    for (x0, y0, x1, y1), names in regions.items():
        left_out.add("category of an ignored instance", 0 if set(names) == set(labels.names) else len(names))
        yield f"{IGNORED} -1 -1 -10 {x0!r} {y0!r} {x1!r} {y1!r} {_NO_PLACE}\n"
