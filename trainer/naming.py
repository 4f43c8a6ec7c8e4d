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
_TAGGED = re.compile(r"<(det|grd)>(?P<text>(?:(?!<\1>).)*?)</\1>\s*$", re.DOTALL)
# Where a name can start: at words, at other marks, and at every sign of scripts without spaces.
_STARTS = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|\w+|[^\w\s]")
_BREAK = re.compile(r".*[.:;!?,。：；！？，、،؛؟]\s*", re.DOTALL)
_ENDS = r"(?![A-Za-z0-9])"
_LISTED = r"(?:^|[:,、：،\n]\s*)"


def names(question: str, before: Sequence[str], routing: Sequence[str]) -> list[str]:
    """Return the name of each routing token of an answer; `before[k]` is the text between it and the one before.

    A phrase in `<det>` or `<grd>` tags names its token. Else it is the end of the text before that the question has,
    too, its longest item of a list or else words: a class, keypoint or region. Where the question has none (captions),
    it is the last clause. Expressions and descriptions of pictures to make stand in the question alone.
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
    said = one_line(before).strip("<>")
    starts = [match.start() for match in _STARTS.finditer(said)]
    for place in (_LISTED, r"(?<![A-Za-z0-9])"):
        for start in starts:
            if re.search(place + re.escape(said[start:]) + _ENDS, asked, re.IGNORECASE):
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
def _templates(bank: str) -> tuple[tuple[str, str], ...]:
    return tuple(load_bank(shipped_specs() / "prompts" / f"{bank}.yaml").questions.items())
