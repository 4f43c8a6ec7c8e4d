"""The pictures that a decoder is to make or to edit: from a sample's files to a batch."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataengine.annotation import Measure, Turn
from dataengine.errors import ModelError, Skip
from dataengine.images import reduction, show
from dataengine.sample import (
    ImageTargets,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
)
from trainer.batch import Batch, counts
from trainer.collate import collate
from trainer.config import TrainConfig, encode_settings, model_config
from trainer.data import PartData
from trainer.encode import Encoded, encode, encode_files, measure, needed
from trainer.model.visionllm import VisionLLM
from trainer.settings import EncodeSettings
from trainer.targets import FRAMES
from trainer.tokenizer import train_tokenizer
from trainer.update import _accumulate
from trainer.views import framed, framed_size

TOKENIZER = train_tokenizer(["USER: ASSISTANT: Draw a cat. Here it is. make it red Sure"], 500)
SETTINGS = EncodeSettings(
    tile_side=14,
    tokens_per_tile=4,
    max_tiles=1,
    flip_ratio=1.0,
    picture_side={"generation": 16, "editing": 8},
)
Pixels = npt.NDArray[np.uint8]


def picture(width: int, height: int, number: int = 0) -> Pixels:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8)


def png(pixels: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_sample(
    sizes: Sequence[tuple[int, int]], token: str = "[EDIT]", number: int = 0, **changes: Any
) -> Sample:
    """Return a sample that asks for the last of some pictures, the others being inputs."""
    images = tuple(
        SampleImage(path=f"{k}.png", width=width, height=height, format="png")
        for k, (width, height) in enumerate(sizes)
    )
    last = len(images) - 1
    sample = Sample(
        id=f"toy/train/{number}#edit",
        task="edit",
        dataset="toy",
        split="train",
        images=(*images[:-1], msgspec.structs.replace(images[-1], role="target")),
        conversation=(
            Turn("user", "<image>\n" * last + "make it red"),
            Turn("assistant", f"Sure {token}."),
        ),
        routes=(Route(token=token, kind="image", name=str(last)),),
        targets=ImageTargets(image=last, caption="make it red"),
        origin=SampleOrigin(dataset="toy", file="f", record="0", spec="toy", spec_hash="0", reader="r"),
        license=SampleLicense(annotations="CC0", images="CC0"),
    )
    return msgspec.structs.replace(sample, **changes)


def parts(encoded: Encoded) -> tuple[torch.Tensor, torch.Tensor | None]:
    assert encoded.picture is not None and encoded.picture.wanted_B3SS is not None
    return encoded.picture.wanted_B3SS, encoded.picture.given_B3SS


def test_a_picture_to_make_is_padded_with_white() -> None:
    sample = make_sample([(16, 8)], "[GEN]")
    pixels = picture(16, 8)

    wanted, given = parts(encode(sample, [pixels], TOKENIZER, SETTINGS, random.Random(0)))

    assert given is None
    assert wanted.shape == (1, 3, 16, 16) and wanted.dtype == torch.float32
    assert (wanted[0, :, :4] == 1).all() and (wanted[0, :, 12:] == 1).all()
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(wanted[0, :, 4:12], expected)


def test_an_edit_shows_the_middle_of_both_pictures() -> None:
    sample = make_sample([(12, 8), (12, 8)])
    before, after = picture(12, 8), picture(12, 8, 1)

    wanted, given = parts(encode(sample, [before, after], TOKENIZER, SETTINGS, random.Random(0)))

    assert given is not None
    for found, pixels in ((wanted, after), (given, before)):
        expected = torch.from_numpy(pixels[:, 2:10]).permute(2, 0, 1) / 127.5 - 1
        torch.testing.assert_close(found[0], expected)


def test_of_several_inputs_the_last_is_edited() -> None:
    sample = make_sample([(8, 8)] * 3)
    shown = [picture(8, 8, k) for k in range(3)]

    wanted, given = parts(encode(sample, shown, TOKENIZER, SETTINGS, None))

    assert given is not None
    assert torch.equal(given[0], framed(shown[1], 8, "crop"))
    assert torch.equal(wanted[0], framed(shown[2], 8, "crop"))


def test_a_measured_picture_is_made_as_it_is_shown() -> None:
    depth = Measure(quantity="depth", unit="m", scale=100.0)
    sample = make_sample([(8, 8), (8, 8)], targets=ImageTargets(image=1, caption="depth map", measure=depth))
    stored = (np.arange(64).reshape(8, 8) * 500).astype(np.uint16)

    wanted, _ = parts(encode_files(sample, [png(picture(8, 8)), png(stored)], TOKENIZER, SETTINGS, None))

    assert torch.equal(wanted[0], framed(show(png(stored), depth), 8, "crop"))
    assert wanted.unique().numel() > 32


@given(
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    side=st.integers(8, 512),
    family=st.sampled_from(list(FRAMES)),
)
@settings(deadline=None, max_examples=60)
def test_a_framed_picture_touches_the_square(width: int, height: int, side: int, family: str) -> None:
    scaled = framed_size(width, height, side, FRAMES[family])

    assert (max if family == "generation" else min)(scaled) == side
    # The ratio is kept to half a pixel.
    assert abs(scaled[0] * height - scaled[1] * width) <= 0.5 * max(width, height) or min(scaled) == 1


def test_white_stands_on_both_sides_of_an_upright_picture() -> None:
    found = framed(np.zeros((9, 3, 3), np.uint8), 9, "pad")

    assert (found[:, :, 3:6] == -1).all()
    assert (found[:, :, :3] == 1).all() and (found[:, :, 6:] == 1).all()


@pytest.mark.parametrize(("token", "roles"), [("[GEN]", 1), ("[EDIT]", 2)])
def test_a_photograph_is_decoded_no_smaller_than_its_pictures_need(token: str, roles: int) -> None:
    sample = make_sample([(160, 96)] * roles, token)
    large = replace(SETTINGS, reduce_from=1, picture_side={"generation": 40, "editing": 24})
    measured = measure(sample, TOKENIZER, large, None)

    sizes = [needed(measured, number, large) for number in range(roles)]

    assert sizes == [(24, 40)] * roles
    assert reduction(96, 160, sizes[-1]) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {
                "conversation": (Turn("user", "<image> red"), Turn("assistant", "[EDIT] [EDIT]")),
                "routes": (Route(token="[EDIT]", kind="image", name="1"),) * 2,
            },
            "picture.several",
        ),
        (
            {"images": (SampleImage(path="1.png", width=8, height=8, format="png", role="target"),) * 2},
            "picture.no_input",
        ),
    ],
)
def test_what_has_not_one_picture_to_make_is_left_out(changes: dict[str, Any], reason: str) -> None:
    sample = make_sample([(8, 8)] * 2, **changes)
    if reason == "picture.no_input":
        sample = msgspec.structs.replace(sample, conversation=(Turn("user", "red"), sample.conversation[1]))

    with pytest.raises(Skip) as error:
        measure(sample, TOKENIZER, SETTINGS, None)

    assert error.value.reason == reason


def test_without_a_decoder_no_picture_is_prepared() -> None:
    plain = EncodeSettings(tile_side=14, tokens_per_tile=4, readers={"detection": ("[DET]",)})

    encoded = encode(make_sample([(8, 8)], "[GEN]"), [picture(8, 8)], TOKENIZER, plain, None)

    assert (encoded.family, encoded.picture) == ("text", None)


def encoded_edits(count: int, settings: EncodeSettings = SETTINGS, token: str = "[EDIT]") -> list[Encoded]:
    pictures = 1 if token == "[GEN]" else 2
    return [
        encode(
            make_sample([(8, 8)] * pictures, token, number=k),
            [picture(8, 8, 10 * k + place) for place in range(pictures)],
            TOKENIZER,
            settings,
            None,
        )
        for k in range(count)
    ]


def test_pictures_of_a_batch_stand_in_its_order() -> None:
    samples = encoded_edits(3)

    batch = collate(samples, TOKENIZER.pad_token_id)

    assert batch.pictures is not None
    assert batch.pictures.captions == ("make it red",) * 3
    for found, place in ((batch.pictures.wanted_B3SS, 0), (batch.pictures.given_B3SS, 1)):
        assert found is not None
        assert torch.equal(found, torch.cat([parts(sample)[place] for sample in samples]))  # type: ignore[misc]
    assert counts(batch).tolist()[1:] == [0, 0, 3, 0]


def test_pictures_of_two_sizes_are_refused() -> None:
    other = EncodeSettings(tile_side=14, tokens_per_tile=4, max_tiles=1, picture_side={"editing": 16})

    with pytest.raises(
        ModelError, match=r"toy/train/0#edit: the pictures .*\[3, 16, 16\].* expected one form"
    ):
        collate([encoded_edits(2)[1], encoded_edits(1, other)[0]], TOKENIZER.pad_token_id)


@pytest.mark.parametrize(("family", "token"), [("generation", "[GEN]"), ("editing", "[EDIT]")])
def test_a_step_of_pictures_is_the_same_however_it_is_cut(family: str, token: str) -> None:
    sizes = {"picture_side": 16, "width": 16, "unet_channels": [16, 32], "num_queries": 8}
    config = TrainConfig(
        shards="none", steps=1, global_batch=3, model={"preset": "tiny", "decoders": [family], family: sizes}
    )
    model = VisionLLM(model_config(config, TOKENIZER.get_vocab())).train()
    samples = encoded_edits(3, encode_settings(config, model.config), token)

    def gradient(*cuts: tuple[int, int]) -> tuple[float, torch.Tensor]:
        cut = [
            replaced(collate(samples[start:stop], TOKENIZER.pad_token_id), number)
            for number, (start, stop) in enumerate(cuts)
        ]
        model.zero_grad()
        part = PartData(batches=tuple(cut))
        outputs = [found.output for found in _accumulate(config, model, part, 0, 0, len(cut))]
        table = model.superlink.tables[family].grad
        assert table is not None
        return sum(float(output.losses[f"{family}/noise"]) for output in outputs), table.clone()

    whole, whole_gradient = gradient((0, 3))
    cut, cut_gradient = gradient((0, 1), (1, 3))

    assert cut == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(cut_gradient, whole_gradient, rtol=1e-3, atol=1e-6)


def replaced(batch: Batch, number: int) -> Batch:
    """Return a batch as the number-th micro-batch of a part without regions."""
    return replace(batch, number=number, region_numbers_R=torch.zeros(0, dtype=torch.int64))
