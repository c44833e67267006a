"""Nested cross-fitting: pooled scores, influences and both parts of the variance, against scikit-learn, derivatives, bootstrap and
simulation.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from analysis.statistics.cross_fitting import CrossFitted, OuterFolds, cross_fit, difference, mean_estimate, variance_of_sum
from analysis.statistics.intervals import Estimate
from analysis.statistics.intervals import difference as of_one_split
from analysis.statistics.resampling import METRICS, image_units, image_weights
from analysis.statistics.scored_runs import score_runs
from benchmarks.folds import measure, missed
from benchmarks.partitioned import Partitioned
from benchmarks.worlds import Latent
from study.errors import DataError
from study.metrics import counts
from study.scoring.influence import GRADIENTS, influences

CLASSES = 4


def folds_of(rng: np.random.Generator, images: int = 120, folds: int = 5, groups: np.ndarray | None = None) -> OuterFolds:
    place = np.arange(images) % folds if groups is None else groups % folds
    return OuterFolds(labels=rng.integers(CLASSES, size=images), fold=place, classes=CLASSES, groups=groups)


def said(rng: np.random.Generator, folds: OuterFolds, passes: int = 1, skill: float = 0.6) -> np.ndarray:
    """Draw predictions [m, N], right in `skill` of the images, a little more or less by network."""
    right = skill + 0.1 * rng.standard_normal((passes, len(folds.fold_sizes)))
    wrong = rng.integers(CLASSES, size=(passes, len(folds.labels)))
    return np.where(rng.random(wrong.shape) < right[:, folds.place], folds.labels, wrong)


def same(one: Estimate, other: Estimate, sign: float = 1.0) -> bool:
    numbers = [(e.mean * s, e.variance, e.images.variance, e.images.df, e.half_width()) for e, s in ((one, 1.0), (other, sign))]
    return bool(np.allclose(*numbers, rtol=1e-9, atol=1e-12))


# ---- scores and influences ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_a_score_is_of_counts_pooled_over_folds_and_the_mean_over_passes(metric: str) -> None:
    rng = np.random.default_rng(1)
    folds = folds_of(rng)
    p = said(rng, folds, passes=3)
    name = {"macro_f1": metrics.f1_score, "macro_precision": metrics.precision_score, "macro_recall": metrics.recall_score}.get(metric)
    expected = [name(folds.labels, q, average="macro", zero_division=0) if name else metrics.accuracy_score(folds.labels, q) for q in p]
    assert cross_fit(p, folds, metric).scores == pytest.approx(expected)
    assert mean_estimate(cross_fit(p, folds, metric)).mean == pytest.approx(np.mean(expected))
    by_fold = np.mean([metrics.f1_score(folds.labels[f], p[0][f], average="macro") for f in (folds.place == k for k in range(5))])
    assert by_fold != pytest.approx(metrics.f1_score(folds.labels, p[0], average="macro"), abs=1e-4), "another number"


@pytest.mark.parametrize("metric", GRADIENTS)
def test_an_influence_is_the_derivative_by_the_images_weight(metric: str) -> None:
    rng = np.random.default_rng(2)
    labels, p = rng.integers(CLASSES, size=30), rng.integers(CLASSES - 1, size=30)  # the last class is never named
    found = influences(metric, p, labels, counts(p, labels, CLASSES + 1))  # and one more never occurs
    step = 2.0**-10
    for i in range(30):
        weights = np.ones((2, 30)) + step * np.array([[1], [-1]]) * (np.arange(30) == i)
        up, down = METRICS[metric](counts(p, labels, CLASSES + 1, weights))
        assert found[i] == pytest.approx((up - down) / (2 * step), abs=1e-6)
    assert found.sum() == pytest.approx(0, abs=1e-12)


def test_a_passs_influences_sum_to_what_its_score_is_above_the_others() -> None:
    rng = np.random.default_rng(3)
    folds = folds_of(rng, images=2000)
    own = cross_fit(said(rng, folds, passes=4), folds)
    above = own.scores - own.scores.mean()
    assert own.influence.sum(axis=1) == pytest.approx(above, abs=0.1 * np.abs(above).max()) and np.abs(above).max() > 0.01
    assert own.by_fold.sum(axis=1) == pytest.approx(own.influence.sum(axis=1))


# ---- laws -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.sampled_from([2, 5, 10]))
def test_names_and_order_of_folds_images_and_passes_do_not_matter(seed: int, passes_a: int, passes_b: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(40, size=120) if seed % 2 else None
    folds = folds_of(rng, folds=k, groups=groups)
    a, b = said(rng, folds, passes_a), said(rng, folds, passes_b)
    found = difference(cross_fit(a, folds), cross_fit(b, folds))
    order, names = rng.permutation(120), rng.permutation(1000)
    again = OuterFolds(
        labels=folds.labels[order],
        fold=names[folds.fold[order]],
        classes=CLASSES,
        groups=None if groups is None else names[groups[order]],
    )
    moved = [cross_fit(rng.permutation(p)[:, order], again) for p in (a, b)]
    assert same(found, difference(*moved))
    assert same(found, difference(*moved[::-1]), sign=-1.0)


def test_a_group_of_one_image_is_an_image() -> None:
    rng = np.random.default_rng(4)
    folds = folds_of(rng)
    for passes in (1, 2):
        a, b = said(rng, folds, passes), said(rng, folds, passes)
        alone = replace(folds, groups=np.arange(120))
        assert same(difference(cross_fit(a, folds), cross_fit(b, folds)), difference(cross_fit(a, alone), cross_fit(b, alone)))


@pytest.mark.parametrize("passes", [1, 2])
def test_copies_of_every_image_tell_nothing_new(passes: int) -> None:
    rng = np.random.default_rng(5)
    folds = folds_of(rng)
    twice = OuterFolds(labels=np.tile(folds.labels, 2), fold=np.tile(folds.fold, 2), classes=CLASSES, groups=np.tile(np.arange(120), 2))
    a, b = said(rng, folds, passes), said(rng, folds, passes)
    once = difference(cross_fit(a, folds), cross_fit(b, folds))
    assert same(once, difference(*(cross_fit(np.tile(p, 2), twice) for p in (a, b))))
    apart = difference(*(cross_fit(np.tile(p, 2), replace(twice, groups=None)) for p in (a, b)))
    assert apart.images.variance < 0.6 * once.images.variance, "taken for images of their own they would halve the variance"


def test_a_group_in_two_folds_is_refused() -> None:
    with pytest.raises(DataError, match="2 groups lie in more than one fold, the first is 7.*into one fold"):
        OuterFolds(labels=np.zeros(6, int), fold=np.array([0, 0, 1, 1, 2, 2]), classes=2, groups=np.array([7, 8, 7, 8, 9, 9]))


@pytest.mark.parametrize("passes", [1, 3])
def test_networks_that_say_the_same_leave_open_what_so_many_images_do(passes: int) -> None:
    rng = np.random.default_rng(6)
    folds = folds_of(rng)
    own = cross_fit(said(rng, folds, passes), folds)
    e = difference(own, own)
    assert e.mean == 0 and e.variance >= 1 / 122**2
    if passes == 1:
        assert e.p() == 1 and e.half_width() > 1.9 / 122


def test_one_pass_of_one_fold_tells_nothing_of_repeats() -> None:
    rng = np.random.default_rng(7)
    folds = folds_of(rng, folds=1)
    e = difference(cross_fit(said(rng, folds), folds), cross_fit(said(rng, folds), folds))
    assert math.isnan(e.half_width()) and math.isnan(e.p()) and e.searches == 1


def test_passes_that_agree_leave_the_images_alone() -> None:
    rng = np.random.default_rng(8)
    folds = folds_of(rng)
    a, b = (cross_fit(np.tile(said(rng, folds), (3, 1)), folds) for _ in range(2))
    e, d = difference(a, b), a.influence[0] - b.influence[0]
    assert [p.variance for p in e.runs] == pytest.approx([0, 0], abs=1e-30) and [p.df for p in e.runs] == [10, 10]
    assert e.images.variance == pytest.approx(120 / 119 * (d**2).sum()) and e.images.df == pytest.approx(119)


@pytest.mark.parametrize("metric", ["macro_f1", "accuracy"])
def test_one_fold_of_several_searches_is_the_analysis_of_one_split(metric: str) -> None:
    """Resampling and influences agree, and the part of the repeats is the same to first order."""
    rng = np.random.default_rng(9)
    folds = folds_of(rng, images=600, folds=1)
    shared = said(rng, folds, passes=2)
    a, b = (np.where(rng.random((5, 600)) < 0.3, said(rng, folds, passes=5), s) for s in shared)
    weights, units = image_weights(600, None, 4000, rng), image_units(600, None)
    one = of_one_split(*(score_runs(p, range(5), folds.labels, CLASSES, weights, units, [metric])[metric] for p in (a, b)))
    e = difference(cross_fit(a, folds, metric), cross_fit(b, folds, metric))
    assert e.mean == pytest.approx(one.mean) and e.searches == one.searches == 5
    for mine, theirs in ((e.images, one.images), *zip(e.runs, one.runs, strict=True)):
        assert mine.df == theirs.df and mine.variance == pytest.approx(theirs.variance, rel=0.1)


# ---- against brute force --------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
def test_the_variance_through_images_is_that_of_a_bootstrap(grouped: bool) -> None:
    """Networks are fixed, images (or whole sessions) are drawn again, and all counts are pooled anew."""
    rng = np.random.default_rng(10)
    groups = rng.integers(60, size=400) if grouped else None
    folds = folds_of(rng, images=400, groups=groups)
    a, b = said(rng, folds)[0], said(rng, folds)[0]
    d = cross_fit(a[None], folds).influence[0] - cross_fit(b[None], folds).influence[0]
    weights = image_weights(400, groups, 4000, rng)
    drawn = METRICS["macro_f1"](counts(a, folds.labels, CLASSES, weights)) - METRICS["macro_f1"](counts(b, folds.labels, CLASSES, weights))
    assert (d**2).sum() == pytest.approx(np.var(drawn), rel=0.12)


def test_the_variance_within_folds_is_that_of_a_bootstrap_within_folds() -> None:
    rng = np.random.default_rng(11)
    folds = folds_of(rng, images=400)
    d = cross_fit(said(rng, folds), folds).influence[0]
    found, df = variance_of_sum(d, folds.sizes, folds.unit_place)
    drawn = np.zeros(4000)
    for k in range(5):
        own = d[folds.unit_place == k]
        drawn += rng.multinomial(80, np.full(80, 1 / 80), size=4000) @ own
    assert found == pytest.approx(np.var(drawn) * 80 / 79, rel=0.08) and df == pytest.approx(395)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), min_size=2, max_size=20), st.integers(0, 2**32 - 1))
def test_degrees_of_freedom_of_uneven_sessions_are_satterthwaites(units: list[tuple[int, int]], seed: int) -> None:
    """They follow from the matrix of the quadratic form, which also shows that the estimate is unbiased."""
    sizes, whole = np.array(units, float)[:, 0], np.unique([w for _, w in units], return_inverse=True)[1]
    values = np.random.default_rng(seed).standard_normal(len(sizes))
    rest = np.eye(len(sizes)) - (whole[:, None] == whole) * (sizes / np.bincount(whole, sizes)[whole])[:, None]
    form, covariance = rest.T @ rest, np.diag(sizes**2)
    found, df = variance_of_sum(values, sizes, whole)
    one = np.trace(form @ covariance)
    if one < 1e-9:
        assert math.isnan(found) and math.isnan(df)
        return
    assert found == pytest.approx(values @ form @ values * np.trace(covariance) / one)
    assert df == pytest.approx(one**2 / np.trace(form @ covariance @ form @ covariance))


# ---- what the variance is made of -----------------------------------------------------------------------


def made(u: np.ndarray, images: int = 40) -> CrossFitted:
    """Return passes whose folds' sums are `u` [m, K], spread evenly over so many images per fold."""
    m, k = u.shape
    folds = OuterFolds(labels=np.zeros(k * images, int), fold=np.repeat(np.arange(k), images), classes=1)
    return CrossFitted(scores=u.sum(axis=1), influence=np.repeat(u / images, images, axis=1), by_fold=u, folds=folds)


def test_where_no_image_differs_from_its_fold_one_pass_is_students_t_over_folds() -> None:
    u = np.random.default_rng(12).standard_normal((1, 6)) / 100
    e = mean_estimate(made(u - u.mean()))
    assert e.runs[0].df == pytest.approx(5) and e.images.variance < 1e-9 + 1 / 242**2
    assert e.runs[0].variance == pytest.approx(6 * np.var(u, ddof=1))
    a, b = made(u - u.mean()), made(-(u - u.mean()))
    assert difference(a, b).variance >= difference(a, made(0 * u)).variance * 3.9, "what the difference tells of is not left out"


@pytest.mark.parametrize("grouped", [False, True])
def test_both_parts_of_one_pass_by_hand(grouped: bool) -> None:
    """Folds are equal and groups are pairs of images: N units of one size in K folds."""
    rng = np.random.default_rng(15)
    groups = np.arange(120) // 2 if grouped else None
    folds = OuterFolds(labels=rng.integers(CLASSES, size=120), fold=np.arange(120) // 2 % 5, classes=CLASSES, groups=groups)
    n, place = (60, np.arange(60) % 5) if grouped else (120, folds.fold)
    a, b = said(rng, folds), said(rng, folds, skill=0.7)
    a = np.where(folds.fold == 0, (folds.labels + 1) % CLASSES, a)  # one network fails, so that folds differ
    sides = [cross_fit(p, folds).influence[0] for p in (a, b)]

    def parts(psi: np.ndarray) -> tuple[float, float]:
        """Return (variance between folds, variance within)."""
        own = [psi[place == k] for k in range(5)]
        return 5 / 4 * sum(v.sum() ** 2 for v in own), n / (n - 5) * sum(((v - v.mean()) ** 2).sum() for v in own)

    e = difference(*(cross_fit(p, folds) for p in (a, b)))
    runs = [max(between - within, 0.0) for between, within in map(parts, sides)]
    between, within = parts(sides[0] - sides[1])
    assert sum(p.variance for p in e.runs) == pytest.approx(max(sum(runs), between - within)) and runs[0] > 0
    assert e.images.variance == pytest.approx(within) and e.images.df == pytest.approx(n - 5) and e.images.count == n
    assert mean_estimate(cross_fit(a, folds)).runs[0].variance == pytest.approx(runs[0])


def test_sessions_that_bring_their_share_of_a_fold_are_no_spread_within_it() -> None:
    """This holds however uneven they are: a common effect on a fold's images belongs to the fold."""
    u = np.array([[0.02, -0.01, 0.03, -0.04]])
    one = np.repeat(np.arange(6), np.arange(1, 7))
    groups = np.concatenate([one + 6 * k for k in range(4)])
    folds = OuterFolds(labels=np.zeros(84, int), fold=groups // 6, classes=1, groups=groups)
    own = CrossFitted(scores=u.sum(axis=1), influence=folds.sizes * u[:, folds.unit_place] / 21, by_fold=u, folds=folds)
    e = mean_estimate(own)
    assert e.images.variance == pytest.approx(0, abs=1e-12) and e.runs[0].variance == pytest.approx(4 * np.var(u, ddof=1))
    assert e.images.df < 4 * 5, "uneven sessions tell less than as many even ones"


def test_with_several_passes_only_the_searches_of_one_fold_are_held_against_each_other() -> None:
    rng = np.random.default_rng(13)
    u = rng.standard_normal((3, 5)) / 100
    apart = mean_estimate(made(u + 10 * rng.standard_normal(5) / 100))
    e = mean_estimate(made(u))
    assert e.runs[0].variance == pytest.approx(np.var(u, axis=0, ddof=1).sum() / 3) and e.runs[0].df == 10
    assert apart.runs[0].variance == pytest.approx(e.runs[0].variance)


def test_the_half_width_is_that_of_cochran_and_cox() -> None:
    rng = np.random.default_rng(14)
    folds = folds_of(rng)
    for passes in (1, 2):
        e = difference(cross_fit(said(rng, folds, passes), folds), cross_fit(said(rng, folds, passes, 0.8), folds))
        a, b = (p.variance for p in e.runs)
        df = (a + b) ** 2 / (a**2 / e.runs[0].df + b**2 / e.runs[1].df) if a + b else 4
        weighted = (a + b) * stats.t.ppf(0.975, df) + e.images.variance * stats.t.ppf(0.975, e.images.df)
        assert e.half_width() == pytest.approx(weighted / math.sqrt(e.variance))


@pytest.mark.parametrize("passes", [1, 2])
def test_simulated_studies_name_no_winner_that_is_none(passes: int) -> None:
    """It is a small run of benchmarks/folds.py where searches differ: its bars, and what images alone would claim."""
    world = Partitioned(law=Latent(search=0.2, images=300), designs=((5, passes),))
    (row,) = measure(world, 300)
    assert not missed(row, 300) and 0.9 < row["folds"]["covers"] < 0.995
    assert row["images_alone"]["wrong"] > 0.15 and row["folds"]["width"] < 0.75 * row["nadeau_bengio"]["width"]
    assert abs(row["correlation"]) < 0.1


def test_training_images_that_folds_share_are_in_the_correlation_between_folds() -> None:
    world = Partitioned(law=Latent(training=0.3, seed=0.05, images=300), designs=((5, 1),), overlap=0.8, reshuffled=0.8)
    (row,) = measure(world, 300)
    assert row["correlation"] > 0.4 and row["correlation_of_differences"] > 0.4
    assert row["folds"]["covers"] < 0.7 < 0.9 < row["folds"]["here"], "no design on these images can see it"
