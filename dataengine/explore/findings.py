"""The findings of an audit, by the samples that they are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dataengine.errors import SourceError
from dataengine.explore.parts import Part, among, image_hash, record_hash
from dataengine.explore.sets import Collection, Groups, Recent, id_hash
from dataengine.sample import Sample

ISSUES = "issues.parquet"
# What a finding is about: a sample by its id, an annotation by its place in the source, a picture, or none of them.
_SAMPLE, _RECORD, _IMAGE, _WHOLE = range(4)
_NEEDED = ("rule", "subject", "key", "file", "record", "image")
_SHOWN = ("rule", "severity", "subject", "key", "file", "record", "detail", "image", "box")
MOST_SHOWN = 200  # of one sample
_Hashes = npt.NDArray[np.uint64]
_About = tuple[_Hashes, _Hashes, _Hashes]  # samples, annotations and pictures


class Findings:
    """All findings of a report, as numbers: 29 bytes each, sorted by what they are about.

    `rules` counts them by rule. `whole` are those about no single sample, but about a subject. Raises SourceError.
    """

    def __init__(self, report: Path, collection: Collection) -> None:
        path = report / ISSUES
        if not path.is_file():
            raise SourceError(f"{path}: no such file; expected the --report folder of 'dataengine audit'")
        self._table = Groups(path)
        names = self._table.metadata.schema.to_arrow_schema().names
        if lost := sorted({*_NEEDED} - {*names}):
            raise SourceError(f"{path}: has no column {lost[0]!r}; run 'dataengine audit --report' again")
        self._columns = tuple(name for name in _SHOWN if name in names)
        self._rule_codes: dict[str, int] = {}
        self._subject_codes: dict[str, int] = {}
        self._of_rules = Recent(self._chosen, 4)
        ids = np.unique(collection.ids)
        columns = [self._columns_of(rows, ids) for rows in self._rows(path)] or [self._columns_of([], ids)]
        kinds, hashes, rules, subjects = map(np.concatenate, zip(*columns, strict=True))
        self._kinds, self._hashes = kinds, hashes
        order = np.lexsort((self._hashes, self._kinds))
        self._kinds, self._hashes = self._kinds[order], self._hashes[order]
        self._rule, self._subject = rules[order], subjects[order]
        self._number = order
        self.rules = Counter(dict.fromkeys(self._rule_codes, 0))
        counted = np.bincount(self._rule, minlength=len(self._rule_codes)).tolist()
        self.rules.update(dict(zip(self._rule_codes, counted, strict=True)))

    def _columns_of(self, rows: list[dict[str, Any]], ids: _Hashes) -> tuple[npt.NDArray[Any], ...]:
        """Return what some findings are about (kind and hash), and their rules and subjects as numbers."""
        keys = np.array([id_hash(row["key"] or "") for row in rows], np.uint64)
        about = [
            _about(row, key, known)
            for row, key, known in zip(rows, keys.tolist(), among(keys, ids).tolist(), strict=True)
        ]
        rules, subjects = self._rule_codes, self._subject_codes
        return (
            np.array([kind for kind, _ in about], np.uint8),
            np.array([value for _, value in about], np.uint64),
            np.array([rules.setdefault(row["rule"], len(rules)) for row in rows], np.int32),
            np.array([subjects.setdefault(row["subject"], len(subjects)) for row in rows], np.int32),
        )

    def __len__(self) -> int:
        return len(self._number)

    @staticmethod
    def _rows(path: Path) -> Iterator[list[dict[str, Any]]]:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(1 << 14, columns=list(_NEEDED), use_threads=False):
                    yield batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise SourceError(
                f"{path}: cannot be read: {error}; run 'dataengine audit --report' again"
            ) from error

    @property
    def whole(self) -> list[dict[str, Any]]:
        """The first findings about whole subjects."""
        return [self._shown(number) for number in self._number[self._kinds == _WHOLE][:MOST_SHOWN].tolist()]

    @property
    def num_whole(self) -> int:
        """How many findings are about whole subjects."""
        return int((self._kinds == _WHOLE).sum())

    def _shown(self, number: int) -> dict[str, Any]:
        return self._table.row(number, self._columns)

    def _subjects(self, collection: Collection, row: int) -> list[int]:
        """Return the subjects that a row belongs to: its split, and its set of shards."""
        one, _ = collection.locate(row)
        return [
            code
            for name, code in self._subject_codes.items()
            if name == collection.source(row).name or _same(name, one.subject, one.place)
        ]

    def of_sample(self, collection: Collection, row: int, sample: Sample) -> list[dict[str, Any]]:
        """Return what an audit found in a sample, its annotation or its pictures."""
        wanted = [
            (_SAMPLE, id_hash(sample.id)),
            (_RECORD, record_hash(sample.origin.file, sample.origin.record)),
        ]
        wanted += [(_IMAGE, image_hash(image.path)) for image in sample.images]
        subjects = self._subjects(collection, row)
        numbers: list[int] = []
        for kind, value in dict.fromkeys(wanted):
            first, last = np.searchsorted(self._kinds, (kind, kind + 1))
            some = self._hashes[first:last]
            low, high = (
                first + int(np.searchsorted(some, np.uint64(value), side)) for side in ("left", "right")
            )
            numbers += self._number[low:high][np.isin(self._subject[low:high], subjects)].tolist()
        return [self._shown(number) for number in sorted(numbers)[:MOST_SHOWN]]

    def mask(self, collection: Collection, part: Part, rules: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """Say which rows of a part have a finding of some rules, bool [rows]."""
        one, _ = collection.locate(part.first)
        sources = collection.codes[part.first : part.stop]
        found = np.zeros(len(sources), bool)
        for subject, (ids, records, images) in self._of_rules(rules).items():
            numbers = [n for n, source in enumerate(collection.sources) if source.name == subject]
            within = np.isin(sources, numbers) | _same(subject, one.subject, one.place)
            if not within.any():
                continue
            about = among(collection.ids[part.first : part.stop], ids)
            if len(records):
                about |= part.of_records(records)
            if len(images):
                about |= part.of_images(images)
            found |= about & within
        return found

    def _chosen(self, rules: tuple[str, ...]) -> dict[str, _About]:
        """Return what the findings of some rules are about, by subject."""
        of_rules = np.isin(self._rule, [self._rule_codes[rule] for rule in rules if rule in self._rule_codes])
        found = {}
        for subject, code in self._subject_codes.items():
            hit = of_rules & (self._subject == code)
            if hit.any():
                ids, records, images = (
                    self._hashes[hit & (self._kinds == kind)] for kind in (_SAMPLE, _RECORD, _IMAGE)
                )
                found[subject] = (ids, records, images)
        return found


def _about(row: dict[str, Any], key: int, is_sample: bool) -> tuple[int, int]:
    if is_sample:
        return _SAMPLE, key
    if row["file"] or row["record"]:
        return _RECORD, record_hash(row["file"] or "", row["record"] or "")
    if row["image"]:
        return _IMAGE, image_hash(row["image"])
    return _WHOLE, 0


def _same(subject: str, name: str, place: Path) -> bool:
    """Say whether an audit's subject is all of a table: its name, or the folder that it lies in."""
    return subject == name or ("/" in subject and Path(subject).resolve() == place.resolve())
