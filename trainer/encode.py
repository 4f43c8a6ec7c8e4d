"""A sample and its pictures as tensors: chat text with its labels, tiles, regions, decoder picture and targets.

Shape suffixes: L text positions, T tiles, S tile side, R regions, n m objects, H W decoder picture.
"""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import torch
from transformers import PreTrainedTokenizerFast

from dataengine import tokens
from dataengine.annotation import Box, Turn
from dataengine.errors import ModelError, Skip
from dataengine.images import REDUCTIONS, show
from dataengine.sample import (
    ImageTargets,
    InstanceTargets,
    KeypointTargets,
    Route,
    Sample,
    TargetInstance,
    TextTargets,
    measure_of,
)
from dataengine.wording import joined
from trainer import views
from trainer.batch import IGNORED, ObjectTargets
from trainer.tiling import choose_grid, num_tiles
from trainer.views import Pixels

TEXT, DETECTION, POSE, GENERATION, EDITING = "text", "detection", "pose", "generation", "editing"

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


def _default_queries() -> dict[str, int]:
    return {token: 64 if token in (tokens.GEN, tokens.EDIT) else 4 for token in tokens.ROUTING_TOKENS}


def _default_readers() -> dict[str, tuple[str, ...]]:
    return {
        DETECTION: (tokens.DET, tokens.GRD, tokens.SEG),
        POSE: (tokens.DET, tokens.POSE),
        GENERATION: (tokens.GEN,),
        EDITING: (tokens.EDIT,),
    }


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """What the model fixes (sizes, queries) and what a run chooses (lengths, augmentation).

    `num_queries` are the placeholders after each routing token, `readers` the tokens that each family's decoder reads.
    `decoder_short` are sides of which one is drawn in training (the last one otherwise), in pixels; `max_length`
    counts tokens after pictures and queries are expanded. Mirroring needs a random generator and `flip_ratio` > 0.
    Pictures of at least `reduce_from` pixels may be decoded at a part of their size (see `needed`); None: none is.
    """

    tile_side: int
    tokens_per_tile: int
    max_tiles: int = 4
    max_length: int = 4096
    decoder_short: tuple[int, ...] = (800,)
    decoder_longest: int = 1333
    flip_ratio: float = 0.0
    reduce_from: int | None = None
    flip_never: frozenset[str] = frozenset({"ocr", "text_detection", "text_spotting"})
    num_queries: Mapping[str, int] = field(default_factory=_default_queries)
    readers: Mapping[str, tuple[str, ...]] = field(default_factory=_default_readers)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One sample as tensors, before it is padded into a batch (see `trainer.batch.Batch` for the fields' meaning).

    `groups` are positions in L of the routing tokens that the family's decoder reads, `names` what each asks for.
    `region_tile_R` points into this sample's tiles. `image_3HW` is None where no decoder looks at a picture; masks lie
    on it. `shortened` counts what length control took away ("classes", "rounds"), by kind.
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
    image_3HW: torch.Tensor | None
    original_size: tuple[int, int]
    targets: ObjectTargets
    shortened: dict[str, int]


def family_of(sample: Sample) -> str:
    """Return the decoder family that answers a sample; `text` where the language model alone does."""
    match sample.targets:
        case TextTargets():
            return TEXT
        case InstanceTargets():
            return DETECTION
        case KeypointTargets():
            return POSE
        case ImageTargets():
            return EDITING if any(route.token == tokens.EDIT for route in sample.routes) else GENERATION


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A sample with all that can be said of it without looking at a picture: `fill` makes it an `Encoded`.

    `sample` is mirrored (pictures excepted) and shortened already. `tiles_per_image` are those of its input pictures,
    `decoder_size` (width, height) that of the decoder picture before padding, None where no decoder looks at one.
    """

    sample: Sample
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
    `text.reserved` where a turn holds a token that only the model may use, and ModelError where pictures or targets
    contradict the sample.
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
    if image.role != "input":
        return None
    columns, rows = choose_grid(image.width, image.height, settings.tile_side, settings.max_tiles)
    height, width = rows * settings.tile_side, columns * settings.tile_side
    if measured.decoder_size is not None and number == measured.sample.object_image:
        height, width = max(height, measured.decoder_size[1]), max(width, measured.decoder_size[0])
    return height, width


def measure(
    sample: Sample, tokenizer: PreTrainedTokenizerFast, settings: EncodeSettings, rng: random.Random | None
) -> Measured:
    """Return what `encode` makes of a sample before it looks at a picture; it draws the same chance from `rng`.

    Raises Skip as `encode` does.
    """
    _check_text(sample)
    mirrored = rng is not None and rng.random() < settings.flip_ratio
    mirrored = mirrored and views.can_flip(sample, settings.flip_never)
    if mirrored:
        sample, _ = views.flip(sample, [])
    sample, text, shortened = fit(sample, tokenizer, settings)
    # A model without the family's decoder still learns when to route, from the text.
    family = family_of(sample) if family_of(sample) in settings.readers else TEXT
    decoder_size = None
    if family in (DETECTION, POSE):
        short = rng.choice(settings.decoder_short) if rng is not None else settings.decoder_short[-1]
        shown = sample.images[sample.object_image]
        decoder_size = views.decoder_size(shown.width, shown.height, short, settings.decoder_longest)
    return Measured(
        sample=sample,
        mirrored=mirrored,
        family=family,
        text=text,
        tiles_per_image=tuple(_num_tiles(sample, settings)),
        decoder_size=decoder_size,
        shortened=shortened,
    )


def fill(measured: Measured, images: Sequence[Pixels], settings: EncodeSettings) -> Encoded:
    """Return a measured sample with its decoded pictures (all of them, in its order, not mirrored) as tensors.

    A picture may be an even part of its size, as long as it is not smaller than what is `needed` of it. Raises
    ModelError where pictures or targets contradict the sample.
    """
    sample, text, family = measured.sample, measured.text, measured.family
    _check_pictures(sample, images)
    if measured.mirrored:
        images = [views.mirror(image) for image in images]
    inputs = _input_images(sample)
    # Where no decoder answers, queries still stand after the tokens of those that could: the text must look the same.
    read = settings.readers.get(family) or tuple(itertools.chain(*settings.readers.values()))
    groups = [k for k, route in enumerate(sample.routes) if route.token in read]
    tiles = [views.tile_view(images[index], settings.tile_side, settings.max_tiles) for index in inputs]
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
        image_3HW=image_3HW,
        original_size=original_size,
        targets=_object_targets(sample, [sample.routes[k].name for k in groups], image_3HW),
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


def _check_text(sample: Sample) -> None:
    for turn in sample.conversation:
        strange = [token for token in tokens.special_tokens(turn.text) if token not in _ALLOWED]
        if strange:
            raise Skip("text.reserved", f"a turn holds {strange[0]!r}")


def _input_images(sample: Sample) -> list[int]:
    return [index for index, image in enumerate(sample.images) if image.role == "input"]


# Targets


def _object_targets(sample: Sample, names: list[str], image_3HW: torch.Tensor | None) -> ObjectTargets:
    """Return the targets of the decoder, labels as positions among `names`, the first where one stands twice."""
    instances: tuple[TargetInstance, ...] = ()
    if isinstance(sample.targets, InstanceTargets | KeypointTargets):
        instances = sample.targets.instances
    if image_3HW is None:
        return ObjectTargets(
            labels_n=torch.zeros(0, dtype=torch.int64),
            boxes_n4=torch.zeros((0, 4)),
            masks_nHW=torch.zeros((0, 1, 1), dtype=torch.uint8),
            has_mask_n=torch.zeros(0, dtype=torch.bool),
            ignore_m4=torch.zeros((0, 4)),
        )
    places = {name: place for place, name in reversed(list(enumerate(names)))}
    unasked = sorted({item.label for item in instances} - set(places))
    if unasked:
        raise ModelError(
            f"{sample.id}: no routing token that the decoder reads asks for {unasked[0]!r}, expected one of"
            f" {names[:5]!r}; check the sample's routes"
        )
    shown = sample.images[sample.object_image]
    void = sample.targets.void if isinstance(sample.targets, InstanceTargets) else None
    wanted = [item for item in instances if not item.ignore]
    height, width = image_3HW.shape[-2:]
    masks_nHW = torch.zeros((len(wanted), height, width), dtype=torch.uint8)
    rows = [row for row, item in enumerate(wanted) if item.mask is not None]
    if rows:
        masks_nHW[rows] = views.object_masks([item.mask for item in wanted if item.mask], width, height)
    return ObjectTargets(
        labels_n=torch.tensor([places[item.label] for item in wanted], dtype=torch.int64),
        boxes_n4=_boxes([item.box for item in wanted], shown.width, shown.height),
        masks_nHW=masks_nHW,
        # A mask too small for the decoder picture is no proof that nothing is there: the box alone is taught.
        has_mask_n=masks_nHW.flatten(1).any(1).to(torch.bool),
        ignore_m4=_boxes([item.box for item in instances if item.ignore], shown.width, shown.height),
        void_HW=None if void is None else views.object_masks([void], width, height)[0],
    )


def _boxes(boxes: Sequence[Box], width: int, height: int) -> torch.Tensor:
    """Return xyxy pixels as cxcywh divided by the picture's size, float32 [n, 4], cut to the picture."""
    xyxy = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    size = torch.tensor([width, height, width, height], dtype=torch.float64)
    low, high = (xyxy / size).clamp(0, 1).split(2, dim=1)
    return torch.cat([(low + high) / 2, high - low], dim=1).to(torch.float32)


# Text


@dataclass(frozen=True)
class Text:
    """Tokens, labels (-100: none), and the position in L of each routing token, in order."""

    input_ids_L: torch.Tensor
    labels_L: torch.Tensor
    routing: tuple[int, ...]


def render(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerFast) -> tuple[str, list[tuple[int, int]]]:
    """Return the chat text and the character spans [start, end) that the model must say, end token included.

    Uses the tokenizer's own chat template; without one, `USER: ... ASSISTANT: ...</s>`. Raises ModelError where a
    template rewrites earlier turns, since then no span can be told.
    """
    if tokenizer.chat_template is None:
        return _render_plain(turns, str(tokenizer.eos_token))
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]

    def shown(count: int, ask: bool) -> str:
        return str(tokenizer.apply_chat_template(messages[:count], tokenize=False, add_generation_prompt=ask))

    whole = shown(len(messages), False)
    spans = []
    for place, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        before, after = shown(place, True), shown(place + 1, False)
        if not (whole.startswith(after) and after.startswith(before)):
            raise ModelError(
                f"{tokenizer.name_or_path}: the chat template rewrites earlier turns, expected one that only appends;"
                " remove chat_template from the tokenizer"
            )
        spans.append((len(before), len(after.rstrip())))
    return whole, spans


def _render_plain(turns: Sequence[Turn], end: str) -> tuple[str, list[tuple[int, int]]]:
    text, spans = "", []
    for turn in turns:
        if turn.role == "assistant":
            # The space is the model's to say: where a prompt ends after the colon, it is in the first token.
            text += "ASSISTANT:"
            spans.append((len(text), len(text) + 1 + len(turn.text) + len(end)))
            text += f" {turn.text}{end}"
        else:
            text += f"USER: {turn.text} " if turn.role == "user" else f"{turn.text} "
    return text, spans


def encode_text(
    turns: Sequence[Turn], tiles: Sequence[int], tokenizer: PreTrainedTokenizerFast, settings: EncodeSettings
) -> Text:
    """Tokenise a conversation whose k-th `<image>` has `tiles[k]` tiles.

    Each `<image>` becomes one `<im_patch>` a picture token, each routing token is followed by its queries'
    placeholders. What the assistant says is labelled, with the routing tokens, the token after the placeholders and
    the end, but not the placeholders.
    """
    rendered, spans = render(turns, tokenizer)
    # The backend is called directly: the tokenizer's own call changes its settings and is not safe in threads.
    coded = tokenizer.backend_tokenizer.encode(rendered, add_special_tokens=False)
    vocabulary = _vocabulary(tokenizer)
    ends = [end for _, end in spans]
    input_ids: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    if coded.ids[:1] == input_ids:
        input_ids = []  # the template has written it
    labels = [IGNORED] * len(input_ids)
    routing, pictures = [], iter(tiles)
    for token_id, (start, end) in zip(coded.ids, coded.offsets, strict=True):
        nearest = bisect_right(ends, start)
        spoken = nearest < len(spans) and end > spans[nearest][0]
        if token_id == vocabulary.image:
            count = next(pictures) * settings.tokens_per_tile
            input_ids += [vocabulary.image_patch] * count
            labels += [IGNORED] * count
            continue
        input_ids.append(token_id)
        labels.append(token_id if spoken else IGNORED)
        if (token := vocabulary.routing.get(token_id)) is not None:
            routing.append(len(input_ids) - 1)
            count = settings.num_queries[token]
            # Up to eight queries have a placeholder each; more repeat the first (as for pictures, A.4).
            emb = vocabulary.emb[:count] if count <= len(vocabulary.emb) else [vocabulary.emb[0]] * count
            input_ids += emb
            labels += [IGNORED] * count
    return Text(torch.tensor(input_ids), torch.tensor(labels), tuple(routing))


@dataclass(frozen=True)
class _Vocabulary:
    image: int
    image_patch: int
    routing: dict[int, str]
    emb: list[int]


def _vocabulary(tokenizer: PreTrainedTokenizerFast) -> _Vocabulary:
    of = tokenizer.convert_tokens_to_ids
    return _Vocabulary(
        of(tokens.IMAGE),
        of("<im_patch>"),
        {of(token): token for token in tokens.ROUTING_TOKENS},
        [of(token) for token in tokens.EMB_TOKENS],
    )


# Length control: shorten what was asked, never cut between a routing token and its targets.


def fit(
    sample: Sample, tokenizer: PreTrainedTokenizerFast, settings: EncodeSettings
) -> tuple[Sample, Text, dict[str, int]]:
    """Return the sample, shortened where its text exceeds `max_length`, its text, and what was taken away.

    A class list loses classes without targets, the last ones first; a conversation of several rounds its last rounds,
    with all that they refer to. Pictures stay. Raises Skip `text.too_long` where that is not enough.
    """

    def coded(candidate: Sample) -> Text:
        return encode_text(candidate.conversation, _num_tiles(candidate, settings), tokenizer, settings)

    text = coded(sample)
    if len(text.input_ids_L) <= settings.max_length:
        return sample, text, {}
    for kind, most, shorten in (
        ("classes", len(_absent(sample)), without_classes),
        ("rounds", sum(turn.role == "user" for turn in sample.conversation) - 1, without_rounds),
    ):
        count = _fewest(sample, most, shorten, lambda s: len(coded(s).input_ids_L) <= settings.max_length)
        if count is not None:
            shorter = shorten(sample, count)
            assert shorter is not None
            return shorter, coded(shorter), {kind: count}
    raise Skip("text.too_long", f"{len(text.input_ids_L)} tokens, at most {settings.max_length} fit")


def _num_tiles(sample: Sample, settings: EncodeSettings) -> list[int]:
    return [
        num_tiles(choose_grid(image.width, image.height, settings.tile_side, settings.max_tiles))
        for image in sample.images
        if image.role == "input"
    ]


def _fewest(
    sample: Sample,
    most: int,
    shorten: Callable[[Sample, int], Sample | None],
    fits: Callable[[Sample], bool],
) -> int | None:
    """Return the smallest count in [1, most] whose shortened sample fits, by bisection, or None."""

    def good(count: int) -> bool:
        shorter = shorten(sample, count)
        return shorter is not None and fits(shorter)

    if most < 1 or not good(most):
        return None
    return 1 + bisect_left(range(1, most), True, key=good)


def _absent(sample: Sample) -> list[Route]:
    """Return the routes of classes without any target, in order; one is kept back where all are such."""
    if not isinstance(sample.targets, InstanceTargets | KeypointTargets):
        return []
    asked = [route for route in sample.routes if route.kind == "category"]
    present = {item.label for item in sample.targets.instances}
    absent = [route for route in asked if route.name not in present]
    return absent[1:] if len(absent) == len(asked) else absent


def without_classes(sample: Sample, count: int) -> Sample | None:
    """Return the sample without the last `count` classes that have no target, in question, answer and routes.

    None where the conversation does not spell the list as `a, b` and `a[DET], b[DET]` (in Chinese with `、`): it cannot
    be changed then.
    """
    gone = {route.name for route in _absent(sample)[-count:]}
    asked = [route for route in sample.routes if route.kind == "category"]
    kept = [route for route in asked if route.name not in gone]
    lang = {"user": sample.prompt.question[:2], "assistant": sample.prompt.answer[:2]}
    named, still_named = [joined((one.name for one in part), lang["user"]) for part in (asked, kept)]
    routed, still_routed = [
        joined((one.name + one.token for one in part), lang["assistant"]) for part in (asked, kept)
    ]
    turns, changed = [], set()
    for turn in sample.conversation:
        pairs = [(routed, still_routed)]
        if turn.role == "user":
            # The semantic segmentation of the paper asks in lower case.
            pairs = [(named, still_named), (named.lower(), still_named.lower())]
        for old, new in pairs:
            if turn.role not in changed and turn.text.count(old) == 1:
                turn = Turn(turn.role, turn.text.replace(old, new))
                changed.add(turn.role)
        turns.append(turn)
    if changed != {"user", "assistant"}:
        return None
    targets = sample.targets
    if isinstance(targets, InstanceTargets):
        remaining = tuple(name for name in targets.negatives if name not in gone)
        targets = msgspec.structs.replace(targets, negatives=remaining)
    routes = tuple(route for route in sample.routes if route.kind != "category" or route.name not in gone)
    return msgspec.structs.replace(sample, conversation=tuple(turns), routes=routes, targets=targets)


def without_rounds(sample: Sample, count: int) -> Sample | None:
    """Return the sample without its last `count` rounds, and without the routes, regions and targets that they had.

    None where a lost round shows a picture, or where nothing would be left for the decoder to answer.
    """
    turns = sample.conversation[: len(sample.conversation) - 2 * count]
    lost = tokens.placeholders("\n".join(turn.text for turn in sample.conversation[len(turns) :]))
    if tokens.IMAGE in lost:
        return None
    num_lost_routes = sum(token in tokens.ROUTING_TOKENS for token in lost)
    routes = sample.routes[: len(sample.routes) - num_lost_routes]
    regions = sample.regions[: len(sample.regions) - lost.count(tokens.REGION)]
    targets = sample.targets
    if not isinstance(targets, TextTargets):
        if not routes:
            return None
        if isinstance(targets, ImageTargets):
            return (
                None
                if num_lost_routes
                else msgspec.structs.replace(sample, conversation=turns, regions=regions)
            )
        names = {route.name for route in routes}
        kept = tuple(item for item in targets.instances if item.label in names)
        targets = msgspec.structs.replace(targets, instances=kept)
    return msgspec.structs.replace(
        sample, conversation=turns, routes=routes, regions=regions, targets=targets
    )
