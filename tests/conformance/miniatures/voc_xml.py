"""Pascal VOC's XML, by the writer of that name; where the spec counts pixels from 0, the corners are moved."""

from __future__ import annotations

import re
from pathlib import Path

from converters.formats.voc_xml import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, classes_of, draw, drawn, words_of, write, written


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write three pictures with objects and one without."""
    categories = classes_of(spec, source.labels)
    annotations = drawn(spec, categories, source.extension)
    written("voc_xml", annotations, categories, root / "written")
    for item in annotations:
        name = item.images[0].path
        xml = (root / "written" / "Annotations" / name).with_suffix(".xml")
        text = xml.read_text()
        if source.origin == 0:
            text = re.sub(r"(?<=min>)[0-9.]+", lambda found: repr(float(found[0]) - 1), text)
        write(root / source.annotations / xml.name, text)
        draw(root / source.images / name)
    if source.image_set is not None:
        write(root / source.image_set, "".join(f"{Path(one.key).stem}\n" for one in annotations))
    return Made(len(annotations), words_of(spec, categories))
