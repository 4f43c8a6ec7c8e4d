"""Licenses, and what can be traced to a person."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataengine.audit.rule import Facts, Hit, SampleFacts

_UNKNOWN = frozenset({"", "unknown", "unspecified", "none", "other"})
# Domains under which nobody lives (RFC 2606).
_EMAIL = re.compile(
    r"[\w.+-]{1,64}@(?!(?:[\w-]+\.)*example\.)(?:[\w-]+\.)+[A-Za-z]{2,24}\b(?!\.(?:test|invalid))"
)
# With a country's code, or in the groups of North America; years, prices and dates are none of these.
_PHONE = re.compile(
    r"(?<![\w+])\+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4}(?![\d.])"
    r"|(?<![\d(.-])(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4}(?![\d-])"
)


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


def personal(facts: Facts) -> Iterator[Hit]:
    """Yield texts with an e-mail address or a telephone number; a report does not repeat them."""
    if "@" not in facts.written and not _PHONE.search(facts.written):
        return
    for one in facts.odd_texts:
        if _EMAIL.search(one.text):
            yield Hit(f"{one.name}: holds an e-mail address")
        elif _PHONE.search(one.text):
            yield Hit(f"{one.name}: holds a telephone number")
