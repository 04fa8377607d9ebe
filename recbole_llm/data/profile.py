"""Encoded user profiles, as ``recbole_llm reason`` writes them, aligned to RecBole's user ids."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_llm.files import read_text, sha256_of

REPORT_FILE = "report.json"
FEATURE_FILE = "user_profile_feat.npy"
IDS_FILE = "user_profile_ids.txt"
ITEM_FEATURE_FILE = "item_mm_feat.npy"
#: Mark in the names of files that were made from held-out interactions.
MARK = "LEAKY"
#: Back end of image descriptions that are class names, without a vision-language model.
IMAGE_WORDS = "image-words"


class UserProfiles(NamedTuple):
    """One finished profile set.

    Attributes:
        feature: (U, d) float32 by internal user id; row 0 and users without a profile are zero.
        n_missing: users without a profile.
        is_leaky: whether prompts were written from validation and test interactions too.
        sha256: hex digest of the features' file.
        has_image_words: whether class names stand in for descriptions of the images.
    """

    feature: Tensor
    n_missing: int
    is_leaky: bool
    sha256: str
    has_image_words: bool


def file_name(name: str, leaky: bool) -> str:
    """Return a file's name, with the mark before its suffix if held-out items are in the file."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{MARK}{dot}{suffix}" if leaky else name


def load_profiles(folder: Path, users: Sequence[str]) -> UserProfiles:
    """Read a profile set.

    Args:
        folder: folder that ``recbole_llm reason`` wrote.
        users: user tokens by internal id; ``users[0]`` is padding.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files do not fit together, a feature file was changed since it was written,
            or no user is in them.
    """
    report = read_report(folder)
    path, ids_path = (
        folder / file_name(name, report["leaky"]) for name in (FEATURE_FILE, IDS_FILE)
    )
    for file in (path, ids_path):
        if not file.is_file():
            raise FileNotFoundError(
                f"user_profile: {file} does not exist. The stage `encode` of `recbole_llm reason` "
                f"writes it."
            )
    for file in (path, ids_path):
        check_unchanged(file)
    array = np.load(path, allow_pickle=False)
    tokens = read_text(ids_path).removesuffix("\n").split("\n")
    if array.ndim != 2 or len(array) != len(tokens) or len(set(tokens)) != len(tokens):
        raise ValueError(
            f"user_profile: {path} has shape {array.shape}, expected one row for each of the "
            f"{len(tokens)} lines of {ids_path.name}, which must differ from each other."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"user_profile: {path} holds NaN or infinity.")
    row_of = {token: row for row, token in enumerate(tokens)}
    rows = np.array([row_of.get(str(user), -1) for user in users[1:]])
    feature = np.zeros((len(users), array.shape[1]), dtype=np.float32)
    known = np.flatnonzero(rows >= 0)
    if not known.size:
        raise ValueError(
            f"user_profile: none of the {len(users) - 1} users of this dataset is in "
            f"{ids_path} (first of the dataset: {users[1]!r}, first of the file: {tokens[:1]})."
        )
    feature[known + 1] = array[rows[known]]
    n_missing = int((~feature[1:].any(axis=1)).sum())
    if n_missing:
        message = "%s: %d of %d users have no profile and get zeros."
        logging.getLogger().warning(message, folder, n_missing, len(users) - 1)
    images = report.get("image_model") or {}
    return UserProfiles(
        torch.from_numpy(feature),
        n_missing,
        bool(report["leaky"]),
        sha256_of(path),
        images.get("backend") == IMAGE_WORDS,
    )


def read_report(folder: Path) -> dict[str, Any]:
    """Read the report of a profile set, which holds at least ``leaky`` and ``split``.

    Raises:
        FileNotFoundError: the folder has no report.
        ValueError: the report is no JSON object with these keys.
    """
    path = folder / REPORT_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"user_profile: {path} does not exist. A finished profile set has it; "
            f"`recbole_llm reason --dataset=NAME` writes one. Or set user_profile to mean or "
            f"random."
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return {"leaky": bool(report["leaky"]), "split": str(report["split"]), **report}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"user_profile: {path} is damaged ({error!r}).") from error


def check_unchanged(path: Path) -> None:
    """Compare a feature file with the checksum in the report of its profile set.

    A file of such a name without a report next to it belongs to no profile set and is taken as it
    is.

    Args:
        path: feature file, or list of its ids.

    Raises:
        ValueError: the report has another checksum for the file, or none.
    """
    if not path.with_name(REPORT_FILE).is_file():
        return
    files = read_report(path.parent).get("files")
    recorded = files.get(path.name) if isinstance(files, dict) else None
    found = sha256_of(path)
    if recorded != found:
        raise ValueError(
            f"{path} is not the file that {REPORT_FILE} next to it names: sha256 {recorded} there, "
            f"{found} now. Run the stage `encode` of `recbole_llm reason` again."
        )


def check_split(folder: Path, split: str) -> None:
    """Refuse profiles of another split: their prompts may hold interactions held out here.

    Args:
        folder: folder of the profile set.
        split: fingerprint of the run's split, as ``describe_data`` gives it.

    Raises:
        ValueError: the profiles were written for another split.
    """
    if read_report(folder)["split"] != split:
        raise ValueError(
            f"user_profile: the profiles in {folder} were written for another split of the data, "
            f"so that their prompts may hold interactions that are held out here. Write them with "
            f"the run's --protocol and --seed, or run with theirs."
        )
