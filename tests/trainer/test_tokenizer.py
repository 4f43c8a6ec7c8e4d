"""Our tokens get consecutive ids in their order, and a trained tokenizer is a function of its texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from dataengine import tokens
from dataengine.errors import ModelError
from trainer.tokenizer import add_tokens, bank_texts, load_tokenizer, save_tokenizer, train_tokenizer

TEXTS = ["Could you find all cats in the picture?", "Where are the dogs?", "Here are all cats and dogs."]


def llama_like() -> PreTrainedTokenizerFast:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"piece{i}": i for i in range(3, 32000)}}
    model = models.WordLevel(vocabulary, unk_token="<unk>")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def test_a_llama_vocabulary_gets_the_ids_of_the_paper() -> None:
    tokenizer = add_tokens(llama_like())

    ids = tokenizer.convert_tokens_to_ids(list(tokens.ADDED_TOKENS))

    assert ids == list(range(32000, 32026))
    assert len(tokenizer) == 32026
    named = {
        token: tokenizer.convert_tokens_to_ids(token) for token in ("<im_patch>", "[DET]", "[EDIT]", "[EMB8]")
    }
    assert named == {"<im_patch>": 32002, "[DET]": 32012, "[EDIT]": 32017, "[EMB8]": 32025}


def test_a_token_that_exists_keeps_its_id() -> None:
    tokenizer = llama_like()
    tokenizer.add_tokens(["[DET]"], special_tokens=True)

    add_tokens(tokenizer)

    assert tokenizer.convert_tokens_to_ids("[DET]") == 32000
    assert tokenizer.convert_tokens_to_ids("[PAD]") == 32001
    assert len(tokenizer) == 32026


def test_added_tokens_are_single_ids_wherever_they_stand() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)

    pieces = tokenizer.tokenize("cat[DET][EMB][EMB2], <reg>region1<region></reg>\n<image>dog[GRD].")

    assert [piece for piece in pieces if piece in tokens.ADDED_TOKENS] == [
        "[DET]", "[EMB]", "[EMB2]", "<reg>", "<region>", "</reg>", "<image>", "[GRD]",
    ]  # fmt: skip


def test_the_same_texts_in_any_order_train_the_same_tokenizer() -> None:
    one, other = train_tokenizer(TEXTS, 400), train_tokenizer([*reversed(TEXTS), TEXTS[0]], 400)

    assert one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()


def test_any_text_survives_a_round_trip() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    text = "Où est le chat ? 猫はどこ 🐈 \t two  spaces"

    ids = tokenizer.encode(text, add_special_tokens=False)

    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


def test_our_prompt_banks_make_a_vocabulary_of_the_size_asked() -> None:
    tokenizer = train_tokenizer(bank_texts(), 700)

    assert len(tokenizer) == 700 + len(tokens.ADDED_TOKENS)
    assert len(tokenizer.tokenize("Find all objects of the classes")) < 14


def test_saving_and_loading_changes_no_id(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 400)

    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)

    assert loaded.get_vocab() == tokenizer.get_vocab()
    text = "USER: find cats[DET][EMB] ASSISTANT:</s>"
    assert loaded.encode(text, add_special_tokens=False) == tokenizer.encode(text, add_special_tokens=False)
    assert (loaded.eos_token, loaded.pad_token_id) == ("</s>", tokenizer.pad_token_id)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer can be loaded .* expected a folder"):
        load_tokenizer(tmp_path)


def test_a_folder_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no prompt bank"):
        bank_texts(tmp_path)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))

    with pytest.raises(ModelError, match="has no end token"):
        add_tokens(tokenizer)
