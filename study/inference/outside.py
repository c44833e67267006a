"""From a picture's file to what an exported network takes, with Pillow and NumPy alone: these pages travel with every export."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .pictures import decode, square


def pixels(source: str | Path | BinaryIO, about: dict[str, Any]) -> np.ndarray:
    """float32 [1, 3, size, size] of a file, or its bytes; `about`: what preprocessing.json holds. Raises ValueError with the reason."""
    source = Path(source) if isinstance(source, str) else source
    image = square(decode(source, about["channels"]), about["stored_side"]).astype(np.float32) / 255
    if image.shape[0] != about["size"]:
        rows = _bilinear(image.shape[0], about["size"])
        image = np.einsum("ah,hwc,bw->abc", rows, image, rows, optimize=True)
    normal = (image - np.float32(about["mean"])) / np.float32(about["std"])  # grey is shown to all three channels
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], dtype=np.float32)


def _bilinear(source: int, target: int) -> np.ndarray:
    """float32 [target, source], rows sum to 1: PyTorch's bilinear resizing, antialiased where it makes smaller."""
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.clip(1 - distance, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
