"""Intervals, paired comparisons and verdicts, on arrays: predictions [seeds, images] of runs that share their images.

Two sources of doubt are kept apart, as Bouthillier et al. (2021) ask: the seeds (few) and the test images (many).
The variance of a mean over K seeds is S^2 / K, from the seeds, plus the variance over resampled images (whole groups, where
images come in sessions), from the bootstrap. Their quantiles are Student's t with K - 1 degrees of freedom for the seeds and
with the number of images for the images, weighted by the variances (Cochran and Cox 1950): a percentile bootstrap over five
seeds is far too sure of itself, and Satterthwaite's degrees of freedom are still too many at three seeds (coverage 92 %).
`benchmarks/verdict.py` measures that it holds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
RESAMPLES = 1000
ENOUGH_SEEDS = 5
MOST_SEEDS = 200  # more than anybody would run: beyond it the test set, not the seeds, is the limit


# ---- scores ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """What every score is made of, by class in the last axis: [..., C]."""

    hits: np.ndarray  # images of the class that were named so
    said: np.ndarray  # images named so
    truth: np.ndarray  # images of the class


def macro_f1(c: Counts) -> np.ndarray:
    """[..., C] -> [...]; the mean of F1 over the classes that occur."""
    return _over_classes(2 * c.hits / np.maximum(c.truth + c.said, 1e-12), c.truth)


def macro_precision(c: Counts) -> np.ndarray:
    return _over_classes(c.hits / np.maximum(c.said, 1e-12), c.truth)


def macro_recall(c: Counts) -> np.ndarray:
    return _over_classes(c.hits / np.maximum(c.truth, 1e-12), c.truth)


def accuracy(c: Counts) -> np.ndarray:
    out: np.ndarray = c.hits.sum(axis=-1) / c.truth.sum(axis=-1)
    return out


def _over_classes(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.where(truth > 0, values, 0).sum(axis=-1) / np.maximum((truth > 0).sum(axis=-1), 1)
    return out


METRICS: dict[str, Callable[[Counts], np.ndarray]] = {
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "macro_precision": macro_precision,
    "macro_recall": macro_recall,
}


def counts(predicted: np.ndarray, labels: np.ndarray, classes: int, weights: np.ndarray | None = None) -> Counts:
    """Of predictions [N]: [C]; with weights [B, N], of every resample: [B, C]."""
    rows = np.arange(len(labels))
    onehot = np.zeros((len(labels), 3 * classes), np.float32)  # truth, said, hits side by side: one product for all three
    onehot[rows, labels] = 1
    onehot[rows, classes + predicted] = 1
    right = predicted == labels
    onehot[rows[right], 2 * classes + labels[right]] = 1
    sums = (onehot.sum(axis=0) if weights is None else weights.astype(np.float32, copy=False) @ onehot).astype(
        float
    )  # whole numbers: exact
    truth, said, hits = np.split(sums, 3, axis=-1)
    return Counts(hits=hits, said=said, truth=truth)


def confusions(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [C, C] of predictions [N], truth in rows."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes).astype(float)


def image_weights(count: int, groups: np.ndarray | None, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """[resamples, count]: how often each image is drawn. With `groups`, whole groups are drawn."""
    if groups is None:
        return rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    _, member = np.unique(groups, return_inverse=True)
    units = int(member.max()) + 1
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples)[:, member]


@dataclass(frozen=True, kw_only=True)
class ImageUnits:
    """What is resampled: every image for itself, or whole recording sessions."""

    images: int
    groups: int  # sessions; the number of images where there are none
    effective: float  # groups of equal size that would tell as much: (sum n)^2 / sum n^2
    correction: float  # of the bootstrap's variance


def image_units(count: int, groups: np.ndarray | None) -> ImageUnits:
    """With w a group's share of the images, resampling groups finds 1 - 2 sum w^3 / sum w^2 + sum w^2 of the variance where groups differ as

    wholes: (G - 1) / G for G equal groups, 0.7 for ten whose sizes spread as a recording day's do. The correction is its inverse.
    """
    sizes = np.ones(count) if groups is None else np.unique(groups, return_counts=True)[1].astype(float)
    w = sizes / sizes.sum()
    squares = float((w**2).sum())
    found = 1 - 2 * float((w**3).sum()) / squares + squares
    return ImageUnits(images=count, groups=len(sizes), effective=1 / squares, correction=1 / found if len(sizes) > 1 else math.nan)


# ---- intervals ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its two-sided interval; NaN bounds where one seed gives none."""

    mean: float
    low: float
    high: float
    p: float  # two-sided, of the mean being zero
    seeds: int
    var_seeds: float  # S^2: variance between seeds
    var_images: float  # of the mean, over resampled images


def interval(scores: np.ndarray, resampled: np.ndarray, units: int, confidence: float = CONFIDENCE) -> Interval:
    """`scores` [K] by seed; `resampled` [B] the seeds' mean score on resampled images; `units` images or groups were resampled."""
    seeds = len(scores)
    mean, var_images = float(np.mean(scores)), float(np.var(resampled, ddof=1))
    if seeds < 2:
        return Interval(mean=mean, low=math.nan, high=math.nan, p=math.nan, seeds=seeds, var_seeds=math.nan, var_images=var_images)
    var_seeds = float(np.var(scores, ddof=1))
    half = _half_width(var_seeds, seeds, var_images, units, confidence)
    p = _p_value(mean, var_seeds, seeds, var_images, units)
    return Interval(mean=mean, low=mean - half, high=mean + half, p=p, seeds=seeds, var_seeds=var_seeds, var_images=var_images)


def _half_width(var_seeds: float, seeds: int, var_images: float, units: int, confidence: float) -> float:
    """Cochran and Cox's quantile times the standard error: each source of variance brings its own t, by its weight."""
    a, b = var_seeds / seeds, var_images
    if a + b == 0:
        return 0.0
    level = (1 + confidence) / 2
    quantile = (a * stats.t.ppf(level, seeds - 1) + b * stats.t.ppf(level, max(units - 1, 1))) / (a + b)
    return float(quantile * math.sqrt(a + b))


def _p_value(mean: float, var_seeds: float, seeds: int, var_images: float, units: int) -> float:
    """Two-sided: the level at which the interval just touches zero, so that p and interval always agree."""
    if mean == 0:
        return 1.0
    if var_seeds / seeds + var_images == 0:
        return 0.0

    def reach(log_p: float) -> float:
        return _half_width(var_seeds, seeds, var_images, units, 1 - math.exp(log_p)) - abs(mean)

    if reach(-1e-12) >= 0:
        return 1.0
    smallest = math.log(1e-12)
    return math.exp(optimize.brentq(reach, smallest, -1e-12)) if reach(smallest) > 0 else 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """One strategy's runs on shared images."""

    scores: np.ndarray  # [K]
    resampled: np.ndarray  # [K, B], the same resamples for every strategy
    units: int


def runs(
    predicted: Sequence[np.ndarray], labels: np.ndarray, classes: int, weights: np.ndarray, units: int, metric: str = "macro_f1"
) -> Runs:
    """`predicted`: class indices [N] by seed; `weights` from image_weights, shared by all strategies compared."""
    f = METRICS[metric]
    return Runs(
        scores=np.array([float(f(counts(p, labels, classes))) for p in predicted]),
        resampled=np.array([f(counts(p, labels, classes, weights)) for p in predicted]),
        units=units,
    )


def mean_interval(own: Runs) -> Interval:
    return interval(own.scores, own.resampled.mean(axis=0), own.units)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A minus B, paired over images and seeds."""

    difference: Interval
    superiority: float  # P(A > B): one run of each, on resampled images (Bouthillier et al. 2021)
    permutation_p: float  # exact, flipping the signs of the seeds' differences; at least 2 / 2^K


def compare(a: Runs, b: Runs) -> Comparison:
    """Pairs the k-th runs; extra runs of either are left out."""
    k = min(len(a.scores), len(b.scores))
    differences = a.scores[:k] - b.scores[:k]
    resampled = (a.resampled[:k] - b.resampled[:k]).mean(axis=0)
    wins = a.resampled[:k, None, :] - b.resampled[None, :k, :]
    return Comparison(
        difference=interval(differences, resampled, a.units),
        superiority=float(np.mean(wins > 0) + 0.5 * np.mean(wins == 0)),
        permutation_p=sign_flip_p(differences),
    )


def sign_flip_p(differences: np.ndarray, most: int = 14) -> float:
    """Two-sided exact p of the mean difference under random signs; sampled beyond `most` seeds."""
    k = len(differences)
    if k <= most:
        signs = np.array(list(product((-1, 1), repeat=k)))
    else:
        signs = np.random.Generator(np.random.Philox(key=[5, k])).choice((-1, 1), size=(20_000, k))
    means = np.abs(signs @ differences)
    return float(np.mean(means >= abs(differences.sum()) - 1e-12))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values (1979), in the order given; NaN stays NaN and counts as a comparison made."""
    values = np.asarray(p, dtype=float)
    order = np.argsort(np.where(np.isnan(values), 2.0, values), kind="stable")
    adjusted, worst = np.empty(len(values)), 0.0
    for rank, k in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - rank) * values[k])) if not math.isnan(values[k]) else math.nan
        adjusted[k] = worst
    return adjusted


# ---- the verdict ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`kind`: "a" (A beats B), "b", "equivalent" or "undecided"; `more_seeds`: for undecided, how many more would decide, None if none would."""

    kind: str
    more_seeds: int | None = None


def decide(difference: Interval, adjusted_p: float, margin: float, alpha: float = 1 - CONFIDENCE) -> Verdict:
    """A winner needs a Holm-adjusted p below 5 %; equivalence an interval within +- margin; anything else is undecided."""
    if difference.seeds < 2 or math.isnan(adjusted_p):
        return Verdict(kind="undecided", more_seeds=max(ENOUGH_SEEDS - difference.seeds, 1))
    if adjusted_p < alpha:
        return Verdict(kind="a" if difference.mean > 0 else "b")
    if -margin < difference.low and difference.high < margin:
        return Verdict(kind="equivalent")
    # the pair must clear Holm's threshold, which is as much stricter as its p was raised
    stricter = alpha * difference.p / adjusted_p if adjusted_p > 0 else alpha
    return Verdict(kind="undecided", more_seeds=seeds_needed(difference, margin, 1 - min(stricter, alpha)))


def seeds_needed(d: Interval, margin: float, confidence: float = CONFIDENCE) -> int | None:
    """How many more seeds would decide if the means and variances stayed as they are; None: not even MOST_SEEDS would."""
    for seeds in range(d.seeds + 1, MOST_SEEDS + 1):
        half = _half_width(d.var_seeds, seeds, d.var_images, 10_000, confidence)
        if abs(d.mean) > half or abs(d.mean) + half < margin:
            return seeds - d.seeds
    return None
