"""What several processes each add to a loss is, added up, the loss of one process."""

import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_llm.model.base import can_share_loss, share_of_loss, total_loss
from recbole_llm.processes import Share
from recbole_llm.registry import MODELS, get_model_class


def gradients_of(model):
    return {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


def loss_and_gradients(model, parts):
    """Return the sum of losses, each computed from the same random state, and its gradients."""
    model.zero_grad()
    total = 0.0
    for part in parts:
        torch.manual_seed(0)
        loss = part()
        loss.backward()
        total += loss.item()
    return total, gradients_of(model)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_shares_of_a_batch_add_up_to_its_loss(world, clicks, model):
    if not can_share_loss(get_model_class(model)):
        pytest.skip("several processes are refused")
    world.write(clicks(parity=False))
    world.add_random_modalities(2)
    bench = world.bench(model, epochs=1)
    batch = bench.batches()[0][:22]  # 3 uneven shares, and fewer rows than 100 processes
    bench.model.eval()  # without dropout, and with the same neighbours in every prompt

    loss, gradients = loss_and_gradients(
        bench.model, [lambda: total_loss(bench.model.calculate_loss(batch))]
    )
    for n_processes in (3, 100):
        shares = [Share(number, n_processes) for number in range(n_processes)]
        found, summed = loss_and_gradients(
            bench.model, [lambda s=s: share_of_loss(bench.model, batch, s) for s in shares]
        )
        assert found == pytest.approx(loss, rel=1e-5)
        assert summed.keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(summed[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_an_uneven_share_weighs_as_many_rows():
    """Rows of losses 1, 2 and 6 on two processes: (1 + 2) / 3 and 6 / 3, not the mean of means."""

    class Rows:
        device = torch.device("cpu")

        def calculate_loss(self, batch):
            return batch["loss"].mean()

    batch = Interaction({"loss": torch.tensor([1.0, 2.0, 6.0])})
    shares = [share_of_loss(Rows(), batch, Share(number, 2)).item() for number in (0, 1)]
    assert shares == pytest.approx([1.0, 2.0])


def test_a_share_of_windows_weighs_as_many_targets(world, clicks):
    world.write(clicks(parity=False))
    bench = world.bench("SASRecCausal")
    batch = Interaction({"target_id_list": torch.tensor([[4, 5, 6], [7, 0, 0]])})
    assert bench.model.n_loss_terms(batch) == 4
    assert bench.model.n_loss_terms(Interaction({"user_id": torch.tensor([1, 2])})) == 2


def test_recboles_models_are_not_split():
    for name in ("BPR", "SASRec", "Pop"):
        assert not can_share_loss(get_model_class(name))
