"""Licenses: what each allows, profiles of what a build may hold, and who passes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from dataengine import manifest as manifests
from dataengine.catalog import shipped_specs
from dataengine.errors import SpecError, UsageError, nearest
from dataengine.selection import Choice
from dataengine.strict import load_struct

FILE = "licenses.yaml"
Answer = Literal["yes", "no", "unknown"]
QUESTIONS = ("commercial", "research", "attribution", "share_alike", "derivatives")
# Every version asks the same of whoever uses it; so do ports to the law of a country.
_CC = re.compile(
    r"(?:cc|creative commons)[ -](by(?:[ -]nc)?(?:[ -](?:sa|nd))?)(?:[ -][1-4]\.\d)?(?:[ -][a-z]{2})?"
)
_CC_LINK = re.compile(r"creativecommons\.org/licenses/(by[a-z-]*)/[1-4]\.\d(?:/[a-z./]*)?")
_CC_PUBLIC = re.compile(r"creativecommons\.org/publicdomain/(zero|mark)/1\.0(?:/[a-z./]*)?")


class License(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A license and what it says, `unknown` wherever nobody has established it; `names` are other names of it."""

    id: str
    names: tuple[str, ...] = ()
    commercial: Answer = "unknown"
    research: Answer = "unknown"
    attribution: Answer = "unknown"
    share_alike: Answer = "unknown"
    derivatives: Answer = "unknown"
    note: str = ""


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a build may hold: of each question the answers that pass, none named: all.

    `allow` are licenses that pass whatever their answers are, `deny` those that never do.
    """

    title: str
    commercial: tuple[Answer, ...] = ()
    research: tuple[Answer, ...] = ()
    attribution: tuple[Answer, ...] = ()
    share_alike: tuple[Answer, ...] = ()
    derivatives: tuple[Answer, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class LicenseFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file of licenses and profiles may hold."""

    licenses: tuple[License, ...] = ()
    not_stated: tuple[str, ...] = ()
    profiles: dict[str, Profile] = {}


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of licenses: by every name in its plain form, the words that say that none is stated, and the
    profiles."""

    licenses: dict[str, License]
    not_stated: frozenset[str]
    profiles: dict[str, Profile]

    def find(self, name: str) -> License | None:
        """Return the license of a name, however it is spelled; None where nobody knows it."""
        return self.licenses.get(plain(name))

    def states_none(self, name: str | None) -> bool:
        """Say whether a text says that no license is stated."""
        return plain(name or "") in self.not_stated

    def profile(self, name: str) -> Profile:
        """Return a profile. Raises UsageError with the nearest known name."""
        if name not in self.profiles:
            raise UsageError(f"--profile: unknown {name!r}{nearest(name, self.profiles)}")
        return self.profiles[name]


def plain(name: str) -> str:
    """Return a license's name in the form that all its spellings share."""
    text = " ".join(name.lower().replace("licence", "license").replace("_", " ").split())
    text = re.sub(r"^https?://(?:www\.)?", "", text).rstrip("/")
    if found := _CC.fullmatch(text) or _CC_LINK.fullmatch(text):
        return f"cc-{found[1].replace(' ', '-')}"
    if found := _CC_PUBLIC.fullmatch(text):
        return "cc0-1.0" if found[1] == "zero" else "public domain"
    return text


@cache
def load(own: Path | None = None) -> Terms:
    """Return the licenses and profiles that ship, those of an own file above them. Raises SpecError."""
    files = [shipped_specs() / FILE, *([own] if own is not None else [])]
    read = [load_struct(path, LicenseFile) for path in files]
    not_stated = frozenset(plain(word) for one in read for word in ("", *one.not_stated))
    found: dict[str, License] = {}
    profiles: dict[str, Profile] = {}
    for path, one in zip(files, read, strict=True):
        _check(path, one, not_stated)
        found |= {plain(name): entry for entry in one.licenses for name in (entry.id, *entry.names)}
        profiles |= one.profiles
    return Terms(licenses=found, not_stated=not_stated, profiles=profiles)


def _check(path: Path, file: LicenseFile, not_stated: frozenset[str]) -> None:
    seen: dict[str, str] = {}
    for entry in file.licenses:
        for name in map(plain, (entry.id, *entry.names)):
            if name in seen:
                raise SpecError(
                    f"{path}: licenses: {name!r} stands twice, in {seen[name]!r} and {entry.id!r}"
                )
            if name in not_stated:
                raise SpecError(
                    f"{path}: licenses: {entry.id!r} says that none is stated, expected a license"
                )
            seen[name] = entry.id
    for name, profile in file.profiles.items():
        for word in profile.allow:
            if plain(word) in not_stated:
                raise SpecError(
                    f"{path}: profiles.{name}.allow: {word!r} says that no license is stated, which cannot be allowed;"
                    " name the licenses that may pass"
                )


def fault(terms: Terms, profile: Profile, name: str | None) -> str:
    """Say why what is under a license does not pass a profile; "" where it does.

    Of several, joined by AND, each must pass.
    """
    if terms.states_none(name) or name is None:
        return f"{name or 'none'}: no license is stated"
    entry = terms.find(name)
    parts = re.split(r"\s+AND\s+", name)
    if entry is None and len(parts) > 1:
        return next(filter(None, (fault(terms, profile, part) for part in parts)), "")
    if plain(name) in map(plain, profile.deny):
        return f"{name}: denied"
    if plain(name) in map(plain, profile.allow):
        return ""
    if entry is None:
        return f"{name}: an unknown license"
    return _wrong_answer(entry, profile, name)


def _wrong_answer(entry: License, profile: Profile, name: str) -> str:
    for question in QUESTIONS:
        wanted, answer = getattr(profile, question), getattr(entry, question)
        if wanted and answer not in wanted:
            return f"{name}: {question} is {answer}"
    return ""


class LicensedImage(msgspec.Struct, frozen=True, gc=False):
    """What of a picture its license needs."""

    license: str | None = None


class SampleTerms(msgspec.Struct, frozen=True, gc=False):
    """The licenses as a sample states them; what pictures joined together state is in the pictures, too."""

    annotations: str
    images: str


class Licensed(msgspec.Struct, frozen=True, gc=False):
    """What of a sample its licenses need; the whole takes several times as long."""

    id: str
    images: tuple[LicensedImage, ...]
    license: SampleTerms


decode = msgspec.json.Decoder(Licensed).decode


def pictures_of(sample: Licensed, stated: str) -> tuple[str, ...]:
    """Return the licenses of a sample's pictures, as `of_pictures` does."""
    return of_pictures((image.license for image in sample.images), sample.license.images, stated)


def of_pictures(own: Iterable[str | None], joined: str, stated: str) -> tuple[str, ...]:
    """Return the licenses of a sample's pictures, each once, by name.

    `own` are those of single pictures, `joined` what the sample states, `stated` what its dataset says of all. A
    picture without a license of its own has the dataset's, also where another picture of the sample has one.
    """
    names = {name or "" for name in own}
    return tuple(sorted(name or stated for name in names)) if any(names) else (joined,)


def left_out(directory: Path, name: str, terms: Terms) -> Iterator[Choice]:
    """Yield the samples of a split that do not pass a profile: annotations and every picture must."""
    stated = manifests.load(directory).spec["dataset"]["license"]["images"]
    profile = terms.profile(name)

    @cache
    def verdict(annotations: str, pictures: tuple[str, ...]) -> str:
        parts = [("annotations", annotations), *(("pictures", one) for one in pictures)]
        found = ((part, fault(terms, profile, license_id)) for part, license_id in parts)
        return next((f"{part}: {why}" for part, why in found if why), "")

    for data in manifests.read_encoded(directory):
        sample = decode(data)
        if why := verdict(sample.license.annotations, pictures_of(sample, stated)):
            yield Choice(id=sample.id, keep=False, reason=f"license.{name}", note=why)


def unknown_names(terms: Terms, names: Iterable[str]) -> list[str]:
    """Return the license strings that the table does not know, of several joined by AND each by itself."""
    found = set()
    for name in names:
        if terms.find(name) is None and not terms.states_none(name):
            parts = re.split(r"\s+AND\s+", name)
            found |= set(unknown_names(terms, parts)) if len(parts) > 1 else {name}
    return sorted(found)
