"""A converted split: its account, its samples, its quarantine, its pictures, and the source again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from dataengine import ledger as ledgers
from dataengine import manifest as manifests
from dataengine.annotation import Annotation, Measure
from dataengine.audit.gallery import Gallery, Source
from dataengine.audit.pictures import Pictures, check_pictures
from dataengine.audit.rule import Hit
from dataengine.audit.state import Audit, Progress, Report, close
from dataengine.conventions import PictureSizes
from dataengine.errors import DataEngineError, SourceError, SpecError
from dataengine.files import Root
from dataengine.ledger import Ledger
from dataengine.manifest import Manifest
from dataengine.sample import measure_of
from dataengine.source import items_of
from dataengine.spec import Resolved
from dataengine.spill import Kept, Named


def audit_manifest(
    directory: Path, workers: int, progress: Progress, known: Pictures, gallery: Gallery
) -> Report:
    """Audit one converted split: its account, its samples, its quarantine, its pictures, and the source again."""
    manifest = manifests.load(directory)
    ledger = ledgers.load(directory / manifests.LEDGER)
    spec = msgspec.convert(manifest.spec, Resolved)
    state = Audit(
        manifest.name,
        manifest.root,
        manifest.labels,
        spec.budgets(),
        spec.lang(manifest.split),
        kind="manifest",
    )
    state.checked["unit"] = ledger.units
    state.versions = {"spec": f"{manifest.spec_path} {manifest.spec_hash}", "reader": manifest.reader}
    _check_account(state, directory, manifest, ledger)
    gallery.open(
        Source(subject=manifest.name, name=manifest.name, dataset=manifest.dataset, use=manifest.use)
    )
    try:
        gallery.spaces.link(Path(manifest.root))
    except SourceError as error:
        state.add("schema", Hit(str(error)), place="subject")
    ids = Named()
    pictures: Kept[str, Measure | None] = Kept(str, Measure | None)
    for data in manifests.read_encoded(directory):
        sample = state.sample(data)
        progress(1, "")
        if sample is None:
            continue
        ids.add(sample.id)
        for number, image in enumerate(sample.images):
            pictures[image.path] = measure_of(sample, number) or pictures.get(image.path)
        if len(sample.images) > 1 and spec.gather is None:
            gallery.together(manifest.root, [image.path for image in sample.images])
    for (sample_id, *_), _ in ids.again():
        state.add("id.duplicate", Hit(f"sample {sample_id}"), place="sample", key=sample_id)
    for row in manifests.read_lost(directory):
        if row["outcome"] == "quarantined":
            state.add(
                row["reason"],
                Hit(row["detail"]),
                place="unit",
                key=row["key"],
                file=row["file"],
                record=row["record"],
            )
    if Path(manifest.root).is_dir():
        _reread(state, manifest, progress)
        check_pictures(state, manifest.root, pictures, workers, progress, known, gallery)
    else:
        for path in pictures:
            gallery.add(manifest.root, path)
    return close(state, ledger)


def _check_account(state: Audit, directory: Path, manifest: Manifest, ledger: Ledger) -> None:
    try:
        ledger.check(manifest.name)
    except DataEngineError as error:
        state.add("ledger.unbalanced", Hit(str(error)), place="subject")
    stored = manifests.num_samples(directory)
    if stored != ledger.samples:
        state.add(
            "ledger.unbalanced",
            Hit(f"{stored} samples on disk, {ledger.samples} in the ledger"),
            place="subject",
        )
    lost = int(pq.read_metadata(directory / manifests.QUARANTINE).num_rows)
    accounted = sum(ledger.skipped.values()) + sum(ledger.quarantined.values())
    if lost != accounted:
        state.add(
            "ledger.unbalanced", Hit(f"{lost} lost units on disk, {accounted} in the ledger"), place="subject"
        )
    if manifest.limit is None:
        for what, expected, found in (
            ("records", manifest.records_expected, ledger.records),
            ("images", manifest.images_expected, ledger.images),
        ):
            if expected is not None and expected != found:
                state.add(
                    "count.expected", Hit(f"{found} {what}, the spec states {expected}"), place="subject"
                )


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
        state.add("schema", Hit(f"the source cannot be read again: {error}"), place="subject")
    state.whole()
