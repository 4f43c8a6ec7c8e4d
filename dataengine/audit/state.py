"""What an audit finds, as it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import jsonschema
import msgspec

from dataengine import sample as samples
from dataengine import schema
from dataengine.annotation import Annotation, LabelSpace, Rejected
from dataengine.audit.block import Block
from dataengine.audit.doubts import doubts
from dataengine.audit.findings import Finding, Findings
from dataengine.audit.rule import Facts, Hit, Place, SampleFacts, Sizes, Whole
from dataengine.audit.said import num_texts
from dataengine.audit.shapes import Name, Object, Shape, Shapes
from dataengine.audit.statistics import Collected, Statistics
from dataengine.audit.table import ANNOTATION_GROUPS, CORPUS_RULES, SAMPLE_RULES, WHOLE_RULES, rule_of
from dataengine.conventions import Evidence
from dataengine.files import Root
from dataengine.ledger import Ledger
from dataengine.sample import Sample
from dataengine.spill import Named

Progress = Callable[[int, str], None]
# So many different labels, or licenses, are counted by name.
MOST_NAMES = 1 << 16
# So many objects, texts and annotations are looked at together. What is made of more of them is too large for the
# allocator's own store, and for a processor's cache: it takes twice the time.
AT_ONCE = 1024
_MARKS = (("mask", "mask"), ("quad", "quad"), ("pose", "keypoints"))


# What an audit can be of; a part is samples that are held against evaluation sets.
Kind = Literal["", "manifest", "shard set", "tars", "dataset", "annotations", "part"]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What one audited subject holds, how many places of it were looked at, and the budgets that its spec sets.

    `classes` are those of whole pictures. `further_labels` are the objects, or pictures, whose labels are in neither:
    these have the first MOST_NAMES alone.
    `versions` say what it was made and read with: spec, reader, limits. `kind` is what the subject is.
    """

    subject: str
    records: int
    kind: Kind = ""
    units: int = 0
    samples: int = 0
    skipped: dict[str, int] = {}
    quarantined: dict[str, int] = {}
    objects: int = 0
    images: int = 0
    licenses: dict[str, int] = {}
    labels: dict[str, int] = {}
    classes: dict[str, int] = {}
    further_labels: int = 0
    sides: dict[str, int] = {}
    root: str = ""
    checked: dict[str, int] = {}
    budgets: dict[str, float] = {}
    objects_dropped: dict[str, int] = {}
    objects_fixed: dict[str, int] = {}
    versions: dict[str, str] = {}
    statistics: Collected = Collected()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of an audit, and how many places of each kind it looked at.

    `shapes` are the objects of the first findings of each rule.
    """

    accounts: list[Account]
    findings: Findings
    checked: dict[str, int]
    shapes: dict[Name, Shape] = {}


class Audit:
    """Collects findings and counts while an audit runs.

    `labels` is the label space of the subject, where it has one; `budgets` are what its spec sets,
    `lang` is the language that it states, and `kind` what the subject is.
    """

    def __init__(
        self,
        subject: str,
        root: str = "",
        labels: LabelSpace | None = None,
        budgets: dict[str, float] | None = None,
        lang: str | None = None,
        kind: Kind = "",
    ) -> None:
        self.kind = kind
        self.subject = subject
        self.root = root
        self.lang = lang
        self.files = Root(Path(root)) if root and Path(root).is_dir() else None
        self.budgets = budgets or {}
        self._findings = Findings()
        self.shapes = Shapes()
        self._items: list[Annotation] = []
        self._sizes: list[Sizes] = []
        self._held = 0
        self.statistics = Statistics()
        self.checked: Counter[str] = Counter()
        self.licenses: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.sides: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.seen = Named()
        self.versions: dict[str, str] = {}
        self.evidence = Evidence()
        self._corpora = [make() for _, make in CORPUS_RULES]
        self.label_space = labels
        self.classes: Counter[str] = Counter()
        self.further_labels = 0

    def add(
        self,
        rule_id: str,
        hit: Hit,
        *,
        place: Place | None = None,
        key: str = "",
        file: str = "",
        record: str = "",
        image: str = "",
        other_image: str = "",
        objects: Iterable[Object] = (),
    ) -> None:
        """Note one hit, in a place that is the rule's own where nothing else is said.

        `other_image` is a second picture of the same subject to see beside the first; `objects` are those of which the
        hit may name one.
        """
        finding = Finding(
            rule=rule_id,
            severity=rule_of(rule_id).severity,
            subject=self.subject,
            place=place or rule_of(rule_id).place,
            key=key,
            file=file,
            record=record,
            detail=one_line(hit.detail),
            image=image,
            box=hit.box,
            other_image=other_image,
            other_subject=self.subject if other_image else "",
        )
        self._findings.append(finding)
        if objects:
            self.shapes.add(finding, hit, objects, self.label_space)

    def annotation(self, item: Annotation, sizes: Sizes) -> None:
        """Look at one annotation, together with some that follow."""
        self._items.append(item)
        self._sizes.append(sizes)
        turns = sum([len(one.turns) for one in item.dialogs])
        self._held += 1 + len(item.instances) + len(item.captions) + 2 * len(item.questions) + 3 * turns
        if self._held >= AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Look at what was put off."""
        if not self._items:
            return
        block = Block(self._items, self._sizes, self.lang)
        self._items, self._sizes, self._held = [], [], 0
        self.seen.extend([(item.key, item.origin.file, item.origin.record) for item in block.items])
        self._count(block)
        self.statistics.annotations(block)
        for corpus in self._corpora:
            corpus.add(block)
        asked: dict[int, list[str]] = {}
        for name, places in doubts(block, ANNOTATION_GROUPS).items():
            for place in places:
                asked.setdefault(place, []).append(name)
        for place in sorted(asked):
            item = block.items[place]
            facts = Facts(item, block.sizes[place], self.lang, self.files)
            for name in sorted(asked[place]):
                for rule_id, check in ANNOTATION_GROUPS[name]:
                    for hit in check(facts):
                        self.hit(rule_id, hit, item)

    def _count(self, block: Block) -> None:
        """Count what some annotations have."""
        looked_at = {
            "annotation": len(block.items),
            "text": num_texts(block),
            "question": len(block.questions),
            "dialog": len(block.dialogs),
            "expression": sum([len(item.expressions) for item in block.items]),
            "edit": sum([len(item.edits) for item in block.items]),
        }
        if block.objects:
            looked_at |= {"box": len(block.boxes.rows), "outline": len(block.outlined)}
            looked_at |= {place: len(block.having(name)) for place, name in _MARKS}
            self._count_objects(block)
        self.checked.update({place: num for place, num in looked_at.items() if num})
        if labels := [label for item in block.items for label in item.labels]:
            self.further_labels += tally(self.classes, labels)

    def _count_objects(self, block: Block) -> None:
        boxes = block.boxes
        self.counts["objects"] += len(block.objects)
        categories = [one.category for one in block.objects if one.category and not one.crowd]
        self.further_labels += tally(self.labels, categories)
        if len(set(block.ids)) < len(block.ids):
            self._twice(block)
        self.evidence.add_boxes(boxes.rows[~boxes.crowd] if boxes.crowd.any() else boxes.rows)
        posed = [one for one in block.objects if one.keypoints is not None]
        for place, one in zip(block.having("keypoints"), posed, strict=True):
            if not one.crowd:
                self.evidence.add_keypoints(one, block.size_of(place, one))

    def _twice(self, block: Block) -> None:
        """Note ids that stand twice in one annotation."""
        for item in block.items:
            ids = [one.id for one in item.instances]
            if len(set(ids)) < len(ids):
                for one_id, count in Counter(ids).items():
                    if count > 1:
                        self.hit("id.duplicate", Hit(f"instance {one_id} stands {count} times"), item)

    @property
    def findings(self) -> Findings:
        """What was found so far."""
        self._flush()
        return self._findings

    @property
    def described(self) -> Collected:
        """What the data was like so far."""
        self._flush()
        return self.statistics.result()

    def license(self, name: str) -> None:
        """Count a license."""
        self.licenses["others"] += tally(self.licenses, [name])

    def rejected(self, item: Rejected) -> None:
        """Note a record that no reader can read."""
        origin = item.origin
        self.add(item.reason, Hit(item.detail), key=item.key, file=origin.file, record=origin.record)

    def hit(self, rule_id: str, hit: Hit, item: Annotation) -> None:
        """Note a hit of an annotation."""
        image = item.images[hit.image].path if 0 <= hit.image < len(item.images) else ""
        origin = item.origin
        self.add(
            rule_id,
            hit,
            key=item.key,
            file=origin.file,
            record=origin.record,
            image=image,
            objects=item.instances,
        )

    def sample(self, data: bytes) -> Sample | None:
        """Look at one encoded sample; a broken one is explained in full by its JSON Schema."""
        self.checked["sample"] += 1
        try:
            sample = samples.decode(data)
        except msgspec.DecodeError as error:
            for line in explain(data) or [str(error)]:
                self.add("schema", Hit(line), place="sample")
            return None
        self.license(sample.license.images)
        self.sides.update(side(image.width, image.height) for image in sample.images)
        facts = SampleFacts(sample)
        self.statistics.sample(facts)
        if facts.targets:
            self.checked["target"] += len(facts.targets)
        for rule_id, check in SAMPLE_RULES:
            for hit in check(facts):
                image = sample.images[hit.image].path if hit.image < len(sample.images) else ""
                self.add(
                    rule_id,
                    hit,
                    place="sample" if rule_of(rule_id).place == "annotation" else "target",
                    key=sample.id,
                    file=sample.origin.file,
                    record=sample.origin.record,
                    image=image,
                    objects=facts.targets,
                )
        return sample

    def picture(self, path: str, found: list[tuple[str, Hit]], key: str = "") -> None:
        """Note what a picture's bytes showed; `key` is the sample that shows it, where it is only there."""
        self.checked["picture"] += 1
        for rule_id, hit in found:
            self.add(rule_id, hit, place="picture", image=path, key=key)

    def whole(self) -> None:
        """Note what all annotations show together: the evidence over boxes and keypoints, and rules on the subject."""
        self._flush()
        for (key, file, record), _ in self.seen.again():
            self.add("id.duplicate", Hit(f"key {key!r}"), key=key, file=file, record=record)
        for rule_id, line in self.evidence.verdicts():
            self.add(rule_id, Hit(line), place="subject")
        seen = Whole(self.label_space, self.labels + self.classes)
        found = [(rule_id, check(seen)) for rule_id, check in WHOLE_RULES]
        found += [
            (rule_id, corpus.hits()) for (rule_id, _), corpus in zip(CORPUS_RULES, self._corpora, strict=True)
        ]
        for rule_id, hits in found:
            for hit in hits:
                self.add(rule_id, hit, place="subject")


def one_line(text: str) -> str:
    """Return a text without what breaks a line, speaks to a terminal or is no Unicode: names can hold all of it."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def explain(data: bytes) -> list[str]:
    """Return every violation of the sample schema as `path: what is wrong` (Draft 2020-12).

    Where a value may be one of several kinds, the violation is that of the kind that it names, or comes closest to.
    """
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        return [f"not JSON: {error}"]
    found = {
        f"{leaf.json_path}: {leaf.message[:200]}"
        for violation in _validator().iter_errors(value)
        for leaf in _leaves(violation)
    }
    return sorted(found)


def _leaves(violation: jsonschema.ValidationError) -> list[jsonschema.ValidationError]:
    """Return what is wrong inside a value that may be one of several kinds, by the kind that it was meant to be."""
    branches: dict[object, list[jsonschema.ValidationError]] = {}
    for inner in violation.context or ():
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    if not branches:
        return [violation]
    meant = min(branches.values(), key=lambda inners: (any(map(_is_another_kind, inners)), len(inners)))
    return [leaf for inner in meant for leaf in _leaves(inner)]


def _is_another_kind(inner: jsonschema.ValidationError) -> bool:
    """Say whether a value is not even of the type, or has not the tag, of the kind that it is held against."""
    path = list(inner.relative_path)
    return (not path and inner.validator == "type") or path == ["type"]


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema.generate(Sample))


def tally(counts: Counter[str], names: Sequence[str]) -> int:
    """Count names, and return how many were not: of more than MOST_NAMES, no other one is."""
    if len(counts) < MOST_NAMES:
        counts.update(names)
        return 0
    known = [name for name in names if name in counts]
    counts.update(known)
    return len(names) - len(known)


def side(width: int, height: int) -> str:
    """Return the class of sizes that a picture is of."""
    longest = max(width, height)
    return next((f"< {limit}" for limit in (128, 256, 512, 1024, 2048, 4096) if longest < limit), ">= 4096")


def close(state: Audit, ledger: Ledger | None) -> Report:
    """Return what was found; the account is that of a conversion, where there was one."""
    account = Account(
        subject=state.subject,
        kind=state.kind,
        records=ledger.records if ledger else 0,
        samples=ledger.samples if ledger else 0,
        skipped=ledger.skipped if ledger else {},
        quarantined=ledger.quarantined if ledger else {},
        objects=ledger.objects_read if ledger else state.counts["objects"],
        images=ledger.images if ledger else 0,
        licenses={name: count for name, count in state.licenses.items() if count},
        labels=dict(state.labels.most_common()),
        classes=dict(state.classes.most_common()),
        further_labels=state.further_labels,
        sides=dict(state.sides),
        root=state.root,
        checked={**state.checked, "subject": 1},
        budgets=state.budgets,
        units=ledger.units if ledger else 0,
        objects_dropped=ledger.objects_dropped if ledger else {},
        objects_fixed=ledger.objects_fixed if ledger else {},
        versions=state.versions,
        statistics=state.described,
    )
    return Report(
        accounts=[account], findings=state.findings, checked=dict(state.checked), shapes=state.shapes.of
    )
