"""The README of an exported run: data, protocol, metrics, settings, versions, licences."""

from collections.abc import Mapping
from pathlib import Path

from recbole_llm.runs.loaded import LoadedRun

#: Licences of the language models that packages carry, by alias.
_LICENCES = {"smollm2-135m": "Apache-2.0 (SmolLM2-135M, Hugging Face)"}


def model_card(loaded: LoadedRun, contents: Mapping[str, str]) -> str:
    """Return the model card of a run, Markdown.

    Args:
        loaded: finished run.
        contents: what each file next to the card holds, by its name.
    """
    record = loaded.record
    sections = [
        f"# {record.model} on {record.dataset}",
        "",
        f"A recommender trained by recbole-llm {_version(record.environment)}, run `{record.id}`, "
        f"{record.finished[:10]}.",
        "",
        "## Use",
        "",
        "```",
        "recbole_llm recommend <run's folder> --users=ID --k=10",
        "run_recbole --config_files=settings.yaml      # trains it again",
        "```",
        "",
        "## Files",
        "",
        *[f"- `{name}`: {text}" for name, text in contents.items()],
        "",
        "## Data and protocol",
        "",
        *_data_lines(loaded),
        "",
        "## Metrics",
        "",
        *_metric_lines(record.metrics),
        "",
        f"The epoch was chosen on validation by {loaded.config['valid_metric']}; test was measured "
        f"once.",
        *_llm_lines(loaded),
        "",
        "## Versions",
        "",
        *[f"- {name} {version}" for name, version in _versions(record.environment).items()],
        f"- commit: {record.environment.get('git_commit') or 'unknown'}",
        f"- device: {record.environment.get('device', 'unknown')}",
        "",
    ]
    return "\n".join(sections)


def _versions(environment: Mapping[str, object]) -> dict[str, str]:
    versions = environment.get("versions", {})
    return {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}


def _version(environment: Mapping[str, object]) -> str:
    return _versions(environment).get("recbole-llm", "of an unknown version")


def _data_lines(loaded: LoadedRun) -> list[str]:
    record, split = loaded.record, loaded.split
    dataset = split.dataset
    sizes = ", ".join(
        f"{name} {len(part):,}"
        for name, part in zip(("train", "valid", "test"), split[1:], strict=True)
    )
    hidden = "hidden" if loaded.config["mask_history"] else "not hidden"
    lines = [
        f"- dataset: {record.dataset}, {dataset.user_num - 1:,} users, {dataset.item_num - 1:,} "
        f"items; interactions or samples: {sizes}",
        f"- protocol: {record.protocol}, seed {record.seed}; all items are ranked, known items are "
        f"{hidden}",
        f"- sha256 of the split: {record.data.get('split', 'unknown')}",
    ]
    if any(p.get("leaky") for p in record.data.get("user_profiles", {}).values()):
        lines.append("- LEAKY: its user profiles were written from held-out interactions too")
    return lines


def _metric_lines(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    names = list(dict.fromkeys(name for part in metrics.values() for name in part))
    rows = [
        f"| {part} | " + " | ".join(f"{values[name]:.4f}" for name in names) + " |"
        for part, values in metrics.items()
    ]
    return [f"| | {' | '.join(names)} |", f"|---{'|---:' * len(names)}|", *rows]


def _llm_lines(loaded: LoadedRun) -> list[str]:
    """Return the section on the language model, of a model that has one."""
    config = loaded.config
    if "llm_path" not in config or not config["llm_path"]:
        return []
    path = str(config["llm_path"])
    return [
        "",
        "## Language model",
        "",
        f"- {path if path in _LICENCES else Path(path).name}, "
        f"{config['llm_num_layers'] or 'all'} layers; its weights are not in this folder",
        f"- licence: {_LICENCES.get(path) or 'see the page of the model'}",
    ]
