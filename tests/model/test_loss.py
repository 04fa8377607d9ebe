import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from recbole_llm.model.loss import (
    Factored,
    bpr_loss,
    cross_modal_loss,
    full_softmax_loss,
    info_nce,
    l2_loss,
    log_sum_exp_dot,
    ranking_loss,
    sampled_softmax_loss,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_bpr_by_hand():
    pos, neg = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 0.0])
    expected = (np.log1p(np.exp(-2.0)) + np.log(2.0)) / 2
    assert bpr_loss(pos, neg).item() == pytest.approx(expected)


def test_bpr_gradient():
    pos, neg = normal(5).requires_grad_(), normal(5, seed=1).requires_grad_()
    assert gradcheck(bpr_loss, (pos, neg))


def test_bpr_still_learns_where_the_order_is_hopelessly_wrong():
    # log(1e-10 + sigmoid(x)) has lost its gradient here
    pos = torch.tensor([-50.0], requires_grad=True)
    loss = bpr_loss(pos, torch.zeros(1))
    loss.backward()
    assert loss.item() == pytest.approx(50.0)
    assert pos.grad.item() == pytest.approx(-1.0)


def test_l2_by_hand():
    user, item = torch.tensor([[1.0, 2.0], [0.0, 3.0]]), torch.tensor([[4.0, 0.0], [0.0, 0.0]])
    assert l2_loss(user, item).item() == pytest.approx((1 + 4 + 9 + 16) / 2 / 2)


def test_l2_gradient_and_dtype():
    rows = normal(3, 2).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    assert gradcheck(l2_loss, rows)
    assert l2_loss(*rows).dtype == torch.float64


def test_ranking_loss_is_bpr_of_inner_products_and_l2_of_the_same_rows():
    user, pos, neg = (torch.tensor(row) for row in ([[1.0, 2.0]], [[3.0, 0.0]], [[0.0, 1.0]]))
    expected = np.log1p(np.exp(-(3.0 - 2.0))) + 0.1 * (1 + 4 + 9 + 1) / 2
    assert ranking_loss(user, pos, neg, 0.1).item() == pytest.approx(expected)


def info_nce_in_numpy(
    anchor: np.ndarray, positive: np.ndarray, candidates: np.ndarray, temperature: float
) -> float:
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (anchor, positive, candidates)]
    losses = []
    for a, p in zip(unit[0], unit[1], strict=True):
        total = sum(np.exp(np.longdouble(a @ c / temperature)) for c in unit[2])
        losses.append(np.log(total) - a @ p / temperature)
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
def test_info_nce_equals_numpy(temperature: float):
    anchor, positive, candidates = normal(4, 3), normal(4, 3, seed=1), normal(9, 3, seed=2)
    expected = info_nce_in_numpy(anchor.numpy(), positive.numpy(), candidates.numpy(), temperature)
    found = info_nce(anchor, positive, candidates, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_info_nce_of_one_candidate_that_is_the_positive_is_zero():
    anchor, positive = normal(1, 3), normal(1, 3, seed=1)
    assert info_nce(anchor, positive, positive, 0.2).item() == pytest.approx(0.0, abs=1e-12)


def test_info_nce_gradients():
    anchor, positive, candidates = normal(4, 3), normal(4, 3, seed=1), normal(7, 3, seed=2)
    inputs = [x.requires_grad_() for x in (anchor, positive, candidates)]
    assert gradcheck(lambda a, p, c: info_nce(a, p, c, 0.3), inputs)


def test_info_nce_gradients_where_anchors_are_candidates():
    emb, level = normal(5, 3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()

    def loss(emb: Tensor, level: Tensor) -> Tensor:
        return info_nce(emb[:2], level[:2], torch.cat([level, emb]), 0.3)

    assert gradcheck(loss, (emb, level))


def test_info_nce_is_finite_when_every_candidate_is_opposite():
    anchor = torch.tensor([[1.0, 0.0]], requires_grad=True)
    candidates = torch.tensor([[-1.0, 0.0], [-1.0, 0.0]])
    loss = info_nce(anchor, candidates[:1], candidates, temperature=0.025)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2), rel=1e-4)
    assert torch.isfinite(anchor.grad).all()


def test_full_softmax_loss_is_torch_s_cross_entropy():
    states, table = normal(6, 3) * 20, normal(5, 3, seed=1) * 20  # logits far beyond exp's range
    target = torch.tensor([0, 4, 2, 2, 1, 3])
    expected = torch.nn.functional.cross_entropy(states @ table.T, target)
    assert full_softmax_loss(states, table, target).item() == pytest.approx(expected.item())


def test_full_softmax_loss_gradients():
    states, table = normal(4, 3).requires_grad_(), normal(5, 3, seed=1).requires_grad_()
    target = torch.tensor([0, 4, 2, 2])
    assert gradcheck(lambda s, t: full_softmax_loss(s, t, target), (states, table))


# d <= 64 goes 64 queries at a time, wider vectors in one matrix
@pytest.mark.parametrize("n_queries", [1, 64, 150])
@pytest.mark.parametrize("width", [1, 3, 64, 65, 80])
def test_log_sum_exp_dot_equals_torch(width: int, n_queries: int):
    query, candidates = 20 * normal(n_queries, width), normal(9, width, seed=1)
    ours = [x.clone().requires_grad_() for x in (query, candidates)]
    torchs = [x.clone().requires_grad_() for x in (query, candidates)]
    found = log_sum_exp_dot(*ours)
    expected = (torchs[0] @ torchs[1].T).logsumexp(dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    scale = normal(n_queries, seed=2)
    found.backward(scale)
    expected.backward(scale)
    for one, other in zip(ours, torchs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("width", [3, 65])
def test_log_sum_exp_dot_is_finite_far_beyond_the_range_of_exp(width: int):
    query = torch.full((70, width), 100.0, requires_grad=True)
    candidates = torch.tensor([[1.0], [-1.0]]).repeat(1, width) * 10
    found = log_sum_exp_dot(query, candidates)
    torch.testing.assert_close(found, torch.full((70,), 1000.0 * width))
    found.sum().backward()
    torch.testing.assert_close(query.grad, torch.full((70, width), 10.0))


@pytest.mark.parametrize("width", [3, 65])
def test_log_sum_exp_dot_leaves_its_inputs(width: int):
    query, candidates = normal(70, width).requires_grad_(), normal(5, width).requires_grad_()
    before = query.detach().clone(), candidates.detach().clone()
    log_sum_exp_dot(query, candidates).sum().backward()
    assert torch.equal(query, before[0]) and torch.equal(candidates, before[1])


CONTRASTED_USERS, CONTRASTED_ITEMS, TAU = 5, 7, 0.3
USER, ITEM = torch.tensor([1, 4, 4, 2]), torch.tensor([3, 6, 1, 6])


def cross_modal_in_numpy(views: list[np.ndarray]) -> float:
    """Each batch row's user and item, in each pair of views, against all users or all items."""
    total = 0.0
    users = range(1, CONTRASTED_USERS)
    items = range(CONTRASTED_USERS + 1, CONTRASTED_USERS + CONTRASTED_ITEMS)
    for m, first in enumerate(views):
        for second in views[m + 1 :]:

            def similarity(
                a: int, b: int, first: np.ndarray = first, second: np.ndarray = second
            ) -> float:
                norms = np.linalg.norm(first[a]) * np.linalg.norm(second[b])
                return first[a] @ second[b] / norms / TAU

            for nodes, others in (
                (USER.tolist(), users),
                ((ITEM + CONTRASTED_USERS).tolist(), items),
            ):
                for node in nodes:
                    candidates = sum(np.exp(similarity(node, other)) for other in others)
                    total -= np.log(np.exp(similarity(node, node)) / candidates)
    return total


def contrast(views: list[Tensor | Factored]) -> Tensor:
    return cross_modal_loss(views, USER, ITEM, CONTRASTED_USERS, TAU)


def dense_views(n: int, width: int = 3) -> list[Tensor]:
    n_nodes = CONTRASTED_USERS + CONTRASTED_ITEMS
    return [normal(n_nodes, width, seed=seed) for seed in range(n)]


@pytest.mark.parametrize("n_views", [2, 3])
def test_cross_modal_loss_equals_numpy(n_views: int):
    views = dense_views(n_views)
    expected = cross_modal_in_numpy([view.numpy() for view in views])
    assert contrast(views).item() == pytest.approx(expected, rel=1e-12)


def test_cross_modal_loss_gradients():
    views = [view.requires_grad_() for view in dense_views(3)]
    assert gradcheck(lambda *views: contrast(views), views)


def test_cross_modal_loss_has_no_padding_among_its_candidates():
    views = dense_views(2)
    before = contrast(views)
    for view in views:
        view[[0, CONTRASTED_USERS]] = normal(2, 3, seed=9)
        view.requires_grad_()
    after = contrast(views)
    assert torch.equal(after, before)
    after.backward()
    for view in views:
        assert not view.grad[[0, CONTRASTED_USERS]].any()


@pytest.mark.parametrize(("rank", "width"), [(2, 5), (4, 3)])
def test_cross_modal_loss_of_factored_views_is_that_of_dense_ones(rank: int, width: int):
    n_nodes = CONTRASTED_USERS + CONTRASTED_ITEMS
    parts = [(normal(n_nodes, rank, seed=s), normal(rank, width, seed=s + 9)) for s in range(3)]
    losses, grads = [], []
    for dense in (False, True):
        views = [Factored(*(part.clone().requires_grad_() for part in pair)) for pair in parts]
        loss = contrast([view.dense() for view in views] if dense else views)
        loss.backward()
        losses.append(loss)
        grads.append([part.grad for view in views for part in view])
    expected = cross_modal_in_numpy([(coords @ basis).numpy() for coords, basis in parts])
    assert losses[0].item() == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(losses[0], losses[1])
    for factored, dense in zip(*grads, strict=True):
        torch.testing.assert_close(factored, dense, rtol=1e-9, atol=1e-12)


def test_cross_modal_loss_of_a_node_in_no_hyperedge_is_finite():
    n_nodes = CONTRASTED_USERS + CONTRASTED_ITEMS
    coords = normal(n_nodes, 2)
    coords[[4, CONTRASTED_USERS + 3]] = 0
    views = [Factored(coords.clone().requires_grad_(), normal(2, 3, seed=s)) for s in range(2)]
    loss = contrast(views)
    assert loss.item() == pytest.approx(contrast([view.dense() for view in views]).item())
    loss.backward()
    assert all(view.coords.grad.isfinite().all() for view in views)


def test_cross_modal_loss_of_one_view_is_zero():
    assert contrast(dense_views(1)).item() == 0


def test_sampled_softmax_equals_the_sum_over_its_classes():
    torch.manual_seed(0)
    query, table = torch.randn(600, 3).double(), torch.randn(7, 3).double()
    target, negatives = torch.randint(7, (600,)), torch.randint(7, (600, 4))
    query.requires_grad_()
    table.requires_grad_()
    found = sampled_softmax_loss(query, table, target, negatives)
    expected = torch.stack(
        [
            torch.logsumexp(table[torch.cat([t[None], n])] @ q, dim=0) - table[t] @ q
            for q, t, n in zip(query, target, negatives, strict=True)
        ]
    ).mean()
    torch.testing.assert_close(found, expected)
    for first, second in zip(
        torch.autograd.grad(found, [query, table]),
        torch.autograd.grad(expected, [query, table]),
        strict=True,
    ):
        torch.testing.assert_close(first, second)
