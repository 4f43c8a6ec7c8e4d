"""Questions are answered by the model alone, in words and by its decoders."""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dataengine import images
from dataengine.annotation import Turn
from dataengine.geometry import box_iou
from dataengine.sample import InstanceTargets, Region, Sample
from dataengine.tokens import ROUTING_TOKENS
from trainer.answer import Answer, Choices, Question, Refused, answer, answers, calls, encode_question
from trainer.batch import IGNORED, Batch
from trainer.checkpoint import load_model
from trainer.collate import collate
from trainer.config import encode_settings
from trainer.encode import Encoded, encode
from trainer.model.config import DetectionConfig, EditingConfig, GenerationConfig, PoseConfig, tiny
from trainer.model.visionllm import VisionLLM
from trainer.samples import read_samples
from trainer.settings import EncodeSettings
from trainer.text import encode_text, end_tokens
from trainer.tokenizer import train_tokenizer

Loaded = tuple[Sample, list[bytes]]
TOKENIZER = train_tokenizer(["USER: ASSISTANT: find the cat"], 300)
SETTINGS = EncodeSettings(tile_side=14, tokens_per_tile=4)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def loaded(taught: Path) -> tuple[Any, Any, EncodeSettings]:
    """The model that knows some samples by heart, its tokenizer and settings."""
    model, tokenizer, config = load_model(taught)
    return model, tokenizer, encode_settings(config, model.config)


def question_of(loaded: Loaded, **changes: Any) -> Question:
    """Return the question of a sample."""
    sample, pictures = loaded
    fields = {
        "id": sample.id,
        "turns": sample.conversation[:-1],
        "pictures": tuple(map(images.decode, pictures)),
        "regions": sample.regions,
        **changes,
    }
    return Question(**fields)


def one(found: list[Answer | Refused]) -> Answer:
    (only,) = found
    assert isinstance(only, Answer)
    return only


def test_what_was_learnt_is_said_without_being_given(
    loaded: tuple[Any, Any, EncodeSettings], by_heart: list[Loaded]
) -> None:
    found = answer(*loaded, [question_of(known) for known in by_heart], batch_size=3, max_new_tokens=40)

    assert [one([each]).text for each in found] == [sample.conversation[-1].text for sample, _ in by_heart]
    assert [one([each]).ended for each in found] == ["end"] * 4
    for each, (sample, _) in zip(found, by_heart, strict=True):
        assert [(group.token, group.name) for group in one([each]).groups] == [
            (route.token, route.name) for route in sample.routes
        ]


def test_a_routing_token_that_the_model_says_finds_its_object(
    loaded: tuple[Any, Any, EncodeSettings], by_heart: list[Loaded]
) -> None:
    sample, _ = by_heart[0]
    assert isinstance(sample.targets, InstanceTargets)
    (wanted,) = sample.targets.instances

    found = one(answer(*loaded, [question_of(by_heart[0])], decoding={"detection": {"top_k": 3}}))

    (result,) = found.of("detection")
    best = result.found
    assert result.groups == (0, 1, 2)
    assert len(best.scores_K) == 3 and best.masks_KHW.shape == (3, 48, 64)
    assert found.groups[result.groups[int(best.labels_K[0])]].name == wanted.label == "red"
    assert box_iou(tuple(best.boxes_K4[0].tolist()), wanted.box) > 0.5


def test_what_a_decoder_finds_is_what_it_finds_when_the_answer_is_given(
    loaded: tuple[Any, Any, EncodeSettings], by_heart: list[Loaded]
) -> None:
    model, tokenizer, settings = loaded
    sample, pictures = by_heart[2]
    given = encode(sample, list(map(images.decode, pictures)), tokenizer, settings, None)

    free = one(answer(*loaded, [question_of(known) for known in by_heart][2:3]))

    (expected,) = model.predict(collate([given], tokenizer.pad_token_id), "detection")
    (result,) = free.of("detection")
    assert torch.equal(result.found.labels_K, expected.labels_K)
    torch.testing.assert_close(result.found.boxes_K4, expected.boxes_K4, atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(result.found.scores_K, expected.scores_K, atol=1e-4, rtol=1e-4)


def test_answers_do_not_depend_on_the_batch(
    loaded: tuple[Any, Any, EncodeSettings], by_heart: list[Loaded]
) -> None:
    questions = [question_of(known) for known in by_heart]
    wide = np.ascontiguousarray(np.tile(questions[0].pictures[0], (1, 3, 1)))
    questions.append(replace(questions[0], id="wide", pictures=(wide,)))
    questions.append(replace(questions[1], id="words", turns=(Turn("user", "Hello."),), pictures=()))

    for temperature in (0.0, 1.0):
        together, alone = (
            answer(*loaded, questions, batch_size=size, max_new_tokens=30, temperature=temperature)
            for size in (6, 1)
        )

        assert [found.id for found in together] == [asked.id for asked in questions]
        for found, expected in zip(together, alone, strict=True):
            found, expected = one([found]), one([expected])
            assert (found.text, found.groups, found.ended) == (expected.text, expected.groups, expected.ended)
            for result, wanted in zip(found.results, expected.results, strict=True):
                torch.testing.assert_close(result.found.scores_K, wanted.found.scores_K, atol=1e-4, rtol=1e-3)


def test_questions_are_taken_as_they_are_needed(
    loaded: tuple[Any, Any, EncodeSettings], by_heart: list[Loaded]
) -> None:
    taken: list[int] = []

    def asked() -> Any:
        for number in range(6):
            taken.append(number)
            yield question_of(by_heart[1], id=str(number))

    found = answers(*loaded, asked(), Choices(batch_size=2, max_new_tokens=2))

    assert (next(found).id, taken) == ("0", [0, 1])
    assert [each.id for each in found] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("template", [None, CHATML])
def test_a_prompt_is_what_training_shows_before_an_answer(template: str | None) -> None:
    tokenizer = train_tokenizer(["USER: ASSISTANT: find the cat"], 300)
    if template is not None:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.chat_template = template
    turns = (
        Turn("user", "<image>\nFind the cat."),
        Turn("assistant", "Here: cat[DET]."),
        Turn("user", "And the dog?"),
        Turn("assistant", "Here: dog[DET]."),
    )

    whole = encode_text(turns, [2], tokenizer, SETTINGS)
    prompt = encode_text(turns[:-1], [2], tokenizer, SETTINGS)

    length = len(prompt.input_ids_L)
    assert torch.equal(whole.input_ids_L[:length], prompt.input_ids_L)
    # The first token after it is the first that training labels in the last answer.
    labelled = (whole.labels_L != IGNORED).tolist()
    assert labelled[length] and not labelled[length - 1]
    assert len(prompt.routing) == 1
    ends = {"</s>"} if template is None else {"</s>", "<|im_end|>"}
    assert end_tokens(tokenizer) == {tokenizer.get_vocab()[token] for token in ends}


PICTURE = np.zeros((8, 8, 3), np.uint8)
SPOT = Region(kind="box", box=(1, 1, 3, 3))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"turns": (Turn("user", "Two <image> <image>."),)}, "media.placeholder"),
        ({"turns": (Turn("user", "<image> What is <region>?"),)}, "token.region_mismatch"),
        ({"turns": (Turn("user", "<image> [EMB]"),)}, "text.reserved"),
        ({"turns": (Turn("user", "<image>"), Turn("assistant", "It."))}, "turn.structure"),
        ({"turns": (Turn("user", "<image> " + "word " * 3000),)}, "text.too_long"),
        (
            {"turns": (Turn("user", "<image> <region>"),), "regions": (Region(kind="box", box=(1, 1, 3, 3), image=1),)},
            "media.missing",
        ),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_asked_is_refused_and_costs_no_other(
    loaded: tuple[Any, Any, EncodeSettings], changes: dict[str, Any], reason: str
) -> None:
    good = Question(
        id="good", turns=(Turn("user", "<image> <region>"),), pictures=(PICTURE,), regions=(SPOT,)
    )
    bad = Question(**{"id": "bad", "turns": good.turns, "pictures": (PICTURE,), **changes})

    first, second = answer(*loaded, [bad, good], max_new_tokens=3)

    assert isinstance(first, Refused) and isinstance(second, Answer)
    assert (first.id, first.reason) == ("bad", reason)


def test_a_question_is_shown_as_training_shows_it(
    loaded: tuple[Any, Any, EncodeSettings], scene_shards: Path
) -> None:
    _, tokenizer, settings = loaded
    samples = list(read_samples(scene_shards, "train"))

    for sample, pictures in samples:
        shown = [images.decode(data) for data in pictures]
        inputs = [pixels for pixels, image in zip(shown, sample.images, strict=True) if image.role == "input"]
        whole = encode(sample, shown, tokenizer, settings, None)
        asked = Question(
            id=sample.id, turns=sample.conversation[:-1], pictures=tuple(inputs), regions=sample.regions
        )
        prompt = encode_question(asked, tokenizer, settings)

        assert isinstance(prompt, Encoded)
        length = len(prompt.input_ids_L)
        assert torch.equal(prompt.input_ids_L, whole.input_ids_L[:length])
        assert whole.labels_L[length] != IGNORED
        assert torch.equal(prompt.tiles_T3SS, whole.tiles_T3SS)
        assert torch.equal(prompt.regions_RSS, whole.regions_RSS)
        assert torch.equal(prompt.region_tile_R, whole.region_tile_R)
    assert {sample.task for sample, _ in samples} > {"detection", "interactive_segmentation", "image_edit"}


READERS = {
    "detection": ("[DET]", "[GRD]", "[SEG]"),
    "pose": ("[DET]", "[POSE]"),
    "generation": ("[GEN]",),
    "editing": ("[EDIT]",),
}


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        (["[DET]", "[SEG]", "[GRD]"], [("detection", (0, 1, 2))]),
        (["[DET]", "[POSE]", "[POSE]"], [("pose", (0, 1, 2))]),
        (["[DET]", "[GRD]", "[POSE]"], [("pose", (0, 2)), ("detection", (1,))]),
        (["[GEN]", "[DET]", "[GEN]"], [("detection", (1,)), ("generation", (0,)), ("generation", (2,))]),
        (["[EDIT]"], [("editing", (0,))]),
        ([], []),
    ],
)
def test_routing_tokens_call_their_decoders(routing: list[str], expected: Any) -> None:
    assert calls(routing, READERS) == expected


def test_a_token_that_no_decoder_of_the_model_reads_calls_none() -> None:
    readers: Mapping[str, Any] = {"detection": READERS["detection"]}

    assert calls(["[POSE]", "[DET]", "[GEN]"], readers) == [("detection", (1,))]


class Marker(nn.Module):
    """A decoder of one's own, which says what it was given."""

    num_queries = 4
    family: str
    tokens: tuple[str, ...]

    @classmethod
    def build(cls, options: Mapping[str, Any], language_width: int) -> Marker:
        return cls()

    def predict(self, hidden_GNC: torch.Tensor, batch: Batch, **settings: Any) -> list[Any]:
        rows = batch.groups_G2[:, 0].tolist()
        tokens = batch.input_ids_BL[batch.groups_G2[:, 0], batch.groups_G2[:, 1]].tolist()
        sizes = None if batch.images_B3HW is None else tuple(batch.images_B3HW.shape[-2:])
        return [
            {
                "id": sample,
                "tokens": [token for row, token in zip(rows, tokens, strict=True) if row == number],
                "names": batch.group_tokens,
                "hidden": hidden_GNC[[place for place, row in enumerate(rows) if row == number]],
                "size": sizes,
                "seeded": "generator" in settings,
            }
            for number, sample in enumerate(batch.sample_ids)
        ]


class Poser(Marker):
    family, tokens = "pose", ("[DET]", "[POSE]")


class Maker(Marker):
    family, tokens = "generation", ("[GEN]",)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, EncodeSettings]:
    """A model of random weights with detection and two decoders of one's own."""
    module = types.ModuleType("my_marking_package")
    module.__dict__.update(Poser=Poser, Maker=Maker)
    monkeypatch.setitem(sys.modules, "my_marking_package", module)
    vocabulary = TOKENIZER.get_vocab()
    config = tiny(vocabulary)
    names: dict[str, dict[str, Any]] = {f"my_marking_package:{name}": {} for name in ("Poser", "Maker")}
    model = VisionLLM(replace(config, decoders={**config.decoders, **names})).eval()
    settings = EncodeSettings(
        tile_side=112,
        tokens_per_tile=16,
        decoder_short=(64,),
        decoder_longest=64,
        num_queries=dict.fromkeys(("[DET]", "[GRD]", "[SEG]", "[POSE]", "[GEN]"), 4),
        readers={name: READERS[name] for name in ("detection", "pose", "generation")},
    )
    return model, TOKENIZER, settings


def says(monkeypatch: pytest.MonkeyPatch, *said: str) -> None:
    """Let the model choose what is written, whatever it thinks."""
    text = [token_id for part in said for token_id in TOKENIZER.encode(part, add_special_tokens=False)]
    script = iter([*text, TOKENIZER.eos_token_id])
    monkeypatch.setattr("trainer.generate._choose", lambda *_: [next(script)])


PICTURE_3 = np.full((20, 30, 3), 90, np.uint8)


def test_several_tools_answer_in_one_answer(
    many: tuple[Any, Any, EncodeSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, "Here: cat[DET]. It has nose[POSE], tail[POSE] and fur[SEG]. ", "[GEN] [GEN] [EDIT]")
    asked = Question(
        id="q", turns=(Turn("user", "<image>\nFind cat, nose, tail, fur."),), pictures=(PICTURE_3,)
    )

    found = one(answer(*many, [asked]))

    assert [group.name for group in found.groups[:4]] == ["cat", "nose", "tail", "fur"]
    assert [(result.family, result.groups) for result in found.results] == [
        ("pose", (0, 1, 2)), ("detection", (3,)), ("generation", (4,)), ("generation", (5,)),
    ]  # fmt: skip
    assert found.unanswered == ((6, "decoder.none"),)
    vocabulary = TOKENIZER.get_vocab()
    (pose,), (first, second) = found.of("pose"), found.of("generation")
    assert pose.found["tokens"] == [vocabulary[token] for token in ("[DET]", "[POSE]", "[POSE]")]
    assert pose.found["names"] == ("[DET]", "[POSE]", "[POSE]")
    assert (pose.found["size"], first.found["size"]) == ((64, 64), None)
    assert (first.found["id"], second.found["id"]) == ("q", "q#2")
    assert not pose.found["seeded"] and first.found["seeded"]
    # Each has the hidden states of its own tokens.
    assert not torch.equal(first.found["hidden"], second.found["hidden"])


def test_what_needs_a_picture_is_not_asked_without_one(
    many: tuple[Any, Any, EncodeSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, "A cat[DET], and [GEN].")

    found = one(answer(*many, [Question(id="q", turns=(Turn("user", "Make a cat."),))]))

    assert [result.family for result in found.results] == ["generation"]
    assert found.unanswered == ((0, "picture.none"),)


@pytest.fixture(scope="module")
def painting() -> tuple[Any, Any, EncodeSettings]:
    """A model of random weights with all decoders of ours."""
    config = tiny(
        TOKENIZER.get_vocab(),
        detection=DetectionConfig.tiny(),
        pose=PoseConfig.tiny(),
        generation=GenerationConfig.tiny(),
        editing=EditingConfig.tiny(),
    )
    model = VisionLLM(config).eval()
    decoders: list[Any] = list(model.decoders.values())
    num_queries = {token: decoder.num_queries for decoder in decoders for token in decoder.tokens}
    settings = EncodeSettings(
        tile_side=112,
        tokens_per_tile=16,
        num_queries={**dict.fromkeys(ROUTING_TOKENS, 0), **num_queries},
        decoder_short=(64,),
        decoder_longest=64,
        readers=READERS,
        picture_side={"generation": 64, "editing": 64},
    )
    return model, TOKENIZER, settings


STEPS = {"generation": {"steps": 2}, "editing": {"steps": 2}}


def test_objects_and_keypoints_are_found_in_one_answer(
    painting: tuple[Any, Any, EncodeSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    says(
        monkeypatch,
        "Here: cat[DET], dog[DET]. The points are nose[POSE], tail[POSE] and paw[POSE]. It is [GRD].",
    )
    asked = Question(id="q", turns=(Turn("user", "<image>\nWhere?"),), pictures=(PICTURE_3,))

    found = one(answer(*painting, [asked], decoding={"pose": {"top_k": 5}}))

    (pose,), (grounded,) = found.of("pose"), found.of("detection")
    assert (pose.groups, grounded.groups) == ((0, 1, 2, 3, 4), (5,))
    assert pose.found.keypoints_KJ3.shape == (5, 3, 3)
    assert set(pose.found.labels_K.tolist()) <= {0, 1}
    assert set(grounded.found.labels_K.tolist()) == {0}
    assert (pose.found.boxes_K4 <= torch.tensor([30.0, 20, 30, 20])).all()


def test_pictures_are_made_and_edited(
    painting: tuple[Any, Any, EncodeSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for picture in (PICTURE_3, 255 - PICTURE_3):
        asked = Question(id="q", turns=(Turn("user", "<image>\nPaint it red."),), pictures=(picture,))
        says(monkeypatch, "Sure [EDIT][GEN] and [GEN]")
        found.append(one(answer(*painting, [asked], decoding=STEPS)))

    (made, edited), (_, other) = (
        ([result.found for result in each.of("generation")], each.of("editing")[0].found) for each in found
    )
    assert [tuple(picture.shape) for picture in (*made, edited)] == [(3, 64, 64)] * 3
    assert made[0].dtype == torch.uint8
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(edited, other)


def test_pictures_follow_seed_and_question_and_not_the_batch(
    painting: tuple[Any, Any, EncodeSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [Question(id=name, turns=(Turn("user", "Paint."),)) for name in "ab"]
    made: dict[tuple[int, int], list[torch.Tensor]] = {}
    turns = itertools.cycle([TOKENIZER.get_vocab()["[GEN]"], TOKENIZER.eos_token_id])
    monkeypatch.setattr("trainer.generate._choose", lambda logits, *_: [next(turns)] * len(logits))
    for size, seed in ((2, 0), (1, 0), (2, 1)):
        found = answer(*painting, questions, batch_size=size, seed=seed, decoding=STEPS)
        made[size, seed] = [one([each]).of("generation")[0].found for each in found]

    for together, alone in zip(made[2, 0], made[1, 0], strict=True):
        assert (together.int() - alone.int()).abs().max() <= 1
    assert not torch.equal(*made[2, 0])
    assert not torch.equal(made[2, 0][0], made[2, 1][0])
