"""What a folder or hub id of pretrained weights says of itself, read without its weights."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.image_processing_base import ImageProcessingMixin

from dataengine.errors import ModelError


def describe_encoder(name: str) -> dict[str, Any]:
    """Return the fields of VisionConfig that an image encoder's weights decide: sizes, `image_mean`, `image_std`,
    `architecture`.

    Mean and standard deviation are those of the encoder's processor (preprocessor_config.json). Raises ModelError where
    nothing can be read, or where no processor says them and the encoder is not CLIP's, for which they are known.
    """
    config = _config(name)
    config = getattr(config, "vision_config", config)
    found = {
        "architecture": plain_config(config),
        "image_size": config.image_size,
        "patch_size": config.patch_size,
    }
    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        processor = {}
    if {"image_mean", "image_std"} <= set(processor):
        return {**found, "image_mean": processor["image_mean"], "image_std": processor["image_std"]}
    if config.model_type == "clip_vision_model":
        return found
    raise ModelError(
        f"vision: {name!r} has no preprocessor_config.json with image_mean and image_std, expected it: tiles are"
        " normalised by them; save the encoder's image processor beside its weights"
    )


def describe_language(name: str) -> dict[str, Any]:
    """Return the fields of LanguageConfig that a language model's weights decide: `architecture`. Raises ModelError."""
    return {"architecture": plain_config(_config(name))}


def plain_config(config: PretrainedConfig) -> dict[str, Any]:
    """Return a configuration of transformers as plain data, with its `model_type`, but without where it was read, by
    which version, and in which precision."""
    plain = config.to_diff_dict() | {"model_type": config.model_type}
    left_out = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
    return {key: value for key, value in plain.items() if key not in left_out}


def built_config(plain: dict[str, Any]) -> PretrainedConfig:
    """Return the configuration of transformers that `plain_config` made plain."""
    return AutoConfig.for_model(**plain)


def _config(name: str) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{name}: no model can be read ({str(error).splitlines()[0]}), expected a folder with config.json or a hub"
            " id; check the name"
        ) from error
