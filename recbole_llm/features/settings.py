"""Settings of ``recbole_llm encode``, checked once."""

from dataclasses import dataclass
from typing import Any

from recbole_llm.features.fetch import Transport

MODALITIES = ("text", "image")
POOLINGS = ("auto", "projected", "pooler", "cls", "mean")
DTYPES = ("float32", "float16")
TEXT_ENCODER = "all-minilm-l6-v2"

_TEXT_ONLY = ("columns",)
_URLS_ONLY = ("concurrency", "timeout_s", "request_retries", "backoff_s", "max_megabytes")
_IMAGE_ONLY = ("pooling", "image_folder", "url_column", "retry_failed", *_URLS_ONLY)


@dataclass(frozen=True)
class Settings:
    """What the command takes; its help says what each is. None means the default.

    Raises:
        ValueError: a value is out of range, or does not go with another.
    """

    modality: str
    encoder: str | None = None
    revision: str | None = None
    batch_size: int = 64
    dtype: str = "float32"
    output: str | None = None
    overwrite: bool = False
    columns: str | None = None
    pooling: str | None = None
    image_folder: str | None = None
    url_column: str | None = None
    concurrency: int | None = None
    timeout_s: float | None = None
    request_retries: int | None = None
    backoff_s: float | None = None
    max_megabytes: float | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("modality", self.modality, MODALITIES),
            ("dtype", self.dtype, DTYPES),
            ("pooling", self.pooling or "auto", POOLINGS),
        ):
            if value not in choices:
                raise ValueError(f"--{name} must be one of {', '.join(choices)}, got {value!r}.")
        for name in _IMAGE_ONLY if self.modality == "text" else _TEXT_ONLY:
            if self._is_given(name):
                raise ValueError(f"--{name} does not go with --modality={self.modality}.")
        if self.modality == "image" and not self.encoder:
            raise ValueError(
                "--modality=image needs --encoder: a vision model's folder or Hugging Face id, "
                "for example --encoder=openai/clip-vit-base-patch32."
            )
        if self.image_folder and self.url_column:
            raise ValueError("--image_folder and --url_column both say where images are. Give one.")
        for name in ("retry_failed", *_URLS_ONLY):
            if self._is_given(name) and not self.url_column:
                raise ValueError(f"--{name} goes with --url_column only.")
        for name, low in ("batch_size", 1), ("concurrency", 1), ("request_retries", 0):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"--{name} must be at least {low}, got {value}.")
        for name in ("timeout_s", "backoff_s", "max_megabytes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"--{name} must be above 0, got {value}.")
        if self.output and not self.output.endswith(".npy"):
            raise ValueError(f"--output must name a .npy file, got {self.output!r}.")

    @property
    def transport(self) -> Transport:
        """How images are fetched."""
        size = None if self.max_megabytes is None else int(self.max_megabytes * 2**20)
        given: dict[str, Any] = {
            "timeout_s": self.timeout_s,
            "retries": self.request_retries,
            "backoff_s": self.backoff_s,
            "concurrency": self.concurrency,
            "max_bytes": size,
        }
        return Transport()._replace(**{k: v for k, v in given.items() if v is not None})

    def _is_given(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and value is not False
