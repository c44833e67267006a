"""A picture from a stranger, as the square of pixels that training saw: formats allowed, caps on size, one way to crop."""

import functools
import logging
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, features

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
MOST_CHANNELS = 4  # of a TIFF: what is more is no photograph, and which of them to show is not ours to choose
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SAMPLES, BITS, MAX_SAMPLE = 277, 258, 281  # TIFF tags
FULL_SCALES = (1023, 4095, 16383)  # of cameras of 10, 12 and 14 bit, where a TIFF's MaxSampleValue says so
MAX_PIXELS = 50_000_000
MAX_ASPECT = 100  # long to short side: beyond it is no photograph, and its centre square shows nothing of it
LONGEST = 10  # times the short side; the centre with the kernel's reach is less than 7 of them, and 10:1 is cut nowhere

Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # what it complains of is said in the error, once


@functools.cache
def formats() -> tuple[str, ...]:
    """What is read here: FORMATS, AVIF where Pillow was built with it, HEIF (HEIC) where pillow-heif is installed."""
    known = FORMATS + (("AVIF",) if features.check("avif") else ())
    try:
        import pillow_heif
    except ImportError:
        return known
    pillow_heif.register_heif_opener()
    return (*known, "HEIF")


def short_side(source: Path | BinaryIO) -> int:
    """Short side in pixels, from the header alone. Raises ValueError with the reason, whatever Pillow raised."""
    try:
        with Image.open(source, formats=formats()) as image:
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
    """Why a picture cannot be read, in a few words."""
    if type(error).__name__ == "UnidentifiedImageError":
        return "not " + "/".join(formats())
    return f"{type(error).__name__}: {error}".splitlines()[0][:160]


def _too_many(channels: int) -> str:
    return f"{channels} channels are more than {MOST_CHANNELS}; save the three to be seen as RGB"


def _tiff_reason(source: Path | BinaryIO) -> str:
    """What of a TIFF that Pillow does not know is unusual; empty where that cannot be told."""
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
    return _too_many(channels) if channels > MOST_CHANNELS else f"a TIFF of {channels} channels of {max(bits)} bit; save it as 8-bit RGB"


def notes(source: Path | BinaryIO) -> tuple[bool, bool]:
    """(more than 8 bits a channel, several pages), of a picture that can be read, from its header."""
    with Image.open(source, formats=formats()) as image:
        bits = image.tag_v2.get(BITS, (8,)) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
        deep = image.mode.startswith(("I", "F")) or (bits is not None and max(bits) > 8)
        return deep, bits is not None and getattr(image, "n_frames", 1) > 1


def decode(source: Path | BinaryIO, channels: int) -> np.ndarray:
    """A file, or its bytes, as uint8 [H, W, channels] with EXIF orientation applied. Raises ValueError with the reason."""
    short_side(source)
    try:
        with Image.open(source, formats=formats()) as opened:
            return to_array(ImageOps.exif_transpose(opened), channels, _full_scale(opened))
    except Exception as error:
        raise ValueError(reason(error)) from None


def _full_scale(image: Image.Image) -> float:
    """The value of white in a 16-bit image: 65535, or what a TIFF of a 10, 12 or 14-bit camera names. Never the image's own
    brightest pixel: a dark photograph must stay dark beside the others."""
    named = image.tag_v2.get(MAX_SAMPLE) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    value = named[0] if isinstance(named, tuple) and named else named
    return float(value) if value in FULL_SCALES else 65535.0


def to_array(image: Image.Image, channels: int, white: float = 65535.0) -> np.ndarray:
    """uint8 [H, W, channels]; transparency is put on white, 16-bit and float images are scaled, not clipped.

    `white`: the value of white in a 16-bit image; one that is exceeded gives way to the brightest pixel.
    """
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        top = white if image.mode != "F" else max(float(values.max()), 1e-12)
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
