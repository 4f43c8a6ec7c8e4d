"""Do a split's boxes look like the convention that its spec declares? Evidence over many boxes, never one."""

from __future__ import annotations

from collections import Counter

from dataengine.annotation import Annotation

MIN_BOXES = 20
MIN_BORDER = 3


class BoxEvidence:
    """Counts over the boxes of a split, from which a wrong unit, order or origin shows."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, annotation: Annotation, sizes: list[tuple[int, int] | None]) -> None:
        """Count the boxes of one annotation."""
        for item in annotation.instances:
            if item.box is None or item.crowd:
                continue
            x0, y0, x1, y1 = item.box
            size = sizes[item.image] if item.image < len(sizes) else None
            count = self.counts
            count["boxes"] += 1
            count["inverted"] += x1 < x0 or y1 < y0
            count["unit"] += max(abs(x0), abs(y0), abs(x1), abs(y1)) <= 1.5
            count["integer"] += all(float(value).is_integer() for value in item.box)
            count["start_zero"] += (x0 == 0) + (y0 == 0)
            count["start_one"] += (x0 == 1) + (y0 == 1)
            if size is not None:
                count["sized"] += 1
                # Read as corners, a width and height that were corners already land far outside.
                count["far_outside"] += x1 > size[0] * 1.1 or y1 > size[1] * 1.1
                count["past_end"] += (x1 == size[0] + 1) + (y1 == size[1] + 1)

    def verdicts(self) -> list[str]:
        """Return what speaks against the declared convention, one line each."""
        count = self.counts
        boxes = count["boxes"]
        if boxes < MIN_BOXES:
            return []
        found = []
        if count["unit"] > 0.9 * boxes:
            found.append(
                f"{count['unit']} of {boxes} boxes lie within 0 to 1: are they fractions of the picture?"
            )
        if count["inverted"] > 0.1 * boxes:
            found.append(
                f"{count['inverted']} of {boxes} boxes end before they begin: is the order another one?"
            )
        if count["far_outside"] > 0.1 * max(count["sized"], 1):
            found.append(
                f"{count['far_outside']} of {count['sized']} boxes end far outside their picture: are the last two"
                " numbers corners, or is the picture another size?"
            )
        if count["integer"] == boxes and count["start_zero"] == 0 and count["start_one"] >= MIN_BORDER:
            found.append(
                f"whole numbers, {count['start_one']} of them begin at 1 and none at 0: do they count pixels from 1?"
            )
        if count["past_end"] >= MIN_BORDER:
            found.append(
                f"{count['past_end']} boxes end one pixel past the picture: is the end counted twice?"
            )
        return found
