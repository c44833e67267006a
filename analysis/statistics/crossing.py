"""The dependence of a score on an axis: number of training images, steps of training or pixels.

It tells where two strategies' curves cross, and what ten times the images would bring.

Runs of all places and strategies share seeds and test images, and runs of one seed share training images (nested over their numbers).
So two strategies are paired over runs as well as over images, and so are two sizes of one run. Between two measured sizes a run's score
is taken as linear in log n.

The interval of a crossing holds every n at which the difference's own 95 % interval contains zero. Whatever the true n*, it is missed
only when the interval there misses zero. This needs no resampled crossing, which three seeds could not give. The interval may reach the
end of what was measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.statistics.intervals import Estimate, difference_interval, mean_estimate
from analysis.statistics.resampling import CONFIDENCE
from analysis.statistics.scored_runs import Runs

STEPS = 24  # between two sizes
FEWEST_FOR_A_LAW = 4  # sizes: a power law has three numbers to be found
FACTOR = 10.0
RATES = np.geomspace(0.05, 2.0, 60)  # of the power law's exponent
DRAWS = 2000

Key = tuple[int, int]
"""Identity of a run at one place: (seed, fold)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """Scores of one strategy at one place on the axis."""

    place: float  # training images, steps or pixels
    keys: tuple[Key, ...]  # [K] of its runs
    runs: Runs


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """The place on an axis where A minus B changes sign.

    `kind` is "crosses" where A is better at one size and B at another, all sizes together at 95 %. It is "none" where no n between the
    smallest and the largest is consistent with a crossing, "unclear" between the two, and "unknown" where there is no interval (one
    run, one size).
    """

    kind: Literal["crosses", "none", "unclear", "unknown"]
    at: float = math.nan  # where the means change sign; NaN where they do not
    changes: int = 0  # how often they do: `at` is then the change that the means contradict least
    a_below: bool = False  # whether A has the higher mean below `at`
    a_better: bool = False  # whether A is shown to be better at some size, all sizes together at 95 %
    b_better: bool = False
    low: float = math.nan  # 95 %; NaN for "none" and "unknown"
    high: float = math.nan
    smallest: float = math.nan
    largest: float = math.nan

    @property
    def below(self) -> bool:
        """True where the interval reaches the smallest size, so that the crossing may lie below it."""
        return self.low <= self.smallest

    @property
    def above(self) -> bool:
        return self.high >= self.largest


def minus(a: Point, b: Point) -> Point:
    """Return A minus B over the runs that both have."""
    keys = tuple(k for k in a.keys if k in set(b.keys))
    one, other = _of(a, keys), _of(b, keys)
    return Point(place=a.place, keys=keys, runs=_blend(one, other, 1.0, -1.0))


def crossing(differences: Sequence[Point]) -> Crossing:
    """Find where A minus B changes sign. `differences` holds A minus B at every size."""
    points = sorted((d for d in differences if d.keys), key=lambda d: d.place)
    if len(points) < 2:
        return Crossing(kind="unknown")
    ends: dict[str, Any] = {"smallest": points[0].place, "largest": points[-1].place}
    means = np.array([mean_estimate(d.runs).mean for d in points])
    sign = _sign_change(np.log([d.place for d in points]), means)
    grid = [*_between(points), (points[-1].place, mean_estimate(points[-1].runs))]
    if any(math.isnan(e.variance) for _, e in grid):
        return Crossing(kind="unknown", **sign, **ends)
    inside = _holding_zero(np.array([n for n, _ in grid]), [e for _, e in grid])
    signs = {_sign(mean_estimate(d.runs), 1 - (1 - CONFIDENCE) / len(points)) for d in points}
    better = {"a_better": 1 in signs, "b_better": -1 in signs}
    if inside is None:
        return Crossing(kind="none", **better, **ends)
    return Crossing(kind="crosses" if {1, -1} <= signs else "unclear", **sign, **better, low=inside[0], high=inside[1], **ends)


def _of(point: Point, keys: Sequence[Key]) -> Runs:
    rows = np.array([point.keys.index(k) for k in keys], dtype=int)
    r = point.runs
    return Runs(
        scores=r.scores[rows],
        search=r.search[rows],
        resampled=r.resampled[rows],
        units=r.units,
        fold=None if r.fold is None else r.fold[rows],
        metric=r.metric,
    )


def _blend(one: Runs, other: Runs, x: float, y: float) -> Runs:
    return Runs(
        scores=x * one.scores + y * other.scores,
        search=one.search,
        resampled=x * one.resampled + y * other.resampled,
        units=one.units,
        fold=one.fold,
        metric=one.metric,
    )


def _between(points: Sequence[Point]) -> list[tuple[float, Estimate]]:
    """Return (n, the difference there) on a grid from each size, itself included, up to the next."""
    out = []
    for a, b in zip(points, points[1:], strict=False):
        keys = [k for k in a.keys if k in set(b.keys)]
        left, right = _of(a, keys), _of(b, keys)
        for share in np.arange(STEPS) / STEPS:
            n = a.place ** (1 - share) * b.place**share
            runs = a.runs if share == 0 else _blend(left, right, 1 - share, share)
            out.append((float(n), mean_estimate(runs)))
    return out


def _sign_change(x: np.ndarray, d: np.ndarray) -> dict[str, Any]:
    """Return `at`, `changes` and `a_below` of linear interpolation, empty for no change.

    Of several changes it is the one that leaves least on the wrong side.
    """
    up = d >= 0
    places = np.flatnonzero(up[1:] != up[:-1])
    if not len(places):
        return {}

    def contradiction(k: int) -> float:
        s = 1 if up[k] else -1
        return float(np.maximum(-s * d[: k + 1], 0).sum() + np.maximum(s * d[k + 1 :], 0).sum())

    k = min(places.tolist(), key=contradiction)
    at = math.exp(x[k] + (x[k + 1] - x[k]) * d[k] / (d[k] - d[k + 1]))
    return {"at": at, "changes": len(places), "a_below": bool(up[k])}


def _holding_zero(n: np.ndarray, estimates: Sequence[Estimate]) -> tuple[float, float] | None:
    """Return the span of all n whose interval contains zero, with interpolated ends, or None where no interval does."""
    beyond = np.array([abs(e.mean) - e.half_width() for e in estimates])
    inside = np.flatnonzero(beyond <= 0)
    if not len(inside):
        return None
    x, first, last = np.log(n), int(inside[0]), int(inside[-1])
    low, high = float(n[first]), float(n[last])
    if first > 0:
        low = math.exp(x[first] - (x[first] - x[first - 1]) * beyond[first] / (beyond[first] - beyond[first - 1]))
    if last < len(n) - 1:
        high = math.exp(x[last] + (x[last + 1] - x[last]) * beyond[last] / (beyond[last] - beyond[last + 1]))
    return low, high


def _sign(e: Estimate, confidence: float) -> int:
    low, high = difference_interval(e, confidence)
    return 1 if low > 0 else -1 if high < 0 else 0


# ---- what more images would bring ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class More:
    """The extrapolation of one strategy to `images`, ten times the largest size, by the power law a - b n^-c through its means, in shares.

    `gain` is over the law's own value at the largest size. Where nothing can be said, `why_not` gives the reason.
    """

    images: float
    score: float = math.nan
    low: float = math.nan  # 95 %: the means' doubt and how far they lie from the law; not whether it holds beyond them
    high: float = math.nan
    gain: float = math.nan
    gain_low: float = math.nan
    gain_high: float = math.nan
    why_not: str = ""


def ten_times(points: Sequence[Point], factor: float = FACTOR) -> More:
    """Extrapolate one strategy's curve to `factor` times its largest size."""
    points = sorted((p for p in points if p.keys), key=lambda p: p.place)
    images = factor * points[-1].place if points else math.nan
    if len(points) < FEWEST_FOR_A_LAW:
        return More(images=images, why_not=f"a power law needs {FEWEST_FOR_A_LAW} sizes, there are {len(points)}")
    keys = [k for k in points[0].keys if all(k in p.keys for p in points)]
    runs = [_of(p, keys) for p in points]
    units = np.stack([_units(r, r.scores) for r in runs], axis=1) if keys else np.zeros((0, len(points)))
    if len(units) < 2:
        return More(images=images, why_not="fewer than two runs have every size")
    estimates = [mean_estimate(r) for r in runs]
    best = runs[0].metric.high - 1  # the law knows no score above 1
    n, means = np.array([p.place for p in points]), np.array([e.mean - best for e in estimates])
    weights = 1 / np.array([e.variance for e in estimates])
    score, own, *there = (float(v) for v in fit_power_law(n, means[None, :], weights, np.array([images, n[-1], *n]))[0])
    at = np.array([images, n[-1]])
    drawn = fit_power_law(n, means + _deviations(units, runs, estimates) + _misfit(means - there), weights, at)
    score, own, drawn = score + best, own + best, drawn + best
    low, high = np.quantile(drawn[:, 0], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    gains = np.quantile(drawn[:, 0] - drawn[:, 1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return More(
        images=images,
        score=score,
        low=min(float(low), score),
        high=max(float(high), score),
        gain=score - own,
        gain_low=min(float(gains[0]), score - own),
        gain_high=max(float(gains[1]), score - own),
    )


def _units(runs: Runs, values: np.ndarray) -> np.ndarray:
    """Return means [U, ...] of values [K, ...] over what repeats: folds, searches or runs."""
    by = runs.fold if runs.fold is not None else runs.search if len(np.unique(runs.search)) > 1 else np.arange(len(runs.scores))
    return np.stack([values[by == u].mean(axis=0) for u in np.unique(by)])


def _deviations(units: np.ndarray, runs: Sequence[Runs], estimates: Sequence[Estimate]) -> np.ndarray:
    """Draw [DRAWS, M] deviations of the means from the truth.

    Runs deviate as Student's t, with what the sizes of a run have in common. Images deviate as they were resampled.
    """
    rng = np.random.Generator(np.random.Philox(key=[24, 25]))
    u = len(units)
    normal = rng.standard_normal((DRAWS, u)) @ (units - units.mean(axis=0)) / math.sqrt(u * (u - 1))
    out: np.ndarray = normal * np.sqrt((u - 1) / rng.chisquare(u - 1, size=(DRAWS, 1)))
    if runs[0].resampled.shape[1]:
        again = np.stack([_units(r, r.resampled).mean(axis=0) for r in runs], axis=1)  # [B, M]
        spread = np.maximum(again.std(axis=0, ddof=1), 1e-12)
        scale = np.sqrt([e.images.variance for e in estimates]) / spread  # what different runs share alone
        out = out + ((again - again.mean(axis=0)) * scale)[rng.integers(0, len(again), DRAWS)]
    return out


def _misfit(residuals: np.ndarray) -> np.ndarray:
    """Draw [DRAWS, M] deviations from the law as large as those of the residuals [M]."""
    rng = np.random.Generator(np.random.Philox(key=[26, 27]))
    sd = math.sqrt(float(residuals @ residuals) / (len(residuals) - 3))
    return sd * rng.standard_normal((DRAWS, len(residuals)))


def fit_power_law(n: np.ndarray, means: np.ndarray, weights: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return values [D, len(at)] of the best a - b n^-c (b >= 0, a <= 1) through each row of means [D, M] at sizes n [M]."""
    w = weights / weights.sum()
    best, values = np.full(len(means), np.inf), np.zeros((len(means), len(at)))
    for c in RATES:
        x, there = (n / n[-1]) ** -c, (at / n[-1]) ** -c
        centre = float(w @ x)
        b = -((means * w) @ (x - centre)) / float(w @ (x - centre) ** 2)
        b = np.maximum(b, 0.0)
        a = means @ w + b * centre
        b = np.where(a > 1, np.maximum(((1 - means) * w) @ x / float(w @ x**2), 0.0), b)
        a = np.minimum(a, 1.0)
        error = ((means - a[:, None] + b[:, None] * x) ** 2) @ w
        better = error < best - 1e-15
        best = np.where(better, error, best)
        values = np.where(better[:, None], a[:, None] - b[:, None] * there, values)
    return values
