"""Settings of ``recbole_llm reason``: each option declared and checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from recbole_llm.options import check_options, option
from recbole_llm.profiles.answer import Decoding
from recbole_llm.profiles.openai_client import Transport
from recbole_llm.secrets import mask_secrets

STAGES = ("images", "profiles", "encode")
BACKENDS = ("transformers", "openai")
EMBEDDED = "smollm2-135m"
OLLAMA = "http://localhost:11434/v1"

_TRANSPORT = Transport()


@dataclass(frozen=True)
class ReasonSettings:
    """Options of the command. None stands for the default that the help names.

    Raises:
        ValueError: a value is out of range, or one that another needs is missing.
    """

    leaky: bool = option(
        False, "write profiles from ALL interactions, for the ablation only; marked LEAKY"
    )
    stage: str = option(
        "all", "the stage to run, or all of them", group="stages", choices=(*STAGES, "all")
    )
    output: str | None = option(
        None, "folder to write; default: reason-<hash> in the dataset's folder", group="stages"
    )
    text_columns: str | None = option(
        None, "A,B: columns of the .item file; default: all text but ids", group="stages"
    )
    image_folder: str | None = option(
        None, "folder of <item token>.jpg; default: images/; none: no images", group="stages"
    )
    encoder: str = option(
        "all-minilm-l6-v2",
        "sentence encoder: the embedded one, a folder or a Hugging Face id",
        group="stages",
    )
    max_users: int | None = option(
        None, "number of users, for a trial on the first ones only", group="stages", above=0
    )
    profile_prompt: str = option(
        "mllmrec_profile", "name of a prompt in properties/prompts, or a path", group="prompt"
    )
    image_prompt: str = option(
        "mllmrec_image",
        "name of a prompt for images in properties/prompts, or a path",
        group="prompt",
    )
    max_history: int = option(50, "newest items of a user in a prompt", group="prompt", at_least=1)
    max_words: int = option(100, "words that the prompt asks for", group="prompt", at_least=1)
    max_item_tokens: int = option(
        160, "tokens of an item's text that are kept", group="prompt", at_least=1
    )
    tokenizer: str | None = option(
        None,
        "tokenizer that counts those tokens; default: the local model's, else the embedded one's",
        group="prompt",
    )
    backend: str = option(
        "transformers",
        "transformers runs a model here; openai: any OpenAI-compatible server",
        group="model",
        choices=BACKENDS,
    )
    model_name: str | None = option(
        None,
        f"name on the server; or alias, folder, id (default of transformers: {EMBEDDED})",
        group="model",
    )
    image_model: str | None = option(
        None, "model for images; default on a server: --model_name", group="model"
    )
    image_words: bool = option(
        False,
        "describe an image by the embedded image encoder's five most likely ImageNet class names, "
        "where there is no model that takes images; records and tables say so",
        group="model",
    )
    revision: str | None = option(
        None,
        "branch or commit of a Hugging Face id; on a server: its model's version, as you know it",
        group="model",
    )
    temperature: float = option(
        0.0, "0 is greedy; else answers are sampled, seeded by --seed", group="model", at_least=0
    )
    top_p: float = option(1.0, "probability mass of nucleus sampling", group="model")
    max_new_tokens: int | None = option(
        None, "tokens of an answer; default: 2 a word and 16", group="model", above=0
    )
    answer_retries: int = option(
        2, "new tries after an empty, refused or over-long answer", group="model", at_least=0
    )
    overlong: str = option(
        "retry",
        "retry: an over-long answer is asked again, then a failure; trim: cut to whole sentences",
        group="model",
        choices=("retry", "trim"),
    )
    batch_size: int = option(8, "prompts generated at a time", group="transformers", at_least=1)
    dtype: str = option("float32", "float32, bfloat16, float16 or auto", group="transformers")
    base_url: str = option(OLLAMA, "address of the server", group="openai")
    api_key_env: str | None = option(
        None,
        "environment variable that holds the key; default: OPENAI_API_KEY",
        group="openai",
    )
    concurrency: int = option(
        _TRANSPORT.concurrency, "simultaneous requests", group="openai", at_least=1
    )
    timeout_s: float = option(
        _TRANSPORT.timeout_s, "seconds until a request counts as lost", group="openai", above=0
    )
    request_retries: int = option(
        _TRANSPORT.retries,
        "new tries after a time-out, 429, 5xx or lost connection",
        group="openai",
        at_least=0,
    )
    backoff_s: float = option(
        _TRANSPORT.backoff_s,
        "seconds before the first new try, doubled each time, with jitter",
        group="openai",
        at_least=0,
    )
    requests_per_minute: float | None = option(
        None, "limit of the requests; default: none", group="openai", above=0
    )

    def __post_init__(self) -> None:
        check_options(self)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"--top_p must lie in (0, 1], got {self.top_p}.")
        if self.backend == "openai" and not self.model_name and self.stage != "encode":
            raise ValueError(
                "--backend=openai needs --model_name, the model's name on the server, for example "
                "--model_name=gemma3:27b."
            )
        if self.image_words and self.image_model:
            raise ValueError("--image_words and --image_model both describe images. Give one.")
        if self.backend == "openai":
            _check_address(self.base_url)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages to run, in order."""
        return STAGES if self.stage == "all" else (self.stage,)

    @property
    def tokenizer_name(self) -> str:
        """Tokenizer that item texts are cut by: a local model's own, else the embedded model's."""
        local = self.model_name if self.backend == "transformers" else None
        return self.tokenizer or local or EMBEDDED

    @property
    def transport(self) -> Transport:
        """Limits and retries of the requests to a server."""
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


def _check_address(url: str) -> None:
    """Refuse what cannot be a server's address.

    Raises:
        ValueError: it has another scheme than http and https, no host, a wrong port, or blanks or
            line breaks inside.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_address = is_address and parts.port != 0  # raises for a port that is no number
    except ValueError:
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        raise ValueError(
            f"--base_url must be an address such as {OLLAMA}, got {mask_secrets(url)!r}."
        )
