"""The hooks of models: their own, and the defaults of models that define none."""

from pathlib import Path
from typing import Any

import pytest
import torch
from recbole.data.interaction import Interaction
from recbole.model.general_recommender import BPR

from recbole_llm.data.sequence_loader import PrefixLoader, WindowLoader, sample_loader
from recbole_llm.model.base import _HOOKS, ModelHooks, hooks_of
from recbole_llm.model.galrec.galrec import GALRec
from recbole_llm.model.hellm.hellm import HeLLM
from recbole_llm.model.lightgcn import LightGCN
from recbole_llm.model.sasrec_causal import SASRecCausal
from recbole_llm.registry import StageSpec, get_hooks


class OwnBPR(BPR):
    """A user's model that derives from RecBole alone."""

    needs_history = True

    @classmethod
    def required_stages(cls, config: Any) -> dict[str, StageSpec]:
        return {config["name"]: StageSpec("LightGCN")}

    def begin_epoch(self) -> None:
        self.n_epochs = 1


def test_a_model_of_recboles_has_the_defaults() -> None:
    model = BPR.__new__(BPR)
    for hooks in (hooks_of(BPR), hooks_of(model)):
        assert hooks.train_loader is None and hooks.needs_history is False
        assert hooks.required_stages({}) == {}
        hooks.check_settings({})
    hooks = hooks_of(model)
    hooks.begin_epoch()
    hooks.after_backward()
    hooks.after_step()
    assert hooks.export() == {} and hooks.export_adapter(Path("none")) is None
    assert hooks.user_views(Interaction({})) == {}
    assert hooks_of(BPR).export is ModelHooks.export


def test_a_users_model_keeps_what_it_defines() -> None:
    hooks = hooks_of(OwnBPR)
    assert hooks.needs_history and hooks.train_loader is None
    assert hooks.required_stages({"name": "first"}) == {"first": StageSpec("LightGCN")}
    model = OwnBPR.__new__(OwnBPR)
    torch.nn.Module.__init__(model)
    hooks_of(model).begin_epoch()
    assert model.n_epochs == 1


@pytest.mark.parametrize(
    ("model", "loader"),
    [
        (LightGCN, None),
        (SASRecCausal, WindowLoader),
        (HeLLM, sample_loader),
        (GALRec, PrefixLoader),
    ],
)
def test_models_of_ours(model: type, loader: type | None) -> None:
    hooks = get_hooks(model)
    assert hooks.train_loader is loader
    assert hooks.needs_history == (loader is not None)
    assert hooks.export is not ModelHooks.export or model in (HeLLM, GALRec)
    if issubclass(model, ModelHooks):
        assert hooks is model


def test_the_page_lists_every_hook() -> None:
    assert set(_HOOKS) == {
        *("train_loader", "needs_history", "check_settings", "check_available", "required_stages"),
        *("begin_epoch", "after_backward", "after_step", "export", "export_adapter", "user_views"),
    }
