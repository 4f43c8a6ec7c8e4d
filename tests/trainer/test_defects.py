"""Mistakes that published trainers of this kind have made, one test each: none of them may happen here.

The keypoint decoder's stand beside its other tests, and those of distributed training and evaluation beside theirs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch

import trainer
from dataengine.annotation import Turn
from dataengine.errors import ModelError, Skip
from dataengine.geometry import rle_from_mask
from dataengine.manifest import read_samples
from dataengine.sample import (
    InstanceTargets,
    Region,
    Route,
    Sample,
    SampleImage,
    TargetInstance,
    decode,
)
from dataengine.sample import (
    encode as encode_sample,
)
from trainer import augment, views
from trainer.collate import collate
from trainer.config import TrainConfig, encode_settings, model_config
from trainer.data import StepData, batches
from trainer.encode import Encoded, encode, encode_files
from trainer.model.visionllm import VisionLLM
from trainer.settings import EncodeSettings
from trainer.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from tests.conftest import Tiny

TOKENIZER = train_tokenizer(
    ["USER: Find all red, green, blue. ASSISTANT: Here: Which colours are here? region1"], 500
)
MakeReader = Callable[..., Any]
MakeRun = Callable[..., TrainConfig]
MakeSample = Callable[[int, str], tuple[Sample, list[bytes]]]


def steps(reader: Any, run: TrainConfig, last: int = 3) -> list[StepData]:
    """Return the first steps of a toy run."""
    settings = encode_settings(run, model_config(run, TOKENIZER.get_vocab()))
    return list(
        batches(
            reader,
            TOKENIZER,
            settings,
            seed=run.seed,
            global_batch=run.global_batch,
            first_step=0,
            last_step=last,
        )
    )


def encoded(make_run: MakeRun, found: tuple[Sample, list[bytes]], **changes: object) -> Encoded:
    """Return a sample as tensors for the tiny model."""
    run = make_run(**changes)
    settings = encode_settings(run, model_config(run, TOKENIZER.get_vocab()))
    return encode_files(*found, TOKENIZER, settings, None)


def test_defect_1_a_bad_sample_is_told_and_never_replaced(make_reader: MakeReader, make_run: MakeRun) -> None:
    reader = make_reader(broken=frozenset({2}))

    data = steps(reader, make_run())

    assert sorted(set(reader.reads)) == list(range(6))  # no other was read in its place
    assert [len(step.sample_ids) for step in data] == [2, 1, 2]
    ((sample_id, reason),) = data[1].skipped
    assert sample_id.startswith("toy/train/2#") and reason == "image.corrupt"


def test_defect_2_a_sample_without_its_dataset_is_no_sample(make_sample: MakeSample) -> None:
    document = msgspec.json.decode(encode_sample(make_sample(0, "detection")[0]))
    del document["dataset"]

    with pytest.raises(msgspec.ValidationError, match="missing required field `dataset`"):
        decode(msgspec.json.encode(document))


def bright_half(side: str) -> tuple[Sample, np.ndarray[Any, Any]]:
    """Return a sample that asks for the bright half of a picture by its side."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    columns = slice(0, 32) if side == "left" else slice(32, 64)
    pixels[:, columns] = 255
    box = (0.0, 0.0, 32.0, 48.0) if side == "left" else (32.0, 0.0, 64.0, 48.0)
    name = f"bright part on the {side}"
    sample = Sample(
        id="toy/train/0#grounding",
        task="grounding",
        dataset="toy",
        split="train",
        images=(SampleImage(path="0.png", width=64, height=48, format="png"),),
        conversation=(Turn("user", f"<image>\nWhere is the {name}?"), Turn("assistant", "It is [GRD].")),
        routes=(Route(token="[GRD]", kind="expression", name=name),),
        targets=InstanceTargets(
            instances=(
                TargetInstance(
                    label=name,
                    box=box,
                    area=1536,
                    mask=rle_from_mask((pixels[..., 0] > 0).astype(np.uint8)),
                ),
            )
        ),
        origin={"dataset": "toy", "file": "f", "record": "0", "spec": "toy", "spec_hash": "0", "reader": "r"},  # type: ignore[arg-type]
        license={"annotations": "CC0", "images": "CC0"},  # type: ignore[arg-type]
    )
    return sample, pixels


def test_defect_3_text_and_both_views_are_mirrored_together(make_run: MakeRun) -> None:
    run = make_run(flip_ratio=1.0, max_tiles=1)
    settings = encode_settings(run, model_config(run, TOKENIZER.get_vocab()))
    sample, pixels = bright_half("left")

    found = encode(sample, [pixels], TOKENIZER, settings, random.Random(0))

    assert found.names == ("bright part on the right",)
    assert "on the right?" in TOKENIZER.decode(found.input_ids_L)
    for view in (found.tiles_T3SS[0], found.image_3HW):
        assert view is not None
        half = view.shape[-1] // 2
        assert float(view[..., half + 4 :].min()) > float(view[..., : half - 4].max())
    assert float(found.targets.boxes_n4[0, 0]) == pytest.approx(0.75)


def test_defect_4_only_whole_words_name_a_side() -> None:
    text = "the bright, upright copyright of the left-hander on the right"

    assert augment.swap_sides(text) == "the bright, upright copyright of the right-hander on the left"


def test_defect_5_no_crop_takes_away_what_was_asked_for() -> None:
    sample, _ = bright_half("left")
    region = Region(kind="box", box=(50, 30, 60, 44))
    asked = msgspec.structs.replace(
        sample,
        task="interactive_segmentation",
        regions=(region,),
        routes=(Route(token="[DET]", kind="region", name="region1"),),
    )

    assert not augment.can_crop(sample)
    assert augment.can_crop(asked)
    for seed in range(50):
        window = augment.draw_window(asked, random.Random(seed), 0.1)
        kept = augment.crop(asked, window).regions[0].box
        assert (kept[2] - kept[0], kept[3] - kept[1]) == (10, 14)


def test_defect_6_a_tiny_region_stays_with_its_own_object() -> None:
    tiny = np.zeros((400, 600), np.uint8)
    tiny[200, 300] = 1
    regions = [
        Region(kind="mask", box=(300, 200, 301, 201), mask=rle_from_mask(tiny)),
        Region(kind="box", box=(0, 0, 300, 400)),
    ]

    masks = [views.region_mask(region, 600, 400, 28) for region in regions]

    # Neither vanishes: the k-th region is still that of the k-th object.
    assert masks[0].nonzero().tolist() == [[14, 14]]
    assert masks[1].nonzero().max(0).values.tolist() == [27, 13]


def test_defect_7_training_and_evaluation_differ_where_they_are_told_to(
    make_run: MakeRun, make_sample: MakeSample
) -> None:
    run = make_run(flip_ratio=1.0)
    settings = encode_settings(run, model_config(run, TOKENIZER.get_vocab()))
    found = make_sample(1, "detection")

    evaluated = [encode_files(*found, TOKENIZER, settings, None) for _ in range(2)]
    trained = encode_files(*found, TOKENIZER, settings, random.Random(0))

    assert torch.equal(evaluated[0].tiles_T3SS, evaluated[1].tiles_T3SS)
    assert torch.equal(evaluated[0].targets.boxes_n4, evaluated[1].targets.boxes_n4)
    assert not torch.equal(trained.tiles_T3SS, evaluated[0].tiles_T3SS)
    mirrored_n4 = evaluated[0].targets.boxes_n4.clone()
    mirrored_n4[:, 0] = 1 - mirrored_n4[:, 0]
    torch.testing.assert_close(trained.targets.boxes_n4, mirrored_n4)


@pytest.mark.parametrize(("width", "height"), [(200, 50), (50, 200), (90, 110)])
def test_defect_8_masks_of_pictures_that_are_not_square_lie_on_what_they_mark(
    width: int, height: int
) -> None:
    plane = np.zeros((height, width), np.uint8)
    plane[height // 4 : height // 2, width // 2 : 3 * width // 4] = 1
    picture = np.repeat(plane[..., None] * 255, 3, axis=2)
    x0, y0, x1, y1 = width // 2, height // 4, 3 * width // 4, height // 2
    region = Region(kind="mask", box=(x0, y0, x1, y1), mask=rle_from_mask(plane))

    view = views.tile_view(picture, 56, 4)[-1, 0]
    marked = views.region_mask(region, width, height, 56)

    bright = view > (view.max() + view.min()) / 2
    assert float((bright & marked).sum()) / float((bright | marked).sum()) > 0.85


def test_defect_9_no_dataset_gives_another_its_classes(tiny: Tiny, tmp_path: Path) -> None:
    def classes(names: dict[str, str], out: str) -> set[str]:
        """Convert the dataset with other names for its classes, and return those that its samples ask for."""
        document = tiny.document()
        for category in document["categories"]:
            category["name"] = names[category["name"]]
        tiny.write(document)
        manifest, _ = tiny.convert(out=tmp_path / out)
        return {route.name for sample in read_samples(manifest) for route in sample.routes}

    own = [category["name"] for category in tiny.document()["categories"]]
    other = [f"other {name}" for name in own]

    first = classes(dict(zip(own, own, strict=True)), "1")
    second = classes(dict(zip(own, other, strict=True)), "2")
    third = classes(dict(zip(other, own, strict=True)), "3")

    assert first == third == set(own) and second == set(other)


def test_defect_13_a_pixel_of_the_mean_colour_is_no_padding(
    make_run: MakeRun, make_sample: MakeSample
) -> None:
    found = encoded(make_run, make_sample(0, "detection"))
    assert found.image_3HW is not None
    grey = replace(found, image_3HW=torch.zeros_like(found.image_3HW))  # the mean, after normalisation

    batch = collate([grey], 0)

    assert batch.pixel_mask_BHW is not None
    assert int(batch.pixel_mask_BHW.sum()) == found.image_3HW.shape[1] * found.image_3HW.shape[2]


def test_defect_14_routing_tokens_count_in_every_sample_of_a_batch(
    make_run: MakeRun, make_sample: MakeSample
) -> None:
    run = make_run()
    model = VisionLLM(model_config(run, TOKENIZER.get_vocab()))
    plain = encoded(make_run, make_sample(0, "vqa"))
    routed = encode_files(*make_sample(1, "detection"), TOKENIZER, encode_settings(run, model.config), None)
    routed = replace(
        routed, family="text", image_3HW=None, targets=plain.targets, original_size=plain.original_size
    )
    assert plain.groups == () and len(routed.groups) == 3

    batch = collate([plain, routed], TOKENIZER.pad_token_id)
    model(batch, torch.Generator().manual_seed(0)).loss.backward()

    assert batch.groups_G2[:, 0].tolist() == [1, 1, 1]
    (table,) = model.superlink.tables.values()
    assert table.grad is not None and float(table.grad.abs().sum()) > 0


def test_defect_15_text_that_does_not_fit_its_pictures_is_an_error(
    make_run: MakeRun, make_sample: MakeSample
) -> None:
    run = make_run()
    model = VisionLLM(model_config(run, TOKENIZER.get_vocab()))
    batch = collate([encoded(make_run, make_sample(0, "vqa"))], TOKENIZER.pad_token_id)
    patch = model.config.token_ids.image_patch
    ids = batch.input_ids_BL.clone()
    ids[0, int((ids[0] == patch).nonzero()[0])] = TOKENIZER.pad_token_id

    with pytest.raises(ModelError, match="toy/train/0#vqa: text has"):
        model(replace(batch, input_ids_BL=ids))


def test_defect_16_length_is_controlled_after_pictures_are_expanded(
    make_run: MakeRun, make_sample: MakeSample
) -> None:
    found = make_sample(1, "detection")
    whole = len(encoded(make_run, found).input_ids_L)

    for limit in range(whole - 1, 0, -1):
        try:
            shorter = encoded(make_run, found, max_length=limit)
        except Skip as skip:
            assert skip.reason == "text.too_long"
            continue
        assert len(shorter.input_ids_L) <= limit
        assert len(shorter.groups) == len(shorter.names)
        assert set(shorter.targets.labels_n.tolist()) <= set(range(len(shorter.groups)))


def test_defect_19_a_step_lacks_no_sample_and_no_source_is_too_small(
    make_reader: MakeReader, make_run: MakeRun, make_sample: MakeSample
) -> None:
    only = [make_sample(number, "detection") for number in range(3)]

    data = steps(make_reader(samples=only), make_run(global_batch=4), last=3)

    ids = [sample_id for step in data for sample_id in step.sample_ids]
    assert len(ids) == 12 and all(ids.count(sample.id) == 4 for sample, _ in only)


def test_defect_20_the_first_sample_does_not_speak_for_the_others(
    make_run: MakeRun, make_sample: MakeSample
) -> None:
    # Odd numbers have masks, even ones have none.
    without, masked = (encoded(make_run, make_sample(number, "detection")) for number in (0, 1))

    for order in ([without, masked], [masked, without]):
        batch = collate(order, TOKENIZER.pad_token_id)
        kept = {
            sample_id: bool(target.has_mask_n.any())
            for sample_id, target in zip(batch.sample_ids, batch.targets, strict=True)
        }
        assert kept == {without.id: False, masked.id: True}


def test_defect_21_regions_are_seen_alike_in_training_and_evaluation() -> None:
    settings = EncodeSettings(
        tile_side=28, tokens_per_tile=4, max_tiles=4, decoder_short=(64,), decoder_longest=96
    )
    sample, pixels = bright_half("left")
    sample = msgspec.structs.replace(
        sample,
        conversation=(
            Turn("user", "<image>\nFind <reg>region1<region></reg>."),
            Turn("assistant", "It is [GRD]."),
        ),
        regions=(Region(kind="box", box=(0, 0, 32, 48)),),
    )

    trained, evaluated = (
        encode(sample, [pixels], TOKENIZER, settings, rng) for rng in (random.Random(1), None)
    )

    assert trained.tiles_per_image == evaluated.tiles_per_image == (5,)
    assert torch.equal(trained.tiles_T3SS, evaluated.tiles_T3SS)
    assert torch.equal(trained.regions_RSS, evaluated.regions_RSS)


def test_defect_22_no_device_and_no_path_is_written_into_the_code() -> None:
    folder = Path(trainer.__file__ or "").parent
    wrong = re.compile(r"""\.cuda\(|to\(["']cuda|device=["']cuda|["'](?:/home|/data|~/|data/|results/)""")

    found = [
        f"{path.relative_to(folder)}:{number}"
        for path in sorted(folder.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if wrong.search(line)
    ]

    assert found == []
