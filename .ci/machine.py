"""Print the processor and the versions that a run of CI used: results may depend on both."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = (
    "recbole-llm recbole torch numpy scipy pandas scikit-learn transformers peft "
    "sentence-transformers tokenizers optuna pydantic jinja2 pytest ruff mypy import-linter"
)


def processor() -> str:
    """Return the processor's model name, or its architecture where the system names no model."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


facts = {
    "processor": processor(),
    "cores": str(os.cpu_count()),
    "vector instructions of torch": torch.backends.cpu.get_cpu_capability(),
    "system": platform.platform(),
    "python": platform.python_version(),
} | {name: version(name) for name in PACKAGES.split()}
for name, value in facts.items():
    print(f"{name:<29} {value}", flush=True)
