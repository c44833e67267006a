"""The scale of a picture's numbers, from its file's bits, sign, tags and transparency: 8 bits on white, or an error that names the rule.

The picture's own brightest number is never the scale: one pixel would decide how bright the others are, and a dark photograph must stay
dark.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

BITS, PHOTOMETRIC, SAMPLES, MAX_SAMPLE, SAMPLE_FORMAT = 258, 262, 277, 281, 339  # TIFF tags
WHITE_IS_ZERO, SIGNED = 0, 2  # values of PHOTOMETRIC and SAMPLE_FORMAT
FULL_SCALES = (1023, 4095, 16383)  # of cameras of 10, 12 and 14 bit, where a TIFF's MaxSampleValue says so
SAVE = "save it as 8-bit grey or RGB"
STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads grey of 2 and 4 bits over 0..255, but leaves the transparent one as the file has it


class NoScale(ValueError):
    """An error for numbers where neither file nor tags say what is black and what is white."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The conversion of a picture's numbers, read before its pixels, since Pillow forgets it then."""

    mode: str
    bits: int = 8  # a channel
    white: float = 255.0
    inverted: bool = False  # 0 is white, and Pillow left it so
    step: int = 1  # between two greys of the file that follow each other
    new: bool = False  # read otherwise, or not at all, before this page was written


def scale_of(image: Image.Image) -> Scale:
    """Return the scale of a picture just opened, or one held in Python. Raises NoScale."""
    tags: Mapping[int, Any] = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    raw = _raw_mode(image)
    bits = max(tags.get(BITS, (16 if ";16" in raw else 8,)))
    if SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise NoScale(f"whole numbers with a sign, {bits} bits: nothing says which is white; {SAVE}")
    if image.mode == "LAB":
        raise NoScale(f"colours in L*a*b*; {SAVE}")
    named = _named_white(tags)
    inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    if image.mode == "F":
        return Scale(mode="F", bits=32, white=1.0, inverted=inverted, new=True)
    if image.mode == "I" and image.format != "PNG":  # a PNG has 16 bits at most, which Pillow before 11 held as 32
        raise NoScale(f"whole numbers of 32 bits: nothing says which is white; {SAVE}")
    if image.mode.startswith("I"):
        white = named or float(2 ** min(max(bits, 9), 16) - 1 if tags else 65535)
        return Scale(mode=image.mode, bits=16, white=white, inverted=inverted, new=inverted or (bits == 12))
    if named and bits > 8:
        raise NoScale(f"{bits} bits a channel with the tag MaxSampleValue {named:.0f}, which is read of grey alone; {SAVE}")
    marked = "transparency" in image.info and image.mode not in ("P", "PA")
    if marked and (";16" in raw or (image.mode == "RGB" and max(image.info["transparency"]) > 255)):
        raise NoScale("16 bits a channel with one colour marked as transparent. Save it with an alpha channel, or as 8-bit RGB")
    step = STEPS.get(raw, 255 if image.mode == "1" else 1)
    if marked and not raw and isinstance(image, PngImagePlugin.PngImageFile):
        step = _step_of_loaded(image)
    return Scale(mode=image.mode, bits=bits, step=step, new=marked or image.mode in ("La", "RGBa"))


def on_white(image: Image.Image, scale: Scale) -> Image.Image:
    """Return 8 bits without transparency; `image` may have been turned since. Raises NoScale for numbers beyond the scale."""
    key = image.info.get("transparency")
    if scale.mode == "F" or scale.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(_eight_bits(values, scale))
        return image if key is None or scale.mode == "F" else _cut_out(image, values == key)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if key is not None and image.mode in ("1", "L", "RGB"):
        numbers = np.asarray(image.convert("L") if image.mode == "1" else image)
        same = numbers == np.asarray(key) * scale.step
        return _cut_out(image.convert("RGB"), same if same.ndim == 2 else same.all(axis=2))
    if image.mode in ("LA", "PA", "RGBA", "P"):
        flat = Image.new("RGBA", image.size, (255, 255, 255, 255))
        flat.alpha_composite(image.convert("RGBA"))
        return flat
    return image


def _eight_bits(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return uint8 [H, W] of the values. Raises NoScale."""
    if lost := int((~np.isfinite(values)).sum()):
        raise NoScale(f"of its {values.size:,} pixels {lost:,} {'is' if lost == 1 else 'are'} NaN or infinite; {SAVE}")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < 0 or high > scale.white:
        rule = f"from {low:.6g} to {high:.6g}, and 0 must be black and {scale.white:.0f} white"
        raise NoScale(f"{'floats' if scale.mode == 'F' else 'numbers'} {rule}; {SAVE}")
    shares = values / scale.white
    return ((1 - shares if scale.inverted else shares) * 255).round().astype(np.uint8)


def _cut_out(image: Image.Image, transparent: np.ndarray) -> Image.Image:
    """Return `image` with white where bool [H, W] is set."""
    pixels = np.array(image)
    pixels[transparent] = 255
    return Image.fromarray(pixels)


def _raw_mode(image: Image.Image) -> str:
    """Return the file's form of numbers, as Pillow's codecs call it ("L;4", "RGB;16B"); an empty text once they were read."""
    tiles = getattr(image, "tile", None) or []
    last = tiles[0][3] if tiles else ""
    last = last[0] if isinstance(last, tuple) and last else last
    return last if isinstance(last, str) else ""


def _named_white(tags: Mapping[int, Any]) -> float | None:
    """Return the white of a TIFF's MaxSampleValue where it is the full scale of a camera; other values are the picture's own brightest."""
    named = tags.get(MAX_SAMPLE)
    values = set(named) if isinstance(named, tuple) else {named}
    return next((float(full) for full in FULL_SCALES if values == {full}), None)


def _step_of_loaded(image: Image.Image) -> int:
    """Return the step between greys of a PNG whose pixels were read already. Raises NoScale where it may have 2, 4 or 8 bits."""
    key = image.info["transparency"]
    if image.mode != "L" or not isinstance(key, int) or not 0 < key < 16:
        return 255 if image.mode == "1" else 1
    if (np.asarray(image) % 17).any():
        return 1
    raise NoScale("grey with one value marked as transparent, of which nothing says any more how many bits it had. Give its file")
