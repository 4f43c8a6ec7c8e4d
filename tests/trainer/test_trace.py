"""A trace tells the tokens of a step as the step had them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dataengine.audit.account import prove
from dataengine.cli import main
from dataengine.index import Index
from dataengine.sample import Sample
from dataengine.store import locate
from dataengine.trace import served_by, step_of, stored, trace, worded
from trainer import checkpoint as checkpoints
from trainer.config import TrainConfig, encode_settings, model_config, recipe_of, render_of
from trainer.data import batches, open_shards
from trainer.tokenizer import load_tokenizer, save_tokenizer
from trainer.trace import tokens_at, tokens_of
from trainer.train import train

MakeRun = Callable[..., TrainConfig]
STEPS, BATCH = 4, 3


@pytest.fixture
def run(two_task_shards: Path, tmp_path: Path, make_run: MakeRun) -> tuple[Path, TrainConfig]:
    """Return a short run whose samples are worded anew in every pass and mirrored half of the time."""
    config = make_run(
        shards=str(two_task_shards),
        steps=STEPS,
        global_batch=BATCH,
        render="each_epoch",
        render_options={"first_pass": "anew"},
        flip_ratio=0.5,
        max_length=150,
    )
    train(config, tmp_path / "run")
    return tmp_path / "run", config


def test_the_tokens_of_a_serving_are_those_of_its_step(
    run: tuple[Path, TrainConfig], two_task_shards: Path
) -> None:
    folder, config = run
    index = Index(two_task_shards)
    tokenizer = load_tokenizer(checkpoints.find_checkpoint(folder).directory / checkpoints.TOKENIZER)
    reader = open_shards(locate(config.shards), recipe_of(config), render_of(config))
    settings = encode_settings(config, model_config(config, tokenizer.get_vocab()))
    read = batches(
        reader, tokenizer, settings, seed=config.seed, global_batch=BATCH, first_step=0, last_step=STEPS
    )
    seen: set[tuple[str, ...]] = set()
    for data in read:
        (batch,) = data.batches
        told = {}
        for row in step_of(index, folder, data.step + 1).rows:
            found = served_by(index, trace(index, row.id), folder, data.step + 1)
            assert isinstance(found.servings, tuple)
            (serving,) = [one for one in found.servings if one.t == row.t]
            told[row.id] = tokens_at(folder, worded(index, folder, serving, row.id), row.t)
        for number, one in enumerate(batch.sample_ids):
            there = batch.attention_mask_BL[number].bool()
            assert told[one].ids == tuple(batch.input_ids_BL[number][there].tolist())
            assert told[one].learnt == tuple((batch.labels_BL[number][there] != -100).tolist())
            seen.add(told[one].changed)

    assert seen == {(), ("mirrored",)}


def test_the_account_of_a_run_holds_from_its_records_on(run: tuple[Path, TrainConfig]) -> None:
    lines = prove([run[0]])

    assert {line.verdict for line in lines if line.stage in ("plan", "served")} == {"proven"}
    assert "differs" not in {line.verdict for line in lines}
    assert {line.stage for line in lines} >= {"source", "samples", "shards", "tars", "plan", "served"}


def test_a_tokenizer_alone_tells_the_stored_words(
    run: tuple[Path, TrainConfig],
    two_task_shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make_sample: Callable[[int, str], tuple[Sample, list[bytes]]],
) -> None:
    folder, _ = run
    tokenizer = load_tokenizer(checkpoints.find_checkpoint(folder).directory / checkpoints.TOKENIZER)
    save_tokenizer(tokenizer, tmp_path / "tokenizer")
    sample = make_sample(1, "vqa")[0]
    told = tokens_of(tmp_path / "tokenizer", sample)

    assert tokenizer.decode([*told.ids]) == told.text
    said = [one for one, learnt in zip(told.ids, told.learnt, strict=True) if learnt]
    assert tokenizer.decode(said) == f" {sample.conversation[-1].text}</s>"

    one = Index(two_task_shards).row(0)["id"]
    with pytest.raises(SystemExit):
        main(["trace", str(two_task_shards), one, "--tokenizer", str(tmp_path / "tokenizer"), "--json"])
    tokens = json.loads(capsys.readouterr().out)["tokens"]
    assert tokens["ids"] == [*tokens_of(tmp_path / "tokenizer", stored(Index(two_task_shards), one)).ids]
