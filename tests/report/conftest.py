"""A spec to report on, in the test's own folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_records import SPEC


@pytest.fixture
def spec(work: Path) -> Callable[..., Path]:
    def write(**over: Any) -> Path:
        path = work / "benchmarks" / "x" / "t.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({**SPEC, **over}))
        return path

    return write
