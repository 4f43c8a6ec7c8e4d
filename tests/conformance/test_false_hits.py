"""What the audit finds in real samples, judged by looking at the data: docs/false_hits.md.

Counts are those that `test_samples.py` pins; after it has measured anew, `python tests/conformance/test_false_hits.py`
writes the page. A rule that hits for the first time has no judgement yet, and fails here until it has one.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import msgspec

from dataengine import yaml12
from dataengine.docs import table
from tests.conformance.test_samples import Case, pinned

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "false_hits.md"
INTRO = """\
# False hits

<!-- Made by tests/conformance/test_false_hits.py; do not edit. -->

All {findings} findings of the audit in the real samples of [conformance](conformance.md), by rule: how each was
held against the data, and which are false. Where a split and its file, or several tasks, show one defect, it counts
once. Rules marked *excerpt* are right about the files that are here, and say nothing of the dataset: excerpts lack
pictures, and layouts come with stand-ins of a few pixels.

{false} of {judged} findings that are not the excerpt's fault are false ({share:.2%}).

"""
FOUND = """
## What was known, and is found

* Boxes of Pascal VOC that are read as if they counted from 0, and a COCO file that was made of them so
  (`box.convention`); read from 1, they give no finding.
* CrowdPose's stated numbers of keypoints (`keypoint.visibility`), TAO's numbers of categories that its list lacks
  (`category.unknown`), AnimalKingdom's likewise.
* TACO states no license for any picture (`license.missing`), and outlines cross themselves (`polygon.self_intersect`).
  The ids that its whole file has twice are not in the excerpt.
* The outlines of LVIS v0.5 that lie turned on their pictures (`mask.box_mismatch`), TextVQA's wrong common answers
  (`qa.consensus`), the corners of WildReceipt (`quad.order`), captions as tokenisers leave them (`text.terminal`).
* Crowds of COCO are regions to ignore: none is an object to find (`ignore.used_as_object` has no hit).

## What was false and is none any more

* Pictures of a few pixels, or of a fine pattern, that a small copy makes one colour (`image.blank`, 12 hits in two
  folders).
* Objects that keep a pixel away from the border, taken for boxes that count from 1 (`box.convention`, on drawn scenes).
"""


class FalseHits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many findings of a spec are false, and why they stay."""

    count: int
    why: str


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a rule's findings were held against the data; `excerpt`: they are about what the excerpt lacks."""

    seen: str
    excerpt: bool = False
    false: dict[str, FalseHits] = {}


def judged() -> dict[str, Judgement]:
    """Return the judgements by rule."""
    return msgspec.convert(yaml12.load(HERE / "judged.yaml"), dict[str, Judgement])


def counts(cases: dict[str, Case]) -> dict[str, dict[str, int]]:
    """Return the findings of each rule by spec; those that several splits or tasks show count once."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name, case in cases.items():
        for one in (case.foreign, *(split.findings for split in case.splits.values())):
            for rule, count in one.items():
                found[rule][name] = max(found[rule].get(name, 0), count)
    return dict(sorted(found.items()))


def page() -> str:
    """Return the page."""
    known, found = judged(), counts(pinned())
    rows, why = [], []
    for rule, specs in found.items():
        judgement, total = known[rule], sum(specs.values())
        false = sum(one.count for one in judgement.false.values())
        note = "excerpt; " if judgement.excerpt else ""
        rows.append((f"`{rule}`", total, len(specs), false, f"{false / total:.1%}", note + judgement.seen))
        why += [f"* `{rule}` in `{name}`, {one.count}: {one.why}." for name, one in judgement.false.items()]
    own = sum(sum(specs.values()) for rule, specs in found.items() if not known[rule].excerpt)
    false = sum(one.count for judgement in known.values() for one in judgement.false.values())
    total = sum(sum(specs.values()) for specs in found.values())
    text = INTRO.format(findings=total, false=false, judged=own, share=false / own)
    text += table(("rule", "findings", "specs", "false", "rate", "how it was seen"), rows)
    return text + "\n## What is false, and stays\n\n" + "\n".join(why) + "\n" + FOUND


def test_every_rule_that_hits_a_sample_is_judged_and_no_other() -> None:
    assert set(judged()) == set(counts(pinned()))


def test_no_more_is_false_than_there_is() -> None:
    found = counts(pinned())

    for rule, judgement in judged().items():
        for name, one in judgement.false.items():
            assert 0 < one.count <= found[rule][name], (rule, name)


def test_the_page_is_made_from_judgements_and_pinned_counts() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
