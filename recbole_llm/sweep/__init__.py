"""Hyper-parameter search with Optuna: a spec, its search space, studies and workers."""

from recbole_llm.sweep.spec import Spec, load_spec

__all__ = ["Spec", "load_spec"]
