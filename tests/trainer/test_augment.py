"""A sample that is mirrored or cropped changes as a whole, or stays as it is."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.annotation import Turn
from dataengine.errors import ModelError
from dataengine.geometry import mask_from_rle, rle_area, rle_box, rle_from_mask
from dataengine.sample import (
    InstanceTargets,
    KeypointTargets,
    Mark,
    Prompt,
    Region,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
    TextTargets,
)
from trainer import augment, views

NEVER = frozenset({"ocr"})


def make_sample(**changes: object) -> Sample:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 2:12] = 1
    sample = Sample(
        id="toy/train/1#grounding",
        task="grounding",
        dataset="toy",
        split="train",
        images=(SampleImage(path="a.png", width=60, height=40, format="png"),),
        conversation=(
            Turn("user", "<image>\nWhere is the bright cat on the left?"),
            Turn("assistant", "Left it is [GRD]."),
        ),
        routes=(Route(token="[GRD]", kind="expression", name="bright cat on the left"),),
        regions=(Region(kind="box", box=(0, 0, 10, 20)),),
        targets=InstanceTargets(
            instances=(
                TargetInstance(
                    label="bright cat on the left", box=(2, 5, 12, 15), area=100, mask=rle_from_mask(mask)
                ),
            )
        ),
        origin=SampleOrigin(dataset="toy", file="f", record="0", spec="toy", spec_hash="0", reader="r"),
        license=SampleLicense(annotations="CC0", images="CC0"),
    )
    return msgspec.structs.replace(sample, **changes)


def gradient(width: int, height: int) -> views.Pixels:
    x = np.linspace(0, 255, width)[None].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.stack([x, y, np.full_like(x, 128)], 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the cat on the left", "the cat on the right"),
        ("Right of it", "Left of it"),
        ("LEFT", "RIGHT"),
        ("leftmost and right-hand, rightward", "rightmost and left-hand, leftward"),
        ("bright upright copyright lefty rights", "bright upright copyright lefty rights"),
        ("left_eye, right.", "right_eye, left."),
        ("It is right here", "It is right here"),
        ("who is right of him", "who is left of him"),
    ],
)
def test_sides_swap_at_word_boundaries(text: str, expected: str) -> None:
    assert augment.swap_sides(text) == expected
    assert augment.swap_sides(expected) == text


def test_mirroring_moves_pictures_regions_targets_and_text_together() -> None:
    sample, image = make_sample(), gradient(60, 40)

    mirrored, (picture,) = augment.flip(sample, [image])

    assert np.array_equal(picture, image[:, ::-1])
    assert mirrored.conversation[0].text == "<image>\nWhere is the bright cat on the right?"
    assert mirrored.conversation[1].text == "Right it is [GRD]."
    assert mirrored.routes[0].name == "bright cat on the right"
    assert mirrored.regions[0].box == (50, 0, 60, 20)
    assert isinstance(mirrored.targets, InstanceTargets)
    found = mirrored.targets.instances[0]
    assert (found.label, found.box) == ("bright cat on the right", (48, 5, 58, 15))
    assert found.mask is not None and rle_box(found.mask) == (48, 5, 58, 15)


def test_both_views_of_a_mirrored_sample_are_mirrored() -> None:
    image = gradient(60, 40)

    _, (picture,) = augment.flip(make_sample(), [image])

    tiles, mirrored_tiles = views.tile_view(image, 28, 1), views.tile_view(picture, 28, 1)
    size = views.decoder_size(image.shape[1], image.shape[0], 32, 64)
    decoder, mirrored_decoder = views.decoder_view(image, size), views.decoder_view(picture, size)
    assert torch.allclose(mirrored_tiles, tiles.flip(-1), atol=0.02)
    assert torch.allclose(mirrored_decoder, decoder.flip(-1), atol=0.02)
    assert not torch.allclose(mirrored_tiles, tiles, atol=0.5)


def test_mirroring_twice_changes_nothing() -> None:
    sample, image = make_sample(), gradient(60, 40)

    twice, (picture,) = augment.flip(*augment.flip(sample, [image]))

    assert twice == sample
    assert np.array_equal(picture, image)


def test_keypoints_exchange_with_their_partners_and_keep_their_names() -> None:
    sample = make_sample(
        task="keypoints",
        conversation=(Turn("user", "<image>\nleft eye?"), Turn("assistant", "cat[DET], left eye[POSE]")),
        routes=(
            Route(token="[DET]", kind="category", name="cat"),
            Route(token="[POSE]", kind="keypoint", name="left eye"),
        ),
        targets=KeypointTargets(
            names=("nose", "left eye", "right eye"),
            flip_pairs=((1, 2),),
            instances=(
                TargetInstance(
                    label="cat", box=(2, 5, 12, 15), area=100, keypoints=((5, 5, 2), (8, 6, 1), (0, 0, 0))
                ),
            ),
        ),
    )

    mirrored, _ = augment.flip(sample, [gradient(60, 40)])

    assert isinstance(mirrored.targets, KeypointTargets)
    assert mirrored.targets.instances[0].keypoints == ((55, 5, 2), (0, 0, 0), (52, 6, 1))
    assert mirrored.routes == sample.routes
    assert mirrored.conversation == sample.conversation


def test_what_would_not_stay_true_is_not_mirrored() -> None:
    plain = make_sample()
    unpaired = KeypointTargets(names=("left eye", "right eye"), instances=())
    clock = (Turn("user", "<image>\nthe pin at 3 o'clock"), plain.conversation[1])
    cases = {
        "plain": plain,
        "unpaired": make_sample(targets=unpaired),
        "text": make_sample(targets=TextTargets()),
        "ocr": make_sample(task="ocr"),
        "clock": make_sample(conversation=clock),
        "chinese": make_sample(prompt=Prompt(bank="grounding", question="zh01")),
        "english": make_sample(prompt=Prompt(bank="grounding", question="en01")),
    }

    allowed = {name for name, sample in cases.items() if augment.can_flip(sample, NEVER)}

    assert allowed == {"plain", "english"}


def listing(*instances: TargetInstance, task: str = "detection", **changes: object) -> Sample:
    """Return a sample of 60 x 40 pixels that lists cats and dogs."""
    fields = {
        "task": task,
        "conversation": (Turn("user", "<image>\nFind cat, dog."), Turn("assistant", "cat[DET], dog[DET].")),
        "routes": tuple(Route(token="[DET]", kind="category", name=name) for name in ("cat", "dog")),
        "regions": (),
        "targets": InstanceTargets(instances=instances),
    }
    return make_sample(**{**fields, **changes})


def window(x0: int, y0: int, x1: int, y1: int) -> augment.Window:
    return augment.Window(x0=x0, y0=y0, x1=x1, y1=y1, width=60, height=40)


def instance(box: tuple[float, float, float, float], label: str = "cat") -> TargetInstance:
    mask = np.zeros((40, 60), np.uint8)
    mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 1
    return TargetInstance(label=label, box=box, area=float(mask.sum()), mask=rle_from_mask(mask))


def test_a_crop_cuts_objects_and_leaves_the_text() -> None:
    sample = listing(instance((2, 5, 22, 25)), instance((40, 30, 50, 40), "dog"))

    cropped = augment.crop(sample, window(12, 0, 60, 28))

    assert (cropped.images[0].width, cropped.images[0].height) == (48, 28)
    assert isinstance(cropped.targets, InstanceTargets)
    (cat,) = cropped.targets.instances  # the dog is gone, and is truly absent now
    assert (cat.label, cat.box, cat.area, cat.ignore) == ("cat", (0, 5, 10, 25), 200, False)
    assert cat.mask is not None and cat.mask.size == (28, 48) and rle_box(cat.mask) == (0, 5, 10, 25)
    assert (cropped.conversation, cropped.routes) == (sample.conversation, sample.routes)


def test_the_rest_of_an_object_is_neither_found_nor_background() -> None:
    cropped = augment.crop(listing(instance((0, 0, 20, 20))), window(19, 0, 60, 40))

    assert isinstance(cropped.targets, InstanceTargets)
    assert [item.ignore for item in cropped.targets.instances] == [True]


def test_both_views_of_a_cropped_picture_are_its_window() -> None:
    image = gradient(60, 40)

    part = augment.cut(image, window(12, 4, 40, 32))

    assert np.array_equal(part, image[4:32, 12:40])
    with pytest.raises(ModelError, match="picture is 30 x 20, expected 60 x 40"):
        augment.cut(image[::2, ::2], window(12, 4, 40, 32))


@settings(deadline=None, max_examples=80)
@given(st.randoms(use_true_random=False), st.floats(0.1, 1), st.integers(0, 2))
def test_a_window_holds_every_region_and_is_large_enough(
    rng: random.Random, least: float, num_regions: int
) -> None:
    regions = []
    for _ in range(num_regions):
        x, y = rng.randrange(60), rng.randrange(40)
        regions.append(Region(kind="box", box=(x, y, x + rng.randint(1, 60 - x), y + rng.randint(1, 40 - y))))

    found = augment.draw_window(listing(regions=tuple(regions)), rng, least)

    assert 0 <= found.x0 < found.x1 <= 60 and 0 <= found.y0 < found.y1 <= 40
    assert found.x1 - found.x0 >= round(60 * least) and found.y1 - found.y0 >= round(40 * least)
    for region in regions:
        assert found.x0 <= region.box[0] and region.box[2] <= found.x1
        assert found.y0 <= region.box[1] and region.box[3] <= found.y1


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False))
def test_what_a_window_keeps_of_a_mask_is_what_lies_in_it(rng: random.Random) -> None:
    x, y = rng.randrange(50), rng.randrange(30)
    item = instance((x, y, x + rng.randint(1, 10), y + rng.randint(1, 10)))
    sample = listing(item)
    found = augment.draw_window(sample, rng, 0.3)

    cropped = augment.crop(sample, found)

    assert item.mask is not None and isinstance(cropped.targets, InstanceTargets)
    expected = mask_from_rle(item.mask)[found.y0 : found.y1, found.x0 : found.x1]
    if not cropped.targets.instances:
        assert not expected.any()
        return
    (kept,) = cropped.targets.instances
    assert kept.mask is not None and np.array_equal(mask_from_rle(kept.mask), expected)
    assert kept.box == rle_box(kept.mask) and kept.area == rle_area(kept.mask)


def test_keypoints_outside_the_window_are_not_visible_and_never_moved_to_its_border() -> None:
    item = TargetInstance(
        label="cat", box=(2, 5, 42, 35), area=800, keypoints=((5, 8, 2), (30, 20, 1), (0, 0, 0))
    )
    targets = KeypointTargets(names=("nose", "tail", "ear"), instances=(item,))

    cropped = augment.crop(listing(task="keypoints", targets=targets), window(10, 10, 60, 40))

    assert isinstance(cropped.targets, KeypointTargets)
    assert cropped.targets.instances[0].keypoints == ((0, 0, 0), (20, 10, 1), (0, 0, 0))


def test_regions_and_void_pixels_are_cropped_too() -> None:
    void = instance((0, 0, 20, 10)).mask
    region = Region(kind="mask", box=(20, 10, 30, 20), mask=instance((20, 10, 30, 20)).mask)
    sample = listing(
        task="interactive_segmentation",
        regions=(region,),
        routes=(Route(token="[DET]", kind="region", name="region1"),),
        targets=InstanceTargets(instances=(), void=void),
    )

    cropped = augment.crop(sample, window(10, 5, 60, 40))

    assert cropped.regions[0].box == (10, 5, 20, 15)
    assert cropped.regions[0].mask is not None and rle_box(cropped.regions[0].mask) == (10, 5, 20, 15)
    assert isinstance(cropped.targets, InstanceTargets) and cropped.targets.void is not None
    assert rle_box(cropped.targets.void) == (0, 0, 10, 5)


def test_what_would_not_stay_true_is_not_cropped() -> None:
    picture = SampleImage(path="b.png", width=60, height=40, format="png")
    cases = {
        "listing": listing(),
        "grounding": make_sample(),
        "caption with objects": make_sample(task="grounded_caption"),
        "text": listing(task="counting", targets=TextTargets()),
        "one expression": listing(routes=(Route(token="[DET]", kind="expression", name="the left cat"),)),
        "two pictures": listing(images=(picture, picture)),
        "marks": listing(marks=(Mark(kind="box", color="red", solid=False, box=(0, 0, 9, 9)),)),
    }

    assert {name for name, sample in cases.items() if augment.can_crop(sample)} == {"listing"}
