"""Defects of ids, labels and names of files."""

from __future__ import annotations

import random

import msgspec

from tests.dataengine.audit.planted_corpora import Corpus
from tests.dataengine.audit.planting import (
    SUBJECT,
    Planted,
    an_object,
)


def id_twice(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: len(one["objects"]) > 1)
    first, second = chance.sample(row["objects"], 2)
    second["id"] = first["id"]
    for expression in row["expressions"]:
        expression["instances"] = []
    return Planted(row["key"], first["id"])


def key_twice(corpus: Corpus, chance: random.Random) -> Planted:
    row, other = corpus.take(chance), corpus.take(chance)
    later, first = sorted((row, other), key=corpus.rows.index, reverse=True)
    later["key"] = first["key"]
    return Planted(first["key"])


def orphan(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance, "expressions")
    one["instances"] = [*one["instances"], f"{row['key']}.o{chance.randrange(50, 99)}"]
    return Planted(row["key"])


def unknown_category(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance, chance.choice(("objects", "outlines")))
    one["category"] = chance.choice(("unicorn", "stars", "0", "Heart"))
    return Planted(row["key"])


def shift(corpus: Corpus, chance: random.Random) -> Planted:
    """Count classes from the second on: the first, or the last, has no object any more."""
    step = chance.choice((1, -1))
    for row in corpus.rows:
        for one in row["objects"] + row["outlines"]:
            place = corpus.labels.index(one["category"]) + step
            one["category"] = corpus.labels[min(max(place, 0), len(corpus.labels) - 1)]
    return Planted(SUBJECT)


def alias(corpus: Corpus, chance: random.Random) -> Planted:
    """Call some objects of a class by the plural, in capitals, or with another sign between."""
    name = chance.choice([one for one in corpus.labels if one not in ("cross", "hexagon")])
    other = chance.choice((name.title(), f"{name}s", name.upper(), f"{name[:2]}-{name[2:]}"))
    corpus.labels.insert(chance.randrange(len(corpus.labels)), other)
    for row in chance.sample(corpus.rows, len(corpus.rows) // 2):
        for one in row["objects"] + row["outlines"]:
            one["category"] = other if one["category"] == name else one["category"]
    return Planted(SUBJECT, repr(name))


def imbalance(corpus: Corpus, chance: random.Random) -> Planted:
    """Make one class so frequent that another has a fiftieth of its objects."""
    kept, rare = chance.sample(corpus.labels, 2)
    left = 5
    for row in corpus.rows:
        for one in row["objects"] + row["outlines"]:
            if one["category"] == rare and left:
                left -= 1
            else:
                one["category"] = kept
    return Planted(SUBJECT, repr(kept))


def negatives_twice(corpus: Corpus, chance: random.Random) -> Planted:
    row, _ = an_object(corpus, chance)
    here = {one["category"] for one in row["objects"] + row["outlines"]}
    row["negatives"] = chance.sample(
        [one for one in corpus.labels if one not in here], chance.randrange(1, 4)
    )
    return Planted(row["key"])


def ignored_word(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance, "words")
    one["text"] = "###"
    return Planted(row["key"], one["id"])


def torn(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance)
    line = msgspec.json.encode(row)
    corpus.torn[row["key"]] = line[: chance.randrange(1, len(line))]
    return Planted(f"line {corpus.rows.index(row) + 1}")


def separator(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: len(one["images"]) == 1)
    image = row["images"][0]
    folder, _, name = image["path"].rpartition("/")
    if chance.random() < 0.5:
        image["path"] = f"{folder}\\{name}"
    else:
        char = chance.choice("\n\t\x07\x7f")
        odd = f"{folder}/{name[:-5]}{char}{name[-5:]}"
        (corpus.folder / image["path"]).rename(corpus.folder / odd)
        image["path"] = odd
    return Planted(row["key"])


def unicode_form(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: len(one["images"]) == 1)
    image = row["images"][0]
    folder, _, name = image["path"].rpartition("/")
    composed, apart = f"{folder}/caf\u00e9-{name}", f"{folder}/cafe\u0301-{name}"
    stated, stored = chance.choice(((apart, apart), (composed, apart), (apart, composed)))
    (corpus.folder / image["path"]).rename(corpus.folder / stored)
    image["path"] = stated
    return Planted(stated if stated == composed else row["key"])


def other_case(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: len(one["images"]) == 1)
    image = row["images"][0]
    image["path"] = chance.choice(
        (image["path"].replace(".png", ".PNG"), image["path"].replace("scenes", "Scenes"))
    )
    return Planted(image["path"])


def same_but_case(corpus: Corpus, chance: random.Random) -> Planted:
    row, other = (corpus.take(chance, lambda one: len(one["images"]) == 1) for _ in range(2))
    twin = row["images"][0]["path"].replace("scenes", "SCENES")
    (corpus.folder / twin).parent.mkdir(parents=True, exist_ok=True)
    (corpus.folder / other["images"][0]["path"]).rename(corpus.folder / twin)
    other["images"][0]["path"] = twin
    return Planted(SUBJECT, "but for capitals")


def path_outside(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: len(one["images"]) == 1)
    path = chance.choice(("../{}", "/{}", "scenes/../../{}", "..\\{}")).format(f"{row['key']}.png")
    row["images"][0]["path"] = path
    return Planted(path)
