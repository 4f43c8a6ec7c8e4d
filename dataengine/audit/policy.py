"""Licenses: what is stated, and whether that says anything."""

from __future__ import annotations

from collections.abc import Iterator

from dataengine.audit.rule import Facts, Hit, SampleFacts

_UNKNOWN = frozenset({"", "unknown", "unspecified", "none", "other"})


def is_known(license_id: str | None) -> bool:
    """Say whether a license is one."""
    return (license_id or "").strip().lower() not in _UNKNOWN


def license_missing(facts: Facts) -> Iterator[Hit]:
    """Yield pictures of a source that states licenses a picture, but not for this one."""
    for number, image in enumerate(facts.annotation.images):
        if image.license is not None and not is_known(image.license):
            yield Hit(f"{image.path}: license is {image.license!r}", None, number)


def sample_license_missing(facts: SampleFacts) -> Iterator[Hit]:
    """Yield what of a sample has no license."""
    for kind, value in (
        ("annotations", facts.sample.license.annotations),
        ("images", facts.sample.license.images),
    ):
        if not is_known(value):
            yield Hit(f"license of {kind} is {value!r}")
