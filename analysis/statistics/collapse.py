"""Runs that collapsed: far below their strategy's other runs, and far below what their own settings had reached in the search.

A strategy that now and then loses almost everything is another answer than a strategy that is a little worse, and means cannot tell: at
five runs, a strategy that collapses in 15 % of runs shows none of it in 44 % of studies. So collapsed runs are counted, with what the
count leaves open, the median stands beside the mean, and below ten runs nobody wins over or with a collapse.

The test score alone cannot tell a run that collapsed from one whose search found poor settings, which is the search's luck and inside the
interval. What can is the validation score at the run's last epoch minus the one with which its settings won their search: poor settings
scored low both times. Of simulated pairs of which no run had collapsed, 13 to 35 % were barred by the test score alone, 2 to 4 % are by both
(docs/verdict.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats
from scipy.spatial.distance import pdist

ENOUGH_RUNS = 10  # below it one collapse leaves the rate so open that no winner is called
ROBUST_SDS = 2.0  # below the median, in both
ONE_SEARCH_SDS = 2.5  # the same where one search found all settings: test and validation then tell nearly the same
ALONE_SDS = 3.0  # below the median, where nothing is known of the search
QUANTILE = 0.4  # of the differences between runs: low enough that those of collapsed runs hardly count
LEAST_DROP = 5.0  # a run within five points of the median has not collapsed, however alike the others are


@dataclass(frozen=True, kw_only=True)
class Collapse:
    """Which of one strategy's runs collapsed."""

    which: tuple[bool, ...]  # in the order of its runs
    at_most: float  # one-sided 95 % upper bound of the rate (Clopper and Pearson 1934): 0 of 5 still allows 45 %
    median: float

    @property
    def runs(self) -> int:
        return len(self.which)

    @property
    def collapsed(self) -> int:
        return sum(self.which)


def robust_sd(scores: Sequence[np.ndarray]) -> float:
    """Of one run, from the differences between runs [K] of the same strategy, over several strategies; unbiased for normal scores.

    After Rousseeuw and Croux (1993), with a higher quantile for so few runs. Deviations from the median would do as well with many; of
    three strategies with five runs each they know half as much, and bar twice as many pairs without a collapse. Runs that do not differ at
    all say nothing of how far runs differ: a single one, and those of a strategy without chance. 0 where no strategy says anything.
    """
    between = [pdist(s[:, None], "cityblock") for s in scores if len(s) > 1 and np.ptp(s) > 0]
    expected = np.sqrt(2) * special.ndtri((1 + QUANTILE) / 2)
    return float(np.quantile(np.concatenate(between), QUANTILE) / expected) if between else 0.0


def count_collapses(scores: Sequence[np.ndarray], over_search: Sequence[np.ndarray], searches: int, point: float = 0.01) -> list[Collapse]:
    """Of all strategies of a question together, since how far runs differ is pooled over them.

    `scores` [K] of each: on test. `over_search` [K]: validation score at the run's last epoch minus the one with which its settings won
    their search; NaN where that is not known. `searches`: of each strategy, whose settings its runs trained. `point`: of the metric.
    """
    sds = ROBUST_SDS if searches > 1 else ONE_SEARCH_SDS
    known = [r[np.isfinite(r)] for r in over_search]
    sd, sd_over = robust_sd(scores), robust_sd(known)
    return [count(own, _which(own, r, sd, sd_over, sds, LEAST_DROP * point)) for own, r in zip(scores, over_search, strict=True)]


def _which(scores: np.ndarray, over_search: np.ndarray, sd: float, sd_over: float, sds: float, least: float) -> np.ndarray:
    """[K]. Where less than two runs can be held against their search, the test score must do alone, and be further below."""
    below = np.median(scores) - scores
    known = np.isfinite(over_search)
    alone = below > max(ALONE_SDS * sd, least)
    if known.sum() < 2:
        return alone
    fell = np.median(over_search[known]) - over_search
    both = (below > max(sds * sd, least)) & (fell > max(sds * sd_over, least))
    return np.where(known, both, alone)


def count(scores: np.ndarray, which: np.ndarray) -> Collapse:
    """`which` [K] of one strategy's runs collapsed."""
    k, n = int(which.sum()), len(which)
    at_most = 1.0 if k == n else float(stats.beta.ppf(0.95, k + 1, n - k))
    return Collapse(which=tuple(map(bool, which)), at_most=at_most, median=float(np.median(scores)))


def collapse_reason(a: Collapse, b: Collapse) -> str | None:
    """Why no winner may be called between two strategies; None where collapses do not forbid it."""
    worst = max((a, b), key=lambda c: (c.collapsed > 0 and c.runs < ENOUGH_RUNS, c.collapsed))
    if worst.collapsed == 0 or worst.runs >= ENOUGH_RUNS:
        return None
    return f"{worst.collapsed} of {worst.runs} runs collapsed (up to {worst.at_most:.0%} may); {ENOUGH_RUNS} runs are needed"
