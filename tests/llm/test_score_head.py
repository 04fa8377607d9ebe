import numpy as np
import pytest
import torch

from recbole_llm.llm.score_head import FrozenHead, FullHead, TiedHead, build_head

N_ITEMS, WIDTH, HIDDEN, NORM = 301, 12, 16, 5.0


@pytest.fixture
def table():
    rows = torch.randn(N_ITEMS, WIDTH, generator=torch.Generator().manual_seed(0))
    rows[0] = 0
    return rows / rows[1:].std()


@pytest.fixture
def states():
    rows = torch.randn(40, HIDDEN, generator=torch.Generator().manual_seed(1))
    return NORM * rows / rows.norm(dim=1, keepdim=True)


def build(kind, table, head_init=None):
    torch.manual_seed(2)
    return build_head(kind, table, HIDDEN, NORM, seed=3, head_init=head_init)


def test_tied_scores_and_loss_in_numpy(table, states):
    head = build("tied", table)
    assert isinstance(head, TiedHead)
    with torch.no_grad():
        head.bias.add_(torch.randn(N_ITEMS, generator=torch.Generator().manual_seed(4)))
    weight, bias = (p.detach().double().numpy() for p in (head.weight, head.bias))
    rows, items = states.double().numpy(), table.double().numpy()
    expected = np.array([[item @ (weight @ row) for item in items] for row in rows]) + bias
    np.testing.assert_allclose(head(states).detach(), expected, atol=1e-5)
    target = np.arange(1, 41)
    real = expected[:, 1:]  # the padding item is no class
    losses = np.log(np.exp(real).sum(1)) - real[np.arange(40), target - 1]
    loss = head.loss(states, torch.from_numpy(target))
    assert loss.item() == pytest.approx(losses.mean(), rel=1e-6)
    loss.backward()
    assert head.bias.grad[0] == 0 and head.bias.grad[1:].abs().min() > 0


def test_tied_scores_start_with_a_deviation_of_one_half(table, states):
    found = build("tied", table)(states)[:, 1:]
    assert found.std().item() == pytest.approx(0.5, rel=0.2)
    assert {n for n, _ in build("tied", table).named_parameters()} == {"weight", "bias"}


def test_full_head_started_at_items_scores_like_items_alike(table, states):
    table[2] = table[1] * 3
    head = build("full", table)
    assert isinstance(head, FullHead)
    found = head(states)[:, 1:]
    torch.testing.assert_close(found[:, 0], found[:, 1])
    assert found.abs().max() <= 1.0 + 1e-5  # cosines
    weight = head.weight.detach()
    torch.testing.assert_close(head(states), states @ weight.T)
    # A rotation keeps the angles between the items.
    cosine = torch.cosine_similarity(table[3], table[4:9])
    torch.testing.assert_close(torch.cosine_similarity(weight[3], weight[4:9]), cosine)


@pytest.mark.parametrize(("kind", "init"), [("full", "random"), ("frozen", None)])
def test_random_heads_are_uniform_in_one_over_the_root_of_the_width(table, kind, init):
    rows = build(kind, table, init).table().detach()
    bound = 1 / HIDDEN**0.5
    assert rows.shape == (N_ITEMS, HIDDEN)
    assert 0.99 * bound < rows.abs().max() <= bound * (1 + 2**-8)
    assert rows.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_frozen_head_follows_its_seed_and_is_never_trained(table, states):
    first, again = FrozenHead(N_ITEMS, HIDDEN, 3), FrozenHead(N_ITEMS, HIDDEN, 3)
    other = FrozenHead(N_ITEMS, HIDDEN, 4)
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)
    assert torch.equal(first.weight, first.weight.bfloat16().float())
    assert not list(first.parameters()) and not first.state_dict()
    states.requires_grad_()
    first.loss(states, torch.arange(1, 41)).backward()
    assert states.grad.abs().max() > 0
