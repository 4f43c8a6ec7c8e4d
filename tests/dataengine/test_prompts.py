from __future__ import annotations

import random
import re
import string
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataengine.catalog import Catalog
from dataengine.errors import SpecError
from dataengine.prompts import Choice, PromptBank, choose, load_bank
from dataengine.tokens import placeholders, special_tokens

# How many templates of questions and of answers each bank has, as VisionLLM v2 has them where it has the task.
COUNTS = {
    "camouflaged_segmentation": (30, 10),
    "caption": (20, 0),
    "classification": (10, 0),
    "classification_choices": (10, 0),
    "classification_described": (10, 0),
    "counting": (10, 0),
    "detection": (30, 10),
    "grounded_caption": (10, 0),
    "grounding": (30, 10),
    "image_edit": (21, 15),
    "instance_segmentation": (30, 10),
    "interactive_segmentation": (10, 5),
    "keypoints": (10, 10),
    "multiple_choice": (10, 0),
    "ocr": (20, 0),
    "oriented_detection": (30, 10),
    "panoptic_segmentation": (30, 10),
    "region_caption": (20, 0),
    "region_caption_detailed": (10, 0),
    "region_caption_multi": (30, 0),
    "region_description": (10, 0),
    "region_qa": (10, 0),
    "region_recognition": (10, 0),
    "relation": (10, 0),
    "relation_grounding": (10, 5),
    "semantic_segmentation": (30, 10),
    "region_ocr": (10, 0),
    "salient_segmentation": (30, 10),
    "text_spotting": (30, 10),
    "text_to_image": (20, 15),
    "vqa": (10, 0),
}
CHINESE = (
    "caption", "classification", "classification_choices", "counting", "detection", "grounded_caption",
    "grounding", "image_edit", "instance_segmentation", "interactive_segmentation", "keypoints", "multiple_choice",
    "ocr", "region_caption", "region_caption_detailed", "region_caption_multi", "region_ocr", "region_qa",
    "region_recognition", "semantic_segmentation", "text_spotting", "text_to_image", "vqa",
)  # fmt: skip
BANKS = Catalog().banks


def english(bank: PromptBank, kind: str) -> list[str]:
    templates = bank.questions if kind == "questions" else bank.answers
    return [text for name, text in templates.items() if name.startswith("en")]


def test_the_shipped_banks_have_their_counts() -> None:
    found = {
        name: (len(english(bank, "questions")), len(english(bank, "answers"))) for name, bank in BANKS.items()
    }

    assert {name: found[name] for name in COUNTS} == COUNTS


@pytest.mark.parametrize("name", sorted(BANKS))
def test_ids_count_up_from_one_in_each_language(name: str) -> None:
    bank = BANKS[name]

    for templates in (bank.questions, bank.answers):
        for lang in {key[:2] for key in templates}:
            keys = [key for key in templates if key.startswith(lang)]
            assert keys == [f"{lang}{number:02d}" for number in range(1, len(keys) + 1)]


@pytest.mark.parametrize("name", sorted(BANKS))
def test_templates_are_whole_sentences_without_tokens(name: str) -> None:
    bank = BANKS[name]

    for text in english(bank, "questions") + english(bank, "answers"):
        assert text[0] == "{" or text[0] in string.ascii_uppercase
        assert text[-1] in ".?:}"
    for text in (*bank.questions.values(), *bank.answers.values()):
        assert not placeholders(text) and not special_tokens(text)
        assert text == text.strip() and "  " not in text


@pytest.mark.parametrize("name", sorted(BANKS))
def test_chinese_templates_have_chinese_punctuation_and_no_blanks(name: str) -> None:
    bank = BANKS[name]
    texts = [text for kind in (bank.questions, bank.answers) for key, text in kind.items() if key[:2] == "zh"]

    for text in texts:
        words = re.sub(r"\{[a-z]+\}|\n", "", text)
        assert not set(words) & {*string.ascii_letters, *string.punctuation, " "}, text
        assert re.search("[\u4e00-\u9fff]", words)
        assert text[-1] in "。？：}"


def test_captions_and_questions_are_asked_for_in_many_languages() -> None:
    languages = {"ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "pt", "ru", "th", "vi", "zh"}

    for name in ("caption", "vqa"):
        assert {key[:2] for key in BANKS[name].questions} == languages


@pytest.mark.parametrize("name", CHINESE)
def test_a_bank_that_is_used_in_chinese_has_ten_questions_or_more(name: str) -> None:
    assert sum(key[:2] == "zh" for key in BANKS[name].questions) >= 10


@pytest.mark.parametrize("name", sorted(BANKS))
def test_no_two_templates_differ_in_case_and_punctuation_alone(name: str) -> None:
    strip = str.maketrans("", "", string.punctuation + string.whitespace)

    for templates in (BANKS[name].questions, BANKS[name].answers):
        plain = [text.lower().translate(strip) for text in templates.values()]
        assert len(set(plain)) == len(plain)


def test_evaluation_takes_the_first_template_whatever_the_chance() -> None:
    templates = {f"en{number:02d}": f"text {number}" for number in range(1, 9)}

    found = {choose(templates, random.Random(seed), train=False) for seed in range(20)}

    assert found == {Choice("en01", "text 1")}


def test_training_takes_every_template_and_the_same_one_for_the_same_chance() -> None:
    templates = {f"en{number:02d}": f"text {number}" for number in range(1, 9)}

    found = [choose(templates, random.Random(seed), train=True) for seed in range(200)]

    assert {one.id for one in found} == set(templates)
    assert found == [choose(templates, random.Random(seed), train=True) for seed in range(200)]


def test_a_language_is_followed_and_english_stands_in_for_one_that_is_missing() -> None:
    templates = {"en01": "one", "de01": "eins", "en02": "two", "de02": "zwei"}

    german = {choose(templates, random.Random(seed), train=True, lang="de").id for seed in range(30)}
    french = {choose(templates, random.Random(seed), train=True, lang="fr").id for seed in range(30)}

    assert german == {"de01", "de02"}
    assert french == {"en01", "en02"}
    assert choose(templates, random.Random(0), train=False, lang="de") == Choice("de01", "eins")
    assert choose(templates, random.Random(0), train=False, lang="fr").lang == "en"


@given(first=st.text(), second=st.text())
def test_what_fills_a_slot_is_not_read_again(first: str, second: str) -> None:
    choice = Choice("en01", "<{a}|{b}>")

    assert choice.fill(a=first, b=second) == f"<{first}|{second}>"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('questions: {en01: "Where?"}', r"questions\.en01: has slots \[\], expected each of \['x'\]"),
        ('questions: {en01: "{x} {x}?"}', r"has slots \['x', 'x'\]"),
        ('questions: {en01: "{x} {y}?"}', r"has slots \['x', 'y'\]"),
        ('questions: {first: "{x}?"}', r"questions\.first: id must be a language and a number"),
        ('questions: {de01: "{x}?"}', "none is English"),
        ('questions: {en01: "{x}?", en02: "{x}?"}', "stands twice"),
        ('questions: {en01: "{x}?"}\nanswers: {en01: "{x}."}', r"answers\.en01: has slots \['x'\]"),
        (
            'questions: {en01: "{x}?", zh01: "{x}？"}\nanswers: {en01: "Yes."}',
            "answers: none in 'zh'",
        ),
        ('question: {en01: "{x}?"}', "unknown key 'question'; did you mean 'questions'"),
    ],
)
def test_a_faulty_bank_is_refused_with_its_place(tmp_path: Path, body: str, message: str) -> None:
    path = tmp_path / "bank.yaml"
    path.write_text(f"id: bank\nquestion_slots: [x]\n{body}\n")

    with pytest.raises(SpecError, match=message) as caught:
        load_bank(path)

    assert str(caught.value).startswith(str(path))


VALUES = st.text(alphabet="ab .?\n{}<", min_size=1, max_size=12)


@given(one=VALUES, other=VALUES)
@example(one="a and b", other="c")
def test_values_are_read_back_or_not_at_all(one: str, other: str) -> None:
    for text in ("{a}", "It is {a}.", "{a}\n{b} and so on", "From {b} to {a}?", "{a} and {b}"):
        template = Choice("en01", text)
        values = {"a": one, "b": other}
        filled = template.fill(**values)

        found = template.read(filled)

        assert found in (None, {name: values[name] for name in template.slots})
        assert len(template.slots) == 2 or found is not None


def test_values_that_several_readings_give_are_not_read() -> None:
    template = Choice("en01", "{a} and {b}")

    assert template.read("salt and pepper and bread") is None
    assert template.read("salt and pepper and bread", {"a": "salt"}) == {"a": "salt", "b": "pepper and bread"}
    assert template.read("salt or pepper") is None
