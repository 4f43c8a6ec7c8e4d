"""ReasonSeg: questions and phrases beside pictures, with outlines of what they mean."""

from __future__ import annotations

import json
from pathlib import Path

from converters.formats.reasonseg import Source
from dataengine.spec import Resolved
from tests.conformance.making.scene import Made, box_of, corners, draw, write

SENTENCE, PHRASE = "Which animal in this picture guards the house?", "the guard"


def make(spec: Resolved, source: Source, root: Path) -> Made:
    """Write a picture with a question and one with a phrase."""
    shapes = []
    for place, label in enumerate(("target", "ignore")):
        points = corners(box_of(place))
        shapes.append({"label": label, "points": [points[at : at + 2] for at in range(0, 8, 2)]})
    for stem, text in (("1", SENTENCE), ("2", PHRASE)):
        document = {"text": [text], "is_sentence": text == SENTENCE, "shapes": shapes}
        write(root / source.annotations / f"{stem}.json", json.dumps(document))
        draw(root / source.annotations / f"{stem}.{source.extension}")
    if source.explanations is not None:
        said = {"image": f"1.{source.extension}", "query": SENTENCE, "outputs": "The dog guards the house."}
        write(root / source.explanations, json.dumps([said]))
    words = {"all": {SENTENCE, PHRASE}, "sentences": {SENTENCE}, "phrases": {PHRASE}}
    return Made(2, frozenset(words[source.texts]))
