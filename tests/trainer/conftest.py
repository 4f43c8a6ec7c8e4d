"""A toy stream for the trainer: pictures with coloured boxes, in steps that ask for boxes and for words in turn."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataengine.annotation import Turn
from dataengine.catalog import Catalog, shipped_specs
from dataengine.convert import convert
from dataengine.geometry import rle_of_box
from dataengine.mix import Plan
from dataengine.sample import (
    InstanceTargets,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
    TextTargets,
)
from dataengine.shard import shard
from dataengine.state import Hole
from trainer.config import TrainConfig
from trainer.train import train

COLORS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230)}
WIDTH, HEIGHT = 64, 48


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Run on one thread: on a busy machine, threads that wait for each other cost far more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def toy_sample(number: int, task: str) -> tuple[Sample, list[bytes]]:
    """Return the toy sample of that number, with its picture as PNG bytes."""
    rng = random.Random(number)
    pixels = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    present = rng.sample(sorted(COLORS), rng.randint(1, 2))
    instances = []
    for place, name in enumerate(present):
        x, y = rng.randint(0, 12) + 32 * place, rng.randint(0, 20)
        width, height = rng.randint(12, 20), rng.randint(12, 28)
        pixels[y : y + height, x : x + width] = COLORS[name]
        box = (float(x), float(y), float(x + width), float(y + height))
        instances.append(
            TargetInstance(
                label=name,
                box=box,
                area=float(width * height),
                # Only some objects have masks, as in a mixture of datasets.
                mask=rle_of_box(box, WIDTH, HEIGHT) if number % 2 else None,
            )
        )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    names = sorted(COLORS)
    rng.shuffle(names)
    routes: tuple[Route, ...] = ()
    answer = f"{' and '.join(sorted(present))}."
    targets: InstanceTargets | TextTargets = TextTargets(answers=(answer,))
    turns = (Turn("user", "<image>\nWhich colours are here?"), Turn("assistant", answer))
    if task == "detection":
        routes = tuple(Route(token="[DET]", kind="category", name=name) for name in names)
        targets = InstanceTargets(instances=tuple(instances))
        turns = (
            Turn("user", f"<image>\nFind all {', '.join(names)}."),
            Turn("assistant", f"Here: {', '.join(f'{name}[DET]' for name in names)}."),
        )
    sample = Sample(
        id=f"toy/train/{number}#{task}",
        task=task,
        dataset="toy",
        split="train",
        images=(SampleImage(path=f"{number}.png", width=WIDTH, height=HEIGHT, format="png"),),
        conversation=turns,
        routes=routes,
        targets=targets,
        origin=SampleOrigin(
            dataset="toy", file="f", record=str(number), spec="toy", spec_hash="0", reader="r"
        ),
        license=SampleLicense(annotations="CC0", images="CC0"),
    )
    return sample, [buffer.getvalue()]


@dataclass
class ToyReader:
    """`samples` in turn, or others for ever; `broken` positions have a picture that cannot be decoded."""

    global_batch: int = 2
    digest: str = "toy"
    plan: Plan | None = None
    broken: frozenset[int] = frozenset()
    samples: Sequence[tuple[Sample, list[bytes]]] = ()
    reads: list[int] = field(default_factory=list)

    def read(self, position: int) -> tuple[Sample, list[bytes]]:
        self.reads.append(position)
        sample, pictures = self._at(position)
        return sample, [b"no picture"] if position in self.broken else pictures

    def describe(self, position: int) -> Sample:
        return self._at(position)[0]

    def _at(self, position: int) -> tuple[Sample, list[bytes]]:
        if self.samples:
            return self.samples[position % len(self.samples)]
        return toy_sample(position, "vqa" if (position // self.global_batch) % 3 == 2 else "detection")

    def hole(self, position: int, reason: str, detail: str, *, lasts: bool) -> Hole:
        sample, _ = self._at(position)
        return Hole(
            position=position,
            reason=reason,
            id=sample.id,
            source="toy",
            index=position,
            file="toy.tar",
            offset=0,
            detail=detail,
            lasts=lasts,
        )

    def remember(self, holes: Iterable[Hole]) -> None:
        """A toy is read again each time."""

    def follow(self, plan: Plan) -> None:
        """A toy has no plan."""


MakeReader = Callable[..., ToyReader]


@pytest.fixture
def make_reader() -> MakeReader:
    """Return a function that makes a toy reader."""
    return ToyReader


def toy_run(**changes: object) -> TrainConfig:
    """Return the configuration of a short run of the tiny model."""
    fields = {
        "shards": "none",
        "steps": 6,
        "global_batch": 2,
        "seed": 3,
        "max_tiles": 2,
        "decoder_short": (64,),
        "decoder_longest": 64,
        "flip_ratio": 0.5,
        "num_workers": 0,
        "tensorboard": False,
        **changes,
    }
    return TrainConfig(**fields)  # type: ignore[arg-type]


@pytest.fixture
def make_sample() -> Callable[[int, str], tuple[Sample, list[bytes]]]:
    """Return a function that makes a toy sample and its picture."""
    return toy_sample


@pytest.fixture
def make_run() -> Callable[..., TrainConfig]:
    """Return a function that makes the configuration of a short run."""
    return toy_run


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps without interruption; tests only read it."""
    out = tmp_path_factory.mktemp("straight")
    train(toy_run(checkpoint_every=6), out, reader=ToyReader())
    return out


def taught_samples() -> list[tuple[Sample, list[bytes]]]:
    """Return the samples that the `taught` model knows by heart: boxes, words, boxes, words."""
    return [toy_sample(number, task) for number in (1, 3) for task in ("detection", "vqa")]


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows a few samples by heart, words as well as boxes; tests only read it."""
    out = tmp_path_factory.mktemp("taught")
    boxes, words, others, more = taught_samples()
    reader = ToyReader(samples=[boxes, others, words, more])
    train(toy_run(steps=90, flip_ratio=0.0, checkpoint_every=90), out, reader=reader)
    return out


@pytest.fixture
def by_heart() -> list[tuple[Sample, list[bytes]]]:
    """The samples that the `taught` model knows."""
    return taught_samples()


@pytest.fixture(scope="session")
def scene_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight samples of every task on scenes, as shards; tests only read them."""
    folder = tmp_path_factory.mktemp("scenes")
    text = (shipped_specs() / "datasets" / "scenes.yaml").read_text()
    (folder / "specs" / "datasets").mkdir(parents=True)
    (folder / "specs" / "datasets" / "scenes.yaml").write_text(text.replace(" 2000", " 8"))
    for spec in Catalog(folder / "specs").find("scenes"):
        for split in (name for name in spec.splits if name.startswith("train")):
            convert(spec, split, folder / "source", folder / "manifests")
    shard([folder / "manifests"], folder / "shards")
    return folder / "shards"
