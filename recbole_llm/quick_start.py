"""One run, from settings to a record: config, data, stages, model, trainer, record."""

import logging
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recbole_llm.config import Config
from recbole_llm.data.describe import describe_data, describe_inputs
from recbole_llm.data.loader import FullRankLoader
from recbole_llm.data.loading import Loaders, Split, load_split
from recbole_llm.data.profile import check_split
from recbole_llm.locks import clear_partials
from recbole_llm.model.base import hooks_of
from recbole_llm.processes import from_main, is_main, joined, main_first
from recbole_llm.record import RunRecord, claimed_run
from recbole_llm.runs.rankings import rankings_path, write_rankings
from recbole_llm.secrets import mask_secrets
from recbole_llm.terminal import shows_bars
from recbole_llm.trainer.cold import cold_metrics
from recbole_llm.trainer.fit import evaluated_parts, fit
from recbole_llm.trainer.harness import HarnessMixin, OnValidation
from recbole_llm.trainer.run_log import FILE_ONLY, logging_to
from recbole_llm.trainer.staged import run_stages
from recbole_llm.trainer.trainer import check_processes

#: Programs whose command line a run's record keeps.
CONSOLE_SCRIPTS = ("run_recbole", "recbole_llm", "run_sweep")


class RunStopped(Exception):  # noqa: N818 - not an error: the caller has seen enough
    """Raised by ``Hooks.on_validation`` to end a run early; its record says ``stopped``."""


class Hooks(NamedTuple):
    """Callbacks from the caller, such as a sweep that starts many runs.

    Attributes:
        on_validation: callback after each validation, with the epoch and the ``valid_metric``.
        evaluate_test: whether the test part is scored; a sweep's trials leave it out.
        origin: sweep that the run belongs to and its place in it, kept in the record.
    """

    on_validation: OnValidation | None = None
    evaluate_test: bool = True
    origin: Mapping[str, Any] = {}


def run(
    model: str | None = None,
    dataset: str | None = None,
    *,
    config_files: Sequence[str | Path] = (),
    command_line: Mapping[str, Any] | None = None,
    hooks: Hooks | None = None,
    **overrides: Any,
) -> RunRecord:
    """Train a model, evaluate it once on the test part, and return the run's record.

    Args:
        model: a model of ours or RecBole's, or ``package.module:Class``.
        dataset: name of a dataset.
        config_files: YAML files, the later over the earlier.
        command_line: parsed ``--key=value`` settings; over everything else.
        hooks: callbacks from the caller, such as a sweep that starts many runs.
        overrides: settings by name, e.g. ``epochs=5``; over the files.

    Of several processes that ``torchrun`` or ``accelerate launch`` started, each calls this.

    Returns:
        The record, as written to ``runs/<id>/record.json``.

    Raises:
        ValueError: a setting or a file is wrong; the text says which and what to do. Or the run
            to resume is still going on.
        FileNotFoundError: a file is missing.
    """
    hooks = hooks or Hooks()
    if hooks.origin and "kind" not in hooks.origin:
        raise ValueError(f"hooks.origin must have a kind, such as 'final', got {hooks.origin!r}.")
    with joined():
        with main_first():
            config = Config(model, dataset, config_files, overrides, command_line)
            check_processes(config)
            config.check_available()
        with _claimed(config) as (record, resumed):
            _run_logged(config, record, hooks, resumed)
    return record


@contextmanager
def _claimed(config: Config) -> Iterator[tuple[RunRecord, bool]]:
    """Remove what killed runs were writing, and hold this run's folder, in the main process.

    Yields:
        The record, and whether it is that of an unfinished run, in every process.
    """

    def claim() -> tuple[RunRecord, bool]:
        runs = Path(config["runs_dir"])
        clear_partials(runs)
        clear_partials(Path(config["checkpoint_dir"]), locked_in=runs)
        clear_partials(Path(config["cache_dir"]) / "stages")
        return stack.enter_context(claimed_run(config, _command()))

    with ExitStack() as stack:
        yield from_main(claim)


def _run_logged(config: Config, record: RunRecord, hooks: Hooks, resumed: bool) -> None:
    """Do the work of a run; its record says how it ended."""
    record.status, record.error, record.origin = "running", "", dict(hooks.origin)
    log_file = Path("log") / config["model"] / f"{record.id}.log"
    record.files["log"] = str(log_file)
    if config["torch_threads"]:
        torch.set_num_threads(config["torch_threads"])
    with logging_to(log_file, str(config["state"])) as log:
        log.info("%s", _first_line(config, record, resumed))
        if config["resume"] and not resumed:
            log.info("--resume: no unfinished run of these settings; starting a new one")
        record.save()
        try:
            _run(config, record, hooks, resumed)
        except BaseException as error:
            record.status, record.error = _status_of(error)
            log.debug(traceback.format_exc())
            with suppress(OSError):  # a full disk: the error that stopped the run is what to report
                record.finish()
            raise
        record.status = "finished"
        record.finish()


def _first_line(config: Config, record: RunRecord, resumed: bool) -> str:
    """Return model, dataset, protocol, device and record of a run."""
    return (
        f"{record.model} on {record.dataset} ({record.protocol}, seed {record.seed}), "
        f"{config['device']}: {record.folder}{' (resumed)' if resumed else ''}"
    )


def _command() -> str:
    """Return the command line of this process; of a script that calls ``run`` its name alone.

    The settings are in the record anyway, and a script's own options are not the record's matter.
    """
    program, *words = sys.argv
    name = Path(program).name
    if program.endswith("recbole_llm/__main__.py"):
        return shlex.join(["python", "-m", "recbole_llm", *map(mask_secrets, words)])
    return shlex.join([name, *map(mask_secrets, words)] if name in CONSOLE_SCRIPTS else [name])


def _status_of(error: BaseException) -> tuple[str, str]:
    """Return the status of a run that an exception ended, and its text."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted by the user"
    if isinstance(error, RunStopped):
        return "stopped", str(error)
    return "failed", f"{type(error).__name__}: {error}"


def _run(config: Config, record: RunRecord, hooks: Hooks, resumed: bool) -> None:
    """Do the work of a run, from its data to its files, and fill in the record."""
    with record.stage("data"):
        split = load_split(config)
        _record_data(config, record, split, resumed)
    data_key = {name: record.data[name] for name in ("files", "split")}
    outputs = run_stages(config, split, data_key, record, hooks.evaluate_test)
    folder = Path(config["checkpoint_dir"]) / record.id
    with record.stage("training") as stage:
        trainer, loaders = fit(
            config, split, folder, config["resume"], outputs, stage, hooks.on_validation
        )
    record.best_epoch, record.epochs = trainer.best_epoch, trainer.epochs_log
    record.files["checkpoint"] = trainer.saved_model_file
    with record.stage("evaluation"):
        evaluate(config, record, split, trainer, loaders, hooks.evaluate_test)
    if not is_main():
        return
    for left in (trainer.last_file, *folder.glob(".*.partial")):  # the latter of a killed run
        left.unlink(missing_ok=True)
    adapter = hooks_of(trainer.model).export_adapter(folder / "adapter")
    if adapter is not None:
        record.files["adapter"] = str(adapter)


def _record_data(config: Config, record: RunRecord, split: Split, resumed: bool) -> None:
    """Record the fingerprint of the data, after a check that it fits the settings.

    Raises:
        ValueError: a resumed run had other data, or user profiles come from another split.
    """
    data = describe_data(split.dataset, split[1:])
    before = record.data if resumed else {}  # empty as well where the run was killed before it
    if before and any(data[name] != before.get(name) for name in ("files", "split")):
        raise ValueError(
            f"--resume: the data or its split is not that of {record.folder}. "
            f"Leave --resume out to start anew."
        )
    record.data = data
    if config["user_profile"] not in (None, "mean", "random"):
        check_split(Path(config["user_profile"]), data["split"])
    logging.getLogger().info("%s", split.dataset, extra=FILE_ONLY)


def evaluate(
    config: Config,
    record: RunRecord,
    split: Split,
    trainer: HarnessMixin,
    loaders: Loaders,
    with_test: bool = True,
) -> None:
    """Measure the chosen weights on validation, then once on test, into ``record``."""
    trainer.load_best()
    for name, loader in evaluated_parts(loaders, with_test):
        result = trainer.evaluate(loader, False, show_progress=shows_bars(config["show_progress"]))
        if result is None:
            continue
        record.metrics[name] = dict(result)
        if trainer.ranking is None:
            continue
        if config["save_topk"] and is_main():
            path = rankings_path(Path(record.folder) / "record.json", name)
            write_rankings(path, split.dataset, trainer.ranking)
            record.files[f"topk_{name}"] = str(path)
        if isinstance(loader, FullRankLoader):
            groups = cold_metrics(trainer, loader, split.train, record.metrics[name])
            record.metrics_cold[name] = groups
    record.data |= describe_inputs(split.dataset)
    log = logging.getLogger()
    for part, metrics in record.metrics.items():
        log.info("%s: %s", part, metrics, extra=FILE_ONLY)
