"""How a scene can change: one object recolored, removed, added or moved, and the instruction that says so."""

from __future__ import annotations

import random

import msgspec

from dataengine.scenes.layout import View, add, draw_thing, move, render, seen_well, shade
from dataengine.scenes.objects import CATEGORIES, COLORS, Scene, Thing
from dataengine.scenes.shapes import bounds
from dataengine.scenes.wording import PLACES, Seen, name, place, see, with_article

_TRIES = 24
# A shorter way is no move that a person would ask for.
_STEP_RATIO = 0.2
# "to the left" alone could mean a step.
_TO = {
    "on the left": "to the left side",
    "on the right": "to the right side",
    "in the center": "to the center",
}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction and what following it gives.

    `before` and `after` are the changed object's positions in the things of the two scenes (None: it is not there).
    """

    instruction: str
    view: View
    before: int | None
    after: int | None


def change(view: View, seen: tuple[Seen, ...], rng: random.Random) -> Change | None:
    """Return a change of the scene that one sentence describes without doubt, or None where chance found none."""
    kinds = [_recolor, _remove, _add, _move]
    rng.shuffle(kinds)
    for make in kinds:
        for _ in range(_TRIES):
            made = make(view, seen, rng)
            if made is not None:
                return made
    return None


def _target(seen: tuple[Seen, ...], rng: random.Random) -> tuple[int, str] | None:
    target = rng.randrange(len(seen))
    called = name(seen, target)
    return (target, called) if called else None


def _with_things(scene: Scene, things: tuple[Thing, ...]) -> View | None:
    view = render(msgspec.structs.replace(scene, things=things))
    return view if seen_well(view) else None


def _recolor(view: View, seen: tuple[Seen, ...], rng: random.Random) -> Change | None:
    chosen = _target(seen, rng)
    if chosen is None:
        return None
    target, called = chosen
    things = view.scene.things
    color = rng.choice([other for other in COLORS if other != things[target].color])
    changed = msgspec.structs.replace(things[target], color=color, rgb=shade(rng, color))
    after = _with_things(view.scene, (*things[:target], changed, *things[target + 1 :]))
    if after is None:
        return None
    text = rng.choice(
        (f"Make {called} {color}.", f"Change the color of {called} to {color}.", f"Paint {called} {color}.")
    )
    return Change(instruction=text, view=after, before=target, after=target)


def _remove(view: View, seen: tuple[Seen, ...], rng: random.Random) -> Change | None:
    chosen = _target(seen, rng)
    if chosen is None or len(seen) < 2:
        return None
    target, called = chosen
    things = view.scene.things
    after = _with_things(view.scene, (*things[:target], *things[target + 1 :]))
    if after is None:
        return None
    text = rng.choice((f"Remove {called}.", f"Take {called} away.", f"Delete {called} from the picture."))
    return Change(instruction=text, view=after, before=target, after=None)


def _add(view: View, seen: tuple[Seen, ...], rng: random.Random) -> Change | None:
    side = view.scene.side
    thing = draw_thing(rng, side, rng.choice(CATEGORIES))
    after = add(view, thing, apart=True)
    if after is None:
        return None
    where = place(see(after)[-1].center, side)
    noun = with_article(f"{thing.size} {thing.color} {thing.category}")
    text = rng.choice((f"Add {noun} {where}.", f"Put {noun} {where}."))
    return Change(instruction=text, view=after, before=None, after=len(view.scene.things))


def _move(view: View, seen: tuple[Seen, ...], rng: random.Random) -> Change | None:
    """Move an object near the middle of another ninth of the picture, where it touches nothing."""
    chosen = _target(seen, rng)
    if chosen is None:
        return None
    target, called = chosen
    scene = view.scene
    thing = scene.things[target]
    row, column = rng.randrange(3), rng.randrange(3)
    where = PLACES[row][column]
    if where == place(seen[target].center, scene.side):
        return None
    ninth = scene.side / 3
    x0, y0, x1, y1 = bounds(thing)
    dx = round((column + 0.5) * ninth - (x0 + x1) / 2 + rng.uniform(-0.3, 0.3) * ninth)
    dy = round((row + 0.5) * ninth - (y0 + y1) / 2 + rng.uniform(-0.3, 0.3) * ninth)
    if max(abs(dx), abs(dy)) < _STEP_RATIO * scene.side:
        return None
    rest = (*scene.things[:target], *scene.things[target + 1 :])
    without = _with_things(scene, rest)
    after = add(without, move(thing, dx, dy), apart=True) if without is not None else None
    if after is None or place(see(after)[-1].center, scene.side) != where:
        return None
    text = f"Move {called} {_TO.get(where) or where.replace('at ', 'to ')}."
    return Change(instruction=text, view=after, before=target, after=len(rest))
