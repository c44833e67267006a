"""Classifiers of frozen features, cross-validated: every image is predicted by one that was not fitted on it.

For each fold a path of strengths is fitted on the other folds. The strength that predicts a fold is the best one on the out-of-fold
predictions of the other folds. A strength chosen on the fold itself scores too high (Varma and Simon 2006): 5 points of accuracy on noise
of 60 images and 30 features. This way avoids that at the price of one path a fold; folds within folds would cost five times as much.
"""

from collections.abc import Sequence

import numpy as np

from study.datasets.image_scan import look
from study.datasets.make_splits import apart
from study.metrics import score
from study.training.exact import STRENGTHS, choose, fit_path


def folds_of(labels: np.ndarray, groups: np.ndarray | None, pixels: np.ndarray, what: str) -> tuple[list[np.ndarray], str]:
    """Return positions of five folds, made as a study makes its splits, and a sentence about copies.

    Classes are in proportion, groups whole, copies on one side. `pixels`: uint8 [N, S, S, C]. Raises DataError naming `what` for too few
    images.
    """
    return apart(labels, groups, [look(image) for image in pixels], [0], what)


def predict_each(
    features: np.ndarray, labels: np.ndarray, classes: int, folds: Sequence[np.ndarray], weights: np.ndarray | None = None
) -> tuple[np.ndarray, list[float]]:
    """Return (the class predicted for every image, int64 [N]; the strength of each fold), from features [N, D] and labels [N].

    Raises ConfigError where the images beside a fold show one class alone.
    """
    logits = np.zeros((len(STRENGTHS), len(labels), classes))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(labels)), fold)
        own = None if weights is None else weights[rest]
        for k, found in enumerate(fit_path(features[rest], labels[rest], classes, own)):
            logits[k, fold] = found.logits(features[fold])
    said, strengths = np.zeros(len(labels), np.int64), []
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(labels)), fold)
        best = choose([score(logits[k, rest], labels[rest])[0] for k in range(len(STRENGTHS))])
        said[fold] = logits[best, fold].argmax(axis=1)
        strengths.append(STRENGTHS[best])
    return said, strengths
