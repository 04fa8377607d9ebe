"""Configuration: RecBole's, plus our models and properties, checked keys and no ``eval``.

Priority, highest first: command line, dict (Python API), config files, our properties (of a data
set: its folder's ``dataset.yaml``, else the shipped one), RecBole's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from recbole.config import Config as RecBoleConfig
from recbole.utils import ModelType

import recbole_llm.compat  # noqa: F401 - RecBole is repaired before any of it is used
from recbole_llm.files import check_writable
from recbole_llm.launcher import launched
from recbole_llm.registry import StageSpec, get_hooks, get_model_class, suggest
from recbole_llm.secrets import mask_values
from recbole_llm.settings.checks import (
    check_columns,
    check_kind,
    check_metrics,
    check_negatives,
    check_size,
)
from recbole_llm.settings.device import MPS, gpu_of, share_gpus
from recbole_llm.settings.fingerprint import fingerprint_of
from recbole_llm.settings.labels import check_labels_and_negatives
from recbole_llm.settings.resolve import (
    Given,
    plain,
    resolve_forms,
    resolve_modalities,
    resolve_protocol,
)
from recbole_llm.settings.run import settings_of_run
from recbole_llm.yaml_io import find_config_file, properties_dir, read_yaml, read_yaml_beside

# RecBole reads these but lists them in none of its YAML files.
_UNLISTED_KEYS = frozenset(
    "config_files eval_lambda wandb_project numerical_features entity_kg_num_interval "
    "relation_kg_num_interval".split()
)

# RecBole's own way to several processes, in whose place a launcher starts them.
_RECBOLE_PROCESSES = frozenset("local_rank nproc world_size offset ip port single_spec".split())

# What a stage takes over from the model it is a stage of; the rest is its own default.
_STAGE_KEYS = (
    "seed reproducibility gpu_id use_gpu state show_progress data_path cache_dir checkpoint_dir "
    "checkpoint_s runs_dir torch_threads metrics topk valid_metric metric_decimal_place eval_users "
    "rbp_persistence active_users diversity_modality mask_history missing_modality"
).split()

# Checked by ``resolve_protocol``, for a frozen split has a protocol of its own.
_RESOLVED_KEYS = frozenset(["protocol"])


class StageOrigin(NamedTuple):
    """What an error says of a setting that was given for a stage.

    Attributes:
        prefix: text before a key's name, such as ``graph_stage.``.
        place: place that the stage's settings come from.
        keys: keys that were given for the stage; it takes the others over or has a default.
    """

    prefix: str
    place: str
    keys: frozenset[str]


class Config(RecBoleConfig):
    """RecBole's Config that finds our models, and checks every key and value before a run.

    Args:
        model: name of a model, or ``package.module:Class``.
        dataset: name of a data set.
        config_files: YAML files, the later over the earlier.
        overrides: settings by key; over the files.
        command_line: settings by key; over everything else.
        stage: origin of the settings, where they are those of a stage.

    Attributes:
        stages: settings of each earlier stage that the model needs, by the stage's name.

    Raises:
        ValueError: an unknown model, key, metric or protocol, or a value that is not declared.
        FileNotFoundError: a config file does not exist.
    """

    def __init__(
        self,
        model: str | None = None,
        dataset: str | None = None,
        config_files: Sequence[str | Path] = (),
        overrides: Mapping[str, Any] | None = None,
        command_line: Mapping[str, Any] | None = None,
        *,
        stage: StageOrigin | None = None,
    ) -> None:
        self._command_line = dict(command_line or {})
        self._stage = stage
        self._default_origins: dict[str, str] = {}
        super().__init__(
            model=model,
            dataset=dataset,
            config_file_list=[str(path) for path in config_files],
            config_dict=dict(overrides or {}),
        )
        hooks = get_hooks(self.model_class)
        self.stages = {
            name: stage_config(self, name, spec)
            for name, spec in hooks.required_stages(self).items()
        }
        hooks.check_settings(self)

    def check_available(self) -> None:
        """Look up what the model reads besides the data set, and where the results go.

        Raises:
            ValueError, OSError, ImportError: something is missing, such as a language model's
                files, or cannot be written; the text says what to do.
        """
        for key in ("runs_dir", "checkpoint_dir", "cache_dir"):
            check_writable(Path(self[key]), key)
        get_hooks(self.model_class).check_available(self)

    def compatibility_settings(self) -> None:
        """Do nothing: upstream sets numpy names that numpy 2 refuses; see ``compat``."""

    def _load_config_files(self, file_list: Sequence[str] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for name in file_list or ():
            merged.update(read_yaml(find_config_file(name)))
        return merged

    def _load_variable_config_dict(self, config_dict: dict[str, Any] | None) -> dict[str, Any]:
        return dict(config_dict or {})

    def _load_cmd_line(self) -> dict[str, Any]:
        return self._command_line

    def _merge_external_config_dict(self) -> None:
        merged: dict[str, Any] = {}
        replaced: set[str] = set()
        for source in (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict):
            for key, value in source.items():
                check_size(key, value)
                if "." not in key:
                    replaced.add(key)
                _set_dotted(merged, key, value)
        self.external_config_dict = merged
        self._only_dotted = set(merged) - replaced

    def _get_model_and_dataset(
        self, model: str | None, dataset: str | None
    ) -> tuple[str, type, str]:
        model = model or self.external_config_dict.get("model")
        dataset = dataset or self.external_config_dict.get("dataset")
        for name, value in (("model", model), ("dataset", dataset)):
            if not value:
                raise ValueError(
                    f"no {name} given. Add --{name}=NAME; `run_recbole --list-{name}s` lists them."
                )
        model_class = get_model_class(str(model))
        if not isinstance(getattr(model_class, "type", None), ModelType):
            raise ValueError(
                f"model {model!r}: {model_class.__name__} is not a recommender of RecBole's kind; "
                f"derive it from GeneralRecommender or a relative of it."
            )
        return model_class.__name__, model_class, str(dataset)

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        internal = self.internal_config_dict
        properties = properties_dir()
        internal.update(read_yaml(properties / "overall.yaml"))
        if model_class.__module__.startswith("recbole_llm."):
            internal.update(read_yaml(properties / "model" / f"{model}.yaml"))
        elif not model_class.__module__.startswith("recbole."):
            own = read_yaml_beside(model_class)
            internal.update(own)
            self._default_origins.update(dict.fromkeys(own, f"{model_class.__name__}.yaml"))
        # A data set's settings, then those of this model on it (published, or tuned on validation).
        internal.update(self._dataset_settings(dataset))
        tuned = properties / "model" / model / f"{dataset}.yaml"
        if tuned.exists():
            internal.update(read_yaml(tuned))
        self._check_keys(model, dataset)

    def _dataset_settings(self, dataset: str) -> dict[str, Any]:
        """Read ``dataset.yaml`` of the data set's folder, else what is shipped for its name."""
        parent = self.external_config_dict.get("data_path", self.internal_config_dict["data_path"])
        own = Path(str(parent)) / dataset / "dataset.yaml"
        if not own.is_file():
            shipped = properties_dir() / "dataset" / f"{dataset}.yaml"
            return read_yaml(shipped) if shipped.exists() else {}
        settings, known = read_yaml(own), self._known_keys()
        for key, value in settings.items():
            check_size(key, value)
            if key not in known:
                raise ValueError(f"{own}: unknown key {key!r}.{suggest(key, sorted(known))}")
        self._default_origins.update(dict.fromkeys(settings, str(own)))
        return settings

    def _known_keys(self) -> set[str]:
        known = {key for keys in self.parameters.values() for key in keys}
        return known | set(self.internal_config_dict) | _UNLISTED_KEYS | {"model", "dataset"}

    def _check_keys(self, model: str, dataset: str) -> None:
        known = self._known_keys()
        if not self.model_class.__module__.startswith(("recbole.", "recbole_llm.")):
            known |= set(self.file_config_dict)  # a user's own model may bring its own keys
        for key in self.external_config_dict:
            if key in _RECBOLE_PROCESSES:
                raise ValueError(
                    f"{self._full_name(key)} ({self._origin(key)}) is not a setting here: several "
                    f"processes are started by `torchrun --nproc-per-node=N -m recbole_llm ...`, "
                    f"see docs/clusters.md."
                )
            if key not in known and not key.startswith("alias_of_"):
                name = self._full_name(key)
                raise ValueError(
                    f"unknown key {name!r} ({self._origin(name)}) for model {model} on dataset "
                    f"{dataset}.{suggest(key, sorted(known), name.removesuffix(key))}"
                )

    def _full_name(self, key: str) -> str:
        """Return ``graph_stage.n_layers`` for a key that was given for the graph stage."""
        return self._stage.prefix + key if self._stage and key in self._stage.keys else key

    def _origin(self, name: str) -> str:
        """Return the place that a setting comes from, by its full name."""
        if self._stage and name.startswith(self._stage.prefix):
            return self._stage.place
        key = name.partition(".")[0]
        for place, source in (
            ("command line", self.cmd_config_dict),
            ("config dict", self.variable_config_dict),
            ("config file", self.file_config_dict),
        ):
            if any(given.partition(".")[0] == key for given in source):
                return place
        return self._default_origins.get(key, "default")

    def _get_final_config_dict(self) -> dict[str, Any]:
        for key in self._only_dotted:  # --a.b=1 keeps what else the defaults have in a
            self.external_config_dict[key] = self.internal_config_dict.get(key)
        for source in (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict):
            for key, value in source.items():
                if key.partition(".")[0] in self._only_dotted:
                    _set_dotted(self.external_config_dict, key, value)
        final: dict[str, Any] = {**self.internal_config_dict, **self.external_config_dict}
        sequential = self.internal_config_dict["MODEL_TYPE"] == ModelType.SEQUENTIAL
        given = Given(self.dataset, self.external_config_dict, self._origin, sequential)
        resolve_forms(final, given)
        resolve_modalities(final, self.internal_config_dict.get("modalities"), given)
        self._check_declared(final)
        resolve_protocol(final, given)
        check_metrics(final, self._origin)
        # RecBole refuses its own default here: a full softmax draws no negatives.
        if (
            sequential
            and final.get("loss_type") == "CE"
            and "train_neg_sample_args" not in self.external_config_dict
        ):
            final["train_neg_sample_args"] = None
        check_labels_and_negatives(final, self.model_class, self._origin)
        return final

    def _check_declared(self, final: dict[str, Any]) -> None:
        """Compare every setting with its declaration, or the kind of its default."""
        defaults = {key: self.internal_config_dict.get(key) for key in final}
        declared = settings_of_run(self.model_class, defaults)
        for key, declaration in declared.items():
            if key not in _RESOLVED_KEYS:
                declaration.check(self._full_name(key), final.get(key), self._origin)
        for key in sorted(self.external_config_dict.keys() - declared.keys()):
            check_kind(self._full_name(key), final[key], defaults[key], self._origin)
        check_columns(final, self._origin)
        check_negatives(final, self._origin)

    def _set_default_parameters(self) -> None:
        parent = Path(self.final_config_dict["data_path"])
        super()._set_default_parameters()
        # RecBole ships ml-100k and always reads its own copy; a user's own folder goes first.
        if self.dataset == "ml-100k" and (parent / "ml-100k" / "ml-100k.inter").exists():
            self.final_config_dict["data_path"] = str(parent / "ml-100k")

    def _init_device(self) -> None:
        """Choose the device; of several processes each has a GPU, and the first one reports."""
        final, asked = self.final_config_dict, self.external_config_dict.get("device")
        if asked is not None:
            final["gpu_id"] = gpu_of(str(asked), self.external_config_dict)
        if launched().n_processes > 1 and not self._stage:  # a stage takes the keys over
            share_gpus(final)
        super()._init_device()
        if asked == "mps":
            final["device"] = MPS

    def fingerprint(self) -> str:
        """Return a sha256 hex digest of every setting that a number can depend on."""
        return fingerprint_of(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved settings as plain JSON values, without the secrets in them."""
        settings = {key: plain(value) for key, value in sorted(self.final_config_dict.items())}
        return mask_values(settings)


def stage_config(config: Config, name: str, spec: StageSpec) -> Config:
    """Return the settings of one stage: its model's own, ``<name>_stage`` over them.

    Raises:
        ValueError: a key or value in ``<name>_stage`` is wrong; names it ``<name>_stage.<key>``.
    """
    external = config.external_config_dict
    handed = [*_STAGE_KEYS, *spec.keys, *config.parameters["Dataset"]]
    handed.remove("MAX_ITEM_LIST_LENGTH")  # how much history each stage reads is its own matter
    settings = {key: config[key] for key in handed if key in config}
    settings["data_path"] = str(Path(config["data_path"]).parent)
    settings["modalities"] = config["modalities"]
    if config["device"].type == "mps":
        settings["device"] = "mps"
        settings.pop("gpu_id", None)
    if config["split"] is not None:
        settings["split"] = config["split_dir"]
    elif config["protocol"] == "custom" or "eval_args" in external:
        settings["eval_args"] = config["eval_args"]
    elif config["protocol"] != "fixed":
        settings["protocol"] = config["protocol"]
    key = f"{name}_stage"
    own = config[key] or {}
    origin = StageOrigin(f"{key}.", config._origin(key), frozenset(own))
    try:
        return Config(spec.model, config["dataset"], overrides={**settings, **own}, stage=origin)
    except ValueError as error:  # RecBole's own do not know the stage
        raise ValueError(f"{'' if key in str(error) else f'{key}: '}{error}") from error


def _set_dotted(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b`` inside the dict ``a``; a plain key is replaced whole."""
    *parents, leaf = key.split(".")
    for parent in parents:
        inner = settings.get(parent)
        settings[parent] = dict(inner) if isinstance(inner, Mapping) else {}
        settings = settings[parent]
    settings[leaf] = value
