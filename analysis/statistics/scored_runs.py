"""Confirm runs of one strategy as the verdict sees them: scores, the same on resampled images, and the search and fold of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.statistics.resampling import METRICS, ImageUnits
from study.metrics import counts
from study.scoring.metric import DEFAULT, MEMBERS, Metric, Said


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """Scored runs in any order. All strategies compared share images and resamples."""

    scores: np.ndarray  # [K], higher is better
    search: np.ndarray  # [K] which search's winner the run trained
    resampled: np.ndarray  # [K, B]; not used where folds are given
    units: ImageUnits  # of the test images (of one fold)
    fold: np.ndarray | None = None  # [K] where runs were trained and tested on several splits
    metric: Metric = DEFAULT


def score_runs(
    predicted: Iterable[np.ndarray],
    search: Sequence[int] | np.ndarray,
    labels: np.ndarray,
    classes: int,
    weights: np.ndarray,
    units: ImageUnits,
    metrics: Sequence[str] = tuple(METRICS),
    asked: Metric = DEFAULT,
    probabilities: Sequence[np.ndarray] = (),
    each: np.ndarray | None = None,
) -> dict[str, Runs]:
    """Return by metric the scored runs, from class indices [N] of each run.

    `weights` [B, N] are those of resampling.shared_weights, the same for every strategy. `asked` is the metric of the verdict, scored
    besides, and `probabilities` [N, C] of each run are given where it needs them. `each` [N]: how many images each stands for in the
    score itself, one where it is not given.
    """
    weights, predicted = weights.astype(np.float32, copy=False), [*predicted]
    found = [(counts(p, labels, classes, each), counts(p, labels, classes, weights)) for p in predicted]
    by_metric = {
        m: Runs(
            scores=np.array([float(METRICS[m](own)) for own, _ in found]),
            search=np.asarray(search),
            resampled=np.stack([METRICS[m](again) for _, again in found]),
            units=units,
            metric=MEMBERS.get(m, DEFAULT),
        )
        for m in metrics
    }
    if asked.key in by_metric:
        return by_metric
    shares: list[np.ndarray | None] = [*probabilities] or [None] * len(predicted)
    said = [Said(named=p, probabilities=q) for p, q in zip(predicted, shares, strict=True)]
    scores = np.array([float(asked.score(labels, s, classes=classes)) for s in said])
    again = np.stack([asked.score(labels, s, weights, classes) for s in said])
    return by_metric | {
        asked.key: Runs(
            scores=scores,
            search=np.asarray(search),
            resampled=np.where(np.isnan(again), scores[:, None], again),  # where a class was not drawn, nothing says otherwise
            units=units,
            metric=asked,
        )
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
        metric=by_fold[0].metric,
        fold=np.repeat(np.arange(len(by_fold)), [len(r.scores) for r in by_fold]),
    )
