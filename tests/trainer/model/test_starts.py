"""What heads of random weights start with is there before the first step."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from dataengine.errors import ModelError
from trainer.model.config import PRESETS, LanguageConfig
from trainer.model.language import LanguageModel
from trainer.model.options import read

# Ids of a little language: what a routing token and its four queries are, a comma, and names from 30 on.
WORDS, COMMA, QUERIES, FIRST_NAME, SIZE = range(10, 20), 5, [6, 7, 7, 7, 7], 30, 300
TINY = read(LanguageConfig, {**PRESETS["tiny"]["language"], "vocab_size": SIZE}, "language")


def build(config: LanguageConfig = TINY) -> LanguageModel:
    torch.manual_seed(0)
    language = LanguageModel(config).eval()
    language.model.set_attn_implementation("eager")
    return language


def asked_and_answered(seed: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Return a question with a list of nine names and its answer, and for each name but the first the position that
    says it and the one in the question where it stands."""
    rng = random.Random(seed)
    names = rng.sample(range(FIRST_NAME, SIZE), 9)
    ids = rng.choices(WORDS, k=12)
    where = []
    for name in names:
        where.append(len(ids))
        ids += [name, COMMA]
    ids += rng.choices(WORDS, k=8)
    told = []
    for number, name in enumerate(names):
        if number:
            told.append((len(ids) - 1, where[number]))
        ids += [name, *QUERIES, COMMA]
    return ids, told


@torch.no_grad()
def found(language: LanguageModel) -> float:
    """Return how often the copying head looks most at the name that is to be said next."""
    looked = []
    for seed in range(20):
        ids, told = asked_and_answered(seed)
        shares = language.model(input_ids=torch.tensor([ids]), output_attentions=True).attentions[1][0, 0]
        looked += [int(shares[position].argmax()) == wanted for position, wanted in told]
    return sum(looked) / len(looked)


def test_the_tiny_model_looks_for_the_next_name_in_the_list_of_the_question_before_its_first_step() -> None:
    assert found(build()) > 0.7


def test_without_that_start_it_does_not() -> None:
    assert found(build(replace(TINY, copy_across=None))) < 0.1


def test_queries_know_the_name_before_them_and_not_only_their_place() -> None:
    language = build()
    states, names, places = [], [], []

    for seed in range(20):
        ids, told = asked_and_answered(seed)
        first = told[0][0] - len(QUERIES) - 1
        ids[first::7] = [FIRST_NAME + (name - FIRST_NAME) % 9 for name in ids[first::7]]
        with torch.no_grad():
            hidden = language.model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        for place, position in enumerate(range(first, len(ids), 7)):
            states.append(hidden[position + 2 : position + 6].mean(0))
            names.append(ids[position])
            places.append(place)

    states_GC = torch.stack(states) - torch.stack(states).mean(0)

    assert explained(states_GC, names) > 0.3 > explained(states_GC, places)


def explained(states_GC: torch.Tensor, labels: list[int]) -> float:
    """Return the share of the states' variance that is due to a label."""
    groups = [states_GC[[place for place, one in enumerate(labels) if one == label]] for label in set(labels)]
    return float(
        sum(len(group) * group.mean(0).square().sum() for group in groups) / states_GC.square().sum()
    )


def test_exact_heads_look_at_one_token() -> None:
    language = build()
    ids, _ = asked_and_answered(0)

    with torch.no_grad():
        shares = language.model(input_ids=torch.tensor([ids]), output_attentions=True).attentions[0][0]

    for head, offset in enumerate(TINY.look_back):
        seen = torch.stack([shares[head, place, place - offset] for place in range(10, len(ids))])
        assert float(seen.min()) > 0.9, offset


def test_lists_are_copied_by_heads_that_are_there() -> None:
    with pytest.raises(ModelError, match="copy_across 5 needs two layers and look_back with"):
        build(replace(TINY, look_back=(1, 2)))
    with pytest.raises(ModelError, match="copy_across 5 needs two layers"):
        build(replace(TINY, num_layers=1))
