"""A picture from a stranger, as the square of pixels that training saw: formats allowed, caps on size, one way to crop."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
MAX_PIXELS = 50_000_000
MAX_ASPECT = 100  # long to short side: beyond it is no photograph, and its centre square shows nothing of it
LONGEST = 10  # times the short side; the centre with the kernel's reach is less than 7 of them, and 10:1 is cut nowhere

Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)


def short_side(source: Path | BinaryIO) -> int:
    """Short side in pixels, from the header alone. Raises ValueError with the reason, whatever Pillow raised."""
    try:
        with Image.open(source, formats=FORMATS) as image:
            width, height = image.size
    except Exception as error:
        raise ValueError(reason(error)) from None
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is more than {MAX_ASPECT} times the other")
    return min(width, height)


def reason(error: Exception) -> str:
    """Why a picture cannot be read, in a few words."""
    if type(error).__name__ == "UnidentifiedImageError":
        return "not " + "/".join(FORMATS)
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


def decode(source: Path | BinaryIO, channels: int) -> np.ndarray:
    """A file, or its bytes, as uint8 [H, W, channels] with EXIF orientation applied. Raises ValueError with the reason."""
    short_side(source)
    try:
        with Image.open(source, formats=FORMATS) as opened:
            return to_array(ImageOps.exif_transpose(opened), channels)
    except Exception as error:
        raise ValueError(reason(error)) from None


def to_array(image: Image.Image, channels: int) -> np.ndarray:
    """uint8 [H, W, channels]; transparency is put on white, 16-bit and float images are scaled, not clipped."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode != "F" else max(float(values.max()), 1e-12)
        image = Image.fromarray((np.clip(values / max(top, float(values.max(initial=0))), 0, 1) * 255).round().astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "P"):
        flat = Image.new("RGBA", image.size, (255, 255, 255, 255))
        flat.alpha_composite(image.convert("RGBA"))
        image = flat
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if array.ndim == 2 else array


def square(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W, C] -> [size, size, C]: short side resized with antialiasing, then the centre.

    A long image loses its ends first, or scaling would make it size * size * its aspect ratio of pixels.
    """
    if image.shape[:2] == (size, size):
        return image
    image = _middle(image, LONGEST * min(image.shape[:2]))
    height, width = image.shape[:2]
    scale = size / min(height, width)
    target = (max(round(width * scale), size), max(round(height * scale), size))
    resized = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).resize(target, Image.Resampling.LANCZOS)
    left, top = (target[0] - size) // 2, (target[1] - size) // 2
    array = np.asarray(resized)[top : top + size, left : left + size]
    return array[..., None] if array.ndim == 2 else array


def _middle(image: np.ndarray, most: int) -> np.ndarray:
    """[H, W, C], neither side longer than `most`."""
    top, left = (max(side - most, 0) // 2 for side in image.shape[:2])
    return image[top : top + most, left : left + most]


def prepare(image: np.ndarray, side: int, channels: int) -> np.ndarray:
    """uint8 [H, W, 1, 3 or 4] -> uint8 [side, side, channels] as training saw images."""
    if image.shape[-1] != channels:
        image = to_array(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), channels)
    return square(image, side)
