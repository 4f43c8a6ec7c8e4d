from __future__ import annotations

import pytest
import torch

from trainer.model.config import PoseConfig
from trainer.model.decoders.denoise import Denoising
from trainer.model.decoders.pose_transformer import PoseTransformer, visible_tokens

MASK = torch.tensor([[True, True, True], [True, False, False]])


@pytest.fixture(scope="module")
def transformer() -> PoseTransformer:
    """The tiny transformer with random weights, none of them zero, in evaluation mode."""
    torch.manual_seed(0)
    transformer = PoseTransformer(PoseConfig.tiny(num_objects=12, num_instances=5)).eval()
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if name.endswith("_head.layers.2.weight"):
                parameter.normal_(std=0.2)
    return transformer


def denoising(num_samples: int) -> Denoising:
    """Two repeats of one positive and one negative query."""
    generator = torch.Generator().manual_seed(5)
    yes = torch.ones((num_samples, 4), dtype=torch.bool)
    return Denoising(
        content_BJD=torch.randn((num_samples, 4, 64), generator=generator),
        boxes_BJ4=torch.rand((num_samples, 4, 4), generator=generator),
        valid_BJ=yes,
        positive_BJ=yes,
        target_BJ=torch.zeros((num_samples, 4), dtype=torch.long),
        repeat_J=torch.tensor([0, 0, 1, 1]),
        num_repeats=2,
    )


def inputs(num_samples: int = 2) -> tuple[torch.Tensor, ...]:
    """Return pictures, their mask, class vectors, their mask, and keypoint vectors (for a mask of three slots)."""
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn((num_samples, 3, 64, 64), generator=generator),
        torch.ones((num_samples, 64, 64), dtype=torch.bool),
        torch.randn((num_samples, 2, 64), generator=generator),
        torch.ones((num_samples, 2), dtype=torch.bool),
        torch.randn((num_samples, 3, 64), generator=generator),
    )


def test_keypoints_see_their_instance_and_boxes_each_other() -> None:
    allowed = visible_tokens(torch.tensor([[True, True]]), 2, None)[0]

    # A box and two keypoints, twice.
    assert allowed.int().tolist() == [
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
    ]


def test_unused_slots_are_seen_by_themselves_alone() -> None:
    allowed = visible_tokens(MASK, 2, denoising(2))

    tokens = [4 + 4 * instance + slot for instance in range(2) for slot in (2, 3)]
    for token in tokens:
        assert allowed[1, :, token].nonzero().flatten().tolist() == [token]
        assert allowed[0, :, token].sum() == 4
    assert allowed.any(-1).all()


def test_denoising_queries_see_boxes_and_are_not_seen() -> None:
    allowed = visible_tokens(MASK, 2, denoising(2))

    assert not allowed[:, 4:, :4].any()
    assert allowed[0, :4, :4].int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert allowed[0, 0, 4:].nonzero().flatten().tolist() == [0, 4]


def test_layers_find_boxes_first_and_keypoints_of_the_best_then(transformer: PoseTransformer) -> None:
    with torch.no_grad():
        output = transformer(*inputs(), MASK)

    assert [found.boxes_BX4.shape for found in output.objects] == [(2, 12, 4)]
    assert [found.points_BIK2 is None for found in output.objects] == [True]
    assert [found.boxes_BX4.shape for found in output.instances] == [(2, 5, 4)] * 3
    assert [
        tuple(found.points_BIK2.shape) for found in output.instances if found.points_BIK2 is not None
    ] == [(2, 5, 3, 2)] * 3
    assert output.num_denoising == 0


def test_the_instances_are_the_objects_with_the_best_class(transformer: PoseTransformer) -> None:
    seen: list[torch.Tensor] = []
    expand = transformer._expand

    def spy(*arguments: object) -> object:
        tokens = expand(*arguments)  # type: ignore[arg-type]
        seen.append(tokens.boxes_BX4)
        queries, best = arguments[0], arguments[1]
        assert isinstance(best, torch.Tensor)
        order = best.argsort(dim=1, descending=True)[:, :5, None]
        boxes = queries.boxes_BQ4  # type: ignore[attr-defined]
        torch.testing.assert_close(tokens.boxes_BX4, boxes.gather(1, order.expand(-1, -1, 4)))
        return tokens

    transformer._expand = spy  # type: ignore[assignment,method-assign]
    try:
        with torch.no_grad():
            transformer(*inputs(), MASK)
    finally:
        del transformer._expand
    assert len(seen) == 1


def test_keypoints_start_where_their_vector_says_in_sides_of_the_box(transformer: PoseTransformer) -> None:
    *_, vectors = inputs()
    with torch.no_grad():
        offset, part = transformer.first_head(vectors).split(2, -1)
        seen = []
        expand = transformer._expand
        transformer._expand = lambda *a: seen.append(expand(*a)) or seen[-1]  # type: ignore[method-assign,func-returns-value]
        try:
            transformer(*inputs(), MASK)
        finally:
            del transformer._expand

    (tokens,) = seen
    center, side = tokens.boxes_BX4[:, :, None].split(2, -1)
    torch.testing.assert_close(tokens.points_BIK2, center + offset[:, None] * side)
    torch.testing.assert_close(tokens.sizes_BIK2, part.sigmoid()[:, None] * side)
    assert offset.abs().max() > 0.05


def test_denoising_queries_do_not_change_the_instances(transformer: PoseTransformer) -> None:
    with torch.no_grad():
        plain = transformer(*inputs(), MASK)
        noisy = transformer(*inputs(), MASK, denoising(2))

    assert noisy.num_denoising == 4
    for before, after in zip(plain.instances, noisy.instances, strict=True):
        assert before.points_BIK2 is not None
        assert after.points_BIK2 is not None
        torch.testing.assert_close(after.boxes_BX4[:, 4:], before.boxes_BX4, atol=1e-5, rtol=0)
        torch.testing.assert_close(after.points_BIK2, before.points_BIK2, atol=1e-5, rtol=0)


def test_an_instance_does_not_see_the_keypoints_of_another(transformer: PoseTransformer) -> None:
    """In one layer no news of another's keypoint arrives; a further one may bring it through the boxes."""
    *pictures, vectors = inputs(1)
    expand = transformer._expand

    def found(shift: float) -> list[torch.Tensor]:
        def moved(*arguments: object) -> object:
            tokens = expand(*arguments)  # type: ignore[arg-type]
            tokens.states_BTD[:, 1:4] += shift  # the keypoints of the first instance
            return tokens

        transformer._expand = moved  # type: ignore[assignment,method-assign]
        try:
            with torch.no_grad():
                output = transformer(*pictures, vectors, MASK[:1])
        finally:
            del transformer._expand
        return [layer.points_BIK2 for layer in output.instances if layer.points_BIK2 is not None]

    before, after = found(0.0), found(1.0)

    assert not torch.allclose(after[0][:, 0], before[0][:, 0], atol=1e-3)
    torch.testing.assert_close(after[0][:, 1:], before[0][:, 1:], atol=1e-6, rtol=0)


def test_a_picture_with_fewer_positions_than_instances_gives_fewer(transformer: PoseTransformer) -> None:
    small = PoseTransformer(PoseConfig.tiny(num_objects=40, num_instances=30)).eval()
    images, mask, *rest = inputs()

    with torch.no_grad():
        output = small(images[:, :, :32, :32], mask[:, :32, :32], *rest, MASK)

    # 4 x 4, 2 x 2 and 1 x 1 positions.
    assert output.instances[-1].boxes_BX4.shape == (2, 21, 4)
