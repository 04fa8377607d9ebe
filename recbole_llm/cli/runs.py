"""``recbole_llm runs``: lists runs, shows one, removes those without a result."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.cli.settings import refuse_settings

if TYPE_CHECKING:
    from recbole_llm.runs.folders import RunFolder

HELP = "list runs, show one, or remove those that did not finish"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``list``, ``show`` and ``clean`` with their options."""
    parser.description = "Lists runs by a metric, shows one, or removes those without a result."
    actions = parser.add_subparsers(dest="action", metavar="list|show|clean")
    parser.set_defaults(runs_dir=Path("runs"), sort=None, model=None, dataset=None, status=None)
    listing = actions.add_parser("list", help="all runs, newest first", allow_abbrev=False)
    listing.add_argument("--sort", metavar="METRIC", help="such as recall@20; of the test part")
    listing.add_argument("--model", help="runs of this model alone")
    listing.add_argument("--dataset", help="runs on this dataset alone")
    listing.add_argument("--status", help="finished, failed, interrupted, stopped or running")
    show = actions.add_parser("show", help="one run", allow_abbrev=False)
    show.add_argument("run", help="the run's folder")
    show.add_argument("--json", action="store_true", help="print the whole record")
    clean = actions.add_parser("clean", help="remove runs without a result", allow_abbrev=False)
    clean.add_argument("--yes", action="store_true", help="remove what is listed")
    for action in (listing, clean):
        action.add_argument("--runs_dir", type=Path, default=Path("runs"), help="folder (runs)")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """List, show or remove.

    Raises:
        FileNotFoundError: there is no such folder or run.
        ValueError: a word that is no action or option.
    """
    refuse_settings(rest)
    actions = {"show": _show, "clean": _clean}
    return actions.get(arguments.action, _list)(arguments)


def _list(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from recbole_llm.runs.folders import find_runs

    runs = [run for run in reversed(find_runs(arguments.runs_dir)) if _is_asked(run, arguments)]
    metric = arguments.sort
    if metric is not None:
        _check_metric(metric, runs)
        lowest = float("-inf")
        runs.sort(key=lambda run: lowest if (x := run.metric(metric)) is None else x, reverse=True)
    heads = ["run", "status", "test", "MiB"]
    print(tabulate([_row(run, metric) for run in runs], headers=heads, disable_numparse=True))
    total = sum(run.n_bytes for run in runs) / 2**20
    print(f"\n{len(runs)} runs, {total:,.1f} MiB with checkpoints and logs")
    return 0


def _is_asked(run: "RunFolder", arguments: argparse.Namespace) -> bool:
    record = run.record
    return (
        (arguments.status is None or run.status == arguments.status)
        and (arguments.model is None or (record is not None and record.model == arguments.model))
        and (
            arguments.dataset is None
            or (record is not None and record.dataset == arguments.dataset)
        )
    )


def _check_metric(name: str, runs: "Sequence[RunFolder]") -> None:
    """Check that some run has the metric.

    Raises:
        ValueError: none has; the nearest name is suggested.
    """
    from recbole_llm.registry import suggest

    known = {key for run in runs if run.record for key in run.record.metrics.get("test", {})}
    if known and name not in known:
        raise ValueError(f"no run has the metric {name!r}.{suggest(name, sorted(known))}")


def _row(run: "RunFolder", metric: str | None) -> list[str]:
    metrics = run.record.metrics.get("test", {}) if run.record else {}
    names = [metric] if metric else list(metrics)[:2]
    shown = "  ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)
    return [run.folder.name, run.status, shown, f"{run.n_bytes / 2**20:,.1f}"]


def _show(arguments: argparse.Namespace) -> int:
    from recbole_llm.record import RunRecord
    from recbole_llm.runs.summary import run_summary

    record = RunRecord.load(arguments.run)
    if arguments.json:
        print((Path(record.folder) / "record.json").read_text(encoding="utf-8"))
        return 0
    print(run_summary(record))
    print(f"status: {record.status}{': ' + record.error if record.error else ''}")
    print(f"command: {record.command}")
    print(f"files: {json.dumps(record.files)}")
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    """List the runs without a result; remove them with ``--yes``."""
    from recbole_llm.runs.folders import UNFINISHED, find_runs, remove_runs

    runs = [run for run in find_runs(arguments.runs_dir) if run.status in UNFINISHED]
    for run in runs:
        print(f"{run.status:<11}  {run.n_bytes / 2**20:>9,.1f} MiB")
        print("\n".join(f"    {path}" for path in (run.folder, *run.paths)))
    if not runs:
        print(f"every run in {arguments.runs_dir} has finished; nothing to remove")
        return 0
    if not arguments.yes:
        print("nothing was removed; the same command with --yes removes these")
        return 0
    kept = remove_runs(runs)
    print("\n".join([*kept, f"removed: {len(runs) - len(kept)} runs"]))
    return 0
