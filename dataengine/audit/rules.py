"""The rules: a table, and one function for each that looks at an annotation, a sample or a picture.

`docs/rules.md` is made from this table. A reason that a converter gave (`image.missing`, `id.orphan`, …) is a rule as
well, though no function here looks for it: the audit counts what the converter quarantined.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from dataengine import sample as samples
from dataengine.annotation import Annotation, Box
from dataengine.errors import Quarantine
from dataengine.geometry import box_area, clip_box
from dataengine.images import EXTENSIONS, Probe
from dataengine.sample import InstanceTargets, KeypointTargets, Sample
from dataengine.tokens import IMAGE, special_tokens

Severity = Literal["error", "warn", "info"]
Action = Literal["fix", "drop", "skip", "quarantine", "fail", "warn"]

OUTSIDE_TOLERANCE_PX = 1.0
UNKNOWN_LICENSES = frozenset({"", "unknown", "unspecified", "none", "other"})


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule: what it says, how bad a hit is, and what conversion does about it by default."""

    id: str
    severity: Severity
    action: Action
    says: str


class Hit(msgspec.Struct, frozen=True):
    """One place where a rule is broken; `box` is where to look in picture number `image`."""

    detail: str
    box: Box | None = None
    image: int = 0


# Severity and default action, then the rules that share them: id, and what a hit means.
_GROUPS: tuple[tuple[Severity, Action, dict[str, str]], ...] = (
    (
        "error",
        "quarantine",
        {
            "schema": "a record is not of the declared layout, or a sample breaks its schema",
            "box.size_mismatch": "the stated picture size is not the file's",
            "category.unknown": "an object's category is not in the label space",
            "keypoint.count": "an object has another number of keypoints than its category",
            "polygon.invalid": "a polygon has too few points or numbers that are not finite",
            "text.special_token": "source text holds a token of the model",
            "media.placeholder": "the number of <image> is not the number of pictures",
            "id.duplicate": "an id stands twice",
            "id.orphan": "a record points to one that is not there",
            "image.missing": "a picture's file is not there",
            "image.corrupt": "a picture cannot be decoded to its last row",
            "image.too_large": "a picture has more pixels than is safe to decode",
            "path.outside": "a file name leaves the root",
        },
    ),
    (
        "error",
        "drop",
        {
            "box.degenerate": "a box has no area",
            "box.inverted": "a box ends before it begins",
            "box.nonfinite": "a box holds a number that is not finite",
            "rle.size_mismatch": "a run-length code does not fit its picture",
        },
    ),
    (
        "warn",
        "fix",
        {
            "box.outside": "a box leaves its picture by more than a pixel",
            "keypoint.visibility": "a keypoint's flag and place disagree, or the stated number of keypoints is wrong",
            "keypoint.outside": "a labelled keypoint lies outside its picture",
            "image.format_vs_extension": "a picture's bytes are of another format than its name says",
        },
    ),
    (
        "error",
        "fail",
        {
            "box.convention": "the boxes look like another convention than the declared one",
            "keypoint.convention": "the keypoints look like another convention than the declared one",
            "count.expected": "a split has another number of records or pictures than its spec states",
            "shard.damaged": "a shard's bytes are not those that were written",
            "ledger.unbalanced": "an account does not balance",
        },
    ),
    (
        "error",
        "skip",
        {
            "text.empty": "a text that is asked or answered is empty",
        },
    ),
    (
        "warn",
        "warn",
        {
            "image.exif_orientation": "a picture is stored turned; annotations may mean either side up",
            "license.missing": "no license is stated for annotations or pictures",
        },
    ),
)
RULES: tuple[Rule, ...] = tuple(
    Rule(id=name, severity=severity, action=action, says=says)
    for severity, action, rules in _GROUPS
    for name, says in rules.items()
)
BY_ID = {rule.id: rule for rule in RULES}


def rule_of(reason: str) -> Rule:
    """Return the rule of a reason; one that a reader or builder named itself counts as an error."""
    return BY_ID.get(reason) or Rule(
        id=reason, severity="error", action="quarantine", says="named by a reader or builder"
    )


def box_rules(annotation: Annotation, sizes: list[tuple[int, int] | None]) -> Iterator[tuple[str, Hit]]:
    """Boxes of one annotation against its pictures' (width, height), None where unknown."""
    for item in annotation.instances:
        if item.box is None:
            continue
        name = f"instance {item.id}"
        x0, y0, x1, y1 = item.box
        text = f"{name}: box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
        if not all(math.isfinite(value) for value in item.box):
            yield "box.nonfinite", Hit(text)
            continue
        if x1 < x0 or y1 < y0:
            yield "box.inverted", Hit(text, item.box, item.image)
        elif box_area(item.box) <= 0:
            yield "box.degenerate", Hit(text, item.box, item.image)
        size = sizes[item.image] if item.image < len(sizes) else None
        if size is not None:
            clipped = clip_box(item.box, *size)
            if max(abs(a - b) for a, b in zip(item.box, clipped, strict=True)) > OUTSIDE_TOLERANCE_PX:
                yield "box.outside", Hit(f"{text} in {size[0]} x {size[1]}", item.box, item.image)
        if item.mask is not None and size is not None and item.mask.size != (size[1], size[0]):
            yield (
                "rle.size_mismatch",
                Hit(
                    f"{name}: mask of {item.mask.size}, picture of {(size[1], size[0])}", item.box, item.image
                ),
            )


def keypoint_rules(annotation: Annotation, sizes: list[tuple[int, int] | None]) -> Iterator[tuple[str, Hit]]:
    """Keypoints of one annotation: flags, places, and the number that the source states."""
    for item in annotation.instances:
        if item.keypoints is None:
            continue
        name = f"instance {item.id}"
        odd = [point for point in item.keypoints if point[2] not in (0, 1, 2)]
        placed = [point for point in item.keypoints if point[2] == 0 and (point[0] or point[1])]
        labelled = sum(point[2] > 0 for point in item.keypoints)
        if odd:
            yield "keypoint.visibility", Hit(f"{name}: v = {odd[0][2]}", item.box, item.image)
        if placed:
            yield (
                "keypoint.visibility",
                Hit(f"{name}: {len(placed)} keypoints with v = 0 have a place", item.box, item.image),
            )
        stated = item.attributes.get("num_keypoints")
        # As text: a file may state a number of more digits than Python reads.
        if stated is not None and stated.isdecimal() and (stated.lstrip("0") or "0") != str(labelled):
            yield (
                "keypoint.visibility",
                Hit(f"{name}: num_keypoints is {stated}, {labelled} are labelled", item.box, item.image),
            )
        size = sizes[item.image] if item.image < len(sizes) else None
        if size is not None:
            for x, y, v in item.keypoints:
                if v and not (-1 <= x <= size[0] + 1 and -1 <= y <= size[1] + 1):
                    yield (
                        "keypoint.outside",
                        Hit(f"{name}: ({x:g}, {y:g}) in {size[0]} x {size[1]}", item.box, item.image),
                    )
                    break


def text_rules(annotation: Annotation, sizes: list[tuple[int, int] | None]) -> Iterator[tuple[str, Hit]]:
    """Texts of one annotation: empty ones, and ones that hold the model's tokens."""
    texts: list[tuple[str, str]] = []
    texts += [(f"caption {one.id}", one.text) for one in annotation.captions]
    texts += [(f"expression {one.id}", one.text) for one in annotation.expressions]
    for question in annotation.questions:
        texts.append((f"question {question.id}", question.text))
        texts += [(f"answer of {question.id}", answer) for answer in (*question.answers, *question.choices)]
    texts += [(f"edit {one.id}", one.instruction) for one in annotation.edits]
    texts += [(f"text of {one.id}", one.text) for one in annotation.instances if one.text is not None]
    for dialog in annotation.dialogs:
        count = sum(turn.text.count(IMAGE) for turn in dialog.turns)
        inputs = sum(image.role == "input" for image in annotation.images)
        # Without any placeholder the pictures stand before the first question: nothing is in doubt.
        if count not in (0, inputs):
            yield "media.placeholder", Hit(f"dialog {dialog.id}: {count} <image>, {inputs} pictures")
        # A turn that only shows a picture is not empty.
        texts += [(f"turn of {dialog.id}", turn.text.replace(IMAGE, " x ")) for turn in dialog.turns]
    for name, text in texts:
        if not text.strip():
            yield "text.empty", Hit(name)
        elif found := special_tokens(text):
            yield "text.special_token", Hit(f"{name}: {found[0]!r}")


def license_rules(annotation: Annotation, sizes: list[tuple[int, int] | None]) -> Iterator[tuple[str, Hit]]:
    """Pictures of a source that states licenses a picture, but not for this one."""
    for number, image in enumerate(annotation.images):
        if image.license is not None and image.license.strip().lower() in UNKNOWN_LICENSES:
            yield "license.missing", Hit(f"{image.path}: license is {image.license!r}", None, number)


AnnotationRule = Callable[[Annotation, list[tuple[int, int] | None]], Iterator[tuple[str, Hit]]]
ANNOTATION_RULES: tuple[AnnotationRule, ...] = (box_rules, keypoint_rules, text_rules, license_rules)


def sample_rules(sample: Sample) -> Iterator[tuple[str, Hit]]:
    """A sample's parts against each other, and its objects against its pictures."""
    try:
        samples.check(sample)
    except Quarantine as error:
        yield (error.reason if error.reason in BY_ID else "schema"), Hit(f"{error.reason}: {error.detail}")
    for license_kind, value in (
        ("annotations", sample.license.annotations),
        ("images", sample.license.images),
    ):
        if value.strip().lower() in UNKNOWN_LICENSES:
            yield "license.missing", Hit(f"license of {license_kind} is {value!r}")
    if isinstance(sample.targets, InstanceTargets | KeypointTargets) and sample.images:
        place = sample.object_image
        width, height = sample.images[place].width, sample.images[place].height
        for item in sample.targets.instances:
            if box_area(item.box) <= 0:
                yield "box.degenerate", Hit(f"target {item.id}", item.box, place)
            if clip_box(item.box, width, height) != item.box:
                yield "box.outside", Hit(f"target {item.id}", item.box, place)


def image_rules(path: str, header: Probe) -> Iterator[tuple[str, Hit]]:
    """A picture's header against its name."""
    suffix = PurePosixPath(path).suffix.lower().removeprefix(".")
    named = EXTENSIONS.get(suffix)
    if named is not None and named != header.format:
        yield "image.format_vs_extension", Hit(f"{path}: is {header.format}")
    if header.orientation != 1:
        yield "image.exif_orientation", Hit(f"{path}: EXIF orientation {header.orientation}")
