"""VisDrone: numbered text files and pictures, as the reader of that name states it.

Pictures are called `0000000.jpg`: one that is no JPEG keeps its bytes under that name (a hard link where the file
system allows it), and readers that go by the content take it as it is. Truncation and occlusion that nobody stated are
-1, as in the challenge's results. Fractions of pixels are kept: tools that read whole numbers cut them off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from converters.export_tables import LeftOut
from converters.formats.visdrone import CATEGORIES
from dataengine.annotation import Annotation, Instance, LabelSpace
from dataengine.files import link, make_folder, write_atomic
from dataengine.geometry import to_xywh
from dataengine.modules import Written

IMAGES, LABELS = "visdrone/images", "visdrone/annotations"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `visdrone/annotations/*.txt`, and the pictures to `visdrone/images`.

    Objects of other categories than VisDrone's ten are left out.
    """
    left_out = LeftOut()
    count = 0
    make_folder(folder / LABELS)
    for item in annotations:
        left_out.unplaced(item, instances=True)
        left_out.add("exhaustive", not item.exhaustive)
        for number, image in enumerate(item.images):
            objects = [one for one in item.instances if one.image == number]
            link(folder / image.path, folder / IMAGES / f"{count:07d}.jpg")
            write_atomic(folder / LABELS / f"{count:07d}.txt", "".join(_lines(objects, left_out)).encode())
            count += 1
    return Written({"annotations": LABELS, "images": IMAGES}, left_out.counts)


def _lines(objects: Iterable[Instance], left_out: LeftOut) -> Iterator[str]:
    for one in objects:
        if one.box is None or one.category not in CATEGORIES or one.crowd:
            left_out.add("instance without box or one of VisDrone's categories, or crowd")
            continue
        left_out.details(one, "attributes", "ignore")
        stated = dict(one.attributes)
        # A column ends with a comma.
        flags = [stated.pop(key, "-1").replace(",", ";") for key in ("truncation", "occlusion")]
        left_out.add("attributes", len(stated) > 0)
        place = ",".join(map(repr, to_xywh(one.box)))
        yield f"{place},{int(not one.ignore)},{CATEGORIES.index(one.category) + 1},{','.join(flags)}\n"
