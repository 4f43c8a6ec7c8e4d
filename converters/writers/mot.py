"""MOTChallenge: a folder a video with `gt/gt.txt`, `img1/` and `seqinfo.ini`, as the reader of that name states it.

Neighbouring pictures of one folder and size are the frames of a video. They are called `000001.jpg`: one that is no
JPEG keeps its bytes under that name (a hard link where the file system allows it). A track that nobody stated is -1, as
in the challenge's detections. A frame without an object has no row, and readers skip it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from converters.export_tables import Categories, LeftOut
from dataengine.annotation import Annotation, Image, Instance, LabelSpace
from dataengine.files import atomic, link, write_atomic
from dataengine.geometry import to_xywh
from dataengine.modules import Written

FOLDER = "train"
Frame = tuple[Image, list[Instance]]


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `train/*/gt/gt.txt`, and the pictures to `train/*/img1`. Objects without a category or box are left out."""
    categories, left_out = Categories(labels), LeftOut()
    for count, (size, frames) in enumerate(groupby(_frames(annotations, left_out), _video)):
        video = folder / FOLDER / f"video-{count + 1:06d}"
        with atomic(video / "gt" / "gt.txt") as file:
            number = 0
            for number, (image, objects) in enumerate(frames, 1):
                link(folder / image.path, video / "img1" / f"{number:06d}.jpg")
                lines = list(_lines(number, objects, categories, left_out))
                left_out.add("picture without objects", not lines)
                file.write("".join(lines).encode())
        write_atomic(video / "seqinfo.ini", _info(video.name, number, size[1:]).encode())
    source = {
        "annotations": f"{FOLDER}/*/gt/gt.txt",
        "classes": {str(number): name for number, name in enumerate(categories.names(), 1)},
    }
    return Written(source, left_out.counts)


def _frames(annotations: Iterable[Annotation], left_out: LeftOut) -> Iterator[Frame]:
    for item in annotations:
        left_out.unplaced(item, instances=True)
        left_out.add("exhaustive", not item.exhaustive)
        for number, image in enumerate(item.images):
            yield image, [one for one in item.instances if one.image == number]


def _video(frame: Frame) -> tuple[str, int | None, int | None]:
    image, _ = frame
    return str(PurePosixPath(image.path).parent), image.width, image.height


def _lines(
    number: int, objects: Iterable[Instance], categories: Categories, left_out: LeftOut
) -> Iterator[str]:
    for one in objects:
        if one.box is None or one.category is None or one.crowd:
            left_out.add("instance without category or box, or crowd")
            continue
        left_out.details(one, "attributes", "ignore")
        stated = dict(one.attributes)
        # A column ends with a comma.
        track = stated.pop("track", "-1").replace(",", ";")
        left_out.add("attributes", len(stated) > 0)
        x, y, width, height = to_xywh(one.box)
        flag, kind = int(not one.ignore), categories.number(one.category)
        yield f"{number},{track},{x + 1!r},{y + 1!r},{width!r},{height!r},{flag},{kind},1\n"


def _info(name: str, length: int, size: tuple[int | None, int | None]) -> str:
    stated = {
        "name": name,
        "imDir": "img1",
        "seqLength": length,
        "imWidth": size[0],
        "imHeight": size[1],
        "imExt": ".jpg",
    }
    return "[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in stated.items() if value is not None)
