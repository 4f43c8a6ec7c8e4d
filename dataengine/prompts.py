"""Prompt banks: question and answer templates with ids and languages, and how one is chosen."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from dataengine.errors import SpecError
from dataengine.strict import load_struct

_SLOT = re.compile(r"\{([a-z_]+)\}")


class PromptBank(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Templates of one task. Ids start with the two letters of their language (`en01`); slots are `{name}`.

    The first template of each language is the one that evaluation uses.
    """

    id: str
    questions: dict[str, str]
    answers: dict[str, str] = {}
    question_slots: tuple[str, ...] = ()
    answer_slots: tuple[str, ...] = ()
    note: str = ""


class Choice(msgspec.Struct, frozen=True):
    """A chosen template: its id and its text."""

    id: str
    text: str

    @property
    def lang(self) -> str:
        """The language of the template, which need not be the one asked for."""
        return self.id[:2]

    def fill(self, **slots: str) -> str:
        """Put values into the slots. A value is inserted as it is: braces in it are not read again."""
        return _SLOT.sub(lambda match: slots[match.group(1)], self.text)

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the slots, in the order of the text."""
        return tuple(_SLOT.findall(self.text))

    def read(self, text: str, shapes: Mapping[str, str] | None = None) -> dict[str, str] | None:
        """Return the values with which `fill` gives a text, None where there are none, or several that could be.

        `shapes` are patterns of what can stand in a slot, by its name; anything can in the others.
        """
        given = tuple(sorted((shapes or {}).items()))
        found = [_pattern(self.text, given, lazy).fullmatch(text) for lazy in (True, False)]
        if found[0] is None or found[1] is None or found[0].groupdict() != found[1].groupdict():
            return None
        return found[0].groupdict()


@lru_cache(maxsize=4096)
def _pattern(template: str, shapes: tuple[tuple[str, str], ...], lazy: bool) -> re.Pattern[str]:
    """Return the pattern of the texts that a template gives; slots take as little as they can, or as much."""
    known, free = dict(shapes), ".+?" if lazy else ".+"
    # Every other part of the split is the name of a slot.
    parts = [
        f"(?P<{part}>{known.get(part, free)})" if number % 2 else re.escape(part)
        for number, part in enumerate(_SLOT.split(template))
    ]
    return re.compile("".join(parts), re.DOTALL)


def choose(templates: dict[str, str], rng: random.Random, *, train: bool, lang: str = "en") -> Choice:
    """Return a template in the language (English where there is none): a random one to train, the first to evaluate."""
    ids = [name for name in templates if name.startswith(lang)] or [
        name for name in templates if name.startswith("en")
    ]
    name = rng.choice(ids) if train else ids[0]
    return Choice(name, templates[name])


def load_bank(path: Path) -> PromptBank:
    """Load a bank. Raises SpecError where a template lacks a slot, has an unknown one, or its id names no language."""
    bank = load_struct(path, PromptBank)
    for kind, templates, slots in (
        ("questions", bank.questions, bank.question_slots),
        ("answers", bank.answers, bank.answer_slots),
    ):
        for name, text in templates.items():
            if not re.fullmatch(r"[a-z]{2}[0-9]{2,3}", name):
                raise SpecError(f"{path}: {kind}.{name}: id must be a language and a number, such as 'en01'")
            found = _SLOT.findall(text)
            if sorted(found) != sorted(slots):
                raise SpecError(
                    f"{path}: {kind}.{name}: has slots {found}, expected each of {list(slots)} exactly once"
                )
        texts = list(templates.values())
        if len(set(texts)) != len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise SpecError(f"{path}: {kind}: {twice!r} stands twice")
    asked, answered = ({name[:2] for name in templates} for templates in (bank.questions, bank.answers))
    if answered and asked != answered:
        odd = min(asked ^ answered)
        missing = "answers" if odd in asked else "questions"
        raise SpecError(
            f"{path}: {missing}: none in {odd!r}; a question would be answered in another language"
        )
    if not any(name.startswith("en") for name in bank.questions):
        raise SpecError(f"{path}: questions: none is English, which other languages fall back to")
    return bank
