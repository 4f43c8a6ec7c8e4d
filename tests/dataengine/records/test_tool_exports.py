"""The examples of docs/records.md for exports of annotation tools, on exports in the tools' own layouts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from converters.formats.records import Source, read
from dataengine import yaml12
from dataengine.annotation import Annotation
from dataengine.files import Root

PAGE = Path(__file__).parents[3] / "docs" / "records.md"
BOXES = [("cat", (10.0, 20.0, 40.0, 60.0)), ("dog", (0.0, 0.0, 100.0, 50.0))]

CREATEML = [
    {
        "image": "a.jpg",
        "annotations": [
            {"label": "cat", "coordinates": {"x": 25, "y": 40, "width": 30, "height": 40}},
            {"label": "dog", "coordinates": {"x": 50, "y": 25, "width": 100, "height": 50}},
        ],
    }
]


def _studio(label: str, x: float, y: float, width: float, height: float) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label]}
    return {"type": "rectanglelabels", "value": value, "original_width": 100, "original_height": 200}


LABEL_STUDIO = [
    {
        "id": 7,
        "data": {"image": "/data/upload/1/a.jpg"},
        "annotations": [
            {
                "result": [
                    _studio("cat", 10, 10, 30, 20),
                    {"type": "choices", "value": {"choices": ["blurred"]}},
                    _studio("dog", 0, 0, 100, 25),
                ]
            }
        ],
    }
]


def _vott(label: str, left: float, top: float, width: float, height: float) -> dict[str, Any]:
    box = {"left": left, "top": top, "width": width, "height": height}
    return {"id": label, "type": "RECTANGLE", "tags": [label, "second"], "boundingBox": box}


VOTT = {
    "name": "project",
    "assets": {
        "f00": {
            "asset": {"id": "f00", "name": "a.jpg", "size": {"width": 100, "height": 200}},
            "regions": [_vott("cat", 10, 20, 30, 40), _vott("dog", 0, 0, 100, 50)],
        }
    },
}


def _example(named: str, folder: Path) -> dict[str, Any]:
    """Return the source that stands behind the name of a tool."""
    section = PAGE.read_text(encoding="utf-8").partition("## Exports of annotation tools")[2]
    found = re.search(rf"{named}:.*?```yaml\n(.*?)```", section, re.DOTALL)
    assert found is not None
    (folder / "example.yaml").write_text(found[1], encoding="utf-8")
    source: dict[str, Any] = yaml12.load(folder / "example.yaml")["source"]
    return source


@pytest.mark.parametrize(
    ("tool", "export", "images"),
    [
        ("CreateML", CREATEML, "train"),
        ("Label Studio", LABEL_STUDIO, "images"),
        ("VoTT", VOTT, "vott-json-export"),
    ],
)
def test_an_export_is_read_by_the_example_of_the_docs(
    tmp_path: Path, tool: str, export: Any, images: str
) -> None:
    declared = _example(tool, tmp_path)
    declared.pop("format")
    declared.pop("splits")
    source = msgspec.convert(declared, Source)
    for folder in (images, str(Path(source.table.path).parent)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / source.table.path).write_text(json.dumps(export))
    Image.new("RGB", (100, 200)).save(tmp_path / images / "a.jpg")

    (found,) = read(source, Root(tmp_path))

    assert isinstance(found, Annotation)
    assert (tmp_path / found.images[0].path).is_file()
    assert [(item.category, item.box) for item in found.instances] == BOXES
