from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest

import dataengine
from dataengine import schema
from dataengine.catalog import Catalog
from dataengine.errors import SpecError
from dataengine.remote import Fetch, RemoteFile, is_address
from dataengine.spec import DatasetFile, load_dataset

if TYPE_CHECKING:
    from tests.conftest import Tiny

FILE = {"url": "https://example.org/a/b.zip"}


def declare(tiny: Tiny, **fetch: Any) -> Path:
    tiny.spec.write_text(f"{tiny.spec.read_text()}fetch: {json.dumps(fetch)}\n")
    return tiny.spec


def test_a_file_lies_under_the_last_part_of_its_address() -> None:
    assert RemoteFile(url="https://example.org/a/b%20c.zip?download=1").target == "b c.zip"
    assert RemoteFile(url="https://example.org/a/b.zip", path="x/y.zip").target == "x/y.zip"


@pytest.mark.parametrize(
    ("fetch", "says"),
    [
        ({}, ":13: fetch: says nothing, expected files, hub or manual"),
        ({"file": [FILE]}, "unknown key 'file'; did you mean 'files'?"),
        ({"files": [{**FILE, "sha1": "x"}]}, "unknown key 'sha1'"),
        ({"files": [{"url": "file:///etc/passwd"}]}, "expected an address that begins with http:// or https://"),
        ({"files": [{"url": "https://example.org/"}]}, "path: '', expected a path below the root"),
        ({"files": [{**FILE, "path": "../b"}]}, "path: '../b', expected a path below the root"),
        ({"files": [{**FILE, "path": "/b"}]}, "expected a path below the root"),
        ({"files": [{**FILE, "path": "C:\\\\b"}]}, "expected a path below the root"),
        ({"files": [{**FILE, "path": ".fetch/b"}]}, "lies among the records of fetch"),
        ({"files": [{**FILE, "into": "x"}]}, "into: stands without unpack"),
        ({"files": [{**FILE, "unpack": "zip", "into": "../x"}]}, "into: '../x', expected a path below the root"),
        ({"files": [{**FILE, "unpack": "rar"}]}, "invalid enum value 'rar'"),
        ({"files": [{**FILE, "sha256": "ABC"}]}, "matching regex"),
        ({"files": [{**FILE, "size_bytes": -1}]}, "expected `int` >= 0".replace("`", "'")),
        ({"files": [FILE, FILE]}, "two come to lie at 'b.zip'"),
        ({"files": [{**FILE, "splits": ["vall"]}]}, "fetch.files.0.splits: no split 'vall'; did you mean 'val'?"),
        ({"hub": [{"repo": "name"}]}, "matching regex"),
        ({"hub": [{"repo": "a/b", "splits": ["x"]}]}, "fetch.hub.0.splits: no split 'x'; known: train, val"),
        ({"manual": [{"do": "ask"}]}, "missing key 'url'"),
        ({"manual": [{"do": "ask", "url": "example.org"}]}, "expected an address"),
        ({"manual": [{"do": "ask", "url": "https://example.org", "paths": ["/x"]}]}, "paths: '/x'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_file(tiny: Tiny, fetch: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_dataset(declare(tiny, **fetch))

    text = str(caught.value)
    assert text.startswith(f"{tiny.spec}:")
    assert says in text
    assert "\n" not in text


def test_what_is_declared_is_shown_and_changes_no_sample(tiny: Tiny) -> None:
    before = Catalog().find(str(tiny.spec))[0]
    declare(tiny, files=[{**FILE, "splits": ["val"]}])
    after = Catalog().find(str(tiny.spec))[0]

    assert before.hash() == after.hash()
    assert json.loads(msgspec.json.encode(after))["dataset"]["fetch"] == {
        "files": [{**FILE, "splits": ["val"]}]
    }


def test_the_published_schema_knows_what_may_be_declared() -> None:
    check = jsonschema.Draft202012Validator(
        schema.generate(DatasetFile)["$defs"]["Fetch"] | {"$defs": schema.generate(DatasetFile)["$defs"]}
    )

    assert check.is_valid({"files": [{**FILE, "unpack": "zip", "sha256": "0" * 64}]})
    assert not check.is_valid({"files": [{**FILE, "sha256": "0"}]})
    assert not check.is_valid({"files": [{**FILE, "unpack": "rar"}]})
    assert not check.is_valid({"folders": []})


@pytest.mark.parametrize(
    "text",
    ["file:///a", "//example.org/a", "ftp://example.org", "http:///a", "https://a b/c", "x", "http://[a"],
)
def test_what_is_no_address_of_the_web(text: str) -> None:
    assert not is_address(text)


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, anywhere in it."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_five_modules_use_the_network_and_no_other() -> None:
    clients = (
        "requests",
        "urllib3",
        "urllib.request",
        "httpx",
        "http",
        "socket",
        "ftplib",
        "aiohttp",
        "fsspec",
        "huggingface_hub",
    )
    top = Path(dataengine.__file__).parent.parent
    users = {
        path.relative_to(top).as_posix()
        for folder in ("dataengine", "converters")
        for path in (top / folder).rglob("*.py")
        if any(f"{name}.".startswith(f"{client}.") for name in imported(path) for client in clients)
    }

    # Fetching files; shards at a URL; whether the address of a cluster answers; pages for a browser on this machine.
    assert users == {
        "dataengine/download.py",
        "dataengine/hub.py",
        "dataengine/store.py",
        "dataengine/runners/ray.py",
        "dataengine/explore/server.py",
    }


# Words of a license, and homes of datasets, that tell of a form or an account.
FORM = ("form", "request", "login", "registration", "agreement")
HOMES = (
    "kaggle.com", "grand-challenge.org", "image-net.org", "bdd100k.com", "cityscapes-dataset.com", "mapillary.com",
    "wilddash.cc", "xview2.org", "posetrack.net", "rrc.cvc.uab.es", "mvtec.com", "ai.meta.com",
)  # fmt: skip


def test_datasets_behind_a_form_say_what_to_do() -> None:
    catalog = Catalog()
    silent = []
    for path in catalog.dataset_files.values():
        dataset = catalog.dataset(path)
        terms = f"{dataset.license.annotations} {dataset.license.images}".lower()
        asks = any(word in terms for word in FORM) and not (dataset.fetch and dataset.fetch.manual)
        if asks or (any(home in dataset.homepage for home in HOMES) and dataset.fetch is None):
            silent.append(dataset.id)
    assert silent == []


def test_the_example_of_the_documentation_is_one() -> None:
    text = (Path(dataengine.__file__).parent.parent / "docs" / "fetch.md").read_text(encoding="utf-8")
    block = text.split("```yaml\n", 1)[1].split("```", 1)[0]

    found = msgspec.yaml.decode(block, type=dict[str, Fetch])["fetch"]

    assert found.kinds() == ["files", "hub", "manual"]
    assert found.files[1].target == "annotations/list.json"


def test_addresses_that_nobody_tried_are_named_so() -> None:
    catalog = Catalog()
    declared = {d.id: d for d in map(catalog.dataset, catalog.dataset_files.values()) if d.fetch}
    brought = [d.id for d in declared.values() if d.fetch and (d.fetch.files or d.fetch.hub)]

    assert len(brought) >= 40
    assert [d.id for d in declared.values() if "fetch" not in d.unverified] == []
    assert all(isinstance(d.fetch, Fetch) for d in declared.values())
