"""A spec of three trials and two final runs of BPR on ml-100k."""

from pathlib import Path
from typing import Any

import yaml

SPEC: dict[str, Any] = {
    "name": "t",
    "datasets": ["ml-100k"],
    "protocol": "loo",
    "models": ["BPR"],
    "settings": {"epochs": 1, "train_batch_size": 4096},
    "search": {"sampler": "grid"},
    "space": {"learning_rate": [0.001, 0.01, 0.1]},
    "seeds": [1, 2],
}
FIGURE = {"kind": "line", "x": "learning_rate", "symbol": "r", "metrics": ["recall@20"]}


def write_spec(folder: Path, **over: Any) -> Path:
    """Write the spec with some of its keys replaced; those that are None are left out."""
    path = folder / "t.yaml"
    content = {key: value for key, value in {**SPEC, **over}.items() if value is not None}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def write_grid(folder: Path, *values: float, **over: Any) -> Path:
    """Write a spec without a search, whose figure has a point for each learning rate."""
    grid = {"learning_rate": list(values)}
    return write_spec(folder, search=None, space=None, grid=grid, figures=[FIGURE], **over)
