"""Probabilities from logits, the same in training's figures, in files and in a served model."""

from collections.abc import Sequence

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities [N, C] of float64 [N, C]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return out


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return probabilities float32 [N, C] of logits [N, C], computed in float64."""
    out: np.ndarray = softmax(logits.astype(np.float64)).astype(np.float32)
    return out


def pooled(several: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logits [N, C] of several networks as one: the log of their mean probabilities, float64; a single one's unchanged."""
    if len(several) == 1:
        return several[0]
    mean = np.mean([softmax(logits.astype(np.float64)) for logits in several], axis=0)
    out: np.ndarray = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
    return out


def over_tiles(logits: np.ndarray, tiles: int, pool: str = "mean") -> np.ndarray:
    """Pool the logits [N * tiles, C] of pictures' tiles into the pictures' own, float32 [N, C].

    They are the log of the mean, or of the highest, of the tiles' probabilities. A picture that is one tile keeps its logits.
    """
    if tiles == 1:
        return logits
    shares = softmax(logits.astype(np.float64)).reshape(-1, tiles, logits.shape[1])
    picture = shares.mean(axis=1) if pool == "mean" else shares.max(axis=1)
    out: np.ndarray = np.log(np.maximum(picture, np.finfo(np.float32).tiny)).astype(np.float32)
    return out
