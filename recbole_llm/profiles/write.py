"""Profiles of a dataset's users: from the name of the dataset to the folder that is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from recbole_llm.data.describe import describe_data
from recbole_llm.profiles.dataset import load_profile_data
from recbole_llm.profiles.pipeline import Reasoner
from recbole_llm.profiles.settings import ReasonSettings


class WrittenProfiles(NamedTuple):
    """The folder that was written, and the content of its ``report.json``."""

    folder: Path
    report: dict[str, Any]


def write_profiles(
    dataset: str,
    settings: ReasonSettings,
    given: Mapping[str, Any],
    on_start: Callable[[Path], object] = lambda folder: None,
) -> WrittenProfiles:
    """Describe images, write user profiles from training interactions, and encode both.

    Answers are kept as they arrive, so that a second call resumes an interrupted one.

    Args:
        dataset: name of the dataset.
        settings: models, prompts and stages.
        given: settings of the data as on the command line; the audit splits the data by them again.
        on_start: callback that gets the folder before the first stage.

    Raises:
        ValueError, OSError, ImportError: the settings, the data, a model or the folder is wrong.
    """
    config, split = load_profile_data(dataset, given)
    data = describe_data(split.dataset, split[1:])
    reasoner = Reasoner(settings, config, split, data, given)
    on_start(reasoner.folder.path)
    return WrittenProfiles(reasoner.folder.path, reasoner.run())
