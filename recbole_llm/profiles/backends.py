"""The back end of the settings: a model in this process, or one behind a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole_llm.profiles.answer import Backend
from recbole_llm.profiles.settings import EMBEDDED, ReasonSettings

if TYPE_CHECKING:
    from recbole_llm.config import Config


def build_backend(settings: ReasonSettings, config: Config, sees_images: bool = False) -> Backend:
    """Return the back end that the settings name.

    Args:
        settings: settings of the pipeline.
        config: settings of the data, of which ``cache_dir`` and ``device`` are read.
        sees_images: whether to use ``image_model``, for prompts with images, or ``model_name``.

    Raises:
        ValueError, OSError, ImportError: a model cannot be loaded.
    """
    name = settings.image_model if sees_images else settings.model_name
    if settings.backend == "openai":
        from recbole_llm.profiles.openai_client import OpenAIBackend

        assert settings.model_name is not None
        return OpenAIBackend(
            name or settings.model_name,
            base_url=settings.base_url,
            api_key_env=settings.api_key_env,
            revision=settings.revision,
            transport=settings.transport,
        )
    from recbole_llm.profiles.local_client import LocalBackend

    return LocalBackend(
        name or EMBEDDED,
        revision=settings.revision,
        dtype=settings.dtype,
        batch_size=settings.batch_size,
        cache_dir=config["cache_dir"],
        device=config["device"],
        sees_images=sees_images,
    )
