"""What each routing token of an answer stands for, in words: of the answer, or of the question that it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from dataengine import tokens
from dataengine.catalog import shipped_specs
from dataengine.prompts import Choice, load_bank
from dataengine.wording import one_line

# Tokens that answer the question as a whole, and the slots and banks from which one can tell what it asked for.
_ASKED = {
    tokens.GRD: ("expression", "grounding"),
    tokens.GEN: ("caption", "text_to_image"),
    tokens.EDIT: ("instruction", "image_edit"),
}
_LISTS = ("classes", "keypoints", "regions")
_TAGGED = re.compile(r"<(det|grd)>(?P<text>(?:(?!<\1>).)*?)</\1>\s*$", re.DOTALL)
# Where a name can start: at words, at what opens quotes and brackets, and at every sign of scripts without spaces.
_STARTS = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|\w+|[\"'(\[]")
# What stands before a list is no part of its first item.
_COLON = re.compile(r".*[:：]\s*", re.DOTALL)
_BREAK = re.compile(r".*[.;!?,。；！？，、،؛؟]\s*", re.DOTALL)
# A name is no part of a longer word.
_BEGINS, _ENDS = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"


def names(question: str, before: Sequence[str], routing: Sequence[str]) -> list[str]:
    """Return the name of each routing token of an answer; `before[k]` is the text between it and the one before.

    A phrase in `<det>` or `<grd>` tags names its token, and so does what follows the words with which an answer of our
    prompt banks begins a list. Else it is the end of the text before that the question has, too: a class, keypoint or
    region; where it has none (captions), the last clause. Expressions and descriptions of pictures to make stand in the
    question alone.
    """
    asked = said_words(question)
    return [_name(asked, text, token) for text, token in zip(before, routing, strict=True)]


def said_words(question: str) -> str:
    """Return a question without pictures and regions' marks, on one line."""
    text = question
    for token in (tokens.IMAGE, tokens.REGION, tokens.REGION_START, tokens.REGION_END):
        text = text.replace(token, "\n" if token == tokens.IMAGE else "")
    return one_line(text)


def _name(asked: str, before: str, token: str) -> str:
    if (tagged := _TAGGED.search(before)) is not None:
        return one_line(tagged["text"])
    if token in _ASKED:
        return _wanted(asked, token)
    said = one_line(before)
    for lead in _leads():
        if lead and said.startswith(lead) and said[len(lead) :].strip():
            return said[len(lead) :].strip()
    said = _COLON.sub("", said)
    starts = [match.start() for match in _STARTS.finditer(said)]
    for start in starts:
        if re.search(_BEGINS + re.escape(said[start:]) + _ENDS, asked, re.IGNORECASE):
            return said[start:]
    return _BREAK.sub("", said) or said


def _wanted(asked: str, token: str) -> str:
    """Return what a question asks for by the one template that it was made with, else the whole question."""
    slot, bank = _ASKED[token]
    found = {
        values[slot]
        for number, text in _templates(bank)
        if (values := Choice(number, text).read(asked)) is not None
    }
    return found.pop() if len(found) == 1 else asked


@cache
def _leads() -> tuple[str, ...]:
    """Return the words that stand before a list in the answers of our banks, the longest first."""
    found: set[str] = set()
    for path in sorted((shipped_specs() / "prompts").glob("*.yaml")):
        for number, text in load_bank(path).answers.items():
            rest = text
            for slot in Choice(number, text).slots:
                lead, _, rest = rest.partition(f"{{{slot}}}")
                if slot in _LISTS:
                    found.add(one_line(lead))
    return tuple(sorted(found, key=lambda lead: (-len(lead), lead)))


@cache
def _templates(bank: str) -> tuple[tuple[str, str], ...]:
    return tuple(load_bank(shipped_specs() / "prompts" / f"{bank}.yaml").questions.items())
