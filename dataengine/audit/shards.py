"""A shard set: the digests of all bytes, every sample and picture, and the account against the manifests."""

from __future__ import annotations

from pathlib import Path

from dataengine import ledger as ledgers
from dataengine.audit.pictures import check_picture
from dataengine.audit.rule import Hit
from dataengine.audit.state import Audit, Progress, Report, close
from dataengine.errors import ShardError, UsageError
from dataengine.index import Index
from dataengine.store import StoreSettings, Url
from dataengine.verify import verify


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
                state.add("shard.damaged", Hit(str(error)), place="sample", key=row["id"])
                continue
            if row["id"] in ids:
                state.add("id.duplicate", Hit(f"sample {row['id']}"), place="sample", key=row["id"])
            ids.add(row["id"])
            for image, data in zip(sample.images if sample else (), pictures, strict=False):
                state.picture(image.path, _in_tar(check_picture(data, image.path)))
            progress(1, "")
    finally:
        pool.close()
    return close(state, ledgers.add([source.ledger for source in index.set.sources]))


def _in_tar(found: list[tuple[str, Hit]]) -> list[tuple[str, Hit]]:
    """Return the hits that a picture in a tar can have: there its name says its format, whatever the source called it.

    Pictures that were made smaller, or got marks, may be of another format than the source's file.
    """
    return [(rule, hit) for rule, hit in found if rule != "image.format_vs_extension"]
