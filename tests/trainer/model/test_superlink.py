from __future__ import annotations

import pytest
import torch

from dataengine.errors import ModelError
from trainer.model.config import SuperLinkConfig
from trainer.model.superlink import PerceptionProjection, SuperLink, check_placeholders, gather_queries

GROUPS = torch.tensor([[0, 2], [1, 0], [1, 10]])


@pytest.mark.parametrize("num_queries", [1, 4, 8])
def test_queries_overwrite_the_positions_after_each_routing_token_and_no_other(num_queries: int) -> None:
    superlink = SuperLink(SuperLinkConfig(), {"detection": num_queries}, width=6)
    embeds = torch.zeros((2, 20, 6))

    result = superlink.insert(embeds, GROUPS, ["detection"] * 3)

    expected = torch.zeros((2, 20, 6))
    for sample, position in GROUPS.tolist():
        expected[sample, position + 1 : position + 1 + num_queries] = superlink.table("detection")
    torch.testing.assert_close(result, expected)
    assert embeds.abs().sum() == 0


def test_each_family_has_its_own_table() -> None:
    superlink = SuperLink(SuperLinkConfig(), {"detection": 4, "pose": 4}, width=6)

    result = superlink.insert(torch.zeros((2, 20, 6)), GROUPS, ["detection", "pose", "detection"])

    torch.testing.assert_close(result[1, 1:5], superlink.table("pose"))
    torch.testing.assert_close(result[1, 11:15], superlink.table("detection"))
    assert not torch.allclose(superlink.table("pose"), superlink.table("detection"))


def test_a_shared_table_serves_every_family() -> None:
    superlink = SuperLink(SuperLinkConfig(shared=True), {"detection": 4, "generation": 8}, width=6)

    assert [name for name, _ in superlink.named_parameters()] == ["tables.shared"]
    assert superlink.table("detection").shape == (4, 6)
    assert superlink.table("generation").shape == (8, 6)
    torch.testing.assert_close(superlink.table("generation")[:4], superlink.table("detection"))


def test_token_mode_keeps_the_vocabulary_embeddings() -> None:
    superlink = SuperLink(SuperLinkConfig(mode="token"), {"detection": 4}, width=6)
    embeds = torch.randn((2, 20, 6))

    assert torch.equal(superlink.insert(embeds, GROUPS, ["detection"] * 3), embeds)
    assert not list(superlink.parameters())


def test_gathering_reads_what_was_inserted() -> None:
    superlink = SuperLink(SuperLinkConfig(), {"detection": 4}, width=6)
    embeds = superlink.insert(torch.zeros((2, 20, 6)), GROUPS, ["detection"] * 3)

    gathered = gather_queries(embeds, GROUPS, 4)

    torch.testing.assert_close(gathered, superlink.table("detection").expand(3, 4, 6))


def test_gradient_reaches_the_table_from_every_group() -> None:
    superlink = SuperLink(SuperLinkConfig(), {"detection": 4}, width=6)

    superlink.insert(torch.zeros((2, 20, 6)), GROUPS, ["detection"] * 3).sum().backward()

    gradient = next(superlink.parameters()).grad
    torch.testing.assert_close(gradient, torch.full((4, 6), 3.0))


@pytest.mark.parametrize("following", [[50, 51, 9, 9], [50, 51, 52, 53]])
def test_a_wrong_number_of_placeholders_is_an_error_that_names_the_sample(following: list[int]) -> None:
    ids = torch.tensor([[7, *following, 9, 9]])

    with pytest.raises(ModelError, match=r"s1: . query placeholders follow the routing token at position 0"):
        check_placeholders(ids, torch.tensor([[0, 0]]), [3], (50, 51, 52, 53), ("s1",))


def test_the_right_number_of_placeholders_passes() -> None:
    ids = torch.tensor([[7, 50, 51, 52, 9], [9, 7, 50, 50, 50]])

    check_placeholders(ids, torch.tensor([[0, 0], [1, 1]]), [3, 3], (50, 51, 52, 53), ("s1", "s2"))


def test_a_group_is_the_mean_of_its_projected_queries() -> None:
    projection = PerceptionProjection(6, 5, 3)
    hidden = torch.randn((2, 4, 6))

    result = projection(hidden)

    each = torch.stack([projection(hidden[:, n : n + 1]) for n in range(4)])
    torch.testing.assert_close(result, each.mean(0))


def test_vectors_start_with_about_unit_variance() -> None:
    torch.manual_seed(0)
    projection = PerceptionProjection(128, 64, 64)

    vectors = projection(torch.randn((500, 1, 128)))

    assert 0.7 < vectors.std() < 1.4
