"""WebDataset: a plain tar with `<key>.json` and `<key>.jpg` an annotation, for tools that train from such tars.

Keys are numbers, because names of pictures may hold dots and letters that a tar or WebDataset cannot take. The JSON is
the annotation with all its facts; its images' paths say where the pictures came from, in the order of the members:
the first is `<key>.<extension>`, more are `<key>.1.<extension>`, … The same facts give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import msgspec

from converters.export_tables import LeftOut
from dataengine import tar
from dataengine.annotation import Annotation, LabelSpace
from dataengine.files import atomic
from dataengine.modules import Written

FILE = "annotations.tar"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `annotations.tar`. No reader reads it; only the files of `maps` are left out."""
    left_out = LeftOut()
    with atomic(folder / FILE) as file:
        for number, item in enumerate(annotations):
            left_out.add("map", len(item.maps))
            members = {f"{number:09d}.json": msgspec.json.encode(item)}
            for place, image in enumerate(item.images):
                suffix = PurePosixPath(image.path).suffix.lower() or ".jpg"
                name = f"{number:09d}.{place}{suffix}" if place else f"{number:09d}{suffix}"
                members[name] = (folder / image.path).read_bytes()
            for name, data in sorted(members.items()):
                file.writelines((tar.header(name, len(data)), data, tar.padding(len(data))))
        file.write(tar.end())
    return Written(None, left_out.counts)
