"""Metrics on gathered predictions, each image once. Undefined figures are absent (n/a), never 0."""

from dataclasses import dataclass

import numpy as np

from study.inference.softmax import softmax
from study.records import ClassScores

CALIBRATION_BINS = 15
HOTTEST = 20.0


def score(logits: np.ndarray, labels: np.ndarray, named: np.ndarray | None = None) -> tuple[dict[str, float], np.ndarray]:
    """(figures, confusion [C, C] with truth in rows) for logits [N, C] and labels [N]. `named` [N]: the class said, where it is not the
    likeliest.

    Macro figures average over the classes that occur in `labels`; a class never predicted has precision 0 there
    (scikit-learn's zero_division=0), a class that never occurs has no say. Raises ValueError for logits that are not finite.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(f"{int((~np.isfinite(logits)).any(axis=1).sum())} of {len(logits)} images have logits that are not finite")
    num_classes = logits.shape[1]
    predicted = logits.argmax(axis=1) if named is None else named
    confusion = np.bincount(np.asarray(labels) * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)
    probabilities = softmax(logits)
    figures = from_confusion(confusion)
    figures["nll"] = negative_log_likelihood(probabilities, labels)
    figures["ece"] = calibration_error(probabilities, labels)
    return figures, confusion


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over images of -log of the true class's probability [N, C], which is at least machine precision.

    It is scikit-learn's log_loss to the last bit, whose import would take a worker longer than the computation.
    """
    eps = np.finfo(probabilities.dtype).eps
    logarithms = np.log(np.clip(probabilities, eps, 1 - eps))
    return float(-logarithms[np.arange(len(labels)), labels].mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Counts from which every score is computed, by class in the last axis: [..., C]."""

    hits: np.ndarray  # images of the class that were named so
    said: np.ndarray  # images named so
    truth: np.ndarray  # images of the class


def counts(predicted: np.ndarray, labels: np.ndarray, classes: int, weights: np.ndarray | None = None) -> Counts:
    """Return the counts [C] of predictions [N]; with weights [B, N] those of every resample [B, C]."""
    onehot = _onehot(predicted, labels, classes)
    sums = (onehot.sum(axis=0) if weights is None else weights.astype(np.float32, copy=False) @ onehot).astype(
        float
    )  # whole numbers: exact
    truth, said, hits = np.split(sums, 3, axis=-1)
    return Counts(hits=hits, said=said, truth=truth)


def _onehot(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return float32 [N, 3 * C], truth, said and hits side by side: one product for all three."""
    if labels.ndim == 2:
        return np.concatenate([labels, predicted, labels & predicted], axis=1).astype(np.float32)
    rows = np.arange(len(labels))
    onehot = np.zeros((len(labels), 3 * classes), np.float32)
    onehot[rows, labels] = 1
    onehot[rows, classes + predicted] = 1
    right = predicted == labels
    onehot[rows[right], 2 * classes + labels[right]] = 1
    return onehot


def f1(c: Counts) -> np.ndarray:
    """Return F1 [..., C], by class; 0 for a class that neither occurs nor is predicted."""
    out: np.ndarray = 2 * c.hits / np.maximum(c.truth + c.said, 1)
    return out


def macro_f1(c: Counts) -> np.ndarray:
    """Return the mean of F1 over the classes that occur: [...] of counts [..., C]."""
    return _over_classes(f1(c), c.truth)


def macro_precision(c: Counts) -> np.ndarray:
    return _over_classes(c.hits / np.maximum(c.said, 1), c.truth)


def macro_recall(c: Counts) -> np.ndarray:
    return _over_classes(c.hits / np.maximum(c.truth, 1), c.truth)


def accuracy(c: Counts) -> np.ndarray:
    out: np.ndarray = c.hits.sum(axis=-1) / c.truth.sum(axis=-1)
    return out


def _over_classes(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.where(truth > 0, values, 0).sum(axis=-1) / np.maximum((truth > 0).sum(axis=-1), 1)
    return out


def from_confusion(confusion: np.ndarray) -> dict[str, float]:
    """Return accuracy, balanced accuracy and macro precision, recall, F1 of counts [C, C] (truth in rows)."""
    own = Counts(hits=np.diag(confusion), said=confusion.sum(axis=0), truth=confusion.sum(axis=1))
    recall = float(macro_recall(own))
    return {
        "accuracy": float(accuracy(own)),
        "balanced_accuracy": recall,
        "macro_precision": float(macro_precision(own)),
        "macro_recall": recall,
        "macro_f1": float(macro_f1(own)),
    }


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Return per-class precision, recall, F1 and support; None where undefined."""
    hits, truth, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)

    def ratio(top: np.ndarray, bottom: np.ndarray) -> list[float | None]:
        return [float(a / b) if b else None for a, b in zip(top, bottom, strict=True)]

    return ClassScores(
        precision=ratio(hits, predicted),
        recall=ratio(hits, truth),
        f1=ratio(2 * hits, truth + predicted),
        support=[int(n) for n in truth],
        confusion=[[int(n) for n in row] for row in confusion],
    )


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """Return the part of [0, 1], of CALIBRATION_BINS equal ones, in which each confidence [N] lies."""
    out: np.ndarray = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return out


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error over 15 equal-width bins of the top probability (Guo et al. 2017, eq. 3)."""
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = bin_of(confidence)
    count = np.bincount(bins, minlength=CALIBRATION_BINS)
    gap = np.abs(
        np.bincount(bins, weights=hit, minlength=CALIBRATION_BINS) - np.bincount(bins, weights=confidence, minlength=CALIBRATION_BINS)
    )
    return float(gap.sum() / count.sum())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the T > 0 that makes the labels [N] likeliest under softmax(logits [N, C] / T), within [1 / HOTTEST, HOTTEST]."""
    from scipy.optimize import minimize_scalar

    bounds = (-np.log(HOTTEST), np.log(HOTTEST))
    return float(
        np.exp(
            minimize_scalar(
                lambda t: -log_shares(logits / np.exp(t))[np.arange(len(labels)), labels].mean(), bounds=bounds, method="bounded"
            ).x
        )
    )


def log_shares(logits: np.ndarray) -> np.ndarray:
    """Return log softmax [N, C] of logits [N, C]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    out: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return out


def unbiased_cka(one: np.ndarray, other: np.ndarray) -> float:
    """Return the linear centred kernel alignment of two kernels [N, N] of the same N >= 4 images, from the unbiased HSIC.

    It is 1 for equal kernels up to scale, about 0 for unrelated ones at every N, and NaN for a constant one (Song et al. 2012, eq. 5;
    Nguyen, Raghu and Kornblith 2021).
    """
    own = [_hsic(kernel, kernel) for kernel in (one, other)]
    if any(h <= 1e-12 * float((kernel**2).mean()) for h, kernel in zip(own, (one, other), strict=True)):
        return float("nan")  # rounding is all there is
    return float(_hsic(one, other) / np.sqrt(own[0] * own[1]))


def _hsic(one: np.ndarray, other: np.ndarray) -> float:
    n = len(one)
    a, b = (kernel - np.diag(np.diag(kernel)) for kernel in (one, other))
    rows_a, rows_b = a.sum(axis=1), b.sum(axis=1)
    return float(((a * b).sum() + rows_a.sum() * rows_b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows_a @ rows_b)) / (n * (n - 3)))
