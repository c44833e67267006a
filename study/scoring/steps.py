"""Scores of classes that stand in an order, least first: how many steps an answer lies from the truth, beside the quadratic kappa."""

import numpy as np

from study.scoring.scores import mean, quadratic_kappa


def mean_step(labels: np.ndarray, named: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the mean absolute step between truth and answer, places [N] in the order; 0 is best.

    The result is [], or [B] with weights [B, N] of images.
    """
    return mean(np.abs(labels - named).astype(float), weights)


def step_figures(named: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, float]:
    """Return both figures by name, of answers [N] and labels [N]."""
    return {
        "mean_step": float(mean_step(labels, named)),
        "quadratic_kappa": float(quadratic_kappa(labels, named, np.arange(classes))),
    }
