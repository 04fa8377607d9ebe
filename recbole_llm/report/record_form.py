"""What a report reads of a record beyond what every reader does, and its check."""

import dataclasses
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from recbole_llm.record import RunRecord
from recbole_llm.sweep.validation import validate

_Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Budget(_Form):
    n_trials: _Count | None = None
    sampler: str | None = None


class _Origin(_Form):
    sweep: str
    profile: str
    row: str
    point: dict[str, Any]
    budget: _Budget = _Budget()


class _FrozenSplit(_Form):
    name: str
    protocol: str
    sha256: str


class _Profiles(_Form):
    leaky: bool
    image_words: bool = False


class _Data(_Form):
    files: dict[str, str] | None = None
    split: str | None = None
    frozen_split: _FrozenSplit = _FrozenSplit(name="", protocol="", sha256="")
    user_profiles: dict[str, _Profiles] = {}


class _Environment(_Form):
    git_commit: str | None = None
    versions: dict[str, str] = {}
    device: str | None = None


class _Stage(_Form):
    name: str
    seconds: FiniteFloat
    peak_bytes: _Count
    trainable: _Count
    parameters: _Count
    cached_from_s: FiniteFloat | None


class _Record(_Form):
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    data: _Data
    environment: _Environment
    stages: list[_Stage]


def check_record(record: RunRecord) -> None:
    """Check the values that a report reads and that ``record_content`` leaves open.

    Raises:
        ValueError: one line with the key that is missing or wrong, such as ``origin.point``.
    """
    validate(_Record, dataclasses.asdict(record))
    if record.origin:
        validate(_Origin, record.origin, "origin")
