"""Small datasets in a temporary folder, models on them, and a tiny language model."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from model_settings import small_settings
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_llm.config import Config
from recbole_llm.data.loading import Loaders, Split, load_split
from recbole_llm.trainer.fit import fit
from recbole_llm.trainer.harness import HarnessMixin

N_USERS, N_ITEMS, N_EACH = 60, 40, 12
Row = tuple[str, str, int]


def clicks(parity: bool, seed: int = 0) -> list[Row]:
    """Interactions in random file order; with ``parity`` even users take even items only."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(N_USERS):
        offered = np.arange(user % 2, N_ITEMS, 2) if parity else np.arange(N_ITEMS)
        chosen = rng.choice(offered, N_EACH, replace=False)
        rows += [(f"u{user}", f"i{item}", time) for time, item in enumerate(chosen, start=1)]
    return [rows[place] for place in rng.permutation(len(rows))]


class Bench(NamedTuple):
    """One model on one dataset, with everything it was made from."""

    config: Config
    split: Split
    outputs: dict[str, dict[str, Tensor]]
    trainer: HarnessMixin
    loaders: Loaders

    @property
    def model(self) -> nn.Module:
        return self.trainer.model

    def batches(self) -> list[Interaction]:
        """One epoch of training batches, the same at every call on a fresh bench."""
        np.random.seed(0)
        torch.manual_seed(0)
        return list(self.loaders.train)

    def scores(self, phase: str = "test") -> Tensor:
        """Scores (n, I) of every evaluated user, in evaluation mode."""
        self.model.eval()
        with torch.no_grad():
            parts = [
                self.model.full_sort_predict(batch[0]) for batch in getattr(self.loaders, phase)
            ]
        return torch.cat([part.view(-1, self.model.n_items) for part in parts])


class World:
    """The dataset ``toy`` in a folder of its own, and models on it."""

    def __init__(self, root: Path, llm_path: str, lettered_llm: str) -> None:
        self.root, self.llm_path, self.lettered_llm = root, llm_path, lettered_llm
        self.folder = root / "toy"
        self.folder.mkdir()
        self.modalities: dict[str, str] = {}

    def write(self, rows: Iterable[Row]) -> None:
        """Write interactions; the items' features are listed in the order of their names."""
        rows = list(rows)
        lines = ["user_id:token\titem_id:token\ttimestamp:float"]
        lines += ["\t".join(map(str, row)) for row in rows]
        (self.folder / "toy.inter").write_text("\n".join(lines) + "\n")
        self.tokens = sorted({item for _, item, _ in rows})
        (self.folder / "item_ids.txt").write_text("\n".join(self.tokens) + "\n")
        titles = ["item_id:token\ttitle:token_seq", *(f"{name}\t{name}" for name in self.tokens)]
        (self.folder / "toy.item").write_text("\n".join(titles) + "\n")

    def add_modalities(self, features: Mapping[str, np.ndarray]) -> None:
        """Write features, one row an item in the order of ``tokens``, and use these only."""
        self.modalities = {name: f"{name}.npy" for name in features}
        for name, feature in features.items():
            np.save(self.folder / f"{name}.npy", feature)

    def add_random_modalities(self, n: int, dtype: type = np.float32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        names = ("image", "text", "audio")[:n]
        self.add_modalities(
            {
                name: rng.normal(size=(len(self.tokens), 4 + place)).astype(dtype)
                for place, name in enumerate(names)
            }
        )

    def config(self, model: str, **overrides: Any) -> Config:
        settings = {
            "data_path": str(self.root),
            "checkpoint_dir": str(self.root / "saved"),
            "cache_dir": str(self.root / "cache"),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "modalities": self.modalities,
            "use_gpu": False,
            "show_progress": False,
            "metrics": ["Recall", "NDCG"],
            "topk": [5],
            "valid_metric": "Recall@5",
            "train_batch_size": 64,
            **small_settings(model),
        }
        if model in ("HeLLM", "GALRec", "E4SRec"):
            settings["llm_path"] = self.llm_path
        if model == "LlamaRec":
            settings["llm_path"] = self.lettered_llm
        return Config(model, "toy", overrides={**settings, **overrides})

    def bench(self, model: str, **overrides: Any) -> Bench:
        """Build a model, after its stages where it has any, and train it for ``epochs`` (0)."""
        config = self.config(model, **{"epochs": 0, **overrides})
        split = load_split(config)
        outputs = {}
        for name, sub in config.stages.items():
            trainer, _ = fit(sub, split, self.root / "saved" / name)
            trainer.load_best()
            trainer.model.eval()
            outputs[name] = trainer.model.export()
        trainer, loaders = fit(config, split, self.root / "saved", outputs=outputs)
        return Bench(config, split, outputs, trainer, loaders)


@pytest.fixture
def world(tmp_path: Path, tiny_llm: str, lettered_llm: str) -> World:
    """A folder for one dataset; nothing is written yet."""
    return World(tmp_path, tiny_llm, lettered_llm)


@pytest.fixture
def worlds(tmp_path: Path, tiny_llm: str, lettered_llm: str) -> Callable[[str], World]:
    """Make several datasets, each under its own name."""

    def make(name: str) -> World:
        (tmp_path / name).mkdir()
        return World(tmp_path / name, tiny_llm, lettered_llm)

    return make


@pytest.fixture(name="clicks", scope="session")
def clicks_fixture() -> Callable[..., list[Row]]:
    return clicks


@pytest.fixture
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the Gumbel noise out of training; the temperature stays."""

    def softmax(
        logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
    ) -> Tensor:
        return torch.softmax(logits / tau, dim)

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", softmax)
