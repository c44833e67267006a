"""Forecasts: how many more runs or images would decide, and what differences a design can see at all.

More runs (or searches) shrink their part of the variance, more test images theirs, never the other's. So each is forecast for itself.

The present mean is one draw around the truth. The mean after adding units lies around the present one with the variance that adding
them removes, V (1 - K / K'), and the units' variances are known only as well as K units tell them. The number given decides with 80 %
probability over all of this. The number that would decide "if the mean stayed as it is" fails every second time.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.statistics.decisions import ALPHA
from analysis.statistics.intervals import Estimate, Part, reach, welch

TARGET = 0.8
MOST_UNITS = 100  # runs, searches or folds added, each strategy: more than anybody would run
MOST_IMAGES = 20  # times the present test set
DRAWS = 2000
Resource = Literal["run", "search", "fold", "pass", "image", "session"]


def alpha_of_look(look: int, alpha: float = ALPHA) -> float:
    """Return the level at the `look`-th time, from 1, that the test set is opened on more runs of the same question.

    The first look has all of alpha, later ones alpha / 2^look. By Bonferroni alone that could come to 1.5 alpha, but looks at growing
    data are so alike that it stays at alpha (4 to 6 % over five looks, `benchmarks/verdict.py`, without spending 13 to 15 %). Halving
    from the first look on would hold 2 to 3 % and widen the interval of every study that looks once by a quarter.
    """
    return alpha if look <= 1 else alpha / 2**look


@dataclass(frozen=True, kw_only=True)
class Need:
    """The additional amount of one resource that decides with the target's probability, or None where not even `limit` more would."""

    resource: Resource
    more: int | None
    limit: int


def forecast(e: Estimate, margin: float, level: float = ALPHA, target: float = TARGET) -> tuple[Need, ...]:
    """Return the needs of an undecided pair: more units alone, more test images alone, or more runs of each search alone.

    The last one is there where each search has several runs. `level` is what the pair must clear next time, alpha_of_look(next) /
    Decision.tests_left. The random numbers are fixed, so the answer is the same on every call.
    """
    units = Need(resource=e.unit, more=_fewest(lambda n: _after_units(e, margin, level, n), MOST_UNITS, target), limit=MOST_UNITS)
    have = int(e.images.count)
    most = (MOST_IMAGES - 1) * have
    images = Need(
        resource="image" if have == e.resampled else "session",
        more=_fewest(lambda n: _after_images(e, margin, level, n), most, target),
        limit=most,
    )
    if e.unit != "search" or any(p.within is None for p in e.runs):
        return units, images
    seeds = Need(resource="run", more=_fewest(lambda n: _after_seeds(e, margin, level, n), MOST_UNITS, target), limit=MOST_UNITS)
    return units, images, seeds


def _fewest(chance: Callable[[int], float], most: int, target: float) -> int | None:
    """Return the smallest n in 1..most whose chance reaches the target, found by doubling, then bisection, or None."""
    low, high = 0, 1
    while chance(min(high, most)) < target:
        if high >= most:
            return None
        low, high = high, high * 2
    high = min(high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= target else (middle, high)
    return high


def _after_units(e: Estimate, margin: float, level: float, more: int) -> float:
    """Return the chance of a decision with `more` units of each strategy."""
    rng = np.random.Generator(np.random.Philox(key=[40, 1]))
    removed = np.zeros(DRAWS)
    parts, dfs = [], []
    for p in e.runs:
        true = _drawn(p, rng)
        removed += true * (more / (p.count + more))
        pooled = (p.df * p.variance + true * rng.chisquare(more, DRAWS)) / (p.df + more)
        parts.append(pooled * p.count / (p.count + more))
        dfs.append(p.df + more)
    total = np.sum(parts, axis=0)
    weights = np.sum([v**2 / df for v, df in zip(parts, dfs, strict=True)], axis=0)
    df = np.where(weights > 0, total**2 / np.where(weights > 0, weights, 1), min(dfs))
    return _decided(e.mean, removed, total, df, e.images.variance, e.images.df, margin, level, rng)


def _after_images(e: Estimate, margin: float, level: float, more: int) -> float:
    """Return the chance of a decision with `more` test images (or sessions)."""
    rng = np.random.Generator(np.random.Philox(key=[40, 2]))
    growth = (e.images.count + more) / e.images.count
    removed = _drawn(e.images, rng) * (1 - 1 / growth)
    runs, df = welch(e.runs)
    return _decided(e.mean, removed, runs, df, e.images.variance / growth, (e.images.df + 1) * growth - 1, margin, level, rng)


def _after_seeds(e: Estimate, margin: float, level: float, more: int) -> float:
    """Return the chance of a decision with `more` runs of every search's winner. The spread between searches stays."""
    rng = np.random.Generator(np.random.Philox(key=[40, 3]))
    removed, parts = np.zeros(DRAWS), []
    for p in e.runs:
        assert p.within is not None
        w = p.within
        own = np.minimum(_drawn(Part(variance=w.variance, df=w.df, count=w.seeds), rng), p.variance)
        shrunk = own * more / (w.seeds + more)
        removed += shrunk
        parts.append((p.variance - shrunk, p.df))
    total = np.sum([v for v, _ in parts], axis=0)
    weights = np.sum([v**2 / df for v, df in parts], axis=0)
    df = np.where(weights > 0, total**2 / np.where(weights > 0, weights, 1), min(df for _, df in parts))
    return _decided(e.mean, removed, total, df, e.images.variance, e.images.df, margin, level, rng)


def _drawn(p: Part, rng: np.random.Generator) -> np.ndarray:
    """Draw [DRAWS] true variances of the part, given the estimate and its degrees of freedom."""
    if p.variance == 0 or math.isinf(p.df):
        return np.full(DRAWS, p.variance)
    return p.variance * p.df / rng.chisquare(p.df, DRAWS)


def _decided(
    mean: float,
    removed: np.ndarray,
    runs: np.ndarray | float,
    df_runs: np.ndarray | float,
    images: float,
    df_images: float,
    margin: float,
    level: float,
    rng: np.random.Generator,
) -> float:
    """Return the share of draws in which a difference, or its being within the margin, is shown."""
    distance = np.abs(mean + np.sqrt(removed) * rng.standard_normal(DRAWS))
    differs = distance > reach(1 - level / 2, runs, df_runs, images, df_images)
    alike = distance + reach(1 - level, runs, df_runs, images, df_images) < margin
    return float(np.mean(differs | alike))


# ---- before the first run -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviations of a test score by source, in shares.

    The defaults were measured on a small part of DeepWeeds at 48 px. An earlier study's own values are better.
    """

    search: float = 0.014  # sd of a search's winner
    seed: float = 0.04  # sd of one run of one configuration
    disagreement: float = 0.2  # share of test images that one strategy gets right and the other wrong


@dataclass(frozen=True, kw_only=True)
class Sight:
    """The differences that a design can show with 80 % probability, in shares."""

    difference: float  # the smallest true difference for which a winner is named
    margin: float  # the smallest margin of which "no difference worth it" is said where there is none
    half_width: float  # of the 95 % interval of a difference

    def reaches(self, margin: float) -> bool:
        """Return True where "no difference worth the margin" can be hoped for."""
        return self.margin <= margin


def design(searches: int, seeds: int, units: float, spread: Spread, pairs: int = 1, alpha: float = ALPHA, folds: int = 1) -> Sight | None:
    """Forecast what a design can see, or None where nothing repeats.

    It has `seeds` runs of each of `searches` winners, on `units` test images (or effective sessions). `folds` outer folds share the
    searches. Several searches per fold show their spread within a fold (cross_fitting.py).
    """
    repeats = searches if searches > 1 else seeds
    if repeats < 2 or seeds < 1 or units <= 1:
        return None
    one = spread.search**2 + spread.seed**2 / seeds if searches > 1 else spread.seed**2
    apart = repeats - (folds if repeats > folds else 1)
    runs, df = welch((Part(variance=one / repeats, df=apart, count=repeats),) * 2)
    images = spread.disagreement / units

    def quantile(level: float) -> float:
        return float(reach(level, runs, df, images, units - 1))

    level = alpha / pairs
    return Sight(
        difference=quantile(1 - level / 2) + quantile(TARGET),
        margin=quantile(1 - level) + quantile((1 + TARGET) / 2),
        half_width=quantile(1 - alpha / 2),
    )
