from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataengine import tokens

PIECES = st.lists(
    st.sampled_from(["a ", "[DET]", "<image>", "\n", "<region>", "[POSE]", "[EDIT]", "[", "]", "é"])
)


def test_the_vocabulary_has_the_order_of_the_published_model() -> None:
    expected = (
        "[PAD] <image> <im_patch> <region> <img> </img> <reg> </reg> <det> </det> <grd> </grd> "
        "[DET] [GRD] [SEG] [POSE] [GEN] [EDIT] [EMB] [EMB2] [EMB3] [EMB4] [EMB5] [EMB6] [EMB7] [EMB8]"
    )

    assert list(tokens.ADDED_TOKENS) == expected.split()
    assert len(set(tokens.ADDED_TOKENS)) == 26


@pytest.mark.parametrize("token", tokens.ADDED_TOKENS)
def test_every_token_of_ours_is_seen_in_source_text(token: str) -> None:
    assert tokens.special_tokens(f"a{token}b {token.lower()}") == [token, token.lower()]


@pytest.mark.parametrize("text", ["<|im_end|>", "</s>", "<s>", "<bbox>", "<|endoftext|>"])
def test_chat_markers_of_other_models_are_seen(text: str) -> None:
    assert tokens.special_tokens(f"hello{text}") == [text]


@pytest.mark.parametrize(
    "text", ["a < b > c", "[1, 2]", "<b>bold</b>", "[det", "DET", "<images>", "|im_end|", ""]
)
def test_common_text_is_left_alone(text: str) -> None:
    assert tokens.special_tokens(text) == []


@given(pieces=PIECES)
def test_placeholders_are_found_in_order(pieces: list[str]) -> None:
    text = "".join(pieces)
    known = {"[DET]", "[POSE]", "[EDIT]", "<image>", "<region>"}

    assert tokens.placeholders(text) == [piece for piece in pieces if piece in known]


def test_regions_are_numbered_from_one() -> None:
    assert tokens.region_text(1) == "<reg>region1<region></reg>"
    assert tokens.placeholders(tokens.region_text(12)) == ["<region>"]
