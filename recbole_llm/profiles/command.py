"""The sub-commands ``reason`` and ``audit`` of ``recbole_llm``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_llm.profiles.settings import EMBEDDED, OLLAMA, Settings

if TYPE_CHECKING:
    from recbole_llm.config import Config
    from recbole_llm.data.loading import Split

#: Whose settings (above all the protocol) the data is split by.
MODEL = "MLLMRec"

_DESCRIPTION = (
    "MLLMRec's reasoning: image descriptions (Prompt 1), user profiles from training interactions "
    "(Prompt 2), and features of both. Answers are kept as they arrive: the same command goes on "
    "after a stop. Any other --KEY=VALUE is a setting of the data, as in run_recbole "
    "(--data_path, --protocol, --seed, --config_files, --cache_dir, ...)."
)
_OPTIONS: dict[str, tuple[str, type, str]] = {
    "stage": ("what", str, "images, profiles, encode or all (default)"),
    "output": ("what", str, "folder to write; default: reason-<hash> in the data set's folder"),
    "text_columns": ("what", str, "A,B: columns of the .item file; default: all text but ids"),
    "image_folder": ("what", str, "folder of <item token>.jpg; default: images/; none: no images"),
    "encoder": ("what", str, "sentence encoder: all-minilm-l6-v2, a folder or a Hugging Face id"),
    "max_users": ("what", int, "first so many users only, for a trial"),
    "profile_prompt": ("prompt", str, "a file of properties/prompts by its stem, or a path"),
    "image_prompt": ("prompt", str, "the same for images"),
    "max_history": ("prompt", int, "newest items of a user in a prompt (50)"),
    "max_words": ("prompt", int, "words that the prompt asks for (100)"),
    "max_item_tokens": ("prompt", int, "tokens of an item's text that are kept (160)"),
    "tokenizer": ("prompt", str, "whose tokens; default: the local model's, else the embedded's"),
    "backend": ("model", str, "transformers (default) or openai: any OpenAI-compatible server"),
    "model_name": ("model", str, f"on the server; or alias, folder, id (transformers: {EMBEDDED})"),
    "image_model": ("model", str, "model for images; default on a server: --model_name"),
    "revision": ("model", str, "branch or commit of an id; on a server what you know of it"),
    "temperature": ("model", float, "0 (default) is greedy; else sampling seeded by --seed"),
    "top_p": ("model", float, "nucleus of sampling (1)"),
    "max_new_tokens": ("model", int, "tokens of an answer (2 a word and 16)"),
    "answer_retries": ("model", int, "new tries after an empty, refused or over-long answer (2)"),
    "overlong": ("model", str, "retry (default): then a failure; trim: cut to whole sentences"),
    "batch_size": ("transformers", int, "prompts generated at a time (8)"),
    "dtype": ("transformers", str, "float32 (default), bfloat16, float16 or auto"),
    "base_url": ("openai", str, f"address of the server; default: Ollama's, {OLLAMA}"),
    "api_key_env": ("openai", str, "environment variable that holds the key (OPENAI_API_KEY)"),
    "concurrency": ("openai", int, "requests at a time (4)"),
    "timeout_s": ("openai", float, "seconds until a request counts as lost (120)"),
    "request_retries": ("openai", int, "new tries after a time-out, 429, 5xx or lost line (5)"),
    "backoff_s": ("openai", float, "first wait before them, doubled each time, with jitter (1)"),
    "requests_per_minute": ("openai", float, "limit (none)"),
}


def reason(argv: Sequence[str]) -> int:
    """Run the stages; returns the exit status."""
    arguments, rest = _reason_parser().parse_known_args(argv)
    options = vars(arguments)
    settings = Settings(**{k: v for k, v in options.items() if k in (*_OPTIONS, "leaky")})
    given = _given(rest)
    from recbole_llm.profiles.pipeline import Reasoner
    from recbole_llm.record import describe_data

    logging.basicConfig(level=logging.WARNING)
    try:
        config, split = _split(arguments.dataset, given)
        data = describe_data(split.dataset, split[1:])
        reasoner = Reasoner(settings, config, split, data, given)
        print(f"output: {reasoner.folder.path}", file=sys.stderr)
        report = reasoner.run()
    except KeyboardInterrupt:
        print("interrupted; answers so far are kept, the same command goes on", file=sys.stderr)
        return 130
    print(summary(report, reasoner.folder.path))
    return 0


def _reason_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole_llm reason",
        description=_DESCRIPTION,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--dataset", "-d", required=True, help="name of the data set")
    groups: dict[str, Any] = {}
    for name, (group, kind, text) in _OPTIONS.items():
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        groups[group].add_argument(f"--{name}", type=kind, help=text, metavar=kind.__name__.upper())
    parser.add_argument(
        "--leaky",
        action="store_true",
        help="write profiles from ALL interactions, for the ablation only; marked LEAKY",
    )
    return parser


def audit(argv: Sequence[str]) -> int:
    """Audit a folder; returns the exit status: 0 clean, 1 not."""
    parser = argparse.ArgumentParser(
        prog="recbole_llm audit",
        description="Proves that profiles were written from training interactions only. Exit "
        "status 1 when a held-out interaction is in a prompt, or a prompt is missing. Any other "
        "--KEY=VALUE is a setting of the data, over those of the profiles.",
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", "-d", required=True, help="name of the data set")
    parser.add_argument("--profiles", help="folder that `reason` wrote; default: the only one")
    arguments, rest = parser.parse_known_args(argv)
    from recbole_llm.profiles.audit import audit as audit_folder
    from recbole_llm.profiles.output import Folder

    given = _given(rest)
    logging.basicConfig(level=logging.WARNING)
    if arguments.profiles is None:
        config = _config(arguments.dataset, given)
        folder = _only_folder(Path(config["data_path"]))
    else:
        folder = Path(arguments.profiles)
    report = Folder(folder, leaky=False).read_report()
    if report.get("dataset") != arguments.dataset:
        raise ValueError(
            f"{folder} has profiles of {report.get('dataset')!r}, not of {arguments.dataset!r}."
        )
    config, split = _split(arguments.dataset, {**report["given"], **given})
    result = audit_folder(folder, report, config, split)
    print(result.text)
    return 0 if result.is_clean else 1


def summary(report: Mapping[str, Any], folder: Path) -> str:
    """Return a few lines on what was done."""
    mark = " [LEAKY: with held-out interactions, for the ablation only]" if report["leaky"] else ""
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


def _given(rest: Sequence[str]) -> dict[str, Any]:
    from recbole_llm.cli import parse_settings

    given = parse_settings(rest)
    if "model" in given:
        raise ValueError("--model is not taken here: the language model is --model_name.")
    return given


def _config(dataset: str, given: Mapping[str, Any]) -> Config:
    from recbole_llm.config import Config

    settings = dict(given)
    files = settings.pop("config_files", None) or []
    files = files.split() if isinstance(files, str) else list(files)
    return Config(MODEL, dataset, files, command_line=settings)


def _split(dataset: str, given: Mapping[str, Any]) -> tuple[Config, Split]:
    from recbole_llm.data.loading import load_split

    config = _config(dataset, given)
    return config, load_split(config)


def _only_folder(parent: Path) -> Path:
    found = sorted(path.parent for path in parent.glob("reason-*/report.json"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise ValueError(
        f"--profiles=FOLDER is needed: folders reason-* with a report in {parent}: {names}."
    )
