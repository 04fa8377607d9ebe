"""A dataset as plain arrays, split by a protocol."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_llm.config import Config
from recbole_llm.data.atomic import inter_files
from recbole_llm.data.freeze import SourceDataset, data_config
from recbole_llm.splitting.protocols import Index, split_rows


class View(NamedTuple):
    """The n interactions that the settings' filters keep, in the order of the file.

    Attributes:
        dataset: the dataset as it was read, before it is split.
        user: (n,) int64 internal ids, from 1.
        item: (n,) int64 internal ids, from 1.
        time: (n,) float64 timestamps, or None if no time is loaded.
        ratings: other number columns by name, each (n,) float64.
        parts: row numbers of training, validation and test; empty if no split is possible.
        protocol: name of the protocol of the split, or the reason why no split is possible.
    """

    dataset: SourceDataset
    user: Index
    item: Index
    time: NDArray[np.float64] | None
    ratings: dict[str, NDArray[np.float64]]
    parts: tuple[Index, ...]
    protocol: str

    @property
    def config(self) -> Config:
        """The settings of the data."""
        return self.dataset.config

    def users(self, ids: Index) -> list[str]:
        """Return the tokens of internal user ids."""
        return [str(token) for token in self.dataset.id2token(self.dataset.uid_field, ids)]

    def items(self, ids: Index) -> list[str]:
        """Return the tokens of internal item ids."""
        return [str(token) for token in self.dataset.id2token(self.dataset.iid_field, ids)]

    def pair_keys(self) -> Index:
        """Return one number for each interaction, (n,) int64, equal for equal (user, item)."""
        return self.user.astype(np.int64) * self.dataset.item_num + self.item


def load_view(dataset: str, protocol: str | None, settings: Mapping[str, Any]) -> View:
    """Load a dataset, and split it as a run splits it.

    Args:
        dataset: name of the dataset.
        protocol: name of a protocol of ``recbole_llm split``; None: the split of the settings (a
            frozen split, a fixed split, or the dataset's protocol).
        settings: settings of the data, as on the command line of ``run_recbole``.

    Raises:
        FileNotFoundError: the dataset does not exist.
        ValueError: a setting or a file is wrong.
    """
    config = data_config(dataset, protocol, settings)
    source = inter_files(config)[0]
    data = SourceDataset(config)
    feat, others = data.inter_feat, dict(data.numbers)
    time = others.pop(data.time_field, None)
    user, item = feat[data.uid_field].to_numpy(), feat[data.iid_field].to_numpy()
    parts: tuple[Index, ...] = ()
    if data.benchmark_filename_list is not None:
        parts = tuple(np.split(np.arange(len(feat)), np.cumsum(data.file_size_list)[:-1]))
        label = f"fixed: {source.name} and so on"
    elif data.frozen is not None:
        parts = tuple(data.frozen_positions(data.frozen))
        label = f"{data.frozen.protocol}, split {data.frozen.name}"
    else:
        label = protocol or config["protocol"]
        try:
            parts = split_rows(label, user, item, data.times(label), config["seed"]).parts
        except ValueError as error:
            label = f"not split: {error}"
    return View(data, user, item, time, others, parts, label)
