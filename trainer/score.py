"""Measures from predictions: what the model answers by itself beside what it makes of the given answer.

Nothing here needs a model: all of it is computed from the lines of `predictions.jsonl`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dataengine import tokens
from dataengine.annotation import Rle
from dataengine.geometry import rle_union
from dataengine.sample import InstanceTargets, KeypointTargets, Route, Sample, TargetInstance, TextTargets
from trainer.measures import NAMES, NOT_MEASURED, measures_of
from trainer.metrics import answers, captions, masks, objects, reading
from trainer.metrics.keypoints import PoseScene, keypoint_precision, pck
from trainer.metrics.objects import Found, Scene
from trainer.metrics.routing import Alignment, align, routing_scores, said_in
from trainer.predictions import FoundObject, Line, Prediction, Segment, Unusable

FREE, FORCED = "free", "forced"
SIDES = (FREE, FORCED)
Numbers = dict[str, float]


@dataclass(frozen=True)
class View:
    """A sample and one side of its prediction; objects are called what they were asked for by.

    `texts` are empty where the answer was given. What was found for a token that nothing asked for keeps the words that
    the model said before it.
    """

    prediction: Prediction
    side: str

    @property
    def sample(self) -> Sample:
        """The sample."""
        return self.prediction.sample

    @property
    def texts(self) -> tuple[str, ...]:
        """What the model said, an ask each."""
        return self.prediction.free.texts if self.side == FREE and self.prediction.free else ()

    @property
    def exact(self) -> bool:
        """Whether the answer is the taught one, token for token."""
        if self.side == FORCED:
            return self.prediction.forced.exact
        wanted = [ask.wanted.strip() for ask in self.prediction.asks]
        return [text.strip() for text in self.texts] == wanted

    @property
    def picture(self) -> Numbers | None:
        """How near a made picture is to the wanted one."""
        given = self.prediction.free if self.side == FREE else self.prediction.forced
        return None if given is None else given.picture

    @cached_property
    def alignments(self) -> list[Alignment]:
        """Which wanted route each routing token stands for, an ask each."""
        asks, sample = self.prediction.asks, self.sample
        said = self.texts if self.side == FREE else [ask.wanted for ask in asks]
        return [
            align(said_in(text, tokens.ROUTING_TOKENS), routes, said_in(ask.wanted, tokens.ROUTING_TOKENS))
            if self.side == FREE
            else Alignment(tuple(range(len(routes))), (), len(routes))
            for ask, text in zip(asks, said, strict=True)
            for routes in [[sample.routes[number] for number in ask.routes]]
        ]

    def route(self, ask: int, token: int) -> Route | None:
        """Return the route that a token of an ask's answer stands for, None where it is a false trigger."""
        number = self.alignments[ask].wanted[token]
        return None if number is None else self.sample.routes[self.prediction.asks[ask].routes[number]]

    def name(self, ask: int, token: int) -> str:
        """Return what a token stands for: the name of its route, else the words before it, marked as strange."""
        route = self.route(ask, token)
        if route is not None:
            return route.name
        return f"? {said_in(self.texts[ask], tokens.ROUTING_TOKENS)[token].before.strip()[-40:]}"

    @cached_property
    def found(self) -> list[Found]:
        """The objects, best first."""
        given = self.prediction.free if self.side == FREE else self.prediction.forced
        some: Sequence[FoundObject] = (given.found or ()) if given is not None else ()
        return [
            Found(self.name(one.ask, one.token), one.box, one.score, one.mask, self._points(one))
            for one in sorted(some, key=lambda one: -one.score)
        ]

    def _points(self, one: FoundObject) -> dict[str, tuple[float, float]] | None:
        if one.points is None:
            return None
        return {self.name(one.ask, token): (x, y) for token, x, y in one.points}

    @property
    def segments(self) -> dict[str, Rle]:
        """The pixels of each class of a label map."""
        given = self.prediction.free if self.side == FREE else self.prediction.forced
        some: Sequence[Segment] = given.segments if given is not None else ()
        by_name: dict[str, list[Rle]] = {}
        for one in some:
            by_name.setdefault(self.name(one.ask, one.token), []).append(one.mask)
        return {name: rle_union(parts) if len(parts) > 1 else parts[0] for name, parts in by_name.items()}

    @property
    def scene(self) -> Scene:
        """True and found objects of the picture that they lie on."""
        shown = self.sample.images[self.sample.object_image]
        return Scene(shown.width, shown.height, instances(self.sample), self.found)

    @property
    def pose(self) -> PoseScene:
        """The scene with what is known of its keypoints."""
        targets = self.sample.targets
        assert isinstance(targets, KeypointTargets)
        scene = self.scene
        asked = frozenset(route.name for route in self.sample.routes if route.kind == "keypoint")
        return PoseScene(
            scene.width, scene.height, scene.truth, scene.found, targets.names, asked, targets.sigmas
        )

    @property
    def label_map(self) -> masks.LabelMap:
        """True and found classes of all pixels; those of ignored objects are void."""
        truth = [item for item in instances(self.sample) if item.mask is not None]
        void = [item.mask for item in truth if item.ignore and item.mask is not None]
        if isinstance(self.sample.targets, InstanceTargets) and self.sample.targets.void is not None:
            void.append(self.sample.targets.void)
        wanted = {
            label: rle_union([item.mask for item in some if item.mask is not None])
            for label, some in objects.by_label(truth).items()
        }
        return masks.LabelMap(wanted, self.segments, rle_union(void) if void else None)

    def accepted(self, number: int) -> tuple[str, ...]:
        """Return the right answers to an ask: those of the sample, as often as they were given, where it has one round,
        else the true one."""
        targets = self.sample.targets
        if len(self.prediction.asks) == 1 and isinstance(targets, TextTargets) and targets.answers:
            return targets.given
        return (without_tokens(self.prediction.asks[number].wanted),)

    @property
    def pairs(self) -> list[tuple[str, tuple[str, ...]]]:
        """What was said without routing tokens, and what is right, an ask each."""
        return [(without_tokens(text), self.accepted(number)) for number, text in enumerate(self.texts)]


def instances(sample: Sample) -> tuple[TargetInstance, ...]:
    """Return the objects of a sample's targets."""
    return getattr(sample.targets, "instances", ())


def without_tokens(text: str) -> str:
    """Return a text without its routing tokens."""
    for token in tokens.ROUTING_TOKENS:
        text = text.replace(token, "")
    return text.strip()


def _prefixed(prefix: str, numbers: Numbers | None) -> Numbers | None:
    return None if numbers is None else {f"{prefix}_{name}": value for name, value in numbers.items()}


def _seeing(views: Sequence[View]) -> list[View]:
    """Return the views of samples that a decoder answered: of a model without one, there is nothing to measure."""
    return [view for view in views if view.prediction.forced.found is not None]


def _scenes(views: Sequence[View]) -> list[Scene]:
    return [view.scene for view in _seeing(views)]


def _box_ap(views: Sequence[View]) -> Numbers | None:
    return _prefixed("box", objects.average_precision(_scenes(views), "bbox"))


def _mask_ap(views: Sequence[View]) -> Numbers | None:
    scenes = _scenes(views)
    if not all(item.mask is not None for scene in scenes for item in scene.truth):
        return None
    return _prefixed("mask", objects.average_precision(scenes, "segm"))


def _poses(views: Sequence[View]) -> list[PoseScene]:
    return [view.pose for view in _seeing(views) if isinstance(view.sample.targets, KeypointTargets)]


def _pairs(views: Sequence[View]) -> list[tuple[str, tuple[str, ...]]]:
    return [pair for view in views for pair in view.pairs]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _questions(views: Sequence[View]) -> Numbers | None:
    pairs = _pairs(views)
    if not pairs:
        return None
    return {
        "vqa_accuracy": _mean(answers.vqa_accuracy(*pair) for pair in pairs),
        "accuracy": _mean(answers.exact_match(*pair) for pair in pairs),
        "anls": _mean(answers.anls(*pair) for pair in pairs),
        "relaxed_accuracy": _mean(answers.relaxed_accuracy(*pair) for pair in pairs),
    }


def _yes_no(views: Sequence[View]) -> Numbers | None:
    """Questions of which the answer is yes or no, where all of a task's are."""
    pairs = _pairs(views)
    truth = [answers.plain(accepted[0]) for _, accepted in pairs]
    if not pairs or not set(truth) <= {"yes", "no"}:
        return None
    return answers.yes_no_scores([(said, one == "yes") for (said, _), one in zip(pairs, truth, strict=True)])


def _accuracy(views: Sequence[View]) -> Numbers | None:
    pairs = _pairs(views)
    return {"accuracy": _mean(answers.exact_match(*pair) for pair in pairs)} if pairs else None


def _choices(views: Sequence[View]) -> Numbers | None:
    """By letter or text where the sample lists its choices and one of them is right, else as texts."""
    right = [_right_choice(view) for view in views if view.texts]
    return {"choice_accuracy": _mean(right)} if right else None


def _right_choice(view: View) -> float:
    targets = view.sample.targets
    if isinstance(targets, TextTargets) and targets.choices and targets.answer_index is not None:
        return answers.choice_accuracy(view.texts[0], targets.choices, targets.answer_index)
    return _mean(answers.exact_match(*pair) for pair in view.pairs)


def _captions(views: Sequence[View]) -> Numbers | None:
    pairs = _pairs(views)
    if not pairs:
        return None
    said, accepted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return {
        "cider": _mean(captions.cider(said, accepted)),
        "meteor": _mean(captions.meteor(*pair) for pair in pairs),
    }


def _counts(views: Sequence[View]) -> Numbers | None:
    pairs = [(said, answers.counted(accepted[0])) for said, accepted in _pairs(views)]
    known = [(said, count) for said, count in pairs if count is not None]
    return answers.counting_errors(known) if known else None


def _ratings(views: Sequence[View]) -> Numbers | None:
    pairs = [(answers.rating_of(said), answers.rating_of(accepted[0])) for said, accepted in _pairs(views)]
    known = [(found, truth) for found, truth in pairs if found is not None and truth is not None]
    return answers.correlations([found for found, _ in known], [truth for _, truth in known])


def _reading(views: Sequence[View]) -> Numbers | None:
    pairs = [(said, accepted[0]) for said, accepted in _pairs(views)]
    return reading.reading_scores(pairs) if pairs else None


def _pictures(views: Sequence[View]) -> Numbers | None:
    found = [view.picture for view in views if view.picture is not None]
    return {name: _mean(one[name] for one in found) for name in found[0]} if found else None


def _noise(views: Sequence[View]) -> Numbers | None:
    found = [
        view.prediction.forced.noise_loss
        for view in views
        if view.side == FORCED and view.prediction.forced.noise_loss is not None
    ]
    return {"noise_loss": _mean(found)} if found else None


MEASURES: dict[str, Callable[[Sequence[View]], Numbers | None]] = {
    "box_ap": _box_ap,
    "mask_ap": _mask_ap,
    "keypoint_ap": lambda views: _prefixed("keypoint", keypoint_precision(_poses(views))),
    "pck": lambda views: pck(_poses(views)),
    "spotting": lambda views: reading.spotting_scores(_scenes(views)),
    "label_maps": lambda views: masks.semantic_scores([view.label_map for view in _seeing(views)]),
    "panoptic": lambda views: masks.panoptic_scores(_scenes(views)),
    "answer_masks": lambda views: masks.answer_scores(_scenes(views)),
    "precision_at_50": lambda views: objects.precision_at_50(_scenes(views)),
    "recall_at_50": lambda views: objects.recall_at_50(_scenes(views)),
    "captions": _captions,
    "questions": _questions,
    "yes_no": _yes_no,
    "accuracy": _accuracy,
    "choices": _choices,
    "counts": _counts,
    "ratings": _ratings,
    "reading": _reading,
    "pictures": _pictures,
    "noise": _noise,
}


def evaluation_of(lines: Sequence[Line], metrics: Mapping[str, str]) -> dict[str, Any]:
    """Return what predictions are worth; `metrics` are those that specs declare, by `dataset/task`.

    `docs/evaluation.md` gives the meaning of each key.
    """
    answered = [line for line in lines if isinstance(line, Prediction)]
    by_task: dict[str, list[Prediction]] = {}
    for line in answered:
        by_task.setdefault(task_of(line), []).append(line)
    return {
        "samples": len(answered),
        "skipped": dict(sorted(Counter(line.reason for line in lines if isinstance(line, Unusable)).items())),
        "tasks": {name: _report(some, metrics.get(name, "")) for name, some in sorted(by_task.items())},
    }


def task_of(line: Prediction) -> str:
    """Return `dataset/task`."""
    return f"{line.sample.dataset}/{line.sample.task}"


def _report(some: Sequence[Prediction], declared: str) -> dict[str, Any]:
    measures = measures_of(some[0].sample.task, declared)
    report: dict[str, Any] = {"samples": len(some)}
    if shortened := sum(line.shortened for line in some):
        report["shortened_rounds"] = shortened
    free = [line for line in some if line.free is not None]
    if free:
        report[FREE] = _numbers([View(line, FREE) for line in free], measures) | _speech(free)
    report[FORCED] = _numbers([View(line, FORCED) for line in some], measures)
    report[FORCED]["text_loss"] = _mean(line.forced.text_loss for line in some)
    report["headline"] = _headline(report, measures, declared)
    if declared in NOT_MEASURED:
        report["not_measured"] = [declared]
    return report


def _numbers(views: Sequence[View], measures: Sequence[str]) -> Numbers:
    numbers: Numbers = {}
    for name in measures:
        for key, value in (MEASURES[name](views) or {}).items():
            numbers.setdefault(key, value)
    return numbers | {"exact_match": _mean(view.exact for view in views)}


def _speech(some: Sequence[Prediction]) -> Numbers:
    """Return what is told of the model's own words: routing, answers that were cut, questions that could not be put."""
    numbers = routing_scores([one for line in some for one in View(line, FREE).alignments])
    if not any(line.sample.routes for line in some):
        numbers = {"false_triggers": numbers["false_triggers"]}
    asks = sum(len(line.asks) for line in some)
    numbers["cut_ratio"] = sum(line.free.cut for line in some if line.free) / asks
    if refused := Counter(reason for line in some if line.free for reason in line.free.refused):
        numbers |= {f"refused {reason}": float(count) for reason, count in sorted(refused.items())}
    return numbers


def _headline(report: dict[str, Any], measures: Sequence[str], declared: str) -> str:
    """Return the number that speaks for a task: the declared one where it is measured, else the first one."""
    name = NAMES.get(declared, declared)
    known = [report[side] for side in SIDES if side in report]
    if any(name in numbers for numbers in known):
        return name
    return next((key for numbers in known for key in numbers), "exact_match")


TEXT_KINDS = frozenset({"captions", "questions", "accuracy", "choices", "counts", "ratings", "reading"})


def sample_score(view: View) -> float | None:
    """Return how right one answer is, 0 to 1, to choose what a page shows; None where there is no telling.

    Objects: F1 of those found at an overlap of half; answers by masks: the mean overlap; label maps: the share of right
    pixels; choices, counts and short answers: whether they are right; sentences: METEOR; read text: its similarity.
    """
    kind = measures_of(view.sample.task, "")[0]
    if kind in ("noise", "pictures"):
        return None if view.picture is None else max(view.picture["ssim"], 0.0)
    if kind in TEXT_KINDS or not _seeing([view]):
        return _text_score(view, kind)
    if kind == "label_maps":
        found = masks.semantic_scores([view.label_map])
        return None if found is None else found["pixel_accuracy"]
    if kind in ("answer_masks", "precision_at_50", "recall_at_50"):
        overlaps = [inter / max(union, 1) for inter, union in masks.answer_overlaps(view.scene)]
        hits = overlaps if overlaps and kind == "answer_masks" else objects.pointed_hits(view.scene)
        return _mean(hits) if hits else None
    right, found_count, wanted = objects.matches_at_50(view.scene)
    return 2 * right / (found_count + wanted) if found_count + wanted else 1.0


def _text_score(view: View, kind: str) -> float | None:
    if not view.texts:
        return float(view.exact)
    if kind == "choices":
        return _right_choice(view)
    judge: Callable[[str, tuple[str, ...]], float] = {
        "captions": captions.meteor,
        "questions": answers.vqa_accuracy,
        "reading": answers.anls,
    }.get(kind, answers.exact_match)
    return _mean(judge(*pair) for pair in view.pairs)
