"""Hyper-parameter search with Optuna: a spec, its search space, studies and workers."""
