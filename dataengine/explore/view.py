"""Samples as the page shows them: JSON, and pictures made anew for the screen."""

from __future__ import annotations

import io
import threading
from collections import Counter
from typing import Any

import msgspec
from PIL import Image

from dataengine import marks as pixel_marks
from dataengine import sample as samples
from dataengine.errors import DataEngineError, Quarantine, ShardError
from dataengine.explore.findings import Findings
from dataengine.explore.marked import Mark
from dataengine.explore.sets import Collection, id_hash
from dataengine.geometry import rle_from_counts
from dataengine.images import show
from dataengine.report.draw import color_of, find_skeleton
from dataengine.sample import InstanceTargets, KeypointTargets, Sample, TargetInstance, measure_of

SIDES = (320, 1600)  # longest side of a picture in the list, and alone, in pixels
_LOSSLESS = 256  # pixels of the longest side up to which a picture is shown as it is
MOST_TURN = 220  # characters of a turn in the list
MOST_BOXES = 40  # of a picture in the list
_DECODING = threading.Semaphore(2)  # a large picture takes a gigabyte while it is decoded


def sample_at(collection: Collection, row: int) -> Sample:
    """Return the sample of a row. Raises DataEngineError where it cannot be read."""
    one, number = collection.locate(row)
    try:
        sample = samples.decode(one.read(number))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ShardError(f"{one.place}: row {number} is no sample: {error}; audit it") from error
    if id_hash(sample.id) != int(collection.ids[row]):
        raise ShardError(f"{one.place}: row {number} holds {sample.id!r}, which is not its id in the index")
    return sample


def card(collection: Collection, row: int, marks: dict[str, Mark]) -> dict[str, Any]:
    """Return what the list shows of a row; of one that cannot be read, why."""
    source = collection.source(row)
    known = {"row": row, "dataset": source.dataset, "task": source.task, "split": source.split}
    try:
        sample = sample_at(collection, row)
    except DataEngineError as error:
        return {**known, "id": "", "problem": str(error), "mark": None}
    image = sample.object_image
    return {
        **known,
        "id": sample.id,
        "mark": marks.get(sample.id),
        "picture": _shape(sample, image) if sample.images else None,
        "pictures": len(sample.images),
        "boxes": [
            {"box": one.box, "color": _hex(one.label), "ignore": one.ignore}
            for one in _objects(sample)[:MOST_BOXES]
        ],
        "turns": [
            {"role": turn.role, "text": turn.text[:MOST_TURN] + ("…" if len(turn.text) > MOST_TURN else "")}
            for turn in sample.conversation[:2]
        ],
    }


def detail(collection: Collection, row: int, findings: Findings | None) -> dict[str, Any]:
    """Return all that is known of a row's sample. Raises DataEngineError where it cannot be read."""
    sample = sample_at(collection, row)
    source = collection.source(row)
    one, number = collection.locate(row)
    names = sample.targets.names if isinstance(sample.targets, KeypointTargets) else ()
    labels = Counter(item.label for item in _objects(sample))
    return {
        "row": row,
        "id": sample.id,
        "sample": sample,
        "where": one.where(number),
        "pictures": [_shape(sample, place) for place in range(len(sample.images))],
        "object_image": sample.object_image,
        "colors": {
            name: _hex(name) for name in [*labels, *(f"region{n + 1}" for n in range(len(sample.regions)))]
        },
        "labels": labels,
        "skeleton": find_skeleton([source.labels], names) if source.labels is not None and names else [],
        "findings": findings.of_sample(collection, row, sample) if findings is not None else None,
    }


def _objects(sample: Sample) -> tuple[TargetInstance, ...]:
    targets = sample.targets
    return targets.instances if isinstance(targets, InstanceTargets | KeypointTargets) else ()


def _shape(sample: Sample, number: int) -> dict[str, Any]:
    image = sample.images[number]
    return {
        "number": number,
        "width": image.width,
        "height": image.height,
        "role": image.role,
        "path": image.path,
    }


def _hex(label: str) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color_of(label))


def picture(collection: Collection, row: int, number: int, side: int) -> tuple[bytes, str]:
    """Return a sample's picture for the screen, no side longer than `side`, and its media type.

    No byte of the source's file reaches the browser. Raises DataEngineError with why it cannot be shown.
    """
    sample = sample_at(collection, row)
    if not 0 <= number < len(sample.images):
        raise DataEngineError(f"{sample.id}: has no picture {number}, only {len(sample.images)}")
    one, place = collection.locate(row)
    drawn = sample.marks_on(number) if sample.images[number].digest is None else ()
    bound = None if drawn else (side, side)
    try:
        with _DECODING:
            data = one.picture(place, number, sample)
            pixels = show(data, measure_of(sample, number), bound)
            for mark in drawn:
                if mark.mask is not None:
                    rle_from_counts(mark.mask.counts, mark.mask.size)  # C code trusts its runs
            return _encoded(Image.fromarray(pixel_marks.draw(pixels, drawn) if drawn else pixels), side)
    except Quarantine as error:
        raise DataEngineError(f"{sample.images[number].path}: {error.reason}: {error.detail}") from error
    except (ValueError, IndexError) as error:
        raise DataEngineError(f"{sample.id}: a mark on picture {number} cannot be drawn: {error}") from error


def _encoded(shown: Image.Image, side: int) -> tuple[bytes, str]:
    sink = io.BytesIO()
    shown.thumbnail((side, side), Image.Resampling.LANCZOS)
    if max(shown.size) <= _LOSSLESS:
        shown.save(sink, "PNG")
        return sink.getvalue(), "image/png"
    shown.save(sink, "JPEG", quality=88)
    return sink.getvalue(), "image/jpeg"
