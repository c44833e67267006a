"""Confirm runs of one strategy as the verdict sees them: scores, the same on resampled images, and the search and fold of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.resampling import METRICS, ImageUnits
from study.metrics import counts


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Scored runs in any order. All strategies compared share images and resamples."""

    scores: np.ndarray  # [K], shares in [0, 1]
    search: np.ndarray  # [K] which search's winner the run trained
    resampled: np.ndarray  # [K, B]; not used where folds are given
    units: ImageUnits  # of the test images (of one fold)
    fold: np.ndarray | None = None  # [K] where runs were trained and tested on several splits


def score_runs(
    predicted: Iterable[np.ndarray],
    search: Sequence[int] | np.ndarray,
    labels: np.ndarray,
    classes: int,
    weights: np.ndarray,
    units: ImageUnits,
    metrics: Sequence[str] = tuple(METRICS),
) -> dict[str, Runs]:
    """Return by metric the scored runs, from class indices [N] of each run.

    `weights` [B, N] are those of resampling.shared_weights, the same for every strategy.
    """
    weights = weights.astype(np.float32, copy=False)
    found = [(counts(p, labels, classes), counts(p, labels, classes, weights)) for p in predicted]
    return {
        m: Runs(
            scores=np.array([float(METRICS[m](own)) for own, _ in found]),
            search=np.asarray(search),
            resampled=np.stack([METRICS[m](again) for _, again in found]),
            units=units,
        )
        for m in metrics
    }


def join_folds(by_fold: Sequence[Runs]) -> Runs:
    """Join one strategy's runs of each fold. A single fold stays as it is."""
    if len(by_fold) == 1:
        return by_fold[0]
    return Runs(
        scores=np.concatenate([r.scores for r in by_fold]),
        search=np.concatenate([r.search for r in by_fold]),
        resampled=np.zeros((sum(len(r.scores) for r in by_fold), 0)),
        units=by_fold[0].units,
        fold=np.repeat(np.arange(len(by_fold)), [len(r.scores) for r in by_fold]),
    )
