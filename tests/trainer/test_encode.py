"""What a sample becomes as tokens, labels, regions and targets."""

from __future__ import annotations

import dataclasses
import io
import random
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataengine import tokens
from dataengine.annotation import Turn
from dataengine.errors import ModelError, Skip
from dataengine.geometry import rle_from_mask
from dataengine.images import reduction
from dataengine.sample import (
    ImageTargets,
    InstanceTargets,
    KeypointTargets,
    Prompt,
    Region,
    Route,
    Sample,
    SampleImage,
    SampleLicense,
    SampleOrigin,
    TargetInstance,
    TextTargets,
    check,
)
from trainer.batch import IGNORED
from trainer.encode import encode, encode_files, measure, needed
from trainer.settings import CLIP_MEAN, CLIP_STD, EncodeSettings, family_of
from trainer.shorten import without_classes
from trainer.text import render
from trainer.tiling import choose_grid
from trainer.tokenizer import train_tokenizer
from trainer.views import Pixels

TOKENIZER = train_tokenizer(
    ["USER: ASSISTANT: Could you find all cats in the picture? Here are all cats and dogs. Yes, it is"], 500
)
SETTINGS = EncodeSettings(
    tile_side=14, tokens_per_tile=4, max_tiles=3, decoder_short=(64,), decoder_longest=96
)
SMALL = SampleImage(path="a.png", width=30, height=20, format="png")


def make_sample(question: str, answer: str, **changes: Any) -> Sample:
    sample = Sample(
        id="toy/train/1#task",
        task="task",
        dataset="toy",
        split="train",
        images=(SMALL,),
        conversation=(Turn("user", question), Turn("assistant", answer)),
        targets=TextTargets(),
        origin=SampleOrigin(dataset="toy", file="f", record="0", spec="toy", spec_hash="0", reader="r"),
        license=SampleLicense(annotations="CC0", images="CC0"),
    )
    return msgspec.structs.replace(sample, **changes)


def pixels(sample: Sample) -> list[Pixels]:
    return [
        np.full((image.height, image.width, 3), 40 * place, np.uint8)
        for place, image in enumerate(sample.images)
    ]


def categories(*names: str, token: str = "[DET]") -> tuple[Route, ...]:
    return tuple(Route(token=token, kind="category", name=name) for name in names)


def thing(
    label: str, box: tuple[float, float, float, float] = (3, 2, 9, 12), **changes: Any
) -> TargetInstance:
    return TargetInstance(label=label, box=box, area=(box[2] - box[0]) * (box[3] - box[1]), **changes)


def detection(names: list[str], present: list[str], **changes: Any) -> Sample:
    listed, routed = ", ".join(names), ", ".join(f"{name}[DET]" for name in names)
    return make_sample(
        f"<image>\nFind {listed} here.",
        f"Here: {routed}.",
        **{
            "routes": categories(*names),
            "targets": InstanceTargets(instances=tuple(thing(name) for name in present)),
            **changes,
        },
    )


def told(sample: Sample, settings: EncodeSettings = SETTINGS) -> tuple[str, str]:
    """Return the whole text that the model reads, runs of one token as `<im_patch>x4`, and what it must say."""
    encoded = encode(sample, pixels(sample), TOKENIZER, settings, None)
    words: list[str] = []
    for piece in TOKENIZER.convert_ids_to_tokens(encoded.input_ids_L.tolist()):
        if words and piece in ("<im_patch>", "[EMB]") and words[-1].startswith(piece):
            words[-1] = f"{piece}x{int(words[-1].removeprefix(piece).removeprefix('x') or 1) + 1}"
        else:
            words.append(piece)
    said = encoded.labels_L[encoded.labels_L != IGNORED].tolist()
    return "".join(words).replace("Ġ", " ").replace("Ċ", "\n"), str(TOKENIZER.decode(said))


EMB4 = "[EMB][EMB2][EMB3][EMB4]"


def test_detection_asks_once_a_class() -> None:
    read, said = told(detection(["cat", "dog"], ["dog"]))

    assert read == (
        f"<s>USER: <im_patch>x12\nFind cat, dog here. ASSISTANT: Here: cat[DET]{EMB4}, dog[DET]{EMB4}.</s>"
    )
    assert said == " Here: cat[DET], dog[DET].</s>"


def test_semantic_segmentation_uses_its_own_token() -> None:
    sample = make_sample(
        "<image>\nSegment sky.",
        "sky[SEG]",
        routes=categories("sky", token="[SEG]"),
        targets=InstanceTargets(instances=(thing("sky"),)),
    )

    assert told(sample) == (
        f"<s>USER: <im_patch>x12\nSegment sky. ASSISTANT: sky[SEG]{EMB4}</s>",
        " sky[SEG]</s>",
    )


def test_grounding_asks_for_one_expression() -> None:
    sample = make_sample(
        "<image>\nWhere is the red cat?",
        "Yes, it is [GRD].",
        routes=(Route(token="[GRD]", kind="expression", name="the red cat"),),
        targets=InstanceTargets(instances=(thing("the red cat"),)),
    )

    assert told(sample) == (
        f"<s>USER: <im_patch>x12\nWhere is the red cat? ASSISTANT: Yes, it is [GRD]{EMB4}.</s>",
        " Yes, it is [GRD].</s>",
    )


def test_pose_names_classes_then_keypoints() -> None:
    sample = make_sample(
        "<image>\nFind cat. Keypoints: nose, tail.",
        "cat[DET] nose[POSE], tail[POSE]",
        routes=(
            *categories("cat"),
            Route(token="[POSE]", kind="keypoint", name="nose"),
            Route(token="[POSE]", kind="keypoint", name="tail"),
        ),
        targets=KeypointTargets(
            names=("nose", "tail"), instances=(thing("cat", keypoints=((4, 4, 2), (0, 0, 0))),)
        ),
    )

    read, said = told(sample)

    assert read.endswith(f"ASSISTANT: cat[DET]{EMB4} nose[POSE]{EMB4}, tail[POSE]{EMB4}</s>")
    assert said == " cat[DET] nose[POSE], tail[POSE]</s>"
    encoded = encode(sample, pixels(sample), TOKENIZER, SETTINGS, None)
    assert encoded.names == ("cat", "nose", "tail")
    assert encoded.tokens == ("[DET]", "[POSE]", "[POSE]")


def test_interactive_segmentation_answers_by_region() -> None:
    sample = make_sample(
        f"<image>\nSegment {tokens.region_text(1)}, {tokens.region_text(2)}.",
        "region1[DET], region2[DET]",
        routes=tuple(Route(token="[DET]", kind="region", name=f"region{n}") for n in (1, 2)),
        regions=(Region(kind="box", box=(0, 0, 5, 5)), Region(kind="box", box=(9, 9, 15, 15))),
        targets=InstanceTargets(instances=(thing("region2"), thing("region1"))),
    )

    read, said = told(sample)

    assert read == (
        "<s>USER: <im_patch>x12\nSegment <reg>region1<region></reg>, <reg>region2<region></reg>."
        f" ASSISTANT: region1[DET]{EMB4}, region2[DET]{EMB4}</s>"
    )
    assert said == " region1[DET], region2[DET]</s>"


def test_generation_repeats_one_placeholder_and_shows_no_picture() -> None:
    sample = make_sample(
        "Draw a cat.",
        "Here it is [GEN].",
        images=(msgspec.structs.replace(SMALL, role="target"),),
        routes=(Route(token="[GEN]", kind="image", name="a cat"),),
        targets=ImageTargets(image=0, caption="a cat"),
    )

    assert told(sample) == (
        "<s>USER: Draw a cat. ASSISTANT: Here it is [GEN][EMB]x64.</s>",
        " Here it is [GEN].</s>",
    )
    assert family_of(sample) == "generation"
    assert encode(sample, pixels(sample), TOKENIZER, SETTINGS, None).tiles_T3SS.shape == (0, 3, 14, 14)


def test_editing_shows_the_picture_before() -> None:
    sample = make_sample(
        "<image>\nmake it red",
        "Sure, here you go [EDIT].",
        images=(SMALL, msgspec.structs.replace(SMALL, role="target")),
        routes=(Route(token="[EDIT]", kind="image", name="make it red"),),
        targets=ImageTargets(image=1, caption="make it red"),
    )

    read, _ = told(sample)

    assert read.startswith("<s>USER: <im_patch>x12\nmake it red ASSISTANT:")
    assert family_of(sample) == "editing"


def test_every_round_is_supervised_and_no_question() -> None:
    sample = make_sample(
        "<image>\nWhat?",
        "A cat.",
        conversation=(
            Turn("system", "Be brief."),
            Turn("user", "<image>\nWhat?"),
            Turn("assistant", "A cat."),
            Turn("user", "Where?"),
            Turn("assistant", "Here."),
        ),
    )

    assert told(sample) == (
        "<s>Be brief. USER: <im_patch>x12\nWhat? ASSISTANT: A cat.</s>USER: Where? ASSISTANT: Here.</s>",
        " A cat.</s> Here.</s>",
    )


def test_a_model_without_the_decoder_learns_the_words_alone() -> None:
    sample = detection(["cat", "dog"], ["dog"])
    settings = replaced(readers={"pose": ("[DET]", "[POSE]")})

    encoded = encode(sample, pixels(sample), TOKENIZER, settings, None)

    assert (encoded.family, encoded.image_3HW, encoded.names) == ("text", None, ("cat", "dog"))
    assert told(sample, settings) == told(sample)


def test_two_pictures_have_their_own_tiles() -> None:
    wide = msgspec.structs.replace(SMALL, width=90)
    sample = make_sample("<image> then <image>", "Yes.", images=(SMALL, wide))

    encoded = encode(sample, pixels(sample), TOKENIZER, SETTINGS, None)

    assert encoded.tiles_per_image == (3, 4)
    assert told(sample)[0].startswith("<s>USER: <im_patch>x12 then <im_patch>x16 ")
    assert encoded.tiles_T3SS[:3].max() < encoded.tiles_T3SS[3:].min()


def test_tiles_are_normalised_as_the_settings_say() -> None:
    sample = make_sample("<image> then", "Yes.", images=(SMALL,))
    settings = replaced(tile_mean=(0.0, 0.0, 0.0), tile_std=(0.5, 1.0, 1.0))

    usual, other = (encode(sample, pixels(sample), TOKENIZER, some, None) for some in (SETTINGS, settings))

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    plain = usual.tiles_T3SS * std + mean
    torch.testing.assert_close(other.tiles_T3SS[:, 0], plain[:, 0] * 2)
    torch.testing.assert_close(other.tiles_T3SS[:, 1:], plain[:, 1:])


def test_text_alone_has_no_tiles_and_no_decoder_picture() -> None:
    encoded = encode(make_sample("Hi?", "Yes.", images=()), [], TOKENIZER, SETTINGS, None)

    assert (encoded.family, encoded.tiles_per_image, encoded.image_3HW) == ("text", (), None)
    assert encoded.tiles_T3SS.shape == (0, 3, 14, 14)


@pytest.mark.parametrize("num_queries", [1, 4, 8])
def test_each_routing_token_is_followed_by_its_queries_and_then_a_label(num_queries: int) -> None:
    queries = {**SETTINGS.num_queries, "[DET]": num_queries}
    sample = detection(["cat", "dog"], ["dog"])

    encoded = encode(sample, pixels(sample), TOKENIZER, replaced(num_queries=queries), None)

    emb = [TOKENIZER.get_vocab()[token] for token in tokens.EMB_TOKENS]
    for position in encoded.groups:
        stop = position + 1 + num_queries
        assert int(encoded.labels_L[position]) == TOKENIZER.convert_tokens_to_ids("[DET]")
        assert encoded.input_ids_L[position + 1 : stop].tolist() == emb[:num_queries]
        assert encoded.labels_L[position + 1 : stop].tolist() == [IGNORED] * num_queries
        assert int(encoded.labels_L[stop]) == int(encoded.input_ids_L[stop])
    assert len(encoded.groups) == 2


def replaced(**changes: Any) -> EncodeSettings:
    return dataclasses.replace(SETTINGS, **changes)


def test_a_chat_template_is_used_and_only_its_answers_are_labelled() -> None:
    tokenizer = train_tokenizer(["<|im_start|>user assistant Find cat"], 500)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = (
        Turn("user", "Find cat"),
        Turn("assistant", "cat[DET]"),
        Turn("user", "x"),
        Turn("assistant", "y"),
    )

    text, spans = render(turns, tokenizer)

    assert [text[start:end] for start, end in spans] == ["cat[DET]<|im_end|>", "y<|im_end|>"]


def test_a_template_that_shows_a_place_to_think_before_the_last_answer_alone_is_used() -> None:
    tokenizer = train_tokenizer(["<|im_start|>user assistant Find cat"], 500)
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    )
    turns = (
        Turn("user", "Find cat"),
        Turn("assistant", "cat[DET]"),
        Turn("user", "x"),
        Turn("assistant", "y"),
    )

    text, spans = render(turns, tokenizer)

    assert [text[start:end] for start, end in spans] == ["cat[DET]<|im_end|>", "y<|im_end|>"]
    assert text.count("<think>") == 1
    # What is asked ends where the answer begins, in training as in use.
    assert text.startswith(render(turns[:1], tokenizer)[0].split("<think>")[0])
    assert render(turns[:3], tokenizer)[0] == text[: spans[1][0]]


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    tokenizer = train_tokenizer(["cat"], 400)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ messages|length }}{{ m['content']|upper }}{% endfor %}"
    )

    with pytest.raises(ModelError, match="rewrites earlier turns"):
        render((Turn("user", "a"), Turn("assistant", "b")), tokenizer)


NAMES = st.lists(
    st.text("abc xyz-", min_size=1, max_size=12).map(str.strip).filter(bool),
    min_size=1,
    max_size=12,
    unique=True,
)


@settings(deadline=None, max_examples=40)
@given(NAMES, st.randoms(use_true_random=False), st.booleans())
def test_every_label_points_to_its_own_name(names: list[str], rng: random.Random, mirror: bool) -> None:
    present = rng.choices(names, k=5)
    boxes = [(float(i), 0.0, float(i + 3), 4.0) for i in range(5)]
    targets = InstanceTargets(
        instances=tuple(
            thing(name, box, ignore=i == 4) for i, (name, box) in enumerate(zip(present, boxes, strict=True))
        )
    )
    sample = detection(names, [], targets=targets)
    check(sample)

    encoded = encode(
        sample, pixels(sample), TOKENIZER, replaced(flip_ratio=float(mirror)), random.Random(rng.random())
    )

    assert encoded.names == tuple(names)
    assert [encoded.names[int(label)] for label in encoded.targets.labels_n] == present[:4]
    ids = encoded.input_ids_L.tolist()
    for position, name in zip(encoded.groups, encoded.names, strict=True):
        assert str(TOKENIZER.decode(ids[: position + 1])).endswith(f"{name}[DET]")
    x = encoded.targets.boxes_n4[:, 0] * 30
    expected = torch.tensor([30 - i - 1.5 if mirror else i + 1.5 for i in range(4)])
    assert torch.allclose(x, expected, atol=1e-4)
    assert encoded.targets.ignore_m4.shape == (1, 4)


def test_targets_are_normalised_and_masks_lie_on_the_decoder_picture() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:12, 3:9] = 1
    sample = detection(
        ["cat", "dog"],
        [],
        targets=InstanceTargets(
            instances=(
                thing("dog", (3, 2, 9, 12), mask=rle_from_mask(mask)),
                thing("cat", (0, 0, 30, 20)),
                thing("cat", (15, 10, 30, 20), ignore=True),
            )
        ),
    )

    encoded = encode(sample, pixels(sample), TOKENIZER, SETTINGS, None)

    found = encoded.targets
    assert encoded.image_3HW is not None and encoded.image_3HW.shape == (3, 64, 96)
    assert found.labels_n.tolist() == [1, 0]
    assert torch.allclose(found.boxes_n4, torch.tensor([[0.2, 0.35, 0.2, 0.5], [0.5, 0.5, 1, 1]]))
    assert torch.allclose(found.ignore_m4, torch.tensor([[0.75, 0.75, 0.5, 0.5]]))
    assert found.has_mask_n.tolist() == [True, False]
    ys, xs = found.masks_nHW[0].nonzero(as_tuple=True)
    box = [int(xs.min()) / 96, int(ys.min()) / 64, (int(xs.max()) + 1) / 96, (int(ys.max()) + 1) / 64]
    assert box == pytest.approx([0.1, 0.1, 0.3, 0.6], abs=0.03)
    assert not found.masks_nHW[1].any()
    assert encoded.original_size == (20, 30)


def test_void_pixels_lie_on_the_decoder_picture_and_follow_a_flip() -> None:
    void = np.zeros((20, 30), np.uint8)
    void[:, 20:] = 1
    targets = InstanceTargets(instances=(thing("cat"),), void=rle_from_mask(void))
    sample = detection(["cat"], [], targets=targets)

    plain = encode(sample, pixels(sample), TOKENIZER, SETTINGS, None).targets.void_HW
    always = dataclasses.replace(SETTINGS, flip_ratio=1.0)
    mirrored = encode(sample, pixels(sample), TOKENIZER, always, random.Random(1)).targets.void_HW

    assert plain is not None and mirrored is not None
    assert plain[:, 64:].all() and not plain[:, :63].any()
    assert torch.equal(mirrored, plain.flip(-1))


def test_regions_point_to_the_global_view_of_their_picture() -> None:
    sample = make_sample(
        f"<image><image> {tokens.region_text(1)} {tokens.region_text(2)} {tokens.region_text(3)}",
        "Yes.",
        images=(SMALL, SMALL),
        regions=(
            Region(kind="box", box=(0, 0, 5, 5), image=1),
            Region(kind="box", box=(0, 0, 5, 5), image=0),
            Region(kind="point", box=(0, 0, 0, 0), mask=rle_from_mask(np.zeros((20, 30), np.uint8))),
        ),
    )

    encoded = encode(sample, pixels(sample), TOKENIZER, SETTINGS, None)

    assert encoded.region_tile_R.tolist() == [5, 2, 2]
    assert encoded.regions_RSS.shape == (3, 14, 14)
    assert encoded.regions_RSS.flatten(1).any(1).all()


def test_a_long_class_list_loses_classes_without_targets_only() -> None:
    names = [f"thing number {i}" for i in range(40)]
    present = ["thing number 39", "thing number 0", "thing number 20"]
    sample = detection(names, present)
    full = len(encode(sample, pixels(sample), TOKENIZER, SETTINGS, None).input_ids_L)

    encoded = encode(sample, pixels(sample), TOKENIZER, replaced(max_length=full // 2), None)

    assert full // 2 - 40 < len(encoded.input_ids_L) <= full // 2
    assert set(present) < set(encoded.names) < set(names)
    assert encoded.shortened == {"classes": 40 - len(encoded.names)}
    assert [encoded.names[int(label)] for label in encoded.targets.labels_n] == present
    text = TOKENIZER.decode(encoded.input_ids_L.tolist())
    assert f"Find {', '.join(encoded.names)} here." in text
    assert text.count("[DET]") == len(encoded.names) == len(encoded.groups)


def test_a_picture_without_objects_keeps_one_class_to_deny() -> None:
    sample = detection([f"thing {i}" for i in range(30)], [])
    one = len(encode(detection(["thing 0"], []), pixels(sample), TOKENIZER, SETTINGS, None).input_ids_L)

    encoded = encode(sample, pixels(sample), TOKENIZER, replaced(max_length=one), None)

    assert encoded.names == ("thing 0",)
    with pytest.raises(Skip, match=r"text\.too_long"):
        encode(sample, pixels(sample), TOKENIZER, replaced(max_length=one - 1), None)


def test_classes_with_targets_are_never_cut() -> None:
    names = [f"thing {i}" for i in range(30)]

    with pytest.raises(Skip, match=r"text\.too_long"):
        encode(detection(names, names), pixels(detection([], [])), TOKENIZER, replaced(max_length=120), None)


def test_lower_case_questions_are_shortened_too() -> None:
    names = [f"Thing {i}" for i in range(30)]
    routed = ", ".join(f"{name}[SEG]" for name in names)
    sample = make_sample(
        f"<image>\nSegment {', '.join(names).lower()} now.",
        routed,
        routes=categories(*names, token="[SEG]"),
        targets=InstanceTargets(instances=(thing("Thing 7"),)),
    )

    encoded = encode(sample, pixels(sample), TOKENIZER, replaced(max_length=100), None)

    text = TOKENIZER.decode(encoded.input_ids_L.tolist())
    assert "Thing 7" in encoded.names
    assert f"Segment {', '.join(encoded.names).lower()} now." in text


def test_a_chinese_class_list_is_shortened_by_its_own_mark() -> None:
    names = [f"第{i}类" for i in range(30)]
    routed = "、".join(f"{name}[DET]" for name in names)
    sample = make_sample(
        f"<image>\n请检测：{'、'.join(names)}。",
        f"结果：{routed}。",
        routes=categories(*names),
        targets=InstanceTargets(instances=(thing("第7类"),)),
        prompt=Prompt(bank="detection", question="zh01", answer="zh01"),
    )

    shorter = without_classes(sample, 27)

    assert shorter is not None
    assert [turn.text for turn in shorter.conversation] == [
        "<image>\n请检测：第0类、第1类、第7类。",
        "结果：第0类[DET]、第1类[DET]、第7类[DET]。",
    ]


def test_a_long_conversation_loses_its_last_rounds_whole() -> None:
    rounds = [(Turn("user", f"Round {i}?"), Turn("assistant", f"Answer {i}.")) for i in range(20)]
    first = (Turn("user", "<image>\nHello"), Turn("assistant", "Hi."))
    sample = make_sample("", "", conversation=(*first, *(turn for pair in rounds for turn in pair)))

    encoded = encode(sample, pixels(sample), TOKENIZER, replaced(max_length=160), None)

    text = str(TOKENIZER.decode(encoded.input_ids_L.tolist()))
    left = text.count("Round")
    assert len(encoded.input_ids_L) <= 160
    assert 0 < left < 20 and text.endswith(f"Answer {left - 1}.</s>")
    assert encoded.shortened == {"rounds": 20 - left}


def test_a_lost_round_takes_its_regions_with_it() -> None:
    questions = [f"{'<image>' if i == 1 else ''}What is {tokens.region_text(i)}?" for i in range(1, 16)]
    turns = [turn for text in questions for turn in (Turn("user", text), Turn("assistant", "Cat."))]
    sample = make_sample(
        "",
        "",
        conversation=tuple(turns),
        regions=tuple(Region(kind="box", box=(i, 0, i + 1, 5)) for i in range(15)),
    )

    encoded = encode(sample, pixels(sample), TOKENIZER, replaced(max_length=200), None)

    left = encoded.input_ids_L.tolist().count(TOKENIZER.convert_tokens_to_ids("<region>"))
    assert 1 <= left < 15
    assert len(encoded.regions_RSS) == len(encoded.region_tile_R) == left


def test_one_long_round_is_skipped_with_its_reason() -> None:
    with pytest.raises(Skip, match=r"text\.too_long"):
        encode(make_sample("word " * 500, "x", images=()), [], TOKENIZER, replaced(max_length=100), None)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.sets(st.integers(0, 29)), st.integers(40, 400))
def test_length_control_keeps_text_routes_and_targets_together(
    count: int, marked: set[int], limit: int
) -> None:
    names = [f"class {i}" for i in range(count)]
    sample = detection(names, [names[i] for i in sorted(marked) if i < count])

    try:
        encoded = encode(sample, pixels(sample), TOKENIZER, replaced(max_length=limit), None)
    except Skip as skip:
        assert skip.reason == "text.too_long"
        return

    assert len(encoded.input_ids_L) <= limit
    assert (
        len(encoded.groups)
        == len(encoded.names)
        == encoded.labels_L.tolist().count(TOKENIZER.convert_tokens_to_ids("[DET]"))
    )
    assert all(int(label) < len(encoded.names) for label in encoded.targets.labels_n)
    assert int(encoded.labels_L[-1]) == TOKENIZER.eos_token_id


@pytest.mark.parametrize("word", ["[EMB]", "<im_patch>", "</s>", "[PAD]", "<|im_end|>"])
def test_text_cannot_speak_for_the_model(word: str) -> None:
    with pytest.raises(Skip, match=r"text\.reserved"):
        encode(make_sample(f"say {word}", "x", images=()), [], TOKENIZER, SETTINGS, None)


def test_a_picture_of_another_size_is_refused() -> None:
    sample = detection(["cat"], ["cat"])

    with pytest.raises(ModelError, match=r"toy/train/1#task: images\[0\] is 31 x 20, expected 30 x 20"):
        encode(sample, [np.zeros((20, 31, 3), np.uint8)], TOKENIZER, SETTINGS, None)


def test_a_target_that_nobody_asked_for_is_refused() -> None:
    sample = detection(["cat"], ["dog"])

    with pytest.raises(ModelError, match="asks for 'dog'"):
        encode(sample, pixels(sample), TOKENIZER, SETTINGS, None)


def test_augmentation_is_a_function_of_its_generator() -> None:
    sample = detection(["cat"], ["cat"])
    chosen = replaced(flip_ratio=0.5, decoder_short=(32, 48, 64))

    def width_and_x(seed: int) -> tuple[int, float]:
        encoded = encode(sample, pixels(sample), TOKENIZER, chosen, random.Random(seed))
        assert encoded.image_3HW is not None
        return encoded.image_3HW.shape[2], float(encoded.targets.boxes_n4[0, 0])

    drawn = [width_and_x(seed) for seed in range(30)]

    assert drawn == [width_and_x(seed) for seed in range(30)]
    assert {width for width, _ in drawn} == {48, 72, 96}
    assert len({x for _, x in drawn}) == 2


def bright_box(plane: torch.Tensor) -> tuple[float, float, float, float]:
    """Return the box of what is bright, as shares of the picture's sides."""
    ys, xs = torch.nonzero(plane > 0.5, as_tuple=True)
    height, width = plane.shape
    return (
        float(xs.min()) / width,
        float(ys.min()) / height,
        float(xs.max() + 1) / width,
        float(ys.max() + 1) / height,
    )


@pytest.mark.parametrize("seed", range(12))
def test_both_views_regions_and_targets_show_one_cropped_and_mirrored_picture(seed: int) -> None:
    image = SampleImage(path="a.png", width=240, height=160, format="png")
    box = (90.0, 50.0, 150.0, 110.0)
    picture = np.zeros((160, 240, 3), np.uint8)
    picture[50:110, 90:150] = 255
    inside = rle_from_mask((picture[..., 0] > 0).astype(np.uint8))
    sample = detection(
        ["region1"],
        [],
        task="interactive_segmentation",
        images=(image,),
        conversation=(
            Turn("user", "<image>\nFind <reg>region1<region></reg>."),
            Turn("assistant", "region1[DET]"),
        ),
        routes=(Route(token="[DET]", kind="region", name="region1"),),
        regions=(Region(kind="box", box=box),),
        targets=InstanceTargets(instances=(thing("region1", box, mask=inside),)),
    )
    chosen = replaced(tile_side=56, max_tiles=1, flip_ratio=0.5, crop_ratio=1.0, crop_least=0.4)

    encoded = encode(sample, [picture], TOKENIZER, chosen, random.Random(seed))

    assert encoded.image_3HW is not None
    cx, cy, width, height = encoded.targets.boxes_n4[0].tolist()
    expected = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    shown = {
        "decoder picture": bright_box(encoded.image_3HW[0]),
        "tile": bright_box(encoded.tiles_T3SS[-1, 0]),
        "mask": bright_box(encoded.targets.masks_nHW[0].float()),
        "region": bright_box(encoded.regions_RSS[0].float()),
    }
    for name, found in shown.items():
        assert found == pytest.approx(expected, abs=0.03), name
    assert expected != pytest.approx((90 / 240, 50 / 160, 150 / 240, 110 / 160), abs=0.003)


def test_a_cropped_photograph_is_decoded_whole() -> None:
    large = SampleImage(path="a.jpg", width=640, height=480, format="jpeg")
    sample = detection(["cat"], ["cat"], images=(large,), task="detection")
    chosen = replaced(reduce_from=1, crop_ratio=1.0)

    measured = measure(sample, TOKENIZER, chosen, random.Random(0))

    assert measured.window is not None and needed(measured, 0, chosen) is None
    size = (measured.window.x1 - measured.window.x0, measured.window.y1 - measured.window.y0)
    assert (measured.sample.images[0].width, measured.sample.images[0].height) == size != (640, 480)


def photograph(width: int, height: int) -> bytes:
    """A JPEG of soft shapes."""
    coarse = np.random.default_rng(3).integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(sink, "JPEG", quality=92)
    return sink.getvalue()


def test_a_large_photograph_is_decoded_smaller_and_its_views_stay_what_they_are() -> None:
    large = SampleImage(path="a.jpg", width=640, height=480, format="jpeg")
    box = (100.0, 50.0, 300.0, 400.0)
    inside = np.zeros((480, 640), np.uint8)
    inside[50:400, 100:300] = 1
    targets = InstanceTargets(instances=(thing("cat", box, mask=rle_from_mask(inside)),))
    sample = detection(["cat", "dog"], [], images=(large,), targets=targets)
    files = [photograph(640, 480)]

    whole, smaller = (
        encode_files(sample, files, TOKENIZER, replaced(reduce_from=limit, flip_ratio=1.0), random.Random(1))
        for limit in (None, 640 * 480)
    )

    measured = measure(sample, TOKENIZER, replaced(reduce_from=640 * 480), None)
    assert needed(measured, 0, replaced(reduce_from=640 * 480)) == (64, 85)
    assert needed(measured, 0, replaced(reduce_from=640 * 480 + 1)) is None
    assert whole.tiles_per_image == smaller.tiles_per_image
    assert (whole.image_3HW is not None) and (smaller.image_3HW is not None)
    for one, other in ((whole.tiles_T3SS, smaller.tiles_T3SS), (whole.image_3HW, smaller.image_3HW)):
        assert one.shape == other.shape and not torch.equal(one, other)
        assert float((one - other).abs().mean()) < 0.06
    assert torch.equal(whole.targets.masks_nHW, smaller.targets.masks_nHW)
    assert torch.equal(whole.targets.boxes_n4, smaller.targets.boxes_n4)
    assert whole.original_size == smaller.original_size == (480, 640)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 12))
def test_a_reduced_picture_is_tiled_like_the_whole(eighths: int, high: int, max_tiles: int) -> None:
    width, height, side = 8 * eighths, 8 * high, 14
    image = SampleImage(path="a.jpg", width=width, height=height, format="jpeg")
    options = replaced(reduce_from=1, max_tiles=max_tiles)
    sample = make_sample("<image>\nWhat?", "This.", images=(image,))

    at_least = needed(measure(sample, TOKENIZER, options, None), 0, options)

    by = reduction(height, width, at_least)
    assert choose_grid(width // by, height // by, side, max_tiles) == choose_grid(
        width, height, side, max_tiles
    )


@pytest.mark.parametrize("size", [(15, 10), (10, 7), (31, 20)])
def test_a_picture_of_another_size_is_refused_unless_it_is_an_even_part(size: tuple[int, int]) -> None:
    sample = make_sample("<image>\nWhat?", "This.")
    found = [np.zeros((size[1], size[0], 3), np.uint8)]

    if size == (15, 10):
        assert encode(sample, found, TOKENIZER, SETTINGS, None).tiles_per_image == (3,)
        return
    with pytest.raises(ModelError, match=rf"images\[0\] is {size[0]} x {size[1]}, expected 30 x 20"):
        encode(sample, found, TOKENIZER, SETTINGS, None)
