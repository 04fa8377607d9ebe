"""The hash of a run's settings, and the settings that no number depends on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

#: Settings of where a run writes and what it prints: no number depends on these.
VOLATILE_KEYS = frozenset(
    "cache_dir checkpoint_dir checkpoint_s config_files data_path device gpu_id log_wandb "
    "metric_decimal_place resume runs_dir save_dataloaders save_dataset save_topk show_progress "
    "split_dir state torch_threads use_gpu wandb_project worker".split()
)


def fingerprint_of(settings: Mapping[str, Any]) -> str:
    """Return a sha256 hex digest of every setting that a number can depend on.

    Args:
        settings: resolved settings as plain JSON values, such as those of a run's record.
    """
    fixed = {key: value for key, value in settings.items() if key not in VOLATILE_KEYS}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()
