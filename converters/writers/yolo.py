"""YOLO: `data.yaml`, a list of pictures, and a text file a picture, as the reader of that name states it.

Objects are polygons if every one of the split has a mask that one polygon can draw, and else boxes: tools misread files
that mix the two. Tools look for `labels` in place of the last `images` of a picture's path, so that a folder of that
name further inside is called `pictures`.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import yaml

from converters.export_tables import Categories, LeftOut
from converters.mask_outlines import outline
from dataengine.annotation import Annotation, Image, Instance, LabelSpace
from dataengine.files import atomic, link, make_folder, write_atomic
from dataengine.geometry import rle_box
from dataengine.modules import Written

IMAGES, LABELS, NAMES, LIST = "images", "labels", "data.yaml", "split.txt"
_POLYGONS = "labels.polygons"


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `data.yaml`, `split.txt` and `labels/`. Ignored objects and crowds are left out."""
    categories, left_out = Categories(labels), LeftOut()
    exhaustive, masks, stems = Counter[bool](), Counter[str](), set[str]()
    make_folder(folder / LABELS)
    with atomic(folder / LIST) as listed:
        for item in annotations:
            exhaustive[item.exhaustive] += 1
            left_out.unplaced(item, instances=True)
            for number, image in enumerate(item.images):
                objects = [one for one in item.instances if one.image == number]
                path = _path(image)
                stem = path.removeprefix(f"{IMAGES}/").removesuffix(PurePosixPath(path).suffix)
                if stem in stems or not (image.width and image.height):
                    left_out.add("picture without size, or with the label file of another")
                    left_out.add("instance", len(objects))
                    continue
                stems.add(stem)
                listed.write(f"./{path}\n".encode())
                if path != image.path:
                    link(folder / image.path, folder / path)
                kept = _kept(objects, left_out)
                numbers = [categories.number(str(one.category)) - 1 for one in kept]
                name = f"{stem}.txt"
                write_atomic(folder / LABELS / name, _text(numbers, [_box(one) for one in kept], image))
                polygons = [outline(one.mask) if one.mask else None for one in kept]
                masks["drawn"] += sum(points is not None for points in polygons)
                masks["all"] += sum(one.mask is not None for one in kept)
                masks["none"] += sum(points is None for points in polygons)
                masks["other box"] += sum(
                    one.mask is not None and one.box not in (None, rle_box(one.mask)) for one in kept
                )
                if not masks["none"]:
                    shapes = [points for points in polygons if points is not None]
                    write_atomic(folder / _POLYGONS / name, _text(numbers, shapes, image))
    kind = "segment" if masks["drawn"] and not masks["none"] else "detect"
    if kind == "segment":
        shutil.rmtree(folder / LABELS)
        (folder / _POLYGONS).rename(folder / LABELS)
        left_out.add("box that is not its mask's", masks["other box"])
    else:
        shutil.rmtree(folder / _POLYGONS, ignore_errors=True)
        left_out.add("mask", masks["all"])
    names = {"path": ".", "train": LIST, "val": LIST, "names": dict(enumerate(categories.names()))}
    write_atomic(folder / NAMES, yaml.safe_dump(names, sort_keys=False, allow_unicode=True).encode())
    source = {
        "classes": NAMES, "images": IMAGES, "annotations": LABELS, "image_set": LIST, "strip": f"./{IMAGES}/",
        "kind": kind, **left_out.exhaustive(exhaustive),
    }  # fmt: skip
    return Written(source, left_out.counts)


def _path(image: Image) -> str:
    first, *parts = PurePosixPath(image.path).parts
    return "/".join([first, *("pictures" if part == IMAGES else part for part in parts)])


def _kept(objects: Sequence[Instance], left_out: LeftOut) -> list[Instance]:
    kept = []
    for one in objects:
        if one.category is None or (one.box is None and one.mask is None):
            left_out.add("instance without category or place")
        elif one.ignore or one.crowd:
            left_out.add("instance that is ignored, or a crowd")
        else:
            left_out.details(one, "mask")
            kept.append(one)
    return kept


def _box(one: Instance) -> list[float]:
    """Return center x, center y, width, height in pixels."""
    x0, y0, x1, y1 = one.box or rle_box(one.mask)  # type: ignore[arg-type]
    return [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]


def _text(numbers: Sequence[int], shapes: Sequence[Sequence[float]], image: Image) -> bytes:
    """Return a line an object: the number of its class, then pixels, x and y in turn, as shares of the picture."""
    sides = (image.width or 1, image.height or 1)
    return "".join(
        " ".join([str(number), *(repr(value / sides[place % 2]) for place, value in enumerate(shape))]) + "\n"
        for number, shape in zip(numbers, shapes, strict=True)
    ).encode()
