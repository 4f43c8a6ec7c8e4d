from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dataengine.errors import ModelError
from trainer.batch import Batch, ObjectTargets
from trainer.model.config import DetectionConfig, LossWeights, MatchCosts
from trainer.model.decoders import DecoderLosses
from trainer.model.decoders.detection import DetectionDecoder, ObjectPredictions

MakeBatch = Callable[..., Batch]
WIDTH = 24


def build(config: DetectionConfig | None = None) -> DetectionDecoder:
    torch.manual_seed(0)
    return DetectionDecoder(config or DetectionConfig.tiny(), WIDTH)


def hidden(batch: Batch) -> torch.Tensor:
    """Return the same made-up hidden states for each routing token of the batch."""
    return torch.randn((len(batch.groups_G2), 4, WIDTH), generator=torch.Generator().manual_seed(7))


def losses_of(decoder: DetectionDecoder, batch: Batch, seed: int = 0) -> DecoderLosses:
    losses: DecoderLosses = decoder(hidden(batch), batch, torch.Generator().manual_seed(seed))
    return losses


def with_targets(batch: Batch, change: Callable[[ObjectTargets], ObjectTargets]) -> Batch:
    return replace(batch, targets=tuple(change(target) for target in batch.targets))


def without_masks(target: ObjectTargets) -> ObjectTargets:
    return replace(target, has_mask_n=torch.zeros_like(target.has_mask_n))


def without_objects(target: ObjectTargets) -> ObjectTargets:
    return ObjectTargets(
        labels_n=target.labels_n[:0],
        boxes_n4=target.boxes_n4[:0],
        masks_nHW=target.masks_nHW[:0],
        has_mask_n=target.has_mask_n[:0],
        ignore_m4=target.ignore_m4,
    )


def test_terms_are_summed_over_layers_and_listed_layer_by_layer(make_batch: MakeBatch) -> None:
    losses = losses_of(build(), make_batch(2))

    expected = {"cls", "l1", "giou", "mask", "dice"}
    assert set(losses.terms) == expected | {f"{t}_dn" for t in expected} | {"cls_enc", "l1_enc", "giou_enc"}
    assert all(value > 0 for value in losses.detail.values())
    for term in expected:
        layers = torch.stack([losses.detail[f"{term}_{layer}"] for layer in range(3)])
        torch.testing.assert_close(losses.terms[term].detach(), layers.sum())
        noised = torch.stack([losses.detail[f"{term}_dn_{layer}"] for layer in range(3)])
        torch.testing.assert_close(losses.terms[f"{term}_dn"].detach(), noised.sum())


def test_every_parameter_has_a_gradient(make_batch: MakeBatch) -> None:
    decoder = build()

    torch.stack(list(losses_of(decoder, make_batch(2)).terms.values())).sum().backward()

    assert [name for name, parameter in decoder.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("term", ["cls", "l1", "giou", "mask", "dice"])
def test_a_weight_scales_its_term_and_no_other(make_batch: MakeBatch, term: str) -> None:
    batch = make_batch(2)
    usual = DetectionConfig.tiny().weights
    weights = replace(usual, **{term: 3 * getattr(usual, term)})

    before = losses_of(build(), batch).terms
    after = losses_of(build(DetectionConfig.tiny(weights=weights)), batch).terms

    for name, value in before.items():
        factor = 3 if name.split("_")[0] == term else 1
        torch.testing.assert_close(after[name], factor * value)


def test_the_default_weights_and_costs_are_the_papers() -> None:
    assert LossWeights() == LossWeights(cls=2, l1=5, giou=2, mask=5, dice=5)
    assert MatchCosts() == MatchCosts(cls=2, l1=5, giou=2, mask=0, dice=0)
    assert DetectionConfig().mask_points == 12544
    assert DetectionConfig().denoising == 100


@pytest.mark.parametrize("term", ["cls_dn", "l1_dn", "giou_dn", "mask_dn", "dice_dn"])
def test_denoising_weighs_the_same_however_often_it_repeats_its_targets(
    make_batch: MakeBatch, term: str
) -> None:
    batch = make_batch(2)

    once, often = (
        losses_of(
            build(DetectionConfig.tiny(denoising=number, box_noise=0.0, label_noise=0.0, mask_points=900)),
            batch,
        ).terms[term]
        for number in (2, 12)
    )

    assert often.item() == pytest.approx(once.item(), rel=0.05)


def test_denoising_can_be_switched_off(make_batch: MakeBatch) -> None:
    batch = make_batch(2)

    on, off = (
        losses_of(build(), batch).terms,
        losses_of(build(DetectionConfig.tiny(denoising=0)), batch).terms,
    )

    assert not any("dn" in name for name in off)
    torch.testing.assert_close(off["cls"], on["cls"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(off["l1"], on["l1"], atol=1e-4, rtol=1e-4)


def test_samples_without_masks_give_no_mask_loss_wherever_they_stand(make_batch: MakeBatch) -> None:
    batch = make_batch(2)
    first_bare = replace(batch, targets=(without_masks(batch.targets[0]), batch.targets[1]))

    none = losses_of(build(), with_targets(batch, without_masks)).terms
    some = losses_of(build(), first_bare).terms
    both = losses_of(build(), batch).terms

    assert none["mask"].item() == 0
    assert none["dice_dn"].item() == 0
    assert some["mask"].item() > 0
    # The loss is a mean over the masks that there are: half of them missing does not halve it.
    assert some["dice"].item() == pytest.approx(both["dice"].item(), rel=0.2)
    torch.testing.assert_close(some["l1"], both["l1"])


def test_a_batch_without_masks_leaves_no_parameter_behind(make_batch: MakeBatch) -> None:
    decoder = build()

    terms = losses_of(decoder, with_targets(make_batch(2), without_masks)).terms
    torch.stack(list(terms.values())).sum().backward()

    assert [name for name, parameter in decoder.named_parameters() if parameter.grad is None] == []


def test_a_picture_without_objects_only_teaches_what_is_absent(make_batch: MakeBatch) -> None:
    losses = losses_of(build(), with_targets(make_batch(2), without_objects)).terms

    assert losses["cls"].item() > 0
    assert losses["l1"].item() == losses["giou"].item() == losses["mask"].item() == 0


def test_unmatched_queries_in_an_ignored_area_are_no_negatives(make_batch: MakeBatch) -> None:
    batch = make_batch(2)
    everywhere = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
    config = DetectionConfig.tiny(denoising=0)

    plain = losses_of(build(config), batch).terms
    empty = with_targets(batch, without_objects)
    ignoring = with_targets(batch, lambda target: replace(target, ignore_m4=everywhere))

    assert 0 < losses_of(build(config), ignoring).terms["cls"].item() < plain["cls"].item()
    assert losses_of(build(config), empty).terms["cls"].item() > 0
    nothing_counts = with_targets(empty, lambda target: replace(target, ignore_m4=everywhere))
    assert losses_of(build(config), nothing_counts).terms["cls"].item() == 0


def test_an_ignored_area_elsewhere_changes_nothing(make_batch: MakeBatch) -> None:
    batch = make_batch(2)
    corner = torch.tensor([[0.001, 0.001, 0.002, 0.002]])

    plain = losses_of(build(), batch).terms
    result = losses_of(build(), with_targets(batch, lambda t: replace(t, ignore_m4=corner))).terms

    torch.testing.assert_close(result["cls"], plain["cls"])


def test_mask_costs_change_the_matching(make_batch: MakeBatch) -> None:
    batch = make_batch(2)
    costs = MatchCosts(cls=0, l1=0, giou=0, mask=5, dice=5)

    usual = losses_of(build(), batch).detail
    result = losses_of(build(DetectionConfig.tiny(costs=costs)), batch).detail

    assert result["dice_2"] + result["mask_2"] < usual["dice_2"] + usual["mask_2"]
    assert result["l1_2"] > usual["l1_2"]


def test_losses_depend_on_the_generator_alone(make_batch: MakeBatch) -> None:
    batch, decoder = make_batch(2), build()

    first, again, other = (losses_of(decoder, batch, seed).terms for seed in (1, 1, 2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["l1_dn"], other["l1_dn"])


def test_samples_may_ask_for_different_numbers_of_groups(make_batch: MakeBatch) -> None:
    batch = make_batch(3, classes=(1, 4, 2))

    losses = losses_of(build(), batch)

    assert all(torch.isfinite(value) for value in losses.terms.values())


def test_too_many_groups_are_an_error_that_names_the_sample(make_batch: MakeBatch) -> None:
    batch = make_batch(2, classes=(2, 4))

    with pytest.raises(ModelError, match=r"toy/train/0-1#detection: 4 routing tokens .* expected 1 to 3"):
        losses_of(build(DetectionConfig.tiny(max_groups=3)), batch)


def test_a_sample_without_groups_is_an_error_that_names_it(make_batch: MakeBatch) -> None:
    batch = make_batch(2, classes=(0, 4))

    with pytest.raises(ModelError, match=r"toy/train/0-0#detection: 0 routing tokens"):
        losses_of(build(), batch)


def test_a_label_that_no_routing_token_asks_for_is_an_error(make_batch: MakeBatch) -> None:
    batch = make_batch(2, classes=(4, 2))
    wrong = replace(batch.targets[1], labels_n=torch.tensor([0, 2]))

    with pytest.raises(ModelError, match=r"0-1#detection: target labels are \[0, 2\]"):
        losses_of(build(), replace(batch, targets=(batch.targets[0], wrong)))


def test_unknown_and_ill_typed_options_are_refused() -> None:
    with pytest.raises(
        ModelError, match=r"detection: unknown key 'num_querys', .*; did you mean 'num_queries'"
    ):
        DetectionDecoder.build({"num_querys": 3}, WIDTH)
    with pytest.raises(ModelError, match="Expected `int`"):
        DetectionDecoder.build({"num_queries": "many"}, WIDTH)


def predictions_of(decoder: DetectionDecoder, batch: Batch, top_k: int = 7) -> list[ObjectPredictions]:
    return decoder.eval().predict(hidden(batch), batch, top_k=top_k)


def test_predictions_lie_on_the_original_picture_best_first(make_batch: MakeBatch) -> None:
    batch = replace(make_batch(2, classes=(1, 4)), original_sizes=((100, 300), (256, 64)))

    first, second = predictions_of(build(), batch)

    assert first.masks_KHW is not None
    assert second.masks_KHW is not None
    assert (first.masks_KHW.shape, second.masks_KHW.shape) == ((7, 100, 300), (7, 256, 64))
    assert set(first.labels_K.tolist()) == {0}
    assert second.scores_K.tolist() == sorted(second.scores_K.tolist(), reverse=True)
    assert (first.boxes_K4[:, 2] <= 300).all()
    assert first.boxes_K4[:, 2].max() > 100
    assert (first.boxes_K4[:, 3] <= 100).all()


def test_predictions_scale_with_the_original_size(make_batch: MakeBatch) -> None:
    batch, decoder = make_batch(1), build()

    small = predictions_of(decoder, replace(batch, original_sizes=()))[0]
    large = predictions_of(decoder, replace(batch, original_sizes=((256, 384),)))[0]

    torch.testing.assert_close(large.boxes_K4, small.boxes_K4 * torch.tensor([3.0, 2.0, 3.0, 2.0]))


def test_padding_is_cut_from_masks(make_batch: MakeBatch) -> None:
    batch = make_batch(1)
    assert batch.pixel_mask_BHW is not None
    pixel_mask = batch.pixel_mask_BHW.clone()
    pixel_mask[:, 96:] = False

    masks = predictions_of(build(), replace(batch, pixel_mask_BHW=pixel_mask, original_sizes=()))[0].masks_KHW

    assert masks is not None
    assert masks.shape == (7, 96, 128)


def test_predictions_do_not_look_at_the_targets(make_batch: MakeBatch) -> None:
    batch, decoder = make_batch(2), build()

    seen, blind = predictions_of(decoder, batch)[0], predictions_of(decoder, replace(batch, targets=()))[0]

    assert torch.equal(seen.boxes_K4, blind.boxes_K4)
    assert torch.equal(seen.scores_K, blind.scores_K)


def test_groups_are_laid_out_by_sample_in_the_order_of_their_tokens(make_batch: MakeBatch) -> None:
    batch, decoder = make_batch(3, classes=(2, 4, 1)), build()

    vectors, group_mask = decoder._group_vectors(hidden(batch), batch)

    projected = decoder.projection(hidden(batch))
    assert group_mask.sum(1).tolist() == [2, 4, 1]
    torch.testing.assert_close(vectors[group_mask], projected)
    torch.testing.assert_close(vectors[1], projected[2:6])


def test_weak_predictions_are_left_out_but_for_the_best_of_what_is_there(make_batch: MakeBatch) -> None:
    batch = make_batch(2, classes=(2, 3))
    decoder = build().eval()
    whole = decoder.predict(hidden(batch), batch, top_k=1000)
    least = float(whole[0].scores_K[4])

    few = decoder.predict(hidden(batch), batch, top_k=1000, min_score=least)
    grounded = replace(batch, group_tokens=("[DET]", "[GRD]", "[GRD]", "[DET]", "[GRD]"))
    best = decoder.predict(hidden(batch), grounded, top_k=1000, min_score=1.0)

    assert torch.equal(few[0].scores_K, whole[0].scores_K[whole[0].scores_K >= least])
    assert few[0].masks_KHW is not None and len(few[0].masks_KHW) == len(few[0].boxes_K4) == 5
    assert [sorted(found.labels_K.tolist()) for found in best] == [[1], [0, 2]]
    for found, everything in zip(best, whole, strict=True):
        for label, score in zip(found.labels_K.tolist(), found.scores_K, strict=True):
            assert score == everything.scores_K[everything.labels_K == label].max()
    (nothing, _) = decoder.predict(hidden(batch), batch, min_score=1.0)
    assert nothing.masks_KHW is not None and nothing.masks_KHW.shape == (0, 128, 128)
