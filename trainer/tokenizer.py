"""The tokenizer: a pretrained one, or a small byte-level BPE trained on our prompts and what a run's samples say, with
our 26 tokens added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dataengine import tokens, yaml12
from dataengine.errors import ModelError

UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"
VOCAB_SIZE = 1500


def train_tokenizer(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on texts and add our tokens; the same texts give the same tokenizer.

    `vocab_size` counts `<unk> <s> </s>`, the 256 bytes and merges, but not our tokens. Any text can be encoded, seen
    or not, since all bytes are in the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Sorted and each once, so that neither order nor repetition of the files decides a merge.
    tokenizer.train_from_iterator(
        sorted(set(texts)),
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[UNKNOWN, BOS, EOS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return add_tokens(
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN, padding_side="right"
        )
    )


def add_tokens(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Append those of our tokens that the vocabulary lacks, in order, with consecutive ids; return the tokenizer.

    Tokens that exist keep their ids (Table of A.3: on a LLaMA vocabulary they become 32000 to 32025). Raises
    ModelError where the tokenizer has no end token, or is not a fast one (its offsets are needed to place labels).
    """
    name = tokenizer.name_or_path or "tokenizer"
    if not tokenizer.is_fast:
        raise ModelError(f"{name}: is a slow tokenizer, expected a fast one; save it with tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{name}: has no end token, which ends every answer; set eos_token")
    added = [AddedToken(token, normalized=False, special=True) for token in tokens.ADDED_TOKENS]
    tokenizer.add_tokens(added, special_tokens=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = "[PAD]"
    tokenizer.padding_side = "right"
    return tokenizer


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerFast:
    """Load a tokenizer from a folder or, by its id, from the hub (its cache first), and add our tokens.

    Raises ModelError where there is none.
    """
    try:
        return add_tokens(AutoTokenizer.from_pretrained(str(name)))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{name}: no tokenizer can be loaded ({str(error).splitlines()[0]}), expected a folder with tokenizer.json"
            " or a hub id; give tokenizer: null to train a small one"
        ) from error


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Write a tokenizer to a folder that `load_tokenizer` reads."""
    tokenizer.save_pretrained(str(directory))


def bank_texts(directory: Path | None = None) -> list[str]:
    """Return every text in the YAML files of a folder: without one, our prompt banks and label spaces.

    Raises ModelError where there is none to train on.
    """
    if directory is not None:
        folders = [directory]
    else:
        root = Path(str(resources.files("task_specs")))
        folders = [root / "prompts", root / "labels"]
    texts = [
        text
        for folder in folders
        for path in sorted(folder.rglob("*.yaml"))
        for text in _strings(yaml12.load(path))
    ]
    if not texts:
        raise ModelError(
            f"{folders[0]}: holds no prompt bank, and a tokenizer is to be trained on their texts; give tokenizer: PATH"
        )
    return texts


def _strings(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for entry in value.values():
                yield from _strings(entry)
        case list():
            for entry in value:
                yield from _strings(entry)
