"""Proof of which interactions a finished set of profiles was written from.

Judged are the prompts in the store, as they were sent: each must be the rendering of the items that
``profiles.jsonl`` names for its user, and those must be training interactions of that user.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recbole_llm.data.items import Items
from recbole_llm.files import sha256_of
from recbole_llm.profiles import prompts
from recbole_llm.profiles.answer import trim
from recbole_llm.profiles.output import Folder, read_lines
from recbole_llm.profiles.pipeline import full_texts, row_tokens
from recbole_llm.profiles.store import AnswerStore, request_key

if TYPE_CHECKING:
    from recbole_llm.config import Config
    from recbole_llm.data.loading import Split

SHOWN = 5  # offenders printed for each kind of finding


class Audit(NamedTuple):
    """Outcome of an audit."""

    is_clean: bool
    text: str


class _Findings:
    """Offenders by kind of finding, in the order in which they were found."""

    def __init__(self) -> None:
        self.by_kind: dict[str, list[str]] = {}

    def add(self, kind: str, offender: str) -> None:
        self.by_kind.setdefault(kind, []).append(offender)

    def lines(self) -> list[str]:
        return [
            f"FOUND {len(offenders):,} {kind}: {'; '.join(offenders[:SHOWN])}"
            + ("; ..." if len(offenders) > SHOWN else "")
            for kind, offenders in self.by_kind.items()
        ]


def audit_profiles(
    folder_path: Path, report: Mapping[str, Any], config: "Config", split: "Split"
) -> Audit:
    """Check every prompt behind a set of profiles against a split.

    Args:
        folder_path: folder that ``recbole_llm reason`` wrote.
        report: content of the folder's ``report.json``.
        config: settings of the data.
        split: split that the profiles will be used with.

    Raises:
        FileNotFoundError: profiles, texts or the store of prompts are missing.
        ValueError: one of them is damaged.
    """
    folder = Folder(folder_path, bool(report.get("leaky")))
    hint = "Run `recbole_llm reason` again."
    profiles = read_lines(folder.profiles, "user", hint)
    texts = {k: v["text"] for k, v in read_lines(folder.item_texts, "item", hint).items()}
    store_path = Path(report["store"])
    if not store_path.is_file():
        raise FileNotFoundError(f"the prompts are in {store_path}, which no longer exists.")
    findings = _Findings()
    _check_texts(folder, report, config, split, texts, findings)
    _check_files(folder, report, findings)
    train, held_out = (_interactions(parts) for parts in ((split.train,), split[2:]))
    counts = Counter[str]()
    with AnswerStore(store_path) as store:
        for user, line in profiles.items():
            shown = Counter(line["items"])
            if user not in train:
                if shown:
                    findings.add("users who are not in the training part", user)
                continue
            _check_items(user, shown, train[user], held_out.get(user, Counter()), counts, findings)
            if line["items"]:
                prompt = prompts.render(
                    report["profile_prompt"],
                    dataset=report["dataset"],
                    max_words=report["settings"]["max_words"],
                    items=[texts.get(item, "") for item in line["items"]],
                )
                max_words = report["settings"]["max_words"]
                _check_prompt(user, line, prompt, max_words, store, counts, findings)
    for user, items in train.items():
        shown = profiles[user]["items"] if user in profiles else []
        if not shown and any(texts.get(item) for item in items):
            findings.add("users without a prompt", user)
    is_clean = not findings.by_kind
    mark = " [LEAKY]" if report.get("leaky") else ""
    text = [
        f"profiles {folder.path}{mark}",
        f"split    {config['dataset']}, {config['protocol']}, seed {config['seed']}",
        f"prompts  {counts['prompts']:,} of {len(train):,} users, with {counts['items']:,} items: "
        f"{counts['train']:,} training, {counts['held out']:,} held out, "
        f"{counts['foreign']:,} of no interaction",
        *findings.lines(),
        "clean: no held-out interaction is in a prompt" if is_clean else "NOT clean",
    ]
    return Audit(is_clean, "\n".join(text))


def _check_items(
    user: str,
    shown: Counter[str],
    train: Counter[str],
    held_out: Counter[str],
    counts: Counter[str],
    findings: _Findings,
) -> None:
    counts["items"] += shown.total()
    counts["train"] += (shown & train).total()
    for item, number in (shown - train).items():
        is_held_out = item in held_out
        counts["held out" if is_held_out else "foreign"] += number
        kind = "held-out interactions" if is_held_out else "items of no interaction"
        findings.add(kind, f"user {user} item {item}")


def _check_prompt(
    user: str,
    line: Mapping[str, Any],
    prompt: str,
    max_words: int,
    store: AnswerStore,
    counts: Counter[str],
    findings: _Findings,
) -> None:
    stored = store.get(line["key"])
    if stored is None:
        findings.add("prompts that are not in the store", f"user {user}")
        return
    counts["prompts"] += 1
    if request_key(stored.request) != line["key"]:
        findings.add("stored prompts that were changed", f"user {user}")
    elif stored.request["prompt"] != prompt:
        findings.add("prompts that are not what their items make", f"user {user}")
    text, answer = line["text"], stored.answer.text
    expected = trim(answer, max_words) if line["trimmed"] else answer.strip()
    if text is not None and text != expected:
        findings.add("profiles that are not the stored answer", f"user {user}")


def _check_texts(
    folder: Folder,
    report: Mapping[str, Any],
    config: "Config",
    split: "Split",
    texts: Mapping[str, str],
    findings: _Findings,
) -> None:
    """Check that each item text is a beginning of the item's text in the data now."""
    descriptions = {}
    if folder.descriptions.is_file():
        lines = read_lines(folder.descriptions, "item", "")
        descriptions = {item: line["text"] for item, line in lines.items() if line["text"]}
    items = Items(config, ["[PAD]", *row_tokens(config, split)])
    full = full_texts(report["text_columns"], items, descriptions)
    for item, text in texts.items():
        if not full.get(item, "").startswith(text) or bool(text) != bool(full.get(item)):
            findings.add("item texts that are not the data's", f"item {item}")


def _check_files(folder: Folder, report: Mapping[str, Any], findings: _Findings) -> None:
    encoded = report.get("stages", {}).get("encode")
    if encoded is None:
        return
    if encoded["made_from"] != sha256_of(folder.profiles):
        findings.add("feature files made from other profiles", folder.user_feat.name)
    for path in folder.feature_files():
        if not path.is_file() or sha256_of(path) != report["files"].get(path.name):
            findings.add("feature files that were changed", path.name)


def _interactions(parts: Sequence[Any]) -> dict[str, Counter[str]]:
    """Count each user token's item tokens over some parts of a split."""
    counts: dict[str, Counter[str]] = {}
    for part in parts:
        users = part.id2token(part.uid_field, part.inter_feat[part.uid_field].numpy())
        items = part.id2token(part.iid_field, part.inter_feat[part.iid_field].numpy())
        for user, item in zip(users, items, strict=True):
            counts.setdefault(str(user), Counter())[str(item)] += 1
    return counts
