"""Routing tokens and the added vocabulary, in the order in which VisionLLM v2 adds them to a tokenizer."""

from __future__ import annotations

import re

DET, GRD, SEG, POSE, GEN, EDIT = "[DET]", "[GRD]", "[SEG]", "[POSE]", "[GEN]", "[EDIT]"
ROUTING_TOKENS = (DET, GRD, SEG, POSE, GEN, EDIT)

IMAGE, REGION = "<image>", "<region>"
REGION_START, REGION_END = "<reg>", "</reg>"

NUM_EMB = 8
EMB_TOKENS = ("[EMB]", *(f"[EMB{i}]" for i in range(2, NUM_EMB + 1)))

# The paper's code appends these 26 to a vocabulary that has <s>, </s> and <unk>; ids are consecutive in this order.
ADDED_TOKENS = (
    "[PAD]",
    IMAGE,
    "<im_patch>",
    REGION,
    "<img>",
    "</img>",
    REGION_START,
    REGION_END,
    "<det>",
    "</det>",
    "<grd>",
    "</grd>",
    *ROUTING_TOKENS,
    *EMB_TOKENS,
)

# Text of a source must not be able to speak the model's language: our own tokens and the chat markers of common LLMs.
_FOREIGN_TOKENS = ("<s>", "</s>", "<unk>", "<bbox>", "<pad>")
_SPECIAL = re.compile(
    "|".join(re.escape(token) for token in (*ADDED_TOKENS, *_FOREIGN_TOKENS)) + r"|<\|[a-z_0-9]{1,40}\|>",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile("|".join(map(re.escape, (IMAGE, REGION, *ROUTING_TOKENS))))


def query_ids(emb: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return the ids that stand for `count` super-link queries: up to eight have a placeholder each, more repeat the
    first."""
    return emb[:count] if count <= len(emb) else emb[:1] * count


def special_tokens(text: str) -> list[str]:
    """Return every special token that stands in source text, in order; text from a source should hold none."""
    return _SPECIAL.findall(text) if ("<" in text or "[" in text) else []


def without_special(text: str) -> str:
    """Return a text with a space for each special token: what a reader who knows none of them reads."""
    return _SPECIAL.sub(" ", text) if ("<" in text or "[" in text) else text


def placeholders(text: str) -> list[str]:
    """Return every `<image>`, `<region>` and routing token of a text, in order."""
    return _PLACEHOLDER.findall(text)


def region_text(number: int | None) -> str:
    """Return how the n-th region (from 1) is written in a prompt: `<reg>region1<region></reg>`.

    None: one that nobody speaks of later, as in-context prompts write them, `<reg>region<region></reg>`.
    """
    return f"{REGION_START}region{'' if number is None else number}{REGION}{REGION_END}"
