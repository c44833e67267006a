"""The former protocol of the verdict, kept for comparison: one search, seeds paired, the bootstrap of the mean."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import optimize, stats

from analysis.statistics.resampling import holm


@dataclass(frozen=True, kw_only=True)
class OldPair:
    """A difference of two strategies in the former protocol."""

    mean: float
    p: float
    half: Callable[..., float]  # of the interval: half(confidence, seeds=, units=)


def old_interval(scores: np.ndarray, resampled: np.ndarray, units: int) -> OldPair:
    """Return the difference with its interval, from differences by seed [K] and their mean on resampled images [B].

    The variance is S^2 / K and the bootstrap's, with Cochran and Cox's quantile.
    """
    a, b, k = float(np.var(scores, ddof=1)) / len(scores), float(np.var(resampled, ddof=1)), len(scores)

    def half(confidence: float = 0.95, seeds: int = k, units: int = units) -> float:
        level, now = (1 + confidence) / 2, a * k / seeds
        quantile = (now * stats.t.ppf(level, seeds - 1) + b * stats.t.ppf(level, units - 1)) / (now + b)
        return float(quantile * math.sqrt(now + b))

    mean = float(scores.mean())
    if half(1e-9) >= abs(mean):
        p = 1.0
    elif half(1 - 1e-12) <= abs(mean):
        p = 1e-12
    else:
        p = math.exp(optimize.brentq(lambda x: half(1 - math.exp(x)) - abs(mean), math.log(1e-12), -1e-9))
    return OldPair(mean=mean, p=p, half=half)


def old_pairs(runs: list[tuple[np.ndarray, np.ndarray]], units: int) -> list[OldPair]:
    """Return all pairs of strategies, each given as scores [K] and resampled scores [K, B]."""
    pairs = combinations(runs, 2)
    return [old_interval(a - b, (ra - rb).mean(axis=0), units) for (a, ra), (b, rb) in pairs]


def old_verdicts(pairs: list[OldPair], margin: float) -> list[str]:
    """Return "a", "b", "equivalent" or "undecided" for each pair.

    A 95 % interval that lies within the margin is equivalence.
    """
    out = []
    for pair, p in zip(pairs, holm([x.p for x in pairs]), strict=True):
        if p < 0.05:
            out.append("a" if pair.mean > 0 else "b")
        else:
            out.append("equivalent" if abs(pair.mean) + pair.half() < margin else "undecided")
    return out


def old_seeds_needed(pair: OldPair, seeds: int, margin: float) -> int | None:
    """Return the number of additional seeds that decides if the mean stays as it is and the number of images is unlimited."""
    for more in range(1, 200 - seeds):
        half = pair.half(seeds=seeds + more, units=10_000)
        if abs(pair.mean) > half or abs(pair.mean) + half < margin:
            return more
    return None
