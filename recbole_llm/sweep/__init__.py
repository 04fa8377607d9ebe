"""Hyper-parameter search with Optuna: a spec, its search space, studies and workers."""

from recbole_llm.callable_package import make_callable

make_callable(__name__)
