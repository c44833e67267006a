"""Probabilities from logits, the same in training's figures, in files and in a served model."""

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 [N, C] -> probabilities [N, C]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return out


def probabilities(logits: np.ndarray) -> np.ndarray:
    """[N, C] -> float32 [N, C], computed in float64."""
    out: np.ndarray = softmax(logits.astype(np.float64)).astype(np.float32)
    return out
