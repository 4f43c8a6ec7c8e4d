"""Pictures against each other: near ones, and those that are both to train on and to be evaluated on."""

from __future__ import annotations

from collections.abc import Iterator

from dataengine.audit.findings import Finding
from dataengine.audit.gallery import Gallery, How, Match, Seen
from dataengine.audit.table import rule_of
from dataengine.perceptual import WORD

_IS: dict[How, str] = {
    "place": "the picture",
    "id": "the same public picture",
    "bytes": "a picture of the same bytes",
    "near": "a near picture",
}


def compared(gallery: Gallery) -> Iterator[Finding]:
    """Yield what pictures show beside each other.

    A picture that one split trains on and another evaluates on is an overlap of splits inside a dataset, told of the
    split to evaluate on; across datasets it is a leak, told of the one to train on. Near pictures are told of those
    that are for the same use, so that nothing is told twice.
    """
    for twin in gallery.near():
        group = f"one of {twin.size} that are near to each other, from {_named(twin.first, twin.picture)} on"
        detail = (
            f"{twin.picture.path}: {twin.bits} of {2 * WORD} bits from {_named(twin.other, twin.picture)}"
        )
        yield _finding(
            "image.duplicate_near",
            twin.picture,
            twin.other,
            f"{detail}; {group}" if twin.size > 2 else detail,
        )
    for match in gallery.shared("eval", "train", same_dataset=True):
        yield _finding(
            "split.overlap", match.picture, match.other, f"{_says(match)} is in {match.other.source.name}"
        )
    for match in gallery.shared("train", "eval", same_dataset=False):
        rule = "leak.near" if match.how == "near" else "leak.image"
        yield _finding(
            rule,
            match.picture,
            match.other,
            f"{_says(match)} is in {match.other.source.name}, to evaluate on",
        )


def _says(match: Match) -> str:
    name = f"{match.picture.path}: {_IS[match.how]}"
    if match.how == "near":
        name += f", {match.bits} of {2 * WORD} bits away,"
    return name if match.other.path == match.picture.path else f"{name} {match.other.path}"


def _named(one: Seen, beside: Seen) -> str:
    return one.path if one.source.subject == beside.source.subject else f"{one.path} of {one.source.name}"


def _finding(rule: str, picture: Seen, other: Seen, detail: str) -> Finding:
    return Finding(
        rule=rule,
        severity=rule_of(rule).severity,
        subject=picture.source.subject,
        place="picture",
        key="",
        file="",
        record="",
        detail=detail,
        image=picture.path,
        other_image=other.path,
        other_subject=other.source.subject,
    )
