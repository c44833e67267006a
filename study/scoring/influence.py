"""Influences of images on a score: the score's derivative by the image's weight (empirical influence function, Hampel 1974).

Most scores are functions of counts by class, so their derivative is a sum of at most three numbers an image: one for its true class, one
for the predicted class, one more if these are the same. For a mean of losses it is each loss less the mean; for a curve it is given
below. To first order, a score computed on other images of the same kind differs by the sum of their influences. Variances over images are
computed from them where resampling would take too long or would break folds apart.
"""

from collections.abc import Callable

import numpy as np

from study.metrics import Counts
from study.scoring.scores import ranking


def influences(metric: str, predicted: np.ndarray, labels: np.ndarray, at: Counts) -> np.ndarray:
    """Return the influences [..., N] of predictions [..., N], linearised at the counts `at` [C] of all N images.

    Predictions are class indices, or for several labels bool [..., N, C]. `metric` is a name of GRADIENTS. Where `at` are the
    predictions' own counts, the influences sum to 0. Where `at` are mean counts over several runs, each run's influences sum to the
    excess of its score over the runs' mean, to first order.
    """
    by = GRADIENTS[metric](at)
    if labels.ndim == 2:
        several: np.ndarray = labels @ by.truth + predicted @ by.said + (predicted & labels) @ by.hits
        return several
    hit = np.where(predicted == labels, by.hits[labels], 0.0)
    out: np.ndarray = by.truth[labels] + by.said[predicted] + hit
    return out


def _accuracy(c: Counts) -> Counts:
    n = c.truth.sum()
    each = np.ones_like(c.truth)
    return Counts(hits=each / n, said=0 * each, truth=-each * c.hits.sum() / n**2)


def _macro_f1(c: Counts) -> Counts:
    """Return the gradient of F = 2 h / (t + s), averaged over classes."""
    both, share = _at_least_one(c.truth + c.said), _share_of_classes(c)
    f = 2 * c.hits / both
    return Counts(hits=share * 2 / both, said=-share * f / both, truth=-share * f / both)


def _macro_precision(c: Counts) -> Counts:
    """Return the gradient of P = h / s. A class that is never predicted has P = 0, and no small change of weights makes it predicted."""
    said, share = _at_least_one(c.said), _share_of_classes(c)
    return Counts(hits=share / said, said=-share * c.hits / said**2, truth=0 * said)


def _macro_recall(c: Counts) -> Counts:
    """Return the gradient of R = h / t."""
    truth, share = _at_least_one(c.truth), _share_of_classes(c)
    return Counts(hits=share / truth, said=0 * truth, truth=-share * c.hits / truth**2)


def _share_of_classes(c: Counts) -> np.ndarray:
    """Return the weight of each class [C] in a macro average, which is over the classes that occur."""
    here = c.truth > 0
    out: np.ndarray = here / max(int(here.sum()), 1)
    return out


def _at_least_one(counts: np.ndarray) -> np.ndarray:
    """Return the counts [C], which may be means over runs; 1 for none, so that 0 / 0 is 0."""
    out: np.ndarray = np.where(counts > 0, counts, 1.0)
    return out


GRADIENTS: dict[str, Callable[[Counts], Counts]] = {  # by hits, said and truth of every class, [C] each
    "macro_f1": _macro_f1,
    "accuracy": _accuracy,
    "macro_precision": _macro_precision,
    "macro_recall": _macro_recall,
}


def of_mean(each: np.ndarray) -> np.ndarray:
    """Return the influences [N] on the mean of `each` [N]."""
    out: np.ndarray = (each - each.mean()) / len(each)
    return out


def of_f1(predicted: np.ndarray, labels: np.ndarray, of: int) -> np.ndarray:
    """Return the influences [N] on the F1 of class `of`, 2 h / (t + s)."""
    true, said = (own[:, of] if own.ndim == 2 else own == of for own in (labels, predicted))
    both = max(int(true.sum() + said.sum()), 1)
    f = 2 * (true & said).sum() / both
    out: np.ndarray = (2.0 * (true & said) - f * (true.astype(float) + said)) / both
    return out


def of_kappa(predicted: np.ndarray, labels: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the influences [N] on the quadratic kappa 1 - A / E: A the mean squared step, E the one expected of the margins alone."""
    truth, answer = ranks[labels].astype(float), ranks[predicted].astype(float)
    step, t, a = (truth - answer) ** 2, truth.mean(), answer.mean()
    expected = (truth**2).mean() + (answer**2).mean() - 2 * t * a
    if expected <= 1e-12:
        return np.zeros(len(labels))
    by_expected = of_mean(truth**2) + of_mean(answer**2) - 2 * (a * of_mean(truth) + t * of_mean(answer))
    out: np.ndarray = -of_mean(step) / expected + step.mean() / expected**2 * by_expected
    return out


def of_auroc(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the influences [N] on the mean over classes of AUROC against the rest: the placements of DeLong, DeLong and Clarke-Pearson
    (1988)."""
    found = [_placements(labels == c, ranking(probabilities, c)) for c in np.unique(labels)]
    out: np.ndarray = np.mean(found, axis=0)
    return out


def _placements(positive: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    p, n = ranked[positive], ranked[~positive]
    out = np.zeros(len(ranked))
    if len(p) and len(n):
        own, others = _share_below(p, n), 1 - _share_below(n, p)
        out[positive], out[~positive] = (own - own.mean()) / len(p), (others - others.mean()) / len(n)
    return out


def _share_below(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the share of `among` below each of `values`, equal ones half."""
    among = np.sort(among)
    out: np.ndarray = (np.searchsorted(among, values, "left") + np.searchsorted(among, values, "right")) / (2 * len(among))
    return out


def of_average_precision(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the influences [N] on the mean over classes of average precision.

    Let p_i be the precision among images ranked as high as i, S_i their number and P the positives. A positive brings (p_i - AP) / P, and
    every image i moves the precision at each positive j ranked no higher by (y_i - p_j) / S_j.
    """
    found = [_precisions(labels == c, ranking(probabilities, c)) for c in np.unique(labels)]
    out: np.ndarray = np.mean(found, axis=0)
    return out


def _precisions(positive: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    values, place = np.unique(-ranked, return_inverse=True)  # the highest first
    hits = np.bincount(place, positive, len(values))
    named = np.cumsum(np.bincount(place, minlength=len(values)))
    total = hits.sum()
    precision = np.cumsum(hits) / named
    score = (hits * precision).sum() / total
    after = [np.cumsum(v[::-1])[::-1] for v in (hits / named, hits * precision / named)]  # over thresholds no higher than each
    out: np.ndarray = positive * (precision[place] - score) / total + (positive * after[0][place] - after[1][place]) / total
    return out
