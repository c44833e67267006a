"""The size of the data: a planted crossing is found and covered, none is invented, the law beyond what was measured is the planted one."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.statistics import resampling as st
from analysis.statistics.crossing import Point, crossing, fit_power_law, minus, ten_times
from analysis.statistics.intervals import mean_estimate
from analysis.statistics.scored_runs import Runs
from benchmarks.sizes import AT, RISING, SIZES, simulate, study


def test_a_planted_crossing_lies_in_its_interval() -> None:
    """It does in at least 90 of 100 studies. `python -m benchmarks.sizes` has more of them."""
    rng = np.random.default_rng(0)
    found = [study(0.5, 0.0, rng) for _ in range(100)]
    assert sum(c.low <= AT <= c.high for c in found) >= 90
    assert sum(c.kind == "crosses" for c in found) >= 80 and not any(c.kind == "none" for c in found)
    assert all(not c.a_below for c in found if c.kind == "crosses")
    at = np.array([c.at for c in found if c.kind == "crosses"])
    assert abs(np.median(np.log(at / AT))) < 0.15
    assert np.median([math.log(c.high / c.low) for c in found]) < math.log(4), "it says something"


def test_where_none_is_planted_none_is_claimed() -> None:
    rng = np.random.default_rng(1)
    far = [study(0.0, 1.0, rng) for _ in range(40)]
    assert sum(c.kind == "none" for c in far) >= 36 and all(math.isnan(c.at) for c in far if c.kind == "none")
    same = [study(0.0, 0.0, rng) for _ in range(40)]
    assert sum(c.kind == "crosses" for c in same) <= 4 and sum(c.kind == "unclear" for c in same) >= 34


def test_runs_that_share_their_training_images_are_paired() -> None:
    """The effect of a subset on both strategies is not in their difference."""
    (a, b), rng = simulate([RISING, RISING], np.random.default_rng(3)), np.random.default_rng(4)
    luck = 0.1 * rng.standard_normal(5)
    moved = (
        [replace(p, runs=replace(p.runs, scores=p.runs.scores + luck)) for p in a],
        [replace(p, runs=replace(p.runs, scores=p.runs.scores + luck)) for p in b],
    )
    for x, y, u, v in zip(a, b, *moved, strict=True):
        assert mean_estimate(minus(u, v).runs).variance == pytest.approx(mean_estimate(minus(x, y).runs).variance)


def made(scores: list[list[float]], seeds: list[list[int]] | None = None, fold: list[int] | None = None) -> list[Point]:
    """Return points of given scores by size and run, without uncertainty from images."""
    return [
        Point(
            place=float(SIZES[m]),
            keys=tuple((k, fold[k] if fold else 0) for k in (seeds[m] if seeds else range(len(own)))),
            runs=Runs(
                scores=np.array(own),
                search=np.zeros(len(own), int),
                resampled=np.zeros((len(own), 4)),
                units=st.image_units(1000, None),
                fold=None if fold is None else np.array(fold),
            ),
        )
        for m, own in enumerate(scores)
    ]


def test_a_crossing_is_interpolated_in_log_n_and_ends_where_it_was_measured() -> None:
    c = crossing(made([[-0.2, -0.22, -0.18], [-0.1, -0.11, -0.09], [0.1, 0.11, 0.09]]))
    assert c.kind == "crosses" and c.changes == 1 and c.at == pytest.approx(math.sqrt(100 * 200))
    assert c.smallest == 50 < c.low < c.at < c.high < c.largest == 200 and not c.below and not c.above
    assert c.a_better and c.b_better and not c.a_below
    wide = crossing(made([[-0.3, 0.3, 0.05], [0.1, -0.1, 0.01]]))
    assert wide.kind == "unclear" and wide.below and wide.above and math.isnan(wide.at) and not wide.a_better and not wide.b_better
    assert (wide.low, wide.high) == (50, 100), "the ends as they were counted"


def test_with_folds_a_fold_is_what_repeats() -> None:
    """Two seeds run on each of three folds. However far apart they are within a fold, the interval is that of the folds' means."""
    means = [[-0.2, -0.22, -0.18], [0.1, 0.11, 0.09]]
    runs = [[v + s for s in (-0.05, 0.05) for v in own] for own in means]
    folds = crossing(made(runs, fold=[0, 1, 2, 0, 1, 2]))
    plain = crossing(made(means))
    assert (folds.kind, folds.at) == ("crosses", pytest.approx(plain.at))
    assert (folds.low, folds.high) == (pytest.approx(plain.low, rel=0.01), pytest.approx(plain.high, rel=0.01))
    more = ten_times(made([[v + s for s in (-0.05, 0.05) for v in (0.3 + m / 10, 0.31 + m / 10)] for m in range(4)], fold=[0, 1, 0, 1]))
    assert not more.why_not and more.low < more.score < more.high


def test_of_several_changes_the_least_contradicted_is_named() -> None:
    c = crossing(made([[-0.2, -0.3, -0.1], [0.01, -0.02, 0.02], [-0.2, -0.3, -0.1], [0.3, 0.2, 0.4]]))
    assert c.changes == 3 and 200 < c.at < 400


@pytest.mark.parametrize("few", [[[0.1], [0.2]], [[0.1, 0.2]], []], ids=["one run", "one size", "nothing"])
def test_too_little_says_so(few: list[list[float]]) -> None:
    c = crossing(made(few))
    assert c.kind == "unknown" and math.isnan(c.low)


def test_only_runs_that_both_have_are_compared() -> None:
    a, b = made([[0.5, 0.7, 0.9]], [[1, 2, 3]]), made([[0.1, 0.4]], [[3, 2]])
    d = minus(a[0], b[0])
    assert d.keys == ((2, 0), (3, 0)) and d.runs.scores == pytest.approx([0.3, 0.8])
    c = crossing([*made([[0.1, 0.3]], [[1, 2]]), *made([[], [-0.1, -0.4]], [[], [2, 9]])[1:]])
    assert c.kind == "unknown" and c.at == pytest.approx(50 * 2 ** (0.2 / 0.45)), "one run has both sizes"


# ---- ten times the images --------------------------------------------------------------------------------


def test_the_law_through_exact_means_is_the_planted_one() -> None:
    n = SIZES.astype(float)
    means = (0.8 - 2.0 * n**-0.5)[None, :]
    there = fit_power_law(n, means, np.ones(5), np.array([8000.0, 80.0]))[0]
    assert there == pytest.approx([0.8 - 2.0 * 8000**-0.5, 0.8 - 2.0 * 80**-0.5], abs=2e-3)
    assert fit_power_law(n, np.full((1, 5), 0.4), np.ones(5), np.array([8000.0]))[0] == pytest.approx(0.4)
    falling = fit_power_law(n, np.linspace(0.5, 0.3, 5)[None, :], np.ones(5), np.array([8000.0]))[0]
    assert falling == pytest.approx(0.4), "more images never cost: a falling curve is taken as flat"


def test_what_ten_times_bring_is_covered() -> None:
    truth, hits, rng = 0.8 - 2.0 * SIZES**-0.5, 0, np.random.default_rng(5)
    for _ in range(60):
        training = rng.standard_normal((5, 5)) * 0.02 + rng.standard_normal((1, 5)) * 0.01
        more = ten_times(made((truth[:, None] + training).tolist()))
        hits += more.low <= 0.8 - 2.0 * 8000**-0.5 <= more.high
        assert more.images == 8000 and more.gain_low <= more.gain <= more.gain_high and more.low <= more.score <= more.high <= 1
    assert hits >= 54


def test_means_that_lie_off_the_law_widen_its_interval() -> None:
    noise = np.random.default_rng(6).standard_normal((5, 5)) * 0.002
    law = 0.8 - 2.0 * SIZES**-0.5
    smooth, bent = (ten_times(made((m[:, None] + noise).tolist())) for m in (law, law + np.array([0.05, 0, -0.05, 0, 0.05])))
    assert bent.gain_high - bent.gain_low > 2 * (smooth.gain_high - smooth.gain_low)


@pytest.mark.parametrize(
    ("scores", "why"),
    [([[0.1, 0.2]] * 3, "needs 4 sizes, there are 3"), ([[0.1]] * 4, "fewer than two runs"), ([], "needs 4 sizes, there are 0")],
)
def test_what_cannot_be_extended_says_why(scores: list[list[float]], why: str) -> None:
    more = ten_times(made(scores))
    assert why in more.why_not and math.isnan(more.score)
