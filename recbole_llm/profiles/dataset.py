"""The dataset and the split that profiles are written from and audited against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_llm.config import Config
from recbole_llm.data.loading import Split, load_split
from recbole_llm.profiles.output import Folder

#: The model that reads the profiles; its settings, above all the protocol, split the data.
MODEL = "MLLMRec"


def profile_config(dataset: str, settings: Mapping[str, Any]) -> Config:
    """Return the settings of a dataset as the model that reads its profiles has them.

    Args:
        dataset: name of the dataset.
        settings: values as on the command line; ``config_files`` is a list of names.

    Raises:
        ValueError: a setting is wrong.
        FileNotFoundError: a config file does not exist.
    """
    given = dict(settings)
    files = given.pop("config_files", [])
    return Config(MODEL, dataset, files, command_line=given)


def load_profile_data(dataset: str, settings: Mapping[str, Any]) -> tuple[Config, Split]:
    """Return the settings of a dataset, and its split; arguments and errors as above."""
    config = profile_config(dataset, settings)
    return config, load_split(config)


def find_profiles(
    dataset: str, folder: Path | None, settings: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Find the profiles of a dataset.

    Args:
        dataset: name of the dataset.
        folder: the folder of the profiles; None: the only ``reason-*`` in the dataset's folder.
        settings: values as on the command line, which say where the dataset's folder is.

    Returns:
        The folder, and its report.

    Raises:
        ValueError: there is not exactly one folder, or its profiles are of another dataset.
        FileNotFoundError: the folder has no report.
    """
    if folder is None:
        folder = _only_folder(Path(profile_config(dataset, settings)["data_path"]))
    report = Folder(folder, leaky=False).read_report()
    if report.get("dataset") != dataset:
        raise ValueError(f"{folder} has profiles of {report.get('dataset')!r}, not of {dataset!r}.")
    files = report["given"].get("config_files")
    if isinstance(files, str):  # a text with spaces in older reports
        report["given"]["config_files"] = files.split()
    return folder, report


def _only_folder(parent: Path) -> Path:
    found = sorted(path.parent for path in parent.glob("reason-*/report.json"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise ValueError(
        f"--profiles=FOLDER is needed: folders reason-* with a report in {parent}: {names}."
    )
