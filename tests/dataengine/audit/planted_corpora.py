"""Clean data of drawn scenes for `planted.py` to plant defects in: a table, COCO's and VQA's files, manifests, shards.

All of it follows from the seeds here. Pictures of a fresh copy are links to those of the first, so whoever changes one
writes a new file (`Corpus.picture`).
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from converters.formats import scenes
from converters.mask_outlines import outline
from converters.writers import coco_keypoints, vqa_v2
from dataengine import manifest as manifests
from dataengine.annotation import Annotation, Instance
from dataengine.audit.findings import Finding
from dataengine.audit.run import audit
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.files import Root
from dataengine.scenes.layout import compose
from dataengine.shard import shard

Row = dict[str, Any]
SIDE, MOST = 96, 5
# Of 10,000 scenes on, the first is by chance near to one of the objects.
SEED, EDITS_FROM, DEPTHS_FROM, HELD_OUT = 20, 11_000, 20_000, 30_000
OBJECTS, EDITS, DEPTHS = 170, 24, 12
TABLE = "rows.jsonl"
BOX = {"from": "it.box", "format": "xyxy"}
FIELDS: dict[str, Any] = {
    "images": [
        {
            "each": "images", "when": "it.scale == null", "path": {"from": "it.path"}, "width": "it.width",
            "height": "it.height", "license": "it.license",
        },
        {
            "each": "images", "when": "it.scale != null", "path": {"from": "it.path"}, "width": "it.width",
            "height": "it.height", "license": "it.license", "role": "target",
            "measure": {"quantity": "depth", "unit": "m", "scale": "it.scale", "invalid": [0]},
        },
    ],
    "instances": [
        {
            "each": "objects", "id": "it.id", "category": "it.category", "box": BOX, "rle": "it.rle",
            "keypoints": {"from": "it.keypoints", "format": "xyv"}, "text": "it.text",
        },
        {"each": "boxes", "id": "it.id", "category": "it.category", "box": BOX, "text": "it.text"},
        {"each": "outlines", "id": "it.id", "category": "it.category", "box": BOX, "polygon": {"from": "it.polygon"}},
        {"each": "words", "id": "it.id", "text": "it.text", "quad": {"from": "it.quad"}},
    ],
    "captions": {"each": "captions", "text": "it.text", "lang": "en"},
    "expressions": {"each": "expressions", "id": "it.id", "text": "it.text", "instances": "it.instances"},
    "questions": {
        "each": "questions", "id": "it.id", "text": "it.text", "answers": "it.answers", "choices": "it.choices",
        "answer_index": "it.answer_index",
    },
    "dialogs": {"each": "dialogs", "id": "it.id", "turns": "it.turns", "role": "turn.role", "text": "turn.text"},
    "edits": {"each": "edits", "id": "it.id", "instruction": "it.instruction"},
    "negatives": "negatives",
}  # fmt: skip


def source(table: str, labels: list[str] | None) -> dict[str, Any]:
    """Return the keys by which the `records` reader reads a table of rows."""
    found = {"table": {"path": table, "kind": "jsonl"}, "key": "{key}", "fields": FIELDS}
    return found if labels is None else {**found, "labels": labels}


def drawn(folder: Path, start: int, count: int, facts: str = "objects") -> list[Annotation]:
    """Draw scenes into a folder and return what is true of them."""
    made = msgspec.convert(
        {"seed": SEED, "start": start, "count": count, "size": SIDE, "max_objects": MOST, "facts": facts},
        scenes.Source,
    )
    scenes.prepare(made, folder)
    return list(scenes.read(made, Root(folder)))


def row_of(item: Annotation, number: int) -> Row:
    """Return a scene as a row; every other one has outlines instead of masks, and some a word on an object."""
    named = {one.id: f"{item.key}.{one.id}" for one in item.instances}
    ids = [named[one.id] for one in item.instances]
    objects = [_object(one, named[one.id]) for one in item.instances]
    lines = [_outline(one) if number % 2 else None for one in item.instances]
    outlined = [
        {**{key: one[key] for key in ("id", "category", "box")}, "polygon": [line]}
        for one, line in zip(objects, lines, strict=True)
        if line is not None and not one["keypoints"]
    ]
    taken = {one["id"] for one in outlined}
    words = [
        {"id": f"{item.key}.w", "text": item.instances[0].text, "quad": _corners(item.instances[0])}
    ] if number % 3 == 0 and item.instances else []  # fmt: skip
    return {
        "key": item.key,
        "images": [_image(one.path) for one in item.images],
        "objects": [one for one in objects if one["id"] not in taken],
        "boxes": [],
        "outlines": outlined,
        "words": words,
        "captions": [{"text": one.text} for one in item.captions],
        "expressions": [
            {"id": f"{item.key}.{one.id}", "text": one.text, "instances": [ids[at] for at in one.instances]}
            for one in item.expressions
        ],
        "questions": [
            {
                "id": f"{item.key}.{one.id}", "text": one.text, "answers": list(one.answers),
                "choices": list(one.choices), "answer_index": one.answer_index,
            }
            for one in item.questions
        ],
        "dialogs": [
            {"id": one.id, "turns": [{"role": turn.role, "text": turn.text} for turn in one.turns]}
            for one in item.dialogs
        ],
        "edits": [{"id": one.id, "instruction": one.instruction} for one in item.edits],
        "negatives": [],
    }  # fmt: skip


def _outline(one: Instance) -> list[float] | None:
    """Return the polygon of an object of one part: from part to part it would go there and back, and cross itself."""
    found = outline(one.mask) if one.mask is not None else None
    points = [*zip(found[0::2], found[1::2], strict=True)] if found is not None else []
    return found if len({*points}) == len(points) else None


def _image(path: str) -> Row:
    return {"path": path, "width": SIDE, "height": SIDE, "license": "CC0-1.0", "scale": None}


def _object(one: Instance, name: str) -> Row:
    assert one.mask is not None and one.box is not None
    return {
        "id": name,
        "category": one.category,
        "box": list(one.box),
        "rle": {"size": list(one.mask.size), "counts": one.mask.counts},
        "keypoints": [list(point) for point in one.keypoints] if one.keypoints else None,
        "text": one.text,
    }


def _corners(one: Instance) -> list[float]:
    assert one.box is not None
    x0, y0, x1, y1 = one.box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def _with_depth(row: Row, folder: Path) -> Row:
    """Add a picture of depths in millimetres: each object stands before the next, on a floor that comes nearer."""
    number = int(row["key"])
    ids = compose(SEED, number, SIDE, MOST).ids.astype(np.int64)
    depths = (9000 - 40 * np.arange(SIDE)[:, None] - 700 * ids).astype(np.uint16)
    path = f"depth/{number}.png"
    (folder / path).parent.mkdir(exist_ok=True)
    Image.fromarray(depths).save(folder / path)
    return {**_bare(row), "images": [*row["images"], {**_image(path), "scale": 1000}]}


def _bare(row: Row) -> Row:
    """Return a row of captions alone."""
    nothing: list[Any] = []
    return {
        key: value if key in ("key", "images", "captions") else nothing.copy() for key, value in row.items()
    }


@dataclass
class Corpus:
    """A copy of clean data to plant in: `rows` of `folder`, of which those of `free` have nothing planted yet."""

    folder: Path
    rows: list[Row]
    labels: list[str]
    free: list[Row] = field(init=False)
    taken: list[Row] = field(default_factory=list)
    torn: dict[str, bytes] = field(default_factory=dict)
    pictured: bool = True

    def __post_init__(self) -> None:
        self.free = [*self.rows]

    def take(self, chance: random.Random, fits: Callable[[Row], object] = bool) -> Row:
        """Return a row that fits, by chance; no other defect will be planted in it."""
        row = chance.choice([one for one in self.free if fits(one)])
        self.free.remove(row)
        self.taken.append(row)
        return row

    def names(self, row: Row) -> list[str]:
        """Return what findings in a row call their place."""
        return [row["key"], f"line {self.rows.index(row) + 1}", *(image["path"] for image in row["images"])]

    def bare(self, chance: random.Random) -> Row:
        """Return a row with one picture and captions alone."""
        row = self.take(chance, lambda one: one["objects"] and len(one["images"]) == 1)
        row.update(_bare(row))
        return row

    def picture(self, image: Row, data: bytes, suffix: str = "") -> None:
        """Put other bytes in a picture's place, under another ending where one is given."""
        if suffix:
            image["path"] = f"{image['path'].removesuffix('.png')}{suffix}"
        path = self.folder / image["path"]
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def write(self, name: str = TABLE) -> Path:
        """Write the table and return its path."""
        lines = [self.torn.get(row["key"]) or msgspec.json.encode(row) for row in self.rows]
        (self.folder / name).write_bytes(b"\n".join([*lines, b""]))
        return self.folder / name

    def audit(self) -> list[Finding]:
        """Write the table and return what an audit of it finds; pictures are looked at where there are any."""
        options = {key: _text(value) for key, value in source(TABLE, self.labels).items()}
        root = self.folder if self.pictured else None
        return [*audit([self.write()], format_name="records", root=root, options=options).findings]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@dataclass
class Documents:
    """COCO's file of keypoints and VQA's pair of files; records that have something planted are in `taken`."""

    folder: Path
    poses: dict[str, Any]
    asked: dict[str, Any]
    answered: dict[str, Any]
    taken: list[Row] = field(default_factory=list)

    def take(self, chance: random.Random, records: list[Row]) -> Row:
        """Return a record of a picture in which nothing is planted yet, by chance."""
        pictures = [one["image_id"] for one in self.taken]
        record = chance.choice([one for one in records if one["image_id"] not in pictures])
        self.taken.append(record)
        return record

    def names(self, record: Row) -> list[str]:
        """Return what findings in a record call their place."""
        poses = self.poses["annotations"]
        found = [f"annotations[{poses.index(record)}]"] if record in poses else [str(record["question_id"])]
        return [*found, str(record["image_id"])]

    def audit(self) -> list[Finding]:
        """Write the files and return what an audit of each finds; their pictures are not looked at."""
        pairs = (
            (coco_keypoints.FILE, self.poses),
            (vqa_v2.QUESTIONS, self.asked),
            (vqa_v2.ANSWERS, self.answered),
        )
        for name, document in pairs:
            (self.folder / name).write_bytes(msgspec.json.encode(document))
        media = {"media": "{image_id}", "annotations": vqa_v2.ANSWERS}
        poses = audit([self.folder / coco_keypoints.FILE], format_name="coco_keypoints")
        votes = audit([self.folder / vqa_v2.QUESTIONS], format_name="vqa_v2", options=media)
        # Neither pair of files says who may use its pictures, and the audit is right to say so.
        return [one for one in (*poses.findings, *votes.findings) if one.rule != "license.missing"]


LABELS_ID = "planted"
TASKS = {
    "detection": {"splits": ["train"]}, "keypoints": {"splits": ["train"]}, "caption": {}, "vqa": {"splits": ["val"]},
}  # fmt: skip


@dataclass
class Sets:
    """A dataset of two splits: its rows before it is converted, and its manifests or shards after that.

    `space` and `splits` are what its label file and its spec say. `held` is another dataset, to evaluate on alone.
    """

    folder: Path
    train: Corpus
    val: Corpus
    held: Corpus
    space: dict[str, Any]
    splits: dict[str, Row]
    taken: list[Row] = field(default_factory=list)
    shards: list[Path] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """Where the manifests are."""
        return self.folder / "out"

    def convert(self) -> None:
        """Write the files of the dataset and convert it."""
        self.held.write("held.jsonl")
        for name, corpus in (("train", self.train), ("val", self.val)):
            corpus.write(f"{name}.jsonl")
            self.splits[name] = {"table": {"path": f"{name}.jsonl", "kind": "jsonl"}, **self.splits[name]}
        reader = {key: value for key, value in source("", None).items() if key != "table"}
        spec: dict[str, Any] = {
            "id": "planted", "title": "Scenes with defects", "license": {"annotations": "CC0-1.0", "images": "CC0-1.0"},
            "source": {"format": "records", **reader, "splits": self.splits}, "labels": LABELS_ID, "tasks": TASKS,
            "status": "layout",
        }  # fmt: skip
        table = {"path": "held.jsonl", "kind": "jsonl"}
        splits = {"test": {"use": "eval", "table": table}}
        held = spec | {"id": "held", "source": {**spec["source"], "splits": splits}, "tasks": {"caption": {}}}
        files = (("labels", LABELS_ID, self.space), ("datasets", "planted", spec), ("datasets", "held", held))
        for kind, name, content in files:
            path = self.folder / "specs" / kind / f"{name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))  # which is YAML, too
        catalog = Catalog(self.folder / "specs")
        for resolved in (*catalog.find("planted"), *catalog.find("held")):
            for split in resolved.splits:
                convert(resolved, split, self.train.folder, self.out)

    def manifest(self, chance: random.Random, *tasks: str) -> Path:
        """Return the folder of a converted split of some tasks."""
        found = [path.parent for path in sorted(self.out.rglob("ledger.json"))]
        return chance.choice([one for one in found if not tasks or one.parent.name in tasks])

    def change(self, folder: Path, chance: random.Random, change: Callable[[Row], object]) -> str:
        """Change a sample of a manifest, of those that nothing was changed in, and return its id."""
        path = folder / manifests.SAMPLES
        rows = pq.read_table(path).to_pylist()
        number = chance.choice([at for at, row in enumerate(rows) if row["id"] not in self._ids()])
        sample = json.loads(rows[number]["sample"])
        self.taken.append({"id": sample["id"]})
        change(sample)
        rows[number]["sample"] = json.dumps(sample).encode()
        pq.write_table(pa.Table.from_pylist(rows, manifests.SAMPLE_SCHEMA), path)
        return str(rows[number]["id"])

    def _ids(self) -> set[str]:
        return {one["id"] for one in self.taken}

    def names(self, row: Row) -> list[str]:
        """Return what findings in a sample call their place."""
        return [row["id"]]

    def audit(self) -> list[Finding]:
        """Return what an audit finds in the shards where there are any, else in the manifests."""
        return [*audit(self.shards or [self.out]).findings]


@dataclass
class Tars:
    """Tars as WebDataset reads them: the members of each, by name, in order."""

    folder: Path
    members: dict[str, list[tuple[str, bytes]]]
    taken: list[Row] = field(default_factory=list)

    def take(self, chance: random.Random) -> tuple[str, str]:
        """Return a tar and a key of it at which nothing is planted yet, by chance."""
        keys = [
            (tar, name[:-4])
            for tar, parts in self.members.items()
            for name, _ in parts
            if name.endswith(".png")
        ]
        used = {one["key"] for one in self.taken}
        tar, key = chance.choice([one for one in keys if one[1] not in used])
        self.taken.append({"tar": tar, "key": key})
        return tar, key

    def write(self) -> None:
        """Write the tars, each once."""
        for tar, parts in self.members.items():
            if not (self.folder / tar).exists():
                with tarfile.open(self.folder / tar, "w") as file:
                    for name, data in parts:
                        member = tarfile.TarInfo(name)
                        member.size = len(data)
                        file.addfile(member, io.BytesIO(data))

    def offset(self, tar: str, name: str) -> str:
        """Return where a member of a written tar begins, as findings call it."""
        with tarfile.open(self.folder / tar) as file:
            return f"offset {file.getmember(name).offset}"

    def names(self, row: Row) -> list[str]:
        """Return what findings at a key call their place."""
        named = [name for name, _ in self.members[row["tar"]] if name.startswith(row["key"])]
        self.write()
        return [
            row["key"],
            *(f"{row['tar']}/{name}" for name in named),
            *(f"{row['tar']} {self.offset(row['tar'], name)}" for name in named),
        ]

    def audit(self) -> list[Finding]:
        """Write the tars and return what an audit of their folder finds."""
        self.write()
        # Nothing in a tar says who may use its pictures.
        return [one for one in audit([self.folder]).findings if one.rule != "license.missing"]


class Clean:
    """The clean data of a folder, made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._copies = 0
        self.first = folder / "first"
        self.first.mkdir(parents=True)
        items = drawn(self.first, 0, OBJECTS)
        rows = [row_of(item, number) for number, item in enumerate(items)]
        edits = [item for item in drawn(self.first, EDITS_FROM, EDITS, "edits") if item.edits]
        rows += [row_of(item, 0) for item in edits]
        deep = drawn(self.first, DEPTHS_FROM, DEPTHS)
        rows += [_with_depth(row_of(item, 1), self.first) for item in deep]
        self._rows = json.dumps(rows)
        self.space = scenes.labels(scenes.Source(seed=SEED, count=1), Root(self.first))
        coco_keypoints.write(items, self.space, self.first)
        vqa_v2.write(items, self.space, self.first)
        names = (coco_keypoints.FILE, vqa_v2.QUESTIONS, vqa_v2.ANSWERS)
        self._documents = [(self.first / name).read_text() for name in names]

    def _fresh(self) -> Path:
        self._copies += 1
        return self.folder / f"copy{self._copies}"

    def table(self) -> Corpus:
        """Return a copy as a table, with a link to each picture."""
        folder = self._fresh()
        for path in self.first.rglob("*.png"):
            target = folder / path.relative_to(self.first)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
        return Corpus(folder, json.loads(self._rows), list(self.space.names))

    def told(self, fits: Callable[[Row], object] = bool) -> Corpus:
        """Return a copy without pictures."""
        folder = self._fresh()
        folder.mkdir()
        rows = [row for row in json.loads(self._rows) if fits(row)]
        return Corpus(folder, rows, list(self.space.names), pictured=False)

    def sets(self, train: int = 40, val: int = 12) -> Sets:
        """Return some rows as a dataset of two splits that share a folder of pictures."""
        corpus = self.table()
        told = [row for row in corpus.rows if row["objects"] or row["outlines"]]
        splits = (told[:train], told[train : train + val], told[train + val : train + 2 * val])
        one, other, held = (Corpus(corpus.folder, rows, corpus.labels) for rows in splits)
        space = {**msgspec.to_builtins(self.space), "id": LABELS_ID}
        return Sets(
            self._fresh(), one, other, held, space, {"train": {"use": "train"}, "val": {"use": "eval"}}
        )

    def sharded(self) -> Sets:
        """Return the same dataset as shards, converted and packed once."""
        first = self.folder / "shards"
        made = self.sets()
        if not first.exists():
            made.convert()
            shard([made.out], first, samples_per_shard=60)
        made.shards = [made.folder / "shards"]
        shutil.copytree(first, made.shards[0])
        return made

    def tars(self) -> Tars:
        """Return pictures and captions as two tars of others."""
        folder = self._fresh()
        folder.mkdir()
        members: dict[str, list[tuple[str, bytes]]] = {"a.tar": [], "b.tar": []}
        told = [row for row in json.loads(self._rows) if row["objects"] or row["outlines"]][:40]
        for number, row in enumerate(told):
            picture = (self.first / row["images"][0]["path"]).read_bytes()
            caption = row["captions"][0]["text"].encode()
            members["a.tar" if number < 20 else "b.tar"] += [
                (f"{row['key']}.png", picture), (f"{row['key']}.txt", caption),
            ]  # fmt: skip
        return Tars(folder, members)

    def documents(self) -> Documents:
        """Return the scenes as files of COCO and VQA."""
        folder = self._fresh()
        folder.mkdir()
        return Documents(folder, *map(json.loads, self._documents))
