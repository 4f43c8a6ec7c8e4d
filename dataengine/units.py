"""Source items to samples, unit by unit: the part of conversion that knows nothing of files on the way out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
import xxhash

from dataengine import ledger as ledgers
from dataengine import sample as samples
from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Edit,
    Expression,
    Instance,
    Question,
    Rejected,
)
from dataengine.clean import Cleaned, clean
from dataengine.conventions import Evidence
from dataengine.errors import Quarantine, Skip
from dataengine.files import Root
from dataengine.gather import NO_EXAMPLE
from dataengine.gather import VERSION as GATHER_VERSION
from dataengine.images import Probe, probe
from dataengine.ledger import Ledger
from dataengine.manifest import SampleRow, sample_row
from dataengine.modules import Builder, load_builder
from dataengine.sample import Sample, SampleImage, SampleLicense, SampleOrigin
from dataengine.source import labels_of, reader_name
from dataengine.spec import Resolved
from dataengine.task import Task, Unit, explode
from dataengine.tokens import IMAGE, special_tokens

# A reader reports what a spec's own `where` leaves out; that is a choice, not a defect.
SKIP_REASONS = frozenset({"where.filtered", "split.other", "unit.none", NO_EXAMPLE})
# So many boxes and keypoints of a chunk say which convention they follow.
MOST_EVIDENCE = 1000


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What every chunk of a split is converted with."""

    spec: Resolved
    task: Task
    split: str
    root: str
    seed: int
    spec_hash: str
    reader: str
    builder: str


def builder_name(spec: Resolved) -> str:
    """Return the builder and its version, as fingerprints name it, with that of how examples are chosen."""
    name = f"{spec.task.builder} {load_builder(spec.task.builder, spec.path).VERSION}"
    return name if spec.gather is None else f"{name}, gather {GATHER_VERSION}"


def context_of(spec: Resolved, split: str, root: Root, seed: int) -> Context:
    """Return what a split is converted with. Raises SpecError or SourceError."""
    return Context(
        spec=spec,
        task=spec.runtime(split, labels_of(spec, split, root)),
        split=split,
        root=str(root.directory.resolve()),
        seed=seed,
        spec_hash=spec.hash(),
        reader=reader_name(spec),
        builder=builder_name(spec),
    )


class Lost(msgspec.Struct, frozen=True, gc=False):
    """A unit that became no sample: `outcome` is skipped or quarantined."""

    outcome: str
    reason: str
    key: str
    detail: str
    file: str
    record: str


class Chunk(msgspec.Struct, frozen=True):
    """What some source items became, in their order.

    `pictures` are hashes of the paths that they name, `evidence` the counts from which a wrong convention shows.
    """

    samples: list[SampleRow]
    lost: list[Lost]
    ledger: Ledger
    pictures: list[int]
    evidence: dict[str, int] = {}

    @staticmethod
    def join(chunks: list[Chunk]) -> Chunk:
        """Return several chunks as one."""
        return Chunk(
            [row for chunk in chunks for row in chunk.samples],
            [one for chunk in chunks for one in chunk.lost],
            ledgers.add([chunk.ledger for chunk in chunks]),
            [picture for chunk in chunks for picture in chunk.pictures],
            dict(sum((Counter(chunk.evidence) for chunk in chunks), Counter[str]())),
        )


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source item on its way to a worker: an annotation, or what a reader rejected."""

    annotation: Annotation | None = None
    rejected: Rejected | None = None


class _Tally:
    """What the items of a chunk became so far."""

    def __init__(self) -> None:
        self.made: list[SampleRow] = []
        self.lost: list[Lost] = []
        self.records = self.objects = 0
        self.dropped: Counter[str] = Counter()
        self.fixed: Counter[str] = Counter()
        self.pictures: set[int] = set()
        self.evidence = Evidence(most=MOST_EVIDENCE)

    def lose(self, error: Skip | Quarantine, key: str, item: Annotation | Rejected) -> None:
        """Count a unit that became no sample, with the reason."""
        outcome = "skipped" if isinstance(error, Skip) else "quarantined"
        self.lost.append(Lost(outcome, error.reason, key, error.detail, item.origin.file, item.origin.record))

    def chunk(self) -> Chunk:
        """Return it all, with its account."""
        reasons = {
            outcome: dict(Counter(one.reason for one in self.lost if one.outcome == outcome))
            for outcome in ("skipped", "quarantined")
        }
        ledger = Ledger(
            units=len(self.made) + len(self.lost),
            samples=len(self.made),
            records=self.records,
            images=len(self.pictures),
            objects_read=self.objects,
            objects_dropped=dict(self.dropped),
            objects_fixed=dict(self.fixed),
            **reasons,
        )
        return Chunk(self.made, self.lost, ledger, sorted(self.pictures), self.evidence.counts)


def convert_items(context: Context, items: Iterable[Item]) -> Chunk:
    """Convert source items one by one."""
    root = Root(Path(context.root))
    builder = load_builder(context.task.spec.builder, context.spec.path)
    probes: dict[str, Probe] = {}
    tally = _Tally()
    for item in items:
        tally.records += 1
        if item.annotation is not None:
            _convert_item(context, builder, item.annotation, root, probes, tally)
            continue
        bad = item.rejected
        assert bad is not None
        kind = Skip if bad.reason in SKIP_REASONS else Quarantine
        tally.lose(kind(bad.reason, bad.detail), bad.key, bad)
    return tally.chunk()


def _convert_item(
    context: Context,
    builder: Builder,
    annotation: Annotation,
    root: Root,
    probes: dict[str, Probe],
    tally: _Tally,
) -> None:
    """Make every unit of an annotation a sample, or lose it with a reason."""
    tally.pictures.update(xxhash.xxh3_64_intdigest(image.path.encode()) for image in annotation.images)
    units = explode(annotation, context.task.spec.unit)
    if not units:
        tally.lose(Skip("unit.none", f"no {context.task.spec.unit} here"), annotation.key, annotation)
        return
    try:
        found = _headers(annotation, root, probes)
        examples = _examples(annotation, root, probes)
    except (Skip, Quarantine) as error:
        for suffix, _ in units:
            tally.lose(error, _key(annotation, suffix), annotation)
        return
    tally.evidence.add(annotation, [(image.width, image.height) for image in found])
    cleaned = _cleaned(annotation, found)
    whole = cleaned.annotation
    if examples:
        shown = tuple(_cleaned(one, headers).annotation for one, headers in examples)
        whole = msgspec.structs.replace(whole, examples=shown)
        found = [*(header for _, headers in examples for header in headers), *found]
    tally.objects += len(annotation.instances)
    tally.dropped.update(cleaned.dropped)
    tally.fixed.update(cleaned.fixed)
    # A unit that is an object is asked for as it was cleaned.
    for suffix, unit in explode(whole, context.task.spec.unit):
        key = _key(annotation, suffix)
        try:
            _check_text(unit)
            rendering = builder.build(whole, unit, context.task, _rng(context, key))
            sample = _sample(context, whole, found, key, rendering)
            samples.check(sample)
        except (Skip, Quarantine) as error:
            tally.lose(error, key, annotation)
        else:
            tally.made.append(sample_row(sample, rendering.unsure))


def _rng(context: Context, key: str) -> random.Random:
    """Return the chance of one unit: the same for the same identity, whatever else is converted."""
    identity = f"{context.seed}/{context.spec.id}/{context.split}/{key}"
    return random.Random(xxhash.xxh3_64_intdigest(identity.encode()))


def _key(annotation: Annotation, suffix: str) -> str:
    return f"{annotation.key}.{suffix}" if suffix else annotation.key


def _probe(root: Root, path: str, probes: dict[str, Probe]) -> Probe:
    if path not in probes:
        try:
            probes[path] = probe(root.inside(path))
        except Quarantine as error:
            raise Quarantine(error.reason, f"{path}: {error.detail}") from error
    return probes[path]


def _headers(annotation: Annotation, root: Root, probes: dict[str, Probe]) -> list[Probe]:
    """Return what the headers of its pictures say. Raises Quarantine where the source says something else."""
    found = [_probe(root, image.path, probes) for image in annotation.images]
    _check_sizes(annotation, found)
    return found


def _examples(
    annotation: Annotation, root: Root, probes: dict[str, Probe]
) -> list[tuple[Annotation, list[Probe]]]:
    """Return the examples that can be shown. Raises Skip where none of them can."""
    found = []
    for example in annotation.examples:
        with suppress(Quarantine):  # it is quarantined where it is the item that is asked about
            found.append((example, _headers(example, root, probes)))
    if annotation.examples and not found:
        raise Skip(NO_EXAMPLE, "no picture of its examples can be read")
    return found


def _cleaned(annotation: Annotation, found: list[Probe]) -> Cleaned:
    """Return the annotation with usable objects, and with the sizes of its pictures: a builder opens none."""
    sizes = [(real.width, real.height) for real in found]
    if sizes != [(image.width, image.height) for image in annotation.images]:
        images = tuple(
            msgspec.structs.replace(image, width=width, height=height)
            for image, (width, height) in zip(annotation.images, sizes, strict=True)
        )
        annotation = msgspec.structs.replace(annotation, images=images)
    return clean(annotation, sizes)


def _check_sizes(annotation: Annotation, found: list[Probe]) -> None:
    """Refuse coordinates that were made for a picture of another size."""
    if not annotation.instances:
        return
    for stated, real in zip(annotation.images, found, strict=True):
        if stated.width is None or stated.height is None:
            continue
        if (stated.width, stated.height) == (real.width, real.height):
            continue
        text = f"{stated.path}: stated {stated.width} x {stated.height}, is {real.width} x {real.height}"
        if (stated.height, stated.width) == (real.width, real.height) and real.orientation > 4:
            raise Quarantine("image.exif_orientation", f"{text} after EXIF orientation {real.orientation}")
        raise Quarantine("box.size_mismatch", text)


def _check_text(unit: Unit) -> None:
    """Refuse source text that speaks the model's language."""
    match unit:
        case Annotation():
            texts = [item.category or "" for item in unit.instances]
        case Instance():
            texts = [unit.text or "", unit.category or ""]
        case Caption() | Expression():
            texts = [unit.text]
        case Question():
            texts = [unit.text, *unit.answers, *unit.choices, unit.rationale or ""]
        case Edit():
            texts = [unit.instruction]
        case Dialog():
            texts = [turn.text.replace(IMAGE, "") for turn in unit.turns]
    for text in texts:
        if found := special_tokens(text):
            raise Quarantine("text.special_token", f"{found[0]!r} stands in the source text")
        if "\0" in text:
            raise Quarantine("text.control", "a NUL stands in the source text")


def _sample(
    context: Context, annotation: Annotation, found: list[Probe], key: str, rendering: samples.Rendering
) -> Sample:
    spec = context.spec
    shown = (*(image for example in annotation.examples for image in example.images), *annotation.images)
    licensed = {image.license for image in shown if image.license}
    split_license = spec.dataset.source.splits[context.split].license
    return Sample(
        id=f"{spec.dataset.id}/{context.split}/{key}#{spec.task.id}",
        task=spec.task.id,
        dataset=spec.dataset.id,
        split=context.split,
        images=tuple(
            SampleImage(
                path=image.path,
                width=real.width,
                height=real.height,
                format=real.format,
                role=image.role,
                license=image.license,
            )
            for image, real in zip(shown, found, strict=True)
        ),
        conversation=rendering.conversation,
        targets=rendering.targets,
        routes=rendering.routes,
        regions=rendering.regions,
        marks=rendering.marks or msgspec.UNSET,
        prompt=rendering.prompt,
        origin=SampleOrigin(
            dataset=spec.dataset.id,
            file=annotation.origin.file,
            record=annotation.origin.record,
            spec=spec.id,
            spec_hash=context.spec_hash,
            reader=context.reader,
        ),
        license=SampleLicense(
            annotations=split_license or spec.dataset.license.annotations,
            images=" AND ".join(sorted(licensed)) if licensed else spec.dataset.license.images,
        ),
    )
