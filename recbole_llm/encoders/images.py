"""Images of items: found in a folder, and read as RGB or refused with a reason."""

import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_llm.net.http import is_html

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pillow's other formats include some that it hands to other programs, such as EPS to Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


class BadImageError(ValueError):
    """The data is not a readable image; the message is the reason alone."""


def find_images(folder: Path, tokens: Iterable[str]) -> dict[str, Path]:
    """Return the file ``<item token>.jpg`` (or another suffix) of each item that has one.

    Args:
        folder: existing folder of image files.
        tokens: item tokens, in the order of the result.
    """
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}
    return {token: found[token] for token in tokens if token in found}


def read_image(data: bytes) -> "Image":
    """Decode an image, first frame, as RGB, on white where it is transparent.

    Args:
        data: content of an image file.

    Raises:
        BadImageError: the data is not an image, is truncated or broken, or has more pixels than
            Pillow's limit for decompression bombs.
    """
    from PIL import Image, ImageOps

    image = open_image(data)
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # converted as they are, all but the darkest become white
            image = image.point(lambda value: value * (1 / 256)).convert("L")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert(
                "RGB"
            )
        return image.convert("RGB")
    except Exception as error:  # decoders raise whatever a wrong byte leads them to
        is_short = "truncated" in str(error).lower()
        raise BadImageError("truncated image" if is_short else f"broken image: {error}") from error


def open_image(data: bytes) -> "Image":
    """Read an image's header; its pixels are decoded when they are used.

    Args:
        data: content of an image file.

    Raises:
        BadImageError: the data is not an image of ``FORMATS``, or has more pixels than Pillow's
            limit for decompression bombs.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow only warns up to twice its limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = Image.MAX_IMAGE_PIXELS
        raise BadImageError(f"more than {limit:,} pixels") from error
    except Exception as error:
        kind = "an HTML page" if is_html(data) else "nothing" if not data else "other data"
        raise BadImageError(f"not an image but {kind}") from error
