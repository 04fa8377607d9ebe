"""Run records: the settings, data, results and costs of a run."""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from recbole_llm.files import check_name, replacing
from recbole_llm.locks import FolderBusyError, only_writer
from recbole_llm.processes import is_main, n_processes
from recbole_llm.record_content import check_content
from recbole_llm.secrets import mask_secrets, mask_values
from recbole_llm.version import __version__

# Settings that are places on the machine of the run, and mean nothing elsewhere.
_PLACES = ("cache_dir", "checkpoint_dir", "data_path", "runs_dir", "split_dir")
_PACKAGES = ("recbole-llm", "recbole", "torch", "numpy", "pandas", "scipy", "transformers", "peft")


@dataclasses.dataclass
class Stage:
    """Cost of one stage of a run, the columns of HeLLM's Table III.

    Attributes:
        name: name of the stage, such as ``data`` or ``graph (HeLLMPretrain)``.
        seconds: wall-clock seconds in this run; the time from the last save to a kill is lost.
        peak_bytes: peak memory of the process (CPU) or of torch's allocator (GPU).
        trainable: number of trained parameters, 0 where nothing was trained.
        parameters: number of all parameters of the stage's model.
        cached_from_s: seconds that the stage took when it was trained, if it came from the cache.
        metrics: metrics of an earlier stage's model by itself, "valid" and "test".
    """

    name: str
    seconds: float = 0.0
    peak_bytes: int = 0
    trainable: int = 0
    parameters: int = 0
    cached_from_s: float | None = None
    metrics: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class RunRecord:
    """One run.

    Attributes:
        config: resolved settings, as plain JSON values.
        config_hash: sha256 of every setting that a number can depend on.
        folder: folder of ``record.json``, seen from where the run was started.
        status: ``running``, ``finished``, ``failed``, ``interrupted`` or ``stopped``.
        started: local time with its zone, ISO 8601; so is ``finished``.
        data: fingerprint and size of the data, and what the model read of it.
        metrics: "valid" and "test", each a map of ``recall@10`` ... to floats.
        best_epoch: epoch that validation chose, counted from 0.
        epochs: one dict an epoch: loss, seconds, validation metrics.
        files: paths of checkpoint, log, lists and adapter, seen from where the run was started.
        environment: versions, commit, device, threads and platform.
        origin: sweep that the run belongs to, and its place in it; empty for a run by itself.
        metrics_cold: metrics by part and group, of users or items that training has not seen.
    """

    id: str
    model: str
    dataset: str
    protocol: str
    seed: int
    config: dict[str, Any]
    config_hash: str
    folder: str
    status: str = "running"
    started: str = ""
    finished: str = ""
    command: str = ""
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    best_epoch: int | None = None
    stages: list[Stage] = dataclasses.field(default_factory=list)
    epochs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ""
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics_cold: dict[str, dict[str, dict[str, float]]] = dataclasses.field(default_factory=dict)

    def save(self) -> Path:
        """Write ``record.json`` into the run's folder, atomically, and return its path.

        Passwords, keys and tokens in it are masked. Of several processes the main one writes.
        """
        path = Path(self.folder) / "record.json"
        if not is_main():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(mask_values(dataclasses.asdict(self)), indent=1).encode())
        return path

    def shared(self) -> dict[str, Any]:
        """Return the record as JSON content to publish: without the folders of this machine."""
        content = dataclasses.asdict(self)
        content["config"] = {k: v for k, v in self.config.items() if k not in _PLACES}
        place = rf"\s--(?:{'|'.join(_PLACES)})(?:=|\s+)(?:'[^']*'|\S+)"
        content["command"] = re.sub(place, "", self.command)
        content["folder"] = self.id
        return content

    def finish(self) -> Path:
        """Set the time of the end and write the record."""
        self.finished = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        return self.save()

    @classmethod
    def load(cls, path: Path | str) -> "RunRecord":
        """Read a record from a run's folder or its ``record.json``.

        Raises:
            FileNotFoundError: no record is there.
            ValueError: the file is not a run record, or that of a version with other fields; the
                text then says which version wrote it; or its id could lead to another folder.
        """
        path = Path(path)
        path = path / "record.json" if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"no run record at {path}. Runs are listed in runs/.")
        version = ""
        try:
            content = mask_values(json.loads(path.read_text(encoding="utf-8")))
            version = _written_by(content)
            _check_fields(cls, content)
            for stage in content["stages"]:
                _check_fields(Stage, stage)
            check_content(content)
            content["stages"] = [Stage(**stage) for stage in content["stages"]]
            # Where it was read, whatever it says: a later save goes nowhere else.
            found = path.parent if path.name == "record.json" else path.with_suffix("")
            if Path(content["folder"]).resolve() != found.resolve():
                content["folder"] = str(found)
            record = cls(**content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} is not a run record: {error}{version}") from error
        check_name(f"id in {path}", record.id)  # names folders and files
        return record

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage and measure its peak memory; it is recorded even if it fails.

        The record is written afterwards, so that a killed run can resume. A resumed run adds to
        the stages that its record has already.
        """
        stage = next((known for known in self.stages if known.name == name), Stage(name))
        if stage not in self.stages:
            self.stages.append(stage)
        _reset_peak()
        begin = time.monotonic()
        try:
            yield stage
        finally:
            stage.seconds += time.monotonic() - begin
            stage.peak_bytes = max(stage.peak_bytes, _peak_bytes())
        self.save()


def _check_fields(kind: type, content: Any) -> None:
    """Check that JSON content has the fields of a dataclass: all without a default, no others."""
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, found {type(content).__name__}.")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(content) - set(fields))
    missing = [
        name
        for name, field in fields.items()
        if name not in content
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    for word, names in (("lacks", missing), ("has the unknown", unknown)):
        if names:
            raise ValueError(f"a {kind.__name__} {word} {', '.join(names)}.")


def _written_by(content: Any) -> str:
    """Return a sentence with the version that wrote a record's JSON content, if it names one."""
    for key in ("environment", "versions", "recbole-llm"):
        content = content.get(key) if isinstance(content, dict) else None
    return f" It was written by recbole-llm {content}; this is {__version__}." if content else ""


def version_of(record: RunRecord) -> str:
    """Return the version of recbole-llm that made a run, for an error about its record."""
    return str(record.environment.get("versions", {}).get("recbole-llm", "an unknown version"))


def new_record(config: Any, command: str, started: datetime.datetime | None = None) -> RunRecord:
    """Start the record of a run of ``config``, by default of now; nothing is written yet."""
    config_hash = config.fingerprint()
    now = started or datetime.datetime.now().astimezone()
    run_id = f"{now:%Y%m%d-%H%M%S-%f}"[:-3] + _run_name(config)
    return RunRecord(
        id=run_id,
        model=config["model"],
        dataset=config["dataset"],
        protocol=config["protocol"],
        seed=config["seed"],
        config=config.to_dict(),
        config_hash=config_hash,
        folder=str(Path(config["runs_dir"]) / run_id),
        started=now.isoformat(timespec="seconds"),
        command=mask_secrets(command),
        environment=_environment(config),
    )


@contextmanager
def claimed_run(config: Any, command: str) -> Iterator[tuple[RunRecord, bool]]:
    """Hold the folder of a run, so that no other process writes there, until the block ends.

    Args:
        config: settings of the run; with ``resume``, the newest unfinished run of the same
            settings is taken if there is one.
        command: command line of a new run.

    Yields:
        The record, and whether it is that of an unfinished run.

    Raises:
        ValueError: the unfinished run is still going on in another process.
    """
    while config["resume"] and (unfinished := find_unfinished(config)):
        with _held(unfinished):
            record = RunRecord.load(unfinished.folder)
            if record.status != "finished":  # as it may be since it was found
                yield record, True
                return
    record = _make_folder(config, command)
    with _held(record):
        yield record, False


@contextmanager
def _held(record: RunRecord) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(only_writer(Path(record.folder)))
        except FolderBusyError as error:
            raise ValueError(f"run {record.id} is still going on ({error}).") from error
        yield


def _make_folder(config: Any, command: str) -> RunRecord:
    """Start the record of a new run in a folder that no other run has."""
    now = datetime.datetime.now().astimezone()
    while True:
        record = new_record(config, command, now)
        try:
            Path(record.folder).mkdir(parents=True)
        except FileExistsError:
            now += datetime.timedelta(milliseconds=1)
        else:
            return record


def _run_name(config: Any) -> str:
    """Return how the id of every run of these settings ends."""
    return run_name(config["model"], config["dataset"], config.fingerprint())


def run_name(model: str, dataset: str, config_hash: str) -> str:
    """Return how the id of every run of a model, a dataset and a hash of settings ends."""
    return re.sub(r"[^\w.-]", "_", f"-{model}-{dataset}-{config_hash[:8]}")


def find_unfinished(config: Any) -> RunRecord | None:
    """Return the newest run of the same settings that did not finish, or None."""
    ending = _run_name(config)
    for path in sorted(Path(config["runs_dir"]).glob("*/record.json"), reverse=True):
        if not path.parent.name.endswith(ending):
            continue
        record = RunRecord.load(path)
        if record.status != "finished" and record.config_hash == config.fingerprint():
            return record
    return None


def _environment(config: Any) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    device = config["device"]
    on_gpu = device.type == "cuda"
    return {
        "versions": versions,
        "git_commit": _git_commit(),
        "device": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
        "threads": torch.get_num_threads(),
        "processes": n_processes(),
        "platform": platform.platform(),
    }


def _git_commit() -> str | None:
    """Return the checkout's commit, with ``+`` when it has changes; None outside a checkout."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    with suppress(OSError, subprocess.SubprocessError):
        git = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    return None


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "cpu"


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # Linux: forget the peak so far, so that each stage has its own
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
