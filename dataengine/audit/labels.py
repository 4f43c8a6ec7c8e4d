"""Ids, joins and label spaces: what points to what, what stands twice, and what classes are called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import xxhash

from dataengine.annotation import Label
from dataengine.audit.block import Block
from dataengine.audit.rule import Facts, Hit, SampleFacts, Whole
from dataengine.sample import InstanceTargets
from dataengine.spill import Rows

# Ids of a file count on from picture to picture where nearly all differ; else they begin anew in each.
MOSTLY_UNIQUE = 0.99
MIN_IDS = 100
# So many ids that stand twice are named.
MOST_NAMED = 20
# The most frequent class has so many times the objects of the rarest (Datumaro's validator draws the line there).
IMBALANCE = 50
MIN_OBJECTS = 100
# A class that is never used says something where each of several others should have occurred so often.
MIN_LABELS = 5
MIN_OBJECTS_A_LABEL = 20
NO_CLASS = frozenset(
    {"background", "void", "unlabeled", "unlabelled", "other", "others", "none", "unknown", "misc"}
)
# What ICDAR writes for words that nobody can read; as a text, `ignored` may well be a word.
UNREADABLE = "###"
# What marks a region that is no object.
NO_OBJECT = frozenset(
    {"dontcare", "ignore", "ignored", "ignoreregion", "ignoredregion", "ignoredregions", "###"}
)
# One class under two names, as public label spaces write it.
SYNONYMS = (
    ("aeroplane", "airplane", "plane"),
    ("bike", "bicycle"),
    ("car", "automobile"),
    ("cell phone", "cellphone", "mobile phone"),
    ("couch", "sofa"),
    ("motorbike", "motorcycle"),
    ("tv", "television", "tv monitor", "tvmonitor"),
    ("trash can", "garbage can", "garbage bin"),
)
_MEANING = {name.replace(" ", ""): names[0] for names in SYNONYMS for name in names}
_BETWEEN = re.compile(r"[\s_\-./]+")
_SIDES = (("left", "right"), ("right", "left"))


def orphan(facts: Facts) -> Iterator[Hit]:
    """Yield what points to an object or picture that the annotation does not have."""
    of = facts.annotation
    objects, pictures = len(of.instances), len(of.images)
    for one in of.expressions:
        for place in one.instances:
            if not 0 <= place < objects:
                yield Hit(f"expression {one.id} points to object {place} of {objects}")
    for question in of.questions:
        for place in question.instances:
            if not 0 <= place < objects:
                yield Hit(f"question {question.id} points to object {place} of {objects}")
    for first, name, second in of.relations:
        for place in (first, second):
            if not 0 <= place < objects:
                yield Hit(f"relation {name!r} points to object {place} of {objects}")
    for edit in of.edits:
        for place in (edit.before, edit.after):
            if not 0 <= place < pictures:
                yield Hit(f"edit {edit.id} points to picture {place} of {pictures}")
    for item in of.instances:
        if not 0 <= item.image < pictures:
            yield Hit(f"instance {item.id} lies on picture {item.image} of {pictures}")


def marked_as_none(facts: Facts) -> Iterator[Hit]:
    """Yield objects whose class, or text of `###`, says that they are none, and that are not ignored."""
    for item in facts.annotation.instances:
        named = item.category is not None and says_none(item.category)
        if (named or item.text == UNREADABLE) and not (item.ignore or item.crowd):
            yield Hit(
                f"instance {item.id} is {item.category if named else item.text!r}", item.box, item.image
            )


def target_none(facts: SampleFacts) -> Iterator[Hit]:
    """Yield targets to find whose label says that they are none."""
    for item in facts.targets:
        if not item.ignore and says_none(item.label):
            yield Hit(f"target {item.id} is {item.label!r}", item.box, facts.sample.object_image)


@lru_cache(maxsize=4096)
def says_none(name: str) -> bool:
    """Say whether a class marks a region that is no object."""
    return _plain(name) in NO_OBJECT


def _plain(name: str) -> str:
    return _BETWEEN.sub("", name).casefold()


def unknown_as_absent(facts: SampleFacts) -> Iterator[Hit]:
    """Yield classes that a sample asks for though it has none of them, and nobody has said that they are absent."""
    targets = facts.sample.targets
    if not isinstance(targets, InstanceTargets) or targets.exhaustive:
        return
    known = {item.label for item in targets.instances} | set(targets.negatives)
    for route in facts.sample.routes:
        if route.kind == "category" and route.name not in known:
            yield Hit(f"asks for {route.name!r}: it has no object, and nobody says that it is absent")


def negatives_twice(facts: Facts) -> Iterator[Hit]:
    """Yield annotations that list classes as absent, though all without an object are said to be."""
    of = facts.annotation
    if of.negatives and of.exhaustive:
        yield Hit(
            f"{len(of.negatives)} classes are verified as absent, yet every class without an object is taken as it"
        )


def swap_map(whole: Whole) -> Iterator[Hit]:
    """Yield keypoints whose mirror partner is unknown, themselves, another's too, or of no other side."""
    for label in whole.labels.labels if whole.labels is not None else ():
        for line in _swaps(label):
            yield Hit(f"{label.name}: {line}")


def _swaps(label: Label) -> Iterator[str]:
    count = len(label.keypoints)
    ends = Counter(end for pair in label.flip_pairs for end in pair)
    for a, b in label.flip_pairs:
        if not (0 <= a < count and 0 <= b < count):
            yield f"mirror partners {a} and {b} of {count} keypoints"
        elif a == b:
            yield f"{label.keypoints[a]!r} is its own mirror partner"
        elif not _mirrors(label.keypoints[a], label.keypoints[b]):
            yield f"mirror partners {label.keypoints[a]!r} and {label.keypoints[b]!r}"
    for end, times in ends.items():
        if times > 1 and end < count:
            yield f"{label.keypoints[end]!r} has {times} mirror partners"
    if label.flip_pairs:
        for number, name in enumerate(label.keypoints):
            if number not in ends and any(other in label.keypoints for other in _other_sides(name)):
                yield f"{name!r} has no mirror partner"


def _mirrors(one: str, other: str) -> bool:
    """Say whether two names are the same but for their side; names that tell no side may be anything."""
    sides = _other_sides(one)
    return not sides or not _other_sides(other) or other in sides


def _other_sides(name: str) -> list[str]:
    """Return what a keypoint's partner is called, where its name tells its side."""
    return [name.replace(side, other) for side, other in _SIDES if side in name]


class RepeatedIds:
    """Ids of objects and questions that count on through a whole file, and stand twice all the same."""

    def __init__(self) -> None:
        self._ids = {"object": Rows(), "question": Rows()}
        self._new: dict[str, list[str]] = {"object": [], "question": []}

    def add(self, block: Block) -> None:
        """Keep of each id the number that it is, or else a hash of 63 bits."""
        self._new["object"] += block.ids
        self._new["question"] += [one.id for one in block.questions]
        if len(self._new["object"]) + len(self._new["question"]) >= IDS_AT_ONCE:
            self._keep()

    def _keep(self) -> None:
        for what, ids in self._new.items():
            plain = len(max(ids, key=len, default="")) < MAX_DIGITS and "".join(ids).isdecimal()
            self._ids[what].add(map(int, ids) if plain and "" not in ids else map(_number, ids))
            self._new[what] = []

    def hits(self) -> Iterator[Hit]:
        """Yield each id that stands in several places, where nearly all ids differ."""
        self._keep()
        for what, ids in self._ids.items():
            if len(ids) < MIN_IDS:
                continue
            different = twice = 0
            named: list[str] = []
            for table in ids.groups():
                values, counts = np.unique(table, return_counts=True)
                several = values[counts > 1]
                different, twice = different + len(values), twice + len(several)
                spare = MOST_NAMED - len(named)
                named += [str(one) for one in several[several < _HASHED][:spare].tolist()]
            if twice and different >= MOSTLY_UNIQUE * len(ids):
                yield Hit(f"{twice} {what} ids stand twice: {', '.join(named) or 'none of them a number'}")


_HASHED = 1 << 63
MAX_DIGITS = 19
IDS_AT_ONCE = 1 << 12


def _number(text: str) -> int:
    if text.isdecimal() and len(text) < MAX_DIGITS:
        return int(text)
    return xxhash.xxh3_64_intdigest(text.encode(errors="surrogatepass")) | _HASHED


def alias(whole: Whole) -> Iterator[Hit]:
    """Yield names that differ in case, punctuation, plural or a well-known synonym alone, with the one to keep."""
    names = whole.labels.names if whole.labels is not None else tuple(sorted(whole.counts))
    meant: dict[str, list[str]] = {}
    for name in names:
        meant.setdefault(_meaning(name), []).append(name)
    for group in meant.values():
        if len(group) > 1:
            keep = max(group, key=lambda name: whole.counts[name])
            others = ", ".join(repr(name) for name in group if name != keep)
            yield Hit(f"{others}: another name of {keep!r}?")


def _meaning(name: str) -> str:
    """Return what is left of a name without its writing: `Dining-Tables` and `diningtable` are one."""
    plain = _plain(name)
    # A plural of letters alone; `bus` and `glass` are none, and of short names too little is left.
    if plain.isalpha() and len(plain) > 4 and plain[-1] == "s" and plain[-2] not in "siu":
        plain = plain[:-1]
    return _MEANING.get(plain, plain)


def imbalance(whole: Whole) -> Iterator[Hit]:
    """Yield the most frequent and the rarest class where they are far apart."""
    found = [(count, name) for name, count in whole.counts.items() if count]
    if len(found) < 2 or sum(count for count, _ in found) < MIN_OBJECTS:
        return
    (least, rare), (most, frequent) = min(found), max(found)
    if most > IMBALANCE * least:
        yield Hit(f"{frequent!r} {most} times, {rare!r} {least} times")


def shift(whole: Whole) -> Iterator[Hit]:
    """Yield a label space of which the first or the last class alone never occurs: are its numbers off by one?"""
    names = whole.labels.names if whole.labels is not None else ()
    unused = [name for name in names if not whole.counts[name]]
    if len(names) < MIN_LABELS or len(unused) != 1 or unused[0] not in (names[0], names[-1]):
        return
    if _plain(unused[0]) not in NO_CLASS and sum(whole.counts.values()) >= MIN_OBJECTS_A_LABEL * len(names):
        yield Hit(
            f"no object is {unused[0]!r}, all {len(names) - 1} other classes occur: are numbers off by one?"
        )
