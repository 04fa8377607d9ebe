"""From a data set and a protocol to a frozen split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recbole.utils import FeatureType

from recbole_llm.config import Config
from recbole_llm.data.atomic import inter_files
from recbole_llm.data.dataset import MultimodalDataset
from recbole_llm.files import check_name
from recbole_llm.splitting.frozen import PARTS, ROW_SETTINGS, FrozenSplit, write_frozen
from recbole_llm.splitting.protocols import Index, SplitRows, find_protocol, split_rows
from recbole_llm.version import __version__


def data_config(dataset: str, protocol: str | None, settings: Mapping[str, Any]) -> Config:
    """Return the settings of a data set for a protocol of this package or of ``run_recbole``.

    Args:
        dataset: dataset name.
        protocol: protocol name, one of ``PROTOCOLS``; None takes the one of the settings.
        settings: settings as on the command line; ``config_files`` is a list of names.

    Raises:
        ValueError: an unknown protocol, or a setting is wrong.
        FileNotFoundError: a config file does not exist.
    """
    given = dict(settings)
    files = given.pop("config_files", [])
    if protocol is not None:
        # RecBole's relatives, so that timestamps are asked for where they are needed.
        given["protocol"] = "loo" if find_protocol(protocol).needs_time else "random811"
    return Config("Pop", dataset, files, command_line=given)


class SourceDataset(MultimodalDataset):
    """A dataset that also keeps the numbers of the file, unscaled.

    Attributes:
        numbers: (n,) float64 by column; RecBole scales its own to [0, 1].
    """

    numbers: dict[str, NDArray[np.float64]]

    def _normalize(self) -> None:
        feat = self.inter_feat
        self.numbers = {
            str(name): feat[name].to_numpy(float, copy=True)
            for name in feat
            if self.field2type[name] == FeatureType.FLOAT
        }
        super()._normalize()

    def times(self, protocol: str) -> NDArray[np.float64] | None:
        """Return the times that a protocol sorts by, (n,), or None without timestamps.

        Leave-one-out takes RecBole's scaled ones: rounding breaks their ties as in its own split.
        """
        if protocol == "loo" and self.time_field in self.inter_feat:
            return self.inter_feat[self.time_field].to_numpy(float)
        return self.numbers.get(self.time_field)


def freeze_split(
    config: Config, protocol: str, name: str | None = None, **options: Any
) -> tuple[FrozenSplit, SplitRows]:
    """Split a data set and write the split to ``<data_path>/<dataset>/splits/<name>``.

    Args:
        config: from ``data_config`` with the same protocol.
        protocol: protocol name, one of ``PROTOCOLS``.
        name: name of the split; None: the protocol's, with the seed if the protocol draws.
        options: ``cold_share``, ``unseen_users`` of ``split_rows``.

    Raises:
        FileNotFoundError: the dataset's files do not exist.
        ValueError: the data cannot be split by this protocol, another split has that name, or the
            name holds more than letters, digits, _, - and dots.
    """
    if name is not None:
        check_name("split", name)
    source = inter_files(config)[0]
    dataset = SourceDataset(config)
    if protocol == "loo":
        dataset.check_leave_one_out()
    feat = dataset.inter_feat
    user, item = feat[dataset.uid_field].to_numpy(), feat[dataset.iid_field].to_numpy()
    split = split_rows(protocol, user, item, dataset.times(protocol), config["seed"], **options)
    n_dropped = {
        "filtered": dataset.n_source_rows - len(feat),
        "unseen_users": len(split.dropped),
    }
    seed = config["seed"] if find_protocol(protocol).is_seeded else None
    folder = _splits_folder(config) / (name or (protocol if seed is None else f"{protocol}-{seed}"))
    manifest = {
        "name": folder.name,
        "dataset": config["dataset"],
        "protocol": protocol,
        "seed": seed,
        "version": __version__,
        "settings": {key: config.to_dict().get(key) for key in ROW_SETTINGS},
        "options": {
            "unseen_users": split.facts["unseen_users"],
            **({"cold_share": options.get("cold_share", 0.2)} if "cold" in split.facts else {}),
        },
        "counts": {
            "source": dataset.n_source_rows,
            **{part: len(rows) for part, rows in zip(PARTS, split.parts, strict=True)},
            "dropped": n_dropped,
            "parts": part_counts(user, item, split),
        },
        "facts": {k: v for k, v in split.facts.items() if k != "unseen_users"},
    }
    rows = [dataset.source_rows[part] for part in split.parts]
    return write_frozen(folder, manifest, source, rows), split


def _splits_folder(config: Config) -> Path:
    # Not config["data_path"]: of the ml-100k that RecBole ships that is RecBole's own folder.
    asked = config.external_config_dict.get("data_path") or config.internal_config_dict["data_path"]
    return Path(asked) / str(config["dataset"]) / "splits"


def part_counts(user: Index, item: Index, split: SplitRows) -> dict[str, dict[str, int]]:
    """Return users and items of each part, and how many have no training interaction."""
    counts: dict[str, dict[str, int]] = {part: {} for part in PARTS}
    for kind, ids in (("users", user), ("items", item)):
        in_part = np.zeros((len(PARTS), int(ids.max()) + 1), dtype=bool)
        for present, rows in zip(in_part, split.parts, strict=True):
            present[ids[rows]] = True
        for part, present in zip(PARTS, in_part, strict=True):
            counts[part][kind] = int(present.sum())
            if part != "train":
                counts[part][f"unseen_{kind}"] = int((present & ~in_part[0]).sum())
    return counts
