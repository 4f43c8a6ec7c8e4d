"""WIDER FACE: one text file for all pictures, as the reader of that name states it.

Fractions of pixels are kept: tools that read whole numbers cut them off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from converters.export_tables import LeftOut
from converters.formats.wider_face import CATEGORY, MEANINGS
from dataengine.annotation import Annotation, Instance, LabelSpace
from dataengine.files import atomic
from dataengine.geometry import to_xywh
from dataengine.images import EXTENSIONS
from dataengine.modules import Written

FILE = "wider_face_bbx_gt.txt"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `wider_face_bbx_gt.txt`. Objects of another category than `face` are left out."""
    left_out, seen = LeftOut(), set[str]()
    with atomic(folder / FILE) as file:
        for item in annotations:
            left_out.unplaced(item, instances=True)
            left_out.add("exhaustive", not item.exhaustive)
            for number, image in enumerate(item.images):
                objects = [one for one in item.instances if one.image == number]
                ending = PurePosixPath(image.path).suffix.lower().removeprefix(".")
                if image.path in seen or ending not in EXTENSIONS or image.path != image.path.strip():
                    left_out.add("picture that came before, or that is not called as pictures are")
                    left_out.add("instance", len(objects))
                    continue
                seen.add(image.path)
                lines = list(_lines(objects, left_out))
                file.write(f"{image.path}\n{len(lines)}\n".encode())
                file.write("".join(lines or ["0 0 0 0 0 0 0 0 0 0\n"]).encode())
    return Written({"annotations": FILE}, left_out.counts)


def _lines(objects: Iterable[Instance], left_out: LeftOut) -> Iterator[str]:
    for one in objects:
        if one.box is None or one.category != CATEGORY or one.crowd:
            left_out.add("instance without box, that is no face, or crowd")
            continue
        left_out.details(one, "attributes", "ignore")
        flags = {7: int(one.ignore)}
        for key, (column, words) in MEANINGS.items():
            said = one.attributes.get(key, "")
            flags[column] = words.index(said) if said in words else 0
        left_out.add(
            "attributes",
            any(said not in MEANINGS.get(key, (0, ()))[1] for key, said in one.attributes.items()),
        )
        place = " ".join(map(repr, to_xywh(one.box)))
        yield f"{place} {' '.join(str(flags[column]) for column in sorted(flags))}\n"
