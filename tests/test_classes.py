"""Differences by class and cell of the confusion matrix, against other ways to the same numbers."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics

from analysis.data.question import Question
from analysis.figures import class_differences, confusion
from analysis.findings.comparisons import Gathered
from analysis.load import load
from analysis.page.by_class import Classes, differences, f1_runs, said_runs
from analysis.statistics import resampling as st
from analysis.statistics.intervals import difference
from analysis.verdict import findings
from tests.goldens import GOLDEN

HERE = Question(dataset="made_up", splits="official", backbone="resnet18", train_fraction=1.0)


def made_up(right: dict[str, list[float]], images: int = 400, seeds: int = 6, groups: np.ndarray | None = None, seed: int = 0) -> Classes:
    """Return runs of two strategies on three classes.

    `right` is by strategy the share predicted correctly by class. Errors go to the next class.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    hard = rng.random(images)  # an image is as hard for one as for another
    predicted = {
        s: {
            k: np.where(0.7 * hard + 0.3 * rng.random(images) < np.array(share)[labels], labels, (labels + 1) % 3)
            for k in range(seeds)
        }
        for s, share in right.items()
    }  # fmt: skip
    gathered = Gathered(
        question=HERE,
        images=np.arange(images).astype(str),
        labels=labels,
        groups=groups,
        fold=np.zeros(images, int),
        searches=dict.fromkeys(range(seeds), 0),
        predicted=predicted,
    )
    return Classes(gathered=gathered, names=["a", "b", "c"], ranked=list(right))


def test_f1_by_class_is_that_of_scikit_learn_and_its_mean_the_verdicts() -> None:
    own = made_up({"one": [0.5, 0.6, 0.7], "other": [0.5, 0.6, 0.7]})
    found = f1_runs(own, "one", 50)
    for k, said in enumerate(own.gathered.predicted["one"].values()):
        expected = metrics.f1_score(own.gathered.labels, said, average=None)
        assert [found[c].scores[k] for c in range(3)] == pytest.approx(expected)
    (again,) = own.gathered.resample(50)
    drawn = np.repeat(np.arange(400), again.weights[7])
    expected = metrics.f1_score(own.gathered.labels[drawn], own.gathered.predicted["one"][0][drawn], average=None)
    assert [found[c].resampled[0, 7] for c in range(3)] == pytest.approx(expected)


def test_a_class_that_gains_is_seen_and_the_others_are_not() -> None:
    own = made_up({"one": [0.8, 0.6, 0.5], "other": [0.5, 0.6, 0.5]})
    one, other = f1_runs(own, "one"), f1_runs(own, "other")
    found = differences(one, other)
    assert found[0].seen and found[0].low > 0
    e = difference(one[0], other[0])
    assert (found[0].mean, found[0].high) == (pytest.approx(e.mean), pytest.approx(e.mean + e.half_width()))
    assert e.images.df == pytest.approx(133), "images of this class, not of the whole test set"
    cells = [(0, 0), (0, 1), (1, 1), (2, 0)]
    said = differences(said_runs(own, "one", cells), said_runs(own, "other", cells))
    assert said[0, 0].low > 0 and said[0, 1].high < 0 and said[0, 0].mean == pytest.approx(-said[0, 1].mean)
    assert not said[1, 1].seen and not said[2, 0].seen


def test_without_a_difference_one_interval_in_twenty_misses_zero() -> None:
    missed = []
    for seed in range(60):
        own = made_up({"one": [0.5, 0.6, 0.7], "other": [0.5, 0.6, 0.7]}, images=150, seed=seed)
        missed += [d.seen for d in differences(f1_runs(own, "one", 200), f1_runs(own, "other", 200)).values()]
    assert np.mean(missed) < 0.1


def test_a_class_of_one_session_and_one_that_is_not_there() -> None:
    groups = np.where(np.arange(400) % 3 == 0, 0, 1 + np.arange(400) % 40)
    own = made_up({"one": [0.9, 0.6, 0.7], "other": [0.2, 0.6, 0.7]}, groups=groups)
    found = differences(f1_runs(own, "one"), f1_runs(own, "other"))
    assert np.isnan(found[0].low) and not found[0].seen and np.isfinite(found[1].low)
    own = dataclasses.replace(own, names=["a", "b", "c", "never"])
    assert set(f1_runs(own, "one")) == {0, 1, 2}


def test_folds_are_the_unit_and_one_without_the_class_is_left_out() -> None:
    own = made_up({"one": [0.9, 0.6, 0.7], "other": [0.3, 0.6, 0.7]}, images=900)
    own.gathered.fold = np.arange(900) // 225
    last = own.gathered.fold == 3
    own.gathered.labels = np.where(last & (own.gathered.labels == 2), 1, own.gathered.labels)
    one, other = f1_runs(own, "one", 50), f1_runs(own, "other", 50)
    assert len(np.unique(one[0].fold)) == 4 and len(np.unique(one[2].fold)) == 3
    found = differences(one, other)
    by_fold = [(one[0].scores - other[0].scores)[one[0].fold == f].mean() for f in range(4)]
    assert found[0].mean == pytest.approx(np.mean(by_fold)) and found[0].seen
    assert found[0].high - found[0].mean == pytest.approx(stats.sem(by_fold) * stats.t.ppf(0.975, 3))


def test_the_figures_show_both_roads(tmp_path: Path) -> None:
    frames = load(GOLDEN.as_posix())
    found = findings(frames, 50)
    by_class, cells = class_differences.compute(frames, found), confusion.compute(frames, found)
    means = found.strategies[found.strategies.metric == "macro_f1"].set_index("strategy")["mean"]
    assert by_class.f1_best.mean() == pytest.approx(means["partial"]) and by_class.f1.mean() == pytest.approx(means["linear_probe"])
    assert by_class.difference.mean() == pytest.approx(means["partial"] - means["linear_probe"])
    assert set(by_class.seen) == {True, False}
    best, other = (cells[cells.strategy == s].reset_index(drop=True) for s in ("partial", "linear_probe"))
    hit = (best["count"] + other["count"]) > 0
    assert (best.minus[hit] == "linear_probe").all() and best.difference[~hit].isna().all() and other.difference.isna().all()
    assert best.difference[hit].tolist() == pytest.approx((best.share - other.share)[hit].tolist())
    grey, coloured = confusion.draw(cells).data[-2:]
    crosses = ((best.low <= 0) & (best.high >= 0)).to_numpy().reshape(10, 10)
    assert np.array_equal(~np.isnan(grey.z), crosses) and not (~np.isnan(coloured.z) & crosses).any() and np.isfinite(coloured.z).any()
    assert "<b>partial minus linear_probe</b>" in {a.text for a in confusion.draw(cells).layout.annotations}
    drawn = class_differences.draw(by_class)
    faint = [t for t in drawn.data if t.marker.color == class_differences.GREY]
    assert sum(len(t.x) for t in faint) == (~by_class.seen).sum()


def test_one_strategy_has_nothing_to_differ_from() -> None:
    frames = load(GOLDEN.as_posix())
    alone = dataclasses.replace(frames, trials=frames.trials[frames.trials.strategy == "partial"])
    found = findings(alone, 50)
    assert class_differences.compute(alone, found).empty
    cells = confusion.compute(alone, found)
    assert isinstance(cells, pd.DataFrame) and cells.difference.isna().all() and len(confusion.draw(cells).data) == 1
    assert st.RESAMPLES >= 1000
