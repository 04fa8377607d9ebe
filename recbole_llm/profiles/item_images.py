"""Images of items: their folder, and the file of each item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.encoders.images import find_images
from recbole_llm.profiles.settings import ReasonSettings

if TYPE_CHECKING:
    from recbole_llm.config import Config


def image_folder(settings: ReasonSettings, config: Config) -> Path:
    """Return the folder of images: the setting's, else ``images/`` of the dataset's folder."""
    return Path(settings.image_folder or Path(config["data_path"]) / "images")


def find_item_images(
    settings: ReasonSettings, config: Config, tokens: Sequence[str]
) -> dict[str, Path]:
    """Return the image file of each item that has one, in the order of ``tokens``.

    Raises:
        FileNotFoundError: the setting names a folder that does not exist.
    """
    if settings.image_folder == "none":
        return {}
    folder = image_folder(settings, config)
    if folder.is_dir():
        return find_images(folder, tokens)
    if settings.image_folder is not None:
        raise FileNotFoundError(f"--image_folder={folder} is not a folder.")
    return {}
