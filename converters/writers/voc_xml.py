"""Pascal VOC: one XML a picture and a list file, as the reader of that name states it.

Corners count pixels from 1 and both belong to the box, so xmin and ymin are one more than the box with origin 0 says.
Fractions are kept: tools that read whole numbers cut them off.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from converters.export_tables import Categories, LeftOut
from dataengine.annotation import Annotation, Image, Instance, LabelSpace
from dataengine.files import write_atomic
from dataengine.modules import Written

FOLDER, LIST = "Annotations", "split.txt"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `Annotations/*.xml` and `split.txt`. Objects without a category or box, and masks, are left out."""
    categories, left_out = Categories(labels), LeftOut()
    stems: dict[str, None] = {}
    for item in annotations:
        left_out.unplaced(item, instances=True)
        for number, image in enumerate(item.images):
            objects = [instance for instance in item.instances if instance.image == number]
            kept = [
                one for one in objects if one.category is not None and one.box is not None and not one.crowd
            ]
            left_out.add("instance without category or box, or crowd", len(objects) - len(kept))
            left_out.add("mask", sum(one.mask is not None for one in kept))
            for one in kept:
                categories.number(str(one.category))
            stem = str(PurePosixPath(image.path).with_suffix(""))
            if stem in stems:
                left_out.add("picture that came before", 1)
                continue
            stems[stem] = None
            write_atomic(folder / FOLDER / f"{stem}.xml", _document(image, kept))
    write_atomic(folder / LIST, "".join(f"{stem}\n" for stem in stems).encode())
    source = {
        "annotations": FOLDER, "images": "", "image_set": LIST, "media": "filename", "labels": categories.names(),
    }  # fmt: skip
    return Written(source, left_out.counts)


def _document(image: Image, objects: Iterable[Instance]) -> bytes:
    root = Element("annotation")
    SubElement(root, "filename").text = image.path
    size = SubElement(root, "size")
    for key, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        SubElement(size, key).text = str(value or 0)
    for one in objects:
        assert one.box is not None
        item = SubElement(root, "object")
        SubElement(item, "name").text = one.category
        SubElement(item, "difficult").text = str(int(one.difficult or one.ignore))
        box = SubElement(item, "bndbox")
        x0, y0, x1, y1 = one.box
        for key, number in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            SubElement(box, key).text = repr(number)
    indent(root)
    document: bytes = tostring(root, encoding="utf-8")
    return document
