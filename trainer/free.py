"""Free-running predictions: the model is asked as a user asks it, and calls its decoders by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from transformers import PreTrainedTokenizerFast

from dataengine.sample import Sample
from trainer.answer import Answer, Question, Refused, answer
from trainer.forced import (
    Pixels,
    Place,
    decoding_of,
    found_objects,
    label_map_of,
    merged_maps,
    merged_objects,
    top_k_of,
)
from trainer.metrics.pictures import picture_scores
from trainer.model.visionllm import VisionLLM
from trainer.predictions import FoundObject, Free
from trainer.settings import DETECTION, EDITING, GENERATION, POSE, EncodeSettings


@dataclass(frozen=True)
class Asked:
    """A sample's questions, and the picture that it wants, if any. `in_parts`: they ask for parts of a class list."""

    sample: Sample
    questions: Sequence[Question]
    in_parts: bool
    wanted: Pixels | None


def answer_all(
    model: VisionLLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: EncodeSettings,
    asked: Sequence[Asked],
    *,
    batch_size: int,
    max_new_tokens: int,
) -> list[tuple[Free, Pixels | None]]:
    """Return the answers to each sample, and the picture that was made, if any."""
    # Samples whose decoders are called alike are asked together.
    groups: dict[bytes, list[int]] = {}
    for number, one in enumerate(asked):
        groups.setdefault(msgspec.json.encode(_decoding(model, one.sample)), []).append(number)
    result: dict[int, tuple[Free, Pixels | None]] = {}
    for numbers in groups.values():
        answers = answer(
            model,
            tokenizer,
            settings,
            [question for number in numbers for question in asked[number].questions],
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            decoding=_decoding(model, asked[numbers[0]].sample),
        )
        spoken = iter(answers)
        for number in numbers:
            own = [next(spoken) for _ in asked[number].questions]
            result[number] = _free(asked[number], own)
    return [result[number] for number in range(len(asked))]


def _decoding(model: VisionLLM, sample: Sample) -> Mapping[str, dict[str, Any]]:
    return {family: chosen for family, chosen in decoding_of(sample).items() if family in model.decoders}


def _free(asked: Asked, answers: Sequence[Answer | Refused]) -> tuple[Free, Pixels | None]:
    found: list[tuple[FoundObject, ...]] = []
    maps = []
    made: Pixels | None = None
    for ask, one in enumerate(answers):
        if isinstance(one, Refused):
            continue
        for result in one.results:
            places: list[Place] = [(ask, token) for token in result.groups]
            if result.family in (DETECTION, POSE):
                called = [one.groups[token].token for token in result.groups]
                found.append(found_objects(result.found, places, called) or ())
                if (label_map := label_map_of(result.found, places)) is not None:
                    maps.append(label_map)
            elif result.family in (GENERATION, EDITING) and made is None:
                made = np.ascontiguousarray(result.found.permute(1, 2, 0).cpu().numpy())
    return (
        Free(
            texts=tuple("" if isinstance(one, Refused) else one.text for one in answers),
            found=merged_objects(found, top_k_of(asked.sample))
            if asked.in_parts
            else tuple(one for some in found for one in some),
            segments=merged_maps(maps),
            picture=_compared(made, asked.wanted),
            cut=sum(isinstance(one, Answer) and one.ended != "end" for one in answers),
            refused=tuple(one.reason for one in answers if isinstance(one, Refused)),
        ),
        made,
    )


def _compared(made: Pixels | None, wanted: Pixels | None) -> dict[str, float] | None:
    # What was made by a decoder of another family may have another size.
    if made is None or wanted is None or made.shape != wanted.shape:
        return None
    return picture_scores(made, wanted)
