"""Scores of labels and probabilities, each on many resamples of the images at once.

`weights` [B, N] says how often each image is drawn, None that each is there once. Every function returns [B], or [] without weights, and
its natural value, which is a loss for losses. Scikit-learn's functions are the reference (`tests/test_metric.py`).
"""

from collections.abc import Callable, Iterator

import numpy as np

BLOCK = 4_000_000
"""Weights that are sorted at once: resamples times images."""
Curve = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A function to a number of each resample [B], from the numbers of images of the class, and of the others, at every threshold, the lowest
first: [B, T] each."""


def mean(each: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the mean over images of `each` [N]."""
    if weights is None:
        return np.asarray(each.mean())
    out: np.ndarray = weights.astype(np.float64, copy=False) @ each / weights.sum(axis=1)
    return out


def log_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return [N]: -log of the true class's probability, which counts as machine precision at least."""
    eps = np.finfo(np.float64).eps
    out: np.ndarray = -np.log(np.clip(probabilities[np.arange(len(labels)), labels].astype(np.float64), eps, 1 - eps))
    return out


def brier_losses(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return [N], from 0 to 1: half the squared distance between the probabilities and the truth (Brier 1950); for two classes (p -
    y)^2."""
    rest = probabilities.astype(np.float64)
    rest[np.arange(len(labels)), labels] -= 1
    out: np.ndarray = (rest**2).sum(axis=1) / 2
    return out


def auroc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean, over the classes that occur, of the area under the ROC curve against the rest; ties count half.

    NaN where a single class occurs; a resample without a class uses the others.
    """
    return _over_classes(labels, probabilities, weights, _area)


def average_precision(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean, over the classes that occur, of the sum over thresholds of precision times the recall gained there."""
    return _over_classes(labels, probabilities, weights, _average_precision)


def quadratic_kappa(labels: np.ndarray, said: np.ndarray, ranks: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return Cohen's kappa with squared steps (Cohen 1968): 1 - A / E, with A the mean squared step between truth and answer.

    E is the mean squared step of independent answers with the same frequencies. `ranks` [C]: the place of each class in their order. The
    result is 1 where only one class occurs and is predicted.
    """
    truth, answer = ranks[labels].astype(float), ranks[said].astype(float)
    seen = mean((truth - answer) ** 2, weights)
    t, t2, a, a2 = (mean(v, weights) for v in (truth, truth**2, answer, answer**2))
    expected = t2 + a2 - 2 * t * a
    out: np.ndarray = 1 - np.divide(seen, expected, out=np.zeros_like(np.asarray(seen, float)), where=expected > 1e-12)
    return out


def ranking(probabilities: np.ndarray, of: int) -> np.ndarray:
    """Return [N], higher where class `of` is likelier. Two classes are both ranked by one column: rounding would tie other images in the
    other."""
    return -probabilities[:, 1] if probabilities.shape[1] == 2 and of == 0 else probabilities[:, of]


def _over_classes(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None, of: Curve) -> np.ndarray:
    each = _each_class(labels, probabilities, weights, of)
    known = ~np.isnan(each)
    total = np.where(known, each, 0).sum(axis=0)
    out: np.ndarray = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
    return out


def _each_class(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None, of: Curve) -> np.ndarray:
    drawn = np.ones((1, len(labels))) if weights is None else weights
    out = np.full((probabilities.shape[1], len(drawn)), np.nan)
    for c in np.unique(labels):
        belief = ranking(probabilities, c)
        order = np.argsort(belief, kind="stable")
        ranked = belief[order]
        starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
        here = (labels[order] == c).astype(np.float64)
        for rows in _blocks(len(drawn), len(labels)):
            own = drawn[rows][:, order].astype(np.float64)
            positive = np.add.reduceat(own * here, starts, axis=1)
            out[c, rows] = of(positive, np.add.reduceat(own, starts, axis=1) - positive)
    return out[:, 0] if weights is None else out


def _blocks(rows: int, width: int) -> Iterator[slice]:
    step = max(BLOCK // max(width, 1), 1)
    return (slice(k, min(k + step, rows)) for k in range(0, rows, step))


def _area(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return _ratio((positive * (below + negative / 2)).sum(axis=1), pairs)


def _average_precision(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    hits = np.cumsum(positive[:, ::-1], axis=1)
    named = np.maximum(hits + np.cumsum(negative[:, ::-1], axis=1), np.finfo(float).tiny)
    return _ratio((positive[:, ::-1] * hits / named).sum(axis=1), positive.sum(axis=1))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return the ratio; NaN where the bottom is 0."""
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
