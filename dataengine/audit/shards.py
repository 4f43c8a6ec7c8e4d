"""A shard set: the digests of all bytes, every sample and picture, and the account against the manifests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xxhash

from dataengine import ledger as ledgers
from dataengine import sample as samples
from dataengine.audit.gallery import Gallery, Source
from dataengine.audit.pictures import check_picture, duplicates
from dataengine.audit.rule import Hit
from dataengine.audit.state import Audit, Progress, Report, close
from dataengine.cache import Cache
from dataengine.errors import ShardError, UsageError
from dataengine.index import Index
from dataengine.leaks.look import pixels_digest
from dataengine.perceptual import Print
from dataengine.pool import Pool
from dataengine.ranges import Ranges
from dataengine.sample import Sample, measure_of
from dataengine.spill import Named, Rows
from dataengine.store import StoreSettings, Url
from dataengine.verify import verify

# A sample has fewer pictures.
_PLACE_BITS = 20


def audit_shards(
    directory: Path | Url, progress: Progress, gallery: Gallery, store: StoreSettings | None = None
) -> Report:
    """Audit a shard set: digests of all bytes, every sample, every picture, and the account against the manifests.

    Shards at a URL are read from whole copies, whose digests are checked when they come; without a folder for these,
    in `store`, raises UsageError.
    """
    if isinstance(directory, Url) and (store is None or store.cache_dir is None):
        raise UsageError(f"{directory}: an audit reads whole shards; give --cache-dir and --cache-bytes")
    state = Audit(str(directory), kind="shard set")
    index = Index(directory, store)
    state.versions = {
        f"spec of {one.name}": f"{one.dataset}/{one.task} {one.spec_hash}" for one in index.set.sources
    }
    for line in verify(directory) if isinstance(directory, Path) else ():
        state.add("shard.damaged", Hit(line), place="subject")
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
                place="subject",
            )
    pool = index.open()
    ids = Named()
    shown = _Shown()
    sources = {
        one.name: Source(subject=str(directory), name=one.name, dataset=one.dataset, use=one.use)
        for one in index.set.sources
    }
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
                state.add("shard.damaged", Hit(str(error)), place="sample", key=row["id"])
                continue
            ids.add(row["id"])
            if sample is not None:
                gallery.open(sources[row["source"]])
                folder = f"{directory}\0{sample.dataset}"
                if len(sample.images) > 1 and not _gathers(index, sample):
                    gallery.together(folder, [image.path for image in sample.images])
                for place, (image, data) in enumerate(zip(sample.images, pictures, strict=False)):
                    looked = check_picture(data, image.path, measure_of(sample, place))
                    state.picture(image.path, _in_tar(looked.found), key=row["id"])
                    shown.add(f"{sample.dataset}/{image.path}", looked.coarse, number, place)
                    gallery.add(folder, image.path, looked.digest or 0, Print(looked.low, looked.high))
            progress(1, "")
        for (sample_id, *_), _ in ids.again():
            state.add("id.duplicate", Hit(f"sample {sample_id}"), place="sample", key=sample_id)
        _find_duplicates(state, index, pool, shown, gallery)
    finally:
        pool.close()
    return close(state, ledgers.add([source.ledger for source in index.set.sources]))


class _Shown:
    """Which picture stands where: the hash of its name, its digest, and its place."""

    def __init__(self) -> None:
        self._rows = Rows(3)

    def add(self, name: str, digest: int, row: int, place: int) -> None:
        """Note the picture at a place of a sample, by the row of its index."""
        self._rows.add((xxhash.xxh3_64_intdigest(name.encode()), digest, row << _PLACE_BITS | place))

    def coarse(self) -> Rows:
        """Return (digest, place) of each picture where it is shown first."""
        found = Rows(2)
        for table in self._rows.groups():
            first = np.unique(table[:, 0], return_index=True)[1]
            found.add(table[first, 1:].ravel().tolist())
        return found


def _find_duplicates(
    state: Audit, index: Index, pool: Pool | Ranges | Cache, shown: _Shown, gallery: Gallery
) -> None:
    def read(where: int) -> tuple[Sample, str, bytes]:
        number, place = where >> _PLACE_BITS, where & ((1 << _PLACE_BITS) - 1)
        row = index.row(number)
        sample = samples.decode(pool.read(f"{row['shard']}.tar", row["json_offset"], row["json_size"]))
        data = pool.read(f"{row['shard']}.tar", row["image_offsets"][place], row["image_sizes"][place])
        return sample, sample.images[place].path, data

    for where, earlier in duplicates(shown.coarse(), lambda where: pixels_digest(read(where)[2])):
        sample, path, _ = read(where)
        first, other, _ = read(earlier)
        state.add(
            "image.duplicate_exact",
            Hit(f"{path}: has the pixels of {other}" + (f" of {first.dataset}" if other == path else "")),
            place="picture",
            key=sample.id,
            image=path,
            other_image=other,
        )
        gallery.copy(f"{index.directory}\0{sample.dataset}", path)


def _gathers(index: Index, sample: Sample) -> bool:
    """Say whether a sample shows others of its split as examples: these were not taken together."""
    spec = index.set.specs.get(f"{sample.dataset}/{sample.task}")
    return spec is not None and bool(spec["dataset"]["tasks"][sample.task].get("gather"))


def _in_tar(found: list[tuple[str, Hit]]) -> list[tuple[str, Hit]]:
    """Return the hits that a picture in a tar can have: there its name says its format, whatever the source called it.

    Pictures that were made smaller, or got marks, may be of another format than the source's file.
    """
    return [(rule, hit) for rule, hit in found if rule != "image.format_vs_extension"]
