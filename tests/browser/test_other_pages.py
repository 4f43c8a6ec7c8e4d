"""The pages of previews, of whole runs and of evaluations in a real browser, with hostile texts and on a phone."""

from __future__ import annotations

import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dataengine.annotation import Turn
from dataengine.cli import group
from dataengine.pipeline import Pipeline
from dataengine.run import run_pipeline
from dataengine.sample import (
    InstanceTargets,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
)
from dataengine.strict import convert
from tests.browser.checks import HOSTILE, assert_fits_phone, assert_only_text
from tests.conftest import make_tiny
from trainer.predictions import Ask, Forced, FoundObject, Free, Look, Prediction
from trainer.report import evaluation_page
from trainer.score import evaluation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.browser.conftest import Open
    from tests.conftest import Tiny

# As one class of a picture each, and without what is no single line in a prompt.
NAMES = [HOSTILE[0], f"{HOSTILE[3]}{'x' * 90}", HOSTILE[7]]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The tiny dataset with hostile names of classes and pictures."""
    tiny = make_tiny(tmp_path_factory.mktemp("hostile"))
    document = tiny.document()
    for category, name in zip(document["categories"], NAMES, strict=True):
        category["name"] = name
    (tiny.root / "images/001.jpg").rename(tiny.root / f"images/{'x' * 60} <img src=y>.jpg")
    document["images"][0]["file_name"] = f"{'x' * 60} <img src=y>.jpg"
    tiny.write(document)
    return tiny


def preview_page(tiny: Tiny, folder: Path) -> list[str]:
    out = folder / "page.html"
    done = CliRunner().invoke(group, ["preview", str(tiny.spec), "--root", str(tiny.root), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return [HOSTILE[0], "</style></script><svg onload=", HOSTILE[7]]


def run_page(tiny: Tiny, folder: Path) -> list[str]:
    chosen = {
        "title": HOSTILE[1],
        "out": str(folder / "run"),
        "roots": {"here": str(tiny.root)},
        "convert": [{"spec": str(tiny.spec), "root": "here", "splits": ["train"]}],
        "shard": {"runner": "local"},
        "audit": False,
        "workers": 1,
    }
    run_pipeline(HOSTILE[2], convert(chosen, Pipeline, "test", []), _bar)
    (folder / "run/report.html").rename(folder / "page.html")
    return [HOSTILE[0], HOSTILE[1], HOSTILE[2], "</style></script><svg onload="]


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Callable[[int, str], None]]:
    yield lambda count, text: None


def evaluation(tiny: Tiny, folder: Path) -> list[str]:
    sink = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(sink, "JPEG")
    sample = Sample(
        id=f"a/{HOSTILE[0]}", task="detection", dataset=HOSTILE[1], split="b",
        images=(SampleImage(path="a.jpg", width=64, height=48, format="jpeg"),),
        conversation=(Turn("user", f"<image>\nFind {HOSTILE[3]}."), Turn("assistant", f"{HOSTILE[3]}[DET].")),
        routes=(Route(token="[DET]", kind="category", name=HOSTILE[3]),),
        targets=InstanceTargets(instances=(TargetInstance(label=HOSTILE[3], box=(0, 0, 20, 40), area=800.0),)),
        origin=SampleOrigin(dataset="a", file="f", record="r", spec="s", spec_hash="h", reader="x"),
        license=SampleLicense(annotations="CC0-1.0", images="CC0-1.0"),
    )  # fmt: skip
    found = (FoundObject(ask=0, token=0, box=(0, 0, 20, 40), score=0.9),)
    line = Prediction(
        number=0,
        sample=sample,
        asks=(Ask(wanted=sample.conversation[1].text, routes=(0,)),),
        forced=Forced(text_loss=1.0, exact=False, found=found),
        free=Free(texts=(f"{HOSTILE[6]}[DET] {HOSTILE[4]}",), found=found),
        look=Look(images=(sink.getvalue(),)),
    )
    result: dict[str, Any] = {"model": HOSTILE[7], **evaluation_of([line], {}), "skipped": {HOSTILE[2]: 1}}
    (folder / "page.html").write_text(evaluation_page(result, [line]))
    return [*HOSTILE[:4], "turned \\u202e around", *HOSTILE[6:]]


@pytest.mark.parametrize("make", [preview_page, run_page, evaluation])
def test_a_page_shows_hostile_texts_as_text_and_fits_a_phone(
    make: Callable[[Tiny, Path], list[str]], hostile: Tiny, open_page: Open, tmp_path: Path
) -> None:
    texts = make(hostile, tmp_path)
    url = (tmp_path / "page.html").as_uri()

    page = open_page(url)

    assert_only_text(page, url, texts)
    assert_fits_phone(page, url)
