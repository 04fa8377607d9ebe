"""Configuration: RecBole's, plus our models and properties, checked keys and no ``eval``.

Priority, highest first: command line, dict (Python API), config files, our properties (for a data
set: the ``dataset.yaml`` of its folder, else what is shipped), RecBole's.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole.config import Config as RecBoleConfig
from recbole.evaluator import metric_types
from recbole.utils import EvaluatorType, ModelType

import recbole_llm.compat  # noqa: F401 - RecBole is repaired before any of it is used
from recbole_llm.registry import get_model_class, suggest
from recbole_llm.splitting.frozen import read_frozen
from recbole_llm.yaml_io import find_config_file, properties_dir, read_yaml, read_yaml_beside

#: The two evaluation protocols by name; see the README for the papers that use each.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "loo": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "random811": {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "order": "RO",
        "group_by": "user",
        "mode": "full",
    },
}

# Where a run writes and how it talks: no number depends on these.
VOLATILE_KEYS = frozenset(
    "cache_dir checkpoint_dir checkpoint_s config_files data_path device gpu_id log_wandb "
    "metric_decimal_place resume runs_dir save_dataloaders save_dataset save_topk show_progress "
    "split_dir state torch_threads use_gpu wandb_project worker".split()
)

# RecBole reads these but lists them in none of its YAML files.
_UNLISTED_KEYS = frozenset(
    "config_files local_rank nproc world_size offset ip port single_spec eval_lambda "
    "wandb_project numerical_features entity_kg_num_interval relation_kg_num_interval".split()
)


# Smallest value of the integers that every run reads; a model checks its own.
_INTEGERS = {
    "epochs": 0,
    "train_batch_size": 1,
    "eval_batch_size": 1,
    "eval_users": 1,
    "eval_step": 0,
    "stopping_step": 0,
    "gradient_accumulation_steps": 1,
    "save_topk": 0,
    "seed": 0,
}
_LEARNERS = ["adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam"]
_INTERVAL = re.compile(r"[(\[]\s*[-+]?[\d.e]+\s*,\s*(?:[-+]?[\d.e]+|inf)\s*[)\]]")


class Config(RecBoleConfig):
    """RecBole's Config that finds our models and refuses keys that nothing reads.

    Raises:
        ValueError: an unknown model, key, metric or protocol, or a value out of place.
        FileNotFoundError: a config file does not exist.
    """

    def __init__(
        self,
        model: str | None = None,
        dataset: str | None = None,
        config_files: Sequence[str | Path] = (),
        overrides: Mapping[str, Any] | None = None,
        command_line: Mapping[str, Any] | None = None,
    ) -> None:
        self._command_line = dict(command_line or {})
        super().__init__(
            model=model,
            dataset=dataset,
            config_file_list=[str(path) for path in config_files],
            config_dict=dict(overrides or {}),
        )

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
            internal.update(read_yaml_beside(model_class))
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
        for key in settings:
            if key not in known:
                raise ValueError(f"{own}: unknown key {key!r}.{suggest(key, sorted(known))}")
        return settings

    def _known_keys(self) -> set[str]:
        known = {key for keys in self.parameters.values() for key in keys}
        return known | set(self.internal_config_dict) | _UNLISTED_KEYS | {"model", "dataset"}

    def _check_keys(self, model: str, dataset: str) -> None:
        known = self._known_keys()
        if not self.model_class.__module__.startswith(("recbole.", "recbole_llm.")):
            known |= set(self.file_config_dict)  # a user's own model may bring its own keys
        for key in self.external_config_dict:
            if key not in known and not key.startswith("alias_of_"):
                raise ValueError(
                    f"unknown key {key!r} ({self._origin(key)}) for model {model} on dataset "
                    f"{dataset}.{suggest(key, sorted(known))}"
                )

    def _origin(self, key: str) -> str:
        for place, source in (
            ("command line", self.cmd_config_dict),
            ("config dict", self.variable_config_dict),
            ("config file", self.file_config_dict),
        ):
            if any(name.split(".")[0] == key for name in source):
                return place
        return "default"

    def _get_final_config_dict(self) -> dict[str, Any]:
        for key in self._only_dotted:  # --a.b=1 keeps what else the defaults have in a
            self.external_config_dict[key] = self.internal_config_dict.get(key)
        for source in (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict):
            for key, value in source.items():
                if key.partition(".")[0] in self._only_dotted:
                    _set_dotted(self.external_config_dict, key, value)
        final: dict[str, Any] = {**self.internal_config_dict, **self.external_config_dict}
        self._check_kinds(final)
        self._resolve_modalities(final)
        self._resolve_protocol(final)
        self._check_metrics(final)
        _check_values(final, self._origin)
        # RecBole refuses its own default here: a full softmax draws no negatives.
        if (
            self.internal_config_dict["MODEL_TYPE"] == ModelType.SEQUENTIAL
            and final.get("loss_type") == "CE"
            and "train_neg_sample_args" not in self.external_config_dict
        ):
            final["train_neg_sample_args"] = None
        return final

    def _check_kinds(self, final: dict[str, Any]) -> None:
        """Refuse text where the default is a number or a switch; make folders text."""
        for key, value in self.external_config_dict.items():
            default = self.internal_config_dict.get(key)
            wanted = "a number" if isinstance(default, (int, float)) else ""
            if isinstance(default, bool):
                wanted = "true or false"
            wrong = str if isinstance(default, bool) else (str, bool)
            if wanted and isinstance(value, wrong):
                raise ValueError(f"{key} must be {wanted}, got {value!r} ({self._origin(key)}).")
        for key in ("data_path", "checkpoint_dir", "cache_dir", "runs_dir"):
            if final.get(key) is None:
                raise ValueError(f"{key} must be a folder, got none ({self._origin(key)}).")
            final[key] = str(final[key])

    def _resolve_modalities(self, final: dict[str, Any]) -> None:
        """Let ``modalities: [text]`` choose among the modalities that the dataset's YAML names."""
        chosen, offered = final.get("modalities"), self.internal_config_dict.get("modalities") or {}
        if isinstance(chosen, str):
            chosen = [chosen]
        if isinstance(chosen, (list, tuple)):
            for name in chosen:
                if name not in offered:
                    raise ValueError(
                        f"modality {name!r} ({self._origin('modalities')}) is not one of dataset "
                        f"{self.dataset!r}, which has: {', '.join(offered) or 'none'}."
                        f"{suggest(str(name), list(offered))}"
                    )
            final["modalities"] = {name: offered[name] for name in chosen}

    def _resolve_frozen(self, final: dict[str, Any]) -> None:
        """Let ``split`` name a frozen split, whose protocol and row settings a run then has."""
        folder = Path(final["data_path"]) / self.dataset
        frozen = read_frozen(str(final["split"]), folder, self.dataset)
        for key, value in {**frozen.settings, "protocol": frozen.protocol}.items():
            given = _plain(self.external_config_dict.get(key))
            if given is not None and given != value:
                raise ValueError(
                    f"{key}={given!r} ({self._origin(key)}) does not fit split {frozen.name!r}, "
                    f"which was frozen with {key}={value!r}. Leave it out, or freeze another "
                    f"split with `recbole_llm split`."
                )
            final[key] = value
        final |= {"split": frozen.name, "split_sha256": frozen.sha256}
        final["split_dir"] = str(frozen.folder)
        sequential = self.internal_config_dict["MODEL_TYPE"] == ModelType.SEQUENTIAL
        final["eval_args"] = {
            "split": {"frozen": frozen.name},
            "order": "TO" if sequential or frozen.manifest["seed"] is None else "RO",
            "group_by": "user",
            "mode": "full",
        }

    def _resolve_protocol(self, final: dict[str, Any]) -> None:
        asked = self.external_config_dict.get("protocol")
        if final["split"] is not None:
            if "eval_args" in self.external_config_dict:
                raise ValueError("split and eval_args are both given, and both say how to split.")
            return self._resolve_frozen(final)
        if asked is not None and asked not in PROTOCOLS:
            raise ValueError(
                f"unknown protocol {asked!r} ({self._origin('protocol')}); expected one of "
                f"{', '.join(PROTOCOLS)}.{suggest(str(asked), list(PROTOCOLS))} Others are frozen "
                f"first: recbole_llm split --dataset={self.dataset} --protocol=...; see its --help."
            )
        if asked is not None and "eval_args" in self.external_config_dict:
            raise ValueError(
                "protocol and eval_args are both given, and both say how to split. Give one."
            )
        if final.get("benchmark_filename"):
            if asked is not None:
                raise ValueError(
                    f"dataset {self.dataset!r} comes with a fixed split "
                    f"(benchmark_filename: {final['benchmark_filename']}), which protocol "
                    f"{asked!r} cannot re-split. Leave out --protocol."
                )
            final["protocol"] = "fixed"
            final["eval_args"] = {**PROTOCOLS["random811"], **final.get("eval_args", {})}
            # Nothing is ordered by a fixed split, but RecBole wants the model's usual order named.
            sequential = self.internal_config_dict["MODEL_TYPE"] == ModelType.SEQUENTIAL
            final["eval_args"]["order"] = "TO" if sequential else "RO"
        elif "eval_args" in self.external_config_dict:
            final["protocol"] = next(
                (name for name, args in PROTOCOLS.items() if args == final["eval_args"]), "custom"
            )
        else:
            sequential = self.internal_config_dict["MODEL_TYPE"] == ModelType.SEQUENTIAL
            default = "loo" if sequential else "random811"
            final["protocol"] = final.get("protocol") or default
            final["eval_args"] = {**PROTOCOLS[final["protocol"]]}

    def _check_metrics(self, final: dict[str, Any]) -> None:
        final["metrics"] = names = _as_list(final["metrics"])
        for metric in names:
            if str(metric).lower() not in metric_types:
                raise ValueError(
                    f"unknown metric {metric!r} ({self._origin('metrics')})."
                    f"{suggest(str(metric), list(metric_types))} "
                    f"RecBole's metrics: {', '.join(sorted(metric_types))}."
                )
        final["topk"] = topk = _as_list(final["topk"])
        if not topk or any(type(k) is not int or k < 1 for k in topk):
            raise ValueError(
                f"topk must be integers >= 1, got topk={topk} ({self._origin('topk')})."
            )
        name, _, k = str(final["valid_metric"]).partition("@")
        lower = [metric.lower() for metric in names]
        if name.lower() not in lower or (k and k not in map(str, topk)):
            raise ValueError(
                f"valid_metric {final['valid_metric']!r} is not measured: metrics are "
                f"{names}, topk {topk}. Add it to them, or choose another."
            )
        kinds = {metric_types[metric] for metric in lower}
        mode = final["eval_args"].get("mode", "full") if isinstance(final["eval_args"], dict) else 0
        full = "full" in (mode.values() if isinstance(mode, dict) else [mode])
        if EvaluatorType.VALUE in kinds and (len(kinds) > 1 or full):
            value = [m for m in names if metric_types[m.lower()] == EvaluatorType.VALUE]
            raise ValueError(
                f"{', '.join(value)} cannot be measured on a ranking of every item, nor together "
                f"with ranking metrics. Set --eval_args.mode=labeled and such metrics alone."
            )

    def _set_default_parameters(self) -> None:
        parent = Path(self.final_config_dict["data_path"])
        super()._set_default_parameters()
        # RecBole ships ml-100k and always reads its own copy; a user's own folder goes first.
        if self.dataset == "ml-100k" and (parent / "ml-100k" / "ml-100k.inter").exists():
            self.final_config_dict["data_path"] = str(parent / "ml-100k")

    def fingerprint(self) -> str:
        """Return a sha256 hex digest of every setting that a number can depend on."""
        settings = {k: v for k, v in self.to_dict().items() if k not in VOLATILE_KEYS}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved settings as plain JSON values."""
        return {key: _plain(value) for key, value in sorted(self.final_config_dict.items())}


def _check_values(final: Mapping[str, Any], origin: Any) -> None:
    """Check what every run reads; a model checks its own."""
    for key, low in _INTEGERS.items():
        value = final[key]
        if type(value) is not int or value < low:
            raise ValueError(
                f"{key} must be an integer >= {low}, got {key}={value!r} ({origin(key)})."
            )
    threads = final["torch_threads"]
    if threads is not None and (type(threads) is not int or threads < 1):
        raise ValueError(
            f"torch_threads must be an integer >= 1, got {threads!r} ({origin('torch_threads')})."
        )
    # RecBole would train with Adam after a warning.
    if str(final["learner"]).lower() not in _LEARNERS:
        raise ValueError(
            f"unknown learner {final['learner']!r} ({origin('learner')}); expected one of "
            f"{', '.join(_LEARNERS)}.{suggest(str(final['learner']), _LEARNERS)}"
        )
    # RecBole would filter nothing after a warning.
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        parts = str(final[key]).split(";") if final[key] is not None else []
        if not all(_INTERVAL.fullmatch(part.strip()) for part in parts):
            raise ValueError(
                f'{key} must be intervals such as "[5,inf)", got {final[key]!r} ({origin(key)}).'
            )
    rate = final["learning_rate"]
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not rate > 0:
        raise ValueError(
            f"learning_rate must be a number > 0, got {rate!r} ({origin('learning_rate')}). "
            f"YAML reads 1e-3 as text; write 1.0e-3."
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _set_dotted(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b`` inside the dict ``a``; a plain key is replaced whole."""
    *parents, leaf = key.split(".")
    for parent in parents:
        inner = settings.get(parent)
        settings[parent] = dict(inner) if isinstance(inner, Mapping) else {}
        settings = settings[parent]
    settings[leaf] = value


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
