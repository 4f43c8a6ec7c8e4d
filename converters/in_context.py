"""In-context prompts: how pictures, regions and masks stand between the words, as VisionLLM v2's own set writes them.

A region stands as `<reg>region<region></reg>`, without a number: nobody speaks of it later. A mask that is the answer
stands as the routing token alone, and lies on the last picture.
"""

from __future__ import annotations

from dataengine.annotation import Annotation, Instance, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.geometry import rle_area
from dataengine.regions import mask_region
from dataengine.sample import InstanceTargets, Region, Rendering, Route, TargetInstance, TextTargets
from dataengine.tokens import REGION, region_text

# The one thing that a mask answer asks for; its category is what the examples are to teach.
TARGET = "region"


def route(token: str) -> Route:
    """Return what the routing token of a mask answer points to."""
    return Route(token=token, kind="region", name=TARGET)


def conversation(annotation: Annotation, token: str | None) -> Rendering:
    """Return a ready-made conversation; the k-th `<region>` of its text is the k-th object of the annotation.

    In an answer it is a mask to find, which `token` routes to; None: answers are text. Raises Skip where the answer is
    of the other kind, Quarantine where it is neither, or an object has no usable mask.
    """
    if len(annotation.dialogs) != 1:
        raise Skip("dialog.none", f"{len(annotation.dialogs)} conversations, expected one")
    items = iter(annotation.instances)
    turns: list[Turn] = []
    regions: list[Region] = []
    answers: list[Instance] = []
    for turn in annotation.dialogs[0].turns:
        text = turn.text.strip()
        here = [_usable(next(items, None), turn.role) for _ in range(text.count(REGION))]
        if turn.role == "assistant":
            answers += here
            text = text.replace(REGION, token or "")
        else:
            regions += [mask_region(item.mask, item.image) for item in here if item.mask is not None]
            text = text.replace(REGION, region_text(None))
        turns.append(Turn(turn.role, text))
    if token is None and answers:
        raise Skip("answer.mask", "the answer is a mask")
    if token is None:
        return Rendering(conversation=tuple(turns), targets=TextTargets(), regions=tuple(regions))
    if len(answers) != 1:
        raise Skip("answer.text", f"{len(answers)} masks in the answers, expected one")
    if answers[0].image != len(annotation.images) - 1:
        raise Quarantine(
            "target.picture", f"the mask to find lies on picture {answers[0].image}, not the last"
        )
    return Rendering(
        conversation=tuple(turns),
        targets=InstanceTargets(instances=(target(answers[0]),)),
        routes=(route(token),),
        regions=tuple(regions),
    )


def _usable(item: Instance | None, role: str) -> Instance:
    if item is None or item.mask is None:
        raise Quarantine("region.lost", f"a turn of the {role} shows a region that has no usable mask")
    return item


def target(item: Instance) -> TargetInstance:
    """Return an object with box and mask as what a mask answer asks for."""
    assert item.box is not None and item.mask is not None
    return TargetInstance(id=item.id, label=TARGET, box=item.box, area=rle_area(item.mask), mask=item.mask)
