"""Encoded user profiles, as ``recbole_llm reason`` writes them, aligned to RecBole's user ids."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Rows of features, their users (one token a line), and what is known of their making.
FEATURE_FILE, IDS_FILE, REPORT_FILE = "user_profile_feat.npy", "user_profile_ids.txt", "report.json"


class UserProfiles(NamedTuple):
    """One finished profile set.

    Attributes:
        feature: (U, d) float32 by internal user id; row 0 and users without a profile are zero.
        n_missing: users without a profile.
        is_leaky: whether prompts were written from validation and test interactions too.
        sha256: hex digest of the features' file.
    """

    feature: Tensor
    n_missing: int
    is_leaky: bool
    sha256: str


def load_profiles(folder: Path, users: Sequence[str]) -> UserProfiles:
    """Read a profile set.

    Args:
        folder: what ``recbole_llm reason`` wrote.
        users: user tokens by internal id; ``users[0]`` is padding.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files do not fit together, or no user is in them.
    """
    for name in (FEATURE_FILE, IDS_FILE, REPORT_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"user_profile: {folder / name} does not exist. A finished profile set has it; "
                f"`recbole_llm reason --dataset=NAME` writes one. Or set user_profile to mean "
                f"or random."
            )
    path = folder / FEATURE_FILE
    array = np.load(path, allow_pickle=False)
    tokens = (folder / IDS_FILE).read_text(encoding="utf-8").splitlines()
    if array.ndim != 2 or len(array) != len(tokens) or len(set(tokens)) != len(tokens):
        raise ValueError(
            f"user_profile: {path} has shape {array.shape}, expected one row for each of the "
            f"{len(tokens)} lines of {IDS_FILE}, which must differ from each other."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"user_profile: {path} holds NaN or infinity.")
    row_of = {token: row for row, token in enumerate(tokens)}
    rows = np.array([row_of.get(str(user), -1) for user in users[1:]])
    feature = np.zeros((len(users), array.shape[1]), dtype=np.float32)
    found = np.flatnonzero(rows >= 0)
    if not found.size:
        raise ValueError(
            f"user_profile: none of the {len(users) - 1} users of this dataset is in "
            f"{folder / IDS_FILE} (first here: {users[1]!r}, first there: {tokens[:1]})."
        )
    feature[found + 1] = array[rows[found]]
    n_missing = int((~feature[1:].any(axis=1)).sum())
    if n_missing:
        message = "%s: %d of %d users have no profile and get zeros."
        logging.getLogger().warning(message, folder, n_missing, len(users) - 1)
    report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return UserProfiles(torch.from_numpy(feature), n_missing, bool(report["leaky"]), sha256)
