"""Defects of what is written, asked and answered."""

from __future__ import annotations

import random

from tests.dataengine.audit.planted_corpora import SIDE, Corpus
from tests.dataengine.audit.planting import (
    Planted,
    a_sentence,
    an_object,
    changed,
    encoded,
    insert,
    pixels_of,
)


def text_empty(corpus: Corpus, chance: random.Random) -> Planted:
    return changed(corpus, chance, lambda text: chance.choice(("", " ", "\n", "\u00a0")))


def special_token(corpus: Corpus, chance: random.Random) -> Planted:
    token = chance.choice(("[DET]", "[EMB]", "<|im_end|>", "<s>", "<bbox>", "<region>", "[det]", "</reg>"))
    return changed(corpus, chance, lambda text: insert(text, token, chance))


def stand_in(corpus: Corpus, chance: random.Random) -> Planted:
    words = ("None", "nan", "TODO", "HOLD", "N/A", "null", "undefined", "placeholder", "lorem ipsum", "test")
    return changed(corpus, chance, lambda text: chance.choice(words), a_sentence)


def mojibake(corpus: Corpus, chance: random.Random) -> Planted:
    word = chance.choice(
        ("caf\u00e9", "na\u00efve", "\u4e2d\u6587", "\u201cred\u201d", "M\u00fcller", "5\u20ac", "it\u2019s")
    )
    misread = (
        word.encode().decode("cp1252", "replace")
        if chance.random() < 0.8
        else word.encode("ascii", "replace").decode().replace("?", "\ufffd")
    )
    return changed(corpus, chance, lambda text: insert(text, misread, chance))


def control(corpus: Corpus, chance: random.Random) -> Planted:
    char = chance.choice("\u200b\ufeff\x00\x07\x1b\u00ad\u200e\u202e\u2066\x85")

    def change(text: str) -> str:
        place = chance.randrange(len(text) + 1)
        return text[:place] + char + text[place:]

    return changed(corpus, chance, change)


def whitespace(corpus: Corpus, chance: random.Random) -> Planted:
    def change(text: str) -> str:
        return chance.choice((f" {text}", f"{text} ", text.replace(" ", "  ", 1), text.replace(" ", "\t", 1)))

    return changed(corpus, chance, change, a_sentence)


def shouted(corpus: Corpus, chance: random.Random) -> Planted:
    return changed(corpus, chance, lambda text: f"{text} please look".upper(), a_sentence)


def terminal(corpus: Corpus, chance: random.Random) -> Planted:
    ends = (" .", " ?", ".,", "..", " !", ",.")
    return changed(corpus, chance, lambda text: text.rstrip(".?") + chance.choice(ends), a_sentence)


def delimiter(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance, "words")
    numbers = ",".join(str(chance.randrange(1000)) for _ in range(chance.choice((4, 6, 8))))
    one["text"] = chance.choice((f"{numbers},{one['text']}", f'say ""{one["text"]}""'))
    return Planted(row["key"], one["id"])


def stringified(corpus: Corpus, chance: random.Random) -> Planted:
    def change(text: str) -> str:
        return chance.choice(
            (repr([text, "a ring"]), repr({"text": text}), f'["{text}"]', f'{{"a": "{text}"}}')
        )

    return changed(corpus, chance, change, a_sentence)


def script(corpus: Corpus, chance: random.Random) -> Planted:
    """A caption in other letters than its language's, or a letter of Cyrillic in a Latin word."""
    row = corpus.take(chance, lambda one: one["captions"])
    caption = chance.choice(row["captions"])
    foreign = (
        "\u043a\u0440\u0430\u0441\u043d\u044b\u0439 \u043a\u0440\u0443\u0433 \u0441\u043b\u0435\u0432\u0430",
        "\u56fe\u7247\u4e2d\u6709\u4e00\u4e2a\u7ea2\u8272\u7684\u5706",
        "\u03ad\u03bd\u03b1\u03c2 \u03ba\u03cd\u03ba\u03bb\u03bf\u03c2",
    )
    mixed = caption["text"].replace("a", "\u0430", 1)
    caption["text"] = chance.choice((*foreign, mixed))
    return Planted(row["key"])


def length(corpus: Corpus, chance: random.Random) -> Planted:
    words = [f"{chance.choice('bcdfg')}{chance.choice('aeiou')}{chance.randrange(9999)}" for _ in range(2500)]
    return changed(corpus, chance, lambda text: chance.choice(("a", "x", ".", " ".join(words))), a_sentence)


def repeat(corpus: Corpus, chance: random.Random) -> Planted:
    times, period = chance.randrange(5, 9), chance.randrange(2, 7)

    def change(text: str) -> str:
        # As a model that does not come to an end: it began well.
        return " ".join([*text.split()[:3], *([f"again{place}" for place in range(period)] * times)])

    return changed(corpus, chance, change)


def personal(corpus: Corpus, chance: random.Random) -> Planted:
    number = f"{chance.randrange(200, 999)}-{chance.randrange(200, 999)}-{chance.randrange(1000, 9999)}"
    name = "".join(chance.choice("abcdefg") for _ in range(8))
    piece = chance.choice(
        (
            f"call {number}",
            f"+49 30 {chance.randrange(100, 999)} {chance.randrange(1000, 9999)}",
            f"{name}@{name}.org",
        )
    )
    return changed(corpus, chance, lambda text: insert(text, piece, chance))


def turns(corpus: Corpus, chance: random.Random) -> Planted:
    row, dialog = an_object(corpus, chance, "dialogs")
    said = dialog["turns"]
    if chance.random() < 0.5:
        del said[chance.randrange(1, len(said))]
    else:
        said.append({"role": chance.choice(("user", "assistant")), "text": "And now?"})
        said[:] = said if said[-1]["role"] == "user" else [*said[:-2], said[-1], said[-2]]
    return Planted(row["key"])


def placeholder(corpus: Corpus, chance: random.Random) -> Planted:
    row, dialog = an_object(corpus, chance, "dialogs")
    turn = chance.choice(dialog["turns"])
    turn["text"] = insert(turn["text"], "<image>", chance)
    return Planted(row["key"])


def question_form(corpus: Corpus, chance: random.Random) -> Planted:
    row, one = an_object(corpus, chance, "questions")
    kind = chance.randrange(5)
    if kind == 0:
        one["answer_index"] = len(one["choices"]) + chance.randrange(5)
    elif kind == 1:
        one["choices"].append(one["choices"][0])
    elif kind == 2:
        one.update(answer_index=None, answers=["something else"])
    elif kind == 3:
        one.update(
            choices=None, answer_index=None, text="Is there a ring in the picture?", answers=["three red"]
        )
    else:
        one["text"] += f" A. {one['choices'][0]} B. {one['choices'][1]}"
    return Planted(row["key"])


def ambiguous(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(
        chance, lambda one: len({tuple(phrase["instances"]) for phrase in one["expressions"]}) > 1
    )
    first = chance.choice(row["expressions"])
    others = [one for one in row["expressions"] if one["instances"] != first["instances"]]
    chance.choice(others)["text"] = chance.choice(
        (first["text"], first["text"].upper()[:1] + first["text"][1:])
    )
    return Planted(row["key"], first["text"][1:])


def noop(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: one["edits"])
    before, after = row["images"]
    if chance.random() < 0.5:
        after["path"] = before["path"]
    else:
        corpus.picture(after, (corpus.folder / before["path"]).read_bytes())
    return Planted(row["key"])


def misaligned(corpus: Corpus, chance: random.Random) -> Planted:
    row = corpus.take(chance, lambda one: one["edits"])
    after = row["images"][1]
    width, height = SIDE + chance.randrange(4, 40), SIDE + chance.randrange(4, 40)
    corpus.picture(after, encoded(pixels_of(corpus, after).resize((width, height)), "PNG"))
    after.update(width=width, height=height)
    return Planted(row["key"])
