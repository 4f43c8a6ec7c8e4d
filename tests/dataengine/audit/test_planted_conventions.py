"""Data of a wrong convention, written by every writer of boxes and keypoints, and found out by audit and conversion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import PIL.Image
import pytest
from click.testing import CliRunner

from dataengine.annotation import Annotation, Expression, Image, Instance, Label, LabelSpace, Origin
from dataengine.audit.run import audit
from dataengine.cli import group
from dataengine.modules import load_writer

WIDTH, HEIGHT = 200, 150
# Corners of objects all over a picture, some of them at its borders.
OBJECTS = [(x, y, x + 30 + x % 7, y + 25 + y % 5) for x in (0, 31, 90, 160) for y in (0, 20, 77, 120)]
NAMES = {"crowdhuman": "person", "wider_face": "face", "visdrone": "car", "kitti": "Car"}
WRITERS = (
    "coco_instances", "crowdhuman", "kitti", "labelme", "lvis", "mot", "openimages_csv", "records_csv", "records_jsonl",
    "records_parquet", "refcoco", "visdrone", "voc_xml", "wider_face", "yolo",
)  # fmt: skip
Change = Callable[..., tuple[float, ...]]
PLANTED: dict[str, tuple[Change, str]] = {
    "corners as sizes": (
        lambda x0, y0, x1, y1: (x0, y0, x0 + x1, y0 + y1),
        "corners, read as width and height",
    ),
    "sizes as corners": (
        lambda x0, y0, x1, y1: (x0, y0, x1 - x0, y1 - y0),
        "width and height, read as corners",
    ),
    "fractions": (
        lambda x0, y0, x1, y1: (x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT),
        "are they fractions",
    ),
    "from 1": (lambda x0, y0, x1, y1: (x0 + 1, y0 + 1, x1, y1), "count pixels from 1"),
    "swapped": (lambda x0, y0, x1, y1: (y0, x0, y1, x1), "x and y are swapped"),
}
# What the layout itself rules out, or what its reader may not tell from the right thing.
OPEN = {
    ("labelme", "sizes as corners"): "a rectangle is any two opposite corners",
    ("openimages_csv", "corners as sizes"): "shares beyond a side are rejected, each for itself",
    ("openimages_csv", "swapped"): "shares beyond a side are rejected, each for itself",
    ("openimages_csv", "from 1"): "shares of a side are no whole numbers",
    ("yolo", "from 1"): "shares of a side are no whole numbers",
}


def written(folder: Path, writer: str, change: Change, points: Change | None = None) -> dict[str, Any]:
    """Write two pictures with all objects, changed, in a layout; return the source that reads it.

    With `points`, each object has two keypoints inside its box, changed.
    """
    name = NAMES.get(writer, "cat")
    label = Label(name=name, keypoints=("left", "right") if points else ())
    items = []
    for number in range(2):
        path = folder / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.new("L", (WIDTH, HEIGHT)).save(path)
        instances = tuple(
            Instance(
                id=str(place),
                category=name,
                box=tuple(map(float, change(*box))),  # type: ignore[arg-type]
                keypoints=tuple((*points(x, y), 2) for x, y in _inside(box)) if points else None,  # type: ignore[misc]
            )
            for place, box in enumerate(OBJECTS)
        )
        image = Image(path=f"images/{number}.png", width=WIDTH, height=HEIGHT)
        items.append(
            Annotation(
                key=str(number), images=(image,), origin=Origin(file="", record=""), instances=instances
            )
        )
    if writer == "refcoco":
        return _referred(folder, items)
    made = load_writer(writer, "test").write(items, LabelSpace(id="source", labels=(label,)), folder)
    assert made.source is not None
    return {"format": made.format or writer, **made.source}


def _inside(box: tuple[int, int, int, int]) -> list[tuple[float, float]]:
    x0, y0, x1, y1 = box
    return [(x0 + 4.5, y0 + 9.5), (x1 - 3.5, y1 - 2.5)]


def _referred(folder: Path, items: list[Annotation]) -> dict[str, Any]:
    """Write the objects by an expression each, as a list of referred objects needs it."""
    said = [
        msgspec.structs.replace(
            item,
            exhaustive=False,
            expressions=tuple(
                Expression(id=str(place), text=f"number {place}", instances=(place,))
                for place in range(len(item.instances))
            ),
        )
        for item in items
    ]
    made = load_writer("refcoco", "test").write(said, LabelSpace(id="source", labels=()), folder)
    assert made.source is not None
    return {"format": "refcoco", **made.source}


def doubts(folder: Path, source: dict[str, Any], task: str, rule: str) -> dict[str, list[str]]:
    """Return what audits of the files and of the manifest say by the rule, and what conversion and preview warn of."""
    options = {
        key: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for key, value in source.items()
        if key != "format"
    }
    spec = {
        "id": "planted",
        "title": "Planted",
        "license": {"annotations": "CC0-1.0", "images": "CC0-1.0"},
        "source": {**source, "splits": {"train": {}}},
        "tasks": {task: {}},
        "status": "layout",
    }
    (folder / "planted.yaml").write_bytes(msgspec.json.encode(spec))
    named = [str(folder / "planted.yaml"), "--root", str(folder), "--out"]
    converted = CliRunner().invoke(group, ["convert", *named, str(folder / "manifests")])
    previewed = CliRunner().invoke(group, ["preview", "--count", "1", *named, str(folder / "preview.png")])
    reports = {
        "file": audit([folder], format_name=source["format"], root=folder, options=options),
        "manifest": audit([folder / "manifests"]),
    }
    found = {
        name: [one.detail for one in report.findings if one.rule == rule] for name, report in reports.items()
    }
    for name, result in (("convert", converted), ("preview", previewed)):
        found[name] = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    return found


TASKS = {"refcoco": "grounding"}


@pytest.mark.parametrize("plant", PLANTED)
@pytest.mark.parametrize("writer", WRITERS)
def test_boxes_of_a_wrong_convention_are_warned_of_everywhere(
    writer: str, plant: str, tmp_path: Path
) -> None:
    change, says = PLANTED[plant]

    found = doubts(
        tmp_path, written(tmp_path, writer, change), TASKS.get(writer, "detection"), "box.convention"
    )

    for place, lines in found.items():
        assert any(says in line for line in lines) != ((writer, plant) in OPEN), place


@pytest.mark.parametrize("writer", WRITERS)
def test_boxes_of_the_right_convention_are_not_doubted(writer: str, tmp_path: Path) -> None:
    source = written(tmp_path, writer, lambda *box: box)

    found = doubts(tmp_path, source, TASKS.get(writer, "detection"), "box.convention")

    assert found == {"file": [], "manifest": [], "convert": [], "preview": []}


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (lambda x, y: (x, y), None),
        (lambda x, y: (y, x), "x and y are swapped"),
        (lambda x, y: (x / WIDTH, y / HEIGHT), "are they fractions"),
    ],
)
def test_keypoints_of_a_wrong_convention_are_warned_of_everywhere(
    points: Change, says: str | None, tmp_path: Path
) -> None:
    source = written(tmp_path, "coco_keypoints", lambda *box: box, points)

    found = doubts(tmp_path, source, "keypoints", "keypoint.convention")

    for place, lines in found.items():
        assert any(says in line for line in lines) if says else lines == [], place


def test_a_new_spec_says_what_speaks_against_it(tmp_path: Path) -> None:
    change, says = PLANTED["corners as sizes"]
    written(tmp_path, "coco_instances", change)

    made = CliRunner().invoke(
        group, ["new", str(tmp_path), "--format", "coco_instances", "--out", str(tmp_path / "made.yaml")]
    )

    assert (tmp_path / "made.yaml").is_file()
    assert says in made.output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y, w, h: (x, y, w, h), None),
        (lambda x, y, w, h: (x, y, x + w, y + h), "corners, read as width and height"),
        (lambda x, y, w, h: (y, x, h, w), "x and y are swapped"),
        (lambda x, y, w, h: (x + w / 2, y + h / 2, w, h), "the center, read as a corner"),
        (lambda x, y, w, h: (x / 640, y / 480, w / 640, h / 480), "are they fractions"),
    ],
)
def test_real_boxes_in_another_order_are_found_out(
    samples_dir: Callable[[str], Path], change: Change, says: str | None, tmp_path: Path
) -> None:
    document = msgspec.json.decode((samples_dir("lvis_v05_val100") / "lvis_val_100.json").read_bytes())
    for record in document["annotations"]:
        record["bbox"] = change(*record["bbox"])
    (tmp_path / "lvis.json").write_bytes(msgspec.json.encode(document))

    report = audit([tmp_path / "lvis.json"], format_name="coco_instances", options={"media": "coco_url"})

    lines = [one.detail for one in report.findings if one.rule == "box.convention"]
    assert any(says in line for line in lines) if says else lines == []
