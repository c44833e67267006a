"""The training images of a pass and their order: all images, or classes nearer to equally often."""

import numpy as np


def draw_order(labels: np.ndarray, rng: np.random.Generator, balance: float = 0.0) -> np.ndarray:
    """Return positions [N] for one pass over training images with `labels` [N], in the order in which they are shown.

    A class of n images gets a share of the pass in proportion to n^(1 - balance) (Kang et al. 2020, arXiv 1910.09217, equation 1): 0
    shows every image once, 1 every class equally often within one image, 1/2 goes by the square root. Images of small classes come
    several times, and of large ones only some come.
    """
    if balance == 0:
        return rng.permutation(len(labels))
    classes, images = np.unique(labels, return_counts=True)
    quotas = _whole(len(labels) * images ** (1.0 - balance) / (images ** (1.0 - balance)).sum())
    chosen = [np.resize(rng.permutation(np.flatnonzero(labels == c)), n) for c, n in zip(classes, quotas, strict=True)]  # small ones again
    turns = np.concatenate([np.arange(n) for n in quotas])  # classes take turns, so that `balance` 1 is drawn as it always was
    return rng.permutation(np.concatenate(chosen)[np.argsort(turns, kind="stable")])


def _whole(shares: np.ndarray) -> np.ndarray:
    """Return whole numbers with the sum of `shares`: rounded down, and one more where most was lost, the first of equals first."""
    floors = np.floor(shares + 1e-9).astype(int)
    lost = np.argsort(np.round(floors - shares, 9), kind="stable")
    floors[lost[: round(float(shares.sum())) - floors.sum()]] += 1
    return floors
