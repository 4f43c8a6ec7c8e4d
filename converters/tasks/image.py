"""Make a picture from words, change one as told, or make the map that belongs to one (depth, normals)."""

from __future__ import annotations

import random

import msgspec

from dataengine.annotation import Annotation, Caption, Edit, Quantity, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.prompts import choose
from dataengine.sample import ImageTargets, Prompt, Rendering, Route
from dataengine.task import Task, Unit
from dataengine.wording import one_line, phrase, pictures

VERSION = "2"
NEEDS_BANK = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`bare_ratio`: the share of training prompts that are the editing instruction alone, as the source words it.

    `quantities`: what a map may measure to answer this task.
    """

    bare_ratio: float = 0.0
    quantities: tuple[Quantity, ...] = ()


_SPOKEN: dict[Quantity, str] = {
    "depth": "depth",
    "distance": "distance to the camera",
    "disparity": "disparity",
    "inverse_depth": "inverse depth",
    "normal": "surface normal",
}


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for the picture that a caption describes (unit: caption), that an instruction leads to (unit: edit), or
    that measures the picture shown (unit: image)."""
    match unit:
        case Annotation():
            return _map(annotation, task, rng)
        case Caption():
            return _make(annotation, unit, task, rng)
        case Edit():
            return _edit(annotation, unit, task, rng)
    raise AssertionError(f"unit {type(unit).__name__} makes no picture")


def _make(annotation: Annotation, unit: Caption, task: Task, rng: random.Random) -> Rendering:
    lang = unit.lang or task.lang
    words = phrase(unit.text, lang)
    if not words:
        raise Skip("text.empty")
    roles = [image.role for image in annotation.images]
    if roles != ["target"]:
        raise Quarantine("media.role", f"images are {', '.join(roles) or 'none'}, expected one target")
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=lang)
    asked, prompt = question.fill(caption=words), Prompt(bank=task.bank.id, question=question.id)
    return _render(asked, one_line(unit.text), 0, prompt, task, lang, rng)


def _edit(annotation: Annotation, unit: Edit, task: Task, rng: random.Random) -> Rendering:
    options: Options = task.options
    whole, words = one_line(unit.instruction), phrase(unit.instruction, task.lang)
    if not words:
        raise Skip("text.empty")
    roles = [image.role for image in annotation.images]
    targets = [number for number, role in enumerate(roles) if role == "target"]
    if targets != [unit.after] or roles[unit.before] != "input":
        raise Quarantine(
            "media.role",
            f"images are {', '.join(roles)}, expected image {unit.before} as an input and image {unit.after} as the "
            "only target",
        )
    assert task.bank is not None
    if task.train and rng.random() < options.bare_ratio:
        asked, prompt = whole, Prompt(bank=task.bank.id)
    else:
        question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
        asked, prompt = question.fill(instruction=words), Prompt(bank=task.bank.id, question=question.id)
    return _render(f"{pictures(annotation)}{asked}", whole, unit.after, prompt, task, task.lang, rng)


def _map(annotation: Annotation, task: Task, rng: random.Random) -> Rendering:
    options: Options = task.options
    roles = [image.role for image in annotation.images]
    if sorted(roles) != ["input", "target"]:
        raise Quarantine(
            "media.role", f"images are {', '.join(roles) or 'none'}, expected one input, one target"
        )
    target = roles.index("target")
    measure = annotation.images[target].measure
    if measure is None:
        raise Quarantine("map.unmeasured", f"{annotation.images[target].path}: nothing says what it measures")
    if measure.quantity not in options.quantities:
        raise Quarantine("map.quantity", f"{measure.quantity}, expected {' or '.join(options.quantities)}")
    assert task.bank is not None
    name = _SPOKEN[measure.quantity]
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    asked, prompt = question.fill(quantity=name), Prompt(bank=task.bank.id, question=question.id)
    said = f"{pictures(annotation)}{asked}"
    rendering = _render(said, f"{name} map", target, prompt, task, task.lang, rng)
    assert isinstance(rendering.targets, ImageTargets)
    return msgspec.structs.replace(
        rendering, targets=msgspec.structs.replace(rendering.targets, measure=measure)
    )


def _render(
    asked: str, caption: str, target: int, prompt: Prompt, task: Task, lang: str, rng: random.Random
) -> Rendering:
    token = task.spec.routing[0]
    assert task.bank is not None
    answer = choose(task.bank.answers, rng, train=task.train, lang=lang)
    return Rendering(
        conversation=(Turn("user", asked), Turn("assistant", answer.fill(image=token))),
        routes=(Route(token=token, kind="image", name=str(target)),),
        targets=ImageTargets(image=target, caption=caption),
        prompt=msgspec.structs.replace(prompt, answer=answer.id),
    )
