"""Croissant metadata of a shard set: `croissant.json` beside the tars (MLCommons Croissant 1.0, a form of JSON-LD).

Its files have their SHA-256. Record set `index` has a record for each row of index.parquet; `samples` and `pictures`
give the bytes of the members. A field inside a sample's JSON is no field of a record set: mlcroissant 1.1 does not read
JSON paths of members of an archive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from dataengine.errors import ShardError
from dataengine.files import write_atomic
from dataengine.index import INDEX, INDEX_SCHEMA, SHARDS, Index
from dataengine.write import EXTENSIONS

CROISSANT = "croissant.json"
Progress = Callable[[int, str], None]
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
            "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
}  # fmt: skip
_ENCODINGS = {".tar": "application/x-tar", ".parquet": "application/x-parquet", ".json": "application/json"}
_SAMPLES = "The samples as JSON; the name up to the first dot is the key in the index."
_PICTURES = "The pictures; the name up to the first dot is the key of their sample."


def dump(index: Index, progress: Progress = lambda count, text: None) -> Path:
    """Write croissant.json into the folder of a set and return its path; every byte of the set is read once."""
    path = _folder(index) / CROISSANT
    document = metadata(index, progress)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    return path


def _folder(index: Index) -> Path:
    if not isinstance(index.directory, Path):
        raise ShardError(
            f"{index.directory}: is no folder of this machine, expected one to write into; copy it"
        )
    return index.directory


def metadata(index: Index, progress: Progress = lambda count, text: None) -> dict[str, Any]:
    """Return the metadata of a set as plain JSON-LD. Raises ShardError where a file cannot be read."""
    found = index.set
    specs = [spec["dataset"] for spec in found.specs.values()]
    datasets = sorted({source.dataset for source in found.sources})
    tasks = sorted({source.task for source in found.sources})
    counts = ", ".join(f"{source.name} ({source.use}): {source.samples}" for source in found.sources)
    titles = _distinct(spec["title"] for spec in specs) or datasets
    licenses = _distinct(
        f"{spec['title']}: {part} {spec['license'][part]}"
        for spec in specs
        for part in ("annotations", "images")
    )
    cited = _distinct(spec["citation"] for spec in specs if spec["citation"])
    homepages = _distinct(spec["homepage"] for spec in specs if spec["homepage"])
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "_".join(datasets)[:200],
        "description": f"Instruction samples of {'; '.join(titles)}. Tasks: {', '.join(tasks)}. Samples: {counts}.",
        **({"license": licenses} if licenses else {}),
        **({"citeAs": "\n\n".join(cited)} if cited else {}),
        **({"url": homepages[0], "isBasedOn": homepages} if homepages else {}),
        "keywords": tasks,
        "version": "1.0.0",
        "distribution": _distribution(index, progress),
        "recordSet": [
            _index_records(),
            _bytes("samples", "sample-files", "sc:Text", _SAMPLES),
            _bytes("pictures", "picture-files", "sc:ImageObject", _PICTURES),
        ],
    }


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(values))


def _distribution(index: Index, progress: Progress) -> list[dict[str, Any]]:
    tars = [file.name for file in index.set.shards]
    files = []
    for name, samples in [(INDEX, 0), (SHARDS, 0), *[(file.name, file.samples) for file in index.set.shards]]:
        files.append(_file(_folder(index) / name))
        progress(samples, name)
    pictures = [f"*.{extension}" for extension in EXTENSIONS.values()]
    return [
        *files,
        _members("sample-files", tars, ["*.json"], "application/json"),
        _members("picture-files", tars, pictures, "image/*"),
    ]


def _file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ShardError(f"{path}: {error.strerror}; run 'dataengine shard' to finish the set") from error
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _ENCODINGS[path.suffix],
        "sha256": digest,
    }


def _members(name: str, tars: Sequence[str], patterns: Sequence[str], encoding: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "containedIn": [{"@id": tar} for tar in tars],
        "encodingFormat": encoding,
        "includes": list(patterns),
    }


def _index_records() -> dict[str, Any]:
    fields = []
    for column in INDEX_SCHEMA:
        repeated = pa.types.is_list(column.type)
        kind = column.type.value_type if repeated else column.type
        field = {
            "@type": "cr:Field",
            "@id": f"index/{column.name}",
            "name": column.name,
            "dataType": "sc:Integer" if pa.types.is_integer(kind) else "sc:Text",
            "source": {"fileObject": {"@id": INDEX}, "extract": {"column": column.name}},
        }
        fields.append({**field, "repeated": True} if repeated else field)
    return {
        "@type": "cr:RecordSet",
        "@id": "index",
        "name": "index",
        "description": "Where each sample lies: offsets and sizes are bytes in its shard.",
        "key": {"@id": "index/key"},
        "field": fields,
    }


def _bytes(name: str, files: str, kind: str, says: str) -> dict[str, Any]:
    """Return a record set of whole files: their names in the tars, and what they hold."""
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{field}",
            "name": field,
            "dataType": data_type,
            "source": {"fileSet": {"@id": files}, "extract": {"fileProperty": part}},
        }
        for field, data_type, part in (("name", "sc:Text", "filename"), ("content", kind, "content"))
    ]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": says, "field": fields}
