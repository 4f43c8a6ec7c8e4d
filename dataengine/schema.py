"""The published JSON Schemas (Draft 2020-12), generated from the types and kept in the repository."""

from __future__ import annotations

import importlib.resources
import inspect
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from dataengine.annotation import LabelSpace
from dataengine.index import ShardSet
from dataengine.ledger import Ledger
from dataengine.pipeline import Pipelines
from dataengine.prompts import PromptBank
from dataengine.sample import Sample
from dataengine.spec import DatasetFile
from dataengine.task import TaskSpec

PUBLISHED: dict[str, Any] = {
    "sample": Sample,
    "dataset": DatasetFile,
    "task": TaskSpec,
    "prompts": PromptBank,
    "labels": LabelSpace,
    "pipelines": Pipelines,
    "shards": ShardSet,
    "ledger": Ledger,
}


def generate(kind: Any) -> dict[str, Any]:
    """Return the JSON Schema of a type."""
    schema = _dedented(msgspec.json.schema(kind))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _dedented(node: Any) -> Any:
    """Return a schema whose descriptions have no indent: msgspec before 0.23 keeps that of the docstring."""
    match node:
        case dict():
            return {
                key: inspect.cleandoc(value)
                if key == "description" and isinstance(value, str)
                else _dedented(value)
                for key, value in node.items()
            }
        case list():
            return [_dedented(value) for value in node]
    return node


@cache
def digest(kind: Any) -> str:
    """Return a digest of a type's schema: it changes when the shape of what is written does."""
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(generate(kind), order="sorted"))


def encode(kind: Any) -> bytes:
    """Return the schema as the file that is published."""
    return msgspec.json.format(msgspec.json.encode(generate(kind), order="sorted"), indent=2) + b"\n"


def folder() -> Path:
    """Return where the published schemas lie."""
    return Path(str(importlib.resources.files("dataengine"))) / "schemas"
