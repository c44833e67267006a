"""The contribution of each image to a score: the score's derivative by the image's weight (empirical influence function, Hampel 1974).

A score is a function of counts by class, so its derivative is a sum of at most three numbers per image: one for its true class, one for
its predicted class, and one more if these are the same. To first order, a score computed on other images of the same kind differs by
the sum of their influences. Variances over images are made of them where resampling would take too long or would break folds apart.
"""

from collections.abc import Callable

import numpy as np

from study.metrics import Counts


def influences(metric: str, predicted: np.ndarray, labels: np.ndarray, at: Counts) -> np.ndarray:
    """Return the influences [..., N] of predictions [..., N] (class indices), linearised at the counts `at` [C] of all N images.

    `metric` is a name of resampling.METRICS. Where `at` are the predictions' own counts, the influences sum to 0. Where `at` are mean
    counts over several runs, each run's influences sum to its score minus the mean of the runs, to first order.
    """
    by = GRADIENTS[metric](at)
    hit = np.where(predicted == labels, by.hits[labels], 0.0)
    out: np.ndarray = by.truth[labels] + by.said[predicted] + hit
    return out


def _accuracy(c: Counts) -> Counts:
    n = c.truth.sum()
    each = np.ones_like(c.truth)
    return Counts(hits=each / n, said=0 * each, truth=-each * c.hits.sum() / n**2)


def _macro_f1(c: Counts) -> Counts:
    """Return the derivatives of F = 2 h / (t + s)."""
    both, share = _at_least_one(c.truth + c.said), _share_of_classes(c)
    f = 2 * c.hits / both
    return Counts(hits=share * 2 / both, said=-share * f / both, truth=-share * f / both)


def _macro_precision(c: Counts) -> Counts:
    """Return the derivatives of P = h / s. A class that is never predicted has P = 0, and no small change of weights predicts it."""
    said, share = _at_least_one(c.said), _share_of_classes(c)
    return Counts(hits=share / said, said=-share * c.hits / said**2, truth=0 * said)


def _macro_recall(c: Counts) -> Counts:
    """Return the derivatives of R = h / t."""
    truth, share = _at_least_one(c.truth), _share_of_classes(c)
    return Counts(hits=share / truth, said=0 * truth, truth=-share * c.hits / truth**2)


def _share_of_classes(c: Counts) -> np.ndarray:
    """Return [C] the weight of each class in a macro average, which is over the classes that occur."""
    here = c.truth > 0
    out: np.ndarray = here / max(int(here.sum()), 1)
    return out


def _at_least_one(counts: np.ndarray) -> np.ndarray:
    """Return the counts [C], which may be means over runs, with 1 in place of 0, so that 0 / 0 becomes 0."""
    out: np.ndarray = np.where(counts > 0, counts, 1.0)
    return out


GRADIENTS: dict[str, Callable[[Counts], Counts]] = {  # by hits, said and truth of every class, [C] each
    "macro_f1": _macro_f1,
    "accuracy": _accuracy,
    "macro_precision": _macro_precision,
    "macro_recall": _macro_recall,
}
