"""Routing tokens get the names that the samples' routes have, from the words alone."""

from __future__ import annotations

import re

import pytest

from dataengine import tokens
from dataengine.catalog import Catalog
from dataengine.prompts import Choice, PromptBank
from dataengine.wording import joined
from trainer.naming import names

CLASSES = ("traffic light", "light", "cell phone (mobile)", "person", "hot-dog", "T-shirt", "the cat")
CHINESE = ("猫", "红绿灯", "灯")
KEYPOINTS = ("nose", "left eye", "right eye", "left shoulder")
REGIONS = ("region1", "region2", "region11")
ROUTING = re.compile("|".join(map(re.escape, tokens.ROUTING_TOKENS)))
BANKS = Catalog().banks


def named(question: str, answer: str) -> list[str]:
    """Return the names of an answer's routing tokens."""
    return names(question, ROUTING.split(answer)[:-1], ROUTING.findall(answer))


def pairs(bank: PromptBank) -> list[tuple[Choice, Choice]]:
    """Return every question of a bank with every answer in its language."""
    return [
        (Choice(asked, question), Choice(told, answer))
        for asked, question in bank.questions.items()
        for told, answer in bank.answers.items()
        if asked[:2] == told[:2]
    ]


@pytest.mark.parametrize(
    "bank",
    ["detection", "instance_segmentation", "semantic_segmentation", "panoptic_segmentation", "oriented_detection"],
)  # fmt: skip
def test_classes_are_named_whatever_words_stand_around_them(bank: str) -> None:
    found = pairs(BANKS[bank])
    assert len(found) > 100

    for question, answer in found:
        classes = CHINESE if question.lang == "zh" else CLASSES
        asked = question.fill(classes=joined(classes, question.lang))
        said = answer.fill(classes=joined((f"{name}[DET]" for name in classes), answer.lang))

        assert named(f"<image>\n{asked}", said) == list(classes), (question.id, answer.id)


def test_classes_and_keypoints_of_one_answer_are_named() -> None:
    for question, answer in pairs(BANKS["keypoints"]):
        classes = CHINESE if question.lang == "zh" else CLASSES
        asked = question.fill(
            classes=joined(classes, question.lang), keypoints=joined(KEYPOINTS, question.lang)
        )
        said = answer.fill(
            classes=joined((f"{name}[DET]" for name in classes), answer.lang),
            keypoints=joined((f"{name}[POSE]" for name in KEYPOINTS), answer.lang),
        )

        assert named(f"<image>\n{asked}", said) == [*classes, *KEYPOINTS], (question.id, answer.id)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("I see the traffic light[DET] and a person[DET].", ["traffic light", "person"]),
        ("Results: hot-dog[DET]; light[DET]", ["hot-dog", "light"]),
        ("HOT-DOG[DET]", ["HOT-DOG"]),
        ("Here is[DET], a[DET]", ["Here is", "a"]),
    ],
)
def test_other_answers_are_named_by_what_they_share_with_the_question(
    answer: str, expected: list[str]
) -> None:
    assert named(f"<image>\nPlease, where do you see: {joined(CLASSES)}?", answer) == expected


def test_regions_are_named_by_their_numbers() -> None:
    for question, answer in pairs(BANKS["interactive_segmentation"]):
        shown = joined((tokens.region_text(number) for number in (1, 2, 11)), question.lang)
        said = answer.fill(regions=joined((f"{name}[DET]" for name in REGIONS), answer.lang))

        assert named(f"<image>\n{question.fill(regions=shown)}", said) == list(REGIONS)


@pytest.mark.parametrize(
    ("bank", "slot", "words", "token", "answer"),
    [
        ("grounding", "expression", "the red cup on the left", "[GRD]", "target"),
        ("text_to_image", "caption", "a cat, on a mat: asleep", "[GEN]", "image"),
        ("image_edit", "instruction", "make the sky red", "[EDIT]", "image"),
    ],
)
def test_what_the_question_asks_for_names_the_one_token_that_answers_it(
    bank: str, slot: str, words: str, token: str, answer: str
) -> None:
    for question, said in pairs(BANKS[bank]):
        asked = question.fill(**{slot: words})

        assert named(f"<image>\n{asked}", said.fill(**{answer: token})) == [words], question.id
    assert named("<image>\nWhy is it wet here?", f"Sure, it is {token}.") == ["Why is it wet here?"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("<det>A woman</det>[DET] in <det>a red sweater</det>[DET] runs.", ["A woman", "a red sweater"]),
        ("Sure. <grd>the dog</grd>[DET]", ["the dog"]),
        ("On the left, a tall man[DET] holds a bag[DET].", ["a tall man", "holds a bag"]),
        ("[DET]", [""]),
    ],
)
def test_captions_name_what_they_point_to(answer: str, expected: list[str]) -> None:
    assert named("<image>\nDescribe the image and localize each object.", answer) == expected
