"""The verdict's statistics against cases whose answer is known: scipy's, a formula's, or a simulation's."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from analysis.statistics import resampling as st
from analysis.statistics.decisions import Doubts, across_datasets, chances, decide, equivalence_p, expected_loss, not_separated_from_best
from analysis.statistics.forecast import Spread, alpha_of_look, design, forecast
from analysis.statistics.intervals import Estimate, Part, difference, difference_interval, few_units, mean_estimate, share_interval
from analysis.statistics.scored_runs import Runs, join_folds, score_runs
from analysis.statistics.search_luck import search_luck
from study.metrics import counts

B = 400


def runs_of(scores, *, search=None, fold=None, resampled=None, images=1000, groups=None) -> Runs:
    scores = np.asarray(scores, dtype=float)
    return Runs(
        scores=scores,
        search=np.zeros(len(scores), int) if search is None else np.asarray(search),
        fold=None if fold is None else np.asarray(fold),
        resampled=np.tile(scores[:, None], (1, B)) if resampled is None else resampled,  # no image moves anything
        units=st.image_units(images, groups),
    )


def estimate(mean: float, run_sd: float, image_sd: float, runs: int = 5, images: int = 1000, searches: int = 1) -> Estimate:
    """Return the estimate of a difference, where `run_sd` is that of one run of each strategy."""
    part = Part(variance=run_sd**2 / runs, df=runs - 1, count=runs)
    return Estimate(
        mean=mean,
        runs=(part, part),
        images=Part(variance=image_sd**2, df=images - 1, count=images),
        unit="search" if searches > 1 else "run",
        searches=searches,
        resampled=images,
    )


# ---- scores ---------------------------------------------------------------------------------------------


def test_scores_of_resamples_are_those_of_scikit_learn_on_the_images_drawn() -> None:
    rng = np.random.default_rng(0)
    labels, said = rng.integers(4, size=60), rng.integers(4, size=60)
    weights = st.image_weights(60, None, 5, rng)
    found = counts(said, labels, 4, weights)
    for w, f1, right in zip(weights, st.macro_f1(found), st.accuracy(found), strict=True):
        drawn = np.repeat(np.arange(60), w)
        expected = metrics.f1_score(labels[drawn], said[drawn], average="macro", labels=np.unique(labels[drawn]), zero_division=0)
        assert f1 == pytest.approx(expected, abs=1e-12) and right == pytest.approx(np.mean(labels[drawn] == said[drawn]), abs=1e-12)


def test_runs_from_predictions_and_their_folds() -> None:
    rng = np.random.default_rng(14)
    labels, predicted = rng.integers(3, size=50), rng.integers(3, size=(4, 50))
    weights = st.image_weights(50, None, 8, rng)
    found = score_runs(predicted, [0, 1, 0, 1], labels, 3, weights, st.image_units(50, None))
    assert set(found) == set(st.METRICS)
    for k, said in enumerate(predicted):
        assert found["accuracy"].scores[k] == pytest.approx(np.mean(said == labels))
        assert found["accuracy"].resampled[k] == pytest.approx((weights * (said == labels)).sum(axis=1) / 50)
    one = found["macro_f1"]
    both = join_folds([one, one])
    assert both.fold is not None and both.fold.tolist() == [0] * 4 + [1] * 4 and both.search.tolist() == [0, 1] * 4
    assert join_folds([one]) is one


def test_effective_units_count_equal_sessions_and_discount_a_large_one() -> None:
    assert st.image_units(7, None).effective == pytest.approx(7) and st.image_units(7, None).correction == pytest.approx(7 / 6)
    equal = st.image_units(12, np.repeat([0, 1, 2], 4))
    assert (equal.groups, equal.effective, equal.correction) == (3, pytest.approx(3), pytest.approx(3 / 2))
    assert st.image_units(12, np.repeat([0, 1, 2], [10, 1, 1])).effective == pytest.approx(144 / 102)


def test_resampling_uneven_sessions_is_corrected_to_the_true_variance() -> None:
    """Sessions differ as wholes, and the mean over images of 12 sessions is drawn many times."""
    rng = np.random.default_rng(12)
    groups = np.repeat(np.arange(12), [1, 1, 2, 2, 3, 4, 5, 7, 10, 14, 20, 31])
    found, means = [], []
    for _ in range(300):
        values = rng.normal(0, 1, 12)[groups]
        weights = st.image_weights(100, groups, 200, rng)
        found.append(np.var((weights * values).sum(axis=1) / weights.sum(axis=1), ddof=1))
        means.append(values.mean())
    assert np.mean(found) * st.image_units(100, groups).correction == pytest.approx(np.var(means), rel=0.2)
    assert np.mean(found) * 12 / 11 < 0.85 * np.var(means), "as for equal groups is too little"


# ---- the interval ---------------------------------------------------------------------------------------


def test_without_image_variance_a_difference_is_welchs_test() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.6, 0.02, 6), rng.normal(0.58, 0.05, 4)
    d = difference(runs_of(a), runs_of(b))
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert d.p() == pytest.approx(expected.pvalue, rel=1e-6)
    assert difference_interval(d) == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)


def test_without_run_variance_the_interval_is_students_over_effective_images() -> None:
    shared = np.random.default_rng(2).normal(0.6, 0.01, B)
    e = mean_estimate(runs_of([0.6] * 4, resampled=np.tile(shared, (4, 1)), groups=np.repeat(np.arange(20), 50)))
    assert e.images.variance == pytest.approx(np.var(shared, ddof=1) * 20 / 19)
    assert e.half_width() == pytest.approx(stats.t.ppf(0.975, 19) * math.sqrt(e.images.variance))
    assert not few_units(e) and few_units(mean_estimate(runs_of([0.6, 0.7], groups=np.repeat(np.arange(10), 100))))


def test_only_what_different_runs_share_is_the_images_part() -> None:
    """It is the off-diagonal of numpy's covariance: noise of single runs on single images is in S^2 already."""
    rng = np.random.default_rng(3)
    resampled = rng.normal(0, 0.01, B) + rng.normal(0, 0.03, (5, B))
    e = mean_estimate(runs_of(rng.normal(0.5, 0.03, 5), resampled=resampled))
    covariance = np.cov(resampled)
    off = covariance[~np.eye(5, dtype=bool)].mean()
    assert e.images.variance == pytest.approx(max(off, 0) * 1000 / 999)
    assert e.images.variance < 0.4 * np.var(resampled.mean(axis=0), ddof=1), "the mean's own variance counts that noise again"


def test_a_difference_is_paired_over_images() -> None:
    rng = np.random.default_rng(4)
    shared = rng.normal(0, 0.05, B)
    a, b = (runs_of(rng.normal(0.5, 0.01, 5), resampled=shared + rng.normal(0, 0.001, (5, B))) for _ in range(2))
    assert mean_estimate(a).images.variance == pytest.approx(0.05**2, rel=0.2)
    assert difference(a, b).images.variance < 1e-6


def test_runs_of_one_search_are_one_unit() -> None:
    scores, search = [0.5, 0.6, 0.7, 0.52, 0.62, 0.74], [0, 1, 2, 0, 1, 2]
    e = mean_estimate(runs_of(scores, search=search))
    means = np.array([0.51, 0.61, 0.72])
    assert (e.unit, e.searches, e.mean) == ("search", 3, pytest.approx(means.mean()))
    assert e.runs[0].variance == pytest.approx(means.var(ddof=1) / 3) and e.runs[0].df == 2
    uneven = mean_estimate(runs_of(scores[:5], search=search[:5]))
    assert uneven.mean == pytest.approx(np.mean([0.51, 0.61, 0.7])), "every search counts once, however many runs it has"


def test_folds_are_one_number_each_and_paired() -> None:
    rng = np.random.default_rng(5)
    grid_a, grid_b = rng.normal(0.6, 0.02, (4, 5)), rng.normal(0.58, 0.02, (4, 5))  # [seed, fold]
    fold = np.tile(np.arange(5), 4)
    d = difference(runs_of(grid_a.ravel(), fold=fold), runs_of(grid_b.ravel(), fold=fold))
    expected = stats.ttest_rel(grid_a.mean(axis=0), grid_b.mean(axis=0))
    assert d.p() == pytest.approx(expected.pvalue, rel=1e-6) and d.unit == "fold" and d.searches == 1


def test_searches_crossed_with_folds_add_their_own_variance_only() -> None:
    rng = np.random.default_rng(6)
    search, fold = np.repeat(np.arange(4), 5), np.tile(np.arange(5), 4)
    noise = rng.normal(0, 0.001, 20)
    alike = mean_estimate(runs_of(0.6 + noise, search=search, fold=fold))
    luck = np.array([0.05, -0.05, 0.02, -0.02])
    lucky = mean_estimate(runs_of(0.6 + luck[search] + noise, search=search, fold=fold))
    assert sum(p.variance for p in lucky.runs) == pytest.approx(luck.var(ddof=1) / 4, rel=0.05)
    assert alike.variance < 1e-6


def test_one_run_or_one_session_has_no_interval() -> None:
    for e in (mean_estimate(runs_of([0.5])), mean_estimate(runs_of([0.5, 0.6], groups=np.zeros(1000, int)))):
        assert math.isnan(e.p()) and all(map(math.isnan, (*share_interval(e), *difference_interval(e))))
    (verdict,) = decide([difference(runs_of([0.5]), runs_of([0.6, 0.7]))], 0.01)
    assert verdict.kind == "undecided" and verdict.winner is None


@pytest.mark.parametrize("mean", [0.0, 0.01, 0.5, 0.78, 0.999, 1.0])
def test_bounds_of_a_share_stay_inside_and_hold_the_mean(mean: float) -> None:
    scores = mean + min(0.1, mean, 1 - mean) * np.array([-1, 1, 0])
    low, high = share_interval(mean_estimate(runs_of(scores, images=20)))
    assert 0 <= low <= mean <= high <= 1 and low < high
    assert mean - low < 0.5 and high - mean < 0.5


def test_a_perfect_score_on_few_images_is_not_certain() -> None:
    low, high = share_interval(mean_estimate(runs_of([1.0] * 5, images=50)))
    assert 0.8 < low < 1 - 3 / 50 and high == 1, "the rule of three alone leaves 6 % open"
    (verdict,) = decide([difference(runs_of([1.0] * 5, images=20), runs_of([1.0] * 5, images=20))], 0.01)
    assert verdict.kind == "undecided", "twenty images without a difference show none below one point"


def test_a_difference_stays_inside_minus_one_and_one() -> None:
    d = difference(runs_of([0.99, 0.3]), runs_of([0.0, 0.7]))
    assert difference_interval(d) == (-1.0, 1.0)


def test_p_and_interval_agree_at_every_level() -> None:
    for mean, run_sd, image_sd in itertools.product((0.003, 0.02, -0.05), (0.0, 0.01, 0.05), (0.004, 0.02)):
        e = estimate(mean, run_sd, image_sd)
        assert abs(mean) == pytest.approx(e.half_width(1 - e.p()), rel=1e-6) or e.p() < 1e-12


# ---- decisions ------------------------------------------------------------------------------------------


KINDS = [  # difference, run sd, image sd -> kind at a margin of one point
    (0.05, 0.005, 0.005, "beats"),
    (0.02, 0.005, 0.006, "better"),
    (0.005, 0.001, 0.001, "better_by_little"),
    (0.001, 0.002, 0.002, "equivalent"),
    (0.001, 0.02, 0.02, "undecided"),
]


@pytest.mark.parametrize(("mean", "run_sd", "image_sd", "kind"), KINDS)
def test_each_kind_of_verdict(mean: float, run_sd: float, image_sd: float, kind: str) -> None:
    for sign in (1, -1):
        (got,) = decide([estimate(sign * mean, run_sd, image_sd)], 0.01)
        named = kind in ("beats", "better", "better_by_little")
        assert (got.kind, got.winner) == (kind, (("a" if sign > 0 else "b") if named else None))
        assert got.scope == "configurations", "one search each"
    (got,) = decide([estimate(mean, run_sd, image_sd, searches=5)], 0.01, [Doubts(both=("collapsed",))])
    assert (got.kind, got.winner, got.scope, got.reasons) == ("not_comparable", None, "strategies", ("collapsed",))


@pytest.mark.parametrize(("mean", "run_sd", "image_sd", "kind"), KINDS)
def test_what_is_undertuned_may_not_lose_nor_be_equal_but_may_win(mean: float, run_sd: float, image_sd: float, kind: str) -> None:
    for sign in (1, -1):
        winner, loser = ("of_a", "of_b") if sign > 0 else ("of_b", "of_a")
        (wins,) = decide([estimate(sign * mean, run_sd, image_sd)], 0.01, [Doubts(**{winner: ("an edge",)})])
        (loses,) = decide([estimate(sign * mean, run_sd, image_sd)], 0.01, [Doubts(**{loser: ("an edge",)})])
        assert wins.kind == ("not_comparable" if kind == "equivalent" else kind)
        assert loses.kind == ("undecided" if kind == "undecided" else "not_comparable")


def test_no_winner_by_the_margin_has_an_interval_that_reaches_below_it() -> None:
    rng = np.random.default_rng(7)
    for _ in range(300):
        pairs = [estimate(rng.normal(0, 0.02), *10 ** rng.uniform(-4, -1.5, 2)) for _ in range(rng.integers(1, 7))]
        for e, d in zip(pairs, decide(pairs, 0.01), strict=True):
            low, high = difference_interval(e)
            assert d.kind != "beats" or low >= 0.01 or high <= -0.01
            assert d.kind not in ("equivalent", "better_by_little") or abs(e.mean) < 0.01


def test_simultaneous_intervals_agree_with_holms_p() -> None:
    rng = np.random.default_rng(8)
    settled = 0
    for _ in range(200):
        pairs = [estimate(rng.normal(0, 0.03), 0.02, 0.01) for _ in range(6)]
        for e, d in zip(pairs, decide(pairs, 0.01), strict=True):
            assert (d.p < 0.05) == (d.low >= 0 or d.high <= 0)
            low, high = difference_interval(e)
            assert d.low <= max(low, 0 if d.p < 0.05 and e.mean > 0 else -1) and d.high >= min(high, 0 if d.p < 0.05 and e.mean < 0 else 1)
            settled += d.p < 0.05
    assert 100 < settled < 1000


def test_holm() -> None:
    assert st.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_equivalence_is_two_one_sided_tests() -> None:
    a = np.array([0.50, 0.504, 0.497, 0.501])
    b = np.array([0.499, 0.503, 0.50, 0.496])
    d = difference(runs_of(a, images=10**6), runs_of(b, images=10**6))
    tests = [
        stats.ttest_ind(a + shift, b, equal_var=False, alternative=side).pvalue for shift, side in ((0.01, "greater"), (-0.01, "less"))
    ]
    assert equivalence_p(d, 0.01) == pytest.approx(max(tests), rel=1e-5)
    low, high = difference_interval(d, 0.9)
    assert (equivalence_p(d, 0.01) < 0.05) == (low > -0.01 and high < 0.01)


def test_chances_sum_to_one_and_agree_with_the_interval() -> None:
    e = estimate(0.02, 0.01, 0.01)
    c = chances(e, 0.01)
    assert c.a_better + c.within + c.b_better == pytest.approx(1) and c.a_better > c.within > c.b_better
    low, _ = difference_interval(e)
    assert e.above(low) == pytest.approx(0.975, abs=1e-6)


def test_those_not_separated_from_the_best() -> None:
    means = {"a": 0.60, "b": 0.59, "c": 0.50}
    pairs = {(x, y): estimate(means[x] - means[y], 0.01, 0.01) for x, y in (("a", "b"), ("c", "a"), ("b", "c"))}
    decided = dict(zip(pairs, decide([*pairs.values()], 0.01), strict=True))
    assert not_separated_from_best(list(means), decided) == ["a", "b"]
    little = dict(zip(pairs, decide([*pairs.values()], 0.3), strict=True))
    assert not_separated_from_best(list(means), little) == ["a", "b", "c"], "worse by less than is worth having may be taken"
    barred = dict(zip(pairs, decide([*pairs.values()], 0.01, [Doubts(both=("an edge",))] * 3), strict=True))
    assert not_separated_from_best(list(means), barred) == ["a", "b", "c"]


def test_the_expected_loss_is_the_mean_of_what_the_other_is_better_by() -> None:
    e = estimate(0.01, 0.0, 0.02, runs=10_000)
    drawn = 0.01 + 0.02 * stats.t.rvs(999, size=200_000, random_state=0)
    assert expected_loss(e) == pytest.approx(np.maximum(drawn, 0).mean(), rel=0.02)
    assert expected_loss(estimate(-0.5, 0.01, 0.01)) < 1e-6 and expected_loss(estimate(0.5, 0.01, 0.01)) == pytest.approx(0.5, rel=0.01)


def test_data_sets_are_a_sample_and_few_are_no_generality() -> None:
    d = [0.03, 0.05, -0.01, 0.04, 0.02]
    pairs = [estimate(x, 0.004, 0.004) for x in d]
    got = across_datasets(pairs, decide(pairs, 0.01))
    expected = stats.ttest_1samp(d, 0).confidence_interval()
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high)) and got.general
    assert got.better == 4 and got.worse <= 1 and got.sd_between == pytest.approx(np.std(d, ddof=1), rel=0.1)
    alike = [estimate(0.02, 0.01, 0.01)] * 5
    lucky = across_datasets(alike, decide(alike, 0.01))
    assert lucky.high - lucky.low >= 2 * 1.96 * math.sqrt(alike[0].variance / 5), "that they agree to the digit is luck"
    assert not across_datasets(pairs[:4], decide(pairs[:4], 0.01)).general and math.isnan(
        across_datasets(pairs[:1], decide(pairs[:1], 0.01)).low
    )


# ---- forecasts and design -------------------------------------------------------------------------------


def test_a_forecast_decides_in_four_of_five_studies_that_go_on() -> None:
    """Studies are drawn as the forecast assumes: the truth around the mean seen, the variances as they are."""
    rng = np.random.default_rng(9)
    sd, k, mean = 0.03, 20, 0.016
    e = estimate(mean, sd, 0.0, runs=k, images=10**6)
    units, images, *_ = forecast(e, 0.001)
    assert units.more is not None and images.more is None and units.resource == "run"
    n, decided = units.more, []
    for _ in range(600):
        truth = mean + rng.normal(0, sd * math.sqrt(2 / k))
        new = truth + rng.normal(0, sd * math.sqrt(2 / n))
        later = (k * mean + n * new) / (k + n)
        decided.append(abs(later) > stats.t.ppf(0.975, 2 * (k + n) - 2) * sd * math.sqrt(2 / (k + n)))
    assert 0.72 < np.mean(decided) < 0.88


def test_a_forecast_names_the_source_that_limits() -> None:
    units, images, *_ = forecast(estimate(0.02, 0.0001, 0.02), 0.01)
    assert units.more is None and images.more and images.resource == "image"
    units, images, *_ = forecast(estimate(0.05, 0.04, 0.0001, searches=5), 0.01)
    assert units.more and units.resource == "search" and images.more is None
    units, images, *_ = forecast(estimate(0.003, 0.05, 0.05), 0.003)
    assert units.more is None and images.more is None
    sessions = Estimate(**{**vars(estimate(0.02, 0.0001, 0.02)), "images": Part(variance=0.0004, df=7.0, count=10)})
    assert forecast(sessions, 0.01)[1].resource == "session"
    assert forecast(sessions, 0.01)[1].more > 20, "ten sessions are not ten thousand images"


def test_more_runs_of_the_same_winners_shrink_the_seeds_part_alone() -> None:
    """Five searches agree, with noisy seeds, and then five differ, with quiet ones."""
    rng = np.random.default_rng(15)
    search = np.repeat(np.arange(5), 2)
    noise = np.array([0.06, -0.06] * 5) + 0.002 * rng.standard_normal(10)
    luck = np.array([0.03, -0.03, 0.02, -0.01, 0.0])[search]
    noisy = difference(runs_of(0.55 + noise + 0.3 * luck, search=search), runs_of(0.53 - noise + 0.3 * luck, search=search))
    within = noisy.runs[0].within
    assert within is not None and within.seeds == 2 and within.df == 5
    assert within.variance == pytest.approx(np.mean([runs_of(noise[search == r]).scores.var(ddof=1) for r in range(5)]) / 10, rel=0.01)
    quiet = difference(runs_of(0.55 + 0.01 * noise + luck, search=search), runs_of(0.53 + 0.01 * noise - luck, search=search))
    assert forecast(quiet, 0.01)[2].resource == "run" and forecast(quiet, 0.01)[2].more is None, "their luck stays"
    assert len(forecast(difference(runs_of(luck[::2], search=search[::2]), runs_of(luck[::2], search=search[::2])), 0.01)) == 2


def test_a_stricter_level_needs_more() -> None:
    e = estimate(0.05, 0.03, 0.001)
    loose, strict = (forecast(e, 0.01, level)[0].more for level in (0.05, 0.05 / 10))
    assert loose and strict and strict > loose


def test_the_first_look_has_all_of_alpha_and_all_later_ones_half_of_it() -> None:
    assert alpha_of_look(1) == 0.05 and alpha_of_look(2) == 0.0125
    assert sum(alpha_of_look(k) for k in range(2, 60)) <= 0.025 + 1e-9


@pytest.mark.slow
def test_adding_runs_and_looking_again_keeps_five_percent() -> None:
    rng, n = np.random.default_rng(13), 1500
    wrong = {True: 0, False: 0}
    for _ in range(n):
        a, b = rng.normal(0.5, 0.03, (2, 25))
        p = [difference(runs_of(a[:k]), runs_of(b[:k])).p() for k in (5, 10, 15, 20, 25)]
        for spend in wrong:
            wrong[spend] += any(q < (alpha_of_look(look) if spend else 0.05) for look, q in enumerate(p, 1))
    assert wrong[True] / n < 0.065 and wrong[False] / n > 0.1


def test_what_a_design_sees_it_names_in_four_of_five_studies() -> None:
    spread = Spread(search=0.02, seed=0.03, disagreement=0.2)
    sight = design(5, 1, 2000, spread)
    assert sight is not None
    rng, named = np.random.default_rng(10), []
    for _ in range(800):
        sides = rng.normal(0, math.hypot(0.02, 0.03), (2, 5)) + np.array([[sight.difference], [0]])
        image = rng.normal(0, math.sqrt(0.2 / 2000))
        parts = tuple(Part(variance=s.var(ddof=1) / 5, df=4, count=5) for s in sides)
        e = Estimate(mean=sides[0].mean() - sides[1].mean() + image, runs=parts, images=Part(variance=0.0001, df=1999, count=2000),
            unit="search", searches=5, resampled=2000)  # fmt: skip
        named.append(e.p() < 0.05)
    assert 0.72 < np.mean(named) < 0.9
    assert not sight.reaches(0.01) and design(1, 1, 2000, spread) is None
    assert design(20, 1, 10**6, Spread(search=0.001, seed=0.002, disagreement=0.1)).reaches(0.01)


# ---- one search's luck ----------------------------------------------------------------------------------


def test_search_luck_is_the_bootstrap_of_the_winner() -> None:
    rng = np.random.default_rng(11)
    scores = np.array([0.3, 0.5, np.nan, 0.45, 0.2])
    got = search_luck(scores, default=0.4)
    drawn = scores[rng.integers(5, size=(40_000, 5))]
    best = np.fmax(np.nanmax(np.where(np.isnan(drawn), -1, drawn), axis=1), 0.4)
    assert got.another_wins == pytest.approx(np.mean(best != 0.5), abs=0.01)
    assert got.chances == pytest.approx([0, np.mean(best == 0.5), 0, np.mean(best == 0.45), 0, np.mean(best == 0.4)], abs=0.01)
    assert got.likely == (1, 3) and got.gap == pytest.approx(0.05) and got.chances.sum() == pytest.approx(1)
    assert search_luck(scores).chances.sum() == pytest.approx(1)


def test_a_default_that_won_wins_again() -> None:
    got = search_luck(np.array([0.3, 0.2]), default=0.9)
    assert got.another_wins == 0 and got.likely == (2,) and got.gap == 0


# ---- the benchmark --------------------------------------------------------------------------------------


def test_the_benchmark_ends_with_one_object(monkeypatch, capsys) -> None:
    from benchmarks import verdict

    monkeypatch.setattr("sys.argv", ["verdict", "--studies", "4", "--only", "search sd 1 seed sd, 10 points", "--json"])
    verdict.main()
    ((name, row),) = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["worlds"].items()
    assert name == "search sd 1 seed sd, 10 points"
    assert {"false_claims", "false_claims_se", "coverage", "coverage_se", "power", "power_se", "width", "width_se", "old"} <= set(row)


def test_a_study_drawn_larger_continues_the_smaller_one() -> None:
    from benchmarks.worlds import Latent

    world = Latent(points=(4.0, 0.0), search=0.2, images=100)
    small, large = world.draw(3, 5, 1).splits[0], world.draw(3, 7, 1, 150).splits[0]
    assert all(np.array_equal(b[:5, :100], a) for a, b in zip(small.predicted, large.predicted, strict=True))
    assert np.diff(world.scores(3))[0] == pytest.approx(-0.04, abs=1e-6)
