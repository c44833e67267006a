"""Probabilities from logits, the same in training's figures, in files and in a served model."""

from collections.abc import Sequence

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities [N, C] of float64 [N, C]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return out


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return probabilities [N, C] of labels that an image has or has not, each for itself."""
    out: np.ndarray = np.exp(-np.logaddexp(0, -logits))
    return out


def probabilities(logits: np.ndarray, labels: bool = False) -> np.ndarray:
    """Return probabilities float32 [N, C] of logits [N, C], computed in float64. `labels`: an image may have several of the C."""
    out: np.ndarray = (sigmoid if labels else softmax)(logits.astype(np.float64)).astype(np.float32)
    return out


def pooled(several: Sequence[np.ndarray], labels: bool = False) -> np.ndarray:
    """Return the logits [N, C] of several networks as one, those of their mean probabilities, float64; a single one's unchanged."""
    if len(several) == 1:
        return several[0]
    return _back(np.mean([(sigmoid if labels else softmax)(logits.astype(np.float64)) for logits in several], axis=0), labels)


def _back(shares: np.ndarray, labels: bool) -> np.ndarray:
    """Return float64 logits [N, C] of which these are the probabilities: their logarithms, of labels their logits."""
    tiny = np.finfo(np.float64).tiny
    out: np.ndarray = np.log(np.maximum(shares, tiny))
    return out - np.log(np.maximum(1 - shares, tiny)) if labels else out


def over_tiles(logits: np.ndarray, tiles: int, pool: str = "mean", labels: bool = False) -> np.ndarray:
    """Pool the logits [N * tiles, C] of pictures' tiles into the pictures' own, float32 [N, C].

    They are the log, for `labels` the logit, of the mean or the highest of the tiles' probabilities. A picture that is one tile keeps
    its logits.
    """
    if tiles == 1:
        return logits
    shares = (sigmoid if labels else softmax)(logits.astype(np.float64)).reshape(-1, tiles, logits.shape[1])
    return _back(shares.mean(axis=1) if pool == "mean" else shares.max(axis=1), labels).astype(np.float32)
