"""In-context samples and drawn marks on their whole way: source, manifest, shards, stream, tensors."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch

from dataengine.geometry import mask_from_rle
from dataengine.images import decode
from dataengine.marks import COLORS, draw
from dataengine.sample import InstanceTargets, Sample
from dataengine.shard import shard
from dataengine.stream import Stream, recipe
from trainer.augment import flip
from trainer.collate import collate
from trainer.encode import encode
from trainer.settings import EncodeSettings
from trainer.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from tests.conftest import Tiny

TOKENIZER = train_tokenizer(
    ["USER: ASSISTANT: In these pictures a region is marked. Answer for the last."], 400
)
SETTINGS = EncodeSettings(
    tile_side=14, tokens_per_tile=4, max_tiles=3, decoder_short=(64,), decoder_longest=96
)


def stream(tiny: Tiny, task: str, keys: str, out: Path) -> Stream:
    """Convert the tiny dataset for one task and shard it."""
    tiny.spec.write_text(tiny.spec.read_text().replace("detection: {}", f"{task}: {keys}"))
    document = tiny.document()
    for one in document["annotations"]:
        x, y, width, height = one["bbox"]
        one["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    tiny.write(document)
    tiny.convert(task=task)
    shard([tiny.out], out)
    return Stream(out, recipe(global_batch=2, seed=1))


def read(found: Stream) -> list[tuple[Sample, list[np.ndarray]]]:
    rows = [found.read_row(number) for number in range(found.index.table.num_rows)]
    return [(sample, [decode(data) for data in pictures]) for sample, pictures in rows]


def test_a_mask_sample_keeps_regions_on_the_examples_and_targets_on_the_last(
    tiny: Tiny, tmp_path: Path
) -> None:
    found = read(stream(tiny, "in_context_mask", "{gather: {by: category, shots: [2, 3]}}", tmp_path / "s"))

    assert len(found) >= 4
    encoded = [encode(sample, pictures, TOKENIZER, SETTINGS, None) for sample, pictures in found]
    for (sample, _), one in zip(found, encoded, strict=True):
        count = len(sample.images)
        assert 3 <= count <= 4 and len(one.tiles_per_image) == count
        ends = np.cumsum(one.tiles_per_image) - 1
        # Every example has one region, on the last (global) tile of its own picture; the asked picture has none.
        assert one.region_tile_R.tolist() == ends[:-1].tolist()
        assert one.regions_RSS.flatten(1).any(1).all()
        assert one.original_size == (sample.images[-1].height, sample.images[-1].width)
        assert isinstance(sample.targets, InstanceTargets)
        (target,) = sample.targets.instances
        x0, y0, x1, y1 = target.box
        ((cx, cy, width, height),) = one.targets.boxes_n4.tolist()
        assert [cx, cy, width, height] == pytest.approx(
            [(x0 + x1) / 64, (y0 + y1) / 48, (x1 - x0) / 32, (y1 - y0) / 24]
        )
        assert one.names == (target.label,) and len(one.groups) == 1
    batch = collate(encoded, TOKENIZER.pad_token_id)
    assert len(batch.regions_RSS) == sum(len(sample.regions) for sample, _ in found)
    assert batch.tiles_per_image == tuple(one.tiles_per_image for one in encoded)


def test_a_mirrored_mask_sample_is_mirrored_in_all_its_pictures(tiny: Tiny, tmp_path: Path) -> None:
    (sample, pictures), *_ = read(
        stream(tiny, "in_context_mask", "{gather: {by: category, shots: [2, 3]}}", tmp_path / "s")
    )

    turned, mirrored = flip(sample, pictures)

    assert [one.box for one in turned.regions] == [
        (32 - one.box[2], one.box[1], 32 - one.box[0], one.box[3]) for one in sample.regions
    ]
    for before, after in zip(sample.regions, turned.regions, strict=True):
        assert before.mask is not None and after.mask is not None
        assert np.array_equal(mask_from_rle(before.mask)[:, ::-1], mask_from_rle(after.mask))
    assert all(np.array_equal(a[:, ::-1], b) for a, b in zip(pictures, mirrored, strict=True))
    back, _ = flip(turned, mirrored)
    assert back == sample


@pytest.mark.parametrize("kind", ["circle", "hand_circle", "arrow", "box", "mask"])
def test_the_pixels_of_a_shard_hold_the_marks(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    keys = f"{{fact: category, show: [{kind}], gather: {{by: category, shots: [1, 2]}}}}"
    found = read(stream(tiny, "in_context_text", keys, tmp_path / "s"))

    assert found
    for sample, pictures in found:
        assert sample.marks
        for number, (image, pixels) in enumerate(zip(sample.images, pictures, strict=True)):
            raw = decode((tiny.root / image.path).read_bytes())
            drawn = draw(raw, sample.marks_on(number))
            assert (drawn != raw).any()
            # A PNG holds the very pixels, a JPEG nearly.
            assert np.abs(pixels.astype(int) - drawn).mean() < (0.01 if image.format == "png" else 6)
        encode(sample, pictures, TOKENIZER, SETTINGS, random.Random(1))


def test_a_mirrored_mark_is_where_its_pixels_are(tiny: Tiny, tmp_path: Path) -> None:
    keys = "{show: [arrow], max_marks: 1}"
    found = read(stream(tiny, "mark_recognition", keys, tmp_path / "s"))
    sample, pictures = next((one, shown) for one, shown in found if one.images[0].format == "png")
    as_if = InstanceTargets(instances=())  # text is never mirrored; what is drawn must be able to

    turned, (mirrored,) = flip(msgspec.structs.replace(sample, targets=as_if), pictures)

    assert sample.marks and turned.marks
    x, y = turned.marks[0].points[1]
    assert tuple(mirrored[round(y), round(x)]) == COLORS[turned.marks[0].color]


def test_in_context_text_of_six_pictures_fills_its_tiles(tiny: Tiny, tmp_path: Path) -> None:
    keys = "{fact: category, show: [region], gather: {by: category, shots: [5, 5]}}"
    found = read(stream(tiny, "in_context_text", keys, tmp_path / "s"))

    assert {len(sample.images) for sample, _ in found} == {6}
    for sample, pictures in found:
        one = encode(sample, pictures, TOKENIZER, SETTINGS, None)
        patch = TOKENIZER.convert_tokens_to_ids("<im_patch>")
        assert isinstance(patch, int)
        assert int(one.input_ids_L.eq(patch).sum()) == 4 * sum(one.tiles_per_image)
        assert torch.equal(one.region_tile_R, torch.tensor(np.cumsum(one.tiles_per_image) - 1))
