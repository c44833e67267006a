"""The way from a picture's file to an exported network's input, with Pillow and NumPy alone: these pages are part of every export."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .framing import cut_tiles, frame
from .pictures import decode
from .softmax import over_tiles, sigmoid, softmax


def pixels(source: str | Path | BinaryIO, about: dict[str, Any]) -> np.ndarray:
    """Return float32 [1, 3, size, size] of a file, or its bytes; of a picture in tiles [tiles, 3, size, size]. `about`: what
    preprocessing.json holds. Raises ValueError with the reason."""
    source = Path(source) if isinstance(source, str) else source
    tiles = (about.get("tiles", (1, 1))[0], about.get("tiles", (1, 1))[1])
    framed = frame(decode(source, about["channels"]), about["stored_side"], about.get("fit", "square"), tiles)
    return np.concatenate([_normal(image.astype(np.float32) / 255, about) for image in cut_tiles(framed[None], tiles)])


def probabilities(logits: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """Return probabilities [N, classes] from what the network says of N pictures, logits [N, classes], or [N * tiles, classes]. Of several
    labels a picture each is for itself, and the picture has those above the `thresholds` of `about`."""
    rows, columns = about.get("tiles", (1, 1))
    several = about.get("several", False)
    own = over_tiles(logits, rows * columns, about.get("pool", "mean"), several).astype(np.float64) / about["temperature"]
    return sigmoid(own) if several else softmax(own)


def _normal(image: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    """Return float32 [S, S, C] in [0, 1] as [1, 3, size, size]."""
    if image.shape[0] != about["size"]:
        rows = _bilinear(image.shape[0], about["size"])
        image = np.einsum("ah,hwc,bw->abc", rows, image, rows, optimize=True)
    normal = (image - np.float32(about["mean"])) / np.float32(about["std"])  # grey is shown to all three channels
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], dtype=np.float32)


def _bilinear(source: int, target: int) -> np.ndarray:
    """Return float32 [target, source], rows sum to 1: PyTorch's bilinear resizing, antialiased where it makes smaller."""
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.clip(1 - distance, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
