"""What ``run_recbole`` prints of a run: its metrics, its stages, and where its record is."""

from collections.abc import Mapping

from tabulate import tabulate

from recbole_llm.metrics.register import short_name
from recbole_llm.record import RunRecord, Stage


def run_summary(record: RunRecord) -> str:
    """Return a run's result lines, the table of its stages, and the path of its record."""
    lines = [f"{part:<5}  {_metrics_text(metrics)}" for part, metrics in record.metrics.items()]
    if record.protocol.startswith("cold_"):
        lines += _cold_lines(record.metrics_cold.get("test", {}))
    lines += [
        f"       stage {stage.name} alone: test {_metrics_text(stage.metrics['test'])}"
        for stage in record.stages
        if "test" in stage.metrics
    ]
    rows = [_stage_row(stage) for stage in record.stages]
    table = tabulate(rows, headers=["stage", "seconds", "peak MiB", "trainable parameters"])
    path = f"record: {record.folder}/record.json"
    return "\n".join(["", _title(record), *lines, "", table, "", path])


def _title(record: RunRecord) -> str:
    split = f", split {record.config['split']}" if record.config.get("split") else ""
    title = f"{record.model} on {record.dataset} ({record.protocol}{split}, seed {record.seed})"
    sets = record.data.get("user_profiles", {}).values()
    if any(profiles["leaky"] for profiles in sets):
        title += "  LEAKY: its user profiles were written from held-out interactions too"
    if any(profiles.get("image_words", False) for profiles in sets):
        title += "  IMAGE WORDS: class names stand in for descriptions of the images"
    return title


def _cold_lines(groups: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a line for each group of a cold-start split, with its size."""
    return [
        f"       test, {group.replace('_', ' ')} ({values['n_interactions']:,} interactions of "
        f"{values['n_users']:,} users): "
        + _metrics_text({k: v for k, v in values.items() if not k.startswith("n_")})
        for group, values in groups.items()
    ]


def _stage_row(stage: Stage) -> tuple[str, str, str, str]:
    cached = f" (cached; {stage.cached_from_s:.1f})" if stage.cached_from_s is not None else ""
    share = (
        f"{stage.trainable:,} ({stage.trainable / stage.parameters:.2%})"
        if stage.parameters
        else "-"
    )
    return stage.name, f"{stage.seconds:.1f}{cached}", f"{stage.peak_bytes / 2**20:,.0f}", share


def _metrics_text(metrics: Mapping[str, float]) -> str:
    """Return ``R@10 0.1234  N@10 0.0567``."""
    return "  ".join(f"{short_name(name)} {value:.4f}" for name, value in metrics.items())
