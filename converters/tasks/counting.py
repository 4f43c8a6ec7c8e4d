"""How many objects of a class a picture shows, in text; only numbers that the annotation proves are asked for."""

from __future__ import annotations

import random
from collections import Counter

import msgspec

from dataengine.annotation import Annotation, Turn
from dataengine.errors import Skip
from dataengine.prompts import choose
from dataengine.sample import Prompt, Rendering, TextTargets
from dataengine.task import Task, Unit
from dataengine.wording import phrase, pictures

VERSION = "2"
NEEDS_BANK = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`max_rounds` classes an image, `max_count` objects of a class, `absent_ratio`: chance of one absent class more.

    `federated`: the classes that an image has are annotated in full even where others are not annotated at all, as in
    LVIS; otherwise an annotation that is not exhaustive says no number but that of its verified absent classes.
    """

    max_rounds: int = 5
    max_count: int = 100
    absent_ratio: float = 0.25
    federated: bool = False


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for the number of objects of some classes, one round a class.

    To train they are random ones, with now and then one that is absent; to evaluate all present ones in the order of
    the label space, or the first absent one where there is none.
    """
    options: Options = task.options
    order = list(task.labels.names) if task.labels is not None else []
    known = counts(annotation, order, options.federated)
    present = [name for name, count in known.items() if 0 < count <= options.max_count]
    absent = [name for name, count in known.items() if count == 0]
    chosen = present
    if task.train:
        chosen = rng.sample(present, min(len(present), options.max_rounds))
        if absent and (not chosen or rng.random() < options.absent_ratio):
            chosen = [*chosen[: options.max_rounds - 1], rng.choice(absent)]
            rng.shuffle(chosen)
    elif not present:
        chosen = absent[:1]
    if not chosen:
        raise Skip("count.unknown", "no class has a number that the annotation proves")
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    turns = []
    for number, name in enumerate(chosen):
        before = pictures(annotation) if number == 0 else ""
        turns.append(
            Turn("user", before + question.fill(category=phrase(name.replace("_", " "), question.lang)))
        )
        turns.append(Turn("assistant", str(known[name])))
    answers = (turns[1].text,) if len(chosen) == 1 else ()
    return Rendering(
        conversation=tuple(turns),
        targets=TextTargets(answers=answers),
        prompt=Prompt(bank=task.bank.id, question=question.id),
    )


def counts(annotation: Annotation, order: list[str], federated: bool) -> dict[str, int]:
    """Return the number of objects of each class where it is known, in the order of the label space.

    It is not where a crowd, an ignored or a difficult object of the class is there, and nowhere where one of no class
    is: it could belong to any.
    """
    unsure = {item.category for item in annotation.instances if item.crowd or item.ignore or item.difficult}
    nameless = any(item.category is None for item in annotation.instances)
    if nameless:
        return {}
    found = Counter(item.category for item in annotation.instances if item.category is not None)
    whole = set(found) if annotation.exhaustive or federated else set()
    zero = (set(order) if annotation.exhaustive else set()) | set(annotation.negatives)
    names = order or sorted(set(found) | set(annotation.negatives))
    return {
        name: found[name] for name in names if name not in unsure and name in (whole if found[name] else zero)
    }
