"""What is asked: questions with their answers, expressions, edits and conversations, each against its parts."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterator

from dataengine.annotation import Annotation, Expression, Question
from dataengine.audit.rule import Facts, Hit
from dataengine.errors import Quarantine
from dataengine.tokens import IMAGE

_YES_NO = re.compile(r"(?:is|are|was|were|does|did|has|have)\s+(?!you\b)\w", re.IGNORECASE)
YES_NO_BEGINS = re.compile("is|ar|wa|we|do|di|ha", re.IGNORECASE)
_YES_OR_NO = re.compile(r"(?:yes|no|yeah|yep|nope|not|true|false)\b", re.IGNORECASE)
# Nobody can say, or it is asked for one of two.
_OPEN = re.compile(r"\bor\b|\bwh(?:at|ich|o|ere|en|y)\b|\bhow\b|[:;,]", re.IGNORECASE)
_UNSURE = re.compile(r"un|not |n/?a\b|maybe|can'?t|cannot|don'?t|\?", re.IGNORECASE)
_OPTIONS = re.compile(r"(?:^|[\s(])A\s?[.):]\s*\S.*?[\s(]B\s?[.):]\s*\S", re.DOTALL)
MAX_WORDS = 3


def placeholder(facts: Facts) -> Iterator[Hit]:
    """Yield dialogs that place another number of pictures than there are."""
    if not facts.annotation.dialogs:
        return
    inputs = sum([image.role == "input" for image in facts.annotation.images])
    for dialog in facts.annotation.dialogs:
        count = sum([turn.text.count(IMAGE) for turn in dialog.turns])
        # Without any placeholder the pictures stand before the first question: nothing is in doubt.
        if count not in (0, inputs):
            yield Hit(f"{_called('dialog', dialog.id)}: {count} <image>, {inputs} pictures")


def turns(facts: Facts) -> Iterator[Hit]:
    """Yield dialogs whose turns do not go from user to assistant and back, to the end."""
    for dialog in facts.annotation.dialogs:
        roles = [turn.role for turn in dialog.turns if turn.role != "system"]
        if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
            yield Hit(f"{_called('dialog', dialog.id)}: roles are {', '.join(roles[:8]) or 'none'}")


def form(facts: Facts) -> Iterator[Hit]:
    """Yield questions that their answer or their choices do not fit."""
    for question in facts.annotation.questions:
        if said := _misfit(question):
            yield Hit(f"{_called('question', question.id)}: {said}")


def _misfit(question: Question) -> str:
    """Return what is wrong with a question, its choices and its answers, "" where nothing is."""
    choices, index, answers = question.choices, question.answer_index, question.answers
    if index is not None and not 0 <= index < len(choices):
        return f"the answer is choice {index} of {len(choices)}"
    if choices:
        folded = [_folded(choice) for choice in choices]
        if len(set(folded)) < len(folded):
            return "a choice stands twice"
        if index is None and answers and not any(_folded(answer) in folded for answer in answers):
            return f"the answer {answers[0][:40]!r} is none of the choices"
        if _OPTIONS.search(question.text):
            return "the choices stand in the question, too"
    elif answers and _is_yes_no(question) and not any(map(_YES_OR_NO.match, answers)):
        return f"{question.text[:60]!r} is answered by {answers[0][:40]!r}"
    return ""


def _folded(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def _is_yes_no(question: Question) -> bool:
    """Say whether only yes or no can answer; answers of a word or a few, none of which says that nobody knows."""
    return (
        _YES_NO.match(question.text) is not None
        and _OPEN.search(question.text) is None
        and all(len(answer.split()) <= MAX_WORDS and not _UNSURE.match(answer) for answer in question.answers)
    )


def consensus(facts: Facts) -> Iterator[Hit]:
    """Yield questions whose source names an answer as the common one that fewer people gave than another."""
    for question in facts.annotation.questions:
        if question.stated is None or not question.votes or question.stated == question.answers[0]:
            continue
        votes = dict(zip(question.answers, question.votes, strict=False))
        given = votes.get(question.stated, 0)
        if given < question.votes[0]:
            yield Hit(
                f"{_called('question', question.id)}: stated is {question.stated[:40]!r}, given by {given};"
                f" {question.votes[0]} gave {question.answers[0][:40]!r}"
            )


def ambiguous(facts: Facts) -> Iterator[Hit]:
    """Yield phrases that mean other objects elsewhere on the same picture; parts of captions are no such names."""
    of = facts.annotation
    if len(of.expressions) < 2:
        return
    meant: dict[str, Expression] = {}
    for one in of.expressions:
        if one.spans or not one.instances or one.answer is not None:
            continue
        first = meant.setdefault(" ".join(one.text.casefold().split()), one)
        if first is not one and _places(of, first) != _places(of, one):
            where = of.instances[one.instances[0]]
            yield Hit(f"{one.text[:60]!r} is expression {first.id} and {one.id}", where.box, where.image)


def _places(of: Annotation, expression: Expression) -> set[object]:
    found = [of.instances[number] for number in expression.instances if number < len(of.instances)]
    return {(one.image, one.box, None if one.box else one.id) for one in found}


def noop(facts: Facts) -> Iterator[Hit]:
    """Yield edits that change nothing: the same picture before and after, or a copy of its file."""
    of = facts.annotation
    for edit in of.edits:
        if max(edit.before, edit.after) < len(of.images):
            before, after = of.images[edit.before].path, of.images[edit.after].path
            if before == after or _same_bytes(facts, before, after):
                yield Hit(f"{_called('edit', edit.id)}: {before} and {after} are the same", None, edit.after)


def _same_bytes(facts: Facts, before: str, after: str) -> bool:
    """Say whether two files of the root hold the same; of other sizes they are not even opened."""
    if facts.root is None:
        return False
    try:
        return filecmp.cmp(facts.root.inside(before), facts.root.inside(after), shallow=False)
    except (OSError, Quarantine):
        return False  # said of the pictures themselves


def _called(kind: str, of: str) -> str:
    return f"{kind} {of}".strip()
