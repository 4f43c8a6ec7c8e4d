from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dataengine.errors import ModelError
from trainer.batch import Batch, KeypointTargets, ObjectTargets, Whole, counts
from trainer.losses import object_keypoint_similarity
from trainer.model.config import PoseConfig, PoseWeights
from trainer.model.decoders import DecoderLosses
from trainer.model.decoders.pose import PoseDecoder

MakePoseBatch = Callable[..., Batch]
WIDTH = 24
BOXES, POINTS = ("cls", "l1", "giou"), ("keypoints", "oks")


def build(config: PoseConfig | None = None) -> PoseDecoder:
    torch.manual_seed(0)
    return PoseDecoder(config or PoseConfig.tiny(), WIDTH)


def hidden(batch: Batch, num_queries: int = 4) -> torch.Tensor:
    """Return made-up hidden states for each routing token of the batch, the same for the same name."""
    table = torch.randn((60, num_queries, WIDTH), generator=torch.Generator().manual_seed(7))
    row, position = batch.groups_G2.unbind(1)
    return table[batch.input_ids_BL[row, position - 1]]


def losses_of(decoder: PoseDecoder, batch: Batch, seed: int = 0) -> DecoderLosses:
    losses: DecoderLosses = decoder(hidden(batch), batch, torch.Generator().manual_seed(seed))
    return losses


def with_keypoints(batch: Batch, change: Callable[[KeypointTargets], KeypointTargets]) -> Batch:
    def changed(target: ObjectTargets) -> ObjectTargets:
        assert target.keypoints is not None
        return replace(target, keypoints=change(target.keypoints))

    return replace(batch, targets=tuple(map(changed, batch.targets)))


def similarity(decoder: PoseDecoder, batch: Batch) -> list[float]:
    """Return the OKS of each object with the best of its sample's predictions."""
    result = []
    with torch.no_grad():
        predictions = decoder.predict(hidden(batch), batch, top_k=3)
    for found, target, (height, width) in zip(predictions, batch.targets, batch.original_sizes, strict=True):
        keypoints = target.keypoints
        assert keypoints is not None
        oks_Kn = object_keypoint_similarity(
            found.keypoints_KJ3[:, None, :, :2] / torch.tensor([width, height]),
            keypoints.points_nK3[..., :2],
            keypoints.points_nK3[..., 2],
            keypoints.areas_n,
            keypoints.sigmas_K,
        )
        result += oks_Kn.amax(0).tolist()
    return result


def test_terms_are_summed_over_layers_and_listed_layer_by_layer(make_pose_batch: MakePoseBatch) -> None:
    losses = losses_of(build(), make_pose_batch())

    expected = {*BOXES, *POINTS, *(f"{t}_dn" for t in BOXES), *(f"{t}_enc" for t in BOXES)}
    assert set(losses.terms) == expected
    assert all(value > 0 for value in losses.detail.values())
    for term, layers in [*((t, range(4)) for t in BOXES), *((t, range(1, 4)) for t in POINTS)]:
        listed = {name for name in losses.detail if name.startswith(f"{term}_") and name[-1].isdigit()}
        assert listed >= {f"{term}_{layer}" for layer in layers}
        total = torch.stack([losses.detail[f"{term}_{layer}"] for layer in layers]).sum()
        torch.testing.assert_close(losses.terms[term].detach(), total)
    assert "keypoints_0" not in losses.detail


def test_every_parameter_has_a_gradient(make_pose_batch: MakePoseBatch) -> None:
    decoder = build()
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            # Heads whose last layer is zero pass no gradient on to those before it.
            if name.endswith("layers.2.weight"):
                parameter.normal_(std=0.02)

    torch.stack(list(losses_of(decoder, make_pose_batch()).terms.values())).sum().backward()

    missing = [name for name, parameter in decoder.named_parameters() if parameter.grad is None]
    still = [
        name
        for name, parameter in decoder.named_parameters()
        if ("first_head" in name or "size_head" in name or "point_head" in name)
        and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    assert missing == []
    assert still == []


@pytest.mark.parametrize("term", [*BOXES, *POINTS])
def test_a_weight_scales_its_term_and_no_other(make_pose_batch: MakePoseBatch, term: str) -> None:
    batch = make_pose_batch()
    usual = PoseConfig.tiny().weights
    weights = replace(usual, **{term: 3 * getattr(usual, term)})

    before = losses_of(build(), batch).terms
    after = losses_of(build(PoseConfig.tiny(weights=weights)), batch).terms

    for name, value in before.items():
        factor = 3 if name.split("_")[0] == term else 1
        torch.testing.assert_close(after[name], factor * value)


def test_defect_11_oks_has_a_weight_of_its_own(make_pose_batch: MakePoseBatch) -> None:
    batch = make_pose_batch()
    same = PoseWeights(keypoints=1.0, oks=1.0)
    papers = PoseWeights(keypoints=10.0, oks=4.0)

    plain = losses_of(build(PoseConfig.tiny(weights=same)), batch).terms
    weighted = losses_of(build(PoseConfig.tiny(weights=papers)), batch).terms

    torch.testing.assert_close(weighted["keypoints"], 10 * plain["keypoints"])
    torch.testing.assert_close(weighted["oks"], 4 * plain["oks"])


def test_the_default_sizes_weights_and_costs_are_the_papers() -> None:
    config = PoseConfig()

    expected = PoseWeights(cls=2, l1=5, giou=2, keypoints=10, oks=4)
    assert PoseWeights() == config.weights == config.costs == expected
    assert (config.num_instances, config.box_layers, config.decoder_layers, config.num_objects) == (
        50,
        2,
        6,
        900,
    )
    assert (config.max_groups, config.max_keypoints, config.denoising) == (100, 68, 100)
    assert (config.label_noise, config.box_noise, config.dropout) == (0.5, 1.0, 0.0)


def test_a_batch_is_learnt_by_heart(make_pose_batch: MakePoseBatch) -> None:
    batch = make_pose_batch(2, keypoints=(2, 2), objects=(1, 1))
    decoder = build(PoseConfig.tiny(denoising=0, encoder_layers=1, num_objects=12, num_instances=4))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=2e-3)

    before, losses = similarity(decoder, batch), []
    for step in range(100):
        loss = torch.stack(list(losses_of(decoder, batch, seed=step).terms.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))

    after = similarity(decoder, batch)
    assert losses[-1] < losses[0] / 4
    assert max(before) < 0.5
    assert min(after) > 0.6


def test_unused_slots_change_nothing(make_pose_batch: MakePoseBatch) -> None:
    decoder = build().eval()
    short, both = make_pose_batch(1, keypoints=(2,)), make_pose_batch(2, keypoints=(2, 4))
    first = hidden(both)[:3]
    # The first sample of both batches is the same: the second asks for more keypoints.
    assert short.images_B3HW is not None
    assert both.images_B3HW is not None
    both = replace(
        both,
        images_B3HW=torch.cat([short.images_B3HW, both.images_B3HW[1:]]),
        targets=(short.targets[0], both.targets[1]),
    )

    with torch.no_grad():
        (alone,) = decoder.predict(first, short, top_k=8)
        padded, other = decoder.predict(hidden(both), both, top_k=8)

    assert alone.keypoints_KJ3.shape == (8, 2, 3)
    assert other.keypoints_KJ3.shape == (8, 4, 3)
    torch.testing.assert_close(padded.boxes_K4, alone.boxes_K4, atol=1e-3, rtol=0)
    torch.testing.assert_close(padded.keypoints_KJ3, alone.keypoints_KJ3, atol=1e-3, rtol=0)


def test_a_batch_in_parts_has_the_losses_and_gradients_of_the_whole(make_pose_batch: MakePoseBatch) -> None:
    batch = make_pose_batch(3, keypoints=(2, 4, 3), objects=(2, 1, 0))
    # Noise is drawn for each part; without denoising nothing else differs.
    decoder = build(PoseConfig.tiny(denoising=0))

    whole = losses_of(decoder, batch)
    torch.stack(list(whole.terms.values())).sum().backward()
    expected = {name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None}
    decoder.zero_grad()
    sums: dict[str, float] = {}
    for b in range(3):
        part = losses_of(decoder, replace(part_of(batch, b), whole=Whole(counts_5=counts(batch).float())))
        torch.stack(list(part.terms.values())).sum().backward()
        for name, value in part.terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())

    assert counts(batch).tolist()[1] == counts(batch).tolist()[4] == 3
    assert sums == pytest.approx(
        {name: float(value.detach()) for name, value in whole.terms.items()}, rel=1e-4
    )
    for name, parameter in decoder.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=2e-3, rtol=2e-3)


def part_of(batch: Batch, b: int) -> Batch:
    """Return one sample of a batch."""
    mine = batch.groups_G2[:, 0] == b
    groups_G2 = batch.groups_G2[mine].clone()
    groups_G2[:, 0] = 0
    assert batch.images_B3HW is not None
    assert batch.pixel_mask_BHW is not None
    return replace(
        batch,
        sample_ids=batch.sample_ids[b : b + 1],
        input_ids_BL=batch.input_ids_BL[b : b + 1],
        labels_BL=batch.labels_BL[b : b + 1],
        groups_G2=groups_G2,
        group_tokens=tuple(
            token for token, one in zip(batch.group_tokens, mine.tolist(), strict=True) if one
        ),
        images_B3HW=batch.images_B3HW[b : b + 1],
        pixel_mask_BHW=batch.pixel_mask_BHW[b : b + 1],
        targets=batch.targets[b : b + 1],
        original_sizes=batch.original_sizes[b : b + 1],
    )


def test_invisible_keypoints_count_nowhere(make_pose_batch: MakePoseBatch) -> None:
    batch = make_pose_batch()

    def hide(keypoints: KeypointTargets, x: float) -> KeypointTargets:
        points = keypoints.points_nK3.clone()
        points[:, 1] = torch.tensor([x, x, 0.0])
        return replace(keypoints, points_nK3=points)

    here = losses_of(build(), with_keypoints(batch, lambda k: hide(k, 0.1))).terms
    there = losses_of(build(), with_keypoints(batch, lambda k: hide(k, 0.9))).terms

    seen = losses_of(build(), batch).terms
    assert here["keypoints"] < seen["keypoints"]
    for name, value in here.items():
        torch.testing.assert_close(there[name], value)


def test_objects_without_a_visible_keypoint_still_teach_boxes(make_pose_batch: MakePoseBatch) -> None:
    batch = with_keypoints(make_pose_batch(), lambda k: replace(k, points_nK3=torch.zeros_like(k.points_nK3)))

    losses = losses_of(build(), batch)

    assert float(losses.terms["keypoints"].detach()) == float(losses.terms["oks"].detach()) == 0
    assert losses.terms["l1"] > 0
    assert counts(batch)[4] == 0


def test_a_picture_without_objects_only_teaches_what_is_absent(make_pose_batch: MakePoseBatch) -> None:
    decoder = build()

    losses = losses_of(decoder, make_pose_batch(2, objects=(0, 0)))
    torch.stack(list(losses.terms.values())).sum().backward()

    assert losses.terms["cls"] > 0
    assert {name for name, value in losses.terms.items() if value > 0} == {"cls", "cls_enc"}


def test_predictions_lie_on_the_original_picture_best_first(make_pose_batch: MakePoseBatch) -> None:
    batch = replace(make_pose_batch(), original_sizes=((300, 200), (64, 1000)))

    found = build().predict(hidden(batch), batch, top_k=6)

    assert len(found) == 2
    for one, (height, width) in zip(found, batch.original_sizes, strict=True):
        assert one.boxes_K4.shape == (6, 4)
        assert one.keypoints_KJ3.shape == (6, 4, 3)
        assert (one.boxes_K4 <= torch.tensor([width, height, width, height])).all()
        assert (one.keypoints_KJ3[..., :2] <= torch.tensor([width, height])).all()
        assert one.scores_K.tolist() == sorted(one.scores_K.tolist(), reverse=True)
        assert one.labels_K.tolist() == [0] * 6
        torch.testing.assert_close(one.keypoints_KJ3[..., 2], one.scores_K[:, None].expand(-1, 4))


def test_keypoints_are_reported_in_the_order_in_which_they_were_asked_for(
    make_pose_batch: MakePoseBatch,
) -> None:
    batch = make_pose_batch(1)
    # Without positions of their own, keypoints are told apart by their vectors alone.
    decoder = build().eval()
    with torch.no_grad():
        for name, parameter in decoder.transformer.named_parameters():
            if name == "first_head.layers.2.weight":
                parameter.normal_(std=0.3)
    order = [0, 2, 3, 4, 1]

    (plain,) = decoder.predict(hidden(batch), batch)
    (turned,) = decoder.predict(hidden(batch)[order], batch)

    assert plain.keypoints_KJ3[0, :, :2].std(0).min() > 0.2
    expected = plain.keypoints_KJ3[:, [place - 1 for place in order[1:]]]
    torch.testing.assert_close(turned.keypoints_KJ3, expected, atol=1e-2, rtol=0)


def test_defect_10_one_query_a_token_keeps_objects_and_keypoints_apart(
    make_pose_batch: MakePoseBatch,
) -> None:
    batch = make_pose_batch(2, keypoints=(2, 3), num_queries=1)
    decoder = build(PoseConfig.tiny(num_queries=1))

    asked = decoder._asked(hidden(batch, 1), batch)

    assert asked.group_mask_BM.tolist() == [[True], [True]]
    assert asked.keypoint_mask_BK.tolist() == [[True, True, False], [True, True, True]]
    keypoints = decoder.keypoint_projection(hidden(batch, 1))
    torch.testing.assert_close(asked.keypoints_BKD[1], keypoints[-3:])
    torch.testing.assert_close(asked.vectors_BMD[1, 0], decoder.projection(hidden(batch, 1))[3])
    terms = decoder(hidden(batch, 1), batch, torch.Generator().manual_seed(0)).terms
    assert all(torch.isfinite(value) for value in terms.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_keypoints": 3},
            r"#keypoints: 4 routing tokens for the pose decoder's keypoints, expected 1 to 3",
        ),
        ({"max_groups": 0}, r"#keypoints: 1 routing tokens for the pose decoder's objects, expected 1 to 0"),
    ],
)
def test_too_many_groups_are_an_error_that_names_the_sample(
    make_pose_batch: MakePoseBatch, options: dict[str, int], message: str
) -> None:
    batch = make_pose_batch(2, keypoints=(2, 4))

    with pytest.raises(ModelError, match=message):
        losses_of(build(PoseConfig.tiny(**options)), batch)


def test_a_sample_that_asks_for_no_keypoint_is_an_error_that_names_it(
    make_pose_batch: MakePoseBatch,
) -> None:
    batch = make_pose_batch(2, keypoints=(2, 0))

    with pytest.raises(ModelError, match=r"0-1#keypoints: 0 routing tokens for the pose decoder's keypoints"):
        losses_of(build(), batch)


def test_unknown_and_ill_typed_options_are_refused() -> None:
    with pytest.raises(ModelError, match="pose: unknown key 'num_instance'"):
        PoseDecoder.build({"num_instance": 3}, WIDTH)
    with pytest.raises(ModelError, match=r"pose: .*num_instances"):
        PoseDecoder.build({"num_instances": "many"}, WIDTH)
    with pytest.raises(ModelError, match="box_layers is 4, expected 1 to 3"):
        build(PoseConfig.tiny(box_layers=4))
