"""Settings of the reasoning pipeline, checked once."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from recbole_llm.profiles.answer import Decoding
from recbole_llm.profiles.openai_client import Transport

STAGES = ("images", "profiles", "encode")
BACKENDS = ("transformers", "openai")
EMBEDDED = "smollm2-135m"
OLLAMA = "http://localhost:11434/v1"

_AT_LEAST: dict[str, float] = {
    "concurrency": 1,
    "request_retries": 0,
    "backoff_s": 0,
    "batch_size": 1,
    "temperature": 0,
    "max_words": 1,
    "max_history": 1,
    "max_item_tokens": 1,
    "answer_retries": 0,
}


@dataclass(frozen=True)
class Settings:
    """What ``recbole_llm reason`` takes; the command's help says what each is.

    Raises:
        ValueError: a value is out of range, or one that another needs is missing.
    """

    stage: str = "all"
    backend: str = "transformers"
    model_name: str | None = None
    image_model: str | None = None
    revision: str | None = None
    base_url: str = OLLAMA
    api_key_env: str | None = None
    concurrency: int = 4
    timeout_s: float = 120.0
    request_retries: int = 5
    backoff_s: float = 1.0
    requests_per_minute: float | None = None
    batch_size: int = 8
    dtype: str = "float32"
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    max_words: int = 100
    max_history: int = 50
    max_item_tokens: int = 160
    answer_retries: int = 2
    overlong: str = "retry"
    text_columns: str | None = None
    image_folder: str | None = None
    image_prompt: str = "mllmrec_image"
    profile_prompt: str = "mllmrec_profile"
    tokenizer: str | None = None
    encoder: str = "all-minilm-l6-v2"
    output: str | None = None
    leaky: bool = False
    max_users: int | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("stage", (*STAGES, "all")),
            ("backend", BACKENDS),
            ("overlong", ("retry", "trim")),
        ):
            value = getattr(self, name)
            if value not in choices:
                near = difflib.get_close_matches(value, choices, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"--{name} must be one of {', '.join(choices)}, got {value!r}.{hint}"
                )
        for name, low in _AT_LEAST.items():
            if getattr(self, name) < low:
                raise ValueError(f"--{name} must be at least {low:g}, got {getattr(self, name)}.")
        for name in ("timeout_s", "requests_per_minute", "max_new_tokens", "max_users"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"--{name} must be above 0, got {value}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top_p must lie in (0, 1], got {self.top_p}.")
        if self.backend == "openai" and not self.model_name and self.stage != "encode":
            raise ValueError(
                "--backend=openai needs --model_name, the model's name on the server, for example "
                "--model_name=gemma3:27b."
            )

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages to run, in order."""
        return STAGES if self.stage == "all" else (self.stage,)

    @property
    def tokenizer_name(self) -> str:
        """Whose tokens item texts are cut by: a local model's own, else the embedded one's."""
        local = self.model_name if self.backend == "transformers" else None
        return self.tokenizer or local or EMBEDDED

    @property
    def transport(self) -> Transport:
        """How requests go to a server."""
        return Transport(
            self.timeout_s,
            self.request_retries,
            self.backoff_s,
            self.concurrency,
            self.requests_per_minute,
        )

    def decoding(self, seed: int) -> Decoding:
        """Return the parameters of the first attempt; two tokens a word unless said otherwise."""
        tokens = self.max_new_tokens or 2 * self.max_words + 16
        return Decoding(tokens, self.temperature, self.top_p, seed)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return dict(self.__dict__)
