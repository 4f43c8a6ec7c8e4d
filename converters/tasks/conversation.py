"""Pass on a ready-made conversation, in the source's own words."""

from __future__ import annotations

import random

import msgspec

from dataengine.annotation import Annotation, Dialog, Turn
from dataengine.sample import Rendering, TextTargets
from dataengine.task import Task, Unit
from dataengine.tokens import IMAGE
from dataengine.wording import pictures

VERSION = "1"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`image_first`: a single picture named anywhere in the first question moves to its start, as LLaVA does."""

    image_first: bool = True


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Return the turns without outer spaces; pictures that no turn names stand before the first question.

    What contradicts the pictures otherwise, or is no proper alternation of roles, is left for the sample's check.
    """
    assert isinstance(unit, Dialog)
    options: Options = task.options
    turns = [Turn(turn.role, turn.text.strip()) for turn in unit.turns]
    first = next((index for index, turn in enumerate(turns) if turn.role == "user"), None)
    if first is not None:
        text = turns[first].text
        named = sum(turn.text.count(IMAGE) for turn in turns)
        shown = pictures(annotation)
        single = options.image_first and named == 1 and shown.count(IMAGE) == 1 and IMAGE in text
        words = text.replace(IMAGE, "").strip() if single else text
        if shown and words and (named == 0 or single):
            turns[first] = Turn("user", shown + words)
    return Rendering(conversation=tuple(turns), targets=TextTargets())
