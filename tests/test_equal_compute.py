"""Equal compute against cases that can be counted by hand."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from analysis.data.frames import Frames
from analysis.findings.equal_compute import best_within, equal_compute
from analysis.load import load
from tests.goldens import GOLDEN


def random_ones(frames: Frames, strategy: str) -> pd.Series:
    t = frames.trials
    return (t.strategy == strategy) & (t.origin == "random") & (t.stage == "search")


def changed(frames: Frames, trials: pd.DataFrame) -> pd.DataFrame:
    return equal_compute(dataclasses.replace(frames, trials=trials)).set_index("strategy")


def test_the_best_within_a_budget_is_the_mean_over_all_orders() -> None:
    scores, prices = np.array([0.2, 0.9, 0.5, 0.0]), np.array([1.0, 3.0, 1.0, 2.0])
    found, within = best_within(scores, prices, 4.0, orders=20_000)
    by_hand = []
    for order in itertools.permutations(range(4)):
        spent = np.cumsum(prices[list(order)])
        by_hand.append(max([scores[k] for k, s in zip(order, spent, strict=True) if s <= 4], default=0.0))
    assert found.mean() == pytest.approx(np.mean(by_hand), abs=0.005)
    assert within.min() >= 1 and np.array_equal(found, best_within(scores, prices, 4.0, orders=20_000)[0]), "seeded"
    assert best_within(scores, prices, 0.5)[1].max() == 0


def test_a_dear_strategy_is_not_judged_by_its_untuned_default() -> None:
    frames = load(GOLDEN.as_posix())
    t = frames.trials.copy()
    own = t[random_ones(frames, "partial")]
    pace = (own.seconds / own.images).median()
    found = equal_compute(frames).set_index("strategy")
    cheap, dear = found.loc["linear_probe"], found.loc["partial"]
    assert cheap.trials_within == cheap.trials == 4
    assert [cheap.expected, cheap.low, cheap.high] == pytest.approx([cheap.best_of_all] * 3)
    assert dear.budget_seconds == cheap.budget_seconds == pytest.approx(cheap.seconds_each * 4)
    assert dear.seconds_each == pytest.approx((own.images * pace).mean())
    t.loc[(t.origin == "default") & (t.stage == "search"), "val/macro_f1"] = 0.999
    again = changed(frames, t)
    assert again.expected.equals(found.expected) and again.budget_seconds.equals(found.budget_seconds)


def test_load_and_a_filled_cache_change_the_price_of_no_single_trial() -> None:
    frames = load(GOLDEN.as_posix())
    t = frames.trials.copy()
    slow = t[random_ones(frames, "partial")].index[0]
    before = equal_compute(frames).set_index("strategy").loc["partial"]
    t.loc[slow, "seconds"] *= 50
    after = changed(frames, t).loc["partial"]
    assert after.seconds_each < 3 * before.seconds_each


def test_divergence_scores_nothing_and_what_a_machine_lost_is_left_out() -> None:
    frames = load(GOLDEN.as_posix())
    probe = frames.trials[random_ones(frames, "linear_probe")].index
    t = frames.trials.copy()
    t.loc[probe, ["outcome", "val/macro_f1"]] = ["diverged", np.nan]
    assert changed(frames, t).loc["linear_probe", ["trials", "expected"]].tolist() == [4, 0.0]
    t.loc[probe[1:], ["images", "seconds"]] = 0  # diverged before an epoch was through
    assert changed(frames, t).loc["linear_probe", ["trials", "expected"]].tolist() == [4, 0.0]
    t = frames.trials.copy()
    t.loc[probe[0], ["outcome", "val/macro_f1"]] = ["failed", 0.99]
    row = changed(frames, t).loc["linear_probe"]
    assert row.trials == 3 and row.best_of_all < 0.99


def test_where_not_one_trial_fits_no_score_is_made_up() -> None:
    frames = load(GOLDEN.as_posix())
    t = frames.trials.copy()
    t.loc[random_ones(frames, "partial"), "seconds"] *= 1000
    row = changed(frames, t).loc["partial"]
    assert row.trials_within == 0 and np.isnan([row.expected, row.low, row.high]).all()
