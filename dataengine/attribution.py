"""Whose work shards are made of: `ATTRIBUTION.md` for people and `attribution.json` for machines, beside the tars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from dataengine import licenses
from dataengine import manifest as manifests
from dataengine.errors import SourceError
from dataengine.index import ShardSet, ShardSource
from dataengine.licenses import Terms, pictures_of

JSON, PAGE = "attribution.json", "ATTRIBUTION.md"
VERSION = 1
_UNCOUNTED = "the set was made by an older version; 'dataengine shard' with all manifests counts them"


class Counts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Samples by license: of their annotations, and of their pictures.

    A sample with pictures under several licenses counts under each, so that `pictures` may add up to more.
    """

    annotations: dict[str, int]
    pictures: dict[str, int]


class SourceTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One split in the shards; `counts` is None where nobody knows. `of` is a digest of what was counted."""

    name: str
    samples: int
    of: str
    counts: Counts | None


class DatasetTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One dataset in the shards, as its spec presents it; texts are empty where the spec states none."""

    dataset: str
    title: str
    homepage: str
    citation: str
    sources: tuple[SourceTerms, ...]


class Attribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All datasets of a set, by id."""

    version: int
    datasets: tuple[DatasetTerms, ...]


def load(out: Path) -> Attribution | None:
    """Return what stands beside a set, None where there is none: older versions wrote none, and a damaged one counts as
    none, since it is made anew."""
    try:
        found = msgspec.json.decode((out / JSON).read_bytes(), type=Attribution)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.version == VERSION else None


def gather(
    out: Path,
    made: ShardSet,
    folders: Mapping[str, Path],
    known: Mapping[str, Counts] | None = None,
) -> Attribution:
    """Return the attribution of a set that is about to stand in `out`.

    `folders` are manifests by source. What was counted before is not counted again; a source whose manifest is in
    neither `folders` nor its old place is counted from `known`, and else not at all.
    """
    old = load(out)
    before = {one.name: one for dataset in (old.datasets if old else ()) for one in dataset.sources}
    gone: dict[str, set[str]] = {}
    for one in made.dropped:
        gone.setdefault(one.source, set()).add(one.id)
    by_dataset: dict[str, list[SourceTerms]] = {}
    for entry in made.sources:
        missing = gone.get(entry.name, set())
        digest = _digest(entry, missing)
        counts = (known or {}).get(entry.name)
        if counts is None and (held := before.get(entry.name)) is not None and held.of == digest:
            counts = held.counts
        if counts is None and (folder := _folder(out, entry, folders)) is not None:
            counts = count(folder, missing)
        found = SourceTerms(name=entry.name, samples=entry.samples, of=digest, counts=counts)
        by_dataset.setdefault(entry.dataset, []).append(found)
    specs = {spec["dataset"]["id"]: spec["dataset"] for spec in made.specs.values()}
    return Attribution(
        version=VERSION,
        datasets=tuple(
            _dataset(name, specs.get(name, {}), sources) for name, sources in sorted(by_dataset.items())
        ),
    )


def _dataset(name: str, spec: Mapping[str, Any], sources: Iterable[SourceTerms]) -> DatasetTerms:
    return DatasetTerms(
        dataset=name,
        title=spec.get("title", ""),
        homepage=spec.get("homepage", ""),
        citation=spec.get("citation", ""),
        sources=tuple(sorted(sources, key=lambda one: one.name)),
    )


def _digest(entry: ShardSource, missing: Collection[str]) -> str:
    content = msgspec.json.encode((VERSION, entry.fingerprint, entry.samples, sorted(missing)))
    return xxhash.xxh3_128_hexdigest(content)


def _folder(out: Path, entry: ShardSource, folders: Mapping[str, Path]) -> Path | None:
    """Return the manifest of a source, None where it is gone or was converted again since."""
    if entry.name in folders:
        return folders[entry.name]
    try:
        path = (out / entry.manifest).resolve()
        return path if entry.manifest and manifests.load(path).fingerprint == entry.fingerprint else None
    except SourceError:
        return None


def count(directory: Path, missing: Collection[str]) -> Counts:
    """Count the samples of a manifest by license, but those that are missing from the shards."""
    stated = manifests.load(directory).spec["dataset"]["license"]["images"]
    samples = map(licenses.decode, manifests.read_encoded(directory))
    return add(
        Counter(
            (one.license.annotations, pictures_of(one, stated)) for one in samples if one.id not in missing
        )
    )


def add(kinds: Mapping[tuple[str, tuple[str, ...]], int]) -> Counts:
    """Return the counts of samples by their licenses: of the annotations, and of the pictures, each once."""
    annotations, pictures = Counter[str](), Counter[str]()
    for (license_id, shown), number in kinds.items():
        annotations[license_id] += number
        pictures.update(dict.fromkeys(shown, number))
    return Counts(annotations=dict(sorted(annotations.items())), pictures=dict(sorted(pictures.items())))


def files(attribution: Attribution, terms: Terms | None = None) -> dict[str, bytes]:
    """Return both files by name: the same for the same set, wherever it lies."""
    data = msgspec.json.format(msgspec.json.encode(attribution), indent=1) + b"\n"
    return {JSON: data, PAGE: "".join(f"{line}\n" for line in _page(attribution, terms)).encode()}


def _page(attribution: Attribution, terms: Terms | None) -> Iterator[str]:
    terms = terms or licenses.load()
    yield "# Attribution"
    yield ""
    yield "Whose work these shards are made of, and under which terms; `dataengine shard` writes this file anew."
    yield "Numbers count samples. A sample counts under every license that one of its pictures has. What the owners"
    yield "of single pictures are called does not stand in samples: `dataengine trace` leads to the source's record."
    for dataset in attribution.datasets:
        yield ""
        yield from _section(dataset, terms)


def _section(dataset: DatasetTerms, terms: Terms) -> Iterator[str]:
    title = _text(dataset.title or dataset.dataset)
    yield f"## {title} (`{dataset.dataset}`)"
    yield ""
    yield f"- homepage: {_text(dataset.homepage) or 'none is stated'}"
    yield f"- citation: {_text(dataset.citation) or 'none is stated'}"
    for source in dataset.sources:
        yield f"- {source.samples} samples of `{source.name}`"
    uncounted = sum(one.samples for one in dataset.sources if one.counts is None)
    if uncounted:
        yield f"- **the licenses of {uncounted} samples are not known: {_UNCOUNTED}**"
    annotations, pictures = total(dataset)
    for part, counts in (("annotations", annotations), ("pictures", pictures)):
        if missing := sum(number for name, number in counts.items() if terms.states_none(name)):
            yield f"- **no license is stated for the {part} of {missing} samples**"
    if not annotations:
        return
    yield ""
    yield "| license | annotations of | pictures of | commercial use | name the owner | same license | changes |"
    yield "| --- | ---: | ---: | --- | --- | --- | --- |"
    for name in sorted(annotations | pictures):
        found = terms.find(name)
        says = (
            [found.commercial, found.attribution, found.share_alike, found.derivatives]
            if found is not None
            else ["unknown"] * 4
        )
        cells = [_text(name) or "none", str(annotations[name]), str(pictures[name]), *says]
        yield f"| {' | '.join(cells)} |"


def total(dataset: DatasetTerms) -> tuple[Counter[str], Counter[str]]:
    """Return a dataset's samples by license: of annotations, and of pictures."""
    counted = [one.counts for one in dataset.sources if one.counts is not None]
    return (
        sum((Counter(one.annotations) for one in counted), Counter[str]()),
        sum((Counter(one.pictures) for one in counted), Counter[str]()),
    )


def _text(text: str) -> str:
    """Return text of others in one line that means nothing in Markdown: it may come from a source's records."""
    line = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "\\|`*_[]<>#" else sign for sign in line)
