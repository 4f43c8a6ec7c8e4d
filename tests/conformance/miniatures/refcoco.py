"""RefCOCO: refs beside COCO instances, by the writer of that name; a pickle where the spec asks for one."""

from __future__ import annotations

import pickle
from pathlib import Path

import msgspec

from converters.formats.refcoco import Source
from dataengine.annotation import Expression
from dataengine.spec import Resolved
from tests.conformance.making.scene import CLASSES, Made, annotation, draw, move, objects, write, written

SAID = ("the thing on the left", "the one in the middle", "what stands on the right")


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two pictures of three objects, each with an expression of its own, and a ref of another split."""
    annotations = [
        annotation(
            f"{name}.jpg",
            instances=objects(CLASSES),
            expressions=tuple(
                Expression(id=str(place), text=f"{text} of {name}", instances=(place,))
                for place, text in enumerate(SAID)
            ),
        )
        for name in ("one", "two")
    ]
    written("refcoco", annotations, CLASSES, root / "written")
    refs = msgspec.json.decode((root / "written" / "refs.json").read_bytes())
    for ref in refs:
        ref["split"] = source.split or ""
    if source.split is not None:
        refs.append({**refs[0], "ref_id": len(refs) + 1, "split": "another"})
    data = pickle.dumps(refs, protocol=2) if source.refs.endswith(".p") else msgspec.json.encode(refs)
    write(root / source.refs, data)
    move(root / "written" / "instances.json", root / source.annotations)
    for item in annotations:
        draw(root / source.images / item.images[0].path)
    words = frozenset(one.text for item in annotations for one in item.expressions)
    return Made(len(words), words)
