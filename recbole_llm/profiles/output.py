"""The folder that the stages write and the audit reads."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_llm.data.profile import (
    FEATURE_FILE,
    IDS_FILE,
    ITEM_FEATURE_FILE,
    MARK,
    REPORT_FILE,
    file_name,
)
from recbole_llm.files import read_text, replacing
from recbole_llm.secrets import mask_values


class Folder:
    """Names of the files; those made from held-out interactions carry the mark LEAKY."""

    def __init__(self, path: Path, leaky: bool) -> None:
        self.path, self.leaky = path, leaky
        self.mark = MARK if leaky else None
        self.report = path / REPORT_FILE
        self.descriptions = path / "item_descriptions.jsonl"
        self.item_texts = path / "item_texts.jsonl"
        self.item_ids = path / "item_mm_ids.txt"
        self.item_feat = path / ITEM_FEATURE_FILE
        self.profiles = path / file_name("profiles.jsonl", leaky)
        self.user_ids = path / file_name(IDS_FILE, leaky)
        self.user_feat = path / file_name(FEATURE_FILE, leaky)

    def prepare(self) -> dict[str, Any]:
        """Create the folder and return its report so far.

        Raises:
            OSError: the folder cannot be written; before hours are spent on answers.
            ValueError: it holds profiles of the other kind (with or without held-out items).
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".probe.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OSError(
                f"cannot write to {self.path} ({error.strerror}). Name another folder by --output."
            ) from error
        report = self.read_report() if self.report.is_file() else {}
        if report and report.get("leaky") != self.leaky:
            raise ValueError(
                f"{self.path} holds profiles {'without' if self.leaky else 'with'} held-out "
                f"interactions, and these would be {'with' if self.leaky else 'without'} them. "
                f"Name another folder by --output."
            )
        return report

    def read_report(self) -> dict[str, Any]:
        """Read ``report.json``; FileNotFoundError or ValueError say what is wrong with it."""
        if not self.report.is_file():
            raise FileNotFoundError(
                f"{self.path} has no {REPORT_FILE}: `recbole_llm reason` did not write it."
            )
        try:
            report = json.loads(self.report.read_text(encoding="utf-8"))
            return dict(report)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.report} is damaged: {error}") from error

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Write ``report.json`` in one piece, without passwords and keys."""
        content = mask_values(report)
        with replacing(self.report) as file:
            file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())

    def feature_files(self) -> list[Path]:
        """Return the files that the stage ``encode`` writes."""
        return [self.item_feat, self.item_ids, self.user_feat, self.user_ids]


def default_folder(parent: Path, identity: Mapping[str, Any], leaky: bool) -> Path:
    """Return the default folder of a set; its name holds a hash of the profiles' inputs."""
    mark = f"{MARK}-" if leaky else ""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return parent / f"reason-{mark}{digest[:10]}"


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    with replacing(path) as file:
        for line in lines:
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())


def read_lines(path: Path, key: str, hint: str) -> dict[str, dict[str, Any]]:
    """Read JSON lines by one of their fields.

    Raises:
        FileNotFoundError: the file does not exist; ``hint`` says which stage writes it.
        ValueError: a line is not such JSON, or a key is listed twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist. {hint}")
    lines: dict[str, dict[str, Any]] = {}
    for number, text in enumerate(read_text(path).split("\n"), start=1):
        if not text:
            continue
        try:
            line = json.loads(text)
            name = line[key]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a JSON object with {key!r}.") from error
        if name in lines:
            raise ValueError(f"{path}, line {number}: {key} {name!r} is listed twice.")
        lines[name] = line
    return lines


def write_features(path: Path, features: NDArray[np.float32]) -> None:
    """Write (rows, width) float32."""
    with replacing(path) as file:
        np.save(file, features, allow_pickle=False)
