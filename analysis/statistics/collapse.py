"""Collapsed runs: far below their strategy's other runs, and far below what their own settings had reached in the search.

A strategy that sometimes loses almost everything is a different answer from a strategy that is a little worse, and means cannot tell
them apart. With five runs, a strategy that collapses in 15 % of runs shows none of it in 44 % of studies. So collapsed runs are
counted, with the uncertainty of that count, and the median stands beside the mean. With fewer than ten runs, a collapse on either side
forbids to name a winner.

The test score alone cannot tell a collapsed run from one whose search found poor settings. Poor settings are bad luck of the search and
belong inside the interval. The validation score at the run's last epoch minus the one with which its settings won their search can
tell: poor settings scored low both times. Of simulated pairs without a collapsed run, the test score alone barred 13 to 35 %, both
together bar 2 to 4 % (docs/verdict.md).
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
    """The collapsed runs of one strategy."""

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
    """Return the standard deviation of one run, pooled over strategies, from differences between runs [K] of the same strategy.

    It is unbiased for normal scores. The estimator is that of Rousseeuw and Croux (1993), with a higher quantile for so few runs.
    Deviations from the median would do as well with many runs. With three strategies of five runs each they carry half as much
    information, and bar twice as many pairs without a collapse.

    Runs that do not differ at all say nothing about the spread: a single run, and the runs of a strategy without randomness. The result
    is 0 where no strategy says anything.
    """
    between = [pdist(s[:, None], "cityblock") for s in scores if len(s) > 1 and np.ptp(s) > 0]
    expected = np.sqrt(2) * special.ndtri((1 + QUANTILE) / 2)
    return float(np.quantile(np.concatenate(between), QUANTILE) / expected) if between else 0.0


def count_collapses(scores: Sequence[np.ndarray], over_search: Sequence[np.ndarray], searches: int, point: float = 0.01) -> list[Collapse]:
    """Count the collapsed runs of all strategies of a question together, since the spread between runs is pooled over strategies.

    `scores` holds the test scores [K] of each strategy. `over_search` holds [K] differences: validation score at the run's last epoch
    minus the one with which its settings won their search, NaN where not known. `searches` is the number of searches whose settings a
    strategy's runs trained. `point` is one point of the metric.
    """
    sds = ROBUST_SDS if searches > 1 else ONE_SEARCH_SDS
    known = [r[np.isfinite(r)] for r in over_search]
    sd, sd_over = robust_sd(scores), robust_sd(known)
    return [count(own, _which(own, r, sd, sd_over, sds, LEAST_DROP * point)) for own, r in zip(scores, over_search, strict=True)]


def _which(scores: np.ndarray, over_search: np.ndarray, sd: float, sd_over: float, sds: float, least: float) -> np.ndarray:
    """Return a mask [K] of the collapsed runs.

    Where fewer than two runs can be compared with their search, the test score decides alone, and a run must be further below.
    """
    below = np.median(scores) - scores
    known = np.isfinite(over_search)
    alone = below > max(ALONE_SDS * sd, least)
    if known.sum() < 2:
        return alone
    fell = np.median(over_search[known]) - over_search
    both = (below > max(sds * sd, least)) & (fell > max(sds * sd_over, least))
    return np.where(known, both, alone)


def count(scores: np.ndarray, which: np.ndarray) -> Collapse:
    """Count one strategy's collapsed runs. `which` [K] is True for those."""
    k, n = int(which.sum()), len(which)
    at_most = 1.0 if k == n else float(stats.beta.ppf(0.95, k + 1, n - k))
    return Collapse(which=tuple(map(bool, which)), at_most=at_most, median=float(np.median(scores)))


def collapse_reason(a: Collapse, b: Collapse) -> str | None:
    """Return why collapses forbid to name a winner between two strategies, or None where they do not."""
    worst = max((a, b), key=lambda c: (c.collapsed > 0 and c.runs < ENOUGH_RUNS, c.collapsed))
    if worst.collapsed == 0 or worst.runs >= ENOUGH_RUNS:
        return None
    return f"{worst.collapsed} of {worst.runs} runs collapsed (up to {worst.at_most:.0%} may); {ENOUGH_RUNS} runs are needed"
