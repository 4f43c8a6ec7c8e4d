from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers as typed_diffusers
import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dataengine.errors import ModelError
from dataengine.tokens import EDIT, EMB_TOKENS, GEN
from trainer.batch import Batch, PictureTargets, Whole, counts
from trainer.config import STAGES, TrainConfig, learning_rates
from trainer.model.config import DetectionConfig, EditingConfig, GenerationConfig, ModelConfig, tiny
from trainer.model.decoders.chance import chance_of, draw_seed
from trainer.model.decoders.diffusion import (
    ConditionMapper,
    DiffusionDecoder,
    EditingDecoder,
    GenerationDecoder,
)
from trainer.model.visionllm import VisionLLM
from trainer.train import _optimizer

# What its classes inherit has no types.
diffusers: Any = typed_diffusers

WIDTH, SIDE = 24, 32
COLOURS = {"red": (0.9, -0.9, -0.9), "green": (-0.9, 0.7, -0.8), "blue": (-0.8, -0.6, 0.9)}
# Small enough that a test may run the UNet many times.
SMALL: dict[str, Any] = {
    "num_queries": 64,
    "picture_side": SIDE,
    "unet_channels": (16, 32),
    "width": 32,
    "sampling_steps": 4,
}


def generation(**changes: Any) -> Any:
    torch.manual_seed(0)
    return GenerationDecoder(GenerationConfig.tiny(**{**SMALL, **changes}), WIDTH)


def editing(**changes: Any) -> Any:
    torch.manual_seed(0)
    return EditingDecoder(EditingConfig.tiny(**{**SMALL, **changes}), WIDTH)


def hidden(num_samples: int, seed: int = 0) -> torch.Tensor:
    """Return hidden states of 64 queries for each sample, as noise."""
    return torch.randn((num_samples, 64, WIDTH), generator=torch.Generator().manual_seed(seed))


def batch_of(num_samples: int, *, edits: bool = False, seed: int = 0, side: int = SIDE) -> Batch:
    """Return a batch of pictures of noise, its text left out."""
    generator = torch.Generator().manual_seed(seed)
    wanted, given = torch.rand((2, num_samples, 3, side, side), generator=generator) * 2 - 1
    places = torch.arange(num_samples)
    return Batch(
        family="editing" if edits else "generation",
        sample_ids=tuple(f"toy/{seed}-{b}" for b in range(num_samples)),
        tasks=("toy",) * num_samples,
        input_ids_BL=torch.zeros((num_samples, 2), dtype=torch.int64),
        labels_BL=torch.zeros((num_samples, 2), dtype=torch.int64),
        attention_mask_BL=torch.ones((num_samples, 2), dtype=torch.bool),
        tiles_T3SS=torch.zeros((0, 3, 8, 8)),
        tiles_per_image=((),) * num_samples,
        regions_RSS=torch.zeros((0, 8, 8)),
        region_tile_R=torch.zeros(0, dtype=torch.int64),
        groups_G2=torch.stack([places, torch.zeros_like(places)], 1),
        group_tokens=(EDIT if edits else GEN,) * num_samples,
        images_B3HW=None,
        pixel_mask_BHW=None,
        targets=(),
        pictures=PictureTargets(
            wanted_B3SS=wanted,
            given_B3SS=given if edits else None,
            captions=tuple(f"picture {b}" for b in range(num_samples)),
        ),
    )


def part(batch: Batch, start: int, stop: int) -> Batch:
    """Return some samples of a batch."""
    pictures = batch.pictures
    assert pictures is not None and pictures.wanted_B3SS is not None
    return replace(
        batch,
        sample_ids=batch.sample_ids[start:stop],
        groups_G2=batch.groups_G2[: stop - start],
        pictures=PictureTargets(
            wanted_B3SS=pictures.wanted_B3SS[start:stop],
            given_B3SS=None if pictures.given_B3SS is None else pictures.given_B3SS[start:stop],
            captions=pictures.captions[start:stop],
        ),
    )


def losses(decoder: Any, hidden_GNC: torch.Tensor, batch: Batch, seed: int = 0) -> dict[str, torch.Tensor]:
    terms: dict[str, torch.Tensor] = decoder(hidden_GNC, batch, torch.Generator().manual_seed(seed)).terms
    return terms


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], str]:
    """Return a function that gives the folder of a tiny pipeline as diffusers saves it."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folders = {edits: tmp_path_factory.mktemp("edits" if edits else "makes") for edits in (False, True)}
    for edits, folder in folders.items():
        torch.manual_seed(5)
        parts: dict[str, Any] = {
            "vae": diffusers.AutoencoderKL(
                block_out_channels=(8, 16),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                norm_num_groups=4,
            ),
            "unet": diffusers.UNet2DConditionModel(
                sample_size=SIDE // 2,
                in_channels=8 if edits else 4,
                block_out_channels=(16, 32),
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                layers_per_block=1,
                cross_attention_dim=32,
                attention_head_dim=2,
                norm_num_groups=8,
            ),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(words),
                    hidden_size=32,
                    intermediate_size=64,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    bos_token_id=len(words) - 2,
                    eos_token_id=len(words) - 1,
                    pad_token_id=len(words) - 1,
                )
            ),
            "tokenizer": CLIPTokenizer(
                vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=77
            ),
            # The published pipelines name a sampler, and training takes its noise from it.
            "scheduler": diffusers.PNDMScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
            ),
        }
        for name, found in parts.items():
            found.save_pretrained(folder / name)
    return lambda edits: str(folders[edits])


def pretrained(folder: str, *, edits: bool, **changes: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"pretrained": folder, "picture_side": SIDE, "num_heads": 4, "ffn_dim": 64, **changes}
    if edits:
        return EditingDecoder(EditingConfig(**sizes), WIDTH)
    return GenerationDecoder(GenerationConfig(**sizes), WIDTH)


def test_the_mapper_makes_77_vectors_of_64_hidden_states() -> None:
    config = GenerationConfig()
    mapper = ConditionMapper(WIDTH, config.width, config.num_tokens, config.num_heads, config.ffn_dim)

    assert mapper(hidden(2)).shape == (2, 77, 768)
    # One encoder layer of 12 d^2, one decoder layer of 16 d^2 (d = 768), the queries, the MLP, norms and biases.
    size = sum(parameter.numel() for parameter in mapper.parameters())
    matrices = (12 + 16 + 1) * 768**2 + 77 * 768 + WIDTH * 768
    assert matrices < size < 1.002 * matrices


@pytest.mark.parametrize("edits", [False, True])
def test_a_pipelines_folder_makes_the_pictures_that_diffusers_makes(
    pipelines: Callable[[bool], str], edits: bool
) -> None:
    folder = pipelines(edits)
    decoder = pretrained(folder, edits=edits)
    batch = batch_of(2, edits=edits)
    with torch.no_grad():
        condition = decoder.mapper(hidden(2))
    first = torch.stack(
        [torch.randn((2, 4, 16, 16), generator=chance_of(0, name))[0] for name in batch.sample_ids]
    )
    parts = {
        "vae": diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae"),
        "unet": diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet"),
        "text_encoder": CLIPTextModel.from_pretrained(folder, subfolder="text_encoder"),
        "tokenizer": CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer"),
        "scheduler": diffusers.DDIMScheduler.from_pretrained(
            folder, subfolder="scheduler", clip_sample=False
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    asked: dict[str, Any] = {"guidance_scale": 5.0, "num_inference_steps": 3, "output_type": "pt"}
    pipeline = (
        diffusers.StableDiffusionInstructPix2PixPipeline if edits else diffusers.StableDiffusionPipeline
    )(**parts)
    pipeline.set_progress_bar_config(disable=True)
    if edits:
        assert batch.pictures is not None and batch.pictures.given_B3SS is not None
        asked |= {"image": (batch.pictures.given_B3SS + 1) / 2, "image_guidance_scale": 2.0}
        # This pipeline leaves the unconditional states to its caller where the others are given.
        empty = parts["tokenizer"](
            ["", ""], padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        )
        asked["negative_prompt_embeds"] = parts["text_encoder"](empty.input_ids).last_hidden_state
    else:
        asked |= {"height": SIDE, "width": SIDE}

    expected = pipeline(prompt_embeds=condition, latents=first, **asked).images
    found = decoder.predict(hidden(2), batch, steps=3, guidance=5.0, picture_guidance=2.0)

    assert [picture.dtype for picture in found] == [torch.uint8] * 2
    assert expected.std() > 0.05  # else any two pictures would be alike
    assert (torch.stack(found).float() - expected * 255).abs().max() < 1


@pytest.mark.parametrize("edits", [False, True])
def test_the_losses_are_those_of_diffusers_and_transformers_parts(
    pipelines: Callable[[bool], str], edits: bool
) -> None:
    folder = pipelines(edits)
    decoder = pretrained(folder, edits=edits, drop_text=0.0, drop_picture=0.0, drop_both=0.0)
    batch = batch_of(3, edits=edits)
    pictures = batch.pictures
    assert pictures is not None and pictures.wanted_B3SS is not None

    with torch.no_grad():
        found = losses(decoder, hidden(3), batch)
        mapped = decoder.mapper(hidden(3))
        vae = diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae")
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
        schedule = diffusers.DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
        seed = draw_seed(torch.Generator().manual_seed(0))
        errors = []
        for b, name in enumerate(batch.sample_ids):
            own = chance_of(seed, name)
            noise, spread = torch.randn((2, 4, 16, 16), generator=own)
            timestep = torch.randint(1000, (1,), generator=own)
            encoded = vae.encode(pictures.wanted_B3SS[b : b + 1]).latent_dist
            latents = 0.18215 * (encoded.mean + encoded.std * spread)
            shown = schedule.add_noise(latents, noise, timestep)
            if pictures.given_B3SS is not None:
                shown = torch.cat([shown, vae.encode(pictures.given_B3SS[b : b + 1]).latent_dist.mode()], 1)
            foretold = unet(shown, timestep, encoder_hidden_states=mapped[b : b + 1]).sample
            errors.append(((foretold - noise) ** 2).mean())
        coded = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")(
            list(pictures.captions), padding="max_length", max_length=77, return_tensors="pt"
        )
        states = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder")(coded.input_ids)[0]

    assert set(found) == {"noise", "caption"}
    torch.testing.assert_close(found["noise"], torch.stack(errors).mean())
    torch.testing.assert_close(found["caption"], 0.1 * ((mapped - states) ** 2).mean())


def test_without_a_text_encoder_there_is_no_caption_loss() -> None:
    assert set(losses(generation(), hidden(2), batch_of(2))) == {"noise"}


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_what_is_foretold_is_what_the_schedule_says(prediction: str) -> None:
    decoder = generation(noise_prediction=prediction, drop_text=0.0)
    batch = batch_of(1)
    assert batch.pictures is not None and batch.pictures.wanted_B3SS is not None
    own = chance_of(draw_seed(torch.Generator().manual_seed(0)), batch.sample_ids[0])
    noise = torch.randn((2, 48, 8, 8), generator=own)[:1]
    timestep = torch.randint(1000, (1,), generator=own)
    latents = torch.nn.functional.pixel_unshuffle(batch.pictures.wanted_B3SS, 4)
    signal = decoder.schedule.alphas_cumprod[timestep].sqrt()
    noisy = signal * latents + (1 - signal**2).sqrt() * noise
    velocity = signal * noise - (1 - signal**2).sqrt() * latents

    with torch.no_grad():
        found = losses(decoder, hidden(1), batch)["noise"]
        foretold = decoder.unet(noisy, timestep, encoder_hidden_states=decoder.mapper(hidden(1))).sample

    wanted = velocity if prediction == "v_prediction" else latents
    torch.testing.assert_close(found, ((foretold - wanted) ** 2).mean())


def test_conditions_are_dropped_at_the_stated_rates() -> None:
    decoder = editing(drop_text=0.3, drop_picture=0.2, drop_both=0.1)
    drawn = torch.tensor([float(torch.rand((), generator=chance_of(1, str(k)))) for k in range(4000)])

    text, picture = decoder._dropped(drawn)

    shares = [float(x.float().mean()) for x in (text & ~picture, picture & ~text, text & picture)]
    assert shares == pytest.approx([0.3, 0.2, 0.1], abs=0.03)  # four standard deviations


def test_the_paper_drops_each_condition_in_a_tenth_of_the_samples() -> None:
    assert GenerationConfig().drop_text == 0.1
    edits = EditingConfig()
    assert edits.drop_text + edits.drop_both == edits.drop_picture + edits.drop_both == 0.1


def test_what_is_dropped_is_not_seen() -> None:
    batch = batch_of(2, edits=True)
    pictures = batch.pictures
    assert pictures is not None and pictures.given_B3SS is not None
    other = replace(batch, pictures=replace(pictures, given_B3SS=-pictures.given_B3SS))

    def noise(hidden_GNC: torch.Tensor, batch: Batch, **dropped: float) -> float:
        rates = {"drop_text": 0.0, "drop_picture": 0.0, "drop_both": 0.0, **dropped}
        return losses(editing(**rates), hidden_GNC, batch)["noise"].item()

    seen = noise(hidden(2), batch)
    assert noise(hidden(2, seed=1), batch) != seen != noise(hidden(2), other)
    no_text = noise(hidden(2), batch, drop_text=1.0)
    assert no_text == noise(hidden(2, seed=1), batch, drop_text=1.0) != noise(hidden(2), other, drop_text=1.0)
    no_picture = noise(hidden(2), batch, drop_picture=1.0)
    assert no_picture == noise(hidden(2), other, drop_picture=1.0)
    assert no_picture != noise(hidden(2, seed=1), batch, drop_picture=1.0)
    assert noise(hidden(2), batch, drop_both=1.0) == noise(hidden(2, seed=1), other, drop_both=1.0)


def test_the_empty_caption_is_what_is_seen_instead(pipelines: Callable[[bool], str]) -> None:
    decoder = pretrained(pipelines(False), edits=False, drop_text=1.0)
    batch = batch_of(2)
    assert decoder.text is not None
    empty = decoder.text([""])

    dropped = losses(decoder, hidden(2), batch)["noise"]
    decoder.config = replace(decoder.config, drop_text=0.0)
    decoder.mapper.forward = lambda hidden_GNC: empty.expand(len(hidden_GNC), -1, -1)
    shown = losses(decoder, hidden(2), batch)["noise"]

    torch.testing.assert_close(dropped, shown)


def test_parts_of_a_batch_add_up_to_it() -> None:
    decoder = generation()
    batch = batch_of(4)
    whole = Whole(counts_5=counts(batch).float(), seed=draw_seed(torch.Generator().manual_seed(0)))

    together = losses(decoder, hidden(4), batch)["noise"]
    parts = [
        losses(decoder, hidden(4)[start:stop], replace(part(batch, start, stop), whole=whole), seed=9)[
            "noise"
        ]
        for start, stop in ((0, 1), (1, 4))
    ]

    torch.testing.assert_close(sum(parts), together)
    assert losses(decoder, hidden(4), batch, seed=1)["noise"] != together


@pytest.mark.parametrize("edits", [False, True])
def test_a_picture_depends_on_its_sample_and_the_seed_alone(edits: bool) -> None:
    decoder = editing() if edits else generation()
    batch = batch_of(3, edits=edits)

    def made(batch: Batch, hidden_GNC: torch.Tensor, seed: int | None) -> torch.Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return torch.stack(decoder.predict(hidden_GNC, batch, generator=generator))

    whole = made(batch, hidden(3), 1)
    assert torch.equal(made(batch, hidden(3), 1), whole)
    assert not torch.equal(made(batch, hidden(3), 2), whole)
    assert torch.equal(made(batch, hidden(3), None), made(batch, hidden(3), None))
    alone = made(part(batch, 1, 2), hidden(3)[1:2], 1)
    assert (alone[0].int() - whole[1].int()).abs().max() <= 1


def test_pictures_are_made_where_none_are_given_to_learn_from() -> None:
    made = generation().predict(hidden(2), replace(batch_of(2), pictures=None))
    batch = batch_of(2, edits=True)
    assert batch.pictures is not None
    edited = editing().predict(hidden(2), replace(batch, pictures=replace(batch.pictures, wanted_B3SS=None)))

    assert [tuple(picture.shape) for picture in (*made, *edited)] == [(3, SIDE, SIDE)] * 4


def test_guidance_of_one_asks_the_unet_once_a_step() -> None:
    decoder = generation()
    calls = []
    decoder.unet.register_forward_pre_hook(lambda *_: calls.append(1))

    decoder.predict(hidden(1), batch_of(1), steps=4, guidance=1.0)

    assert len(calls) == 4


@pytest.mark.parametrize("train_unet", [False, True])
def test_only_what_is_configured_learns(pipelines: Callable[[bool], str], train_unet: bool) -> None:
    decoder = pretrained(pipelines(False), edits=False, train_unet=train_unet)

    torch.stack(list(losses(decoder, hidden(2), batch_of(2)).values())).sum().backward()

    learning = {name.split(".")[0] for name, p in decoder.named_parameters() if p.requires_grad}
    assert learning == ({"mapper", "unet"} if train_unet else {"mapper"})
    assert {name for name, p in decoder.named_parameters() if p.grad is None} == {
        name for name, p in decoder.named_parameters() if not p.requires_grad
    }


def test_bf16_gives_nearly_the_same_losses(pipelines: Callable[[bool], str]) -> None:
    decoder = pretrained(pipelines(True), edits=True)
    batch = batch_of(2, edits=True)

    precise = losses(decoder, hidden(2), batch)
    with torch.autocast("cpu", torch.bfloat16):
        rough = losses(decoder, hidden(2), batch)
        made = decoder.predict(hidden(2), batch, steps=2)
    torch.stack(list(rough.values())).sum().backward()

    assert {value.dtype for value in rough.values()} == {torch.float32}
    torch.testing.assert_close(rough, precise, rtol=0.05, atol=0.05)
    assert made[0].dtype == torch.uint8
    assert all(torch.isfinite(p.grad).all() for p in decoder.mapper.parameters())


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (GenerationDecoder, {"train_unet": False}, "train_unet is false and the UNet has random weights"),
        (EditingDecoder, {"picture_side": 36}, "picture_side is 36, expected a multiple of 8"),
        (GenerationDecoder, {"noise_prediction": "epsilon"}, "noise_to_the_end needs noise_prediction"),
        (EditingDecoder, {"drop_text": 0.95}, "add up to more than 1"),
        (EditingDecoder, {"steps": 3}, "editing: unknown key 'steps'"),
        (GenerationDecoder, {"noise_prediction": "x"}, "generation: .*the fields of GenerationConfig"),
    ],
)
def test_what_cannot_be_built_is_refused(
    kind: type[DiffusionDecoder], changes: dict[str, Any], message: str
) -> None:
    sizes = {name: getattr(kind.options.tiny(), name) for name in kind.options.__dataclass_fields__}

    with pytest.raises(ModelError, match=message):
        kind.build({**sizes, **changes}, WIDTH)


def test_a_text_to_image_pipeline_cannot_edit(pipelines: Callable[[bool], str]) -> None:
    with pytest.raises(ModelError, match=r"takes 4 channels, expected 8; .*pipeline that edits pictures"):
        pretrained(pipelines(False), edits=True)


def test_a_batch_that_does_not_fit_is_refused() -> None:
    decoder, batch = editing(), batch_of(2, edits=True)
    assert batch.pictures is not None

    for changed, message in (
        (replace(batch, pictures=None), "no pictures to edit"),
        (replace(batch, pictures=replace(batch.pictures, wanted_B3SS=None)), "no pictures to make"),
        (batch_of(2, edits=True, side=40), r"pictures have shape \(2, 3, 40, 40\)"),
        (replace(batch, groups_G2=torch.tensor([[0, 0], [0, 1]])), r"stand in samples \[0, 0\]"),
    ):
        with pytest.raises(ModelError, match=message):
            losses(decoder, hidden(2), changed)


# In the whole model


def whole_model(vocabulary: dict[str, int], **decoders: Any) -> ModelConfig:
    """Return the tiny model with pictures of 32 pixels, and a detection decoder as small as can be."""
    least = DetectionConfig.tiny(encoder_layers=1, decoder_layers=1, denoising=0, num_objects=4)
    return tiny(vocabulary, detection=least, **decoders)


def picture_batch(
    vocabulary: dict[str, int],
    names: list[str],
    *,
    edits: bool = False,
    seed: int = 0,
) -> Batch:
    """Return a batch that asks for a square of each named colour, or that a grey square be given it."""
    generator = torch.Generator().manual_seed(seed)
    token = EDIT if edits else GEN
    words = ["<s>", "find", *names[:1], ".", token, *[EMB_TOKENS[0]] * 64, ".", "</s>"]
    rows = [[vocabulary[name if word == names[0] else word] for word in words] for name in names]
    ids = torch.tensor(rows)
    wanted = torch.full((len(names), 3, SIDE, SIDE), 0.8)
    given = wanted.clone()
    for b, name in enumerate(names):
        left, top = torch.randint(4, 16, (2,), generator=generator).tolist() if edits else (8, 8)
        wanted[b, :, top : top + 16, left : left + 16] = torch.tensor(COLOURS[name])[:, None, None]
        given[b, :, top : top + 16, left : left + 16] = 0.0
    whole = batch_of(len(names), edits=edits, seed=seed)
    return replace(
        whole,
        input_ids_BL=ids,
        labels_BL=torch.where(ids == vocabulary[EMB_TOKENS[0]], -100, ids),
        attention_mask_BL=torch.ones_like(ids, dtype=torch.bool),
        groups_G2=torch.stack([torch.arange(len(names)), torch.full((len(names),), 4)], 1),
        pictures=PictureTargets(
            wanted_B3SS=wanted, given_B3SS=given if edits else None, captions=tuple(names)
        ),
    )


def test_gradient_reaches_the_queries_through_a_frozen_language_model_and_a_frozen_unet(
    vocabulary: dict[str, int], pipelines: Callable[[bool], str]
) -> None:
    sizes = GenerationConfig(pretrained=pipelines(False), picture_side=SIDE, num_heads=4, ffn_dim=64)
    model = VisionLLM(whole_model(vocabulary, generation=sizes))
    model.train_only({"superlink", "decoders.generation"})

    output = model(picture_batch(vocabulary, ["red", "blue"]))
    output.loss.backward()

    assert set(output.losses) == {"text", "generation/noise", "generation/caption"}
    assert model.superlink.tables["generation"].grad.abs().sum() > 0
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(name.startswith(("superlink", "decoders.generation.mapper.")) for name in with_gradient)


def test_defect_17_the_mapper_learns_at_its_decoders_rate_in_every_stage(
    vocabulary: dict[str, int], pipelines: Callable[[bool], str]
) -> None:
    sizes = GenerationConfig(pretrained=pipelines(False), picture_side=SIDE, num_heads=4, ffn_dim=64)
    model = VisionLLM(whole_model(vocabulary, generation=sizes))
    decoder: Any = model.decoders["generation"]
    mapper = {id(parameter) for parameter in decoder.mapper.parameters()}

    for stage, expected in ((name, rates.get("decoders")) for name, rates in STAGES.items()):
        config = TrainConfig(shards="none", steps=1, global_batch=1, stage=stage)  # type: ignore[arg-type]
        rates = learning_rates(config, model.parts())
        model.train_only(set(rates))
        groups = _optimizer(config, model, rates).param_groups
        found = {group["lr"] for group in groups for p in group["params"] if id(p) in mapper}
        assert found == (set() if expected is None else {expected})
        # Frozen parts of the decoder are in no group at all.
        picture_group = [group for group in groups if group["name"] == "decoders.generation"]
        assert all(len(group["params"]) == len(mapper) for group in picture_group)


@pytest.mark.slow
@pytest.mark.parametrize("edits", [False, True])
def test_pictures_are_learnt(vocabulary: dict[str, int], edits: bool) -> None:
    # Without a picture beside them, only much noise hides the colour of large flat squares.
    decoder = (editing if edits else generation)(unet_channels=(32, 64), noise_beta=0.05 if edits else 0.2)
    names, steps = list(COLOURS), 100
    asked = hidden(len(names))
    optimizer = torch.optim.AdamW([p for p in decoder.parameters() if p.requires_grad], lr=3e-3)

    def off() -> torch.Tensor:
        """Return the mean square error of each made picture (rows) against each wanted one, pixels in [0, 1]."""
        batch = picture_batch(vocabulary, names, edits=edits, seed=1000)
        assert batch.pictures is not None and batch.pictures.wanted_B3SS is not None
        made = torch.stack(decoder.predict(asked, batch, steps=8)) / 255
        wanted = (batch.pictures.wanted_B3SS + 1) / 2
        return ((made[:, None] - wanted[None]) ** 2).flatten(2).mean(2)

    untrained, curve = off(), []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 10) * (1 - step / steps)
        batch = picture_batch(vocabulary, names * 2, edits=edits, seed=step)
        noise = losses(decoder, asked.repeat(2, 1, 1), batch, seed=step)["noise"]
        optimizer.zero_grad()
        noise.backward()
        optimizer.step()
        curve.append(noise.item())
    trained = off()

    assert sum(curve[-20:]) / 20 < 0.25 * curve[0]
    assert trained.diag().mean() < 0.4 * untrained.diag().mean()
    # Each is nearest to its own, not to that of another colour (or, in editing, of another place).
    assert trained.argmin(1).tolist() == [0, 1, 2], trained
