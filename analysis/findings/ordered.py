"""Classes in an order: the steps from each strategy's answers to the truth, and quadratic kappa, with intervals.

No verdict rests on them unless the study asked for kappa: a slip to the next class and one across the scale count alike in macro-F1.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.data.question import Question
from analysis.findings.comparisons import Gathered, Side, difference_of, mean_of, outer_folds
from analysis.statistics import resampling as st
from analysis.statistics.cross_fitting import fitted
from analysis.statistics.intervals import Estimate, difference_interval, share_interval
from analysis.statistics.scored_runs import Runs, join_folds
from study.scoring.influence import of_kappa, of_mean
from study.scoring.scores import quadratic_kappa
from study.scoring.steps import mean_step

Scored = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
"""A function of (labels [n], answers [n], weights [B, n] or None) to a score, [] or [B]."""
Moved = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A function of (labels [N], answers [N]) to the contribution of each image to the score, [N]."""


@dataclass(frozen=True, kw_only=True)
class Ordered:
    """One strategy of a question whose classes are ordered; `apart`: its mean step less that of the strategy with the least."""

    question: Question
    strategy: str
    step: float  # classes
    step_low: float
    step_high: float
    kappa: float
    kappa_low: float
    kappa_high: float
    apart: float
    apart_low: float
    apart_high: float
    exact: float  # share of the images named right
    within_one: float  # share named right or one step off


def ordered(questions: Iterable[Gathered], resamples: int = st.RESAMPLES) -> list[Ordered]:
    """Return a row for each strategy of each question whose data name an order, the least mean step first."""
    return [row for gathered in questions if gathered.question.data.ordered for row in _rows(gathered, resamples)]


def _rows(gathered: Gathered, resamples: int) -> list[Ordered]:
    most = len(gathered.question.data.ordered) - 1
    ranks = np.arange(most + 1)
    steps: dict[str, Side] = {}
    kappas: dict[str, Side] = {}
    for strategy in gathered.predicted:
        # a share of the longest step, so that it lies in [0, 1] as every score does
        steps[strategy] = _side(
            gathered, strategy, lambda y, a, w: mean_step(y, a, w) / most, lambda y, a: of_mean(np.abs(y - a) / most), resamples
        )
        kappas[strategy] = _side(
            gathered, strategy, lambda y, a, w: quadratic_kappa(y, a, ranks, w), lambda y, a: of_kappa(a, y, ranks), resamples
        )
    means = {s: mean_of(side) for s, side in steps.items()}
    order = sorted(means, key=lambda s: means[s].mean)
    return [_row(gathered, s, most, means[s], mean_of(kappas[s]), difference_of(steps[s], steps[order[0]])) for s in order]


def _row(gathered: Gathered, strategy: str, most: int, step: Estimate, kappa: Estimate, apart: Estimate) -> Ordered:
    off = np.abs(np.stack([*gathered.predicted[strategy].values()]) - gathered.labels)
    scaled: dict[str, Any] = {}
    for name, e, interval in (("step", step, share_interval), ("apart", apart, difference_interval)):
        low, high = interval(e)
        scaled |= {name: most * e.mean, f"{name}_low": most * low, f"{name}_high": most * high}
    low, high = difference_interval(kappa)
    return Ordered(
        question=gathered.question,
        strategy=strategy,
        kappa=kappa.mean,
        kappa_low=low,
        kappa_high=high,
        exact=float((off == 0).mean()),
        within_one=float((off <= 1).mean()),
        **scaled,
    )


def _side(gathered: Gathered, strategy: str, score: Scored, moved: Moved, resamples: int) -> Side:
    """Return the strategy's runs, or the passes of outer folds, by a score that is no function of counts by class."""
    by_seed = gathered.predicted[strategy]
    if gathered.nested:
        scores = np.array([float(score(gathered.labels, p, None)) for p in by_seed.values()])
        return fitted(scores, np.stack([moved(gathered.labels, p) for p in by_seed.values()]), outer_folds(gathered))
    parts = []
    for again in gathered.resample(resamples):
        labels = gathered.labels[again.images]
        own = [p[again.images] for p in by_seed.values()]
        parts.append(
            Runs(
                scores=np.array([float(score(labels, p, None)) for p in own]),
                search=np.array([gathered.searches[seed] for seed in by_seed]),
                resampled=np.stack([score(labels, p, again.weights) for p in own]),
                units=st.image_units(len(labels), again.groups),
            )
        )
    return join_folds(parts)
