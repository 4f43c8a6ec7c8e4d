"""Samples worded anew: the same facts in another conversation, drawn from (seed, sample, pass) alone.

There are two ways. Where chance chose what is asked for (classes, keypoints, the order of choices), the task's own
builder chooses again: its module has a `recover` that gives back the facts of a sample. Everywhere else chance chose
only the words around the facts: another template of the bank takes the values out of the old one.
Words of the source stay as they are, and so does a sample whose facts or template cannot be told from it for sure.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterable
from typing import Any, Literal

import msgspec
import xxhash

from dataengine import tokens
from dataengine.annotation import Annotation, Turn
from dataengine.errors import Quarantine, ShardError, Skip
from dataengine.export import facts
from dataengine.index import ShardSet, ShardSource
from dataengine.modules import Builder, load_builder
from dataengine.prompts import Choice
from dataengine.sample import InstanceTargets, KeypointTargets, Prompt, Sample, Targets
from dataengine.spec import Resolved
from dataengine.strict import convert
from dataengine.task import Task
from dataengine.wording import apart

_REGION = rf"{tokens.REGION_START}region\d*{tokens.REGION}{tokens.REGION_END}"
_TOKEN = f"(?:{'|'.join(map(re.escape, tokens.ROUTING_TOKENS))})"
_ROUTED = f"(?:(?!{_TOKEN}).)+{_TOKEN}"
_SHOWN = rf"(?:{_REGION}|region\d+{_TOKEN})"
# What the slots of our banks hold, where two in a row could otherwise be told apart in several ways.
SHAPES = {
    "asked": f"{tokens.IMAGE}(?:(?!{tokens.IMAGE}).)*",
    "regions": f"{_SHOWN}(?:(?:, |、|، ){_SHOWN})*",
    "subject": rf"(?:{_REGION}|region\d+|{_ROUTED})",
    "object": rf"(?:{_REGION}|region\d+|{_ROUTED})",
}


class RenderOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How samples are worded anew. The first pass over a source shows them as they are stored, or anew as well.

    A number replaces the builder's own option of that name, in tasks whose builder has it; the limits only lower it.
    """

    first_pass: Literal["stored", "anew"] = "stored"
    max_classes: int | None = None
    max_absent: int | None = None
    all_ratio: float | None = None
    max_keypoints: int | None = None
    all_keypoints_ratio: float | None = None
    shuffle_choices: bool = True

    def __post_init__(self) -> None:
        for name, least in (("max_classes", 1), ("max_absent", 0), ("max_keypoints", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name}: {value}, expected at least {least}")
        for name in ("all_ratio", "all_keypoints_ratio"):
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise ValueError(f"{name}: {value}, expected 0 to 1")


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How the samples of a source are worded: its task, with the options of the run, and its builder."""

    task: Task
    builder: Builder


class Renderer:
    """Words the samples of a shard set anew; all that it needs beside them stands in shards.json.

    Raises ShardError where splits of a source were made with different specs, of which shards.json holds one, or a set
    that was restored from its tars does not know a spec; SpecError where a builder is not installed.
    """

    def __init__(self, found: ShardSet, options: RenderOptions, seed: int) -> None:
        self.options = options
        self.seed = seed
        _require_one_spec_each(found.sources)
        self._ways = {
            entry.name: way_of(_task_of(entry, found.specs), options)
            for entry in found.sources
            if entry.use == "train"
        }

    def render(self, sample: Sample, epoch: int, unsure: Collection[str] | None = None) -> Sample:
        """Return a sample as the pass `epoch` (from 0) over its source words it; what is to evaluate stays as it is.

        `unsure` as in `rerender`.
        """
        way = self._ways.get(f"{sample.dataset}/{sample.task}/{sample.split}")
        if way is None or (epoch == 0 and self.options.first_pass == "stored"):
            return sample
        rng = random.Random(xxhash.xxh3_64_intdigest(f"{self.seed}/{sample.id}/{epoch}".encode()))
        return rerender(sample, way, rng, unsure)


def _require_one_spec_each(sources: Iterable[ShardSource]) -> None:
    made_with: dict[tuple[str, str], ShardSource] = {}
    for entry in sources:
        first = made_with.setdefault((entry.dataset, entry.task), entry)
        if first.spec_hash != entry.spec_hash:
            raise ShardError(
                f"shards.json: {first.name} and {entry.name} were made with different specs, expected one for their"
                " words to be told from their facts; convert both again and shard them, or train with render: stored"
            )


def _task_of(entry: ShardSource, specs: dict[str, Any]) -> Task:
    """Return the task of a source as it was converted. Raises ShardError or SpecError as `Renderer` does."""
    name = f"{entry.dataset}/{entry.task}"
    place = f"shards.json: specs.{name}"
    if name not in specs:
        raise ShardError(
            f"{place}: missing, expected the spec that {entry.name} was made with; bring back the shards.json that"
            " sharding wrote, or train with render: stored"
        )
    spec = convert({**specs[name], "path": place}, Resolved, place, [])
    return spec.runtime(entry.split, entry.labels)


def way_of(task: Task, options: RenderOptions) -> Way:
    """Return how the samples of a task are worded in a run. Raises SpecError for a builder that is not installed."""
    return Way(
        task=msgspec.structs.replace(task, options=_chosen(task.options, options)),
        builder=load_builder(task.spec.builder, f"task {task.spec.id}"),
    )


def _chosen(own: Any, options: RenderOptions) -> Any:
    """Return a builder's options with those of the run in the place of its own."""
    changes: dict[str, Any] = {}
    for name in own.__struct_fields__:
        value = getattr(options, name, None)
        if value is not None:
            limited = name.startswith("max_") and getattr(own, name) is not None
            changes[name] = min(value, getattr(own, name)) if limited else value
    return msgspec.structs.replace(own, **changes)


def rerender(sample: Sample, way: Way, rng: random.Random, unsure: Collection[str] | None = None) -> Sample:
    """Return a sample with the same facts and identity in other words.

    `unsure` are the classes that the sample does not name and that may be there all the same, as its builder told them;
    None where nobody knows: then only classes that the sample says are absent are named as such.
    Raises ShardError where the builder refuses facts that it once took.
    """
    recover = getattr(way.builder, "recover", None)
    found = recover(_facts(sample), sample, way.task, unsure) if recover is not None else None
    if found is None:
        return reworded(sample, way.task, rng)
    try:
        made = way.builder.build(found[0], found[1], way.task, rng)
    except (Skip, Quarantine) as error:
        raise ShardError(
            f"{sample.id}: the builder {way.task.spec.builder!r} refuses the sample's own facts ({error.reason}:"
            f" {error.detail}); convert the source again, or render: stored"
        ) from error
    return msgspec.structs.replace(
        sample,
        conversation=made.conversation,
        routes=made.routes,
        targets=_as_stored(sample.targets, made.targets),
        prompt=made.prompt,
    )


def _facts(sample: Sample) -> Annotation:
    """Return what a sample says of its pictures; objects are numbered, so that each is found again."""
    targets = sample.targets
    if isinstance(targets, InstanceTargets | KeypointTargets):
        numbered = tuple(
            msgspec.structs.replace(item, id=str(number)) for number, item in enumerate(targets.instances)
        )
        sample = msgspec.structs.replace(sample, targets=msgspec.structs.replace(targets, instances=numbered))
    return next(facts([sample]))


def _as_stored(stored: Targets, made: Targets) -> Targets:
    """Return the targets of a new wording, with what the facts of one task do not tell: identity, areas, absence."""
    if isinstance(stored, InstanceTargets) and isinstance(made, InstanceTargets):
        kept = tuple(stored.instances[int(item.id)] for item in made.instances)
        return msgspec.structs.replace(stored, instances=kept)
    if isinstance(stored, KeypointTargets) and isinstance(made, KeypointTargets):
        pairs = [(item, stored.instances[int(item.id)]) for item in made.instances]
        return msgspec.structs.replace(
            made,
            instances=tuple(msgspec.structs.replace(new, id=old.id, area=old.area) for new, old in pairs),
        )
    return made


def reworded(sample: Sample, task: Task, rng: random.Random) -> Sample:
    """Return a sample whose template of the bank is exchanged for another one of its language, or as it is.

    Every turn that the stored template gives has the same values in the new one. What a slot holds, tokens and all,
    never changes places with another: the k-th routing token stays that of the k-th route.
    """
    bank, prompt = task.bank, sample.prompt
    if bank is None or bank.id != prompt.bank:
        return sample
    turns = list(sample.conversation)
    chosen = {
        role: _exchange(turns, role, templates, stored, rng)
        for role, templates, stored in (
            ("user", bank.questions, prompt.question),
            ("assistant", bank.answers, prompt.answer),
        )
    }
    prompt = Prompt(bank=prompt.bank, question=chosen["user"], answer=chosen["assistant"])
    return msgspec.structs.replace(sample, conversation=tuple(turns), prompt=prompt)


def _exchange(
    turns: list[Turn], role: str, templates: dict[str, str], stored: str, rng: random.Random
) -> str:
    """Put another template into the turns of a role and return its id, or the stored one where none fits."""
    if stored not in templates:
        return stored
    old = Choice(stored, templates[stored])
    num_pictures = sum(turn.text.count(tokens.IMAGE) for turn in turns)
    found: dict[int, tuple[str, dict[str, str]]] = {}
    for number, turn in enumerate(turns):
        shown, words = apart(turn.text, num_pictures)
        if turn.role == role and (values := old.read(words, SHAPES)) is not None:
            found[number] = shown, values
    choices = [Choice(name, text) for name, text in templates.items() if name.startswith(old.lang)]
    fitting = [one for one in choices if all(_same_order(old, one, values) for _, values in found.values())]
    if not found:
        return stored
    new = rng.choice(fitting)
    for number, (shown, values) in found.items():
        turns[number] = Turn(turns[number].role, shown + new.fill(**values))
    return new.id


def _same_order(old: Choice, new: Choice, values: dict[str, str]) -> bool:
    """Say whether the values that hold tokens come in the same order in both templates."""
    carrying = {name for name, value in values.items() if tokens.placeholders(value)}
    return [name for name in old.slots if name in carrying] == [
        name for name in new.slots if name in carrying
    ]
