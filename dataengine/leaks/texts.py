"""What a sample says in the source's own words, as numbers that the same words share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

import xxhash

from dataengine.annotation import Annotation
from dataengine.prompts import Choice, PromptBank
from dataengine.sample import Sample
from dataengine.tokens import placeholders

# As many words as tell a text from all others: GPT-3's paper (Brown et al. 2020, appendix C) looks for runs of 13, and
# for texts that are shorter as a whole, down to 8.
RUN_WORDS, FEWEST_WORDS = 13, 8
# What a template is filled with that its source has written; classes and regions are not such.
_WRITTEN = frozenset({"question", "caption", "instruction", "expression", "words"})
_GLYPH = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
# A glyph of Chinese or Japanese counts as a word: nothing stands between words there.
_WORD = re.compile(rf"[{_GLYPH}]|[^\W_{_GLYPH}]+")
_TOKEN = re.compile(r"<[a-z_/]{1,12}>|\[[A-Z]{3,4}\d?\]")


class Said(NamedTuple):
    """A text: a number that it shares with the same words, and one for each run of words that could be told anywhere.

    `runs` are those of RUN_WORDS words, or the whole of a shorter text; none for one of fewer than FEWEST_WORDS.
    """

    text: str
    whole: int
    runs: tuple[int, ...]


def said(text: str) -> Said:
    """Return a text's numbers: capitals, marks between words and forms of letters (NFKC) count for nothing."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if len(words) < FEWEST_WORDS:
        runs: tuple[int, ...] = ()
    elif len(words) <= RUN_WORDS:
        runs = (_number(words),)
    else:
        runs = tuple(_number(words[at : at + RUN_WORDS]) for at in range(len(words) - RUN_WORDS + 1))
    return Said(text, _number(words), runs)


def asked(sample: Sample, bank: PromptBank | None) -> Iterator[str]:
    """Yield what a sample asks in the source's words: without the template around it, and without tokens."""
    template = bank.questions.get(sample.prompt.question) if bank is not None else None
    for turn in sample.conversation:
        if turn.role == "user":
            yield from _written(turn.text, sample.prompt.question, template)


def told(sample: Sample, bank: PromptBank | None) -> Iterator[str]:
    """Yield what a sample answers in the source's words."""
    template = bank.answers.get(sample.prompt.answer) if bank is not None else None
    for turn in sample.conversation:
        if turn.role == "assistant":
            yield from _written(turn.text, sample.prompt.answer, template)


def asked_of(annotation: Annotation) -> Iterator[str]:
    """Yield what an annotation asks, or can be asked by: questions, expressions, instructions, turns of a user."""
    yield from (one.text for one in annotation.questions)
    yield from (one.text for one in annotation.expressions)
    yield from (one.instruction for one in annotation.edits)
    yield from _turns(annotation, "user")


def told_of(annotation: Annotation) -> Iterator[str]:
    """Yield what an annotation tells: answers, captions, turns of an assistant."""
    yield from (answer for one in annotation.questions for answer in one.answers)
    yield from (one.text for one in annotation.captions)
    yield from _turns(annotation, "assistant")


def _turns(annotation: Annotation, role: str) -> Iterator[str]:
    said = (turn for dialog in annotation.dialogs for turn in dialog.turns if turn.role == role)
    return (_TOKEN.sub(" ", turn.text).strip() for turn in said)


def _written(text: str, template_id: str, template: str | None) -> Iterator[str]:
    plain = _TOKEN.sub(" ", text).strip() if placeholders(text) else text.strip()
    if not template_id:
        yield plain
    elif template is not None:
        found = Choice(template_id, template).read(plain) or {}
        yield from (value for slot, value in found.items() if slot in _WRITTEN)


def _number(words: list[str]) -> int:
    return xxhash.xxh3_64_intdigest(" ".join(words).encode())
