"""Settings of ``recbole_llm encode``: each option declared and checked once."""

from dataclasses import MISSING, dataclass
from typing import Any

from recbole_llm.features.fetch import Transport
from recbole_llm.options import check_options, option

MODALITIES = ("text", "image")
POOLINGS = ("auto", "projected", "pooler", "cls", "mean")
DTYPES = ("float32", "float16")
TEXT_ENCODER = "all-minilm-l6-v2"
IMAGE_ENCODER = "efficientnet-lite0"

_FETCH = Transport()
_TEXT_ONLY = ("columns",)
_LIMITS = ("concurrency", "timeout_s", "request_retries", "backoff_s", "max_megabytes")
_URLS_ONLY = ("retry_failed", "allow_private_hosts", *_LIMITS)
_IMAGE_ONLY = ("pooling", "image_folder", "url_column", *_URLS_ONLY)


@dataclass(frozen=True)
class EncodeSettings:
    """Options of the command. None stands for the default that the help names.

    Raises:
        ValueError: a value is out of range, or two options exclude each other.
    """

    modality: str = option(MISSING, "what is encoded", choices=MODALITIES)
    encoder: str | None = option(
        None,
        "a folder or Hugging Face id of sentence-transformers (text; default: the embedded "
        f"{TEXT_ENCODER}) or of a vision model of transformers (image: CLIP, SigLIP, ViT, DINO; "
        f"default: the embedded {IMAGE_ENCODER})",
        group="encoding",
    )
    revision: str | None = option(
        None, "branch, tag or commit of a Hugging Face id", group="encoding"
    )
    batch_size: int = option(64, "inputs encoded at a time", group="encoding", at_least=1)
    dtype: str = option("float32", "number type of the file", group="encoding", choices=DTYPES)
    output: str | None = option(
        None, "FILE.npy; default: <modality>_feat.npy in the dataset's folder", group="encoding"
    )
    overwrite: bool = option(False, "replace a file made with other settings", group="encoding")
    columns: str | None = option(
        None,
        "A,B: columns of the .item file, in this order; default: all text but ids and URLs",
        group="text",
    )
    image_folder: str | None = option(
        None, "folder of <item token>.jpg; default: images/", group="image"
    )
    pooling: str | None = option(
        None,
        "projected: CLIP's image features; pooler: the pooled output; cls, mean: of the last "
        "hidden state; auto (default): the first of these that the model has",
        group="image",
        choices=POOLINGS,
    )
    url_column: str | None = option(
        None, "column of the .item file with the images' URLs", group="image URLs"
    )
    concurrency: int | None = option(
        None,
        f"simultaneous requests (default: {_FETCH.concurrency})",
        group="image URLs",
        at_least=1,
    )
    timeout_s: float | None = option(
        None,
        f"seconds until an image must have arrived (default: {_FETCH.timeout_s:g})",
        group="image URLs",
        above=0,
    )
    request_retries: int | None = option(
        None,
        f"new tries after a time-out, 429, 5xx or lost connection (default: {_FETCH.retries})",
        group="image URLs",
        at_least=0,
    )
    backoff_s: float | None = option(
        None,
        "seconds before the first new try, doubled each time, with jitter (default: "
        f"{_FETCH.backoff_s:g})",
        group="image URLs",
        above=0,
    )
    max_megabytes: float | None = option(
        None,
        f"largest size of an image (default: {_FETCH.max_bytes / 2**20:g})",
        group="image URLs",
        above=0,
    )
    retry_failed: bool = option(
        False, "fetch again the images that failed for good (404, ...)", group="image URLs"
    )
    allow_private_hosts: bool = option(
        False,
        "ask hosts of this machine and its network too; else an image there counts as missing",
        group="image URLs",
    )

    def __post_init__(self) -> None:
        check_options(self)
        for name in _IMAGE_ONLY if self.modality == "text" else _TEXT_ONLY:
            if self._is_given(name):
                raise ValueError(f"--{name} does not go with --modality={self.modality}.")
        if self.revision and self.encoder in (None, TEXT_ENCODER, IMAGE_ENCODER):
            raise ValueError("--revision goes with --encoder=<Hugging Face id> only.")
        if self.image_folder and self.url_column:
            raise ValueError("--image_folder and --url_column both say where images are. Give one.")
        for name in _URLS_ONLY:
            if self._is_given(name) and not self.url_column:
                raise ValueError(f"--{name} goes with --url_column only.")
        if self.output and not self.output.endswith(".npy"):
            raise ValueError(f"--output must name a .npy file, got {self.output!r}.")

    @property
    def transport(self) -> Transport:
        """Limits and retries of the requests for images."""
        size = None if self.max_megabytes is None else int(self.max_megabytes * 2**20)
        given: dict[str, Any] = {
            "timeout_s": self.timeout_s,
            "retries": self.request_retries,
            "backoff_s": self.backoff_s,
            "concurrency": self.concurrency,
            "max_bytes": size,
            "allow_private_hosts": self.allow_private_hosts,
        }
        return _FETCH._replace(**{k: v for k, v in given.items() if v is not None})

    def _is_given(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and value is not False
