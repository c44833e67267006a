"""The gain of a longer training, and whether it is known: the arithmetic of the budget check, on validation alone.

A configuration was trained K times at the budget it was searched at and once (m = 1) at a longer one. g is the difference of the means of
the last epochs' scores. Two sources of doubt add up:

- **runs**: S^2 (1/m + 1/K), S^2 the variance of one run around the mean of its configuration's others, pooled over all strategies of the
  question. Where no configuration was trained twice (as many searches as seeds), around the mean of its strategy's, whose searches differ
  as well: that is too wide rather than too narrow.
- **images**: all runs are scored on the same validation images, and longer training may suit these few by chance. Every image has an
  influence on the metric (its derivative by the image's weight); d is its mean influence at the longer budget minus the one at the
  shorter, paired by image. The variance of the mean of d also holds the runs' own randomness on images, which S^2 has counted already:
  w (1/m + 1/K) of it, w being the variance of influences between runs of one configuration. The rest is the images' share. Images of one
  session go together.

The sum is never below the variance of d alone. Degrees of freedom are Satterthwaite's. With one run a configuration the variance of runs
is unknown, so nothing is decided, however large g is. Where predictions are not known, the images' share is left out, and `Gain.images`
is 0. The same holds for a metric of probabilities (AUROC, average precision, log loss, Brier score), since runs record classes alone.

A point is the metric's own: one of the cheapest mistakes in a hundred images where costs are given.

| state | when |
| --- | --- |
| gains | g >= 2 points, and its one-sided 90 % lower bound is above 0 |
| flat | its one-sided 90 % upper bound is below 5 points; with fewer than 240 validation images, which never show that: g < 2 points |
| not known | otherwise |

Few images: "flat" is then the word for a point estimate. With 60 it hides a gain of 5 points in a third of studies, one of 10 in a tenth;
with 240 and more one of 5 in less than a tenth, and a gain is claimed where there is none in a tenth at most (docs/verdict.md has the
rates, `tests/test_budget.py` the simulation).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from study.scoring.metric import DEFAULT, Metric, Said

State = Literal["gains", "flat", "not known"]
STATES: tuple[State, ...] = get_args(State)
WORTH = 2.0  # a gain of fewer points is none
HARMLESS = 5.0  # a gain of fewer points than these is "flat", where it can be shown
ENOUGH_IMAGES = 240  # validation images with which it can
LEVEL = 0.9  # one-sided


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """One run at its last epoch, on validation."""

    score: float  # a share, or what else the metric is; higher is better
    said: np.ndarray | None = None  # [N] the class it names for each image; None where that is not known


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """One strategy's runs at two budgets."""

    longer: Sequence[Scored]
    shorter: Sequence[Scored]  # of the same configuration
    others: Sequence[Sequence[Scored]] = field(default_factory=tuple)  # of its other configurations, at the shorter budget: for S^2 alone


@dataclass(frozen=True, kw_only=True)
class Gain:
    """The gain of the longer budget, in shares. Figures are None where the gain cannot be computed; `why` then has the reason."""

    state: State
    gain: float | None = None
    se: float | None = None
    df: float | None = None
    low: float | None = None  # one-sided 90 %
    high: float | None = None
    longer: float | None = None  # mean score
    shorter: float | None = None
    images: float | None = None  # of se^2, the images' share of the variance, in [0, 1]
    why: str = ""

    @property
    def falls(self) -> bool:
        """Return True where its score falls with longer training, by two standard errors."""
        return self.gain is not None and self.se is not None and self.gain + 2 * self.se < 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; unknown ones are left out."""
        known = {k: v for k, v in vars(self).items() if v is not None and v != ""}
        return {**known, "falls": self.falls}


def decide(
    compared: Mapping[str, Compared],
    labels: np.ndarray | None,
    groups: np.ndarray | None = None,
    images: int | None = None,
    metric: Metric = DEFAULT,
) -> dict[str, Gain]:
    """Return the gain by strategy of one question, whose scores are `metric`'s, bound to the data's classes.

    `labels` [N] of the validation images and `groups` [N], their sessions; None where runs did not record their predictions. `images`:
    their number, where `labels` is None.
    """
    count = len(labels) if labels is not None else images or 0
    influence = None if labels is None or metric.probable else _influences(compared, labels, groups, metric)
    spread = _pooled([list(g) for g in _configurations(compared)]) or _pooled([[r for g in _of(c) for r in g] for c in compared.values()])
    noise = None if influence is None else _noise(compared, influence)
    return {name: _gain(own, spread, influence, noise, count, metric.margin / 100) for name, own in compared.items()}


def _of(c: Compared) -> list[Sequence[Scored]]:
    """Return the strategy's configurations at the shorter budget."""
    return [c.shorter, *c.others]


def _configurations(compared: Mapping[str, Compared]) -> list[Sequence[Scored]]:
    return [group for c in compared.values() for group in _of(c)]


def _pooled(groups: Sequence[Sequence[Scored]]) -> tuple[float, int] | None:
    """Return (variance within groups, degrees of freedom); None without a group of two."""
    scores = [np.array([r.score for r in group]) for group in groups if len(group) > 1]
    df = sum(len(s) - 1 for s in scores)
    return (sum(float(((s - s.mean()) ** 2).sum()) for s in scores) / df, df) if df else None


def _gain(
    own: Compared,
    spread: tuple[float, int] | None,
    influence: dict[int, np.ndarray] | None,
    noise: float | None,
    images: int,
    point: float,
) -> Gain:
    if not own.longer or not own.shorter:
        missing = "longer" if not own.longer else "shorter"
        return Gain(state="not known", why=f"no run at the {missing} budget was completed")
    m, k = len(own.longer), len(own.shorter)
    longer, shorter = (float(np.mean([r.score for r in runs])) for runs in (own.longer, own.shorter))
    g = longer - shorter
    if spread is None:
        return Gain(state="not known", gain=g, longer=longer, shorter=shorter, why="one run tells nothing of the spread")
    runs, df_runs = spread[0] * (1 / m + 1 / k), spread[1]
    total, units = _paired(own, influence)
    shared = max(total - (noise or 0.0) * (1 / m + 1 / k), 0.0)
    variance = max(runs + shared, total)
    df = variance**2 / (runs**2 / df_runs + (variance - runs) ** 2 / max(units - 1, 1)) if variance > 0 else math.inf
    se = math.sqrt(variance)
    half = se * _quantile(LEVEL, df)
    return Gain(
        state=_state(g, half, images, point),
        gain=g,
        se=se,
        df=min(df, 1e6),
        low=g - half,
        high=g + half,
        longer=longer,
        shorter=shorter,
        images=(variance - runs) / variance if variance > runs else 0.0,
    )


def _state(g: float, half: float, images: int, point: float) -> State:
    if g >= WORTH * point and g - half > 0:
        return "gains"
    flat = g + half < HARMLESS * point if images >= ENOUGH_IMAGES else g < WORTH * point
    return "flat" if flat else "not known"


def _quantile(level: float, df: float) -> float:
    from scipy import special  # needs a third of a second to load, and a study decides once

    return float(special.stdtrit(min(max(df, 1.0), 1e6), level))


# ---- the images' share ---------------------------------------------------------------------------------------


def _influences(
    compared: Mapping[str, Compared], labels: np.ndarray, groups: np.ndarray | None, metric: Metric
) -> dict[int, np.ndarray] | None:
    """Return by run (its identity) the sum of influences of every session over N; None where a run did not record its predictions."""
    runs = [r for c in compared.values() for group in (c.longer, *_of(c)) for r in group]
    if any(r.said is None or len(r.said) != len(labels) for r in runs) or not runs or not len(labels):
        return None
    classes = 1 + max(int(labels.max()), *(int(r.said.max()) for r in runs if r.said is not None))
    member = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    found = ((r, metric.influences(labels, Said(named=r.said), classes)) for r in runs if r.said is not None)
    return {id(r): np.bincount(member, weights=each) for r, each in found}


def _noise(compared: Mapping[str, Compared], influence: Mapping[int, np.ndarray]) -> float:
    """Return w, the variance of a run's sums between runs: over configurations where these were repeated, else over strategies, as S^2."""
    groups = [g for g in _configurations(compared) if len(g) > 1] or [[r for g in _of(c) for r in g] for c in compared.values()]
    found = [np.stack([influence[id(r)] for r in g]) for g in groups if len(g) > 1]
    df = sum(len(f) - 1 for f in found)
    return sum(float(((f - f.mean(axis=0)) ** 2).sum()) for f in found) / df if df else 0.0


def _paired(own: Compared, influence: Mapping[int, np.ndarray] | None) -> tuple[float, int]:
    """Return (variance of g over images or sessions, their number); (0, 2) where it is not known."""
    if influence is None:
        return 0.0, 2
    longer, shorter = (np.mean([influence[id(r)] for r in runs], axis=0) for runs in (own.longer, own.shorter))
    d = longer - shorter
    n = len(d)
    return (float((d**2).sum()) * n / (n - 1), n) if n > 1 else (0.0, 2)
