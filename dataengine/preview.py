"""The first samples of a spec, made in memory: what a data engineer looks at before anything is written."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dataengine import sample as samples
from dataengine.annotation import Annotation, LabelSpace
from dataengine.conventions import Evidence, PictureSizes
from dataengine.errors import Quarantine
from dataengine.files import Root
from dataengine.gather import gathered_items
from dataengine.images import Pixels, read, show
from dataengine.sample import Sample
from dataengine.source import open_root
from dataengine.spec import Resolved
from dataengine.units import MOST_EVIDENCE, Chunk, Item, context_of, convert_items

MAX_ITEMS_A_SAMPLE = 50
# So many items are read, drawn or not, to see whether their boxes follow the convention that they are read by.
LOOKED_AT = 60


class Preview(msgspec.Struct, frozen=True):
    """Some samples with their decoded pictures, and what became of the units that were looked at.

    `undrawn` has a line for each sample that was made, but whose picture cannot be decoded whole; `doubts` are what
    speaks against the conventions that the reader took for granted, over more items than those that are drawn.
    """

    samples: list[tuple[Sample, list[Pixels]]]
    labels: LabelSpace | None
    looked_at: Chunk
    undrawn: list[str]
    doubts: list[str]


def preview(spec: Resolved, split: str, root_dir: Path, count: int, seed: int = 0) -> Preview:
    """Return the first `count` samples of a split that can be drawn. Raises SpecError or SourceError."""
    root = open_root(spec, split, root_dir)
    context = context_of(spec, split, root, seed)
    items = gathered_items(spec, split, root, count * MAX_ITEMS_A_SAMPLE, seed)
    drawn: list[tuple[Sample, list[Pixels]]] = []
    undrawn: list[str] = []
    chunks: list[Chunk] = []
    evidence, sizes = Evidence(most=MOST_EVIDENCE), PictureSizes(root_dir)
    for number, item in enumerate(items):
        if isinstance(item, Annotation):
            evidence.add(item, sizes.of(item))
        if len(drawn) >= count:
            if number >= LOOKED_AT:
                break
            continue
        wrapped = Item(annotation=item) if isinstance(item, Annotation) else Item(rejected=item)
        chunk = convert_items(context, [wrapped])
        chunks.append(chunk)
        for row in chunk.samples[: count - len(drawn)]:
            sample = samples.decode(row.sample)
            try:
                pictures = pictures_of(sample, root)
            except Quarantine as error:
                undrawn.append(f"{sample.id}: {error.reason}: {error.detail}")
            else:
                drawn.append((sample, pictures))
    doubts = [line for _, line in evidence.verdicts()]
    return Preview(drawn, context.task.labels, Chunk.join(chunks), undrawn, doubts)


def pictures_of(sample: Sample, root: Root) -> list[Pixels]:
    """Return the pictures of a sample as they are looked at. Raises Quarantine `image.*`, `map.*` or `path.*`."""
    return [
        show(read(root.inside(image.path)), samples.measure_of(sample, number))
        for number, image in enumerate(sample.images)
    ]
