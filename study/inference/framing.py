"""The way from a picture of any shape to the squares that a network sees: its middle, all of it on a square, or a grid of tiles.

Training, the line to beat, prediction, exports, the demo and registered models all use `frame`.
"""

import numpy as np
from PIL import Image

from .pictures import square, to_array

FITS = ("square", "pad", "stretch")
"""square: the short side to size, then the centre; pad: the long side to size, grey around; stretch: both sides to size."""
POOLS = ("mean", "max")
"""Ways in which the probabilities of a picture's tiles become the picture's."""
MOST_TILES = 8
"""Rows or columns of tiles at most: the smallest picture that is read has 8 pixels a side."""
GREY = 114  # of 255, around a padded picture: near the mean of ImageNet's photographs, so that it is near 0 once normalised


def frame(image: np.ndarray, side: int, fit: str = "square", tiles: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Return uint8 [H, W, C] as [rows * side, columns * side, C]: `tiles` = (rows, columns) equal parts, each a square in its place.

    What has that shape already stays as it is, so a framed picture may be framed again.
    """
    rows, columns = tiles
    if image.shape[:2] == (rows * side, columns * side):
        return image
    if tiles == (1, 1):
        return _fitted(image, side, fit)
    parts = [[_fitted(cell, side, fit) for cell in np.array_split(row, columns, axis=1)] for row in np.array_split(image, rows, axis=0)]
    return np.concatenate([np.concatenate(row, axis=1) for row in parts], axis=0)


def prepare(image: np.ndarray, side: int, channels: int, fit: str = "square", tiles: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Return uint8 [H, W, 1, 3 or 4] as `frame` gives it, uint8 [rows * side, columns * side, channels]: as training saw images."""
    if image.shape[-1] != channels:
        image = to_array(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), channels)
    return frame(image, side, fit, tiles)


def cut_tiles(framed: np.ndarray, tiles: tuple[int, int]) -> np.ndarray:
    """Cut framed pictures [N, rows * S, columns * S, C] into their tiles [N * rows * columns, S, S, C], row by row."""
    rows, columns = tiles
    if tiles == (1, 1):
        return framed
    count, height, width, channels = framed.shape
    grid = framed.reshape(count, rows, height // rows, columns, width // columns, channels).swapaxes(2, 3)
    return np.ascontiguousarray(grid).reshape(-1, height // rows, width // columns, channels)


def _fitted(image: np.ndarray, side: int, fit: str) -> np.ndarray:
    """Return uint8 [side, side, C]."""
    if fit == "square":
        return square(image, side)
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, not {fit!r}")
    if image.shape[:2] == (side, side):
        return image
    longest = max(image.shape[:2])
    height, width = (side, side) if fit == "stretch" else (max(round(n * side / longest), 1) for n in image.shape[:2])
    resized = np.asarray(
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).resize((width, height), Image.Resampling.LANCZOS)
    )
    out = np.full((side, side, image.shape[-1]), GREY, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = resized.reshape(height, width, -1)
    return out
