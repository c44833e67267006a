"""Uncertainty of a score, or of the difference of two, when every image was a test image once: nested cross-fitting over K outer folds.

Search r owns outer fold r mod K. Its trials see the other folds only, and its winner predicts the images of that fold. So search, seed
and training images are drawn anew in each fold, and no setting was chosen on an image that it is tested on. A **pass** is one
prediction of every image: K searches, one a fold. With K m searches there are m passes.

- **Score**: predictions are pooled over folds, and the score of a pass is computed from them once. Scores by fold would rest on a fifth
  of the images each. With several passes it is the mean over passes.
- **Influence**: psi_i is the contribution of image i to the score (influence.py), linearised at the mean counts of all passes. Metrics
  that are no function of counts are linearised at each pass, and the distance of a pass from the mean of passes is shared evenly by its
  images. Images of one session and copies of one image are a unit: their influences are summed, and they must lie in one fold.

The variance of a difference A - B has two parts, as everywhere in this analysis (intervals.py). The first is the repeats (searches,
with their seeds and training images), for each strategy its own, joined as Welch does. The second is the images, which both strategies
share and are paired over, d = psi_A - psi_B. With u_k the sum of psi over fold k:

One pass:

- repeats: for each strategy the variance of its u_k between folds, K/(K-1) sum u_k^2, less the contribution of as many images, N/(N-K)
  sum (psi_i - mean of its fold)^2. It is at least 0, df K - 1. Both strategies together are at least what the same formula finds for d.
- images: N/(N-K) sum (d_i - mean of its fold)^2, df N - K.

Two and more passes (preferred):

- repeats: the sum over folds of S_k^2 / m, with S_k^2 the variance of u_k over the fold's m searches, df K (m - 1).
- images: N/(N-1) times the mean product of two DIFFERENT passes' influences, summed over images, df N - 1.

The rule "at least what the same formula finds for d" is needed because both estimate the same variance from K numbers, and each is too
small too often when cut at 0. Without the rule, winners are named falsely in up to 8 % of simulated studies of one pass, with it in at
most 5 to 6 %.

Repeats and images together are at least N/(N-1) sum d_i^2, the variance through images alone (Bayle et al. 2020). That is no interval
by itself: where a search moves the scores of a whole fold, it is far too small. Cochran and Cox (1950) weigh the quantiles of the two
parts. K = 1 with m >= 2 is the analysis of a single split, `intervals.difference`, to first order.

The training sets of all folds overlap, and no design on these N images can see what they have in common: claims are about networks
trained on them. The error rates that this holds, and where it does not, are in docs/verdict.md. `benchmarks/folds.py` measures them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from analysis.statistics.intervals import Estimate, Part
from analysis.statistics.resampling import METRICS, image_units
from study.errors import DataError
from study.metrics import Counts, counts
from study.scoring.influence import influences
from study.scoring.metric import DEFAULT, Metric, Said


@dataclass(frozen=True, kw_only=True, eq=False)
class OuterFolds:
    """A set of images cut into folds. Raises DataError where a group lies in two folds: its images would be training and test images."""

    labels: np.ndarray  # [N] class indices
    fold: np.ndarray  # [N], whatever names the folds
    classes: int
    groups: np.ndarray | None = None  # [N]: a session, or an image and its copies, have one name
    weights: np.ndarray | None = None  # [N] how many images each stands for, where some were drawn with known probabilities

    def __post_init__(self) -> None:
        if self.groups is None:
            return
        pairs = np.unique(np.stack([self.member, self.place]), axis=1)[0]
        if len(twice := pairs[1:][pairs[1:] == pairs[:-1]]):
            raise DataError(
                f"{len(np.unique(twice))} groups lie in more than one fold, the first is {np.unique(self.groups)[twice[0]]}: a group's "
                "images would be training and test images of one network. Put each group into one fold."
            )

    @cached_property
    def member(self) -> np.ndarray:
        """Return [N] the unit of each image: its group, or the image itself."""
        return np.arange(len(self.labels)) if self.groups is None else np.unique(self.groups, return_inverse=True)[1]

    @cached_property
    def place(self) -> np.ndarray:
        """Return [N] the fold of each image, from 0."""
        return np.unique(self.fold, return_inverse=True)[1]

    @cached_property
    def sizes(self) -> np.ndarray:
        """Return [G] the number of images of each unit."""
        return np.bincount(self.member, self.weights).astype(float)

    @cached_property
    def unit_place(self) -> np.ndarray:
        """Return [G] the fold of each unit."""
        out = np.zeros(len(self.sizes), int)
        out[self.member] = self.place
        return out

    @cached_property
    def fold_sizes(self) -> np.ndarray:
        """Return [K] the number of images of each fold."""
        return np.bincount(self.place, self.weights).astype(float)


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossFitted:
    """Scores and influences of one strategy's out-of-fold predictions."""

    scores: np.ndarray  # [m] by pass, from counts pooled over folds
    influence: np.ndarray  # [m, G] summed over each unit's images
    by_fold: np.ndarray  # [m, K] summed over each fold's units
    folds: OuterFolds
    metric: Metric = DEFAULT

    @property
    def passes(self) -> int:
        return len(self.scores)


def fitted(scores: np.ndarray, psi: np.ndarray, folds: OuterFolds, metric: Metric = DEFAULT) -> CrossFitted:
    """Build the result from `scores` [m] by pass and `psi` [m, N], the contribution of each image to them (influence.py),
    as often as it counts."""
    psi = psi if folds.weights is None else psi * folds.weights
    units = np.stack([np.bincount(folds.member, p, len(folds.sizes)) for p in psi])
    by_fold = np.stack([np.bincount(folds.unit_place, u, len(folds.fold_sizes)) for u in units])
    return CrossFitted(scores=scores, influence=units, by_fold=by_fold, folds=folds, metric=metric)


def cross_fit(predicted: np.ndarray, folds: OuterFolds, metric: str = DEFAULT.name) -> CrossFitted:
    """Score the out-of-fold predictions of one strategy.

    `predicted` [m, N] holds class indices: in each pass every image's class as predicted by the network that did not see its fold.
    """
    found = [counts(p, folds.labels, folds.classes, folds.weights) for p in predicted]
    mean = Counts(**{name: np.mean([getattr(c, name) for c in found], axis=0) for name in ("hits", "said", "truth")})
    return fitted(np.array([float(METRICS[metric](c)) for c in found]), influences(metric, predicted, folds.labels, mean), folds)


def cross_fit_asked(said: Sequence[Said], folds: OuterFolds, metric: Metric) -> CrossFitted:
    """The same of any metric, by pass what was said of every image."""
    scores = np.array([float(metric.score(folds.labels, s, classes=folds.classes)) for s in said])
    psi = np.stack([metric.influences(folds.labels, s, folds.classes) for s in said])
    return fitted(scores, psi + (scores - scores.mean())[:, None] / len(folds.labels), folds, metric)


def mean_estimate(own: CrossFitted) -> Estimate:
    """Return the expected score of a network that the strategy's search finds, over searches, seeds and images."""
    return _estimate([own])


def difference(a: CrossFitted, b: CrossFitted) -> Estimate:
    """Return A minus B on the same folds, paired by image. The numbers of passes may differ."""
    return _estimate([a, b])


def _estimate(sides: Sequence[CrossFitted]) -> Estimate:
    folds, passes = sides[0].folds, min(s.passes for s in sides)
    signs = (1.0, -1.0)[: len(sides)]

    def joined(name: str) -> np.ndarray:
        """Return the mean over passes, of the one strategy or of A minus B."""
        return np.sum([sign * getattr(s, name).mean(axis=0) for sign, s in zip(signs, sides, strict=True)], axis=0)

    d = joined("influence")
    units = image_units(len(folds.labels), folds.groups, folds.weights)
    alone = float((d**2).sum()) * units.correction
    if passes > 1:
        runs = tuple(_between_searches(s) for s in sides)
        variance, df = _shared(sides, d) * units.correction, units.effective - 1
    else:
        own = [_between_folds(s.influence.mean(axis=0), s.by_fold.mean(axis=0), folds) for s in sides]
        runs = _at_least(own, _between_folds(d, joined("by_fold"), folds))
        variance, df = variance_of_sum(d, folds.sizes, folds.unit_place)
    least = max(
        alone, sides[0].metric.span ** 2 / (len(d) + 2) ** 2
    )  # that not one of N images differed leaves about 1 / (N + 2) open (Agresti and Min 2005)
    variance = max(variance, least - sum(p.variance for p in runs))
    return Estimate(
        mean=float(joined("scores")),
        runs=runs,
        images=Part(variance=variance, df=df, count=len(d)),
        unit="pass",
        searches=passes * len(folds.fold_sizes),
        resampled=len(folds.labels),
        metric=sides[0].metric,
    )


def _between_folds(influence: np.ndarray, by_fold: np.ndarray, folds: OuterFolds) -> Part:
    """Return the variance of the folds' sums [K] beyond what their images [G] contribute, or NaN for a single fold."""
    between, df = variance_of_sum(by_fold, folds.fold_sizes, np.zeros(len(by_fold), int))
    within = variance_of_sum(influence, folds.sizes, folds.unit_place)[0]
    return Part(variance=float(np.maximum(between - within, 0.0)), df=df, count=len(by_fold))


def _at_least(own: Sequence[Part], joint: Part) -> tuple[Part, ...]:
    """Scale the strategies' own parts up where the difference itself shows more variance than both together."""
    total = sum(p.variance for p in own)
    if not joint.variance > total:
        return tuple(own)
    return tuple(replace(p, variance=p.variance * joint.variance / total) for p in own) if total > 0 else (joint,)


def _between_searches(own: CrossFitted) -> Part:
    """Return the variance between the searches of one fold, summed over folds, where there are several passes."""
    m, k = own.by_fold.shape
    return Part(variance=float(own.by_fold.var(axis=0, ddof=1).sum()) / m, df=k * (m - 1), count=k * m)


def _shared(sides: Sequence[CrossFitted], d: np.ndarray) -> float:
    """Return the sum over units of d^2 without what single searches add, from products of different passes of one strategy only."""
    own = [float((s.influence.sum(axis=0) ** 2).sum() - (s.influence**2).sum()) / (s.passes * (s.passes - 1)) for s in sides]
    squares = [float((s.influence.mean(axis=0) ** 2).sum()) for s in sides]
    return max(float((d**2).sum()) + sum(own) - sum(squares), 0.0)


def variance_of_sum(values: np.ndarray, sizes: np.ndarray, whole: np.ndarray) -> tuple[float, float]:
    """Return (variance of the sum of `values` [G] through units drawn independently, its degrees of freedom).

    `sizes` [G] is the number of images per unit, `whole` [G] the fold that a unit is part of. A unit is expected to contribute its
    share, by size, of its fold's sum. Units differ as folds do, by an amount in proportion to their size (sessions).

    Units of one image each give N/(N-K) times the sum of squares, and N - K degrees of freedom. Other units get the factor that makes
    the variance unbiased, and Satterthwaite's degrees of freedom. NaN where every fold is one unit.
    """
    total = np.bincount(whole, sizes)
    w = sizes / total[whole]
    rest = values - w * np.bincount(whole, values)[whole]
    w2, w3, w4, w5 = (np.bincount(whole, w**p) for p in (2, 3, 4, 5))
    found = w2 - 2 * w3 + w2**2  # of a whole's variance in proportion to w2, what the rests' squares hold of it
    expected = float((total**2 * found).sum())
    if not expected > 0:
        return math.nan, math.nan
    spread = float((total**4 * (w4 + 4 * w2 * w4 + 2 * w3**2 + w2**4 - 4 * w5 - 4 * w2**2 * w3)).sum())
    return float((rest**2).sum()) * float((total**2 * w2).sum()) / expected, expected**2 / spread
