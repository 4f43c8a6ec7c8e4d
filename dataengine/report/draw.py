"""Draw what a sample says onto its pictures: boxes, masks, keypoints, regions."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
import xxhash
from PIL import Image, ImageDraw, ImageFont

from dataengine import marks
from dataengine.annotation import Box, Keypoint, Label, LabelSpace, Rle
from dataengine.geometry import mask_from_rle
from dataengine.images import Pixels
from dataengine.sample import InstanceTargets, KeypointTargets, Region, Sample, TargetInstance
from dataengine.wording import spoken

SIDE = 420  # longest side of a drawn picture, in pixels
LARGE = 1024  # the same where it is looked at alone
Color = tuple[int, int, int]
_PALETTE: tuple[Color, ...] = (
    (230, 57, 70), (29, 120, 205), (255, 183, 3), (42, 157, 80), (155, 93, 229), (0, 180, 216),
    (244, 114, 40), (214, 51, 132), (110, 150, 20), (20, 110, 110), (150, 75, 35), (90, 90, 200),
)  # fmt: skip
_MASK_OPACITY = 0.42


def color_of(label: str) -> Color:
    """Return the color of a label: the same on every picture."""
    return _PALETTE[xxhash.xxh3_64_intdigest(label.encode()) % len(_PALETTE)]


def draw_sample(
    sample: Sample, pictures: Sequence[Pixels], labels: LabelSpace | None = None
) -> list[Image.Image]:
    """Return each picture of a sample (RGB uint8 [height, width, 3]) with what the sample marks on it.

    Targets lie on the last input picture; regions and marks on the picture that they name. A picture with a digest is
    from a shard, and has its marks already. A label space adds skeletons.
    """
    drawn = []
    # More than three, such as frames of a film, share the width of three.
    side = min(SIDE, 3 * SIDE // max(len(pictures), 1))
    for number, pixels in enumerate(pictures):
        if sample.images[number].digest is None:
            pixels = marks.draw(pixels, sample.marks_on(number))
        picture, scale = _scaled(pixels, side)
        picture = _regions(picture, sample.regions, number, scale)
        if number == sample.object_image and isinstance(sample.targets, InstanceTargets | KeypointTargets):
            picture = _targets(picture, sample.targets, scale, labels)
        drawn.append(picture)
    return drawn


def draw_objects(
    pixels: Pixels,
    items: Sequence[TargetInstance],
    texts: Sequence[str],
    regions: Sequence[Region] = (),
    image: int = 0,
    skeleton: Sequence[tuple[int, int]] = (),
) -> Image.Image:
    """Return a picture (RGB uint8 [height, width, 3]) with objects that were found on it, the last ones on top.

    Each has its text; regions are those of the picture numbered `image`. The skeleton joins keypoints by position.
    """
    picture, scale = _scaled(pixels, LARGE)
    picture = _regions(picture, regions, image, scale)
    for item in items:
        if item.mask is not None:
            picture = tint(picture, item.mask, color_of(item.label))
    for item, text in zip(items, texts, strict=True):
        mark_box(picture, item.box, scale, color_of(item.label), text, dashed=False)
        mark_keypoints(picture, item.keypoints or (), scale, skeleton)
    return picture


def _scaled(pixels: Pixels, side: int) -> tuple[Image.Image, float]:
    """Return a picture whose longest side is `side`, or four times its own where it is small, and its scale."""
    scale = min(side / max(pixels.shape[:2]), 4.0)
    size = (max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1))
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS), scale


def _regions(picture: Image.Image, regions: Sequence[Region], image: int, scale: float) -> Image.Image:
    for number, region in enumerate(regions, start=1):
        if region.image == image:
            name = f"region{number}"
            if region.mask is not None:
                picture = tint(picture, region.mask, color_of(name))
            mark_box(picture, region.box, scale, color_of(name), f"{name} ({region.kind})", dashed=True)
    return picture


def _targets(
    picture: Image.Image, targets: InstanceTargets | KeypointTargets, scale: float, labels: LabelSpace | None
) -> Image.Image:
    for item in targets.instances:
        if item.mask is not None:
            picture = tint(picture, item.mask, color_of(item.label))
    for item in targets.instances:
        text = f"{item.label} (ignored)" if item.ignore else item.label
        mark_box(picture, item.box, scale, color_of(item.label), text, dashed=item.ignore)
        if item.keypoints is not None and isinstance(targets, KeypointTargets):
            label = labels.find(item.label) if labels is not None else None
            skeleton = _skeleton(label, targets.names) if label is not None else []
            mark_keypoints(picture, item.keypoints, scale, skeleton)
    return picture


def _skeleton(label: Label, names: Sequence[str]) -> list[tuple[int, int]]:
    """Return a class's skeleton as positions in the names of a sample, where several classes may be joined."""
    place = {name: number for number, name in enumerate(names)}
    ends = [place.get(spoken(name)) for name in label.keypoints]
    pairs = [(ends[a], ends[b]) for a, b in label.skeleton]
    return [(a, b) for a, b in pairs if a is not None and b is not None]


def find_skeleton(spaces: Iterable[LabelSpace], names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the skeleton, as positions in keypoints' names, of the label that knows most of them; none may."""
    labels = [label for space in spaces for label in space.labels if label.skeleton]
    known = [len(set(map(spoken, label.keypoints)) & set(names)) for label in labels]
    return _skeleton(labels[known.index(max(known))], names) if any(known) else []


def tint(picture: Image.Image, rle: Rle, color: Color) -> Image.Image:
    """Return a picture, which may be scaled, with a mask's pixels in a color."""
    mask = Image.fromarray(mask_from_rle(rle) * 255).resize(picture.size, Image.Resampling.NEAREST)
    inside = np.asarray(mask, dtype=bool)
    pixels = np.asarray(picture, dtype=np.float32).copy()
    pixels[inside] = pixels[inside] * (1 - _MASK_OPACITY) + np.array(color) * _MASK_OPACITY
    return Image.fromarray(pixels.astype(np.uint8))


def mark_box(picture: Image.Image, box: Box, scale: float, color: Color, text: str, *, dashed: bool) -> None:
    """Draw a box given in source pixels on a picture that was scaled, with its label in a corner."""
    pen = ImageDraw.Draw(picture)
    # The end of a box is exclusive: its last pixel is one less.
    x0, y0, x1, y1 = (value * scale for value in box)
    x1, y1 = max(x1 - 1, x0), max(y1 - 1, y0)
    if dashed:
        for start in range(int(x0), int(x1) + 1, 8):
            pen.line([(start, y0), (min(start + 4, x1), y0)], color, 2)
            pen.line([(start, y1), (min(start + 4, x1), y1)], color, 2)
        for start in range(int(y0), int(y1) + 1, 8):
            pen.line([(x0, start), (x0, min(start + 4, y1))], color, 2)
            pen.line([(x1, start), (x1, min(start + 4, y1))], color, 2)
    else:
        pen.rectangle([x0, y0, x1, y1], outline=color, width=2)
    font = ImageFont.load_default(size=11)
    short = text if len(text) <= 36 else f"{text[:35]}…"
    left, top, right, bottom = pen.textbbox((0, 0), short, font=font)
    corner = (min(max(x0, 0), max(picture.width - (right - left) - 4, 0)), max(y0 - (bottom - top) - 5, 0))
    pen.rectangle([*corner, corner[0] + right - left + 4, corner[1] + bottom - top + 5], fill=color)
    pen.text((corner[0] + 2, corner[1] + 2 - top), short, fill=_ink(color), font=font)


def _ink(color: Color) -> Color:
    """Return black or white, whichever reads better on the color (relative luminance, ITU-R BT.601 weights)."""
    bright = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 150
    return (0, 0, 0) if bright else (255, 255, 255)


def mark_keypoints(
    picture: Image.Image, points: Sequence[Keypoint], scale: float, skeleton: Sequence[tuple[int, int]]
) -> None:
    """Draw keypoints given in source pixels on a picture that was scaled; the skeleton joins them by position."""
    pen = ImageDraw.Draw(picture)
    for a, b in skeleton:
        if max(a, b) < len(points) and points[a][2] and points[b][2]:
            pen.line([points[a][0] * scale, points[a][1] * scale, points[b][0] * scale, points[b][1] * scale],
                     fill=(255, 255, 255), width=2)  # fmt: skip
    for number, (x, y, v) in enumerate(points):
        if v == 0:
            continue
        color = _PALETTE[number % len(_PALETTE)]
        spot = [x * scale - 3, y * scale - 3, x * scale + 3, y * scale + 3]
        # A hidden keypoint is a ring, a visible one a disc.
        pen.ellipse(spot, fill=color if v == 2 else None, outline=color if v == 1 else (255, 255, 255))


def lacks_letters(text: str) -> bool:
    """Say whether the font of drawn pictures has no form for some letter of a text, and shows a box instead."""
    font = ImageFont.load_default(size=12)
    box = font.getmask("\U0010ffff")  # no font has a form for it
    return any(
        mask.size == box.size and bytes(mask) == bytes(box)
        for mask in map(font.getmask, sorted({*text} - {*string.whitespace}))
    )


def contact_sheet(
    cards: Sequence[tuple[Sequence[Image.Image], Sequence[str]]], columns: int = 3
) -> Image.Image:
    """Return one picture with a card for each (pictures, lines of text): pictures side by side, the text below."""
    font = ImageFont.load_default(size=12)
    made = [_card(pictures, lines, font) for pictures, lines in cards]
    rows = [made[i : i + columns] for i in range(0, len(made), columns)]
    width = max((sum(card.width + 10 for card in row) for row in rows), default=10) + 10
    height = sum(max(card.height for card in row) + 10 for row in rows) + 10
    sheet = Image.new("RGB", (width, height), (236, 236, 240))
    y = 10
    for row in rows:
        x = 10
        for card in row:
            sheet.paste(card, (x, y))
            x += card.width + 10
        y += max(card.height for card in row) + 10
    return sheet


def _card(
    pictures: Sequence[Image.Image], lines: Sequence[str], font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> Image.Image:
    width = max(sum(picture.width for picture in pictures), SIDE)
    wrapped = [part for line in lines for part in textwrap.wrap(line, width // 7, max_lines=5) or [""]]
    top = max((picture.height for picture in pictures), default=0)
    card = Image.new("RGB", (width, top + 8 + 16 * len(wrapped)), (255, 255, 255))
    x = 0
    for picture in pictures:
        card.paste(picture, (x, 0))
        x += picture.width
    pen = ImageDraw.Draw(card)
    for number, line in enumerate(wrapped):
        pen.text((4, top + 4 + 16 * number), line, fill=(20, 20, 20), font=font)
    return card
