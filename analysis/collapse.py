"""Runs that collapsed: a strategy that now and then loses almost everything is another answer than a strategy that is a little worse.

Means cannot tell: at five runs, a strategy that collapses in 15 % of runs shows none of it in 44 % of studies. So collapsed runs are
counted, with what the count leaves open, the median stands beside the mean, and below ten runs nobody wins over or with a collapse.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

ENOUGH_RUNS = 10  # below it one collapse leaves the rate so open that no winner is called
ROBUST_SDS = 3.0
LEAST_DROP = 0.05  # a run within five points of the median has not collapsed, however alike the others are


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """How many of one strategy's runs collapsed."""

    runs: int
    collapsed: int
    at_most: float  # one-sided 95 % upper bound of the rate (Clopper and Pearson 1934): 0 of 5 still allows 45 %
    median: float
    threshold: float  # a score below it counts


def robust_sd(scores: Sequence[np.ndarray]) -> float:
    """Of one run, from the absolute deviations of several strategies' runs [K] from their own medians; unbiased for normal scores."""
    deviations = np.concatenate([np.abs(s - np.median(s)) for s in scores])
    k = float(np.mean([len(s) for s in scores]))
    return float(1.4826 * np.median(deviations) * k / max(k - 0.9, 0.1))  # few runs sit close to their own median


def count_collapses(scores: np.ndarray, sd: float, reference: float | None = None) -> Collapse:
    """`scores` [K] of one strategy; `sd` of a run (robust_sd, best over all strategies of a question); `reference`: an untuned run's score."""
    median = float(np.median(scores))
    threshold = median - max(ROBUST_SDS * sd, LEAST_DROP)
    if reference is not None:
        threshold = max(threshold, min(reference, median))  # a strategy whose typical run is below the untuned one is poor, not collapsed
    k, n = int((scores < threshold).sum()), len(scores)
    at_most = 1.0 if k == n else float(stats.beta.ppf(0.95, k + 1, n - k))
    return Collapse(runs=n, collapsed=k, at_most=at_most, median=median, threshold=threshold)


def collapse_reason(a: Collapse, b: Collapse) -> str | None:
    """Why no winner may be called between two strategies; None where collapses do not forbid it."""
    worst = max((a, b), key=lambda c: (c.collapsed > 0 and c.runs < ENOUGH_RUNS, c.collapsed))
    if worst.collapsed == 0 or worst.runs >= ENOUGH_RUNS:
        return None
    return f"{worst.collapsed} of {worst.runs} runs collapsed (up to {worst.at_most:.0%} may); {ENOUGH_RUNS} runs are needed"
