"""A picture of unknown origin as the square of pixels that training saw: allowed formats, limits on size, one way to crop."""

import functools
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, features

from .scales import BITS, SAMPLES, NoScale, Scale, on_white, scale_of

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
MOST_CHANNELS = 4  # of a TIFF: what is more is no photograph, and which of them to show is not ours to choose
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION, TURNS = 0x0112, range(2, 9)  # EXIF tag, and what of its values is not upright
UNTOUCHED = ("L", "LA", "RGB", "RGBA", "I;16")  # modes that a PNG keeps, so that its decoding is the picture's
MAX_PIXELS = 50_000_000
MAX_ASPECT = 100  # long to short side: beyond it is no photograph, and its centre square shows nothing of it
LONGEST = 10  # times the short side; the centre with the kernel's reach is less than 7 of them, and 10:1 is cut nowhere

Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # what it complains of is said in the error, once


@functools.cache
def formats() -> tuple[str, ...]:
    """Return the formats that are read here: FORMATS, AVIF where Pillow was built with it, HEIF (HEIC) where pillow-heif is installed."""
    known = FORMATS + (("AVIF",) if features.check("avif") else ())
    try:
        import pillow_heif
    except ImportError:
        return known
    pillow_heif.register_heif_opener()
    return (*known, "HEIF")


@contextmanager
def opened(source: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open a picture with Pillow, with nothing decoded yet.

    It is never opened by its file's name: Pillow then maps some files into memory, and exchanges the sides of a TIFF that its tag turns
    (13.0).
    """
    with open(source, "rb") if isinstance(source, Path) else nullcontext(source) as file, Image.open(file, formats=formats()) as image:
        yield image


def short_side(source: Path | BinaryIO) -> int:
    """Return the short side in pixels, from the header alone. Raises ValueError with the reason for all errors of Pillow."""
    try:
        with opened(source) as image:
            width, height = image.size
            channels = image.tag_v2.get(SAMPLES, 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
    except Exception as error:
        raise ValueError(_tiff_reason(source) or reason(error)) from None
    if channels > MOST_CHANNELS:
        raise ValueError(_too_many(channels))
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is more than {MAX_ASPECT} times the other")
    return min(width, height)


def reason(error: Exception) -> str:
    """Return why a picture cannot be read, in a few words."""
    if type(error).__name__ == "UnidentifiedImageError":
        return "not " + "/".join(formats())
    if type(error).__name__.startswith("DecompressionBomb"):  # Pillow's own limit comes before ours
        return f"more than {MAX_PIXELS:,} pixels. Make it smaller"
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


def _too_many(channels: int) -> str:
    return f"{channels} channels are more than {MOST_CHANNELS}. Save the three to be seen as RGB"


def _tiff_reason(source: Path | BinaryIO) -> str:
    """Return the unusual feature of a TIFF that Pillow does not read; an empty text where that cannot be told."""
    try:
        file = open(source, "rb") if isinstance(source, Path) else source
        try:
            file.seek(0)
            head = file.read(8)
            if head[:4] not in TIFF_MAGIC:
                return ""
            tags = TiffImagePlugin.ImageFileDirectory_v2(head + file.read(8) if head[2:3] == b"+" or head[3:4] == b"+" else head)
            file.seek(tags.next)
            tags.load(file)
            channels, bits = int(tags.get(SAMPLES, 1)), tags.get(BITS, (1,))
        finally:
            if isinstance(source, Path):
                file.close()
    except Exception:
        return ""
    return (
        _too_many(channels)
        if channels > MOST_CHANNELS
        else f"a TIFF of {channels} channel{'s' * (channels != 1)} of {max(bits)} bits. Save it as 8-bit RGB"
    )


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Facts to mention about a picture that can be read."""

    deep: bool  # more than 8 bits a channel
    pages: bool  # more than one
    new: bool  # earlier versions read it otherwise
    transparent: bool  # in part, perhaps
    turned: bool  # by its EXIF


def notes(source: Path | BinaryIO) -> Notes:
    """Return the facts from the header alone. Raises ValueError for numbers without a scale."""
    with opened(source) as image:
        scale = scale_of(image)
        several = isinstance(image, TiffImagePlugin.TiffImageFile) and getattr(image, "n_frames", 1) > 1
        return Notes(
            deep=scale.bits > 8,
            pages=several,
            new=scale.new,
            transparent=image.has_transparency_data,
            turned=image.format != "TIFF" and image.getexif().get(ORIENTATION, 1) in TURNS,  # Pillow turns these itself
        )


def decode(source: Path | BinaryIO, channels: int) -> np.ndarray:
    """Return a file, or its bytes, as uint8 [H, W, channels] with EXIF orientation applied. Raises ValueError with the reason."""
    short_side(source)
    try:
        with opened(source) as image:
            scale = scale_of(image)
            return _array(on_white(ImageOps.exif_transpose(image), scale), channels)
    except NoScale:
        raise
    except Exception as error:
        raise ValueError(reason(error)) from None


def held(image: Image.Image) -> Image.Image:
    """Return a picture held in Python such that its PNG decodes as its own file would: turned by its EXIF, 8 bits on white.

    A picture that is so already is returned as it is. Raises ValueError with the reason.
    """
    name = getattr(image, "filename", "")
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tile and name:
        with opened(Path(os.fsdecode(name))) as again:
            return held(again)
    try:
        scale = scale_of(image)
        image.load()
        turned = image.getexif().get(ORIENTATION, 1) in TURNS
        plain = image.mode in UNTOUCHED and not scale.new and (scale.bits <= 8 or scale.white == 65535)
        upright = ImageOps.exif_transpose(image) if turned else image
        return upright if plain else Image.fromarray(_array(on_white(upright, scale), 3))
    except NoScale:
        raise
    except Exception as error:
        raise ValueError(reason(error)) from None


def to_array(image: Image.Image, channels: int) -> np.ndarray:
    """Return uint8 [H, W, channels] of a picture of 8 bits; transparency is put on white."""
    return _array(on_white(image, Scale(mode=image.mode)), channels)


def _array(image: Image.Image, channels: int) -> np.ndarray:
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[..., None] if array.ndim == 2 else array


def square(image: np.ndarray, size: int) -> np.ndarray:
    """Return uint8 [size, size, C] of [H, W, C]: short side resized with antialiasing, then the centre.

    A long image loses its ends first, or scaling would give size * size * its aspect ratio of pixels.
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
    """Return the middle of [H, W, C], neither side longer than `most`."""
    top, left = (max(side - most, 0) // 2 for side in image.shape[:2])
    return image[top : top + most, left : left + most]
