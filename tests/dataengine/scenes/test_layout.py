from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataengine.scenes import layout
from dataengine.scenes.layout import MAX_OBJECTS, View, add, compose, render, seen_well
from dataengine.scenes.objects import Background, Scene, Thing
from dataengine.scenes.shapes import cover

SEEDS = st.integers(0, 2**40)


def disc(color: str, x: float, y: float, radius: float) -> Thing:
    return Thing(category="circle", color=color, rgb=(1, 2, 3), size="small", center=(x, y), radius=radius)


def empty(side: int = 100) -> View:
    return render(Scene(side=side, background=Background(tint="gray", texture="plain", seed=0), things=()))


@given(seed=SEEDS, index=SEEDS, side=st.integers(96, 160), most=st.integers(1, MAX_OBJECTS))
@settings(deadline=None, max_examples=40)
def test_every_object_is_inside_and_seen_well(seed: int, index: int, side: int, most: int) -> None:
    view = compose(seed, index, side, most)

    things = view.scene.things
    assert 1 <= len(things) <= most
    assert view.ids.shape == (side, side)
    assert sorted(np.unique(view.ids[view.ids > 0])) == list(range(1, len(things) + 1))
    assert not view.ids[0].any()
    assert not view.ids[-1].any()
    assert not view.ids[:, 0].any()
    assert not view.ids[:, -1].any()
    for number, thing in enumerate(things):
        seen = int(np.count_nonzero(view.ids == number + 1))
        assert seen >= layout.MIN_VISIBLE_PIXELS
        assert seen >= layout.MIN_VISIBLE_RATIO * np.count_nonzero(cover(thing)[2])


@given(seed=SEEDS, index=SEEDS)
@settings(deadline=None, max_examples=40)
def test_what_is_seen_is_the_front_object_of_each_pixel(seed: int, index: int) -> None:
    view = compose(seed, index, 112, 8)

    front = np.zeros((112, 112), np.uint8)
    for row, column in np.ndindex(112, 112):
        if view.ids[row, column]:
            front[row, column] = view.ids[row, column]
    for number in reversed(range(len(view.scene.things))):
        x, y, mask = cover(view.scene.things[number])
        window = front[y : y + mask.shape[0], x : x + mask.shape[1]]
        # Whatever covers a pixel in front of the one that is seen there would contradict it.
        assert (window[mask] >= number + 1).all()
        assert mask[window == number + 1].all()
        assert np.count_nonzero(front == number + 1) == np.count_nonzero(window == number + 1)
    assert (render(view.scene).ids == view.ids).all()


@given(seed=SEEDS, index=SEEDS)
@settings(deadline=None, max_examples=40)
def test_objects_of_one_color_never_touch(seed: int, index: int) -> None:
    view = compose(seed, index, 112, 8)

    things = view.scene.things
    for a, b in ((view.ids[1:], view.ids[:-1]), (view.ids[:, 1:], view.ids[:, :-1])):
        for one, other in {
            (int(p), int(q)) for p, q in zip(a.ravel(), b.ravel(), strict=True) if 0 < p != q > 0
        }:
            assert things[one - 1].color != things[other - 1].color
    assert seen_well(view)


def test_a_scene_depends_on_its_seed_number_and_settings_only() -> None:
    first = compose(5, 3, 128, 6)

    for number in range(3):
        compose(5, number, 128, 6)

    assert compose(5, 3, 128, 6).scene == first.scene
    others = [compose(6, 3, 128, 6), compose(5, 4, 128, 6), compose(5, 3, 129, 6), compose(5, 3, 128, 7)]
    assert all(other.scene != first.scene for other in others)


@pytest.mark.parametrize(
    "spoiler",
    [
        pytest.param(disc("blue", 8, 50, 8), id="leaves the picture"),
        pytest.param(disc("blue", 50, 50, 12), id="hides the first"),
        pytest.param(disc("red", 71, 50, 10), id="touches its own color"),
        pytest.param(disc("blue", 20, 20, 1), id="is too small"),
    ],
)
def test_an_object_that_would_spoil_the_scene_is_refused(spoiler: Thing) -> None:
    view = add(empty(), disc("red", 50, 50, 11), apart=False)
    assert view is not None

    assert add(view, spoiler, apart=False) is None


def test_objects_may_overlap_a_little_unless_they_are_to_stay_apart() -> None:
    first = add(empty(), disc("red", 50, 50, 12), apart=False)
    assert first is not None
    second = disc("blue", 66, 50, 12)

    both = add(first, second, apart=False)

    assert both is not None
    hidden = np.count_nonzero(first.ids == 1) - np.count_nonzero(both.ids == 1)
    assert hidden > 0
    assert np.count_nonzero(both.ids == 2) == np.count_nonzero(cover(second)[2])
    assert add(first, second, apart=True) is None
    assert add(first, disc("red", 80, 50, 12), apart=True) is not None


def test_a_scene_with_a_hidden_or_merging_object_is_not_seen_well() -> None:
    scene = empty().scene

    def view(*things: Thing) -> View:
        return render(Scene(side=scene.side, background=scene.background, things=things))

    assert seen_well(view(disc("red", 30, 30, 10), disc("red", 60, 60, 10)))
    assert not seen_well(view(disc("red", 30, 30, 10), disc("blue", 32, 30, 10)))
    assert not seen_well(view(disc("red", 30, 30, 10), disc("red", 47, 30, 10)))


def test_scenes_vary_in_all_that_they_may() -> None:
    scenes = [compose(1, number, 96, 6).scene for number in range(150)]

    things = [thing for scene in scenes for thing in scene.things]
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4, 5, 6}
    assert len({thing.category for thing in things}) == 11
    assert len({thing.color for thing in things}) == 8
    assert len({thing.size for thing in things}) == 3
    assert len({scene.background.tint for scene in scenes}) == 6
    assert len({scene.background.texture for scene in scenes}) == 4
