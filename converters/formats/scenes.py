"""Scenes: drawn pictures with exact truth, made from a seed; there is no source file but the pictures themselves.

A picture and its facts are a pure function of (seed, number, size, max_objects): how many are made, and in which
order, changes none. `prepare` puts the pictures under the root before anything reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from dataengine.annotation import Annotation, Caption, Edit, Image, Instance, Keypoint, LabelSpace, Origin
from dataengine.errors import Quarantine, SourceError
from dataengine.files import Root, make_folder
from dataengine.geometry import rle_from_mask
from dataengine.scenes import wording
from dataengine.scenes.layout import MAX_OBJECTS, View, chance, compose
from dataengine.scenes.objects import label_space
from dataengine.scenes.pictures import edit_of, picture_path, write
from dataengine.scenes.wording import Seen

VERSION = "1"
LICENSE = "CC0-1.0"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The scenes `start` to `start + count` of a seed, `size` pixels high and wide, in a folder of the root.

    `facts` says what is told of a scene: `objects` (the picture with its objects, captions, expressions, questions
    and dialog), `generation` (a description and the picture as its target) or `edits` (the picture, an instruction,
    and the changed picture as its target).
    """

    seed: Annotated[int, msgspec.Meta(ge=0)]
    count: Annotated[int, msgspec.Meta(ge=0)]
    start: Annotated[int, msgspec.Meta(ge=0)] = 0
    size: Annotated[int, msgspec.Meta(ge=96, le=2048)] = 128
    max_objects: Annotated[int, msgspec.Meta(ge=1, le=MAX_OBJECTS)] = 6
    folder: str = "scenes"
    facts: Literal["objects", "generation", "edits"] = "objects"


def labels(source: Source, root: Root) -> LabelSpace:
    """Return the categories that a scene can hold."""
    return label_space("source")


def prepare(source: Source, directory: Path) -> None:
    """Write the pictures that are missing under `directory`. Raises SourceError where the folder lies outside."""
    try:
        Root(make_folder(directory)).inside(source.folder)
    except Quarantine as error:
        raise SourceError(
            f"{source.folder}: {error.detail}; source.folder must stay inside --root"
        ) from error
    write(
        directory,
        seed=source.seed,
        count=source.count,
        side=source.size,
        max_objects=source.max_objects,
        start=source.start,
        folder=source.folder,
        edits=source.facts == "edits",
    )


def read(source: Source, root: Root) -> Iterator[Annotation]:
    """Yield one annotation a scene, in order of their numbers."""
    for index in range(source.start, source.start + source.count):
        view = compose(source.seed, index, source.size, source.max_objects)
        match source.facts:
            case "objects":
                yield _objects(source, index, view)
            case "generation":
                yield _generation(source, index, view)
            case "edits":
                yield _edits(source, index, view)


def _image(source: Source, index: int, role: Literal["input", "target"], *, edited: bool = False) -> Image:
    path = picture_path(source.folder, source.seed, index, source.size, source.max_objects, edited=edited)
    return Image(path=path, width=source.size, height=source.size, role=role, license=LICENSE)


def _origin(source: Source, index: int) -> Origin:
    return Origin(file=_image(source, index, "input").path, record=f"seed {source.seed}, scene {index}")


def _objects(source: Source, index: int, view: View) -> Annotation:
    seen = wording.see(view)
    background, side = view.scene.background, source.size
    return Annotation(
        key=f"{index:07d}",
        images=(_image(source, index, "input"),),
        origin=_origin(source, index),
        instances=tuple(instance(view, number, one) for number, one in enumerate(seen)),
        captions=wording.captions(seen, background, side, chance(source.seed, index, "captions")),
        expressions=wording.expressions(seen, side, chance(source.seed, index, "expressions")),
        questions=wording.questions(seen, side, chance(source.seed, index, "questions")),
        dialogs=wording.dialogs(seen, background, side, chance(source.seed, index, "dialogs")),
    )


def _generation(source: Source, index: int, view: View) -> Annotation:
    text = wording.description(wording.see(view), view.scene.background, source.size)
    return Annotation(
        key=f"{index:07d}",
        images=(_image(source, index, "target"),),
        origin=_origin(source, index),
        captions=(Caption(id="c0", text=text),),
    )


def _edits(source: Source, index: int, view: View) -> Annotation:
    """A scene that nothing can be done to has its picture and no edit: it is counted as such."""
    edit = edit_of(view, source.seed, index)
    before = _image(source, index, "input")
    if edit is None:
        return Annotation(key=f"{index:07d}", images=(before,), origin=_origin(source, index))
    return Annotation(
        key=f"{index:07d}",
        images=(before, _image(source, index, "target", edited=True)),
        origin=_origin(source, index),
        edits=(Edit(id="e0", instruction=edit.instruction, before=0, after=1),),
    )


def instance(view: View, number: int, seen: Seen) -> Instance:
    """Return one object of a scene: the mask is what is seen of it, the box is tight around that."""
    thing = seen.thing
    return Instance(
        id=f"o{number}",
        category=thing.category,
        box=seen.box,
        mask=rle_from_mask(view.ids == number + 1),
        keypoints=tuple(_keypoint(view, number, x, y) for x, y in thing.joints) or None,
        text=f"{thing.size} {thing.color} {thing.category}",
        attributes={"color": thing.color, "size": thing.size},
    )


def _keypoint(view: View, number: int, x: float, y: float) -> Keypoint:
    """A joint is hidden where its pixel shows another object."""
    return (x, y, 2 if view.ids[int(y), int(x)] == number + 1 else 1)
