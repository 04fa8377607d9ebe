import pytest
import torch
import torch.nn.functional as F

from recbole_llm.llm.cross_entropy import catalogue_cross_entropy


def draw(n, c, k, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    query, table, bias = (
        torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()
        for shape in ((n, k), (c, k), (c,))
    )
    return query, table, bias, torch.randint(c, (n,), generator=generator)


@pytest.mark.parametrize("n_logits", [1, 26, 39, 10**6])  # one, two, three rows, and all at a time
@pytest.mark.parametrize("with_bias", [True, False])
def test_loss_and_gradients_equal_torchs(n_logits, with_bias):
    query, table, bias, target = draw(7, 13, 5)
    bias = bias if with_bias else None
    inputs = [query, table, *([bias] if with_bias else [])]
    found = catalogue_cross_entropy(query, table, bias, target, n_logits)
    logits = query @ table.T + (bias if with_bias else 0.0)
    expected = F.cross_entropy(logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(3 * found, inputs)
    for grad, reference in zip(grads, torch.autograd.grad(3 * expected, inputs), strict=True):
        torch.testing.assert_close(grad, reference, rtol=1e-10, atol=1e-12)


def test_gradcheck():
    query, table, bias, target = draw(5, 4, 3)
    assert torch.autograd.gradcheck(
        lambda *inputs: catalogue_cross_entropy(*inputs, target, 8), (query, table, bias)
    )


def test_only_what_is_trained_gets_a_gradient():
    query, table, bias, target = draw(5, 4, 3)
    catalogue_cross_entropy(query, table.detach(), bias, target).backward()
    assert query.grad is not None and bias.grad is not None and table.grad is None
    with torch.no_grad():
        assert not catalogue_cross_entropy(query, table, bias, target).requires_grad


def test_large_logits_do_not_overflow():
    query = torch.full((2, 1), 1000.0, requires_grad=True)
    table = torch.tensor([[1.0], [-1.0], [0.5]])
    loss = catalogue_cross_entropy(query, table, None, torch.tensor([0, 2]))
    loss.backward()
    assert loss.item() == pytest.approx(250.0)
    assert torch.isfinite(query.grad).all()


def test_half_precision_and_autocast_are_computed_in_float32():
    query, table, bias, target = draw(7, 13, 5, torch.float32)
    with torch.no_grad():
        query.copy_(query.bfloat16().float())
    expected = catalogue_cross_entropy(query, table, bias, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(catalogue_cross_entropy(query, table, bias, target), expected)
    found = catalogue_cross_entropy(query.bfloat16(), table, bias, target)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_no_matrix_of_targets_by_items_exists_at_once():
    query, table, bias, target = draw(64, 50, 3)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            found = func(*args, **(kwargs or {}))
            sizes = [
                t.numel() for t in torch.utils._pytree.tree_leaves(found) if torch.is_tensor(t)
            ]
            largest = max([largest, *sizes])
            return found

    with Watch():
        catalogue_cross_entropy(query, table, bias, target, n_logits=200).backward()
    assert largest == 200  # of 3,200


@pytest.mark.gpu
def test_loss_and_gradients_on_a_gpu():
    results = []
    for device in ("cpu", "cuda"):
        *inputs, target = draw(7, 13, 5)
        leaves = [part.detach().to(device).requires_grad_() for part in inputs]
        loss = catalogue_cross_entropy(*leaves, target.to(device), 26)
        loss.backward()
        results.append([loss, *(leaf.grad for leaf in leaves)])
    for on_cpu, on_gpu in zip(*results, strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-10, atol=1e-12)
