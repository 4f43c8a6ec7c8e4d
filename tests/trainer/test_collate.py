"""Samples of different sizes and facts become one batch; what cannot go together is named."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch

from dataengine import images
from dataengine.annotation import Turn
from dataengine.errors import ModelError
from dataengine.sample import Region, Sample
from dataengine.tokens import region_text
from trainer.batch import IGNORED, counts
from trainer.collate import collate
from trainer.encode import Encoded, encode
from trainer.model.config import tiny
from trainer.model.visionllm import VisionLLM
from trainer.settings import EncodeSettings
from trainer.tokenizer import train_tokenizer

MakeSample = Callable[[int, str], tuple[Sample, list[bytes]]]

TOKENIZER = train_tokenizer(
    ["USER: Find all red, green, blue. ASSISTANT: Here: Which colours are here?"], 400
)
SETTINGS = EncodeSettings(
    tile_side=112, tokens_per_tile=16, max_tiles=2, decoder_short=(40, 56, 72), decoder_longest=100
)


@pytest.fixture
def make_encoded(make_sample: MakeSample) -> Callable[..., Encoded]:
    """Return a function that encodes a toy sample; the seed draws the size of the decoder picture."""

    def make(number: int, task: str = "detection", *, regions: int = 0, seed: int = 0) -> Encoded:
        sample, pictures = make_sample(number, task)
        if regions:
            listed = " ".join(region_text(place + 1) for place in range(regions))
            sample = msgspec.structs.replace(
                sample,
                conversation=(Turn("user", f"<image>\nWhat is {listed}?"), *sample.conversation[1:]),
                regions=tuple(Region(kind="box", box=(0, 0, 9 + place, 9)) for place in range(regions)),
            )
        pixels = [images.decode(data) for data in pictures]
        return encode(sample, pixels, TOKENIZER, SETTINGS, random.Random(seed))

    return make


def test_text_is_padded_to_the_right_and_padding_has_no_label(make_encoded: Any) -> None:
    long, short = make_encoded(0), make_encoded(1, "vqa")
    short = dataclasses.replace(
        make_encoded(1), input_ids_L=short.input_ids_L, labels_L=short.labels_L, groups=()
    )

    batch = collate([long, short], TOKENIZER.pad_token_id)

    size = len(short.input_ids_L)
    assert size < len(long.input_ids_L) == batch.input_ids_BL.shape[1]
    assert batch.input_ids_BL[1, :size].tolist() == short.input_ids_L.tolist()
    assert set(batch.input_ids_BL[1, size:].tolist()) == {TOKENIZER.pad_token_id}
    assert set(batch.labels_BL[1, size:].tolist()) == {IGNORED}
    assert batch.attention_mask_BL.sum(1).tolist() == [len(long.input_ids_L), size]


def test_decoder_pictures_are_padded_and_boxes_stay_relative_to_the_picture(make_encoded: Any) -> None:
    samples = [make_encoded(n, seed=n) for n in range(4)]
    assert len({sample.image_3HW.shape for sample in samples}) > 1

    batch = collate(samples, 0)

    assert batch.images_B3HW is not None and batch.pixel_mask_BHW is not None
    height, width = batch.images_B3HW.shape[-2:]
    assert height % 32 == width % 32 == 0
    for row, sample in enumerate(samples):
        h, w = sample.image_3HW.shape[-2:]
        assert torch.equal(batch.images_B3HW[row, :, :h, :w], sample.image_3HW)
        assert batch.pixel_mask_BHW[row].sum() == h * w and batch.pixel_mask_BHW[row, :h, :w].all()
        assert torch.equal(batch.targets[row].boxes_n4, sample.targets.boxes_n4)
        masks = batch.targets[row].masks_nHW
        assert masks.shape[1:] == (height, width) and int(masks.sum()) == int(sample.targets.masks_nHW.sum())


def test_void_pixels_are_padded_like_masks(make_encoded: Any) -> None:
    samples = [make_encoded(n, seed=n) for n in range(4)]
    void = torch.ones(samples[0].image_3HW.shape[-2:], dtype=torch.uint8)
    open_target = dataclasses.replace(samples[0].targets, void_HW=void)
    samples[0] = dataclasses.replace(samples[0], targets=open_target)

    batch = collate(samples, 0)

    assert batch.images_B3HW is not None and batch.targets[0].void_HW is not None
    assert batch.targets[0].void_HW.shape == batch.images_B3HW.shape[-2:]
    assert batch.targets[0].void_HW.sum() == void.sum()
    assert batch.targets[1].void_HW is None


def test_samples_with_and_without_masks_go_together(make_encoded: Any) -> None:
    batch = collate([make_encoded(2), make_encoded(3)], 0)

    assert [target.has_mask_n.unique().tolist() for target in batch.targets] == [[False], [True]]


def test_groups_point_to_routing_tokens_row_by_row(make_encoded: Any) -> None:
    batch = collate([make_encoded(n) for n in range(3)], 0)

    det = TOKENIZER.get_vocab()["[DET]"]
    assert batch.groups_G2.tolist() == torch.eq(batch.input_ids_BL, det).nonzero().tolist()
    assert len(batch.groups_G2) == 9
    assert batch.group_tokens == ("[DET]",) * 9


def test_regions_count_on_through_the_tiles_of_the_batch(make_encoded: Any) -> None:
    samples = [make_encoded(0, "vqa"), make_encoded(1, "vqa", regions=2), make_encoded(2, "vqa", regions=1)]

    batch = collate(samples, 0)

    first = [len(sample.tiles_T3SS) for sample in samples]
    assert batch.region_tile_R.tolist() == [sum(first[:2]) - 1] * 2 + [sum(first) - 1]
    assert batch.regions_RSS.shape == (3, 112, 112) and batch.regions_RSS.dtype == torch.bool
    assert batch.tiles_per_image == tuple(sample.tiles_per_image for sample in samples)


def test_packed_samples_lie_one_after_another_and_count_from_zero(make_encoded: Any) -> None:
    samples = [make_encoded(n, "vqa", regions=n) for n in range(3)]
    lengths = [len(sample.input_ids_L) for sample in samples]

    batch = collate(samples, TOKENIZER.pad_token_id, rows=[2, 1])

    assert batch.packed is not None
    assert batch.input_ids_BL.shape == (2, lengths[0] + lengths[1])
    expected = torch.cat([sample.input_ids_L for sample in samples[:2]])
    assert torch.equal(batch.input_ids_BL[0], expected)
    assert batch.packed.sample_BL[0].tolist() == [0] * lengths[0] + [1] * lengths[1]
    assert batch.packed.sample_BL[1].tolist() == [2] * lengths[2] + [-1] * (sum(lengths[:2]) - lengths[2])
    assert batch.packed.position_BL[0].tolist() == [*range(lengths[0]), *range(lengths[1])]
    assert torch.equal(batch.attention_mask_BL, batch.packed.sample_BL >= 0)
    assert batch.sample_ids == tuple(sample.id for sample in samples)


def test_the_first_token_of_a_packed_sample_is_foretold_by_nothing(make_encoded: Any) -> None:
    samples = [dataclasses.replace(one, labels_L=one.input_ids_L) for one in (make_encoded(0, "vqa"),) * 2]

    batch = collate(samples, TOKENIZER.pad_token_id, rows=[2])

    length = len(samples[0].input_ids_L)
    assert batch.labels_BL[0, [0, length]].tolist() == [IGNORED, IGNORED]
    assert counts(batch)[0] == 2 * (length - 1) == counts(collate(samples, TOKENIZER.pad_token_id))[0]


def test_samples_of_a_decoder_are_not_packed(make_encoded: Any) -> None:
    with pytest.raises(
        ModelError, match="toy/train/0#detection: samples of family 'detection' cannot be packed"
    ):
        collate([make_encoded(0), make_encoded(1)], 0, rows=[2])


@pytest.mark.parametrize(
    ("token", "words"),
    [("<im_patch>", "toy/train/1#vqa: text has"), ("<region>", "batch has 1 region masks, its text has")],
)
def test_errors_name_the_sample_in_a_packed_row(make_encoded: Any, token: str, words: str) -> None:
    samples = [make_encoded(0, "vqa"), make_encoded(1, "vqa", regions=1)]
    ids = samples[1].input_ids_L.clone()
    ids[ids == TOKENIZER.get_vocab()[token]] = TOKENIZER.get_vocab()["f"]
    batch = collate([samples[0], dataclasses.replace(samples[1], input_ids_L=ids)], 0, rows=[2])

    with pytest.raises(ModelError, match=words):
        VisionLLM(tiny(TOKENIZER.get_vocab()))(batch)


def test_the_model_takes_what_collation_gives(make_encoded: Any) -> None:
    model = VisionLLM(tiny(TOKENIZER.get_vocab()))

    text = model(collate([make_encoded(0, "vqa", regions=2), make_encoded(1, "vqa")], TOKENIZER.pad_token_id))
    boxes = model(collate([make_encoded(2), make_encoded(3, seed=5)], TOKENIZER.pad_token_id))

    assert set(text.losses) == {"text"} < set(boxes.losses)
    assert torch.isfinite(text.loss) and torch.isfinite(boxes.loss)


def test_a_sample_in_the_middle_of_another_family_is_named(make_encoded: Any) -> None:
    odd = dataclasses.replace(make_encoded(2), id="toy/train/2#pose", family="pose")

    with pytest.raises(ModelError, match=r"families: toy/train/0#detection \(detection\), .*2#pose \(pose\)"):
        collate([make_encoded(0), odd, make_encoded(4)], 0)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"tiles_per_image": (1, 1)}, "toy/train/2#detection: has 1 tiles, expected 2"),
        (
            {"image_3HW": None},
            "toy/train/2#detection: one of it and toy/train/0#detection has no decoder picture",
        ),
        ({"tiles_T3SS": torch.zeros(1, 3, 28, 28)}, r"sides \[28, 112\]"),
    ],
)
def test_every_sample_is_checked(make_encoded: Any, broken: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        collate([make_encoded(0), dataclasses.replace(make_encoded(2), **broken)], 0)


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ModelError, match="has no samples"):
        collate([], 0)
