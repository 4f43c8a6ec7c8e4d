"""A run's settings are strict; each stage trains what the paper says, at its rate."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from dataengine.errors import ModelError, PlanError, SpecError
from trainer.config import (
    STAGES,
    encode_settings,
    learning_rates,
    load_config,
    make_config,
    model_config,
    rate_factor,
    recipe_of,
)
from trainer.model.visionllm import VisionLLM
from trainer.tokenizer import train_tokenizer

VOCABULARY = train_tokenizer(["find all"], 300).get_vocab()
PARTS = list(
    VisionLLM(model_config(make_config({"shards": "s", "steps": 1, "global_batch": 1}), VOCABULARY)).parts()
)


def make(**changes: Any) -> Any:
    return make_config({"shards": "s", "steps": 10, "global_batch": 2, **changes})


def test_a_file_becomes_a_run(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "shards: out/shards\nsteps: 20\nglobal_batch: 8\nseed: 7\nstage: '3'\nlearning_rates: {backbones: null}\n"
        "mixture: {policy: explicit, weights: {detection: 2, vqa: 1}}\n"
    )

    config = load_config(path)

    recipe = recipe_of(config)
    assert (recipe.seed, recipe.global_batch, recipe.mode, recipe.policy) == (7, 8, "unmixed", "explicit")
    assert (config.stage, config.learning_rates) == ("3", {"backbones": None})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepz: 3", "unknown key 'stepz'; did you mean 'steps'?"),
        ("stage: 4", r"run\.yaml:4: stage"),
        ("warmup_ratio: 1.5", "warmup_ratio is 1.5, expected 0 to 1"),
        ("lr: -1.0", "a learning rate is -1.0, expected a positive number"),
        ("checkpoint_every: 0", "checkpoint_every is 0, expected at least 1"),
        ("num_workers: -1", "num_workers is -1, expected 0 or more"),
        ("threads: -1", "threads is -1, expected 0 or more"),
        ("model: huge", "model is 'huge', expected 'tiny' or a mapping"),
        ("pack: {max_token: 3}", "unknown key 'max_token'; did you mean 'max_tokens'?"),
        ("pack: {max_tiles: 0}", "pack.max_tiles is 0, expected at least 1"),
        (
            "pack: {max_tokens: 2000}",
            "pack.max_tokens is 2000, expected at least max_length 2048: a sample must fit",
        ),
        ("micro_batch: {max_rows: 0}", "micro_batch.max_rows is 0, expected at least 1"),
        ("micro_batch: {max_tokens: 2000}", "micro_batch.max_tokens is 2000, expected at least 2048"),
        (
            "pack: {max_tokens: 4096}\nmicro_batch: {max_tokens: 4000}",
            "micro_batch.max_tokens is 4000, expected at least 4096, as long as a sequence may be",
        ),
        ("micro_batch: {multiple_of: 4}", "micro_batch.multiple_of is 4, expected at most global_batch 2"),
        ("mixture: {seed: 3}", "mixture.seed stands apart from seed"),
        ("mixture: {mode: mixed}", "mixture.mode is 'mixed', expected 'unmixed' .* or 'accumulate'"),
        ("adapt: {function: 'a:b', delay: 1}", "takes effect 1 steps later and 4 steps are read ahead"),
        ("adapt: {function: 'a:b'}\nmixture: {schedule: [{step: 4}]}", "both change the mixture"),
        ("mixture: {polity: sqrt}", "unknown key 'polity'; did you mean 'policy'?"),
        ("mixture: {policy: squrt}", "mixture.policy: invalid enum value 'squrt'; did you mean 'sqrt'?"),
        (
            "mixture: {schedule: [{step: 1, wieghts: {}}]}",
            "mixture.schedule.0: unknown key 'wieghts'; did you mean 'weights'?",
        ),
        ("render: never", r"run\.yaml:4: render: invalid enum value 'never'"),
        (
            "render: each_epoch\nrender_options: {max_clases: 3}",
            "unknown key 'max_clases'; did you mean 'max_",
        ),
        ("render: each_epoch\nrender_options: {all_ratio: 2}", "all_ratio: 2.0, expected 0 to 1"),
        ("render_options: {max_classes: 3}", "render is 'stored', expected 'each_epoch'"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"shards: out\nsteps: 3\nglobal_batch: 2\n{text}\n")

    with pytest.raises((SpecError, PlanError), match=words):
        load_config(path)


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("1a", {"projector": 1e-3, "region": 1e-3}),
        ("1b", {"projector": 2.5e-5, "region": 2.5e-5, "language": 2.5e-5, "embeddings": 2.5e-5}),
        (
            "2",
            {
                "projector": 1e-5,
                "region": 1e-5,
                "embeddings": 1e-5,
                "superlink": 1e-4,
                "decoders.detection": 1e-4,
                "decoders.detection.backbone": 1e-5,
            },
        ),
        ("3", {"superlink": 1e-4, "decoders.detection": 1e-4, "decoders.detection.backbone": 1e-5}),
        ("joint", dict.fromkeys(PARTS, 1e-3)),
    ],
)
def test_a_stage_trains_the_parts_of_the_paper(stage: str, expected: dict[str, float]) -> None:
    assert learning_rates(make(stage=stage), dict.fromkeys(PARTS)) == expected


def test_a_step_holds_one_family_or_a_part_of_each() -> None:
    parts = make(mixture={"mode": "accumulate", "loss_weights": {"detection": 2.0}})

    assert recipe_of(make()).mode == "unmixed"
    assert (recipe_of(parts).mode, recipe_of(parts).loss_weights) == ("accumulate", {"detection": 2.0})


def test_only_the_joint_stage_trains_the_image_encoder() -> None:
    assert [stage for stage, rates in STAGES.items() if "vision" in rates] == ["joint"]


def test_rates_can_be_set_for_all_parts_for_one_kind_and_for_one_part() -> None:
    config = make(
        stage="3", lr=5e-4, learning_rates={"backbones": None, "decoders.detection": 2e-4, "region": 1e-6}
    )

    found = learning_rates(config, dict.fromkeys(PARTS))

    assert found == {"superlink": 5e-4, "decoders.detection": 2e-4, "region": 1e-6}


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ModelError, match="no part is called 'languag'; did you mean 'language'"):
        learning_rates(make(learning_rates={"languag": 1.0}), dict.fromkeys(PARTS))


def test_the_rate_rises_and_falls_to_zero() -> None:
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]

    assert factors[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors == [*factors[:10], *sorted(factors[10:], reverse=True)]
    assert 0 < factors[99] < 0.001
    assert all(math.isfinite(rate_factor(0, 1, ratio)) for ratio in (0.0, 0.5, 1.0))


def test_the_model_and_the_encoding_agree_on_sizes() -> None:
    config = make(model={"preset": "tiny", "detection": {"num_queries": 8}, "superlink": {"shared": True}})

    model = model_config(config, VOCABULARY)
    settings = encode_settings(config, model)

    assert (settings.tile_side, settings.tokens_per_tile) == (112, 16)
    assert {token: settings.num_queries[token] for token in ("[DET]", "[GRD]", "[POSE]", "[GEN]")} == {
        "[DET]": 8, "[GRD]": 8, "[POSE]": 0, "[GEN]": 0,
    }  # fmt: skip
    assert dict(settings.readers) == {"detection": ("[DET]", "[GRD]", "[SEG]")}
    assert (settings.decoder_short, settings.decoder_longest) == ((128,), 128)
    assert model.superlink.shared


def test_the_first_decoder_that_reads_a_token_says_how_many_queries_follow_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Counting:
        family, tokens, num_queries = "counting", ("[DET]", "[SEG]", "[POSE]"), 2

    module = types.ModuleType("counting_decoder")
    module.Counting = Counting  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "counting_decoder", module)
    config = make()
    tiny = model_config(config, VOCABULARY)
    model = dataclasses.replace(tiny, decoders={**tiny.decoders, "counting_decoder:Counting": {}})

    settings = encode_settings(config, model)

    assert [settings.num_queries[token] for token in ("[DET]", "[SEG]", "[POSE]", "[GEN]")] == [4, 4, 2, 0]
    assert settings.readers["counting"] == ("[DET]", "[SEG]", "[POSE]")


def test_a_model_is_written_out_in_full() -> None:
    sizes = {
        "vision": {
            "image_size": 28,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_layers": 3,
            "num_heads": 2,
        },
        "language": {"hidden_size": 32, "intermediate_size": 32, "num_layers": 1, "num_heads": 2},
        "decoders": {},
    }

    model = model_config(make(model=sizes, seed=5), VOCABULARY)

    assert (model.language.vocab_size, model.seed) == (len(VOCABULARY), 5)
    assert encode_settings(make(model=sizes), model).decoder_short == (800,)
    assert "decoders.detection" not in VisionLLM(model).parts()


@pytest.mark.parametrize(
    "sizes",
    [
        {"preset": "tiny", "detector": {}},
        {"preset": "tiny", "detection": {"quries": 3}},
        {"vision": {}},
        {"visoin": {}},
    ],
)
def test_unknown_sizes_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="expected the fields of ModelConfig"):
        model_config(make(model=sizes), VOCABULARY)
