"""Evaluation against RecBole's own loop; accumulation, schedules and resuming."""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.dataloader.general_dataloader import FullSortEvalDataLoader
from recbole.data.utils import create_samplers
from recbole.trainer import RecVAETrainer, Trainer
from recbole.utils import early_stopping
from torch import nn

from recbole_llm.config import Config
from recbole_llm.data.loading import build_loaders, load_split
from recbole_llm.trainer.fit import fit
from recbole_llm.trainer.harness import HarnessMixin
from recbole_llm.trainer.trainer import HarnessTrainer, build_trainer

TOP_METRICS = ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP", "ItemCoverage"]
N_USERS, N_ITEMS = 50, 70
WIDTHS = {
    "SASRec": {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "train_batch_size": 512},
    "RecVAE": {"hidden_dimension": 8, "latent_dimension": 4},
}


@pytest.fixture
def new_config(tmp_path):
    """Write random clicks of 5 to 26 items a user, and return a maker of settings."""
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in range(N_USERS):
        items = rng.permutation(N_ITEMS)[: rng.integers(5, 25)].tolist()
        items += items[: user % 3]  # some buy again what they had
        for time, item in enumerate(items):
            lines.append(f"u{user}\ti{item}\t{time}")
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "toy.inter").write_text("\n".join(lines) + "\n")

    def make(model, **overrides):
        settings = {
            "data_path": str(tmp_path),
            "checkpoint_dir": str(tmp_path / "saved"),
            "cache_dir": str(tmp_path / "cache"),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "use_gpu": False,
            "show_progress": False,
            "metrics": TOP_METRICS,
            "topk": [3, 10],
            "valid_metric": "Recall@10",
            "metric_decimal_place": 12,
            "train_batch_size": 64,
            "epochs": 0,
            **WIDTHS.get(model, {"embedding_size": 8}),
            **overrides,
        }
        return Config(model, "toy", overrides=settings)

    return make


def fitted(config):
    """Return a trainer with random weights, the loaders and the split."""
    split = load_split(config)
    trainer, loaders = fit(config, split, Path(config["checkpoint_dir"]))
    return trainer, loaders, split


def by_recbole(config, split, model, phase):
    """Measure with RecBole's loader and loop; return its metrics and what they come from."""
    parts = list(split[1:])
    samplers = create_samplers(config, split.dataset, parts)
    place = {"valid": 1, "test": 2}[phase]
    train = build_loaders(config, split).train
    loader = FullSortEvalDataLoader(config, copy.copy(parts[place]), samplers[place])
    trainer = Trainer(config, model)
    trainer.eval_collector.data_collect(train)
    structs = []
    evaluate = trainer.evaluator.evaluate
    trainer.evaluator.evaluate = lambda struct: structs.append(struct) or evaluate(struct)
    result = trainer.evaluate(loader, load_best_model=False)
    return result, structs[0]


@pytest.mark.parametrize("phase", ["valid", "test"])
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("BPR", {"protocol": "loo"}),
        ("BPR", {"protocol": "random811"}),
        ("BPR", {"protocol": "random811", "eval_users": 7}),
        ("LightGCN", {"protocol": "random811"}),
        ("SASRec", {"protocol": "loo", "mask_history": False}),
    ],
)
def test_evaluation_equals_recboles(new_config, model, settings, phase):
    config = new_config(model, **settings)
    trainer, loaders, split = fitted(config)
    ours = trainer.evaluate(getattr(loaders, phase), load_best_model=False)
    theirs, struct = by_recbole(config, split, trainer.model, phase)
    assert dict(ours) == {name: float(value) for name, value in theirs.items()}
    assert len(ours) == 2 * len(TOP_METRICS) and 0 < ours["recall@10"] < 1

    ranking = trainer.ranking
    assert torch.equal(ranking.items, struct.get("rec.items"))
    topk = struct.get("rec.topk")
    assert torch.equal(ranking.hits.int(), topk[:, :-1])
    assert torch.equal(ranking.n_positives, topk[:, -1].long())


def test_ranking_names_the_users_of_its_rows(new_config):
    trainer, loaders, split = fitted(new_config("BPR", protocol="random811"))
    trainer.evaluate(loaders.test, load_best_model=False)
    inter = split.test.inter_feat
    for user, items, hits, n_positives in zip(
        *(getattr(trainer.ranking, name) for name in ("users", "items", "hits", "n_positives")),
        strict=True,
    ):
        mine = set(inter["item_id"][inter["user_id"] == user].tolist())
        assert hits.tolist() == [item in mine for item in items.tolist()]
        assert n_positives == len(mine)


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_masked_history_is_not_recommended(new_config, model):
    for mask in (True, False):
        config = new_config(
            model, protocol="loo", mask_history=mask, topk=[40], valid_metric="Recall@40"
        )
        trainer, loaders, split = fitted(config)
        trainer.evaluate(loaders.test, load_best_model=False)
        known = split.train.inter_matrix("csr") + split.valid.inter_matrix("csr")
        ranking = trainer.ranking
        # a positive stays in the ranking even if it is known
        shown = torch.isfinite(ranking.scores) & ~ranking.hits
        n_known = sum(
            known[user, item] > 0
            for user, items, keep in zip(ranking.users, ranking.items, shown, strict=True)
            for item in items[keep].tolist()
        )
        assert (n_known == 0) == mask


@pytest.mark.parametrize("metrics", [["Recall", "GAUC"], ["Recall", "AveragePopularity"]])
def test_metrics_beyond_the_top_of_the_list(new_config, metrics):
    config = new_config("BPR", protocol="random811", metrics=metrics)
    trainer, loaders, split = fitted(config)
    ours = trainer.evaluate(loaders.test, load_best_model=False)
    theirs, _ = by_recbole(config, split, trainer.model, "test")
    assert dict(ours) == pytest.approx({name: float(value) for name, value in theirs.items()})
    assert all(math.isfinite(value) for value in ours.values())
    assert any(name.startswith(metrics[1].lower()) for name in ours)
    assert (trainer.ranking is None) == (metrics[1] == "GAUC")


def test_sampled_candidates_go_through_recboles_loop(new_config):
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni20"}
    trainer, loaders, _ = fitted(new_config("BPR", eval_args=args))
    result = trainer.evaluate(loaders.test, load_best_model=False)
    assert trainer.ranking is None
    assert 0 < result["recall@10"] < 1


def test_nan_scores_are_an_error(new_config):
    trainer, loaders, _ = fitted(new_config("BPR"))
    with torch.no_grad():
        trainer.model.user_embedding.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="training has diverged"):
        trainer.evaluate(loaders.valid, load_best_model=False)


def test_an_empty_part_is_not_measured(new_config):
    trainer, *_ = fitted(new_config("BPR"))
    assert trainer.evaluate([], load_best_model=False) is None


# ---- training


class Linear(nn.Module):
    """Least squares; a batch is a dict-like with ``x`` (B, 3) and ``y`` (B,)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def calculate_loss(self, batch):
        return (batch.x @ self.weight - batch.y).square().mean()

    def other_parameter(self):
        return {}


class Batch:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def to(self, device):
        return self


def batches(n, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n * size, 3, generator=generator)
    y = torch.randn(n * size, generator=generator)
    return [Batch(*part) for part in zip(x.split(size), y.split(size), strict=True)]


def weight_after(make_config, data, n_epochs=1, **overrides):
    model = Linear()
    config = make_config("BPR", learner="sgd", learning_rate=0.1, epochs=n_epochs, **overrides)
    trainer = HarnessTrainer(config, model)
    losses = [trainer._train_epoch(data, epoch) for epoch in range(n_epochs)]
    return model.weight.detach(), losses


@pytest.mark.parametrize("n_steps", [1, 3])
def test_micro_batches_equal_one_large_batch(new_config, n_steps):
    micro, _ = weight_after(new_config, batches(2 * n_steps, 4), gradient_accumulation_steps=2)
    large, _ = weight_after(new_config, batches(n_steps, 8))
    torch.testing.assert_close(micro, large)
    plain, _ = weight_after(new_config, batches(2 * n_steps, 4))
    assert not torch.allclose(plain, large)


def test_a_last_smaller_group_is_a_mean_of_its_own(new_config):
    data = batches(3, 4)
    model = Linear()
    for group in (data[:2], data[2:]):
        loss = torch.stack([model.calculate_loss(batch) for batch in group]).mean()
        (grad,) = torch.autograd.grad(loss, [model.weight])
        with torch.no_grad():
            model.weight.sub_(0.1 * grad)
    found, _ = weight_after(new_config, data, gradient_accumulation_steps=2)
    torch.testing.assert_close(found, model.weight.detach())


def test_epoch_loss_is_the_mean_of_its_batches(new_config):
    data, model = batches(3, 4), Linear()
    expected = np.mean([model.calculate_loss(batch).item() for batch in data])
    _, losses = weight_after(new_config, data, gradient_accumulation_steps=3)
    assert losses[0] == pytest.approx(expected)


def test_clipping_applies_to_the_accumulated_gradient(new_config):
    data = batches(2, 4)
    settings = {"gradient_accumulation_steps": 2, "clip_grad_norm": {"max_norm": 1e-3}}
    found, _ = weight_after(new_config, data, **settings)
    assert (found - Linear().weight).norm().item() == pytest.approx(0.1 * 1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"lr_schedule": "constant"}, [1.0, 1.0, 1.0, 1.0]),
        (
            {"lr_schedule": "exponential", "lr_decay": 0.25, "lr_decay_epochs": 2},
            [1.0, 0.5**0.5, 0.5, 0.5**1.5],
        ),
        (
            {"lr_schedule": "cosine", "warmup_epochs": 1, "min_learning_rate": 0.01},
            [1e-3, 0.501, 1.0, 0.1 + 0.9 * 0.5],
        ),
    ],
)
def test_learning_rate_of_every_step(new_config, settings, expected):
    config = new_config("BPR", learner="sgd", learning_rate=0.1, epochs=2, **settings)
    trainer, rates = HarnessTrainer(config, Linear()), []
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda *args: (
        rates.append(trainer.optimizer.param_groups[0]["lr"]) or step(*args)
    )
    for epoch in range(2):
        trainer._train_epoch(batches(2, 4), epoch)
    assert rates == pytest.approx([0.1 * factor for factor in expected])


@pytest.mark.parametrize(
    ("accumulate", "order"), [(1, "ebsbsbs"), (2, "ebbsbs"), (3, "ebbbs"), (4, "ebbbs")]
)
def test_hooks_are_called_in_order(new_config, accumulate, order):
    called = []

    class Hooked(Linear):
        def begin_epoch(self):
            called.append("e")

        def after_backward(self):
            assert self.weight.grad is not None
            called.append("b")

        def after_step(self):
            assert self.weight.grad is None
            called.append("s")

    config = new_config("BPR", learner="sgd", gradient_accumulation_steps=accumulate)
    HarnessTrainer(config, Hooked())._train_epoch(batches(3, 4), 0)
    assert "".join(called) == order


def test_nan_loss_stops_training(new_config):
    data = batches(1, 4)
    data[0].y[0] = torch.nan
    with pytest.raises(ValueError, match=r"epoch 0 is NaN.*learning_rate"):
        weight_after(new_config, data)


def test_optimizer_leaves_frozen_weights_alone(new_config):
    config = new_config("BPR", learner="adamw", weight_decay=0.5, adam_betas=[0.8, 0.9])
    model = Linear()
    trainer = HarnessTrainer(config, model)
    assert [p.shape for g in trainer.optimizer.param_groups for p in g["params"]] == [(3,)]
    assert trainer.optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    trainer._train_epoch(batches(2, 4), 0)
    assert torch.equal(model.frozen, torch.ones(3))


def test_validation_chooses_the_epoch_and_its_weights(new_config):
    config = new_config("BPR", epochs=8, learning_rate=0.05, stopping_step=2)
    trainer, loaders, _ = fitted(config)
    scores = [entry["valid"]["recall@10"] for entry in trainer.epochs_log]
    best = max(range(len(scores)), key=lambda epoch: (scores[epoch], epoch))  # the last of equals
    assert trainer.best_epoch == best and trainer.best_valid_score == scores[best]
    stops, count, best_score = [], 0, -np.inf
    for score in scores:  # by RecBole's own rule
        best_score, count, stop, _ = early_stopping(score, best_score, count, 2)
        stops.append(stop)
    assert not any(stops[:-1]) and (stops[-1] or len(scores) == 8)
    trainer.load_best()
    again = trainer.evaluate(loaders.valid, load_best_model=False)
    assert again["recall@10"] == scores[best]


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "SASRec"])
def test_a_killed_run_goes_on_as_if_nothing_happened(new_config, tmp_path, model):
    config = new_config(model, epochs=4, checkpoint_s=0, protocol="loo")
    split = load_split(config)
    straight, _ = fit(config, split, tmp_path / "straight")

    class KilledError(Exception):
        pass

    def killed(self, epoch, *args):
        if epoch == 2:
            raise KilledError
        return one_epoch(self, epoch, *args)

    one_epoch = HarnessTrainer._one_epoch
    HarnessTrainer._one_epoch = killed
    try:
        with pytest.raises(KilledError):
            fit(config, load_split(config), tmp_path / "killed")
    finally:
        HarnessTrainer._one_epoch = one_epoch
    resumed, _ = fit(config, load_split(config), tmp_path / "killed", resume=True)
    for name, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    for found, expected in zip(resumed.epochs_log, straight.epochs_log, strict=True):
        assert (found["loss"], found["valid"]) == (expected["loss"], expected["valid"])
    assert resumed.best_epoch == straight.best_epoch


def test_recboles_special_trainers_get_our_checkpoints_too(new_config):
    assert type(build_trainer(new_config("BPR"), Linear())) is HarnessTrainer
    trainer, *_ = fitted(new_config("RecVAE"))
    assert type(trainer).__name__ == "HarnessRecVAETrainer"
    assert isinstance(trainer, HarnessMixin) and isinstance(trainer, RecVAETrainer)
