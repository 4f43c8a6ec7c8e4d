"""Samples of every task type are worded anew and keep their facts; the table of docs/training.md says what changes.

The samples are miniatures of shipped specs, converted as if their split were to be trained on.
"""

from __future__ import annotations

import importlib
import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from PIL import Image as Picture

from dataengine import sample as samples
from dataengine.annotation import Annotation, Image, Instance, Origin, Question
from dataengine.catalog import Catalog
from dataengine.export import facts
from dataengine.files import Root
from dataengine.gather import gathered_items
from dataengine.render import RenderOptions, Way, rerender, way_of
from dataengine.sample import ImageTargets, KeypointTargets, Sample, TextTargets
from dataengine.source import open_root
from dataengine.spec import Resolved
from dataengine.units import Item, context_of, convert_items
from trainer.encode import encode
from trainer.settings import EncodeSettings
from trainer.tokenizer import train_tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
MINIATURES = Path(__file__).parent / "miniatures"
TASKS = sorted(Catalog().tasks)
PASSES = 24
# Two specs a task, of different formats or languages.
MOST_SPECS = 2


class Made(NamedTuple):
    """A sample, how it is worded, and the words that its source states."""

    sample: Sample
    way: Way
    said: frozenset[str]


@cache
def by_task() -> dict[str, list[tuple[Resolved, str]]]:
    """Return the splits of shipped specs that a miniature can be made of, by task: those to train on first."""
    made = {path.stem for path in MINIATURES.glob("*.py")}
    found: dict[str, list[tuple[Resolved, str]]] = {}
    for spec in Catalog():
        if spec.dataset.source.format in made:
            found.setdefault(spec.task.id, []).extend((spec, split) for split in spec.splits)
    for several in found.values():
        several.sort(key=lambda pair: (pair[0].dataset.source.splits[pair[1]].use, pair[0].id))
        several.reverse()
    return found


def to_train(spec: Resolved, split: str) -> Resolved:
    """Return a spec whose split is one to train on."""
    source = spec.dataset.source
    splits = {**source.splits, split: msgspec.structs.replace(source.splits[split], use="train")}
    source = msgspec.structs.replace(source, splits=splits)
    return msgspec.structs.replace(spec, dataset=msgspec.structs.replace(spec.dataset, source=source))


def samples_of(spec: Resolved, split: str, folder: Path, items: list[Annotation]) -> list[Made]:
    """Convert some annotations of a split."""
    root = Root(folder)
    context = context_of(spec, split, root, 1)
    rows = convert_items(context, [Item(annotation=item) for item in items]).samples
    way = way_of(context.task, RenderOptions())
    said = frozenset(word for item in items for word in _words(item) if word.strip())
    return [Made(samples.decode(row.sample), way, said) for row in rows]


def _words(item: Annotation) -> Iterator[str]:
    yield from (caption.text for caption in item.captions)
    yield from (one.text for one in item.expressions)
    for question in item.questions:
        yield from (question.text, *question.answers)
    yield from (turn.text for dialog in item.dialogs for turn in dialog.turns)
    yield from (edit.instruction for edit in item.edits)
    yield from (name for _, name, _ in item.relations)
    yield from (one.text or "" for one in item.instances)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Made]]:
    """Samples of every task type."""
    folder = tmp_path_factory.mktemp("miniatures")
    found: dict[str, list[Made]] = {}
    for task in TASKS:
        seen = set[tuple[str, str]]()
        for spec, split in by_task().get(task, []):
            kind = (spec.dataset.source.format, spec.lang(split))
            if kind not in seen and len(seen) < MOST_SPECS and (several := miniature(spec, split, folder)):
                seen.add(kind)
                found.setdefault(task, []).extend(several)
    found["region_qa"] = _region_questions(folder)
    # The others have keypoints of one class.
    (spec,) = (one for one in Catalog().find("ap10k") if one.task.id == "keypoints")
    found["keypoints"] += miniature(spec, "train", folder)
    return found


def miniature(spec: Resolved, split: str, folder: Path) -> list[Made]:
    """Make and convert a miniature of a split."""
    place = folder / f"{spec.dataset.id}-{split}-{spec.task.id}"
    place.mkdir()
    spec = to_train(spec, split)
    maker = importlib.import_module(f"tests.conformance.miniatures.{spec.dataset.source.format}")
    maker.make(spec, spec.source(split), place)
    items = gathered_items(spec, split, open_root(spec, split, place), None, 1)
    return samples_of(spec, split, place, [item for item in items if isinstance(item, Annotation)])


def _region_questions(folder: Path) -> list[Made]:
    """Return questions about regions, of whose only format there is no miniature."""
    (spec,) = (one for one in Catalog().find("vcr") if one.task.id == "region_qa")
    Picture.new("RGB", (64, 48)).save(folder / "a.png")
    item = Annotation(
        key="1",
        images=(Image(path="a.png"),),
        origin=Origin(file="f", record="r"),
        instances=(Instance(id="1", box=(1, 1, 20, 20)), Instance(id="2", box=(30, 1, 50, 20))),
        questions=(
            Question(id="q", text="Are they alike. Or not?", answers=("They are.",), instances=(0, 1)),
            Question(id="r", text="Is <region2> red?", answers=("No.",), instances=(0, 1)),
        ),
    )
    return samples_of(to_train(spec, "train"), "train", folder, [item])


def anew(one: Made, number: int, unsure: tuple[str, ...] | None = None) -> Sample:
    return rerender(one.sample, one.way, random.Random(number), unsure)


def test_every_task_type_has_samples(made: dict[str, list[Made]]) -> None:
    assert sorted(made) == TASKS
    assert len(TASKS) == 54


@pytest.mark.parametrize("task", TASKS)
def test_a_sample_worded_anew_states_the_same_facts(made: dict[str, list[Made]], task: str) -> None:
    for one in made[task]:
        for number in range(PASSES):
            found = anew(one, number)

            samples.check(found)
            assert languages(found) == languages(one.sample)
            assert turns_of_template(found, one) == turns_of_template(one.sample, one)
            assert stated(found) == stated(one.sample)
            assert spoken_by_source(found, one.said) == spoken_by_source(one.sample, one.said)
            assert samples.decode(samples.encode(found)) == found
            for name in ("id", "task", "split", "images", "origin", "license", "ratings", "regions", "marks"):
                assert getattr(found, name) == getattr(one.sample, name), name


def languages(sample: Sample) -> tuple[str, str]:
    """Return the languages of the templates of questions and answers."""
    return sample.prompt.question[:2], sample.prompt.answer[:2]


def turns_of_template(sample: Sample, one: Made) -> int:
    """Return how many of a user's turns the template has worded that the sample names."""
    questions = one.way.task.bank.questions if one.way.task.bank is not None else {}
    template = questions.get(sample.prompt.question)
    if template is None:
        return 0
    ends = [end for end in re.split(r"\{\w+\}", template) if end]
    users = [turn.text for turn in sample.conversation if turn.role == "user"]
    return sum(all(end in text for end in ends) for text in users)


def stated(sample: Sample) -> set[Any]:
    """Return what a sample says of its pictures, by the facts that `export` gives, in no order."""
    (item,) = facts([sample])
    targets = sample.targets
    names = targets.names if isinstance(targets, KeypointTargets) else ()
    found: set[Any] = {
        (one.id, one.category, one.box, one.mask, one.ignore, one.image, _labelled(one, names))
        for one in item.instances
    }
    found |= {
        (one.text, *(item.instances[number].box for number in one.instances)) for one in item.expressions
    }
    found |= {one.text for one in (*item.captions,)}
    found |= {(one.instruction, one.before, one.after) for one in item.edits}
    if isinstance(targets, TextTargets):
        found |= {targets.answers}
        if sample.task.endswith(("vqa", "video_choices")):
            found |= {frozenset(targets.choices)}
        if targets.answer_index is not None:
            found |= {("right", targets.choices[targets.answer_index])}
    if isinstance(targets, ImageTargets):
        found |= {targets.measure}
    found |= {(name, getattr(targets, name, None)) for name in ("negatives", "exhaustive", "void")}
    found |= {(one.label, one.area) for one in getattr(targets, "instances", ())}
    return found


def _labelled(one: Instance, names: tuple[str, ...]) -> frozenset[Any]:
    """Return the labelled keypoints of an object by their names; which others it has depends on what is asked."""
    points = zip(names, one.keypoints or (), strict=False)
    return frozenset((name, point) for name, point in points if point[2])


def spoken_by_source(sample: Sample, said: frozenset[str]) -> Counter[str]:
    """Return which of the source's words a conversation holds, in any case, and how often."""
    text = "\n".join(turn.text for turn in sample.conversation).lower()
    return Counter({word: text.count(word.lower()) for word in said if word.lower() in text})


def changes(before: Sample, after: Sample) -> set[str]:
    """Return what of a sample's words is another."""
    found = set[str]()
    for name in ("question", "answer"):
        if getattr(before.prompt, name) != getattr(after.prompt, name):
            found.add(name)
    for name, kind in (("classes", "category"), ("keypoints", "keypoint")):
        lists = [[route.name for route in one.routes if route.kind == kind] for one in (before, after)]
        if lists[0] != lists[1]:
            found.add(name)
    if getattr(before.targets, "choices", ()) != getattr(after.targets, "choices", ()):
        found.add("choices")
    return found


def table() -> dict[str, set[str]]:
    """Return what the page says of each task type."""
    (_, page) = PAGE.read_text().split("| task types | anew | as stored |")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]*) \|[^|]*\|$", page, re.MULTILINE)
    return {
        task: set(re.findall(r"question|answer|classes|keypoints|choices", new))
        for tasks, new in rows
        for task in re.findall(r"\w+", tasks)
    }


def test_the_page_says_what_changes_in_each_task_type(made: dict[str, list[Made]]) -> None:
    measured = {
        task: set().union(*(changes(one.sample, anew(one, n)) for one in several for n in range(PASSES)))
        for task, several in made.items()
    }

    assert table() == measured


@pytest.mark.parametrize("task", TASKS)
def test_a_sample_worded_anew_can_be_encoded(made: dict[str, list[Made]], task: str) -> None:
    tokenizer = train_tokenizer(["USER: ASSISTANT: In these pictures a region is marked."], 400)
    settings = EncodeSettings(
        tile_side=14, tokens_per_tile=1, max_tiles=1, max_length=100_000, decoder_short=(32,)
    )
    for one in made[task][:3]:
        pictures = [np.zeros((image.height, image.width, 3), np.uint8) for image in one.sample.images]
        encoded = encode(anew(one, 1), pictures, tokenizer, settings, None)

        assert encoded.shortened == {}
        assert len(encoded.names) == len(encoded.groups)
