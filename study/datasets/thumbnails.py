"""Small copies of images for people to look at."""

import io

import numpy as np
from PIL import Image

from study.datasets.spec import ImageTable
from study.errors import DataError

SIDE = 96  # pixels, of the longer side


def thumbnail(table: ImageTable, position: int) -> bytes | None:
    """Return a JPEG; None for an image that cannot be decoded."""
    try:
        return jpeg(table.decode(position))
    except DataError:
        return None


def jpeg(pixels: np.ndarray, side: int = SIDE) -> bytes:
    """Return a JPEG that is never larger than the image. `pixels`: uint8 [H, W, 1 or 3]."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
