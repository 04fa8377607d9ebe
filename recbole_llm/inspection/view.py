"""A data set as plain arrays, split by a protocol."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recbole_llm.config import Config
from recbole_llm.data.atomic import inter_files
from recbole_llm.data.freeze import SourceDataset, data_config
from recbole_llm.splitting.protocols import Index, split_rows


class View(NamedTuple):
    """Interactions after the settings' filters, in file order; (n,) arrays.

    Attributes:
        dataset: not yet built.
        user: int64 internal ids, from 1.
        item: int64 internal ids, from 1.
        time: float64, or None without timestamps.
        ratings: other number columns by name, float64.
        parts: positions of training, validation and test; none where it cannot be split.
        protocol: by which it is split, or why it is not.
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
        """Return users' tokens."""
        return [str(token) for token in self.dataset.id2token(self.dataset.uid_field, ids)]

    def items(self, ids: Index) -> list[str]:
        """Return items' tokens."""
        return [str(token) for token in self.dataset.id2token(self.dataset.iid_field, ids)]


def load_view(dataset: str, protocol: str | None, settings: Mapping[str, Any]) -> View:
    """Load a data set, and split it as a run would.

    Args:
        dataset: its name.
        protocol: of ``recbole_llm split``; None: as the settings say (``split``, a fixed split, or
            the data set's protocol).
        settings: as on the command line.

    Raises:
        FileNotFoundError: the data set is not there.
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
