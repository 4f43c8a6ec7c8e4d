"""The first samples of a spec, made in memory: what a data engineer looks at before anything is written."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dataengine import sample as samples
from dataengine.annotation import Annotation, LabelSpace
from dataengine.errors import Quarantine
from dataengine.images import Pixels, decode
from dataengine.sample import Sample
from dataengine.source import items_of, open_root
from dataengine.spec import Resolved
from dataengine.units import Chunk, Item, context_of, convert_items

MAX_ITEMS_A_SAMPLE = 50


class Preview(msgspec.Struct, frozen=True):
    """Some samples with their decoded pictures, and what became of the units that were looked at.

    `undrawn` has a line for each sample that was made, but whose picture cannot be decoded whole.
    """

    samples: list[tuple[Sample, list[Pixels]]]
    labels: LabelSpace | None
    looked_at: Chunk
    undrawn: list[str]


def preview(spec: Resolved, split: str, root_dir: Path, count: int, seed: int = 0) -> Preview:
    """Return the first `count` samples of a split that can be drawn. Raises SpecError or SourceError."""
    root = open_root(spec, split, root_dir)
    context = context_of(spec, split, root, seed)
    items = items_of(spec, split, root, count * MAX_ITEMS_A_SAMPLE)
    drawn: list[tuple[Sample, list[Pixels]]] = []
    undrawn: list[str] = []
    chunks: list[Chunk] = []
    for item in items:
        wrapped = Item(annotation=item) if isinstance(item, Annotation) else Item(rejected=item)
        chunk = convert_items(context, [wrapped])
        chunks.append(chunk)
        for row in chunk.samples[: count - len(drawn)]:
            sample = samples.decode(row.sample)
            try:
                pictures = [decode(root.inside(image.path).read_bytes()) for image in sample.images]
            except Quarantine as error:
                undrawn.append(f"{sample.id}: {error.reason}: {error.detail}")
            else:
                drawn.append((sample, pictures))
        if len(drawn) >= count:
            break
    return Preview(drawn, context.task.labels, Chunk.join(chunks), undrawn)
