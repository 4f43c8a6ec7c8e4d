"""A sample and its pictures as tensors: chat text with its labels, tiles, regions, decoder picture and targets.

Shape suffixes: L text positions, T tiles, S tile side, R regions, n m objects, H W decoder picture.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from dataengine import tokens
from dataengine.errors import ModelError, Skip
from dataengine.images import REDUCTIONS, show
from dataengine.sample import Sample, measure_of
from trainer import augment, views
from trainer.batch import ObjectTargets, PictureTargets
from trainer.settings import DETECTION, EDITING, POSE, TEXT, EncodeSettings, family_of, tiles_per_image
from trainer.shorten import fit
from trainer.targets import FRAMES, object_targets, picture_targets, shown_pictures
from trainer.text import Text
from trainer.tiling import choose_grid
from trainer.views import Pixels

# A text may hold these of our tokens; any other would speak for the model.
_ALLOWED = frozenset(
    (
        *tokens.ROUTING_TOKENS,
        tokens.IMAGE,
        tokens.REGION,
        tokens.REGION_START,
        tokens.REGION_END,
        "<det>",
        "</det>",
        "<grd>",
        "</grd>",
    )
)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One sample as tensors, before it is padded into a batch (see `trainer.batch.Batch` for the fields' meaning).

    `groups` are positions in L of the routing tokens that the family's decoder reads, `tokens` these tokens, `names`
    what each asks for. `region_tile_R` points into this sample's tiles. `image_3HW` is None where no decoder looks at a
    picture; masks lie on it. `picture` is None where no decoder makes one. `shortened` counts what length control took
    away ("classes", "rounds"), by kind.
    """

    id: str
    task: str
    family: str
    input_ids_L: torch.Tensor
    labels_L: torch.Tensor
    tiles_T3SS: torch.Tensor
    tiles_per_image: tuple[int, ...]
    regions_RSS: torch.Tensor
    region_tile_R: torch.Tensor
    groups: tuple[int, ...]
    names: tuple[str, ...]
    tokens: tuple[str, ...]
    image_3HW: torch.Tensor | None
    original_size: tuple[int, int]
    targets: ObjectTargets
    picture: PictureTargets | None
    shortened: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A sample with all that can be said of it without looking at a picture: `fill` makes it an `Encoded`.

    `sample` is cropped to `window`, mirrored (pictures excepted) and shortened already. `tiles_per_image` are those of
    its input pictures, `decoder_size` (width, height) that of the decoder picture before padding, None where no decoder
    looks at one.
    """

    sample: Sample
    window: augment.Window | None
    mirrored: bool
    family: str
    text: Text
    tiles_per_image: tuple[int, ...]
    decoder_size: tuple[int, int] | None
    shortened: dict[str, int]

    @property
    def num_tokens(self) -> int:
        """Return the length of the text, pictures and queries expanded."""
        return len(self.text.input_ids_L)

    @property
    def num_tiles(self) -> int:
        """Return the number of tiles for the image encoder."""
        return sum(self.tiles_per_image)


def encode(
    sample: Sample,
    images: Sequence[Pixels],
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    rng: random.Random | None,
) -> Encoded:
    """Turn a sample and its decoded RGB pictures (all of them, in its order) into tensors.

    `rng` draws the augmentation; None means none. Raises Skip `text.too_long` where no shorter truthful text exists,
    `text.reserved` where a turn holds a token that only the model may use, `picture.several` where more than one
    picture is to be made, `picture.no_input` where one is to be edited that is not there, and ModelError where pictures
    or targets contradict the sample.
    """
    return fill(measure(sample, tokenizer, settings, rng), images, settings)


def encode_files(
    sample: Sample,
    pictures: Sequence[bytes],
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    rng: random.Random | None,
) -> Encoded:
    """Return what `encode` makes of a sample whose pictures are still files.

    Raises Skip and ModelError as `encode` does, and Quarantine where a picture cannot be decoded.
    """
    return fill_files(measure(sample, tokenizer, settings, rng), pictures, settings)


def fill_files(measured: Measured, pictures: Sequence[bytes], settings: EncodeSettings) -> Encoded:
    """Return what `fill` makes of a measured sample whose pictures are still files.

    Raises ModelError as `fill` does, and Quarantine where a picture cannot be decoded.
    """
    images = [
        show(data, measure_of(measured.sample, number), needed(measured, number, settings))
        for number, data in enumerate(pictures)
    ]
    return fill(measured, images, settings)


def needed(measured: Measured, number: int, settings: EncodeSettings) -> tuple[int, int] | None:
    """Return the (height, width) that no view of a sample's picture exceeds; None where it is to be decoded whole.

    A large photograph shrinks to a few tiles: decoded at half its size or less, it gives nearly the same views without
    the pixels that would be averaged away. An even part of it has the same ratio and covers the grid, so that it is
    tiled alike.
    """
    image = measured.sample.images[number]
    if settings.reduce_from is None or image.width * image.height < settings.reduce_from:
        return None
    if measured.window is not None:
        return None  # a window is in pixels of the whole picture
    sizes = []
    if image.role == "input":
        columns, rows = choose_grid(image.width, image.height, settings.tile_side, settings.max_tiles)
        sizes.append((columns * settings.tile_side, rows * settings.tile_side))
    if measured.decoder_size is not None and number == measured.sample.object_image:
        sizes.append(measured.decoder_size)
    if measured.family in FRAMES and number in shown_pictures(measured.sample, measured.family):
        side = settings.picture_side[measured.family]
        sizes.append(views.framed_size(image.width, image.height, side, FRAMES[measured.family]))
    if not sizes:
        return None
    return max(height for _, height in sizes), max(width for width, _ in sizes)


def measure(
    sample: Sample, tokenizer: PreTrainedTokenizerFast, settings: EncodeSettings, rng: random.Random | None
) -> Measured:
    """Return what `encode` makes of a sample before it looks at a picture; it draws the same chance from `rng`.

    Raises Skip as `encode` does.
    """
    check_text(sample)
    window = None
    if (
        rng is not None
        and settings.crop_ratio
        and rng.random() < settings.crop_ratio
        and augment.can_crop(sample)
    ):
        window = augment.draw_window(sample, rng, settings.crop_least)
        sample = augment.crop(sample, window)
    mirrored = rng is not None and rng.random() < settings.flip_ratio
    mirrored = mirrored and augment.can_flip(sample, settings.flip_never)
    if mirrored:
        sample, _ = augment.flip(sample, [])
    sample, text, shortened = fit(sample, tokenizer, settings)
    # A model without the family's decoder still learns when to route, from the text.
    family = family_of(sample) if family_of(sample) in settings.readers else TEXT
    if family in FRAMES:
        _check_asked(sample, family, settings)
    decoder_size = None
    if family in (DETECTION, POSE):
        short = rng.choice(settings.decoder_short) if rng is not None else settings.decoder_short[-1]
        shown = sample.images[sample.object_image]
        decoder_size = views.decoder_size(shown.width, shown.height, short, settings.decoder_longest)
    return Measured(
        sample=sample,
        window=window,
        mirrored=mirrored,
        family=family,
        text=text,
        tiles_per_image=tuple(tiles_per_image(sample, settings)),
        decoder_size=decoder_size,
        shortened=shortened,
    )


def fill(measured: Measured, images: Sequence[Pixels], settings: EncodeSettings) -> Encoded:
    """Return a measured sample with its decoded pictures (all of them, in its order, not mirrored) as tensors.

    A picture may be an even part of its size, as long as it is not smaller than what is `needed` of it. Raises
    ModelError where pictures or targets contradict the sample.
    """
    sample, text, family = measured.sample, measured.text, measured.family
    images = list(images)
    if measured.window is not None and len(images) > sample.object_image:
        images[sample.object_image] = augment.cut(images[sample.object_image], measured.window)
    _check_pictures(sample, images)
    if measured.mirrored:
        images = [augment.mirror(image) for image in images]
    inputs = _input_images(sample)
    # Where no decoder answers, queries still stand after the tokens of those that could: the text must look the same.
    read = settings.readers.get(family) or tuple(itertools.chain(*settings.readers.values()))
    groups = [k for k, route in enumerate(sample.routes) if route.token in read]
    normalise = settings.tile_mean, settings.tile_std
    tiles = [
        views.tile_view(images[index], settings.tile_side, settings.max_tiles, *normalise) for index in inputs
    ]
    last_tile = dict(
        zip(inputs, (end - 1 for end in itertools.accumulate(measured.tiles_per_image)), strict=True)
    )
    regions = [
        views.region_mask(
            region, sample.images[region.image].width, sample.images[region.image].height, settings.tile_side
        )
        for region in sample.regions
    ]
    image_3HW, original_size = None, (0, 0)
    if measured.decoder_size is not None:
        shown = sample.object_image
        image_3HW = views.decoder_view(images[shown], measured.decoder_size)
        original_size = (sample.images[shown].height, sample.images[shown].width)
    side = settings.tile_side
    return Encoded(
        id=sample.id,
        task=sample.task,
        family=family,
        input_ids_L=text.input_ids_L,
        labels_L=text.labels_L,
        tiles_T3SS=torch.cat(tiles) if tiles else torch.zeros((0, 3, side, side)),
        tiles_per_image=measured.tiles_per_image,
        regions_RSS=torch.stack(regions) if regions else torch.zeros((0, side, side), dtype=torch.bool),
        region_tile_R=torch.tensor([last_tile[region.image] for region in sample.regions], dtype=torch.int64),
        groups=tuple(text.routing[k] for k in groups),
        names=tuple(sample.routes[k].name for k in groups),
        tokens=tuple(sample.routes[k].token for k in groups),
        image_3HW=image_3HW,
        original_size=original_size,
        targets=object_targets(sample, [sample.routes[k] for k in groups], image_3HW),
        picture=picture_targets(sample, images, family, settings) if family in FRAMES else None,
        shortened=measured.shortened,
    )


def _check_pictures(sample: Sample, images: Sequence[Pixels]) -> None:
    if len(images) != len(sample.images):
        raise ModelError(
            f"{sample.id}: {len(images)} pictures were decoded, expected {len(sample.images)}; read them all"
        )
    for position, (stated, image) in enumerate(zip(sample.images, images, strict=True)):
        height, width = image.shape[:2]
        by = stated.height // height
        if by not in REDUCTIONS or (stated.width, stated.height) != (by * width, by * height):
            raise ModelError(
                f"{sample.id}: images[{position}] is {width} x {height}, expected {stated.width} x"
                f" {stated.height}; convert the dataset again"
            )


def check_text(sample: Sample) -> None:
    """Raise Skip `text.reserved` where a turn holds a token that only the model may use."""
    for turn in sample.conversation:
        strange = [token for token in tokens.special_tokens(turn.text) if token not in _ALLOWED]
        if strange:
            raise Skip("text.reserved", f"a turn holds {strange[0]!r}")


def _check_asked(sample: Sample, family: str, settings: EncodeSettings) -> None:
    asked = [route.token for route in sample.routes if route.token in settings.readers[family]]
    if len(asked) != 1:
        raise Skip("picture.several", f"{len(asked)} routing tokens ask for a picture, one has a target")
    if family == EDITING and not _input_images(sample):
        raise Skip("picture.no_input", "no picture is there to be edited")


def _input_images(sample: Sample) -> list[int]:
    return [index for index, image in enumerate(sample.images) if image.role == "input"]
