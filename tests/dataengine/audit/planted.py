"""Every rule's defect, planted at random places of clean data, and whether an audit finds it and nothing else.

A planter puts one defect into one record (or picture) that has none yet, and says where; to add one, write a function
and a row of PLANTERS. Planters of one kind of data plant side by side in one copy of it, one to three times each; those
of ALONE change what a whole subject shows, so each has a copy to itself.

`python -m tests.dataengine.audit.planted` plants in many rounds and writes docs/planted.md.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from dataengine.audit.findings import Finding
from dataengine.audit.table import RULES
from dataengine.docs import table
from tests.dataengine.audit import planted_boxes as boxes
from tests.dataengine.audit import planted_pictures as pictures
from tests.dataengine.audit import planted_records as records
from tests.dataengine.audit import planted_sets as sets
from tests.dataengine.audit import planted_texts as texts
from tests.dataengine.audit.planted_corpora import Clean
from tests.dataengine.audit.planting import Planted, Planter

PAGE = Path("docs/planted.md")
ROUNDS = 25
IN_TABLE: tuple[Planter, ...] = (
    Planter("schema", records.torn),
    Planter("box.degenerate", boxes.degenerate),
    Planter("box.inverted", boxes.inverted),
    Planter("box.nonfinite", boxes.nonfinite),
    Planter("box.outside", boxes.outside),
    Planter("box.size_mismatch", boxes.size_mismatch),
    Planter("box.duplicate", boxes.duplicate),
    Planter("polygon.invalid", boxes.flat),
    Planter("polygon.self_intersect", boxes.crossed),
    Planter("polygon.outside", boxes.polygon_outside),
    Planter("polygon.holes_lost", boxes.hole_lost),
    Planter("rle.size_mismatch", boxes.mask_size),
    Planter("mask.box_mismatch", boxes.box_mismatch),
    Planter("quad.self_intersect", boxes.quad_crossed),
    Planter("quad.order", boxes.quad_order),
    Planter("keypoint.visibility", boxes.visibility),
    Planter("keypoint.outside", boxes.keypoint_outside),
    Planter("point.norm_range", boxes.norm_range),
    Planter("id.duplicate", records.id_twice),
    Planter("id.duplicate", records.key_twice),
    Planter("id.orphan", records.orphan),
    Planter("category.unknown", records.unknown_category),
    Planter("label.not_exhaustive_used_as_negative", records.negatives_twice),
    Planter("ignore.used_as_object", records.ignored_word),
    Planter("path.separator", records.separator),
    Planter("path.unicode", records.unicode_form),
    Planter("path.case", records.other_case),
    Planter("path.case", records.same_but_case),
    Planter("path.outside", records.path_outside),
    Planter("text.empty", texts.text_empty),
    Planter("text.special_token", texts.special_token),
    Planter("text.placeholder", texts.stand_in),
    Planter("text.mojibake", texts.mojibake),
    Planter("text.control", texts.control),
    Planter("text.whitespace", texts.whitespace),
    Planter("text.case", texts.shouted),
    Planter("text.terminal", texts.terminal),
    Planter("text.delimiter_in_field", texts.delimiter),
    Planter("text.stringified", texts.stringified),
    Planter("text.script", texts.script),
    Planter("text.length", texts.length),
    Planter("text.repeat", texts.repeat),
    Planter("text.pii", texts.personal),
    Planter("turn.structure", texts.turns),
    Planter("media.placeholder", texts.placeholder),
    Planter("qa.format", texts.question_form),
    Planter("ref.ambiguous", texts.ambiguous),
    Planter("edit.noop", texts.noop),
    Planter("pair.misaligned", texts.misaligned),
    Planter("image.missing", pictures.missing),
    Planter("image.corrupt", pictures.corrupt),
    Planter("image.too_large", pictures.too_large),
    Planter("image.format_vs_extension", pictures.other_format),
    Planter("image.exif_orientation", pictures.turned),
    Planter("image.format", pictures.unread_format),
    Planter("image.cmyk", pictures.cmyk),
    Planter("image.16bit", pictures.sixteen_bit),
    Planter("image.palette", pictures.palette),
    Planter("image.alpha", pictures.alpha),
    Planter("image.animated", pictures.animated),
    Planter("image.multi_page", pictures.several_pages),
    Planter("image.tiny", pictures.tiny),
    Planter("image.aspect", pictures.aspect),
    Planter("image.size_extreme", pictures.size_extreme),
    Planter("image.blank", pictures.blank),
    Planter("image.duplicate_exact", pictures.same_pixels),
    Planter("depth.unit", pictures.depth_unit),
    Planter("license.missing", pictures.unlicensed),
)
ALONE: tuple[Planter, ...] = (
    Planter("box.convention", boxes.box_convention),
    Planter("box.whole_image", boxes.whole_image),
    Planter("box.constant", boxes.constant),
    Planter("keypoint.convention", boxes.keypoint_convention),
    Planter("category.gap_or_shift", records.shift),
    Planter("category.name_alias", records.alias),
    Planter("label.imbalance", records.imbalance),
)
IN_DOCUMENTS: tuple[Planter, ...] = (
    Planter("keypoint.count", sets.keypoint_count),
    Planter("keypoint.visibility", sets.stated_number),
    Planter("category.unknown", sets.unknown_number),
    Planter("id.orphan", sets.lost_picture),
    Planter("qa.consensus", sets.consensus),
)
IN_SOURCE: tuple[Planter, ...] = (
    Planter("keypoint.swap_map", sets.swap_map),
    Planter("count.expected", sets.expected),
    Planter("split.overlap", sets.overlap),
    Planter("image.duplicate_near", sets.near_twin),
    Planter("leak.image", sets.leaked),
    Planter("leak.near", sets.leaked_nearly),
)
IN_MANIFEST: tuple[Planter, ...] = (
    Planter("ledger.unbalanced", sets.unbalanced),
    Planter("schema", sets.broken_schema),
    Planter("sample.contradiction", sets.contradiction),
    Planter("text.empty", sets.said_empty),
    Planter("text.special_token", sets.said_token),
    Planter("turn.structure", sets.said_twice),
    Planter("media.placeholder", sets.said_placeholder),
    Planter("box.degenerate", sets.target_degenerate),
    Planter("box.outside", sets.target_outside),
    Planter("label.not_exhaustive_used_as_negative", sets.target_absent),
    Planter("ignore.used_as_object", sets.target_none),
    Planter("license.missing", sets.sample_unlicensed),
    Planter("id.duplicate", sets.sample_twice),
)
IN_SHARDS: tuple[Planter, ...] = (Planter("shard.damaged", sets.damaged),)
IN_TARS: tuple[Planter, ...] = (
    Planter("sample.incomplete", sets.half),
    Planter("sample.left_out", sets.in_no_sample),
)
PLANTERS = (*IN_TABLE, *ALONE, *IN_DOCUMENTS, *IN_SOURCE, *IN_MANIFEST, *IN_SHARDS, *IN_TARS)
# What else the defect of a rule, as it is planted here, truly breaks.
IMPLIES: dict[str, tuple[str, ...]] = {
    "box.degenerate": ("mask.box_mismatch",),
    "box.inverted": ("mask.box_mismatch",),
    "box.nonfinite": ("mask.box_mismatch",),
    "box.outside": ("mask.box_mismatch",),
    "polygon.outside": ("mask.box_mismatch",),
    # Boxes that are read as they were not meant are wrong one by one, too.
    "box.convention": ("box.degenerate", "box.inverted", "mask.box_mismatch"),
    "box.whole_image": ("box.constant",),
    "path.outside": ("path.separator",),
    "text.mojibake": ("text.control",),
    "shard.damaged": ("image.corrupt", "schema"),
    "path.case": ("image.missing",),
    "path.unicode": ("image.missing",),
    "edit.noop": ("image.duplicate_exact",),
}


class Tally:
    """What was planted, found, and found besides, by rule."""

    def __init__(self) -> None:
        self.planted: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        self.implied: dict[str, Counter[str]] = defaultdict(Counter)
        self.false: dict[str, list[str]] = defaultdict(list)
        self.missed: dict[str, list[str]] = defaultdict(list)

    def count(self, corpus: Any, done: list[tuple[str, Planted]], owners: dict[str, str]) -> None:
        """Audit a copy and hold what is found against what was planted, and where."""
        findings = corpus.audit()
        for rule, planted in done:
            self.planted[rule] += 1
            if any(one.rule == rule and _is_there(one, planted) for one in findings):
                self.found[rule] += 1
            else:
                self.missed[rule].append(f"{planted}")
        everywhere = {rule for rule, _ in done}
        for one in findings:
            named = (one.key, one.image, one.record, f"{one.file} {one.record}")
            owner = next((owners[name] for name in named if name in owners), None)
            of = (
                {owner} if owner is not None else everywhere if _of_all(one) or len(done) == 1 else set[str]()
            )
            if one.rule in of:
                continue
            causes = [rule for rule in sorted(of) if one.rule in IMPLIES.get(rule, ())]
            if causes:
                self.implied[causes[0]][one.rule] += 1
            else:
                self.false[one.rule].append(f"{owner}: {one.key or one.image}: {one.detail}")


def _of_all(one: Finding) -> bool:
    """Say whether a finding is about no record: a subject as a whole, or a sample or member without a key."""
    return one.place in ("subject", "sample", "unit") and not one.key


def _is_there(one: Finding, planted: Planted) -> bool:
    here = (
        planted.place in (one.key, one.image, one.record, one.other_image) if planted.place else _of_all(one)
    )
    return here and planted.says in one.detail


def plant(
    corpus: Any, planters: Iterable[Planter], chance: random.Random, times: int = 1
) -> tuple[list[tuple[str, Planted]], dict[str, str]]:
    """Let planters plant in any order, up to so many times each; return what, and whose the changed places are."""
    again = [one for one in planters for _ in range(chance.randrange(times) + 1)]
    done, taken = [], []
    for planter in chance.sample(again, len(again)):
        before = len(corpus.taken)
        done.append((planter.rule, planter.plant(corpus, chance)))
        taken += [(row, planter.rule) for row in corpus.taken[before:]]
    return done, {name: rule for row, rule in taken for name in corpus.names(row)}


def play(clean: Clean, number: int, tally: Tally) -> None:
    """Plant everything once more, all of it decided by the number of the round, and count."""
    chance = random.Random(f"planted {number}")
    corpus = clean.table()
    tally.count(corpus, *plant(corpus, IN_TABLE, chance, times=2))
    for planter in ALONE:
        told = clean.told(lambda row: row["objects"] or row["outlines"])
        tally.count(told, *plant(told, [planter], chance))
    documents = clean.documents()
    tally.count(documents, *plant(documents, IN_DOCUMENTS, chance, times=3))
    dataset = clean.sets()
    done, owners = plant(dataset, IN_SOURCE, chance)
    dataset.convert()
    changed, changers = plant(dataset, IN_MANIFEST, chance)
    tally.count(dataset, [*done, *changed], owners | changers)
    shards = clean.sharded()
    tally.count(shards, *plant(shards, IN_SHARDS, chance))
    tars = clean.tars()
    tally.count(tars, *plant(tars, IN_TARS, chance, times=3))
    for path in clean.folder.glob("copy*"):
        shutil.rmtree(path)


INTRO = """\
# Planted defects

<!-- Made by `python -m tests.dataengine.audit.planted`; do not edit. -->

Every rule of the audit, held against data whose truth is known: drawn scenes as a table of records, as files of COCO
and VQA, as manifests and as shards, in which no rule finds anything. In {rounds} rounds, defects are planted at random
places, many of them side by side, and audited from the files on; the kinds, sizes and signs of a defect vary, too.

*Found* are planted defects that the audit names, by their rule, at their place. *Implied* is what else a planted defect
truly breaks, as it is declared beside the planters. *False* are findings of a rule where nothing was planted that it
is about, of all rules and all clean records around them.

"""


def page(tally: Tally, rounds: int) -> str:
    """Return the table as a page."""
    rows = []
    for rule in RULES:
        implied = ", ".join(f"`{name}` {count}" for name, count in sorted(tally.implied[rule.id].items()))
        planted, found = tally.planted[rule.id], tally.found[rule.id]
        recall = f"{found / planted:.1%}" if planted else "–"
        rows.append((f"`{rule.id}`", planted, found, recall, implied or "–", len(tally.false[rule.id])))
    total = (sum(tally.planted.values()), sum(tally.found.values()), sum(map(len, tally.false.values())))
    last = f"\n{total[0]} defects planted, {total[1]} found, {total[2]} false findings.\n"
    columns = ("rule", "planted", "found", "recall", "implied", "false")
    return INTRO.format(rounds=rounds) + table(columns, rows) + last


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True)
@click.option("--page", "path", default=PAGE, type=click.Path(path_type=Path), show_default=True)
def main(rounds: int, path: Path) -> None:
    """Plant in many rounds and write the page; what was missed or is false is printed."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        clean = Clean(Path(folder) / "planted")
        for number in range(rounds):
            play(clean, number, tally)
    for what, found in (("missed", tally.missed), ("false", tally.false)):
        for rule, lines in sorted(found.items()):
            click.echo("\n".join(f"{what} {rule}: {line}" for line in lines[:5]))
    path.write_text(page(tally, rounds), encoding="utf-8")


if __name__ == "__main__":
    main()
