"""RefCOCO: a list of referred objects with their expressions, beside COCO instances, as the reader states it.

The list is JSON. `ann_id` is a number where one object is meant, else a list; [-1] says that nothing in the picture is,
as gRefCOCO writes it. An object that has no category has `category_id: null`. `split` is empty: a list is one split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from converters.export_tables import Categories, LeftOut, Pictures
from converters.writers.coco_instances import place_of
from dataengine.annotation import Annotation, Expression, LabelSpace
from dataengine.files import write_atomic
from dataengine.modules import Written

REFS, INSTANCES = "refs.json", "instances.json"
_WORD = re.compile(r"\w+")


def write(annotations: Iterable[Annotation], labels: LabelSpace, folder: Path) -> Written:
    """Write `refs.json` and `instances.json`. Objects that no expression names, or without a place, are left out."""
    pictures, categories, left_out = Pictures(), Categories(labels), LeftOut()
    records: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    sentences = 0
    for item in annotations:
        left_out.unplaced(item, instances=True, expressions=True)
        left_out.add("exhaustive", item.exhaustive and any(one.category for one in item.instances))
        groups = _groups(item, left_out)
        named = {position for positions in groups for position in positions}
        left_out.add("instance that no expression names", len(item.instances) - len(named))
        if not groups:
            continue
        image = item.images[0]
        image_id = pictures.number(image)
        numbers: dict[int, int] = {}
        for position in sorted(named):
            one = item.instances[position]
            left_out.details(one, "mask", "crowd", "ignore")
            numbers[position] = len(records) + 1
            records.append(
                {
                    "id": numbers[position],
                    "image_id": image_id,
                    "category_id": categories.number(one.category) if one.category is not None else None,
                    **place_of(one),
                }
            )
        for positions, expressions in groups.items():
            ids = [numbers[position] for position in positions]
            said = [_sentence(text, number) for number, text in enumerate(expressions, sentences)]
            sentences += len(said)
            refs.append(
                {
                    "ref_id": len(refs) + 1,
                    "image_id": image_id,
                    "file_name": image.path,
                    "ann_id": ids[0] if len(ids) == 1 else ids or [-1],
                    "category_id": records[ids[0] - 1]["category_id"] if ids else None,
                    "split": "",
                    "sent_ids": [sentence["sent_id"] for sentence in said],
                    "sentences": said,
                }
            )
    write_atomic(folder / REFS, msgspec.json.encode(refs))
    document = {"images": pictures.records(), "annotations": records, "categories": categories.records()}
    write_atomic(folder / INSTANCES, msgspec.json.encode(document))
    return Written({"refs": REFS, "annotations": INSTANCES}, left_out.counts)


def _groups(item: Annotation, left_out: LeftOut) -> dict[tuple[int, ...], list[str]]:
    """Return the texts of the expressions by the objects that they name, those that can be written."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for expression in item.expressions:
        if reason := _unfit(item, expression):
            left_out.add(f"expression {reason}")
            continue
        left_out.add("spans of an expression", bool(expression.spans))
        left_out.add("answer of an expression", expression.answer is not None)
        groups.setdefault(expression.instances, []).append(expression.text)
    return groups


def _unfit(item: Annotation, expression: Expression) -> str:
    if len(item.images) != 1:
        return "of several pictures"
    if not expression.text.strip():
        return "without text"
    named = (item.instances[position] for position in expression.instances)
    return "of an object without a place" if any(not (one.box or one.mask) for one in named) else ""


def _sentence(text: str, number: int) -> dict[str, Any]:
    return {"sent_id": number, "sent": text, "raw": text, "tokens": _WORD.findall(text.lower())}
