"""Which annotations of a block the rules are asked about: those that have what a rule is about, or may break it.

Nearly all boxes, names and texts are plainly sound; many together show it at one look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import attrgetter

import numpy as np

from dataengine.annotation import Annotation
from dataengine.audit.block import Block
from dataengine.audit.drawn import doubtful_outlines
from dataengine.audit.labels import UNREADABLE, says_none
from dataengine.audit.policy import is_known
from dataengine.audit.questions import YES_NO_BEGINS
from dataengine.audit.rule import HUGE
from dataengine.audit.said import doubtful_texts


def odd_boxes(block: Block) -> Iterable[int]:
    """Return the places of annotations with a box that is not plainly sound."""
    if not block.objects:
        return ()
    left, top, right, bottom, width, height = block.boxes.rows.T
    known = ~np.isnan(width)
    # Whatever compares with NaN is false: such a box is odd.
    sound = (left >= -1) & (top >= -1) & (left < right) & (top < bottom)
    sound &= (right <= np.where(known, width, HUGE) + 1) & (bottom <= np.where(known, height, HUGE) + 1)
    places: list[int] = block.boxes.owners[~sound].tolist()
    return places


def near_boxes(block: Block) -> Iterable[int]:
    """Return the places of annotations with boxes of which one may be another once more."""
    return block.near if block.objects else ()


def none_named(block: Block) -> Iterable[int]:
    """Return the places of annotations with an object whose class or text says that it is none."""
    names = {name for name in set(block.categories) if name is not None and says_none(name)}
    if not names and UNREADABLE not in block.words:
        return ()
    found = [
        name in names or text == UNREADABLE for name, text in zip(block.categories, block.words, strict=True)
    ]
    places: list[int] = block.owners[found].tolist()
    return places


def odd_names(block: Block) -> Iterable[int]:
    """Return the places of annotations with a picture whose name is not of plain ASCII."""
    if _is_plain("".join(block.paths)):
        return ()
    return _where(block, lambda item: not all(_is_plain(image.path) for image in item.images))


def _is_plain(path: str) -> bool:
    return path.isascii() and path.isprintable() and "\\" not in path


def odd_licenses(block: Block) -> Iterable[int]:
    """Return the places of annotations with a picture whose license is stated, and none."""
    unknown = {
        one for one in {image.license for image in block.images} if one is not None and not is_known(one)
    }
    if not unknown:
        return ()
    return _where(block, lambda item: any(image.license in unknown for image in item.images))


def pointing(block: Block) -> Iterable[int]:
    """Return the places of annotations in which something points to a picture or an object."""
    places = {place for name in ("expressions", "edits", "relations") for place in having(name, block)}
    if any([one.instances for one in block.questions]):  # noqa: C419 - the faster
        places.update(_where(block, lambda item: any(one.instances for one in item.questions)))
    if any([one.image for one in block.objects]) or not all([item.images for item in block.items]):  # noqa: C419
        places.update(_where(block, _is_astray))
    return places


def _is_astray(item: Annotation) -> bool:
    return any(not 0 <= one.image < len(item.images) for one in item.instances)


def odd_questions(block: Block) -> Iterable[int]:
    """Return the places of annotations with a question that may not fit its answers, or has choices or votes."""
    if not block.questions:
        return ()
    begins = [one.text[:2] for one in block.questions]
    yes_no = {begin for begin in set(begins) if YES_NO_BEGINS.match(begin)}
    odd = [
        bool(one.choices) or begin in yes_no or one.answer_index is not None or one.stated is not None
        for begin, one in zip(begins, block.questions, strict=True)
    ]
    if not any(odd):
        return ()
    places: list[int] = block.places("questions")[odd].tolist()
    return places


def odd_turns(block: Block) -> Iterable[int]:
    """Return the places of annotations with conversations where not all turns go from user to assistant and back."""
    roles = [turn.role for turn in block.turns]
    even = all([one.turns and not len(one.turns) % 2 for one in block.dialogs])  # noqa: C419 - the faster
    if even and roles == ["user", "assistant"] * (len(roles) // 2):
        return ()
    return having("dialogs", block)


def odd_placeholders(block: Block) -> Iterable[int]:
    """Return the places of annotations with a conversation that places another number of pictures than there are."""
    joined = block.joined.get("turn")
    if joined is None or not len(joined.passed):
        return ()
    if not joined.parted:
        return having("dialogs", block)
    num = len(block.dialogs)
    dialogs = np.repeat(np.arange(num), [len(one.turns) for one in block.dialogs])
    turns = np.searchsorted(joined.first, joined.passed, side="right") - 1
    shown = np.bincount(dialogs[turns], minlength=num)
    owners = block.places("dialogs")
    inputs = np.array([sum([image.role == "input" for image in item.images]) for item in block.items])
    places: list[int] = owners[(shown > 0) & (shown != inputs[owners])].tolist()
    return places


def having(name: str, block: Block) -> list[int]:
    """Return the places of annotations that have something."""
    values = list(map(attrgetter(name), block.items))
    return [place for place, value in enumerate(values) if value] if any(values) else []


def _where(block: Block, is_so: Callable[[Annotation], bool]) -> list[int]:
    return [place for place, item in enumerate(block.items) if is_so(item)]


# By what a rule is about.
DOUBTS: Mapping[str, Callable[[Block], Iterable[int]]] = {
    "odd_boxes": odd_boxes,
    "near_boxes": near_boxes,
    "none_named": none_named,
    "odd_names": odd_names,
    "odd_licenses": odd_licenses,
    "odd_questions": odd_questions,
    "odd_turns": odd_turns,
    "odd_placeholders": odd_placeholders,
    "odd_texts": doubtful_texts,
    "outlined": doubtful_outlines,
    "pointing": pointing,
    "masked": lambda block: block.having("mask"),
    "quads": lambda block: block.having("quad"),
    "posed": lambda block: block.having("keypoints"),
    "expressions": partial(having, "expressions"),
    "edits": partial(having, "edits"),
    "negatives": partial(having, "negatives"),
    "paired": lambda block: _where(block, lambda item: len(item.images) > 1 or bool(item.maps)),
}


def doubts(block: Block, names: Iterable[str]) -> dict[str, set[int]]:
    """Return the places of annotations that rules are asked about, by what these rules are about."""
    found = {name: set(DOUBTS[name](block)) for name in names if name != "drawn"}
    # Where outlines are plainly sound, they fill their boxes, too.
    return found | {"drawn": found["outlined"] | found["masked"]}
