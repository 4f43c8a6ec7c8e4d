"""Run the rules over whatever a path holds and keep the account of what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pyarrow.parquet as pq

from dataengine import ledger as ledgers
from dataengine import manifest as manifests
from dataengine import sample as samples
from dataengine import schema
from dataengine.annotation import Annotation, Box, Rejected
from dataengine.audit.rules import ANNOTATION_RULES, UNKNOWN_LICENSES, Hit, image_rules, rule_of, sample_rules
from dataengine.conventions import Evidence, PictureSizes, Sizes
from dataengine.errors import DataEngineError, Quarantine, ShardError, SourceError, SpecError, UsageError
from dataengine.files import Root
from dataengine.images import decode, probe
from dataengine.index import SHARDS, Index
from dataengine.ledger import Ledger
from dataengine.manifest import Manifest
from dataengine.modules import Reader, load_reader
from dataengine.runners import run
from dataengine.sample import Sample
from dataengine.source import items_of, named
from dataengine.spec import Resolved
from dataengine.store import StoreSettings, Url
from dataengine.units import SKIP_REASONS
from dataengine.verify import verify

Progress = Callable[[int, str], None]
Pictures = dict[tuple[str, str], list[tuple[str, Hit]]]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One broken rule at one place. `subject` is the split, shard set or file that was audited."""

    rule: str
    severity: str
    subject: str
    key: str
    file: str
    record: str
    detail: str
    image: str = ""
    box: Box | None = None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What one audited subject holds."""

    subject: str
    records: int
    samples: int = 0
    skipped: dict[str, int] = {}
    quarantined: dict[str, int] = {}
    objects: int = 0
    images: int = 0
    licenses: dict[str, int] = {}
    labels: dict[str, int] = {}
    sides: dict[str, int] = {}
    root: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The findings of an audit, and how many places each rule looked at."""

    accounts: list[Account]
    findings: list[Finding]
    checked: dict[str, int]


class Audit:
    """Collects findings and counts while an audit runs."""

    def __init__(self, subject: str, root: str = "") -> None:
        self.subject = subject
        self.root = root
        self.findings: list[Finding] = []
        self.checked: Counter[str] = Counter()
        self.licenses: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.sides: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.evidence = Evidence()

    def add(
        self, rule_id: str, hit: Hit, *, key: str = "", file: str = "", record: str = "", image: str = ""
    ) -> None:
        """Note one hit."""
        self.findings.append(
            Finding(
                rule=rule_id,
                severity=rule_of(rule_id).severity,
                subject=self.subject,
                key=key,
                file=file,
                record=record,
                detail=hit.detail,
                image=image,
                box=hit.box,
            )
        )

    def annotation(self, item: Annotation, sizes: Sizes) -> None:
        """Look at one annotation."""
        self.checked["annotation"] += 1
        self.counts["objects"] += len(item.instances)
        self.labels.update(one.category for one in item.instances if one.category and not one.crowd)
        if item.key in self.seen:
            self.add(
                "id.duplicate",
                Hit(f"key {item.key!r}"),
                key=item.key,
                file=item.origin.file,
                record=item.origin.record,
            )
        self.seen.add(item.key)
        ids = Counter(one.id for one in item.instances)
        for one_id, count in ids.items():
            if count > 1:
                self.add("id.duplicate", Hit(f"instance {one_id} stands {count} times"), key=item.key,
                         file=item.origin.file, record=item.origin.record)  # fmt: skip
        self.evidence.add(item, sizes)
        for check in ANNOTATION_RULES:
            for rule_id, hit in check(item, sizes):
                image = item.images[hit.image].path if hit.image < len(item.images) else ""
                self.add(
                    rule_id, hit, key=item.key, file=item.origin.file, record=item.origin.record, image=image
                )

    def sample(self, data: bytes) -> Sample | None:
        """Look at one encoded sample; a broken one is explained in full by its JSON Schema."""
        self.checked["sample"] += 1
        try:
            sample = samples.decode(data)
        except msgspec.DecodeError as error:
            for line in explain(data) or [str(error)]:
                self.add("schema", Hit(line))
            return None
        self.licenses[sample.license.images] += 1
        self.sides.update(_side(image.width, image.height) for image in sample.images)
        for rule_id, hit in sample_rules(sample):
            image = sample.images[hit.image].path if hit.image < len(sample.images) else ""
            self.add(
                rule_id, hit, key=sample.id, file=sample.origin.file, record=sample.origin.record, image=image
            )
        return sample

    def picture(self, path: str, found: list[tuple[str, Hit]]) -> None:
        """Note what a picture's bytes showed."""
        self.checked["picture"] += 1
        for rule_id, hit in found:
            self.add(rule_id, hit, image=path)

    def conventions(self) -> None:
        """Close the evidence over all boxes and keypoints."""
        for rule_id, line in self.evidence.verdicts():
            self.add(rule_id, Hit(line))


def explain(data: bytes) -> list[str]:
    """Return every violation of the sample schema as `path: what is wrong` (Draft 2020-12)."""
    try:
        value = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        return [f"not JSON: {error}"]
    validator = jsonschema.Draft202012Validator(schema.generate(Sample))
    found = []
    for violation in validator.iter_errors(value):
        deepest = jsonschema.exceptions.best_match([violation])
        found.append(f"{deepest.json_path}: {deepest.message[:200]}")
    return sorted(found)


def _side(width: int, height: int) -> str:
    longest = max(width, height)
    return next((f"< {limit}" for limit in (128, 256, 512, 1024, 2048, 4096) if longest < limit), ">= 4096")


def check_picture(data: bytes, path: str) -> list[tuple[str, Hit]]:
    """Decode a picture whole and return what is wrong with it."""
    try:
        found = list(image_rules(path, probe(data)))
        decode(data)
    except Quarantine as error:
        return [(error.reason, Hit(f"{path}: {error.detail}"))]
    return found


def _check_file(root_dir: str, path: str) -> tuple[str, list[tuple[str, Hit]]]:
    try:
        return path, check_picture(Root(Path(root_dir)).inside(path).read_bytes(), path)
    except Quarantine as error:
        return path, [(error.reason, Hit(f"{path}: {error.detail}"))]
    except OSError as error:
        return path, [("image.missing", Hit(f"{path}: {error.strerror}"))]


def audit(
    paths: Iterable[Path | Url],
    *,
    format_name: str | None = None,
    root: Path | None = None,
    options: dict[str, str] | None = None,
    workers: int = 1,
    store: StoreSettings | None = None,
    progress: Progress = lambda count, text: None,
) -> Report:
    """Audit manifests, shard sets, or foreign annotation files of a format; `store` says how a URL's shards are read.

    Raises SourceError, SpecError or UsageError, and StoreError for a URL that cannot be read.
    """
    reports = []
    # Several tasks show the same pictures: each is decoded once.
    pictures: Pictures = {}
    for path in paths:
        if isinstance(path, Url):
            reports.append(audit_shards(path, progress, store))
        elif format_name is not None:
            reports.append(audit_foreign(path, format_name, root, options or {}, workers, progress))
        elif (path / SHARDS).is_file():
            reports.append(audit_shards(path, progress))
        elif path.is_dir():
            reports += [audit_manifest(one, workers, progress, pictures) for one in manifests.find(path)]
        else:
            raise UsageError(
                f"{path}: neither a folder of manifests nor of shards; name its layout with --format"
            )
    checked = sum((Counter(report.checked) for report in reports), Counter[str]())
    return Report(
        accounts=[account for report in reports for account in report.accounts],
        findings=[finding for report in reports for finding in report.findings],
        checked=dict(checked),
    )


def audit_manifest(directory: Path, workers: int, progress: Progress, known: Pictures) -> Report:
    """Audit one converted split: its account, its samples, its quarantine, its pictures, and the source again."""
    manifest = manifests.load(directory)
    ledger = ledgers.load(directory / manifests.LEDGER)
    state = Audit(manifest.name, manifest.root)
    _check_account(state, directory, manifest, ledger)
    ids: set[str] = set()
    pictures: dict[str, None] = {}
    for data in manifests.read_encoded(directory):
        sample = state.sample(data)
        progress(1, "")
        if sample is None:
            continue
        if sample.id in ids:
            state.add("id.duplicate", Hit(f"sample {sample.id}"), key=sample.id)
        ids.add(sample.id)
        pictures.update(dict.fromkeys(image.path for image in sample.images))
    for row in pq.read_table(directory / manifests.QUARANTINE).to_pylist():
        if row["outcome"] == "quarantined":
            state.add(
                row["reason"], Hit(row["detail"]), key=row["key"], file=row["file"], record=row["record"]
            )
    if Path(manifest.root).is_dir():
        _reread(state, manifest, progress)
        _pictures(state, manifest.root, list(pictures), workers, progress, known)
    return _close(state, ledger)


def _check_account(state: Audit, directory: Path, manifest: Manifest, ledger: Ledger) -> None:
    try:
        ledger.check(manifest.name)
    except DataEngineError as error:
        state.add("ledger.unbalanced", Hit(str(error)))
    stored = manifests.num_samples(directory)
    if stored != ledger.samples:
        state.add("ledger.unbalanced", Hit(f"{stored} samples on disk, {ledger.samples} in the ledger"))
    lost = int(pq.read_metadata(directory / manifests.QUARANTINE).num_rows)
    accounted = sum(ledger.skipped.values()) + sum(ledger.quarantined.values())
    if lost != accounted:
        state.add("ledger.unbalanced", Hit(f"{lost} lost units on disk, {accounted} in the ledger"))
    if manifest.limit is None:
        for what, expected, found in (
            ("records", manifest.records_expected, ledger.records),
            ("images", manifest.images_expected, ledger.images),
        ):
            if expected is not None and expected != found:
                state.add("count.expected", Hit(f"{found} {what}, the spec states {expected}"))


def _reread(state: Audit, manifest: Manifest, progress: Progress) -> None:
    """Look at the source once more: what conversion mended or dropped inside samples shows only there."""
    spec = msgspec.convert(manifest.spec, Resolved)
    sizes = PictureSizes(Path(manifest.root))
    try:
        for item in items_of(spec, manifest.split, Root(Path(manifest.root)), manifest.limit):
            if isinstance(item, Annotation):
                state.annotation(item, sizes.of(item))
            progress(1, "")
    except (SourceError, SpecError) as error:
        state.add("schema", Hit(f"the source cannot be read again: {error}"))
    state.conventions()


def _pictures(
    state: Audit, root: str, paths: list[str], workers: int, progress: Progress, known: Pictures
) -> None:
    unseen = [path for path in paths if (root, path) not in known]
    for path, found in run(partial(_check_file, root), unseen, runner="local", workers=workers):
        known[root, path] = found
        progress(1, "")
    for path in paths:
        state.picture(path, known[root, path])


def audit_shards(directory: Path | Url, progress: Progress, store: StoreSettings | None = None) -> Report:
    """Audit a shard set: digests of all bytes, every sample, every picture, and the account against the manifests.

    Shards at a URL are read from whole copies, whose digests are checked when they come; without a folder for these,
    in `store`, raises UsageError.
    """
    if isinstance(directory, Url) and (store is None or store.cache_dir is None):
        raise UsageError(f"{directory}: an audit reads whole shards; give --cache-dir and --cache-bytes")
    state = Audit(str(directory))
    index = Index(directory, store)
    for line in verify(directory) if isinstance(directory, Path) else ():
        state.add("shard.damaged", Hit(line))
    for source in index.set.sources:
        dropped = sum(one.id.startswith(f"{source.dataset}/{source.split}/") and one.id.endswith(f"#{source.task}")
                      for one in index.set.dropped)  # fmt: skip
        if source.samples + dropped != source.ledger.samples:
            state.add(
                "ledger.unbalanced",
                Hit(
                    f"{source.name}: {source.samples} in shards and {dropped} dropped,"
                    f" manifest has {source.ledger.samples}"
                ),
            )
    pool = index.open()
    ids: set[str] = set()
    try:
        for number in range(len(index)):
            row = index.row(number)
            name = f"{row['shard']}.tar"
            try:
                sample = state.sample(pool.read(name, row["json_offset"], row["json_size"]))
                pictures = [
                    pool.read(name, offset, size)
                    for offset, size in zip(row["image_offsets"], row["image_sizes"], strict=True)
                ]
            except ShardError as error:
                state.add("shard.damaged", Hit(str(error)), key=row["id"])
                continue
            if row["id"] in ids:
                state.add("id.duplicate", Hit(f"sample {row['id']}"), key=row["id"])
            ids.add(row["id"])
            for image, data in zip(sample.images if sample else (), pictures, strict=False):
                state.picture(image.path, _in_tar(check_picture(data, image.path)))
            progress(1, "")
    finally:
        pool.close()
    return _close(state, ledgers.add([source.ledger for source in index.set.sources]))


def _in_tar(found: list[tuple[str, Hit]]) -> list[tuple[str, Hit]]:
    """Return the hits that a picture in a tar can have: there its name says its format, whatever the source called it.

    Pictures that were made smaller, or got marks, may be of another format than the source's file.
    """
    return [(rule, hit) for rule, hit in found if rule != "image.format_vs_extension"]


def foreign_source(reader: Reader, format_name: str, file: Path, root: Path, options: dict[str, str]) -> Any:
    """Return the reader's Source for one file: its first required key takes the file, `options` the others.

    A list or a mapping is written as JSON.
    """
    fields = msgspec.structs.fields(reader.Source)
    required = [field.encode_name for field in fields if field.required and field.encode_name not in options]
    values: dict[str, Any] = {key: _value(text) for key, text in options.items()}
    if required:
        values[required[0]] = file.relative_to(root).as_posix()
    try:
        return msgspec.convert(values, reader.Source, strict=False)
    except msgspec.ValidationError as error:
        raise SpecError(
            f"format {format_name!r}: {error}; give the missing keys with --source KEY=VALUE"
        ) from error


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text) if text[:1] in ("[", "{") else text
    except msgspec.DecodeError:
        return text


def audit_foreign(
    path: Path, format_name: str, root: Path | None, options: dict[str, str], workers: int, progress: Progress
) -> Report:
    """Audit an annotation file that nobody has converted; pictures are looked at where `root` is given."""
    reader = load_reader(format_name, "--format")
    folder = root or (path if path.is_dir() else path.parent)
    if not path.exists():
        raise SourceError(f"{path}: no such file")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{path}: lies outside {folder}; --root must be a folder that holds it")
    source = foreign_source(reader, format_name, path.resolve(), folder.resolve(), options)
    state = Audit(str(path), str(folder))
    pictures: dict[str, None] = {}
    quarantined: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    stated = 0
    sizes = PictureSizes(root)
    for item in map(named, reader.read(source, Root(folder.resolve()))):
        state.counts["records"] += 1
        if isinstance(item, Rejected):
            (skipped if item.reason in SKIP_REASONS else quarantined)[item.reason] += 1
            if item.reason not in SKIP_REASONS:
                state.add(
                    item.reason,
                    Hit(item.detail),
                    key=item.key,
                    file=item.origin.file,
                    record=item.origin.record,
                )
        else:
            state.annotation(item, sizes.of(item))
            pictures.update(dict.fromkeys(image.path for image in item.images))
            for image in item.images:
                known = (image.license or "").strip().lower() not in UNKNOWN_LICENSES
                state.licenses[image.license if known and image.license else "none stated"] += 1
                stated += known
                if image.width and image.height:
                    state.sides[_side(image.width, image.height)] += 1
        progress(1, "")
    state.conventions()
    if missing := state.licenses["none stated"]:
        state.add("license.missing", Hit(f"{missing} of {missing + stated} pictures have no license"))
    if root is not None:
        _pictures(state, str(root), list(pictures), workers, progress, {})
    account = _close(state, None)
    first = msgspec.structs.replace(
        account.accounts[0],
        records=state.counts["records"],
        skipped=dict(skipped),
        quarantined=dict(quarantined),
        images=len(pictures),
    )
    return msgspec.structs.replace(account, accounts=[first])


def _close(state: Audit, ledger: Ledger | None) -> Report:
    account = Account(
        subject=state.subject,
        records=ledger.records if ledger else 0,
        samples=ledger.samples if ledger else 0,
        skipped=ledger.skipped if ledger else {},
        quarantined=ledger.quarantined if ledger else {},
        objects=ledger.objects_read if ledger else state.counts["objects"],
        images=ledger.images if ledger else 0,
        licenses=dict(state.licenses),
        labels=dict(state.labels.most_common()),
        sides=dict(state.sides),
        root=state.root,
    )
    return Report(accounts=[account], findings=state.findings, checked=dict(state.checked))


def rates(report: Report) -> list[tuple[str, str, str, int, int]]:
    """Return (rule, severity, action, hits, subjects hit) for every rule with hits, the most frequent first."""
    hits = Counter(finding.rule for finding in report.findings)
    subjects = {rule: len({f.subject for f in report.findings if f.rule == rule}) for rule in hits}
    return [
        (rule, rule_of(rule).severity, rule_of(rule).action, count, subjects[rule])
        for rule, count in sorted(hits.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def examples(report: Report, rule: str, count: int) -> Iterator[Finding]:
    """Yield the first findings of a rule that can be shown on a picture."""
    shown = 0
    for finding in report.findings:
        if finding.rule == rule and finding.image and shown < count:
            shown += 1
            yield finding
