"""``recbole_llm reason``: describes images and writes preference profiles (MLLMRec)."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_llm.cli.logs import log_warnings
from recbole_llm.cli.options import add_options, build_settings
from recbole_llm.cli.settings import parse_data_settings

HELP = "describe images and write preference profiles (MLLMRec)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the dataset, and the options of ``profiles.settings``."""
    from recbole_llm.profiles.settings import ReasonSettings

    parser.description = (
        "MLLMRec's reasoning: image descriptions (Prompt 1), user profiles from training "
        "interactions (Prompt 2), and features of both. Answers are kept as they arrive: after a "
        "stop the same command resumes. Any other --KEY=VALUE is a setting of the data, as in "
        "run_recbole (--data_path, --protocol, --seed, --config_files, --cache_dir, ...)."
    )
    parser.add_argument("--dataset", "-d", required=True, help="name of the dataset")
    add_options(parser, ReasonSettings)
    parser.set_defaults(interrupted="answers so far are kept, and the same command resumes")


def run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run the stages and print their counts; exit status 1 if no profile was made."""
    from recbole_llm.profiles.settings import ReasonSettings

    settings = build_settings(arguments, ReasonSettings)
    given = parse_data_settings(rest, "--model_name")
    log_warnings()
    from recbole_llm.profiles.write import write_profiles

    written = write_profiles(arguments.dataset, settings, given, on_start=_print_folder)
    print(_summary(written.report, written.folder))
    nothing = _stage_without_answers(written.report, settings.stages)
    if nothing is None:
        return 0
    print(
        f"no answer was accepted: 0 of {nothing}. The reasons are in {written.folder}; the same "
        f"command asks again.",
        file=sys.stderr,
    )
    return 1


def _stage_without_answers(report: Mapping[str, Any], stages: Sequence[str]) -> str | None:
    """Return ``6 profiles`` if that was the last thing asked for, and not one was made."""
    asked = [stage for stage in ("images", "profiles") if stage in stages]
    counts = report["stages"].get(asked[-1], {}) if asked else {}
    done, total = (("described", "images"), ("profiled", "users"))[asked[-1:] == ["profiles"]]
    if counts.get(total) and not counts[done]:
        return f"{counts[total]:,} {asked[-1]}"
    return None


def _print_folder(folder: Path) -> None:
    print(f"output: {folder}", file=sys.stderr)


def _summary(report: Mapping[str, Any], folder: Path) -> str:
    """Return the counts of each stage, and the folder."""
    from recbole_llm.data.profile import IMAGE_WORDS

    mark = " [LEAKY: with held-out interactions, for the ablation only]" if report["leaky"] else ""
    if (report.get("image_model") or {}).get("backend") == IMAGE_WORDS:
        mark += " [image words: class names stand in for descriptions of the images]"
    lines = [f"{report['dataset']} ({report['protocol']}, seed {report['seed']}){mark}"]
    for name, done in ("images", "described"), ("profiles", "profiled"):
        stage = report["stages"].get(name)
        if not stage or "asked" not in stage:
            continue
        total = stage.get("images", stage.get("users"))
        failures = ", ".join(f"{n} {kind}" for kind, n in stage["failures"].items()) or "none"
        lines.append(
            f"{name:<8}  {stage[done]:,} of {total:,}; failed: {failures}; asked "
            f"{stage['asked']:,}, from the store {stage['from_store']:,}; tokens in "
            f"{stage['prompt_tokens']:,}, out {stage['output_tokens']:,}; {stage['seconds']:.1f} s"
        )
    encoded = report["stages"].get("encode")
    if encoded:
        lines.append(
            f"encode    {encoded['items']:,} items, {encoded['users']:,} users, width "
            f"{encoded['width']}; users without a profile: {encoded['users_without_profile']}"
        )
    return "\n".join([*lines, f"folder: {folder}"])
