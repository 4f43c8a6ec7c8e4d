"""What a run tells: every key of its lines, the same numbers for TensorBoard, and how much was computed."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from trainer.checkpoint import load_model
from trainer.config import TrainConfig, encode_settings
from trainer.data import batches
from trainer.distributed import Ranks
from trainer.flops import PEAK_TFLOPS, Flops, peak_flops
from trainer.log import METRICS, TENSORBOARD, scalars
from trainer.train import train

MakeRun = Callable[..., TrainConfig]
MakeReader = Callable[..., Any]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    family: str
    weight: float
    samples: int
    terms: dict[str, float | None]


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of metrics.jsonl, as docs/training.md describes it."""

    step: int
    loss: float | None
    family: str | None
    terms: dict[str, float | None]
    parts: list[Part]
    tasks: dict[str, float | None]
    ids: list[str]
    positions: tuple[int, int]
    skipped: dict[str, int]
    shortened: dict[str, int]
    lr: float
    grad_norm: float | None
    updated: bool
    suspects: list[str]
    ranks: int
    step_s: float
    samples_per_s: float
    tokens_per_s: float
    images_per_s: float
    stall_share: float
    tflops: float
    mfu: float | None
    memory_bytes: int
    micro_batches: int
    sequences: int
    tokens: int
    tiles: int
    images: int
    padding: float
    samples: dict[str, int]
    fill: float | msgspec.UnsetType = msgspec.UNSET
    store: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


def read(run: Path) -> list[Line]:
    return [msgspec.json.decode(line, type=Line) for line in (run / METRICS).read_bytes().splitlines()]


def test_every_line_has_what_the_documentation_says(straight: Path) -> None:
    documentation = (Path(__file__).parents[2] / "docs/training.md").read_text()

    lines = read(straight)

    assert len(lines) == 6
    for name in Line.__struct_fields__:
        assert f"`{name}`" in documentation, name
    for line in lines:
        assert line.loss == pytest.approx(sum(term or 0 for term in line.terms.values()), rel=1e-6)
        assert line.parts[0].terms == pytest.approx(line.terms)
        assert line.samples == {("vqa" if line.family == "text" else "detection"): 2}
        assert line.images == 2 and line.tokens > 0 and line.memory_bytes > 2**20
        assert line.tokens_per_s * line.step_s == pytest.approx(line.tokens)
        assert line.mfu is None and line.tflops > 0  # nobody knows what this device can do


def test_losses_of_parts_stand_apart(two_task_shards: Path, tmp_path: Path, make_run: MakeRun) -> None:
    mixture = {"policy": "uniform", "mode": "accumulate", "loss_weights": {"detection": 0.25}}

    train(make_run(shards=str(two_task_shards), steps=1, mixture=mixture, peak_tflops=2.0), tmp_path)

    (line,) = read(tmp_path)
    detection, text = line.parts
    assert (detection.family, detection.weight, text.family, text.weight) == ("detection", 0.25, "text", 1.0)
    assert set(text.terms) == {"text"} and {"text", "detection/l1"} <= set(detection.terms)
    whole = {part.family: sum(term or 0 for term in part.terms.values()) for part in line.parts}
    assert line.loss == pytest.approx(0.25 * whole["detection"] + whole["text"])
    assert line.mfu == pytest.approx(line.tflops / 2.0)


def test_tensorboard_gets_the_numbers_of_every_line(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    train(make_run(steps=2, tensorboard=True), tmp_path, reader=make_reader())

    events = EventAccumulator(str(tmp_path / TENSORBOARD)).Reload()
    lines = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    for line, event in zip(lines, events.Scalars("terms/detection/l1"), strict=True):
        assert event.value == pytest.approx(line["terms"]["detection/l1"])
    assert set(events.Tags()["scalars"]) == {name for line in lines for name in scalars(line)}


def test_weights_and_biases_is_imported_where_it_is_asked_for(
    tmp_path: Path, make_run: MakeRun, make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Run:
        def log(self, numbers: dict[str, float], step: int) -> None:
            told.append((step, numbers["loss"]))

        def finish(self) -> None:
            told.append("finished")

    def init(**options: Any) -> Run:
        told.append((options["project"], options["dir"], options["config"]["steps"]))
        return Run()

    wandb = types.ModuleType("wandb")
    wandb.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)

    train(make_run(steps=1, wandb={"project": "toys"}), tmp_path, reader=make_reader())

    (line,) = read(tmp_path)
    assert told == [("toys", str(tmp_path), 1), (1, line.loss), "finished"]


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_operations_by_formula_are_those_that_torch_counts(
    layout: str, straight: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    from trainer.config import Packing

    model, tokenizer, config = load_model(straight)
    model.train_only(set(model.parts()))
    flops = Flops(model)
    steps = batches(
        make_reader(),
        tokenizer,
        encode_settings(config, model.config),
        seed=0,
        global_batch=2,
        first_step=0,
        last_step=3,
        packing=Packing() if layout == "packed" else None,
    )

    for data in steps:
        (batch,) = data.batches
        with FlopCounterMode(display=False) as counter:
            model(batch).loss.backward()
        # Padding, the other half of attention's pairs and the loss of masks by points are in torch's count alone.
        assert flops.of(batch) == pytest.approx(counter.get_total_flops(), rel=0.2), batch.family


def test_what_a_device_can_do_is_known_by_name_or_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 PCIe")
    cuda = torch.device("cuda", 0)

    assert peak_flops(cuda, "bf16", None) == PEAK_TFLOPS["H100 PCIe"] * 1e12
    assert peak_flops(cuda, "fp32", None) is None
    assert peak_flops(torch.device("cpu"), "fp32", None) is None
    assert peak_flops(torch.device("cpu"), "fp32", 0.5) == 5e11
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "something new")
    assert peak_flops(cuda, "bf16", None) is None


# torch looks at every tensor's gradient while it takes a layer apart.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_compiled_layers_change_no_number(
    straight: Path, tmp_path: Path, make_run: MakeRun, make_reader: MakeReader
) -> None:
    # A backend that compiles nothing: it takes the layers apart and puts them together.
    train(make_run(checkpoint_every=6, compile="eager"), tmp_path, reader=make_reader())

    for line, other in zip(read(straight), read(tmp_path), strict=True):
        assert other.loss == pytest.approx(line.loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(line.grad_norm, rel=1e-4)


def test_a_process_that_is_alone_agrees_with_itself() -> None:
    alone = Ranks(device=torch.device("cpu"))

    assert (alone.gather(3), alone.any(True), alone.all(False), alone.leads) == ([3], True, False, True)
