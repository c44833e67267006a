"""Scores where an image may have several labels: each label is a yes or no, said above a threshold of its own that validation gives.

Labels and answers are bool [N, L]; macro figures average over labels as they average over classes elsewhere.
"""

import numpy as np

from study.inference.softmax import sigmoid
from study.metrics import counts, macro_f1, macro_precision, macro_recall


def best_thresholds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return float64 [L]: for each label the threshold on its logits [N, L] with the highest F1 on images with labels bool [N, L].

    It is half-way between the two logits that it parts, and 0, a probability of one half, for a label that no image has.
    """
    out = np.zeros(labels.shape[1])
    for k in np.flatnonzero(labels.any(axis=0)):
        order = np.argsort(-logits[:, k], kind="stable")
        ranked = logits[order, k].astype(np.float64)
        said = np.arange(1, len(ranked) + 1)
        scores = 2 * np.cumsum(labels[order, k]) / (said + labels[:, k].sum())
        parts = np.append(ranked[:-1] > ranked[1:], True)  # equal logits cannot be parted
        best = int(np.where(parts, scores, -1).argmax())
        out[k] = (ranked[best] + ranked[best + 1]) / 2 if best + 1 < len(ranked) else ranked[best] - 1
    return out


def named_labels(logits: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return bool [N, L]: the labels that logits [N, L] say."""
    out: np.ndarray = logits > thresholds
    return out


def label_figures(logits: np.ndarray, labels: np.ndarray, thresholds: np.ndarray | None = None) -> tuple[dict[str, float], np.ndarray]:
    """Return (figures by name, answers bool [N, L]) of logits [N, L]; without `thresholds`, by those that these images themselves give.

    Accuracy is the share of images whose labels are all right. Raises ValueError for logits that are not finite.
    """
    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(f"{int((~np.isfinite(logits)).any(axis=1).sum())} of {len(logits)} images have logits that are not finite")
    named = named_labels(logits, best_thresholds(logits, labels) if thresholds is None else thresholds)
    own = counts(named, labels, labels.shape[1])
    figures = {
        "accuracy": float((named == labels).all(axis=1).mean()),
        "label_accuracy": float((named == labels).mean()),
        "macro_precision": float(macro_precision(own)),
        "macro_recall": float(macro_recall(own)),
        "macro_f1": float(macro_f1(own)),
        "micro_f1": float(2 * own.hits.sum() / max(own.truth.sum() + own.said.sum(), 1)),
        "nll": float(np.mean(np.logaddexp(0, np.where(labels, -logits, logits)))),
    }
    return figures, named


def truth_shares(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return [N]: the mean over labels of the probability that is given to what is true."""
    p = sigmoid(logits)
    out: np.ndarray = np.where(labels, p, 1 - p).mean(axis=1)
    return out
