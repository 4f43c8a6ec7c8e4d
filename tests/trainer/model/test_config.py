from __future__ import annotations

import msgspec
import pytest

from dataengine.errors import ModelError
from dataengine.tokens import ADDED_TOKENS
from trainer.model.config import ModelConfig, TokenIds, VisionConfig, tiny
from trainer.model.options import read


def test_token_ids_follow_the_papers_vocabulary() -> None:
    vocabulary = {token: 32000 + index for index, token in enumerate(ADDED_TOKENS)}

    ids = TokenIds.of(vocabulary)

    assert ids.image_patch == 32002
    assert ids.region == 32003
    assert ids.routing["[DET]"] == 32012
    assert ids.emb == tuple(range(32018, 32026))


def test_a_vocabulary_without_our_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'\[PAD\]' is missing"):
        TokenIds.of({"a": 0})


def test_placeholders_must_be_consecutive(vocabulary: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="consecutive"):
        TokenIds.of({**vocabulary, "[EMB3]": 900})


def test_a_configuration_survives_plain_data(config: ModelConfig) -> None:
    plain = msgspec.json.decode(msgspec.json.encode(config.to_dict()))

    assert read(ModelConfig, plain, "model") == config


@pytest.mark.parametrize(("size", "shuffle", "tokens"), [(336, 1, 576), (448, 2, 256), (112, 2, 16)])
def test_tokens_per_tile(size: int, shuffle: int, tokens: int) -> None:
    assert VisionConfig(image_size=size, pixel_shuffle=shuffle).tokens_per_tile == tokens


def test_the_tiny_model_fits_the_vocabulary(vocabulary: dict[str, int]) -> None:
    assert tiny(vocabulary).language.vocab_size == len(vocabulary)
