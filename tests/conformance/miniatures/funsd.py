"""FUNSD: a form with a question, its answer and a field that nobody filled in."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.funsd import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, draw, write

SAID = (("question", "Date:"), ("answer", "1999"), ("other", ""))


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write two forms."""
    form = [
        {
            "id": place, "label": label, "text": text, "box": box_of(place), "linking": [[0, 1]] if place < 2 else [],
            "words": [{"box": box_of(place), "text": text}] if text else [],
        }
        for place, (label, text) in enumerate(SAID)
    ]  # fmt: skip
    for name in ("form1", "form2"):
        write(root / source.annotations / f"{name}.json", json.dumps({"form": form}))
        draw(root / source.images / f"{name}.{source.extensions[0]}")
    return Made(
        2, frozenset({"Date:", "1999", *({"question", "answer"} if source.level == "entity" else ())})
    )
