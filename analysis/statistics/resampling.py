"""Scores of predictions, scores on resampled images, and Holm's p values: the arrays behind every comparison.

Macro averages go over the classes that occur among the labels. Images are drawn with replacement, as whole sessions where they have
them.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from study.metrics import Counts, accuracy, macro_f1, macro_precision, macro_recall

CONFIDENCE = 0.95
RESAMPLES = 1000
ENOUGH_SEEDS = 5


# ---- scores ---------------------------------------------------------------------------------------------


METRICS: dict[str, Callable[[Counts], np.ndarray]] = {
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "macro_precision": macro_precision,
    "macro_recall": macro_recall,
}
"""Those of every study. The one that has verdicts is the study's (`study.scoring`), which may be another beside them."""


def confusions(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the confusion counts [C, C] of predictions [N], truth in rows."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes).astype(float)


def image_weights(count: int, groups: np.ndarray | None, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return [resamples, count] how often each image is drawn. With `groups`, whole groups are drawn."""
    if groups is None:
        return rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    _, member = np.unique(groups, return_inverse=True)
    units = int(member.max()) + 1
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples)[:, member]


def shared_weights(count: int, groups: np.ndarray | None, resamples: int) -> np.ndarray:
    """Return the `image_weights` that a whole analysis shares, read-only, so that everything on the same images can be paired."""
    return _drawn(count, None if groups is None else groups.astype(np.int64).tobytes(), resamples)


@functools.lru_cache(maxsize=2)
def _drawn(count: int, groups: bytes | None, resamples: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[20, 21]))
    weights = image_weights(count, None if groups is None else np.frombuffer(groups, np.int64), resamples, rng)
    weights.flags.writeable = False
    return weights


@dataclass(frozen=True, kw_only=True)
class ImageUnits:
    """The units that are resampled: single images, or whole recording sessions."""

    images: int
    groups: int  # sessions; the number of images where there are none
    effective: float  # groups of equal size that would tell as much: (sum n)^2 / sum n^2
    correction: float  # of the bootstrap's variance


def image_units(count: int, groups: np.ndarray | None, weights: np.ndarray | None = None) -> ImageUnits:
    """Return the units, with the correction of the variance for few or unequal groups.

    With w a group's share of the images, resampling groups finds 1 - 2 sum w^3 / sum w^2 + sum w^2 of the variance where groups differ
    as wholes: (G - 1) / G for G equal groups, 0.7 for ten whose sizes spread as a recording day's do. The correction is its inverse.
    `weights` [count]: how many images each stands for, where some were drawn with unequal probabilities.
    """
    each = np.ones(count) if weights is None else weights
    sizes = each if groups is None else np.bincount(np.unique(groups, return_inverse=True)[1], each)
    w = sizes / sizes.sum()
    squares = float((w**2).sum())
    found = 1 - 2 * float((w**3).sum()) / squares + squares
    return ImageUnits(images=count, groups=len(sizes), effective=1 / squares, correction=1 / found if len(sizes) > 1 else math.nan)


# ---- many comparisons ------------------------------------------------------------------------------------


def holm(p: Sequence[float]) -> np.ndarray:
    """Return Holm's adjusted p values (1979) in the order given. NaN stays NaN and counts as a comparison made."""
    values = np.asarray(p, dtype=float)
    order = np.argsort(np.where(np.isnan(values), 2.0, values), kind="stable")
    adjusted, worst = np.empty(len(values)), 0.0
    for rank, k in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - rank) * values[k])) if not math.isnan(values[k]) else math.nan
        adjusted[k] = worst
    return adjusted
