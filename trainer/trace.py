"""A sample as the tokens that a model reads: with a tokenizer alone, or exactly as a position of a run."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from dataengine.errors import Skip
from dataengine.sample import Sample
from trainer import checkpoint as checkpoints
from trainer.batch import IGNORED
from trainer.config import encode_settings
from trainer.encode import measure
from trainer.model.config import ModelConfig
from trainer.model.options import read
from trainer.text import render
from trainer.tokenizer import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class Told:
    """A text as a model reads it. `learnt` says which tokens the model had to say; pictures and queries have none.

    `exact` says that pictures and queries are expanded as in a step; `changed` what augmentation and length control
    did to the sample, and `skipped` why it could not be made.
    """

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    learnt: tuple[bool, ...]
    exact: bool
    changed: tuple[str, ...] = ()
    skipped: str = ""


def tokens_of(tokenizer: str | Path, sample: Sample) -> Told:
    """Return the chat text of a sample and its tokens by a tokenizer: one token a picture, none for queries.

    Raises ModelError for a folder that holds no tokenizer.
    """
    coder = load_tokenizer(tokenizer)
    text, spans = render(sample.conversation, coder)
    coded = coder.backend_tokenizer.encode(text, add_special_tokens=False)
    learnt = tuple(any(begin < stop and end > start for start, stop in spans) for begin, end in coded.offsets)
    return Told(text=text, ids=tuple(coded.ids), tokens=tuple(coded.tokens), learnt=learnt, exact=False)


def tokens_at(run: Path, sample: Sample, position: int) -> Told:
    """Return a sample, worded as in its pass, as the run's step had it at a position: augmented, shortened, expanded.

    Raises ModelError where the run has no checkpoint.
    """
    found = checkpoints.find_checkpoint(run)
    config = found.record.config
    coder = load_tokenizer(found.directory / checkpoints.TOKENIZER)
    model = read(ModelConfig, found.record.model, str(found.directory))
    settings = encode_settings(config, model)
    try:
        made = measure(sample, coder, settings, random.Random(f"{config.seed}:{position}"))
    except Skip as error:
        return Told(
            text="", ids=(), tokens=(), learnt=(), exact=True, skipped=f"{error.reason}: {error.detail}"
        )
    ids = made.text.input_ids_L.tolist()
    changed = [f"shortened: {kind} {count}" for kind, count in sorted(made.shortened.items())]
    changed += ["mirrored"] if made.mirrored else []
    changed += ["cropped"] if made.window is not None else []
    return Told(
        text=render(made.sample.conversation, coder)[0],
        ids=tuple(ids),
        tokens=tuple(coder.convert_ids_to_tokens(ids)),
        learnt=tuple(label != IGNORED for label in made.text.labels_L.tolist()),
        exact=True,
        changed=tuple(changed),
    )
