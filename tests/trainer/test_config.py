"""A run's settings are strict; each stage trains what the paper says, at its rate."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

from dataengine import yaml12
from dataengine.errors import ModelError, PlanError, SpecError
from trainer.config import (
    MAX_BATCH,
    STAGES,
    encode_settings,
    learning_rates,
    load_config,
    make_config,
    model_config,
    rate_factor,
    recipe_of,
    stage_fields,
    stage_names,
)
from trainer.model.decoders import DECODERS
from trainer.model.visionllm import VisionLLM
from trainer.settings import CLIP_MEAN
from trainer.tokenizer import train_tokenizer
from trainer.views import tile_view

VOCABULARY = train_tokenizer(["find all"], 300).get_vocab()
PARTS = list(
    VisionLLM(model_config(make_config({"shards": "s", "steps": 1, "global_batch": 1}), VOCABULARY)).parts()
)


LORA: dict[str, Any] = {"preset": "tiny", "language": {"lora": {"rank": 2}}}


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
        ("model: huge", "model is 'huge', expected a preset or a mapping; known: base, small, tiny"),
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


def test_a_step_that_no_memory_holds_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"global_batch is 10000000, expected at most 65536: .*; lower it, and take more"
    ):
        make(global_batch=10**7)
    assert make(global_batch=MAX_BATCH).global_batch == MAX_BATCH


# Tables A13 and A.11 of the paper, as far as they go: who learns in which stage, and how fast.
TABLE: dict[str, dict[str, Any]] = {
    "1a": {"rates": {"region": 1e-3, "projector": 1e-3}, "batch": 2048, "tiles": 1},
    "1b": {
        "rates": {"region": 2.5e-5, "projector": 2.5e-5, "language": 2.5e-5, "embeddings": 2.5e-5, "lora": 2.5e-5},
        "batch": 1024,
        "tiles": 4,
    },
    "2": {
        "rates": {
            "region": 1e-5, "projector": 1e-5, "embeddings": 1e-5, "lora": 1e-5,
            "superlink": 1e-4,
            "decoders.detection": 1e-4, "decoders.detection.backbone": 1e-5,
        },
        "batch": 256,
        "tiles": 4,
    },
    "3": {
        "rates": {"superlink": 1e-4, "decoders.detection": 1e-4, "decoders.detection.backbone": 1e-5},
        "batch": 256,
        "tiles": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize("stage", TABLE)
def test_a_stage_is_the_papers(stage: str) -> None:
    expected = TABLE[stage]
    config = make(**{**stage_fields(f"stage{stage}"), "model": "tiny"})

    assert config.stage == stage
    assert learning_rates(config, dict.fromkeys([*PARTS, "lora"])) == expected["rates"]
    assert (config.global_batch, config.max_tiles) == (expected["batch"], expected["tiles"])
    assert (config.warmup_ratio, config.weight_decay, config.precision) == (0.03, 0.0, "bf16")
    assert (recipe_of(config).policy, recipe_of(config).mode) == ("proportional", "unmixed")


@pytest.mark.parametrize("stage", [*TABLE, "joint"])
def test_a_stage_freezes_what_it_gives_no_rate(stage: str) -> None:
    model = VisionLLM(model_config(make(model=LORA), VOCABULARY))
    rates = learning_rates(make(stage=stage), model.parts())

    model.train_only(set(rates))

    learning = {name for name, some in model.parts().items() if any(p.requires_grad for p in some)}
    expected = set(model.parts()) if stage == "joint" else set(TABLE[stage]["rates"])
    assert learning == expected


def test_a_file_of_ours_says_what_each_part_learns_at() -> None:
    """The rates that people read in a file are those of its stage."""
    for name in stage_names():
        file = yaml12.load(Path(str(resources.files("trainer"))) / "stages" / f"{name}.yaml")

        assert set(file["learning_rates"]) == {
            *(part for part in PARTS if "." not in part),
            "lora",
            "decoders",
            "backbones",
        }
        assert make(**file).stage == file["stage"]


def test_a_file_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(
        SpecError, match="stag2: no such file, and none of ours is called so; did you mean 'stage2'"
    ):
        stage_fields("stag2")


class Mapper(torch.nn.Module):
    """A decoder whose names hold those of other parts: a published trainer chose rates by such words."""

    family, tokens, num_queries = "mapping", ("[GEN]",), 2

    def __init__(self, width: int) -> None:
        super().__init__()
        self.llm2sd_mapper = torch.nn.Linear(width, 4)
        self.backbone_of_region_encoder = torch.nn.Linear(4, 4)

    @classmethod
    def build(cls, options: dict[str, Any], language_width: int) -> Mapper:
        return cls(language_width)


def test_defect_17_a_module_learns_at_its_own_parts_rate_whatever_it_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("own")
    module.__dict__["Mapper"] = Mapper
    monkeypatch.setitem(sys.modules, "own", module)
    config = make(stage="2", model={"preset": "tiny", "decoders": ["own:Mapper"], **LORA})
    model = VisionLLM(model_config(config, VOCABULARY))

    groups = {id(p): name for name, some in model.parts().items() for p in some}
    rates = learning_rates(config, model.parts())

    mapper = model.decoders["mapping"]
    assert {groups[id(p)] for p in mapper.parameters()} == {"decoders.mapping"}
    assert rates["decoders.mapping"] == 1e-4
    assert sum(len(some) for some in model.parts().values()) == len(list(model.parameters()))


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingOptions:
    num_queries: int = 6
    width: int = 512

    @classmethod
    def tiny(cls) -> CountingOptions:
        return cls(num_queries=4, width=8)


class Counting:
    family, tokens, options = "counting", ("[DET]", "[POSE]"), CountingOptions


class Plain:
    family, tokens, num_queries = "plain", ("[GEN]",), 2


@pytest.fixture
def own_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put two decoders where a user's package would be."""
    module = types.ModuleType("own")
    module.__dict__.update(Counting=Counting, Plain=Plain)
    monkeypatch.setitem(sys.modules, "own", module)


@pytest.mark.usefixtures("own_decoders")
def test_a_preset_takes_a_decoders_sizes_from_its_own_class() -> None:
    names = ["detection", "own:Counting", "own:Plain"]
    own = {"own:Counting": {"width": 16}, "own:Plain": {"depth": 3}, "detection": {"weights": {"cls": 9.0}}}

    model = model_config(make(model={"preset": "tiny", "decoders": names, **own}), VOCABULARY)
    settings = encode_settings(make(), model)

    assert list(model.decoders) == names
    assert model.decoders["own:Counting"] == {"num_queries": 4, "width": 16}
    assert model.decoders["own:Plain"] == {"depth": 3}
    # What a change does not name stays the preset's.
    assert model.decoders["detection"]["weights"] == {
        "cls": 9.0, "l1": 5.0, "giou": 2.0, "mask": 1.0, "dice": 1.0,
    }  # fmt: skip
    assert [settings.num_queries[token] for token in ("[DET]", "[SEG]", "[POSE]", "[GEN]", "[EDIT]")] == [
        4, 4, 4, 2, 0,
    ]  # fmt: skip
    assert settings.readers["counting"] == ("[DET]", "[POSE]")


@pytest.mark.parametrize(
    ("preset", "expected"),
    # In millions. CLIP-L/14 has 303; a language model of Vicuna's sizes 6476 without its embeddings.
    [
        ("small", {"vision": (20, 25), "language": (80, 90)}),
        ("base", {"vision": (303, 304), "language": (6476, 6477)}),
    ],
)
def test_presets_have_the_sizes_that_they_promise(preset: str, expected: dict[str, tuple[int, int]]) -> None:
    with torch.device("meta"):
        parts = VisionLLM(model_config(make(model=preset), VOCABULARY)).parts()

    millions = {name: sum(p.numel() for p in some) / 1e6 for name, some in parts.items()}
    for name, (least, most) in expected.items():
        assert least < millions[name] < most, name
    assert {f"decoders.{name}" for name in DECODERS} <= set(millions)
    if preset == "small":
        assert 100 < sum(millions.values()) < 300


@pytest.mark.usefixtures("own_decoders")
def test_decoders_that_read_the_same_token_have_equally_many_queries() -> None:
    names = ["detection", "own:Counting"]
    model = model_config(
        make(model={"preset": "tiny", "decoders": names, "own:Counting": {"num_queries": 2}}), VOCABULARY
    )

    with pytest.raises(
        ModelError, match=r"'counting' reads \[DET\] with num_queries 2, expected 4, as 'detection'"
    ):
        encode_settings(make(), model)


def test_a_models_tiles_are_normalised_as_its_image_encoder_wants(tmp_path: Path) -> None:
    siglip = SiglipVisionConfig(
        image_size=64,
        patch_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
    )
    SiglipVisionModel(siglip).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5]}'
    )

    model = model_config(make(model={"preset": "tiny", "vision": {"pretrained": str(tmp_path)}}), VOCABULARY)
    settings = encode_settings(make(), model)

    # Two by two patches are a token.
    assert (settings.tile_side, settings.tokens_per_tile) == (64, 4)
    white = np.full((64, 64, 3), 255, np.uint8)
    tile = tile_view(white, 64, 1, settings.tile_mean, settings.tile_std)[0]
    assert tile[:, 0, 0].tolist() == [2.0, 1.0, 1.0]
    assert encode_settings(make(), model_config(make(), VOCABULARY)).tile_mean == CLIP_MEAN


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
    ("sizes", "words"),
    [
        ({"preset": "tini"}, "unknown preset 'tini'; did you mean 'tiny'"),
        ({"preset": "tiny", "detector": {}}, "model: unknown key 'detector'"),
        ({"preset": "tiny", "decoders": [], "detection": {}}, "options for 'detection', which is not among"),
        ({"preset": "tiny", "decoders": {"detection": {}}}, "expected a list of names beside a preset"),
        ({"preset": "tiny", "detection": {"quries": 3}}, "detection: unknown key 'quries'"),
        ({"preset": "tiny", "detection": {"num_queries": "4"}}, "detection: Expected `int`"),
        (
            {"preset": "tiny", "detection": {"weights": {"clss": 1.0}}},
            "detection.weights: unknown key 'clss'",
        ),
        ({"preset": "tiny", "language": {"hiden_size": 3}}, "model.language: unknown key 'hiden_size'"),
        (
            {"preset": "tiny", "language": {"lora": {"rnk": 3}}},
            "model.language.lora: unknown key 'rnk', .*; did you mean 'rank'",
        ),
        ({"preset": "tiny", "language": {"vocab_size": 3}}, "vocab_size are the tokenizer's"),
        ({"vision": {}}, "decoders is a mapping"),
        ({"vision": "clip", "decoders": {}}, "vision and language are mappings"),
        ({"visoin": {}, "decoders": {}}, "unknown key 'visoin', .*; did you mean 'vision'"),
    ],
)
def test_wrong_sizes_are_named(sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        model_config(make(model=sizes), VOCABULARY)
