from __future__ import annotations

import random
import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.scenes import edits, wording
from dataengine.scenes.drawing import draw
from dataengine.scenes.layout import View, compose, render, seen_well
from dataengine.scenes.objects import CATEGORIES, COLORS, SIZES, Background, Scene, Thing
from dataengine.scenes.wording import name, see

SIDE = 120
SEEDS = st.integers(0, 2**40)


def changed(seed: int) -> tuple[View, edits.Change]:
    view = compose(seed, 0, SIDE, 7)
    made = edits.change(view, see(view), random.Random(seed))
    assert made is not None
    return view, made


@given(seed=SEEDS)
@settings(deadline=None, max_examples=80)
def test_only_the_changed_object_changes_pixels(seed: int) -> None:
    view, change = changed(seed)

    differs = (draw(view) != draw(change.view)).any(axis=2)

    touched = np.zeros((SIDE, SIDE), np.bool_)
    if change.before is not None:
        touched |= view.ids == change.before + 1
    if change.after is not None:
        touched |= change.view.ids == change.after + 1
    assert differs.any()
    assert not (differs & ~touched).any()


@given(seed=SEEDS)
@settings(deadline=None, max_examples=80)
def test_the_result_is_a_scene_of_its_own(seed: int) -> None:
    view, change = changed(seed)

    after = change.view.scene

    assert (render(after).ids == change.view.ids).all()
    assert seen_well(change.view)
    assert after.background == view.scene.background
    kept_before = [thing for n, thing in enumerate(view.scene.things) if n != change.before]
    kept_after = [thing for n, thing in enumerate(after.things) if n != change.after]
    assert kept_before == kept_after


@given(seed=SEEDS)
@settings(deadline=None, max_examples=150)
def test_the_instruction_says_what_was_done(seed: int) -> None:
    view, change = changed(seed)
    text = change.instruction
    old = view.scene.things[change.before] if change.before is not None else None
    new = change.view.scene.things[change.after] if change.after is not None else None

    if match := re.fullmatch(
        rf"(?:Add|Put) an? ({'|'.join(SIZES)}) (\w+) ({'|'.join(CATEGORIES)}) (.+)\.", text
    ):
        assert old is None
        assert new is not None
        assert match.groups()[:3] == (new.size, new.color, new.category)
        assert match[4] == wording.place(see(change.view)[change.after or 0].center, SIDE)
        return
    assert old is not None
    called = name(see(view), change.before or 0)
    patterns = (rf"(?:Make|Paint) {called} (\w+)\.", rf"Change the color of {called} to (\w+)\.")
    if match := next((found for one in patterns if (found := re.fullmatch(one, text))), None):
        assert new is not None
        assert match[1] == new.color != old.color
        assert match[1] in COLORS
        assert (new.center, new.size, new.joints, new.category) == (
            old.center,
            old.size,
            old.joints,
            old.category,
        )
    elif match := re.fullmatch(rf"Move {called} to the (.+)\.", text):
        assert new is not None
        assert new.rgb == old.rgb
        place = wording.place(see(change.view)[change.after or 0].center, SIDE)
        assert place.split("the ")[1] == match[1].removesuffix(" side")
        assert max(abs(new.center[0] - old.center[0]), abs(new.center[1] - old.center[1])) >= SIDE / 5
    else:
        assert text in (f"Remove {called}.", f"Take {called} away.", f"Delete {called} from the picture.")
        assert new is None


def test_every_kind_of_change_occurs() -> None:
    verbs = [changed(seed)[1].instruction.split()[0] for seed in range(120)]

    assert set(verbs) == {"Make", "Paint", "Change", "Remove", "Take", "Delete", "Add", "Put", "Move"}


def test_a_scene_where_nothing_can_be_named_or_added_has_no_change() -> None:
    twin = Thing(
        category="square", color="red", rgb=(210, 40, 40), size="large", center=(60.0, 60.0), radius=30.0
    )
    background = Background(tint="gray", texture="plain", seed=0)
    # Two equal objects that fill the picture from edge to edge.
    ids = np.ones((SIDE, SIDE), np.uint8)
    ids[:, SIDE // 2 :] = 2
    full = View(scene=Scene(side=SIDE, background=background, things=(twin, twin)), ids=ids)

    assert edits.change(full, see(full), random.Random(1)) is None
