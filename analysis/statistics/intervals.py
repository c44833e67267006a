"""Uncertainty of a mean score, or of the difference of two: every source is a part with its own variance and degrees of freedom.

The unit is what repeats. Where the search was repeated, a unit is a search (its mean score: the luck of tuning is part of the
strategy). Otherwise it is a run, and then the claim is about two configurations. Units contribute S^2 / U, with U - 1 degrees of
freedom. Two strategies are joined as Welch (1947) does, for the k-th runs of two strategies have nothing in common.

Test images are shared by all units. They contribute the mean covariance, over resampled images, between DIFFERENT units. The effect of
an image on one unit alone is in S^2 already, and counting it again made intervals up to 40 % too wide. Their degrees of freedom are
those of the effective number of images or sessions.

Cochran and Cox (1950) weigh the quantiles of units and images by their variances. Satterthwaite's degrees of freedom over both are too
many at three seeds. Folds hold different images and training sets, so a fold is one number and Student's t runs over folds. Repeated
searches add their variance beyond their noise. `benchmarks/verdict.py` measures that the coverage holds.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, special

from analysis.statistics.resampling import CONFIDENCE, ImageUnits
from analysis.statistics.scored_runs import Runs
from study.scoring.metric import DEFAULT, Metric

FEW_UNITS = 15  # effective sessions: below it even the corrected interval rests on few
Unit = Literal["run", "search", "fold", "pass"]
Numbers = float | np.ndarray


@dataclass(frozen=True, kw_only=True)
class Part:
    """The share of one source in the variance of a mean."""

    variance: float
    df: float
    count: float  # units (or images) it shrinks with
    within: "Within | None" = None  # of searches with several runs each: what more runs of the same winners would shrink


@dataclass(frozen=True, kw_only=True)
class Within:
    """The seeds' share in the part of the searches."""

    variance: float
    df: float
    seeds: float  # runs of each search


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean, or a difference of two, with the parts of its variance."""

    mean: float
    runs: tuple[Part, ...]  # of a difference: A's and B's (with folds: the folds', then each one's searches)
    images: Part
    unit: Unit  # what the parts of `runs` count
    searches: int  # the fewer of the two strategies': 1 = the claim is about configurations
    resampled: int  # test images
    metric: Metric = DEFAULT

    @property
    def variance(self) -> float:
        return sum(p.variance for p in self.runs) + self.images.variance

    def half_width(self, confidence: float = CONFIDENCE) -> float:
        """Return the half width of the two-sided interval, or NaN where a part is unknown (one run)."""
        runs, df = welch(self.runs)
        return float(reach((1 + confidence) / 2, runs, df, self.images.variance, self.images.df))

    def above(self, at: float) -> float:
        """Return the confidence that the truth lies above `at`.

        It is half of the p value at `at`, or one minus that where the mean is above `at`, so it always agrees with the interval.
        """
        distance = self.mean - at
        if math.isnan(self.variance):
            return math.nan
        if distance == 0:
            return 0.5
        tail = _tail(abs(distance), self)
        return 1 - tail if distance > 0 else tail

    def p(self, at: float = 0.0) -> float:
        """Return the two-sided p value of the truth being `at`: the level at which the interval just touches it."""
        above = self.above(at)
        return 2 * min(above, 1 - above)


def welch(parts: tuple[Part, ...]) -> tuple[float, float]:
    """Return (variance, degrees of freedom) of a sum of independent parts."""
    variance = sum(p.variance for p in parts)
    if not variance > 0:
        return variance, min(p.df for p in parts)
    return variance, variance**2 / sum(p.variance**2 / p.df for p in parts if p.variance > 0)


def reach(level: float, runs: Numbers, df_runs: Numbers, images: Numbers, df_images: float) -> np.ndarray:
    """Return Cochran and Cox's quantile at the one-sided `level` times the standard error, for variances [...] as an array [...]."""
    total = runs + images
    weighted = runs * special.stdtrit(df_runs, level) + images * special.stdtrit(df_images, level)
    out: np.ndarray = weighted / np.sqrt(np.where(total > 0, total, 1))
    return out


def _tail(distance: float, e: Estimate) -> float:
    """Return the one-sided level whose half width is `distance`, at least 1e-13."""

    def beyond(log_level: float) -> float:
        return e.half_width(1 - 2 * math.exp(log_level)) - distance

    least, most = math.log(1e-13), math.log(0.5) - 1e-12
    if beyond(least) <= 0:
        return math.exp(least)
    return math.exp(optimize.brentq(beyond, least, most, xtol=1e-10)) if beyond(most) < 0 else 0.5


# ---- from runs to estimates -----------------------------------------------------------------------------


def mean_estimate(own: Runs) -> Estimate:
    """Return the mean over searches of each search's mean score, with its uncertainty."""
    if own.fold is not None:
        return _over_folds([own])
    unit, scores, resampled = _units(own)
    images = _images_part(own, _shared(resampled))
    spread = (_spread(scores, _within(own)),)
    return _estimate(float(scores.mean()), spread, images, unit, own.units.images, len(np.unique(own.search)), own.metric)


def images_estimate(mean: float, resampled: np.ndarray, units: ImageUnits, metric: Metric = DEFAULT) -> Estimate:
    """Return the uncertainty of given networks, where only the test images could have been others.

    `resampled` [B] holds the same mean on images drawn again.
    """
    images = Part(variance=float(np.var(resampled, ddof=1)) * units.correction, df=units.effective - 1, count=units.groups)
    fixed = Part(variance=0.0, df=images.df, count=1)
    return _estimate(mean, (fixed,), images, "run", units.images, 1, metric)


def difference(a: Runs, b: Runs) -> Estimate:
    """Return A minus B, paired over images (and folds), not over runs. The numbers of runs may differ."""
    if a.fold is not None and b.fold is not None:
        return _over_folds([a, b])
    searches = min(len(np.unique(a.search)), len(np.unique(b.search)))
    (unit_a, ya, za), (unit_b, yb, zb) = _units(a), _units(b)
    unit = unit_a if unit_a == unit_b else "run"
    across = float(np.cov(za.mean(axis=0), zb.mean(axis=0))[0, 1])
    images = _images_part(a, _shared(za) + _shared(zb) - 2 * across)
    return _estimate(
        float(ya.mean() - yb.mean()), (_spread(ya, _within(a)), _spread(yb, _within(b))), images, unit, a.units.images, searches, a.metric
    )


def fixed_difference(a: Runs, b: Runs) -> Estimate:
    """Return A minus B of the tested networks, the mean of each side, where only the test images could have been others.

    This is all that can be said where a side has one run. It needs the same images and resamples on both sides, and no folds.
    """
    resampled = a.resampled.mean(axis=0) - b.resampled.mean(axis=0)
    return images_estimate(float(a.scores.mean() - b.scores.mean()), resampled, a.units, a.metric)


def _estimate(mean: float, runs: tuple[Part, ...], images: Part, unit: Unit, count: int, searches: int, metric: Metric) -> Estimate:
    """Build the estimate with a floor under its variance.

    Even where not one of N images differed, about 1 / (N + 2) stays open (Agresti and Min 2005), times what one image can move.
    """
    missing = metric.span**2 / (count + 2) ** 2 - sum(p.variance for p in runs)
    if images.variance < missing:
        images = Part(variance=missing, df=images.df, count=images.count)
    return Estimate(mean=mean, runs=runs, images=images, unit=unit, searches=searches, resampled=count, metric=metric)


def _units(own: Runs) -> tuple[Unit, np.ndarray, np.ndarray]:
    """Return (kind, scores [U], resampled scores [U, B]) of what repeats: searches where there are several, else runs."""
    names, member = np.unique(own.search, return_inverse=True)
    if len(names) < 2:
        return "run", own.scores, own.resampled
    share = (member[None, :] == np.arange(len(names))[:, None]).astype(float)
    share /= share.sum(axis=1, keepdims=True)
    return "search", share @ own.scores, share @ own.resampled


def _spread(scores: np.ndarray, within: Within | None = None) -> Part:
    """Return the part S^2 / U, NaN for a single unit."""
    u = len(scores)
    if u < 2:
        return Part(variance=math.nan, df=math.nan, count=u)
    return Part(variance=float(np.var(scores, ddof=1)) / u, df=u - 1, count=u, within=within)


def _within(own: Runs) -> Within | None:
    """Return the seeds' part of searches, or None for one search or where no search has two runs."""
    by_search = [own.scores[own.search == r] for r in np.unique(own.search)]
    df = len(own.scores) - len(by_search)
    if len(by_search) < 2 or df < 1:
        return None
    one_run = sum(float(((s - s.mean()) ** 2).sum()) for s in by_search) / df
    inverse = sum(1 / len(s) for s in by_search) / len(by_search)
    return Within(variance=one_run * inverse / len(by_search), df=df, seeds=1 / inverse)


def _shared(resampled: np.ndarray) -> float:
    """Return the mean covariance of two different units over resamples [U, B], NaN for a single one."""
    u = len(resampled)
    if u < 2:
        return math.nan
    total, own = np.var(resampled.sum(axis=0), ddof=1), np.var(resampled, axis=1, ddof=1).sum()
    return float((total - own) / (u * (u - 1)))


def _images_part(own: Runs, shared: float) -> Part:
    """Return the images' part, at least zero. It is NaN for one group, which tells nothing."""
    u = own.units
    return Part(variance=max(shared, 0.0) * u.correction, df=u.effective - 1, count=u.groups)


def _over_folds(sides: list[Runs]) -> Estimate:
    """Return Student's t over folds: one number per fold, the mean over its runs, or for two strategies the difference of those.

    Repeated searches are crossed with the folds: beyond the residual, which the folds' spread contains, they add their own variance.
    """
    tables = [_by_search_and_fold(s) for s in sides]
    folds = sorted(set.intersection(*(set(t) for t in tables)))
    grids = [np.stack([t[f] for f in folds], axis=1) for t in tables]  # [R, F] each
    numbers = grids[0].mean(axis=0) - (grids[1].mean(axis=0) if len(grids) > 1 else 0.0)
    own_searches = [_pure_searches(g) for g in grids]
    nothing = Part(variance=0.0, df=math.inf, count=sides[0].units.images)
    runs = (_spread(numbers), *(p for p in own_searches if p.variance > 0))
    return _estimate(
        float(numbers.mean()), runs, nothing, "fold", sides[0].units.images * len(folds), min(len(g) for g in grids), sides[0].metric
    )


def _by_search_and_fold(own: Runs) -> dict[int, np.ndarray]:
    """Return [R] the mean score by search, for every fold that all searches ran on."""
    assert own.fold is not None
    searches, out = np.unique(own.search), {}
    for fold in np.unique(own.fold):
        cells = [own.scores[(own.fold == fold) & (own.search == r)] for r in searches]
        if all(len(c) for c in cells):
            out[int(fold)] = np.array([c.mean() for c in cells])
    return out


def _pure_searches(grid: np.ndarray) -> Part:
    """Return the searches' part of the grand mean's variance of the grid [R, F], without the residual."""
    r, f = grid.shape
    if r < 2 or f < 2:
        return Part(variance=0.0, df=max(r - 1, 1), count=r)
    rest = grid - grid.mean(axis=0) - grid.mean(axis=1, keepdims=True) + grid.mean()
    residual = (rest**2).sum() / ((r - 1) * (f - 1))
    return Part(variance=max(float(np.var(grid.mean(axis=1), ddof=1)) / r - residual / (r * f), 0.0), df=r - 1, count=r)


# ---- intervals ------------------------------------------------------------------------------------------


def difference_interval(e: Estimate, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval cut to where every difference lies, [-1, 1] for shares, so that cutting cannot lose the truth."""
    half = e.half_width(confidence)
    if math.isnan(half):
        return math.nan, math.nan
    return max(e.mean - half, -e.metric.width), min(e.mean + half, e.metric.width)


def share_interval(e: Estimate, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the interval of one strategy's score on the logit scale.

    It stays inside [0, 1] and leans towards the middle, as the truth of a high score does. Cutting the straight interval would print
    "up to 100" for a strategy that errs. The logit's bounds never reach 0 or 1. At 0 or 1 itself the logit is taken of the nearest
    score that N + 2 images could tell from it.

    For a metric with other bounds it takes the share of the way between them. One that is bounded on one side alone, log loss, has its
    logarithm in the logit's place.
    """
    half = e.half_width(confidence)
    if math.isnan(half):
        return math.nan, math.nan
    bottom, width, least = e.metric.low, e.metric.width, 1 / (e.resampled + 2)
    if math.isinf(width):
        loss = max(e.metric.high - e.mean, least)
        return min(e.metric.high - loss * math.exp(half / loss), e.mean), max(e.metric.high - loss * math.exp(-half / loss), e.mean)
    m = min(max((e.mean - bottom) / width, least), 1 - least)
    spread = half / width / (m * (1 - m))
    low, high = (bottom + width * special.expit(special.logit(m) + sign * spread) for sign in (-1, 1))
    return min(float(low), e.mean), max(float(high), e.mean)


def few_units(e: Estimate) -> bool:
    """Return True where the sessions are too few for their part of the interval to be trusted far."""
    return e.images.df + 1 < FEW_UNITS
