"""Defects of boxes, outlines, masks, corners and keypoints."""

from __future__ import annotations

import random

from tests.dataengine.audit.planted_corpora import SIDE, Corpus, Row
from tests.dataengine.audit.planting import (
    SUBJECT,
    Planted,
    an_object,
)

Box = list[float]


def degenerate(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance)
    side = chance.randrange(2)
    one["box"][side + 2] = one["box"][side]
    return Planted(row["key"], one["id"])


def inverted(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance)
    side = chance.randrange(2)
    one["box"][side], one["box"][side + 2] = one["box"][side + 2], one["box"][side]
    return Planted(row["key"], one["id"])


def nonfinite(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance)
    one["box"][chance.randrange(4)] = chance.choice(("nan", "inf", "-inf"))
    return Planted(row["key"], one["id"])


def outside(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance)
    if chance.random() < 0.5:
        one["box"][chance.randrange(2)] = -chance.uniform(1.1, 60)
    else:
        one["box"][2 + chance.randrange(2)] = SIDE + chance.uniform(1.1, 60)
    return Planted(row["key"], one["id"])


def size_mismatch(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: one["outlines"] and not one["objects"] and len(one["images"]) == 1)
    row["images"][0][chance.choice(("width", "height"))] += chance.randrange(1, 40)
    return Planted(row["key"])


def duplicate(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance)
    box = [value + chance.uniform(0, 0.02) for value in one["box"]]
    row["boxes"].append(
        {"id": f"{one['id']}.again", "category": one["category"], "box": box, "text": one["text"]}
    )
    return Planted(row["key"], one["id"])


def whole_image(corpus: Corpus, chance: random.Random) -> Planted:
    for row in chance.sample(corpus.rows, len(corpus.rows) // 3):
        row["boxes"].append(_thing(row, [0, 0, SIDE, SIDE - chance.choice((0, 0.2))]))
    return Planted(SUBJECT)


def constant(corpus: Corpus, chance: random.Random) -> Planted:
    box = [float(chance.randrange(0, 40)), 3.0, float(chance.randrange(50, 90)), 77.0]
    for row in chance.sample(corpus.rows, len(corpus.rows) // 6):
        row["boxes"].append(_thing(row, box))
    return Planted(SUBJECT, ", ".join(f"{value:g}" for value in box))


def _thing(row: Row, box: Box) -> Row:
    return {"id": f"{row['key']}.t", "category": "ring", "box": box, "text": None}


def box_convention(corpus: Corpus, chance: random.Random) -> Planted:
    """Read boxes of another convention as corners: sizes, fractions, swapped axes, or counted from 1."""
    kind = chance.choice(("sizes", "fractions", "rows first", "from 1"))
    for row in corpus.rows:
        for one in row["objects"] + row["outlines"]:
            x0, y0, x1, y1 = one["box"]
            if kind == "sizes":
                one["box"] = [x0, y0, x1 - x0, y1 - y0]
            elif kind == "fractions":
                one["box"] = [value / SIDE for value in one["box"]]
            elif kind == "rows first":
                one["box"] = [x0, x1, y0, y1]
            else:
                # Some things reach over the border, as they do in photographs.
                shift = x0 if chance.random() < 0.2 else 0
                one["box"] = [x0 - shift + 1, y0 + 1, x1 - shift, y1]
    return Planted(SUBJECT)


def _outlined(corpus: Corpus, chance: random.Random) -> tuple[Row, Row, Box]:
    row, one = an_object(corpus, chance, "outlines")
    return row, one, one["box"]


def flat(corpus: Corpus, chance: random.Random) -> Planted:
    row, one, (x0, y0, x1, y1) = _outlined(corpus, chance)
    half = [(x0 + x1) / 2, (y0 + y1) / 2]
    one["polygon"] = [chance.choice(([x0, y0, *half, x1, y1], [x0, y0, x1, y1], [x0, y0, x1, y0, x1]))]
    return Planted(row["key"])


def crossed(corpus: Corpus, chance: random.Random) -> Planted:
    row, one, (x0, y0, x1, y1) = _outlined(corpus, chance)
    one["polygon"] = [chance.choice(([x0, y0, x1, y1, x1, y0, x0, y1], [x0, y0, x1, y0, x0, y1, x1, y1]))]
    return Planted(row["key"])


def polygon_outside(corpus: Corpus, chance: random.Random) -> Planted:
    row, one, (x0, y0, x1, y1) = _outlined(corpus, chance)
    one["polygon"] = [[x0, y0, SIDE + chance.uniform(1.1, 50), y0, x1, y1, x0, y1]]
    return Planted(row["key"])


def hole_lost(corpus: Corpus, chance: random.Random) -> Planted:
    row, one, (x0, y0, x1, y1) = _outlined(corpus, chance)
    near, far = chance.uniform(0.1, 0.4), chance.uniform(0.6, 0.9)
    a, b = (x0 + near * (x1 - x0), x0 + far * (x1 - x0)), (y0 + near * (y1 - y0), y0 + far * (y1 - y0))
    inner = [a[0], b[0], a[1], b[0], a[1], b[1], a[0], b[1]]
    one["polygon"] = [[x0, y0, x1, y0, x1, y1, x0, y1], inner]
    return Planted(row["key"])


def mask_size(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance)
    height, width = SIDE + chance.randrange(1, 9), SIDE - chance.randrange(9)
    one["rle"] = {"size": [height, width], "counts": [100, 50, height * width - 150]}
    return Planted(row["key"], one["id"])


def box_mismatch(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance, chance.choice(("objects", "outlines")))
    x0, y0, x1, y1 = one["box"]
    one["box"] = [x0, y0, x1, y0 + chance.uniform(0.3, 0.7) * (y1 - y0)]
    return Planted(row["key"], one["id"])


def quad_crossed(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance, "words")
    a, b, c, d = (one["quad"][place : place + 2] for place in (0, 2, 4, 6))
    one["quad"] = [*a, *c, *b, *d] if chance.random() < 0.5 else [*a, *b, *d, *c]
    return Planted(row["key"], one["id"])


def quad_order(corpus: Corpus, chance: random.Random) -> Planted:
    _row, one = an_object(corpus, chance, "words")
    corners = [one["quad"][place : place + 2] for place in (6, 4, 2, 0)]
    one["quad"] = [value for corner in corners for value in corner]
    return Planted(SUBJECT, "counter-clockwise")


def _posed(corpus: Corpus, chance: random.Random) -> tuple[Row, Row, list[float]]:
    """Return a row, a figure of it and one of its keypoints."""
    row = corpus.take(chance, lambda one: any(thing["keypoints"] for thing in one["objects"]))
    figure = chance.choice([one for one in row["objects"] if one["keypoints"]])
    return row, figure, chance.choice(figure["keypoints"])


def visibility(corpus: Corpus, chance: random.Random) -> Planted:
    row, _, point = _posed(corpus, chance)
    point[2] = chance.choice((3, -1, 0.5))
    return Planted(row["key"])


def keypoint_outside(corpus: Corpus, chance: random.Random) -> Planted:
    row, figure, point = _posed(corpus, chance)
    point[chance.randrange(2)] = chance.choice((-chance.uniform(1.1, 50), SIDE + chance.uniform(1.1, 50)))
    return Planted(row["key"], figure["id"])


def keypoint_convention(corpus: Corpus, chance: random.Random) -> Planted:
    """Keypoints as fractions of the picture, or with x and y swapped."""
    fractions = chance.random() < 0.5
    for row in corpus.rows:
        for one in row["objects"]:
            for point in one["keypoints"] or ():
                x, y, _ = point
                point[:2] = (x / SIDE, y / SIDE) if fractions else (y, x)
    return Planted(SUBJECT)


def norm_range(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: one["dialogs"])
    numbers = [f"{chance.uniform(0, 1):.3f}" for _ in range(4)]
    numbers[chance.randrange(4)] = (
        f"{chance.choice((-chance.uniform(0.01, 0.9), chance.uniform(1.01, 1.9))):.3f}"
    )
    row["dialogs"][0]["turns"][1]["text"] += f" It is at [{', '.join(numbers)}]."
    return Planted(row["key"])
