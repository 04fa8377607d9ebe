import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from recbole_llm.model.loss import bpr_loss, full_softmax_loss, info_nce, l2_loss


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
