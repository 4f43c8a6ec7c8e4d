"""Find objects and the keypoints of each: human, animal and face pose.

One turn asks for the classes first and for the keypoints second. Where classes differ in their keypoints, the names of
all asked classes are joined in the order of the label space, and an object's keypoints that its class lacks are "not
labelled". A prompt may ask for some of the keypoints only; the targets keep all, in that order, and the routes say
which are asked for.
"""

from __future__ import annotations

import random
from collections.abc import Collection

import msgspec

from converters.tasks.instances import choose_classes, unsure_classes, with_absent
from dataengine.annotation import Annotation, Instance, Keypoint, Label, Turn
from dataengine.errors import Quarantine, Skip
from dataengine.geometry import box_area, rle_area
from dataengine.prompts import choose
from dataengine.sample import KeypointTargets, Prompt, Rendering, Route, Sample, TargetInstance
from dataengine.task import Task, Unit, objects
from dataengine.tokens import IMAGE
from dataengine.wording import joined, spoken

VERSION = "2"
NEEDS_BANK = True


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of a prompt, and the share of training prompts that name all classes, or all keypoints."""

    max_classes: int = 100
    all_ratio: float = 0.5
    max_absent: int | None = None
    max_keypoints: int = 68
    all_keypoints_ratio: float = 0.5


def build(annotation: Annotation, unit: Unit, task: Task, rng: random.Random) -> Rendering:
    """Ask for all objects of some classes and for keypoints of each; one route a class, then one a keypoint."""
    options: Options = task.options
    labels = [label for label in (task.labels.labels if task.labels else ()) if label.keypoints]
    if not labels:
        raise Skip("keypoint.no_names", "no class of the label space has keypoints")
    named = {label.name for label in labels}
    # A class without keypoints is none of this task's business, whatever facts its objects have.
    posed = msgspec.structs.replace(
        annotation, instances=tuple(item for item in annotation.instances if item.category in named)
    )
    real = {item.id for item in objects(posed, task.spec.requires)}
    classes = choose_classes(
        posed,
        [label.name for label in labels],
        rng,
        train=task.train,
        max_classes=options.max_classes,
        all_ratio=options.all_ratio,
        max_absent=options.max_absent,
    )
    asked_labels = [label for label in labels if label.name in classes]
    names = tuple(dict.fromkeys(spoken(name) for label in asked_labels for name in label.keypoints))
    asked = _choose_keypoints(names, options, task.train, rng)
    det, pose = task.spec.routing
    assert task.bank is not None
    question = choose(task.bank.questions, rng, train=task.train, lang=task.lang)
    answer = choose(task.bank.answers, rng, train=task.train, lang=task.lang)
    by_name = {label.name: label for label in asked_labels}
    return Rendering(
        conversation=(
            Turn(
                "user",
                f"{IMAGE}\n"
                + question.fill(
                    classes=joined(classes, question.lang), keypoints=joined(asked, question.lang)
                ),
            ),
            Turn(
                "assistant",
                answer.fill(
                    classes=joined((name + det for name in classes), answer.lang),
                    keypoints=joined((name + pose for name in asked), answer.lang),
                ),
            ),
        ),
        routes=(
            *(Route(token=det, kind="category", name=name) for name in classes),
            *(Route(token=pose, kind="keypoint", name=name) for name in asked),
        ),
        targets=KeypointTargets(
            names=names,
            instances=tuple(
                _target(item, by_name[item.category], names, ignore=item.id not in real)
                for item in posed.instances
                if item.category in by_name and item.box is not None
            ),
            flip_pairs=_flip_pairs(asked_labels, names),
            sigmas=_sigmas(asked_labels, names),
        ),
        prompt=Prompt(bank=task.bank.id, question=question.id, answer=answer.id),
        unsure=unsure_classes(posed, classes),
    )


def recover(
    annotation: Annotation, sample: Sample, task: Task, unsure: Collection[str] | None
) -> tuple[Annotation, Unit] | None:
    """Return the facts of a sample from which `build` names other classes and keypoints, as `instances.recover` does.

    The targets hold the keypoints of all asked classes; an object gets those of its own class back, in its order. None
    where nobody knows the label space: it is the dataset's own, and the set was restored from its tars.
    """
    targets = sample.targets
    assert isinstance(targets, KeypointTargets)
    labels = {label.name: label for label in (task.labels.labels if task.labels else ()) if label.keypoints}
    if not labels:
        return None
    place = {name: number for number, name in enumerate(targets.names)}
    own = {
        label.name: [place[spoken(name)] for name in label.keypoints]
        for label in map(labels.__getitem__, {item.label for item in targets.instances})
    }
    instances = tuple(
        msgspec.structs.replace(
            item, keypoints=tuple(item.keypoints[number] for number in own[item.category or ""])
        )
        for item in annotation.instances
        if item.keypoints is not None
    )
    known = with_absent(
        msgspec.structs.replace(annotation, instances=instances), sample, list(labels), unsure
    )
    return known, known


def _choose_keypoints(names: tuple[str, ...], options: Options, train: bool, rng: random.Random) -> list[str]:
    """Return the keypoints to ask for: to evaluate all in order, to train all or some of them, shuffled."""
    most = min(len(names), options.max_keypoints)
    if not train:
        return list(names[:most])
    count = most if rng.random() < options.all_keypoints_ratio else rng.randint(1, most)
    return rng.sample(names, count)


def _target(item: Instance, label: Label, names: tuple[str, ...], *, ignore: bool) -> TargetInstance:
    assert item.box is not None
    points = item.keypoints if item.keypoints is not None else ((0.0, 0.0, 0),) * len(label.keypoints)
    if len(points) != len(label.keypoints):
        raise Quarantine(
            "keypoint.count",
            f"instance {item.id} has {len(points)} keypoints, {label.name!r} has {len(label.keypoints)}",
        )
    placed: dict[str, Keypoint] = dict(zip(map(spoken, label.keypoints), points, strict=True))
    return TargetInstance(
        id=item.id,
        label=label.name,
        box=item.box,
        area=rle_area(item.mask) if item.mask else box_area(item.box),
        keypoints=tuple(placed.get(name, (0.0, 0.0, 0)) for name in names),
        ignore=ignore,
    )


def _flip_pairs(labels: list[Label], names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Return the mirror partners of all labels as positions in `names`."""
    place = {name: index for index, name in enumerate(names)}
    pairs = {
        (place[spoken(label.keypoints[a])], place[spoken(label.keypoints[b])])
        for label in labels
        for a, b in label.flip_pairs
    }
    return tuple(sorted({(min(pair), max(pair)) for pair in pairs}))


def _sigmas(labels: list[Label], names: tuple[str, ...]) -> tuple[float, ...]:
    """Return one sigma a name, the first label's where several state one; none at all where one is not known."""
    known: dict[str, float] = {}
    for label in labels:
        for name, sigma in zip(map(spoken, label.keypoints), label.sigmas, strict=False):
            known.setdefault(name, sigma)
    return tuple(known[name] for name in names) if set(known) == set(names) else ()
