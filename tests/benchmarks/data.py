"""The bytes that all contestants read: pictures that the program draws, our shards of them, and what peers make of it.

Everything lies below `.bench/data/SIZE` and is used again by the next run.
"""

# mypy: disable-error-code="import-not-found, no-any-return, unused-ignore"
from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.manifest import read_encoded
from dataengine.shard import shard

NUM_PICTURES = 400
WORDS = (
    "a",
    "the",
    "small",
    "red",
    "dog",
    "street",
    "near",
    "under",
    "glass",
    "tree",
    "bright",
    "window",
    "with",
    "of",
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is of everything."""

    pictures: int
    texts: int
    sources: int
    samples_a_source: int
    samples_a_shard: int
    passes: int
    repeats: int
    kills: int
    draws: int
    foreign: int
    limit_s: int  # of one run of a contestant


SIZES = {
    "tiny": Size(pictures=96, texts=200, sources=3, samples_a_source=20, samples_a_shard=32, passes=1, repeats=1,
                 kills=1, draws=64, foreign=400, limit_s=60),
    "small": Size(pictures=4000, texts=20_000, sources=200, samples_a_source=40, samples_a_shard=500, passes=3,
                  repeats=3, kills=8, draws=4000, foreign=100_000, limit_s=60),
    "full": Size(pictures=16_000, texts=1_000_000, sources=200, samples_a_source=500, samples_a_shard=1000, passes=5,
                 repeats=5, kills=100, draws=20_000, foreign=1_000_000, limit_s=900),
}  # fmt: skip

SPEC = """\
id: {id}
title: bench
license: {{annotations: CC0-1.0, images: CC0-1.0}}
status: layout
source:
  format: records
  table: {{path: {table}, kind: jsonl}}
  key: "{{key}}"
  fields: {fields}
  splits: {{train: {{use: train}}}}
tasks: {{{task}: {{}}}}
"""
CAPTIONS = "{images: '{image}', captions: caption}"
DIALOGS = "{dialogs: {turns: turns, role: turn.from, text: turn.value}}"


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` has filled, at once or in an earlier run; a stopped run leaves nothing behind."""
    if not folder.is_dir():
        print(f"making {folder.name} ...", flush=True)
        new = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        make(new)
        new.rename(folder)
    return folder


def picture(number: int, width: int, height: int, quality: int = 90) -> Image.Image:
    """Return a picture with soft shapes and fine noise: 640 x 480 at quality 90 takes about 71 KB."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    fine = rng.normal(0, 9, (height // 2, width // 2)).astype(np.float32)
    noise = np.asarray(Image.fromarray(fine).resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return Image.fromarray(np.clip(soft + noise[..., None], 0, 255).astype(np.uint8))


def pictures(folder: Path) -> None:
    """Write the pictures that the samples take in turn."""
    for number in range(NUM_PICTURES):
        width, height = ((640, 480), (500, 375))[number % 2]
        picture(number, width, height).save(folder / f"{number:04d}.jpg", quality=90)


def sentence(number: int, length: int) -> str:
    """Return a text of about `length` characters."""
    rng = np.random.default_rng(number)
    return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), length // 5))


def captions(root: Path, name: str, count: int, first: int = 0) -> None:
    """Write a table of captions beside the pictures."""
    with (root / f"{name}.jsonl").open("w") as file:
        for i in range(count):
            row = {"key": f"{i:07d}", "image": f"pictures/{(first + i) % NUM_PICTURES:04d}.jpg"}
            file.write(json.dumps(row | {"caption": f"{i} {sentence(first + i, 180)}"}) + "\n")


def manifests(folder: Path, root: Path, name: str, fields: str, task: str) -> Path:
    """Convert one table and return the folder of its manifests."""
    spec = folder / f"{name}.yaml"
    spec.write_text(SPEC.format(id=name, table=f"{name}.jsonl", fields=fields, task=task))
    account = convert(Catalog().find(str(spec))[0], "train", root, folder / "manifests", workers=1)
    assert account.samples == account.units, account
    return folder / "manifests"


class Data:
    """The data of a size; each property makes what it names where it is not there yet.

    With `missing`, contestants that have a result of this revision are passed over.
    """

    def __init__(self, home: Path, name: str, repeats: int | None = None, missing: bool = False) -> None:
        size = SIZES[name]
        self.home, self.name, self.size = home / name, name, replace(size, repeats=repeats or size.repeats)
        self.missing = missing

    @property
    def root(self) -> Path:
        """The source root: pictures and tables."""
        (self.home / "root").mkdir(parents=True, exist_ok=True)
        once(self.home / "root" / "pictures", pictures)
        return self.home / "root"

    @property
    def photos(self) -> Path:
        """Manifests and shards of pictures with captions; the shards are in `shards`."""

        def make(folder: Path) -> None:
            captions(self.root, "photos", self.size.pictures)
            made = manifests(folder, self.root, "photos", CAPTIONS, "caption")
            shard([made], folder / "shards", samples_per_shard=self.size.samples_a_shard)

        return once(self.home / "photos", make)

    @property
    def texts(self) -> Path:
        """Manifests and shards of dialogues without pictures, of about 1 KB each."""

        def make(folder: Path) -> None:
            with (self.root / "texts.jsonl").open("w") as file:
                for i in range(self.size.texts):
                    turns = [
                        {"from": "human", "value": sentence(i, 100)},
                        {"from": "gpt", "value": sentence(i, 300)},
                    ]
                    file.write(json.dumps({"key": f"{i:07d}", "turns": turns}) + "\n")
            made = manifests(folder, self.root, "texts", DIALOGS, "conversation")
            shard([made], folder / "shards", samples_per_shard=20 * self.size.samples_a_shard)

        return once(self.home / "texts", make)

    @property
    def single(self) -> Path:
        """Shards of a few pictures in one tar."""

        def make(folder: Path) -> None:
            captions(self.root, "single", 40)
            made = manifests(folder, self.root, "single", CAPTIONS, "caption")
            shard([made], folder / "shards", samples_per_shard=100)

        return once(self.home / "single", make)

    @property
    def encoded(self) -> Path:
        """The JSON of the samples in `photos` as a file of lines, for writers that are given bytes."""
        path = self.photos / "samples.jsonl"
        if not path.exists():
            split = self.photos / "manifests" / "photos" / "caption" / "train"
            path.write_bytes(b"\n".join(read_encoded(split)) + b"\n")
        return path

    @property
    def decoding(self) -> Path:
        """A folder of pictures for each size to decode from."""

        def make(folder: Path) -> None:
            for width, height in ((224, 224), (336, 336), (500, 375), (640, 480), (1024, 768), (1920, 1080)):
                (folder / f"{width}x{height}").mkdir()
                for number in range(4 if self.name == "tiny" else 24):
                    made = picture(number, width, height)
                    made.save(folder / f"{width}x{height}" / f"{number:03d}.jpg", quality=90)

        return once(self.home / "decoding", make)

    @property
    def foreign(self) -> Path:
        """Tars with many small members that tarfile wrote, as others make them."""

        def make(folder: Path) -> None:
            each = 50_000
            for first in range(0, self.size.foreign, each):
                with tarfile.open(folder / f"{first // each:05d}.tar", "w") as tar:
                    for number in range(first, min(first + each, self.size.foreign)):
                        data = b'{"label": 1}'
                        member = tarfile.TarInfo(f"{number // 2:08d}.{('json', 'txt')[number % 2]}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))

        return once(self.home / "foreign", make)

    @property
    def many(self) -> Path:
        """Shards of many sources, one tar each."""

        def make(folder: Path) -> None:
            for number in range(self.size.sources):
                captions(self.root, f"many{number:03d}", self.size.samples_a_source, number)
                manifests(folder, self.root, f"many{number:03d}", CAPTIONS, "caption")
            shard([folder / "manifests"], folder / "shards", samples_per_shard=self.size.samples_a_shard)

        return once(self.home / "many", make)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the sources in `many` by name, drawn from a Dirichlet distribution with concentration 0.7."""
        drawn = np.random.default_rng(7).dirichlet([0.7] * self.size.sources)
        drawn = np.round(drawn, 5) + 1e-5
        return {f"many{i:03d}/caption/train": float(share) for i, share in enumerate(drawn / drawn.sum())}


def tars_of(shards: Path) -> list[str]:
    """Return the tars of a folder."""
    return [str(path) for path in sorted(shards.glob("*.tar"))]
