"""A dataset of pictures that are as different from each other as photographs, to be copied, shrunk and stored anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from dataengine.catalog import Catalog
from dataengine.convert import convert

SPEC = """\
id: {name}
title: Blobs
license: {{annotations: CC0-1.0, images: CC0-1.0}}
source:
  format: records
  table: {{path: "{{$split}}.json", kind: json}}
  key: "{{key}}"
  fields:
    images: {images}
    questions: {{text: question, answers: answer}}
  splits:
    train: {{use: train, vars: {{split: train}}}}
    test: {{use: eval, vars: {{split: test}}}}
tasks:
  vqa: {{}}
status: layout
"""


def scene(seed: int) -> Image.Image:
    """A picture of soft blobs, as different from another seed's as photographs are."""
    few = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(few).resize((320, 240), Image.Resampling.BICUBIC)


class Blobs:
    """A dataset in a folder: each split is a list of (pictures of a record, question)."""

    def __init__(self, folder: Path, name: str, images: str = '"{images}"') -> None:
        self.root = folder / name
        self.root.mkdir(parents=True)
        self.name = name
        self.spec = folder / f"{name}.yaml"
        self.spec.write_text(SPEC.format(name=name, images=images))

    def save(self, picture: Image.Image, path: str, quality: int = 95) -> None:
        """Put a picture into the folder."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        picture.save(self.root / path, quality=quality)

    def convert(self, out: Path, split: str, *paths: str, question: str = "What is it?") -> None:
        """Convert one split that asks a question of each picture."""
        rows = [
            {"key": str(n), "images": path, "question": question, "answer": "blobs"}
            for n, path in enumerate(paths)
        ]
        (self.root / f"{split}.json").write_text(json.dumps(rows))
        (spec,) = Catalog().find(str(self.spec))
        convert(spec, split, self.root, out)
