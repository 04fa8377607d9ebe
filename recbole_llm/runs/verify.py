"""Recompute a run's metrics from its saved lists and the data, by other code than made them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_llm.config import Config
from recbole_llm.data.describe import describe_data
from recbole_llm.data.loading import Split, load_split
from recbole_llm.record import RunRecord, run_name
from recbole_llm.runs.catalogue import Catalogue, catalogue_of
from recbole_llm.runs.cold_check import compare_cold
from recbole_llm.runs.evaluated import Evaluated, evaluated_part
from recbole_llm.runs.list_metrics import Lists
from recbole_llm.runs.metrics import recompute
from recbole_llm.runs.rankings import PARTS, rankings_path, read_rankings
from recbole_llm.runs.reload import settings_of
from recbole_llm.runs.rerank import rank_again
from recbole_llm.runs.rounding import Rounding
from recbole_llm.settings.fingerprint import fingerprint_of

# Fields of a record that its settings have too.
_LABELS = ("model", "dataset", "protocol", "seed")

# What no comparison reaches, whatever the record holds.
_NEVER_CHECKED = (
    "times, memory, parameter counts, epochs, environment, command and origin of the run",
)


class Verification(NamedTuple):
    """Outcome of a verification.

    Attributes:
        agrees: whether all that was compared is as the record has it.
        text: one line for each comparison, one for each thing that was not checked, the outcome.
    """

    agrees: bool
    text: str


class Comparison(NamedTuple):
    """One thing that was compared, in words, and whether it is as the record has it."""

    text: str
    agrees: bool


class Findings(NamedTuple):
    """What was compared so far, and what could not be."""

    compared: list[Comparison]
    unchecked: list[str]


def verify_run(
    run: str | Path, data_path: str | None = None, from_checkpoint: bool = False
) -> Verification:
    """Compare a record with what follows from its own settings, its saved lists and the data.

    Args:
        run: a run's folder, its ``record.json``, or a published record with its lists next to it.
        data_path: parent of the dataset's folder, if it is not where the run found it.
        from_checkpoint: whether the saved weights rank again, and their lists are compared too.

    Raises:
        FileNotFoundError: the record, its lists, its checkpoint or the data are missing.
        ValueError: the run did not finish, or kept no lists; no metric can be recomputed; or lists
            do not fit the data.
    """
    record = RunRecord.load(run)
    path = Path(run) / "record.json" if Path(run).is_dir() else Path(run)
    if record.status != "finished":
        raise ValueError(
            f"{path}: run {record.id} is {record.status}; only a finished run can be verified."
        )
    findings = Findings([], [])
    measured = _measured_parts(record, path)
    split = load_split(data_config(record, data_path))
    files = _list_files(record, path, measured, findings)
    _compare_settings(record, findings)
    _compare_parts(record, split, findings)
    if not _compare_data(record, split, findings):
        findings.unchecked.append("metrics and lists, which belong to another split")
        return _outcome(record, findings)
    parts = _compare_measured(record, split, files, findings)
    if from_checkpoint:
        ranked = rank_again(run, data_path, {part.part: part.rankings for part in parts})
        findings.compared.extend(Comparison(*outcome) for outcome in ranked)
    else:
        findings.unchecked.append("whether the settings and weights give these lists")
    return _outcome(record, findings)


def _outcome(record: RunRecord, findings: Findings) -> Verification:
    unchecked = [
        *findings.unchecked,
        *(f"metrics of the stage {stage.name}" for stage in record.stages if stage.metrics),
        *_NEVER_CHECKED,
    ]
    agrees = all(comparison.agrees for comparison in findings.compared)
    lines = [
        f"run {record.id}",
        *(comparison.text for comparison in findings.compared),
        *(f"not checked: {subject}" for subject in unchecked),
        "verified" if agrees else "NOT verified",
    ]
    return Verification(agrees, "\n".join(lines))


def _measured_parts(record: RunRecord, path: Path) -> list[str]:
    """Return the parts that the record has metrics of.

    Raises:
        ValueError: the record has no metrics, or the run kept no lists.
    """
    measured = [part for part in PARTS if record.metrics.get(part)]
    if not measured:
        raise ValueError(f"{path}: run {record.id} has no metrics to verify.")
    promised = any(name.startswith("topk_") for name in record.files)
    if not promised and not any(rankings_path(path, part).is_file() for part in measured):
        raise ValueError(
            f"run {record.id} kept no lists to verify. Run it again with --save_topk=50."
        )
    return measured


def _list_files(
    record: RunRecord, path: Path, measured: Sequence[str], findings: Findings
) -> dict[str, Path]:
    """Return the file of the lists of each part, by part.

    A published record may come with the lists of one part alone.

    Raises:
        FileNotFoundError: some lists are missing.
    """
    files = {part: rankings_path(path, part) for part in measured}
    present = {part: file for part, file in files.items() if file.is_file()}
    missing = [part for part in measured if part not in present]
    if missing and (not present or path.name == "record.json"):
        raise FileNotFoundError(
            f"{files[missing[0]]} is missing: without it the {missing[0]} metrics of run "
            f"{record.id} cannot be verified."
        )
    findings.unchecked.extend(
        f"{part} metrics, whose lists {files[part].name} are missing" for part in missing
    )
    return present


def data_config(record: RunRecord, data_path: str | None) -> Config:
    """Build the settings that decide the data and the split.

    Raises:
        ValueError: the record lacks what the data is read by.
    """
    if not {"files", "split"} <= record.data.keys() or "MODEL_TYPE" not in record.config:
        raise ValueError(
            f"run {record.id}: its record does not say which data it read. Run it again."
        )
    # The kind of model decides the kind of dataset; RecBole's sequential ones cut samples.
    sequential = record.config["MODEL_TYPE"] == "ModelType.SEQUENTIAL"
    model = "SASRec" if sequential else "LightGCN"
    defaults = Config(model, record.dataset)
    names = set(defaults.parameters["Dataset"]) | {"seed", "reproducibility", "modalities"}
    settings = settings_of(record, names, data_path)
    if "split" not in settings and record.protocol != "fixed":
        settings["eval_args"] = record.config["eval_args"]
    return Config(model, record.dataset, overrides=settings)


def _compare_settings(record: RunRecord, findings: Findings) -> None:
    """Compare the record's hash, id and labels with those that follow from its settings."""
    config = record.config
    found = fingerprint_of(config)
    pairs = {name: (getattr(record, name), config.get(name)) for name in _LABELS}
    pairs["config_hash"] = record.config_hash, found
    ending = run_name(record.model, record.dataset, found)
    pairs["id"] = record.id, record.id if record.id.endswith(ending) else f"an id with {ending}"
    differing = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    for name, (recorded, here) in differing.items():
        text = f"{name}: recorded {recorded}, its settings give {here}  DIFFERS"
        findings.compared.append(Comparison(text, False))
    if not differing:
        text = f"settings: {', '.join(pairs)} are those of the record"
        findings.compared.append(Comparison(text, True))


def _compare_data(record: RunRecord, split: Split, findings: Findings) -> bool:
    """Compare the data with the record's fingerprint; returns whether the split is the same."""
    found = describe_data(split.dataset, split[1:])
    for name in ("files", "split"):
        same = found[name] == record.data[name]
        verdict = "unchanged" if same else "NOT those of the run"
        findings.compared.append(Comparison(f"data {name}: {verdict}", same))
    of_inputs = {"modalities", "user_profiles"}
    for name in sorted((found.keys() | record.data.keys()) - {"files", "split"} - of_inputs):
        recorded, here = record.data.get(name), found.get(name)
        if name in ("left_out", "repeated_rows") and recorded is None:
            findings.unchecked.append(f"{name}, which records of earlier releases lack")
        elif recorded != here or name not in found:
            text = f"data {name}: recorded {recorded}, here {here}  DIFFERS"
            findings.compared.append(Comparison(text, False))
    for name in sorted(of_inputs):
        if record.data.get(name):
            findings.unchecked.append(f"what the record says of {name.replace('_', ' ')}")
    return bool(found["split"] == record.data["split"])


def _compare_parts(record: RunRecord, split: Split, findings: Findings) -> None:
    """Look for the metrics of every part that a run measures: a sweep's trial leaves test out."""
    for part, dataset in zip(PARTS, split[2:], strict=True):
        if record.metrics.get(part) or not len(dataset):
            continue
        if part == "test" and record.origin.get("kind") == "trial":
            findings.unchecked.append("the test part, which a trial of a sweep leaves out")
        else:
            text = f"{part}: the record has no metrics of this part  DIFFERS"
            findings.compared.append(Comparison(text, False))
    for part in sorted(record.metrics.keys() - set(PARTS)):
        findings.compared.append(Comparison(f"{part}: the split has no such part  DIFFERS", False))


def _compare_measured(
    record: RunRecord, split: Split, files: Mapping[str, Path], findings: Findings
) -> list[Evaluated]:
    """Compare all metrics of the parts that have lists, and return those parts.

    Raises:
        ValueError: lists do not fit the data, or no metric follows from them.
    """
    hides_known = bool(record.config.get("mask_history", True))
    catalogue = catalogue_of(split, record.config)
    parts = []
    for part, file in files.items():
        rankings = list(read_rankings(file))
        evaluated = evaluated_part(part, split, rankings, file, hides_known)
        _compare_lists(evaluated, findings)
        _compare_metrics(record, evaluated, catalogue, findings)
        cold = compare_cold(record, evaluated, catalogue, findings.unchecked)
        findings.compared.extend(Comparison(*outcome) for outcome in cold)
        parts.append(evaluated)
    return parts


def _compare_lists(evaluated: Evaluated, findings: Findings) -> None:
    """Compare the hits that are written in the lists, which reports read, with the data."""
    wrong = 0
    for ranking, positives in zip(evaluated.rankings, evaluated.positives, strict=True):
        hits = [rank for rank, item in enumerate(ranking.items) if item in positives]
        wrong += ranking.hits not in (None, hits)
        wrong += ranking.n_positives not in (None, len(positives))
    if wrong:
        text = f"{evaluated.part} lists: hits of {wrong} are not those of the data  DIFFERS"
        findings.compared.append(Comparison(text, False))


def _compare_metrics(
    record: RunRecord, evaluated: Evaluated, catalogue: Catalogue, findings: Findings
) -> None:
    """Recompute each recorded metric of a part from its lists.

    Raises:
        ValueError: none of them follows from the lists.
    """
    part, recorded = evaluated.part, record.metrics[evaluated.part]
    _compare_names(record, part, recorded, findings)
    rounding, n_before = Rounding(record.config), len(findings.compared)
    digits = "" if rounding.digits == 6 else f" to {rounding.digits} digits"
    lists = Lists(evaluated.lists, evaluated.users, evaluated.positives)
    for name, value in recorded.items():
        here = recompute(name, lists, catalogue)
        if here is None:
            findings.unchecked.append(f"{part} {name}, which does not follow from the lists")
            continue
        same = rounding.same(value, here)
        verdict = f"agrees{digits}" if same else "DIFFERS"
        text = f"{part} {name}: recorded {value:.6f}, here {here:.6f}  {verdict}"
        findings.compared.append(Comparison(text, same))
    if len(findings.compared) == n_before:
        raise ValueError(f"none of {', '.join(recorded)} can be recomputed from lists.")


def _compare_names(
    record: RunRecord, part: str, recorded: Mapping[str, float], findings: Findings
) -> None:
    """Compare which metrics a part has with those that the settings ask for."""
    metrics, cuts = record.config.get("metrics") or [], record.config.get("topk") or []
    expected = {f"{metric.lower()}@{k}" for metric in metrics for k in cuts}
    for name in sorted(expected - recorded.keys()):
        text = f"{part} {name}: the settings ask for it, and the record lacks it  DIFFERS"
        findings.compared.append(Comparison(text, False))
    for name in sorted(recorded.keys() - expected):
        text = f"{part} {name}: the settings do not ask for it  DIFFERS"
        findings.compared.append(Comparison(text, False))
