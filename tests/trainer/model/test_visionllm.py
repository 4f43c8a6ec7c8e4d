from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import torch

from dataengine.errors import ModelError
from dataengine.tokens import GRD, SEG
from trainer.batch import Batch, ObjectTargets
from trainer.losses import box_areas, intersections, to_xyxy
from trainer.model.config import DetectionConfig, ModelConfig, SuperLinkConfig, tiny
from trainer.model.decoders.detection import ObjectPredictions
from trainer.model.options import read
from trainer.model.visionllm import Output, VisionLLM

MakeBatch = Callable[..., Batch]


@pytest.fixture
def model(config: ModelConfig) -> VisionLLM:
    """The tiny model."""
    return VisionLLM(config)


def run(model: VisionLLM, batch: Batch, seed: int = 0) -> Output:
    output: Output = model(batch, torch.Generator().manual_seed(seed))
    return output


def as_text(batch: Batch) -> Batch:
    """Return the batch as one that asks no decoder."""
    return replace(
        batch, family="text", groups_G2=torch.zeros((0, 2), dtype=torch.long), group_tokens=(), targets=()
    )


def test_the_loss_is_the_plain_sum_of_its_terms(model: VisionLLM, make_batch: MakeBatch) -> None:
    output = run(model, make_batch(2))

    torch.testing.assert_close(output.loss.detach(), torch.stack(list(output.losses.values())).sum())
    assert {"text", "detection/cls", "detection/dice_dn"} <= set(output.losses)
    assert "detection/l1_2" in output.detail
    assert output.text_loss_B.shape == (2,)


def test_every_part_learns_from_a_batch_with_regions(model: VisionLLM, make_batch: MakeBatch) -> None:
    run(model, make_batch(2, region=True)).loss.backward()

    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_gradient_reaches_the_queries_through_a_frozen_language_model(
    model: VisionLLM, make_batch: MakeBatch
) -> None:
    model.train_only({"superlink", "decoders.detection"})

    run(model, make_batch(2)).loss.backward()

    assert model.superlink.tables["detection"].grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.language.parameters())
    assert all(parameter.grad is None for parameter in model.vision.parameters())


def test_embeddings_can_be_trained_alone(model: VisionLLM, make_batch: MakeBatch) -> None:
    model.train_only({"embeddings"})

    run(model, make_batch(2)).loss.backward()

    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {"language.model.model.embed_tokens.weight", "language.model.lm_head.weight"}


def test_parts_hold_every_parameter_once(model: VisionLLM) -> None:
    parts = model.parts()

    listed = [id(parameter) for parameters in parts.values() for parameter in parameters]
    assert sorted(listed) == sorted(id(parameter) for parameter in model.parameters())
    assert "decoders.detection.backbone" in parts


def test_an_unknown_part_is_an_error(model: VisionLLM) -> None:
    with pytest.raises(ModelError, match="'superlinks'; did you mean 'superlink'"):
        model.train_only({"superlinks"})


def test_placeholders_are_overwritten_by_the_table(model: VisionLLM, make_batch: MakeBatch) -> None:
    batch = make_batch(2)
    before = run(model, batch).losses

    with torch.no_grad():
        emb = list(model.config.token_ids.emb)
        model.language.embeddings.weight[emb] += 5.0
    same = run(model, batch).losses
    with torch.no_grad():
        model.superlink.tables["detection"] += 5.0
    other = run(model, batch).losses

    assert all(torch.equal(before[name], same[name]) for name in before)
    assert not torch.equal(before["detection/cls"], other["detection/cls"])


def test_token_mode_reads_the_vocabulary_instead(vocabulary: dict[str, int], make_batch: MakeBatch) -> None:
    model = VisionLLM(tiny(vocabulary, superlink=SuperLinkConfig(mode="token")))
    batch = make_batch(2)

    run(model, batch).loss.backward()

    gradient = model.language.embeddings.weight.grad
    assert gradient is not None
    assert (gradient[list(model.config.token_ids.emb[:4])].abs().sum(1) > 0).all()
    assert gradient[model.config.token_ids.emb[4]].abs().sum() == 0


@pytest.mark.parametrize("num_queries", [1, 4, 8])
@pytest.mark.parametrize("shared", [False, True])
def test_any_number_of_queries(
    vocabulary: dict[str, int], make_batch: MakeBatch, num_queries: int, shared: bool
) -> None:
    detection = DetectionConfig.tiny(num_queries=num_queries, num_objects=8, denoising=0)
    superlink = SuperLinkConfig(shared=shared)
    model = VisionLLM(tiny(vocabulary, detection=detection, superlink=superlink))

    output = run(model, make_batch(1, num_queries=num_queries))

    assert torch.isfinite(output.loss)


@pytest.mark.parametrize("token", [GRD, SEG])
def test_the_detection_decoder_reads_all_its_routing_tokens(
    model: VisionLLM, make_batch: MakeBatch, token: str
) -> None:
    assert torch.isfinite(run(model, make_batch(1, token=token)).loss)


def test_text_alone_needs_no_picture(model: VisionLLM, make_batch: MakeBatch) -> None:
    batch = as_text(make_batch(2, tokens_per_tile=0))
    batch = replace(
        batch,
        tiles_T3SS=batch.tiles_T3SS[:0],
        tiles_per_image=((), ()),
        images_B3HW=None,
        pixel_mask_BHW=None,
    )

    output = run(model, batch)

    assert set(output.losses) == {"text"}


def test_answers_do_not_change_with_the_padding_of_the_batch(model: VisionLLM, make_batch: MakeBatch) -> None:
    batch = as_text(make_batch(2, classes=(1, 4)))
    length = int(batch.attention_mask_BL[0].sum())
    alone = replace(
        batch,
        sample_ids=batch.sample_ids[:1],
        input_ids_BL=batch.input_ids_BL[:1, :length],
        labels_BL=batch.labels_BL[:1, :length],
        attention_mask_BL=batch.attention_mask_BL[:1, :length],
        tiles_T3SS=batch.tiles_T3SS[:1],
        tiles_per_image=batch.tiles_per_image[:1],
    )

    together, single = run(model, batch), run(model, alone)

    torch.testing.assert_close(together.text_loss_B[0], single.text_loss_B[0], atol=1e-5, rtol=1e-4)


def test_a_step_is_a_function_of_its_batch(model: VisionLLM, make_batch: MakeBatch) -> None:
    batch = make_batch(2, region=True)
    torch.manual_seed(1)
    first = model(batch).loss
    torch.manual_seed(2)

    assert torch.equal(model(batch).loss, first)
    assert not torch.equal(run(model, batch, seed=3).loss, first)


def test_weights_are_a_function_of_the_seed(config: ModelConfig) -> None:
    state = torch.get_rng_state()
    torch.manual_seed(5)
    first = VisionLLM(config).state_dict()
    torch.manual_seed(6)
    again = VisionLLM(config).state_dict()
    other = VisionLLM(replace(config, seed=1)).state_dict()
    after = torch.rand(1)
    torch.manual_seed(6)

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["superlink.tables.detection"], other["superlink.tables.detection"])
    assert torch.equal(torch.rand(1), after)
    torch.set_rng_state(state)


def test_a_model_can_be_rebuilt_from_plain_data(model: VisionLLM, make_batch: MakeBatch) -> None:
    batch = make_batch(1)
    plain = msgspec.json.decode(msgspec.json.encode(model.config.to_dict()))

    rebuilt = VisionLLM(read(ModelConfig, plain, "model"))
    rebuilt.load_state_dict(model.state_dict())

    assert torch.equal(run(rebuilt, batch).loss, run(model, batch).loss)


CHANGES: list[tuple[str, Callable[[Batch], dict[str, Any]]]] = [
    (r"0-0#detection: text has 16 <im_patch>, expected 2 tiles", lambda b: {"tiles_per_image": ((2,), (1,))}),
    (r"0-1#detection: text has 16 <im_patch>, expected 0 tiles", lambda b: {"tiles_per_image": ((1,), ())}),
    (r"batch has 1 tiles, tiles_per_image says 2", lambda b: {"tiles_T3SS": b.tiles_T3SS[:1]}),
    (r"batch has 1 region masks", lambda b: {"regions_RSS": b.regions_RSS[:1]}),
    (
        r"0-0#detection: a group points to token id",
        lambda b: {"groups_G2": b.groups_G2 + torch.tensor([0, 1])},
    ),
    (r"no decoder images", lambda b: {"images_B3HW": None}),
    (r"batch has 1 targets for 2 samples", lambda b: {"targets": b.targets[:1]}),
]


@pytest.mark.parametrize(("message", "change"), CHANGES)
def test_a_batch_that_does_not_fit_is_an_error_and_never_repaired(
    model: VisionLLM, make_batch: MakeBatch, message: str, change: Callable[[Batch], dict[str, Any]]
) -> None:
    batch = make_batch(2, region=True)

    with pytest.raises(ModelError, match=message):
        model(replace(batch, **change(batch)))


def test_a_vanished_region_names_its_sample(model: VisionLLM, make_batch: MakeBatch) -> None:
    batch = make_batch(3, region=True)
    regions = batch.regions_RSS.clone()
    regions[2] = 0

    with pytest.raises(ModelError, match="toy/train/0-2#detection: region mask 2"):
        model(replace(batch, regions_RSS=regions))


def test_chance_moves_regions_in_training_alone(model: VisionLLM, make_batch: MakeBatch) -> None:
    batch = as_text(make_batch(2, region=True))

    training = [run(model.train(), batch, seed).loss.item() for seed in (1, 2)]
    evaluation = [run(model.eval(), batch, seed).loss.item() for seed in (1, 2)]

    assert training[0] != training[1]
    assert evaluation[0] == evaluation[1]


def iou(boxes: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    overlap = intersections(boxes, box)
    return overlap / (box_areas(boxes) + box_areas(box) - overlap)


def best_of_label(found: ObjectPredictions, label: int) -> int:
    """Return the position of the best prediction of a label."""
    return int((found.labels_K == label).nonzero()[0])


@pytest.mark.slow
def test_the_tiny_model_learns_a_batch_by_heart(vocabulary: dict[str, int], make_batch: MakeBatch) -> None:
    model = VisionLLM(tiny(vocabulary, detection=DetectionConfig.tiny(denoising=4)))
    batch, num_steps = make_batch(4, image_side=64), 110
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 10, 1.1 * (1 - step / num_steps))
    )
    generator = torch.Generator().manual_seed(0)

    outputs: list[Output] = []
    for _ in range(num_steps):
        outputs.append(model(batch, generator))
        optimizer.zero_grad()
        outputs[-1].loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        schedule.step()

    first, last = outputs[0], outputs[-1]
    assert last.loss.item() < first.loss.item() / 5
    assert last.losses["text"] < first.losses["text"] / 5
    for term in ("cls", "l1", "giou", "mask", "dice"):
        assert last.losses[f"detection/{term}"] < first.losses[f"detection/{term}"] / 4
    for found, target in zip(model.eval().predict(batch, "detection", top_k=5), batch.targets, strict=True):
        _assert_found(found, target)


def _assert_found(found: ObjectPredictions, target: ObjectTargets) -> None:
    assert set(found.labels_K[:2].tolist()) == set(target.labels_n.tolist())
    assert found.masks_KHW is not None
    for row, label in enumerate(target.labels_n.tolist()):
        place = best_of_label(found, label)
        assert iou(found.boxes_K4[place], to_xyxy(target.boxes_n4[row]) * 64) > 0.7
        mask, wanted = found.masks_KHW[place], target.masks_nHW[row].bool()
        assert (mask & wanted).sum() / (mask | wanted).sum() > 0.9
