"""The model's own answers: the same as if they had been given to it, whatever else is in the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from dataengine.tokens import DET, EMB_TOKENS, GRD, POSE, SEG
from trainer.batch import IGNORED, Batch, ObjectTargets
from trainer.generate import Generated, Limits, generate
from trainer.model.config import LanguageConfig, LoraConfig, ModelConfig, SuperLinkConfig, tiny
from trainer.model.superlink import gather_queries
from trainer.model.visionllm import VisionLLM
from trainer.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(["find the things that are here"], 270)
VOCABULARY = TOKENIZER.get_vocab()
END = VOCABULARY["</s>"]
PATCHES, SIDE = 16, 112  # of a tile of the tiny model
# Among so few tokens a model of random weights that draws its answers routes often, and at no fixed place.
SAID = {VOCABULARY[token] for token in ("a", "b", "c", DET, GRD, "</s>")}
NEVER = sorted(set(VOCABULARY.values()) - SAID)
UNENDING = [*NEVER, END]
NOTHING = ObjectTargets(
    labels_n=torch.zeros(0, dtype=torch.int64),
    boxes_n4=torch.zeros((0, 4)),
    masks_nHW=torch.zeros((0, 1, 1), dtype=torch.uint8),
    has_mask_n=torch.zeros(0, dtype=torch.bool),
    ignore_m4=torch.zeros((0, 4)),
)


def chatty(vocabulary: dict[str, int], **changes: Any) -> ModelConfig:
    """Return the tiny model without heads that copy: it would say one thing again and again."""
    config = tiny(vocabulary, **changes)
    return replace(config, language=replace(config.language, look_back=(), copy_across=None))


@pytest.fixture(scope="module")
def model() -> VisionLLM:
    """The tiny model of random weights, which depend on no test."""
    return VisionLLM(chatty(VOCABULARY)).eval()


def prompts(lengths: list[int]) -> Batch:
    """Return prompts of a picture and so many words, right padded as ever."""
    generator = torch.Generator().manual_seed(5)
    words = [VOCABULARY[letter] for letter in "defgh"]
    rows = [
        [
            VOCABULARY["<s>"],
            *[VOCABULARY["<im_patch>"]] * PATCHES,
            *[words[int(torch.randint(len(words), (), generator=generator))] for _ in range(length)],
        ]
        for length in lengths
    ]
    tiles = torch.randn((len(rows), 3, SIDE, SIDE), generator=generator)
    return batch_of(rows, tiles, [[] for _ in rows], [f"toy/{number}" for number in range(len(rows))])


def batch_of(rows: list[list[int]], tiles: torch.Tensor, groups: list[list[int]], ids: list[str]) -> Batch:
    longest = max(map(len, rows))
    input_ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    pairs = [(row, place) for row, places in enumerate(groups) for place in places]
    return Batch(
        family="detection",
        sample_ids=tuple(ids),
        tasks=("toy",) * len(rows),
        input_ids_BL=input_ids,
        labels_BL=torch.full_like(input_ids, IGNORED),
        attention_mask_BL=torch.arange(longest) < torch.tensor([[len(row)] for row in rows]),
        tiles_T3SS=tiles,
        tiles_per_image=((1,),) * len(rows),
        regions_RSS=torch.zeros((0, SIDE, SIDE), dtype=torch.bool),
        region_tile_R=torch.zeros(0, dtype=torch.int64),
        groups_G2=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        group_tokens=(DET,) * len(pairs),
        images_B3HW=None,
        pixel_mask_BHW=None,
        targets=(NOTHING,) * len(rows),
    )


def row_of(batch: Batch, number: int) -> Batch:
    """Return one prompt of a batch alone."""
    length = int(batch.attention_mask_BL[number].sum())
    return batch_of(
        [batch.input_ids_BL[number, :length].tolist()],
        batch.tiles_T3SS[number : number + 1],
        [[]],
        [batch.sample_ids[number]],
    )


def speak(model: VisionLLM, batch: Batch, seeds: list[int] | None = None, **choices: Any) -> list[Generated]:
    """Let the model draw its answers, row k by `seeds[k]`."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds or range(len(batch.sample_ids))]
    asked: dict[str, Any] = {"ends": [END], "never": NEVER, "limits": Limits(max_new_tokens=20), **choices}
    return generate(model, batch, temperature=1.0, generators=generators, **asked)


def answered(batch: Batch, answers: list[Generated]) -> Batch:
    """Return the batch in which the answers are given."""
    lengths = batch.attention_mask_BL.sum(1).tolist()
    rows = [
        batch.input_ids_BL[number, :length].tolist() + list(answer.input_ids)
        for number, (length, answer) in enumerate(zip(lengths, answers, strict=True))
    ]
    groups = [
        [length + place for place in answer.groups] for length, answer in zip(lengths, answers, strict=True)
    ]
    return batch_of(rows, batch.tiles_T3SS, groups, list(batch.sample_ids))


@torch.no_grad()
def given_to(model: VisionLLM, batch: Batch, num_queries: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the hidden states of a batch, and those at the queries, of the forward pass of training."""
    hidden_BLC = model.language(model.embed(batch), batch.attention_mask_BL, batch.labels_BL).hidden_BLC
    return hidden_BLC, gather_queries(hidden_BLC, batch.groups_G2, num_queries)


def windowed(folder: Path) -> str:
    """Save a language model whose attention sees 9 positions."""
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = MistralConfig(vocab_size=300, num_key_value_heads=2, sliding_window=9, **sizes)
    MistralForCausalLM(config).save_pretrained(folder)
    return str(folder)


def biased(folder: Path) -> str:
    """Save a language model of another kind, with tied embeddings."""
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = Qwen2Config(vocab_size=300, num_key_value_heads=2, tie_word_embeddings=True, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return str(folder)


def absolute(folder: Path) -> str:
    """Save a language model that learns where each position is."""
    config = GPT2Config(vocab_size=300, n_embd=64, n_layer=2, n_head=4, n_positions=256)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


SAVED = {"windowed": windowed, "biased": biased, "absolute": absolute}


@pytest.mark.parametrize("kind", ["tiny", "token", "shared", "adapted", *SAVED])
@pytest.mark.parametrize("lengths", [[3], [4, 4, 4], [9, 1, 14, 5]])
def test_hidden_states_of_a_free_answer_are_those_of_the_same_answer_given(
    model: VisionLLM, kind: str, lengths: list[int], tmp_path: Path
) -> None:
    if kind in ("token", "shared"):
        superlink = SuperLinkConfig(mode="token") if kind == "token" else SuperLinkConfig(shared=True)
        model = VisionLLM(chatty(VOCABULARY, superlink=superlink)).eval()
    if kind == "adapted":
        config = chatty(VOCABULARY)
        model = VisionLLM(replace(config, language=replace(config.language, lora=LoraConfig()))).eval()
    if kind in SAVED:
        torch.manual_seed(0)
        language = LanguageConfig(vocab_size=len(VOCABULARY), pretrained=SAVED[kind](tmp_path))
        model = VisionLLM(replace(chatty(VOCABULARY), language=language)).eval()
    batch = prompts(lengths)

    answers = speak(model, batch, never=UNENDING)

    whole = answered(batch, answers)
    _, queries_GNC = given_to(model, whole, 4)
    assert sum(len(answer.groups) for answer in answers) > 2 * len(lengths)
    assert len({answer.groups for answer in answers}) == len(lengths)
    torch.testing.assert_close(
        torch.stack([hidden for answer in answers for hidden in answer.hidden]),
        queries_GNC,
        atol=1e-4,
        rtol=1e-4,
    )


def test_the_likeliest_tokens_are_those_that_the_given_answer_foretells(model: VisionLLM) -> None:
    batch = prompts([9, 1, 14, 5])

    answers = generate(model, batch, ends=[END], never=NEVER, limits=Limits(max_new_tokens=12))

    whole = answered(batch, answers)
    hidden_BLC, _ = given_to(model, whole, 4)
    with torch.no_grad():
        logits_BLV = model.language.head(hidden_BLC)
    logits_BLV[..., NEVER] = -torch.inf
    emb = {VOCABULARY[token] for token in EMB_TOKENS}
    lengths = batch.attention_mask_BL.sum(1).tolist()
    for number, (length, answer) in enumerate(zip(lengths, answers, strict=True)):
        foretold = logits_BLV[number, length - 1 :].argmax(-1).tolist()
        places = [place for place, token_id in enumerate(answer.input_ids) if token_id not in emb]
        assert [foretold[place] for place in places] == [answer.input_ids[place] for place in places]


def test_an_answer_does_not_depend_on_its_neighbours(model: VisionLLM) -> None:
    batch = prompts([9, 1, 14, 5, 2])

    limits = Limits(max_new_tokens=5)
    together = speak(model, batch, limits=limits)
    alone = [speak(model, row_of(batch, number), [number], limits=limits)[0] for number in range(5)]

    assert [answer.input_ids for answer in together] == [answer.input_ids for answer in alone]
    assert [answer.ended for answer in together] == [answer.ended for answer in alone]
    assert len({answer.ended for answer in together}) == 2  # some end early, some do not
    for one, other in zip(together, alone, strict=True):
        for hidden, expected in zip(one.hidden, other.hidden, strict=True):
            torch.testing.assert_close(hidden, expected, atol=1e-4, rtol=1e-4)


def test_the_same_seeds_give_the_same_answers_and_others_give_others(model: VisionLLM) -> None:
    batch = prompts([4, 7])

    first, second, other = (speak(model, batch, seeds) for seeds in ([1, 2], [1, 2], [3, 4]))

    assert [answer.input_ids for answer in first] == [answer.input_ids for answer in second]
    assert [answer.input_ids for answer in first] != [answer.input_ids for answer in other]


def test_queries_follow_routing_tokens_as_training_writes_them(model: VisionLLM) -> None:
    (answer,) = speak(model, prompts([4]), never=UNENDING)

    emb = [VOCABULARY[token] for token in EMB_TOKENS[:4]]
    routing = {VOCABULARY[token] for token in (DET, GRD)}
    assert answer.groups == tuple(
        place for place, token_id in enumerate(answer.input_ids) if token_id in routing
    )
    assert all(list(answer.input_ids[place + 1 : place + 5]) == emb for place in answer.groups)
    assert sum(token_id in emb for token_id in answer.input_ids) == 4 * len(answer.groups)
    assert [hidden.shape for hidden in answer.hidden] == [(4, 128)] * len(answer.groups)


def test_a_routing_token_without_a_decoder_is_a_word(model: VisionLLM) -> None:
    pose = VOCABULARY[POSE]
    never = sorted(set(VOCABULARY.values()) - {pose})

    (answer,) = speak(model, prompts([4]), never=never, limits=Limits(max_new_tokens=3))

    assert (answer.input_ids, answer.groups, answer.hidden) == ((pose,) * 3, (), ())


def test_a_row_alone_takes_a_routing_token_and_its_queries_in_one_step(
    model: VisionLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths: list[int] = []
    whole = model.language.extend

    def watched(embeds: torch.Tensor, *rest: Any) -> torch.Tensor:
        widths.append(embeds.shape[1])
        return whole(embeds, *rest)

    monkeypatch.setattr(model.language, "extend", watched)
    never = sorted(set(VOCABULARY.values()) - {VOCABULARY[SEG]})

    (answer,) = speak(model, prompts([4]), never=never, limits=Limits(max_new_tokens=3))

    assert len(answer.groups) == 3
    assert widths == [21, 5, 5, 5]


@pytest.mark.parametrize(
    ("limits", "ended", "groups", "said"),
    [
        (Limits(max_new_tokens=6), "length", 6, 6),
        (Limits(max_new_tokens=6, max_groups=2), "groups", 2, 2),
        (Limits(max_length=21 + 12), "length", 2, 2),
        (Limits(max_length=21 + 15), "length", 3, 3),
        (Limits(max_length=21), "length", 0, 0),
    ],
)
def test_an_answer_ends_at_its_limits_between_tokens(
    model: VisionLLM, limits: Limits, ended: str, groups: int, said: int
) -> None:
    never = sorted(set(VOCABULARY.values()) - {VOCABULARY[DET]})

    (answer,) = speak(model, prompts([4]), never=never, limits=limits)

    assert (answer.ended, len(answer.groups), len(answer.hidden)) == (ended, groups, groups)
    assert len(answer.input_ids) == 5 * said


def test_the_language_models_number_of_positions_is_a_limit(model: VisionLLM) -> None:
    config = chatty(VOCABULARY)
    short = VisionLLM(replace(config, language=replace(config.language, max_length=30))).eval()

    (answer,) = speak(short, prompts([4]), never=UNENDING)

    assert answer.ended == "length"
    assert 21 + len(answer.input_ids) <= 30


def test_an_answer_that_ends_by_itself_keeps_its_end_token(model: VisionLLM) -> None:
    never = sorted(set(VOCABULARY.values()) - {END})

    (answer,) = speak(model, prompts([4]), never=never)

    assert (answer.input_ids, answer.ended) == ((END,), "end")


def test_questions_about_earlier_answers_hold_their_queries(model: VisionLLM) -> None:
    batch = prompts([9, 1])
    first = speak(model, batch, never=UNENDING)
    again = answered(batch, first)  # earlier routing tokens stand in the prompt

    second = speak(model, again, [7, 8], never=UNENDING, limits=Limits(max_new_tokens=8))

    whole = answered(again, second)
    _, queries_GNC = given_to(
        model, replace(whole, groups_G2=torch.cat([again.groups_G2, whole.groups_G2])), 4
    )
    own = queries_GNC[len(again.groups_G2) :]
    assert len(own) == sum(len(answer.groups) for answer in second) > 2
    torch.testing.assert_close(
        torch.stack([hidden for answer in second for hidden in answer.hidden]), own, atol=1e-4, rtol=1e-4
    )
