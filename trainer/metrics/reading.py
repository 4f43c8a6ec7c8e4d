"""How well text in pictures is read: characters, words, and words with their places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from dataengine.geometry import box_iou
from trainer.metrics.answers import harmonic
from trainer.metrics.objects import Scene


def reading_scores(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return how well texts were read, for (what was said, the truth); runs of blanks are one.

    `cer`: edits over the characters of all truths together (it can exceed 1). `ned`: 1 - mean of edits over the longer
    text, as in ICDAR's competitions, larger is better. `word_accuracy`: the share of texts read without an error;
    `word_recall`: the share of words of the truth that were said, however often each.
    """
    clean = [(" ".join(said.split()), " ".join(truth.split())) for said, truth in pairs]
    edits = [Levenshtein.distance(said, truth) for said, truth in clean]
    similarity = [
        1 - count / max(len(said), len(truth), 1) for count, (said, truth) in zip(edits, clean, strict=True)
    ]
    wanted = sum(len(truth.split()) for _, truth in clean)
    shared = sum(sum((Counter(said.split()) & Counter(truth.split())).values()) for said, truth in clean)
    return {
        "word_accuracy": float(np.mean([said == truth for said, truth in clean])),
        "word_recall": shared / wanted if wanted else 1.0,
        "cer": sum(edits) / max(sum(len(truth) for _, truth in clean), 1),
        "ned": float(np.mean(similarity)),
    }


def spotting_scores(
    scenes: Sequence[Scene], threshold: float = 0.5, least: float = 0.3
) -> dict[str, float] | None:
    """Return precision, recall and their harmonic mean of texts with places, end to end; None without any text.

    A text is right where a true one of the same letters (case aside) overlaps it by `threshold` or more; each true one
    counts once, the most certain first. Ignored ones are neither right nor wrong. Found ones below the score `least`
    are not there.
    """
    hits = found = wanted = 0
    for scene in scenes:
        truth = [item for item in scene.truth if not item.ignore]
        areas = [item.box for item in scene.truth if item.ignore]
        wanted += len(truth)
        for item in sorted((one for one in scene.found if one.score >= least), key=lambda one: -one.score):
            match = next(
                (
                    one
                    for one in truth
                    if one.label.lower() == item.label.lower() and box_iou(one.box, item.box) >= threshold
                ),
                None,
            )
            if match is not None:
                truth.remove(match)
                hits += 1
                found += 1
            elif not any(box_iou(area, item.box) >= threshold for area in areas):
                found += 1
    if not wanted:
        return None
    precision, recall = hits / found if found else 0.0, hits / wanted
    return {"text_precision": precision, "text_recall": recall, "text_f1": harmonic(precision, recall)}
