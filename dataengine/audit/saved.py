"""Folders of Hugging Face datasets: what `save_to_disk` wrote, repositories of Parquet files, pictures with metadata.

Read with pyarrow alone, as the files lie: nothing is copied to a cache, and nothing is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dataengine.annotation import Label, LabelSpace, Rejected
from dataengine.audit.gallery import Gallery, Source
from dataengine.audit.guess import use_of
from dataengine.audit.loose import Loose, Picture, Seen, Shown, audit_loose
from dataengine.audit.policy import is_known
from dataengine.audit.rule import Hit
from dataengine.audit.state import Audit, Progress, Report
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root
from dataengine.images import probe
from dataengine.listing import PICTURE_ENDINGS
from dataengine.records.tables import Table, read_rows
from dataengine.spill import Kept

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# The name of a split in the name of a file or folder, as `datasets` finds it.
_SPLIT = re.compile(
    r"(?:^|[/._ -])(train|training|validation|valid|val|dev|test|testing|eval|evaluation)(?=$|[/._ -]|[0-9])"
)
# A column of bytes that holds pictures, whether they can be read or not.
_PICTURE = re.compile(r"image|img|picture|photo|jpe?g|png")


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset says of itself: its features, how many rows each split has, its license."""

    features: dict[str, Any] = {}
    rows: dict[str, int] = {}
    license: str = ""


class Split(NamedTuple):
    """A split: its name, the tables that hold it, relative to the root, and what is said of it."""

    name: str
    tables: tuple[Table, ...]
    said: Described


class Saved(NamedTuple):
    """A dataset in a folder: its splits, and by what it was recognised."""

    splits: list[Split]
    why: str
    has_metadata: bool = False


def saved_in(folder: Path) -> Saved | None:
    """Return the dataset that a folder is, None where it is none. Raises SourceError where it is one that is broken."""
    for ask in (_saved_to_disk, _parquet_files, _pictures_with_metadata):
        found = ask(folder)
        if found is not None:
            return found
    return None


def _saved_to_disk(folder: Path) -> Saved | None:
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        names, why = {"all": "."}, "state.json: a dataset that save_to_disk wrote"
    elif (folder / "dataset_dict.json").is_file():
        try:
            listed = msgspec.json.decode(
                (folder / "dataset_dict.json").read_bytes(), type=dict[str, list[str]]
            )
        except (OSError, msgspec.DecodeError) as error:
            raise SourceError(
                f"{folder / 'dataset_dict.json'}: {error}; expected the names of splits"
            ) from error
        names = {name: name for name in listed.get("splits", [])}
        why = f"dataset_dict.json: {len(names)} splits that save_to_disk wrote"
    else:
        return None
    splits = []
    for name, place in names.items():
        said = _info(folder / place / "dataset_info.json")
        shown = name if name != "all" or len(said.rows) != 1 else next(iter(said.rows))
        splits.append(Split(shown, (Table(path=place, kind="hf"),), said))
    return Saved(splits, why)


def _info(path: Path) -> Described:
    """Return what dataset_info.json says."""
    try:
        info = msgspec.json.decode(path.read_bytes())
        splits = info.get("splits") or {}
        return Described(
            features=info.get("features") or {},
            rows={name: one["num_examples"] for name, one in splits.items()},
            license=str(info.get("license") or ""),
        )
    except (OSError, msgspec.DecodeError, AttributeError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: {error}; expected what save_to_disk wrote") from error


def _parquet_files(folder: Path) -> Saved | None:
    files = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet") if path.is_file()
    )
    files = [file for file in files if PurePosixPath(file).name not in _METADATA and not file.startswith(".")]
    if not files:
        return None
    card = _card(folder / "README.md")
    features = _schema_features(folder / files[0])
    if not features and not card.keys() & {"dataset_info", "configs"}:
        return None
    infos = card.get("dataset_info") or {}
    described = {str(one.get("config_name", "")): _described(one, card) for one in _listed(infos)}
    named = (
        bool(described) and "README.md: dataset_info"
    ) or f"{files[0]}: features of a Hugging Face dataset"
    splits = []
    for config, split, paths in _tables(card, files):
        said = described.get(config) or (
            next(iter(described.values())) if len(described) == 1 else Described()
        )
        own = _schema_features(folder / paths[0])
        if own:
            said = msgspec.structs.replace(said, features=own)
        name = f"{config}/{split}" if config and len(described) > 1 else split
        splits.append(Split(name, tuple(Table(path=path, kind="parquet") for path in paths), said))
    return Saved(splits, f"{named}, {len(files)} Parquet files")


def _listed(value: Any) -> list[dict[str, Any]]:
    """Return the mappings of a list of them, or one alone."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, dict) and one]


def _card(path: Path) -> dict[str, Any]:
    """Return the YAML at the beginning of a README, nothing where there is none. Raises SourceError."""
    try:
        parts = path.read_text(encoding="utf-8").split("---\n", 2)
    except (OSError, UnicodeDecodeError):
        return {}
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        value = yaml.safe_load(parts[1])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise SourceError(
            f"{path}: {said[:200]}; expected YAML between the first two lines of ---"
        ) from error
    return value if isinstance(value, dict) else {}


def _described(info: dict[str, Any], card: dict[str, Any]) -> Described:
    """Return what a `dataset_info` of a README says; of its features only the names of classes matter."""
    features = {}
    for one in _listed(info.get("features")):
        dtype = one.get("dtype")
        if isinstance(dtype, dict) and isinstance(label := dtype.get("class_label"), dict):
            names = label.get("names")
            listed = list(names.values()) if isinstance(names, dict) else names
            features[str(one.get("name"))] = {"_type": "ClassLabel", "names": listed}
    rows = {
        str(one["name"]): one["num_examples"]
        for one in _listed(info.get("splits"))
        if "name" in one and isinstance(one.get("num_examples"), int)
    }
    license_id = card.get("license")
    return Described(features=features, rows=rows, license=license_id if isinstance(license_id, str) else "")


def _schema_features(path: Path) -> dict[str, Any]:
    """Return the features that `datasets` writes into a Parquet file, none where it is another's."""
    try:
        metadata = pq.read_schema(path).metadata or {}
        found = msgspec.json.decode(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except (pa.ArrowException, OSError, msgspec.DecodeError, AttributeError):
        return {}  # said where its rows are read
    return found if isinstance(found, dict) else {}


def _tables(card: dict[str, Any], files: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (config, split, files): as the README says, else by the names of files."""
    stated = False
    for config in _listed(card.get("configs")):
        for entry in _data_files(config.get("data_files")):
            patterns = entry["path"] if isinstance(entry["path"], list) else [entry["path"]]
            found = [file for file in files if any(fnmatch(file, str(pattern)) for pattern in patterns)]
            if found:
                stated = True
                yield str(config.get("config_name", "")), str(entry.get("split", "train")), found
    if stated:
        return
    by_name: dict[str, list[str]] = {}
    for file in files:
        by_name.setdefault(split_in(file) or "train", []).append(file)
    for name, found in by_name.items():
        yield "", name, found


def _data_files(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"split": "train", "path": value}]
    return [one for one in _listed(value) if "path" in one]


def split_in(file: str) -> str:
    """Return the split that the name of a file tells, "" where it tells none."""
    found = _SPLIT.search(file.lower())
    return found[1] if found else ""


def _pictures_with_metadata(folder: Path) -> Saved | None:
    files = sorted(
        path.relative_to(folder).as_posix()
        for name in _METADATA
        for path in folder.rglob(name)
        if path.is_file()
    )
    by_split: dict[str, list[str]] = {}
    for file in files:
        by_split.setdefault(split_in(PurePosixPath(file).parent.as_posix()) or "train", []).append(file)
    if not files or not any(map(_names_files, (folder / file for file in files))):
        return None
    said = Described(license=str(_card(folder / "README.md").get("license") or ""))
    splits = [
        Split(name, tuple(Table(path=path, kind=Path(path).suffix[1:]) for path in found), said)  # type: ignore[arg-type]
        for name, found in by_split.items()
    ]
    return Saved(splits, f"{files[0]}: pictures by file_name", has_metadata=True)


def _names_files(path: Path) -> bool:
    """Say whether a table of metadata names the files of pictures."""
    try:
        if path.suffix == ".parquet":
            return any("file_name" in name for name in pq.read_schema(path).names)
        with path.open("rb") as file:
            return b"file_name" in file.readline(1 << 20)
    except (OSError, pa.ArrowException):
        return False


def audit_saved(
    folder: Path, saved: Saved, workers: int, progress: Progress, gallery: Gallery
) -> list[Report]:
    """Audit each split of a dataset, with its pictures in the gallery. Raises SourceError."""
    root, shown = Root(folder), Shown()
    states: dict[str, Audit] = {}
    reports = []
    named: Kept[str, bool] = Kept(str, bool)
    for split in saved.splits:
        classes = _classes(split.said.features)
        label_space = next(iter(classes.values()), None)
        labels = [Label(name=name) for name in dict.fromkeys(label_space or ())]
        state = Audit(
            f"{folder}/{split.name}",
            str(folder),
            LabelSpace(id="features", labels=tuple(labels)) if labels else None,
            kind="dataset",
        )
        states[state.subject] = state
        items = _items(split, classes, root, named if saved.has_metadata else None)
        name = f"{folder}/{split.name}"
        gallery.open(Source(subject=name, name=name, dataset=str(folder), use=use_of(split.name)))
        report = audit_loose(state, items, str(folder), workers, progress, shown, gallery)
        _note_counts(state, split, report)
        reports.append(report)
    if saved.has_metadata and reports:
        for path in _left_out(folder, named):
            hit = Hit(f"{path}: no row of metadata names it")
            states[reports[0].accounts[0].subject].add("sample.left_out", hit, place="picture", image=path)
    for one, first in shown.again():
        _note_again(states, one, first)
    return reports


def _note_counts(state: Audit, split: Split, report: Report) -> None:
    account = report.accounts[0]
    expected = split.said.rows.get(split.name.rpartition("/")[2])
    if expected is not None and expected != account.records:
        hit = Hit(f"{account.records} rows, the dataset states {expected}")
        state.add("count.expected", hit, place="subject")
    if account.images and not is_known(split.said.license):
        hit = Hit(f"{account.images} of {account.images} pictures have no license")
        state.add("license.missing", hit, place="subject")


def _note_again(states: dict[str, Audit], one: Seen, first: Seen) -> None:
    """Note a picture whose bytes came before by another name, in a split for the same use."""
    uses = {use_of(seen.split.rpartition("/")[2]) for seen in (one, first)}
    if one.own_name != first.own_name and len(uses) == 1:
        says = f"{one.path}: has the bytes of {first.path}"
        states[one.split].add("image.duplicate_exact", Hit(says), place="picture", image=one.path)


def _classes(features: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the names of classes by the columns of numbers that stand for them, inner ones with their path."""
    found: dict[str, tuple[str, ...]] = {}
    for name, feature in features.items():
        if isinstance(feature, list):
            feature = feature[0] if feature else {}
        if not isinstance(feature, dict):
            continue
        if feature.get("_type") == "ClassLabel":
            found[name] = tuple(map(str, feature.get("names") or ()))
        else:
            inner = feature.get("feature", feature)
            inner = {name: inner} if "_type" in inner and "feature" in feature else inner
            found |= {f"{name}.{key}": names for key, names in _classes(inner).items()}
    return found


def _items(
    split: Split, classes: dict[str, tuple[str, ...]], root: Root, named: Kept[str, bool] | None
) -> Iterator[Loose | Rejected]:
    inner = next((names for name, names in classes.items() if "." in name), ())
    for table in split.tables:
        for row in read_rows(table, root, "table.path", _columns(root, table)):
            if isinstance(row, Rejected):
                yield row
                continue
            before = f"{split.name}/{row.place}"
            pictures: list[Picture] = []
            cells: dict[str, Any] = {}
            for name, value in row.cells.items():
                if named is not None and (name.endswith(("file_name", "file_names"))):
                    pictures += _files(row.file, value)
                elif found := _pictures(f"{before}/{name}", value):
                    pictures += found
                else:
                    cells[name] = value
            if named is not None:
                for picture in pictures:
                    named[picture.path] = True
            labels = tuple(
                names[value] if 0 <= value < len(names) else f"class {value}"
                for name, names in classes.items()
                if type(value := cells.get(name)) is int and value != -1
            )
            # Numbers of rows begin anew in each file.
            yield Loose(
                f"{row.file} {row.place}", row.file, row.place, cells, tuple(pictures), labels[:1], inner
            )


def _columns(root: Root, table: Table) -> frozenset[str]:
    """Return the names of all columns of a table that is stored by columns. Raises SourceError."""
    path = root.annotation(table.path, "table.path")
    try:
        if table.kind == "parquet":
            return frozenset(pq.read_schema(path).names)
        if table.kind == "hf":
            first = sorted(path.glob("*.arrow"))[:1]
            for file in first:
                with pa.memory_map(str(file)) as stream, pa.ipc.open_stream(stream) as reader:
                    return frozenset(reader.schema.names)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: {str(error).splitlines()[0]}; expected a table of a dataset") from error
    return frozenset()


def _pictures(before: str, value: Any) -> list[Picture]:
    """Return the pictures of a cell, as the feature Image stores them or as bytes; none where it holds others."""
    values = value if isinstance(value, list) else [value]
    if values and all(isinstance(one, bytes) for one in values):
        named = _PICTURE.search(before.rpartition("/")[2].lower())
        values = [{"bytes": one, "path": None} for one in values if named or is_picture(one)]
    if not values or not all(isinstance(one, dict) and one.keys() == {"bytes", "path"} for one in values):
        return []
    found = []
    for number, one in enumerate(values):
        data, path = one["bytes"], one["path"]
        if data is not None:
            place = f"{before}/{number}" if number else before
            found.append(Picture(f"{place}/{PurePosixPath(path).name}" if path else place, data, path or ""))
        elif path is not None:
            found.append(Picture(path, own_name=path))
    return found


def is_picture(data: bytes) -> bool:
    """Say whether some bytes begin as a picture does."""
    try:
        probe(data)
    except Quarantine:
        return False
    return True


def _files(metadata: str, value: Any) -> list[Picture]:
    folder = PurePosixPath(metadata).parent
    values = value if isinstance(value, list) else [value]
    return [Picture((folder / one).as_posix(), own_name=one) for one in values if isinstance(one, str)]


def _left_out(folder: Path, named: Kept[str, bool]) -> Iterator[str]:
    """Yield the pictures of a folder that no row names."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.suffix.lower() in PICTURE_ENDINGS and named.get(relative) is None and path.is_file():
            yield relative
