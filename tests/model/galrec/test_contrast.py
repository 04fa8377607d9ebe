"""Queue, contrast and momentum against plain numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from recbole_llm.llm.backbone import load_backbone
from recbole_llm.llm.lora import add_lora
from recbole_llm.model.galrec.contrast import KeyQueue, MomentumWeights


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def contrast_by_hand(anchor, positive, nodes, keys, key_nodes, temperature):
    anchor, positive, keys = unit(anchor), unit(positive), unit(keys)
    losses = []
    for a, p, node in zip(anchor, positive, nodes, strict=True):
        others = [k for k, other in zip(keys, key_nodes, strict=True) if other not in (0, node)]
        exps = [np.exp(a @ k / temperature) for k in [p, *others]]
        losses.append(-np.log(exps[0] / sum(exps)))
    return np.mean(losses)


def random_rows(n, width=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


def test_contrast_equals_numpy_with_gradients_on_both_sides():
    queue = KeyQueue(6, 5)
    keys, key_nodes = random_rows(4, seed=1), np.array([7, 2, 9, 2])
    queue.push(torch.from_numpy(keys), torch.from_numpy(key_nodes))  # two slots stay empty
    anchor, positive = (torch.from_numpy(random_rows(3, seed=s)).requires_grad_() for s in (2, 3))
    nodes = np.array([2, 9, 4])
    found = queue.contrast(anchor, positive, torch.from_numpy(nodes), 0.3)
    arrays = anchor.detach().numpy(), positive.detach().numpy()
    expected = contrast_by_hand(*arrays, nodes, keys, key_nodes, 0.3)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()
    step = 1e-4
    for tensor, index in ((anchor, 0), (positive, 1)):
        moved = [array.copy() for array in arrays]
        moved[index][1, 2] += step
        slope = (contrast_by_hand(*moved, nodes, keys, key_nodes, 0.3) - expected) / step
        assert tensor.grad[1, 2].item() == pytest.approx(slope, abs=1e-3)


def test_an_empty_queue_contrasts_nothing():
    anchor = torch.randn(3, 5, requires_grad=True)
    loss = KeyQueue(4, 5).contrast(anchor, torch.randn(3, 5), torch.tensor([1, 2, 3]), 0.1)
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(anchor.grad).all()


def test_queue_is_first_in_first_out_round_its_end():
    queue, held = KeyQueue(5, 3), []
    rng = np.random.default_rng(0)
    for step, n in enumerate((2, 2, 3, 5, 7, 1)):
        keys, nodes = rng.normal(size=(n, 3)), np.arange(n) + 10 * step + 1
        queue.push(torch.from_numpy(keys), torch.from_numpy(nodes))
        held = (held + list(zip(nodes.tolist(), unit(keys), strict=True)))[-5:]
        found = {
            node: key
            for node, key in zip(queue.nodes.tolist(), queue.keys.numpy(), strict=True)
            if node
        }
        assert found.keys() == {node for node, _ in held}
        for node, key in held:
            np.testing.assert_allclose(found[node], key, rtol=1e-5)


def test_oldest_slot_is_the_next_to_go():
    queue = KeyQueue(3, 2)
    for node in range(1, 6):
        queue.push(torch.ones(1, 2), torch.tensor([node]))
    assert sorted(queue.nodes.tolist()) == [3, 4, 5]
    assert int(queue.nodes[queue.cursor]) == 3


def test_bad_sizes():
    with pytest.raises(ValueError, match="queue_size must be an integer >= 1, got queue_size=0"):
        KeyQueue(0, 3)
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\], got momentum=1.5"):
        MomentumWeights(nn.Linear(2, 2), 1.5)


def test_momentum_update_is_exact():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    module[0].requires_grad_(False)
    slow = MomentumWeights(module, 0.9)
    assert slow.names == ["1.weight", "1.bias"]  # what is frozen is not copied
    expected = module[1].weight.detach().numpy().copy()
    for _ in range(3):
        with torch.no_grad():
            module[1].weight.add_(torch.randn(2, 4, dtype=torch.float64))
        slow.update(module)
        expected = 0.9 * expected + 0.1 * module[1].weight.detach().numpy()
    np.testing.assert_allclose(slow.get_buffer("1/weight").numpy(), expected, rtol=1e-12)
    x = torch.randn(5, 3, dtype=torch.float64)
    inner = module[0](x).numpy()
    by_hand = inner @ expected.T + module[1].bias.detach().numpy()
    found = slow.call(module, x)
    np.testing.assert_allclose(found.numpy(), by_hand, rtol=1e-12)
    assert not found.requires_grad
    assert not np.allclose(module(x).detach().numpy(), by_hand)  # the module is as it was


def test_momentum_of_a_lora_model_copies_the_adapters_alone(tiny_t5):
    model = add_lora(load_backbone(tiny_t5, encoder_decoder=True).model, r=2, target_modules=["q"])
    slow = MomentumWeights(model, 0.5)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(b.numel() for b in slow.buffers()) == trained > 0
    assert all("lora_" in name for name in slow.names)
