"""Defects of real datasets, as their published excerpts have them; each test is skipped where these are not at hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dataengine.annotation import Annotation, Measure
from dataengine.audit.pictures import check_picture
from dataengine.audit.rule import Facts
from dataengine.audit.table import ANNOTATION_RULES
from dataengine.catalog import Catalog
from dataengine.errors import SourceError
from dataengine.files import Root
from dataengine.source import items_of
from dataengine.spec import Resolved

SPECS = Path(__file__).parents[2] / "conformance" / "specs"
Samples = Callable[[str], Path]


def _found(folder: Path, spec_name: str) -> Counter[str]:
    """Return how many hits each rule has in the first split of a spec whose files are here."""
    own = SPECS / f"{spec_name}.yaml"
    spec = Catalog().find(str(own) if own.is_file() else spec_name)[0]
    root = Root(folder)
    split = next(name for name in spec.splits if _is_here(spec, name, root))
    hits: Counter[str] = Counter()
    for item in items_of(spec, split, root):
        if isinstance(item, Annotation):
            facts = Facts(item, [None] * len(item.images), spec.lang(split))
            hits.update(rule for rule, check in ANNOTATION_RULES for _ in check(facts))
    return hits


def _is_here(spec: Resolved, split: str, root: Root) -> bool:
    try:
        return next(items_of(spec, split, root), None) is not None
    except SourceError:
        return False


@pytest.mark.parametrize(
    ("folder", "spec", "rule", "hits"),
    [
        # The answer that the conversion calls the common one is the first that was given.
        ("textvqa", "textvqa", "qa.consensus", 5),
        # Captions as they were cut into words.
        ("flickr8k_tokens", "flickr8k_tokens", "text.terminal", 18),
        # Alternative texts of the web: capital letters, an invisible space, a Cyrillic letter in a Latin word.
        ("laion_url_text", "laion_url_text", "text.case", 21),
        ("laion_url_text", "laion_url_text", "text.control", 1),
        ("laion_url_text", "laion_url_text", "text.script", 1),
        # Captions that begin with a space.
        ("activitynet_captions", "activitynet_captions", "text.whitespace", 33),
        # Chinese questions in a set that says it is English.
        ("mathvista", "mathvista", "text.script", 1),
        # The telephone numbers of shops on their receipts.
        ("wildreceipt", "wildreceipt", "text.pii", 2),
        ("textvqa", "textvqa", "text.pii", 0),
        ("coco_captions", "coco_captions", "text.whitespace", 0),
    ],
)
def test_defects_of_real_texts_are_found(
    samples_dir: Samples, folder: str, spec: str, rule: str, hits: int
) -> None:
    assert _found(samples_dir(folder), spec)[rule] == hits


def test_lists_that_a_real_set_stores_as_strings_are_found(samples_dir: Samples, tmp_path: Path) -> None:
    folder = samples_dir("vsr") / "splits" / "random"
    lines = (folder / "dev.jsonl").read_text().splitlines()
    (tmp_path / "dev.jsonl").write_text("\n".join(lines))
    spec = tmp_path / "vsr.yaml"
    spec.write_text(
        "id: vsr\ntitle: VSR, as it stores who voted\nlicense: {annotations: CC-BY-4.0, images: unknown}\n"
        "source:\n  format: records\n  table: {path: dev.jsonl, kind: jsonl}\n  key: '{$key}'\n"
        "  fields: {images: [{path: image}], captions: {text: vote_false_validator_id}}\n"
        "  splits: {dev: {use: eval}}\ntasks: {caption: {}}\nstatus: layout\n"
    )

    hits = [
        rule
        for item in items_of(Catalog().find(str(spec))[0], "dev", Root(tmp_path))
        if isinstance(item, Annotation)
        for rule, check in ANNOTATION_RULES
        for _ in check(Facts(item, [None]))
    ]

    assert Counter(hits)["text.stringified"] == sum(
        "vote_false_validator_id" in json.loads(line) for line in lines
    )


@pytest.mark.parametrize(
    ("folder", "pattern", "rule"),
    [
        ("rlaif_v_prompts", "**/*Hayden_Panettiere.jpg", "image.format_vs_extension"),
        ("im2latex100k", "images/1cbb05a562.png", "image.alpha"),
        ("300w", "**/indoor_020.png", "image.palette"),
        ("kitti_depth", "**/depth/0000000050.png", "image.16bit"),
    ],
)
def test_defects_of_real_pictures_are_found(
    samples_dir: Samples, folder: str, pattern: str, rule: str
) -> None:
    path = next(samples_dir(folder).glob(pattern))

    assert rule in [name for name, _ in check_picture(path.read_bytes(), path.name).found]


def test_a_real_depth_is_plausible_at_its_own_scale_and_at_no_other(samples_dir: Samples) -> None:
    path = next(samples_dir("kitti_depth").glob("**/depth/0000000050.png"))

    def rules(scale: float) -> list[str]:
        measure = Measure(quantity="depth", unit="m", scale=scale, invalid=(0,))
        return [rule for rule, _ in check_picture(path.read_bytes(), path.name, measure).found]

    assert rules(256) == []
    assert rules(1) == ["depth.unit"]
