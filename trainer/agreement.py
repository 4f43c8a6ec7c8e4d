"""How well a text agrees with a picture: the cosine of both in a CLIP model (Hessel et al., CLIPScore, EMNLP 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import xxhash
from transformers import AutoModel, AutoProcessor

from dataengine.errors import ModelError, Quarantine
from dataengine.images import decode


class Agreement:
    """A CLIP-like model from a local folder; nothing is fetched. `name` is a digest of its files' names and sizes."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder}: no config.json in it, expected the folder of a CLIP model")
        try:
            self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            self.model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder}: cannot be loaded: {str(error).splitlines()[0]}") from error
        if not hasattr(self.model, "get_text_features") or not hasattr(self.model, "get_image_features"):
            raise ModelError(
                f"{folder}: {type(self.model).__name__} does not compare pictures and texts, expected CLIP"
            )
        files = sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file())
        config = (folder / "config.json").read_bytes()
        self.name = xxhash.xxh3_128_hexdigest(repr(files).encode() + config)

    @torch.inference_mode()
    def score(self, pairs: Sequence[tuple[bytes, str]]) -> list[float | None]:
        """Return the cosine of each encoded picture and its text, cut to what the model reads; None for a picture that
        cannot be decoded."""
        pixels = [_decoded(data) for data, _ in pairs]
        kept = [number for number, one in enumerate(pixels) if one is not None]
        scores: list[float | None] = [None] * len(pairs)
        if kept:
            inputs = self.processor(
                text=[pairs[number][1] for number in kept],
                images=[pixels[number] for number in kept],
                return_tensors="pt",
                padding=True,
                truncation=True,
            )
            found = self.model(**inputs)
            cosines = torch.nn.functional.cosine_similarity(found.image_embeds, found.text_embeds)
            for number, value in zip(kept, cosines.tolist(), strict=True):
                scores[number] = value
        return scores


def _decoded(data: bytes):
    try:
        return decode(data)
    except Quarantine:
        return None


def load(folder: Path) -> Agreement:
    """Load a model. Raises ModelError."""
    return Agreement(folder)
