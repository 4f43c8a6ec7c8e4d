"""Which objects a scene holds and where they stand, from the seed and the scene's number alone."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from dataengine.scenes.objects import (
    COLOR_JITTER,
    COLORS,
    FIGURE,
    FIGURE_RATIO,
    RADIUS_RATIO,
    SHAPES,
    SIZES,
    TINTS,
    Background,
    Category,
    Point,
    Scene,
    Size,
    Texture,
    Thing,
)
from dataengine.scenes.shapes import bounds, cover, unit_vector

Ids = npt.NDArray[np.uint8]

# Part of every picture's path and of its chance: a change of what a seed gives needs another number here.
GENERATION = 1
MAX_OBJECTS = 12
MIN_VISIBLE_RATIO = 0.6
MIN_VISIBLE_PIXELS = 20
_TRIES = 24
_FIGURE_CHANCE = 0.5
_SECOND_FIGURE_CHANCE = 0.12
_TWIN_CHANCE = 0.25
_APART_CHANCE = 0.35
_TEXTURES: tuple[Texture, ...] = ("plain", "graded", "striped", "mottled")
# Shapes that would become another one, or nameless, if they were turned further than this many degrees.
_TURN: dict[Category, int] = {
    "circle": 0, "square": 15, "triangle": 25, "star": 20, "cross": 15, "ring": 0, "heart": 20,
}  # fmt: skip


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A scene and what can be seen of it: `ids` uint8 [side, side], 0 background, k + 1 where things[k] is seen."""

    scene: Scene
    ids: Ids


def chance(seed: int, index: int, purpose: str) -> random.Random:
    """Return the chance of one scene for one purpose, so that new wording never moves an object."""
    return random.Random(xxhash.xxh3_64_intdigest(f"scenes {GENERATION}/{seed}/{index}/{purpose}".encode()))


def compose(seed: int, index: int, side: int, max_objects: int) -> View:
    """Return the scene of that number: 1 to `max_objects` objects, each seen well enough to be named."""
    rng = chance(seed, index, f"layout {side} {max_objects}")
    background = Background(
        tint=rng.choice(list(TINTS)), texture=rng.choice(_TEXTURES), seed=rng.getrandbits(32)
    )
    view = View(
        scene=Scene(side=side, background=background, things=()), ids=np.zeros((side, side), np.uint8)
    )
    apart = rng.random() < _APART_CHANCE
    for category in _categories(rng, max_objects):
        for _ in range(_TRIES):
            thing = _twin(rng, view.scene, category) or draw_thing(rng, side, category)
            added = add(view, thing, apart=apart)
            if added is not None:
                view = added
                break
    return view


def render(scene: Scene) -> View:
    """Return what is seen of a scene, drawn from the back to the front."""
    ids = np.zeros((scene.side, scene.side), np.uint8)
    for number, thing in enumerate(scene.things):
        x, y, mask = cover(thing)
        ids[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = number + 1
    return View(scene=scene, ids=ids)


def add(view: View, thing: Thing, *, apart: bool) -> View | None:
    """Return the scene with one more object in front, or None where that would spoil it.

    It does where the object leaves the picture, hides too much of another, or touches one of its own color, so that
    the two would run together; with `apart`, where it touches any.
    """
    side = view.scene.side
    x0, y0, x1, y1 = bounds(thing)
    if x0 < 1 or y0 < 1 or x1 > side - 1 or y1 > side - 1:
        return None
    _, _, mask = cover(thing)
    window = view.ids[y0:y1, x0:x1]
    things = view.scene.things
    around = np.zeros((y1 - y0 + 2, x1 - x0 + 2), np.bool_)
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2), (1, 1)):
        around[dy : dy + mask.shape[0], dx : dx + mask.shape[1]] |= mask
    touched = np.bincount(view.ids[y0 - 1 : y1 + 1, x0 - 1 : x1 + 1][around], minlength=len(things) + 1)[1:]
    if touched.any():
        if apart or any(
            touched[number] and other.color == thing.color for number, other in enumerate(things)
        ):
            return None
        hidden = np.bincount(window[mask], minlength=len(things) + 1)[1:]
        for number, other in enumerate(things):
            if hidden[number]:
                left = np.count_nonzero(view.ids == number + 1) - hidden[number]
                full = np.count_nonzero(cover(other)[2])
                if left < max(MIN_VISIBLE_RATIO * full, MIN_VISIBLE_PIXELS):
                    return None
    if np.count_nonzero(mask) < MIN_VISIBLE_PIXELS:
        return None
    ids = view.ids.copy()
    ids[y0:y1, x0:x1][mask] = len(things) + 1
    return View(scene=msgspec.structs.replace(view.scene, things=(*things, thing)), ids=ids)


def seen_well(view: View) -> bool:
    """Say whether enough is seen of every object, and no two of one color touch."""
    things = view.scene.things
    for number, thing in enumerate(things):
        seen = np.count_nonzero(view.ids == number + 1)
        if seen < max(MIN_VISIBLE_RATIO * np.count_nonzero(cover(thing)[2]), MIN_VISIBLE_PIXELS):
            return False
    for a, b in ((view.ids[1:], view.ids[:-1]), (view.ids[:, 1:], view.ids[:, :-1])):
        pairs = np.unique((a.astype(np.uint16) * 256 + b)[(a != b) & (a > 0) & (b > 0)])
        if any(things[pair // 256 - 1].color == things[pair % 256 - 1].color for pair in pairs.tolist()):
            return False
    return True


def draw_thing(
    rng: random.Random,
    side: int,
    category: Category,
    *,
    color: str | None = None,
    size: Size | None = None,
    center: Point | None = None,
) -> Thing:
    """Return an object of the category; what is not given is chosen. A figure's center is that of its window."""
    color = color or rng.choice(list(COLORS))
    size = size or rng.choices(SIZES, (4, 4, 3))[0]
    if category == FIGURE:
        return _draw_figure(rng, side, color, size, center)
    low, high = RADIUS_RATIO[size]
    radius = _short(rng.uniform(low, high) * side)
    turn = _TURN.get(category, 180)
    center = center or (
        _short(rng.uniform(radius, side - radius)),
        _short(rng.uniform(radius, side - radius)),
    )
    return Thing(
        category=category,
        color=color,
        rgb=shade(rng, color),
        size=size,
        center=center,
        radius=radius,
        angle=rng.randint(-turn, turn),
        aspect=round(rng.uniform(0.45, 0.62), 3),
    )


def shade(rng: random.Random, color: str) -> tuple[int, int, int]:
    """Return a color near the one of that name."""
    red, green, blue = (
        min(max(channel + rng.randint(-COLOR_JITTER, COLOR_JITTER), 0), 255) for channel in COLORS[color]
    )
    return (red, green, blue)


def move(thing: Thing, dx: float, dy: float) -> Thing:
    """Return the object shifted by pixels."""
    return msgspec.structs.replace(
        thing,
        center=(thing.center[0] + dx, thing.center[1] + dy),
        joints=tuple((x + dx, y + dy) for x, y in thing.joints),
    )


def _categories(rng: random.Random, max_objects: int) -> list[Category]:
    found: list[Category] = [rng.choice(SHAPES) for _ in range(rng.randint(1, max_objects))]
    if rng.random() < _FIGURE_CHANCE:
        found[0] = FIGURE
        if len(found) > 1 and rng.random() < _SECOND_FIGURE_CHANCE:
            found[1] = FIGURE
    rng.shuffle(found)
    return found


def _twin(rng: random.Random, scene: Scene, category: Category) -> Thing | None:
    """Now and then return an object like one that is there: then only size or place can tell them apart."""
    if category == FIGURE or not scene.things or rng.random() >= _TWIN_CHANCE:
        return None
    model = rng.choice(scene.things)
    if model.category == FIGURE:
        return None
    return draw_thing(rng, scene.side, model.category, color=model.color)


def _short(value: float) -> float:
    """Round to an eighth of a pixel: such numbers are exact, so that no machine rounds them otherwise."""
    return round(value * 8) / 8


def _draw_figure(rng: random.Random, side: int, color: str, size: Size, center: Point | None) -> Thing:
    """Pose a figure that faces the viewer: limbs swing outwards and never change sides."""
    low, high = FIGURE_RATIO[size]
    height = rng.uniform(low, high) * side
    lean = rng.randint(-12, 12)

    def step(start: Point, length: float, degrees: int) -> Point:
        """Go `length` heights from a joint; 0° is down, positive towards the picture's right."""
        sin, cos = unit_vector(90 - degrees)
        return (start[0] + length * sin * height, start[1] + length * cos * height)

    neck = (0.0, 0.0)
    head = step(neck, 0.14, 180 + lean + rng.randint(-10, 10))
    hips = step(neck, 0.32, lean)
    arms, legs = [], []
    for outwards in (1, -1):
        shoulder = step(step(neck, 0.04, lean), 0.11, lean + 90 * outwards)
        raised = rng.randint(12, 150)
        elbow = step(shoulder, 0.16, lean + raised * outwards)
        hand = step(elbow, 0.15, lean + min(max(raised + rng.randint(-60, 80), 0), 175) * outwards)
        hip = step(hips, 0.075, lean + 90 * outwards)
        spread = rng.randint(2, 50)
        knee = step(hip, 0.20, lean + spread * outwards)
        foot = step(knee, 0.20, lean + min(max(spread + rng.randint(-50, 15), -5), 60) * outwards)
        arms.append((shoulder, elbow, hand))
        legs.append((hip, knee, foot))
    # Chains of (left, right) joints, as JOINTS orders them.
    places = [
        head,
        neck,
        *(point for chain in (arms, legs) for pair in zip(*chain, strict=True) for point in pair),
    ]
    thing = Thing(
        category=FIGURE,
        color=color,
        rgb=shade(rng, color),
        size=size,
        center=(0.0, 0.0),
        radius=_short(height / 2),
        joints=tuple((_short(x), _short(y)) for x, y in places),
        limb=max(_short(0.03 * height), 1.25),
        skull=_short(0.085 * height),
    )
    x0, y0, x1, y1 = bounds(thing)
    if center is None:
        width, tall = x1 - x0, y1 - y0
        center = (
            _short(rng.uniform(width / 2, max(side - width / 2, width / 2))),
            _short(rng.uniform(tall / 2, max(side - tall / 2, tall / 2))),
        )
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    placed = move(thing, center[0] - middle[0], center[1] - middle[1])
    return msgspec.structs.replace(placed, center=center)
