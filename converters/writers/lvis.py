"""LVIS: COCO instances with what is known of absent categories, as the reader `coco_instances` states it.

A category is in a picture, verified absent (`neg_category_ids`), or unknown. It is annotated in part
(`not_exhaustive_category_ids`) where one of its objects is ignored: LVIS has no flag for an object. A picture of which
everything is annotated lists all other categories as absent. How frequent a category is counts pictures: rare up to 10,
common up to 100 (LVIS, section 3.2).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from converters.export_tables import Categories, LeftOut, Pictures
from converters.writers.coco_instances import place_of
from dataengine.annotation import Annotation, Instance, LabelSpace
from dataengine.files import write_atomic
from dataengine.modules import Written

FILE = "lvis.json"
_RARE, _COMMON = 10, 100


class _Known(NamedTuple):
    """What is known of a picture's categories, by name; `whole` if all that is not named is absent."""

    present: set[str]
    absent: set[str]
    partial: set[str]
    whole: bool


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `lvis.json`. Objects without a category or a place, and regions of many, are left out."""
    pictures, categories, left_out = Pictures(), Categories(labels), LeftOut()
    records: list[dict[str, Any]] = []
    known: dict[int, _Known] = {}
    for item in annotations:
        left_out.unplaced(item, instances=True, negatives=len(item.images) == 1)
        for number, image in enumerate(item.images):
            objects = [one for one in item.instances if one.image == number]
            image_id = pictures.number(image)
            said = _known(item, objects)
            # Several annotations of a picture know more of it together.
            before = known.get(image_id, _Known(set(), set(), set(), False))
            known[image_id] = _Known(
                before.present | said.present, before.absent | said.absent, before.partial | said.partial,
                before.whole or said.whole,
            )  # fmt: skip
            for one in objects:
                if one.category is None or one.crowd or (one.box is None and one.mask is None):
                    left_out.add("instance without category or place, or crowd")
                    continue
                left_out.details(one, "mask", "ignore")
                beside = one.category in said.partial and not one.ignore
                left_out.add("instance beside an ignored one of its category", beside)
                place = place_of(msgspec.structs.replace(one, ignore=False))
                del place["iscrowd"]
                records.append(
                    {
                        "id": len(records) + 1,
                        "image_id": image_id,
                        "category_id": categories.number(one.category),
                        **place,
                    }
                )
    for name in sorted({name for one in known.values() for name in one.absent}):
        categories.number(name)
    document = {
        "images": [{**image, **_ids(known[image["id"]], categories)} for image in pictures.records()],
        "annotations": records,
        "categories": _counted(categories, records),
    }
    write_atomic(folder / FILE, msgspec.json.encode(document))
    return Written({"annotations": FILE, "exhaustive": False}, left_out.counts, "coco_instances")


def _known(item: Annotation, objects: list[Instance]) -> _Known:
    single = len(item.images) == 1
    return _Known(
        present={one.category for one in objects if one.category is not None},
        absent=set(item.negatives) if single else set(),
        partial={one.category for one in objects if one.category is not None and (one.ignore or one.crowd)},
        # An ignored object of no known category may be of any.
        whole=item.exhaustive and not any(one.category is None for one in objects),
    )


def _ids(known: _Known, categories: Categories) -> dict[str, list[int]]:
    absent = set(categories.names()) if known.whole else known.absent
    return {
        "neg_category_ids": sorted(map(categories.number, absent - known.present)),
        "not_exhaustive_category_ids": sorted(map(categories.number, known.partial)),
    }


def _counted(categories: Categories, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    objects = Counter(record["category_id"] for record in records)
    shown: dict[int, set[int]] = defaultdict(set)
    for record in records:
        shown[record["category_id"]].add(record["image_id"])
    made = []
    for number, name in enumerate(categories.names(), 1):
        count = len(shown[number])
        made.append(
            {
                "id": number,
                "name": name,
                "image_count": count,
                "instance_count": objects[number],
                "frequency": "r" if count <= _RARE else "c" if count <= _COMMON else "f",
            }
        )
    return made
