"""RecBole's datasets with item features, and with checks that speak before RecBole fails."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction, cat_interactions
from torch import Tensor

from recbole_llm.config import Config
from recbole_llm.data.atomic import check_inter_files, inter_files
from recbole_llm.data.items import Items
from recbole_llm.data.manifest import check_prepared
from recbole_llm.data.modality import fill_missing, load_modality, modality_files, scale
from recbole_llm.data.profile import UserProfiles, load_profiles
from recbole_llm.files import sha256_of
from recbole_llm.splitting.consistency import check_protocol
from recbole_llm.splitting.frozen import FrozenSplit, read_frozen
from recbole_llm.splitting.samples import cut_samples


class MultimodalDataset(Dataset):
    """A RecBole dataset whose items have features: any number of modalities, by name.

    Features are built when first asked for and kept; the parts of a split share them.

    Attributes:
        frozen: the frozen split that ``split`` names, or None.
        source_rows: (n,) int64, each interaction's row in the ``.inter`` file, counted from 0.
        n_source_rows: rows of that file, before any filter.
        left_out: number of interactions that are left out, by the setting that leaves them out.
        repeated_rows: number of rows that repeat an earlier one and do not count, by the name of
            the ``.user`` or ``.item`` file.

    Config keys: ``modalities``, ``missing_modality``, ``modality_scaling``, ``cache_dir``,
    ``show_progress``, and RecBole's of data and evaluation.

    Raises:
        FileNotFoundError: interaction files are missing. Nothing is ever downloaded.
        ValueError: an interaction file's header does not fit the settings; or a file of the frozen
            split, or of a prepared dataset, was changed.
    """

    inter_feat: Any  # a DataFrame until the split is built, then an Interaction

    def __init__(self, config: Config) -> None:
        check_inter_files(config)
        self.frozen: FrozenSplit | None = None
        if config["split"] is not None:
            self.frozen = read_frozen(
                config["split_dir"], Path(config["data_path"]), config["dataset"]
            )
            self.frozen.check_files(inter_files(config)[0])
        # Dicts, because RecBole's split copies the dataset shallowly: parts share what is in them.
        self._features: dict[str, Tensor] = {}
        self._n_missing: dict[str, int] = {}
        self._profiles: dict[str, UserProfiles] = {}
        self._checksums: dict[Path, str] = {}
        self.left_out: dict[str, int] = {}
        self.repeated_rows: dict[str, int] = {}
        super().__init__(config)
        check_prepared(Path(self.dataset_path), self.checksums())

    @property
    def modality_names(self) -> list[str]:
        """Names of the modalities, in the order of the settings; possibly none."""
        return list(self._modality_specs())

    @property
    def loaded_modalities(self) -> list[str]:
        """Names of the modalities that were asked for so far, in the order of asking."""
        return list(self._features)

    def modality(self, name: str) -> Tensor:
        """Return one modality's features, aligned to RecBole-internal item ids.

        Returns:
            (I, d) float32, row 0 (padding) zero. Shared, so not to be changed in place.

        Raises:
            ValueError: there is no such modality; its spec or files are malformed; or items lack
                features and ``missing_modality`` is ``error``.
            FileNotFoundError: a file of the modality does not exist.
        """
        specs = self._modality_specs()
        if name not in specs:
            raise ValueError(
                f"dataset {self.dataset_name!r} has no modality {name!r}, it has: "
                f"{', '.join(specs) or 'none'}. `modalities` in its YAML names them."
            )
        if name not in self._features:
            items = self._items()
            feature = load_modality(name, specs[name], items)
            self._n_missing[name] = fill_missing(name, feature, items)
            scale(name, feature, items)
            self._features[name] = torch.from_numpy(feature)
        return self._features[name]

    def missing_items(self, name: str) -> int:
        """Return how many items have no feature (no row, no text or an all-zero row).

        Builds the modality if that was not done yet.
        """
        self.modality(name)
        return self._n_missing[name]

    def user_profile(self, folder: str) -> Tensor:
        """Return the encoded profiles that ``recbole_llm reason`` wrote, by internal user id.

        Returns:
            (U, d) float32, row 0 (padding) and users without a profile zero.

        Raises:
            FileNotFoundError: the folder lacks a file of a finished profile set.
            ValueError: its files do not fit together, or no user of this dataset is in them.
        """
        if folder not in self._profiles:
            users = self.field2id_token[self.uid_field]
            self._profiles[folder] = load_profiles(Path(folder), users)
        return self._profiles[folder].feature

    @property
    def profile_sets(self) -> dict[str, UserProfiles]:
        """Profile sets that were asked for so far, by folder."""
        return dict(self._profiles)

    def source_files(self) -> list[Path]:
        """Return the files that make this dataset, those of its modalities included."""
        files = inter_files(self.config)
        suffixes = [kind for kind in ("user", "item") if getattr(self, f"{kind}_feat") is not None]
        suffixes += self.config["additional_feat_suffix"] or []
        if "item_text" in self.config:  # a model that reads the items' text by itself
            suffixes.append("item")
        folder = Path(self.dataset_path)
        files += [folder / f"{self.dataset_name}.{suffix}" for suffix in suffixes]
        for name, spec in self._modality_specs().items():
            files += modality_files(name, spec, self._items())
        # A model without modalities runs where feature files are missing.
        return [path for path in dict.fromkeys(files) if path.is_file()]

    def checksums(self) -> dict[Path, str]:
        """Return the sha256 of each of ``source_files``, computed once."""
        for path in self.source_files():
            if path not in self._checksums:
                self._checksums[path] = sha256_of(path)
        return dict(self._checksums)

    def build(self) -> list[Dataset]:
        """Split as ``eval_args`` says, or as the frozen split has it.

        Raises:
            ValueError: leave-one-out into three parts, and a user has fewer than 3 interactions; or
                the frozen split has rows that the settings leave out.
        """
        if self.frozen is None:
            self.check_leave_one_out()
            return super().build()
        parts = self.frozen_positions(self.frozen)
        self._change_feat_format()
        self._drop_unused_col()
        return [self.copy(part) for part in self._frozen_parts(parts)]

    def _frozen_parts(self, parts: list[NDArray[np.int64]]) -> list[Interaction]:
        return [self.inter_feat[torch.from_numpy(rows)] for rows in parts]

    def frozen_positions(self, frozen: FrozenSplit) -> list[NDArray[np.int64]]:
        """Return the positions of each part's rows among the interactions, (n,) each.

        Raises:
            ValueError: rows of the split are not among the interactions, or they are not divided
                as the split's protocol divides them.
        """
        position = np.full(self.n_source_rows, -1)
        position[self.source_rows] = np.arange(len(self.source_rows))
        parts = [position[rows] for rows in frozen.rows()]
        n_gone = sum(int((part < 0).sum()) for part in parts)
        if n_gone:
            raise ValueError(
                f"split {frozen.name!r} of dataset {self.dataset_name!r} has {n_gone} rows that "
                f"are filtered out now. Were the .user or .item files changed since?"
            )
        user, item = (np.asarray(self.inter_feat[f]) for f in (self.uid_field, self.iid_field))
        times = self.inter_feat[self.time_field] if self.time_field in self.inter_feat else None
        try:
            check_protocol(
                frozen.manifest, parts, user, item, None if times is None else np.asarray(times)
            )
        except ValueError as error:
            raise ValueError(f"split {frozen.name!r} in {frozen.folder}: {error}") from error
        return parts

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        super()._load_inter_feat(token, dataset_path)
        self.n_source_rows = len(self.inter_feat)
        self.source_rows = np.arange(self.n_source_rows)

    def _remove_duplication(self) -> None:
        with self._counting("rm_dup_inter"):
            super()._remove_duplication()

    def _filter_by_field_value(self) -> None:
        with self._counting("val_interval"):
            super()._filter_by_field_value()

    def _filter_inter_by_user_or_item(self) -> None:
        # Leaves out the rows of users and items that the .user or .item file lacks.
        with self._counting("filter_inter_by_user_or_item"):
            super()._filter_inter_by_user_or_item()

    def _filter_by_inter_num(self) -> None:
        # RecBole counts all interactions in Python to find that its default keeps everyone.
        intervals = {self.config[f"{kind}_inter_num_interval"] for kind in ("user", "item")}
        if not intervals <= {None, "[0,inf)"}:
            with self._counting("user_inter_num_interval, item_inter_num_interval"):
                super()._filter_by_inter_num()

    @contextmanager
    def _counting(self, reason: str) -> Iterator[None]:
        """Count the interactions that the block leaves out."""
        n_before = len(self.inter_feat)
        yield
        if n_gone := n_before - len(self.inter_feat):
            self.left_out[reason] = n_gone

    def _reset_index(self) -> None:
        self.source_rows = self.inter_feat.index.to_numpy()
        if self.left_out:
            self._check_rest()
            counts = "; ".join(f"{n:,} by {reason}" for reason, n in self.left_out.items())
            n_left_out = self.n_source_rows - len(self.source_rows)
            self.logger.info(
                f"{n_left_out:,} of {self.n_source_rows:,} interactions are left out: {counts}."
            )
        super()._reset_index()

    def _check_rest(self) -> None:
        """Refuse filters that leave nothing.

        Raises:
            ValueError: no interaction is left; the message says what each setting left out.
        """
        if not len(self.inter_feat):
            counts = ", ".join(f"{reason} {n:,}" for reason, n in self.left_out.items())
            raise ValueError(
                f"dataset {self.dataset_name!r}: none of {self.n_source_rows:,} interactions is "
                f"left. Left out by {counts}."
            )

    def _modality_specs(self) -> Mapping[str, Any]:
        specs = self.config["modalities"] or {}
        if not isinstance(specs, Mapping):
            raise ValueError(
                f"dataset {self.dataset_name!r}: modalities must map names to sources, such as "
                f"{{text: text_feat.npy}}, got {specs!r}."
            )
        return specs

    def _items(self) -> Items:
        return Items(self.config, self.field2id_token[self.iid_field])

    def check_leave_one_out(self) -> None:
        """Refuse leave-one-out into three parts of users with fewer than 3 interactions.

        RecBole takes what there is: such a user would silently have no validation item.
        """
        # The sequential class calls this before it turns interactions into samples.
        split = self.config["eval_args"]["split"]
        if self.benchmark_filename_list is not None or split != {"LS": "valid_and_test"}:
            return
        counts = np.bincount(np.asarray(self.inter_feat[self.uid_field]))
        short = np.flatnonzero((counts > 0) & (counts < 3))
        if short.size:
            tokens = ", ".join(repr(str(t)) for t in self.id2token(self.uid_field, short[:5]))
            raise ValueError(
                f"dataset {self.dataset_name!r}: leave-one-out (valid_and_test) needs 3 "
                f"interactions a user, {short.size} of {(counts > 0).sum()} users have fewer "
                f"(first: {tokens}). Drop them with "
                f'--user_inter_num_interval="[3,inf)".'
            )


class MultimodalSequentialDataset(MultimodalDataset, SequentialDataset):
    """The same over RecBole's sequential dataset, where a row is a user's prefix and next item."""

    def _benchmark_presets(self) -> None:
        list_field = self.iid_field + self.config["LIST_SUFFIX"]
        if list_field not in self.inter_feat:
            raise ValueError(
                f"dataset {self.dataset_name!r} has a fixed split (benchmark_filename: "
                f"{self.benchmark_filename_list}) without the column {list_field!r}, which a "
                f"sequential model needs. Use a dataset with timestamps, or another model."
            )
        super()._benchmark_presets()

    def _set_alias(self, alias_name: str, default_value: list[str | None]) -> None:
        """Let the history of a fixed split share the items' ids, whatever the settings say."""
        list_field = f"{self.iid_field}{self.config['LIST_SUFFIX']}"
        if alias_name == "item_id" and list_field in self.inter_feat:
            default_value = [*default_value, list_field]
        super()._set_alias(alias_name, default_value)

    def data_augmentation(self) -> None:
        """Make samples of interactions; those of a frozen split are made part by part."""
        if self.frozen is None:
            super().data_augmentation()

    def _frozen_parts(self, parts: list[NDArray[np.int64]]) -> list[Interaction]:
        self._aug_presets()
        feat = self.inter_feat
        samples = cut_samples(
            feat[self.uid_field].numpy(),
            feat[self.time_field].numpy(),
            parts,
            self.max_item_list_len,
        )
        made = []
        for target, history, length in samples:
            sample = feat[torch.from_numpy(target)]
            index, n_filled = torch.from_numpy(history), torch.from_numpy(length)
            is_filled = torch.arange(self.max_item_list_len) < n_filled.unsqueeze(1)  # (n, L)
            lists = {self.item_list_length_field: n_filled}
            for field in feat:
                if field != self.uid_field:
                    value = feat[field][index]  # (n, L) or, of a sequence field, (n, L, width)
                    shape = (*is_filled.shape, *[1] * (value.dim() - 2))
                    lists[getattr(self, f"{field}_list_field")] = value * is_filled.view(shape)
            sample.update(Interaction(lists))
            made.append(sample)
        self.inter_feat = cat_interactions(made)
        return made
