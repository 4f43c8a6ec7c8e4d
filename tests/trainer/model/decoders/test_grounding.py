from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection

from trainer.model.config import DetectionConfig
from trainer.model.decoders.denoise import Denoising
from trainer.model.decoders.grounding import GroundingTransformer


@pytest.fixture(scope="module")
def transformer() -> GroundingTransformer:
    """The tiny transformer with random weights, in evaluation mode."""
    torch.manual_seed(0)
    transformer = GroundingTransformer(DetectionConfig.tiny(num_objects=12)).eval()
    with torch.no_grad():
        for name, parameter in transformer.encoder.named_parameters():
            # Fusion starts at a ten-thousandth; at that, nothing could be told from its absence.
            if name.endswith(("vision_param", "text_param")):
                parameter.fill_(1.0)
    return transformer


def packaged(tmp_path: Path) -> GroundingDinoForObjectDetection:
    """Return a small packaged Grounding DINO whose every weight is random, and save it."""
    torch.manual_seed(0)
    settings = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "image_size": 128,
            "embed_dim": 16,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 2, 4],
            "window_size": 4,
            "out_indices": [2, 3, 4],
        },
        text_config=BertConfig(
            vocab_size=1100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        ),
        num_queries=15,
        encoder_layers=2,
        decoder_layers=3,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        d_model=32,
    )
    model = GroundingDinoForObjectDetection(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    model.eval()
    return model


@pytest.mark.parametrize("padding", [0, 32])
def test_boxes_and_logits_are_those_of_the_packaged_model(tmp_path: Path, padding: int) -> None:
    model = packaged(tmp_path)
    ours = GroundingTransformer(DetectionConfig(pretrained=str(tmp_path))).eval()
    images = torch.randn((2, 3, 128, 128), generator=torch.Generator().manual_seed(1))
    pixel_mask = torch.ones((2, 128, 128), dtype=torch.long)
    if padding:
        pixel_mask[1, :, -padding:] = 0
    # One block of text between [CLS] and [SEP], which the attention mask hides: as in ours, its tokens see each other.
    input_ids = torch.tensor([[101, 7, 8, 9, 1012, 102]] * 2)
    attention = torch.tensor([[0, 1, 1, 1, 1, 0]] * 2)
    text: list[torch.Tensor] = []
    model.model.text_projection.register_forward_hook(lambda _m, _i, output: text.append(output))

    with torch.no_grad():
        expected = model(images, input_ids, attention_mask=attention, pixel_mask=pixel_mask)
        result = ours(images, pixel_mask.bool(), text[0][:, 1:5], torch.ones((2, 4), dtype=torch.bool))

    assert expected.pred_boxes.std() > 0.05
    torch.testing.assert_close(result.boxes[-1], expected.pred_boxes, atol=1e-4, rtol=0)
    torch.testing.assert_close(result.logits[-1], expected.logits[..., 1:5], atol=1e-3, rtol=1e-4)


def test_groups_that_do_not_exist_score_nothing_and_change_nothing(transformer: GroundingTransformer) -> None:
    images = torch.randn((2, 3, 64, 96), generator=torch.Generator().manual_seed(1))
    pixel_mask = torch.ones((2, 64, 96), dtype=torch.bool)
    vectors = torch.randn((2, 4, 64), generator=torch.Generator().manual_seed(2))
    group_mask = torch.tensor([[True] * 4, [True, True, False, False]])

    with torch.no_grad():
        together = transformer(images, pixel_mask, vectors, group_mask)
        alone = transformer(images[1:], pixel_mask[1:], vectors[1:, :2], group_mask[1:, :2])

    assert torch.isinf(together.logits[-1][1, :, 2:]).all()
    assert torch.isfinite(together.logits[-1][0]).all()
    torch.testing.assert_close(together.boxes[-1][1], alone.boxes[-1][0], atol=1e-4, rtol=0)
    torch.testing.assert_close(together.logits[-1][1, :, :2], alone.logits[-1][0], atol=1e-3, rtol=1e-4)


def test_denoising_queries_do_not_change_the_object_queries(transformer: GroundingTransformer) -> None:
    images = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    pixel_mask = torch.ones((1, 64, 64), dtype=torch.bool)
    vectors = torch.randn((1, 2, 64), generator=torch.Generator().manual_seed(2))
    group_mask = torch.ones((1, 2), dtype=torch.bool)
    yes = torch.ones((1, 4), dtype=torch.bool)
    denoising = Denoising(
        content_BJD=torch.randn((1, 4, 64)),
        boxes_BJ4=torch.rand((1, 4, 4)),
        valid_BJ=yes,
        positive_BJ=yes,
        target_BJ=torch.zeros((1, 4), dtype=torch.long),
        repeat_J=torch.tensor([0, 0, 1, 1]),
        num_repeats=2,
    )

    with torch.no_grad():
        plain = transformer(images, pixel_mask, vectors, group_mask)
        noisy = transformer(images, pixel_mask, vectors, group_mask, denoising)

    assert noisy.num_denoising == 4
    torch.testing.assert_close(noisy.boxes[-1][:, 4:], plain.boxes[-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(noisy.logits[-1][:, 4:], plain.logits[-1], atol=1e-4, rtol=1e-4)


def test_anchors_lie_in_the_picture_and_not_in_its_padding(transformer: GroundingTransformer) -> None:
    pixel_mask = torch.zeros((1, 64, 128), dtype=torch.bool)
    pixel_mask[:, :, :64] = True
    maps = [torch.zeros((1, channels, 8 >> i, 16 >> i)) for i, channels in enumerate((64, 128, 128))]
    levels = transformer._flatten(maps, pixel_mask)

    _, anchors, usable_positions = transformer._proposals(torch.zeros((1, 168, 64)), levels)

    centers = anchors.sigmoid()[0, usable_positions[0], :2]
    assert usable_positions.sum() == 84
    assert centers.min() > 0
    assert centers.max() < 1
    assert centers[:64, 0].max() == pytest.approx(7.5 / 8)


def test_a_picture_with_fewer_positions_than_queries_gives_fewer_boxes() -> None:
    torch.manual_seed(0)
    small = GroundingTransformer(DetectionConfig.tiny(num_objects=40)).eval()

    with torch.no_grad():
        output = small(
            torch.zeros((1, 3, 32, 32)),
            torch.ones((1, 32, 32), dtype=torch.bool),
            torch.randn((1, 1, 64)),
            torch.ones((1, 1), dtype=torch.bool),
        )

    assert output.boxes[-1].shape == (1, 21, 4)
