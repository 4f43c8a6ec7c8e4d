"""What of a source item can be shown as an example: the facts that are whole and do not speak the model's language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dataengine.annotation import Annotation, Caption, Instance
from dataengine.tokens import IMAGE, special_tokens


class Asked(NamedTuple):
    """A question and its accepted answers, the best first."""

    text: str
    answers: tuple[str, ...]


def labels(item: Annotation) -> list[str]:
    """Return the classes of the picture."""
    return [name for name in dict.fromkeys(item.labels) if plain(name)]


def real(one: Instance) -> bool:
    """Say whether an object can be pointed at: no crowd, and nothing that does not count."""
    placed = one.box is not None or one.mask is not None or bool(one.polygons)
    return placed and not (one.crowd or one.ignore or one.difficult)


def categories(item: Annotation) -> list[str]:
    """Return the categories whose objects are all real ones: "all of these" would be untrue of any other."""
    unsure = {one.category for one in item.instances if not real(one)}
    names = dict.fromkeys(one.category for one in item.instances)
    return [name for name in names if name and name not in unsure and plain(name)]


def captions(item: Annotation) -> list[Caption]:
    """Return the captions."""
    return [caption for caption in item.captions if plain(caption.text)]


def questions(item: Annotation) -> list[Asked]:
    """Return the questions that have an answer."""
    found = []
    for question in item.questions:
        answers = tuple(dict.fromkeys(text.strip() for text in question.answers if text.strip()))
        index = question.answer_index
        if not answers and index is not None and 0 <= index < len(question.choices):
            answers = (question.choices[index].strip(),)
        if answers and plain(question.text) and all(map(plain, answers)):
            found.append(Asked(question.text.strip(), answers))
    return found


def rounds(item: Annotation) -> list[Asked]:
    """Return the first round of each conversation, without its placeholder of the picture."""
    found = []
    for dialog in item.dialogs:
        turns = [turn for turn in dialog.turns if turn.role != "system"][:2]
        if [turn.role for turn in turns] == ["user", "assistant"]:
            question, answer = turns[0].text.replace(IMAGE, "").strip(), turns[1].text.strip()
            if plain(question) and plain(answer):
                found.append(Asked(question, (answer,)))
    return found


def words(item: Annotation) -> list[Instance]:
    """Return the objects that say something and can be read."""
    return [one for one in item.instances if real(one) and plain(one.text or "")]


def plain(text: str) -> bool:
    """Say whether a text can stand in a prompt."""
    return bool(text.strip()) and "\0" not in text and not special_tokens(text)


# By the names that a spec gives to `gather.by`.
FACTS: dict[str, Callable[[Annotation], Sequence[Any]]] = {
    "label": labels, "category": categories, "caption": captions, "question": questions, "dialog": rounds,
    "text": words,
}  # fmt: skip
# These are classes: examples share one with the item that is asked about.
CLASSES = frozenset({"label", "category"})
