"""Samples back to facts, and facts out into another layout, pictures beside them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from dataengine import manifest as manifests
from dataengine.annotation import (
    Annotation,
    Caption,
    Dialog,
    Edit,
    Expression,
    Image,
    Instance,
    LabelSpace,
    Origin,
    Question,
    Turn,
)
from dataengine.errors import Quarantine, SourceError, UsageError
from dataengine.files import Root, link, make_folder, write_atomic
from dataengine.manifest import Manifest
from dataengine.modules import load_writer
from dataengine.sample import (
    ImageTargets,
    InstanceTargets,
    KeypointTargets,
    Sample,
    TargetInstance,
    TextTargets,
    measure_of,
)
from dataengine.tokens import IMAGE

PICTURES = "images"
SPEC = "spec.yaml"
_FIRST = re.compile(rf"^(\s*{re.escape(IMAGE)}\s*)+")
_PLACEHOLDERS = re.compile(rf"\s*{re.escape(IMAGE)}\s*")


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote: `annotations` from `samples`, `pictures`, and the facts that it left out, by kind.

    `spec` is the spec that reads it back, or None for a layout that has no reader.
    """

    format: str
    samples: int
    annotations: int
    pictures: int
    left_out: dict[str, int]
    spec: str | None


def export(directory: Path, format_name: str, out: Path) -> Exported:
    """Write the samples of one converted split as another layout into `out`, with a spec where a reader knows it.

    Pictures keep their paths below `out/images` (a hard link where the file system allows it). Raises SpecError for
    an unknown format, SourceError where there is no manifest or a picture has gone, UsageError where `directory` holds
    several splits, and DataEngineError where a file cannot be written.
    """
    found = manifests.find(directory)
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(directory)) for path in found[:4])
        raise UsageError(f"{directory}: {len(found)} splits, expected one; export each for itself: {names}")
    writer = load_writer(format_name, "--format")
    manifest = manifests.load(found[0])
    make_folder(out)
    pictures = _Pictures(Root(Path(manifest.root)), out)
    counts = {"samples": 0, "annotations": 0}
    marked = Counter[str]()
    written = writer.write(
        _counted(facts(_samples(found[0], counts, marked)), counts, pictures), labels_of(manifest), out
    )
    if written.source is not None:
        reader = written.format or format_name
        write_atomic(out / SPEC, _spec(manifest, format_name, {"format": reader, **written.source}))
    return Exported(
        format=format_name,
        **counts,
        pictures=len(pictures.done),
        left_out=dict(sorted((written.left_out | marked).items())),
        spec=str(out / SPEC) if written.source is not None else None,
    )


def labels_of(manifest: Manifest) -> LabelSpace:
    """Return the label space of a converted split, empty where its dataset has none."""
    return manifest.labels or LabelSpace(id=manifest.dataset, labels=())


def facts(samples: Iterable[Sample]) -> Iterator[Annotation]:
    """Yield what neighbouring samples of the same pictures say of them, as one annotation each.

    The wording of prompts is gone from it: classes, expressions and captions are facts again. A question is the user's
    whole turn, because a template cannot be told from the source's words. Keys are the names of the pictures; a name
    that comes again later gets a number.
    """
    seen: dict[str, int] = {}
    for paths, group in groupby(samples, key=lambda sample: tuple(image.path for image in sample.images)):
        several = list(group)
        name = str(PurePosixPath(paths[0]).with_suffix("")) if paths else several[0].id
        seen[name] = seen.get(name, 0) + 1
        yield _fact(several, name if seen[name] == 1 else f"{name}~{seen[name]}")


class _Lists:
    """The facts of an annotation while they are gathered."""

    def __init__(self) -> None:
        self.expressions: list[Expression] = []
        self.captions: list[Caption] = []
        self.questions: list[Question] = []
        self.dialogs: list[Dialog] = []
        self.edits: list[Edit] = []


def _fact(samples: list[Sample], key: str) -> Annotation:
    first = samples[0]
    instances: dict[str, Instance] = {}
    lists = _Lists()
    negatives: set[str] = set()
    exhaustive = True
    for sample in samples:
        targets = sample.targets
        if isinstance(targets, InstanceTargets | KeypointTargets):
            _take_instances(sample, targets, instances, lists.expressions)
        if isinstance(targets, InstanceTargets):
            negatives.update(targets.negatives)
            exhaustive = exhaustive and targets.exhaustive
        if isinstance(targets, TextTargets):
            _take_text(sample, targets, lists)
        if isinstance(targets, ImageTargets):
            _take_picture(sample, targets, lists)
    return Annotation(
        key=key,
        images=tuple(
            Image(
                path=image.path,
                width=image.width,
                height=image.height,
                role=image.role,
                measure=measure_of(first, number),
            )
            for number, image in enumerate(first.images)
        ),
        instances=tuple(instances.values()),
        negatives=tuple(sorted(negatives)),
        exhaustive=exhaustive,
        origin=Origin(file=first.origin.file, record=first.origin.record),
        expressions=tuple(lists.expressions),
        captions=tuple(lists.captions),
        questions=tuple(lists.questions),
        dialogs=tuple(lists.dialogs),
        edits=tuple(lists.edits),
    )


def _take_instances(
    sample: Sample,
    targets: InstanceTargets | KeypointTargets,
    instances: dict[str, Instance],
    expressions: list[Expression],
) -> None:
    kinds = {route.name: route.kind for route in sample.routes}
    asked: dict[str, list[int]] = {name: [] for name, kind in kinds.items() if kind == "expression"}
    for item in targets.instances:
        named = kinds.get(item.label) == "category"
        # An object without an id of its own is another one each time.
        identity = item.id or f"{sample.id}/{len(instances)}"
        known = instances.get(identity)
        category = item.label if named else None
        instances[identity] = _instance(identity, item, category, known, sample.object_image)
        if item.label in asked:
            asked[item.label].append([*instances].index(identity))
    for text, places in asked.items():
        expressions.append(Expression(id=f"{len(expressions)}", text=text, instances=tuple(places)))


def _instance(
    identity: str, item: TargetInstance, category: str | None, known: Instance | None, image: int
) -> Instance:
    return Instance(
        id=identity,
        image=image,
        category=category or (known.category if known else None),
        box=item.box,
        mask=item.mask or (known.mask if known else None),
        keypoints=item.keypoints or (known.keypoints if known else None),
        ignore=item.ignore,
    )


def _take_text(sample: Sample, targets: TextTargets, lists: _Lists) -> None:
    turns = [turn for turn in sample.conversation if turn.role != "system"]
    if sample.task == "caption":
        lists.captions.append(Caption(id=f"{len(lists.captions)}", text=turns[-1].text))
    elif (targets.answers or targets.choices) and IMAGE not in _FIRST.sub("", turns[0].text):
        lists.questions.append(
            Question(
                id=f"{len(lists.questions)}",
                text=_PLACEHOLDERS.sub("", turns[0].text),
                answers=targets.answers,
                choices=targets.choices,
                answer_index=targets.answer_index,
                votes=targets.votes or (),
            )
        )
    else:
        # What is said of a marked region is kept as it was said: the marks are the objects without a category. So are
        # words between pictures, which mean nothing apart from their places.
        dialog = tuple(Turn(turn.role, turn.text) for turn in sample.conversation)
        lists.dialogs.append(Dialog(id=f"{len(lists.dialogs)}", turns=dialog))


def _take_picture(sample: Sample, targets: ImageTargets, lists: _Lists) -> None:
    sources = [number for number, image in enumerate(sample.images) if image.role == "input"]
    if sources:
        edit = Edit(
            id=f"{len(lists.edits)}", instruction=targets.caption, before=sources[0], after=targets.image
        )
        lists.edits.append(edit)
    else:
        lists.captions.append(Caption(id=f"{len(lists.captions)}", text=targets.caption))


def _samples(directory: Path, counts: dict[str, int], marked: Counter[str]) -> Iterator[Sample]:
    for sample in manifests.read_samples(directory):
        counts["samples"] += 1
        if sample.marks:
            # Its words speak of what the source's picture does not show.
            marked["sample with drawn marks"] += 1
        else:
            yield sample


def _counted(
    items: Iterable[Annotation], counts: dict[str, int], pictures: _Pictures
) -> Iterator[Annotation]:
    for item in items:
        counts["annotations"] += 1
        yield msgspec.structs.replace(item, images=tuple(pictures.place(image) for image in item.images))


class _Pictures:
    """Brings pictures from a source root below `out/images`, each once."""

    def __init__(self, root: Root, out: Path) -> None:
        self.root = root
        self.out = out
        self.done: set[str] = set()

    def place(self, image: Image) -> Image:
        """Return the image with its path below `out`, where its file is now. Raises SourceError, DataEngineError."""
        path = f"{PICTURES}/{image.path}"
        if path not in self.done:
            try:
                source, target = self.root.inside(image.path), Root(self.out).inside(path)
            except Quarantine as error:
                raise SourceError(f"{image.path}: {error.detail}; convert again") from error
            if not source.is_file():
                raise SourceError(f"{source}: no such picture any more; bring it back, or convert again")
            link(source, target)
            self.done.add(path)
        return msgspec.structs.replace(image, path=path)


def _spec(manifest: Manifest, format_name: str, source: dict[str, Any]) -> bytes:
    """Return a spec that reads an export back, as YAML (JSON is YAML)."""
    dataset = manifest.spec["dataset"]
    fields = {
        "id": f"{manifest.dataset}_{format_name}",
        "title": f"{dataset['title']}, written as {format_name}",
        "license": dataset["license"],
        "source": {**source, "splits": {manifest.split: {"use": manifest.use}}},
        "tasks": {manifest.task: {}},
        "status": "layout",
        "lang": dataset["source"]["splits"][manifest.split].get("lang") or dataset["lang"],
    }
    return msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"
