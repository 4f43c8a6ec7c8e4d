"""Every spec that has seen no real record is proven on a miniature in the layout that it declares.

A miniature is made by `miniatures/<format>.py` of what the spec itself says: its paths, patterns, columns, classes. It
holds a few items with small pictures, and is converted by the spec as it ships, in every split and for every task.
`layouts.yaml` says what no miniature can serve, and why.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataengine import sample as samples
from dataengine import yaml12
from dataengine.annotation import Annotation, Instance, Rejected
from dataengine.catalog import Catalog
from dataengine.convert import convert
from dataengine.manifest import read_samples
from dataengine.sample import InstanceTargets
from dataengine.source import items_of, open_root
from dataengine.spec import Resolved
from dataengine.units import SKIP_REASONS
from tests.conformance.making.scene import Made, box_of

MINIATURES = Path(__file__).parent / "miniatures"
STATED = yaml12.load(Path(__file__).with_name("layouts.yaml"))
UNSERVED: dict[str, str] = STATED["unserved"] or {}
UNPROVEN: dict[str, int] = STATED["unproven"] or {}

# What else becomes no sample: pictures without objects, words that cannot be read, a class of one picture, short texts.
EMPTY = SKIP_REASONS | {
    "category.none", "count.unknown", "object.none", "region.none", "text.too_short", "text.unreadable",
}  # fmt: skip


def _by_dataset() -> dict[str, list[Resolved]]:
    found: dict[str, list[Resolved]] = {}
    for spec in Catalog():
        if spec.dataset.status == "layout":
            found.setdefault(spec.dataset.id, []).append(spec)
    return found


LAYOUTS = _by_dataset()
PROVABLE = [name for name, specs in LAYOUTS.items() if specs[0].dataset.source.format not in UNPROVEN]


def made_in(spec: Resolved, split: str, root: Path) -> Made:
    """Make the miniature of a split in a folder."""
    root.mkdir()
    maker = importlib.import_module(f"tests.conformance.miniatures.{spec.dataset.source.format}")
    made: Made = maker.make(spec, spec.source(split), root)
    return made


def _words(item: Annotation) -> Iterator[str]:
    """Yield every word, class and sentence that an annotation states."""
    for one in item.instances:
        yield from (one.category or "", one.text or "")
    yield from item.labels
    yield from (caption.text for caption in item.captions)
    yield from (expression.text for expression in item.expressions)
    for question in item.questions:
        yield from (question.text, *question.answers, *question.choices)
    yield from (turn.text for dialog in item.dialogs for turn in dialog.turns)
    yield from (edit.instruction for edit in item.edits)
    yield from (name for _, name, _ in item.relations)


@pytest.mark.parametrize("name", PROVABLE)
def test_a_miniature_in_the_declared_layout_converts(name: str, tmp_path: Path) -> None:
    splits = dict.fromkeys(split for spec in LAYOUTS[name] for split in spec.splits)
    first, counts = LAYOUTS[name][0], dict[str, int]()
    for split in splits:
        made = made_in(first, split, tmp_path / split)
        counts[split] = made.items
        root = open_root(first, split, tmp_path / split)
        items = list(items_of(first, split, root))

        annotations = [item for item in items if isinstance(item, Annotation)]
        rejected = [one for one in items if isinstance(one, Rejected) and one.reason not in SKIP_REASONS]
        assert (rejected, len(annotations)) == ([], made.items), split
        said = {word for item in annotations for word in _words(item) if word}
        # A map of depth, and a mask of no class, say nothing.
        assert bool(made.words) == bool(said) and made.words <= said, (split, made.words - said)
        if made.placed:
            objects = [one for item in annotations for one in item.instances]
            assert [one for one in objects if not _at_its_place(one)] == [], split
        for spec in LAYOUTS[name]:
            if split in spec.splits:
                _check(spec, split, tmp_path, items)
    _check_apart(first, counts, tmp_path)


def _at_its_place(one: Instance) -> bool:
    """Say whether an object stands where miniatures draw theirs; one without a box, or that is ignored, may not."""
    if one.box is None or one.ignore:
        return True
    return any(one.box == pytest.approx(box_of(number), abs=0.6) for number in range(3))


def _check(spec: Resolved, split: str, folder: Path, items: list[Annotation | Rejected]) -> None:
    """Convert a split for one task, and hold its account and its samples to what was drawn."""
    ledger = convert(spec, split, folder / split, folder / "out")
    made = list(read_samples(folder / "out" / spec.dataset.id / spec.task.id / split))

    assert ledger.quarantined == {} and ledger.objects_dropped == {}, (spec.id, split)
    assert set(ledger.skipped) <= EMPTY, (spec.id, split, ledger.skipped)
    served = spec.id not in UNSERVED and f"{spec.id}/{split}" not in UNSERVED
    assert bool(made) == served, (spec.id, split, ledger)
    for sample in made:
        samples.check(sample)
    if spec.task.id == "detection":
        found = {target.label for sample in made if isinstance(sample.targets, InstanceTargets)
                 for target in sample.targets.instances}  # fmt: skip
        drawn = {
            one.category
            for item in items
            if isinstance(item, Annotation)
            for one in item.instances
            if not one.ignore and not one.crowd
        }
        assert found == drawn, (spec.id, split)


def _check_apart(spec: Resolved, counts: dict[str, int], folder: Path) -> None:
    """Put the files of the other splits beside those of each, and see that none of them is read."""
    files = {split: [path for path in (folder / split).rglob("*") if path.is_file()] for split in counts}
    for split, count in counts.items():
        root = folder / split
        for other in counts:
            for path in files[other]:
                target = root / path.relative_to(folder / other)
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.hardlink_to(path)
        items = items_of(spec, split, open_root(spec, split, root))
        assert sum(isinstance(item, Annotation) for item in items) == count, f"{spec.dataset.id} {split}"


def test_what_no_miniature_serves_is_there() -> None:
    known = {f"{spec.id}{split}" for specs in LAYOUTS.values() for spec in specs
             for split in ("", *(f"/{one}" for one in spec.splits))}  # fmt: skip

    assert set(UNSERVED) <= known


def test_layouts_that_nothing_proves_are_named() -> None:
    formats = Counter(specs[0].dataset.source.format for specs in LAYOUTS.values())

    without = {name: count for name, count in formats.items() if not (MINIATURES / f"{name}.py").is_file()}

    assert dict(UNPROVEN) == without
