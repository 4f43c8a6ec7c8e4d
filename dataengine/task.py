"""What a task is, and the runtime view of it that a builder gets."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Edit,
    Expression,
    Instance,
    LabelSpace,
    Question,
)
from dataengine.errors import Skip
from dataengine.prompts import PromptBank

Family = Literal["text", "detection", "pose", "generation", "editing"]
UnitKind = Literal["image", "instance", "expression", "question", "caption", "dialog", "edit"]
Unit = Annotation | Instance | Expression | Question | Caption | Dialog | Edit


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of problem: what becomes one sample, who words it, which tokens route to which decoder."""

    id: str
    title: str
    unit: UnitKind
    builder: str
    decoder: Family
    routing: tuple[str, ...] = ()
    prompts: str | None = None
    requires: tuple[Literal["box", "mask", "keypoints", "text"], ...] = ()
    options: dict[str, Any] = {}
    metric: str = ""
    note: str = ""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a builder needs beside the unit. `options` is the builder's own Options Struct."""

    spec: TaskSpec
    options: Any
    bank: PromptBank | None
    labels: LabelSpace | None
    train: bool
    lang: str = "en"


def explode(annotation: Annotation, unit: UnitKind) -> tuple[tuple[str, Unit], ...]:
    """Return the units of an annotation, each with the suffix that makes its key unique (empty for the whole image)."""
    match unit:
        case "image":
            return (("", annotation),)
        case "instance":
            parts: tuple[Instance | Expression | Question | Caption | Dialog | Edit, ...] = (
                annotation.instances
            )
        case "expression":
            parts = annotation.expressions
        case "question":
            parts = annotation.questions
        case "caption":
            parts = annotation.captions
        case "dialog":
            parts = annotation.dialogs
        case "edit":
            parts = annotation.edits
    return tuple((part.id, part) for part in parts)


def objects(annotation: Annotation, requires: tuple[str, ...]) -> list[Instance]:
    """Return the instances that can be asked for: real objects that have every required fact.

    Raises Skip `object.incomplete` where an object lacks one: an answer that leaves it out would be untrue.
    """
    found = [item for item in annotation.instances if not (item.crowd or item.ignore or item.difficult)]
    for item in found:
        for fact in requires:
            if getattr(item, fact) is None:
                raise Skip("object.incomplete", f"instance {item.id} has no {fact}")
    return found
