"""The verdict of a study by outer folds, from the predictions of every network for its own fold."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from analysis.findings.across_studies import pair_studies
from analysis.findings.comparisons import Tables, compare_strategies, gather_all
from analysis.load import load
from analysis.page.by_class import by_question, differences, f1_runs, said_runs
from analysis.statistics.cross_fitting import OuterFolds, cross_fit, difference
from analysis.statistics.forecast import Spread, design
from analysis.verdict import findings
from study import load_study
from study.errors import ConfigError
from tests.sized import CLASSES, write


@pytest.mark.parametrize("passes", [1, 2])
def test_the_verdict_rests_on_passes_over_all_images(passes: int, tmp_path: Path) -> None:
    runs = 5 * passes
    ledger = write(
        tmp_path, {"partial": [0.8], "full": [0.6]}, (1.0,), seeds=runs, tests=300, searches=runs, folds=5, budget_check=0, spread=0.02
    )
    frames = load(ledger)
    (gathered,) = gather_all(frames)
    assert len(gathered.images) == len(set(gathered.images)) == 300 and gathered.nested
    assert {s: list(own) for s, own in gathered.predicted.items()} == {s: list(range(passes)) for s in ("partial", "full")}
    assert {len(trials) for own in gathered.trials.values() for trials in own.values()} == {5}
    said = {s: np.full((passes, 300), -1) for s in gathered.predicted}
    for strategy, own in gathered.trials.items():  # by another road: every run's own file, image by image
        for k, trials in own.items():
            for trial_id in trials:
                test = frames.predictions(trial_id)["test"]
                rows = [int(name[1:]) for name in test.images]
                assert (said[strategy][k, rows] == -1).all()
                said[strategy][k, rows] = test.logits.argmax(axis=1)
    order = np.argsort([int(name[1:]) for name in gathered.images])
    folds = OuterFolds(labels=gathered.labels[order], fold=np.arange(300) % 5, classes=CLASSES)
    expected = difference(cross_fit(said["partial"], folds), cross_fit(said["full"], folds))
    tables = Tables()
    compare_strategies(gathered, 200, tables)
    (pair,) = tables.pairs
    sign = 1 if pair.a == "partial" else -1
    assert sign * pair.estimate.mean == pytest.approx(expected.mean) and pair.estimate.half_width() == pytest.approx(expected.half_width())
    assert pair.estimate.searches == runs and pair.estimate.unit == "pass"
    assert len(tables.seeds) == 2 * 4 * passes and {row["searches"] for row in tables.strategies} == {runs}
    (sentence,) = findings(frames).sentences
    assert sentence.head.startswith("partial beats full") and f"contains {runs} searches" in sentence.scope


def made(root: Path, passes: int = 1, **fields):
    runs = 5 * passes
    given = {"seeds": runs, "searches": runs, "tests": 300, "folds": 5, "budget_check": 0, "spread": 0.02, **fields}
    return load(write(root, {"partial": [0.8], "full": [0.6]}, (1.0,), **given))


@pytest.mark.parametrize("passes", [1, 2])
def test_classes_are_scored_over_all_folds_and_each_image_contributes_its_derivative(passes: int, tmp_path: Path) -> None:
    frames = made(tmp_path, passes)
    found = findings(frames)
    (own,) = by_question(frames, found)
    mine, theirs = (f1_runs(own, s) for s in ("partial", "full"))
    apart = differences(mine, theirs)
    (pair,) = found.pairs.to_dict("records")
    sign = 1 if pair["a"] == "partial" else -1
    assert np.mean([d.mean for d in apart.values()]) == pytest.approx(sign * pair["difference"]) and len(apart) == CLASSES
    labels, said = own.gathered.labels, own.gathered.predicted["partial"]
    about = (labels == 2) | np.any([p == 2 for runs in own.gathered.predicted.values() for p in runs.values()], axis=0)
    if passes == 1:
        step, weights = 1e-5, np.ones(300)

        def f1(w: np.ndarray) -> float:
            return float(metrics.f1_score(labels, said[0], labels=[2], average=None, sample_weight=w)[0])

        slope = [(f1(weights + step * e) - f1(weights - step * e)) / (2 * step) for e in np.eye(300)[about]]
        assert mine[2].influence[0] == pytest.approx(slope, abs=1e-7) and not slope == pytest.approx([0.0] * len(slope))
    share = said_runs(own, "partial", [(2, 3)])[2, 3]
    assert share.scores == pytest.approx([(p[labels == 2] == 3).mean() for p in said.values()]) and len(share.scores) == passes
    assert all(np.isfinite([d.low, d.high]).all() and d.low < d.mean < d.high for d in apart.values())


def test_the_network_to_use_has_the_score_of_all_folds_networks(tmp_path: Path) -> None:
    results = load_study(made(tmp_path).ledger)
    scores = results.strategies[results.strategies.metric == "macro_f1"].set_index("strategy")["mean"]
    pick = results.pick("partial")
    assert pick.folds == 5 and len(pick.trials) == 1 and pick.test.mean == pytest.approx(scores["partial"])
    assert pick.test.low < pick.test.mean < pick.test.high and pick.together is None and pick.calibrated is not None
    with pytest.raises(ConfigError, match="its 5 networks were tested on other images each"):
        results.predictor("partial", ensemble=True)


def test_a_collapsed_run_of_one_fold_is_found(tmp_path: Path) -> None:
    """One network of ten falls below what its search had reached, on validation and on test."""
    frames = made(tmp_path, 2, seeds=10)
    last = frames.planned[next(c for c in frames.planned if "/partial/" in c)][3]
    epochs = frames.epochs.assign(**{"val/macro_f1": frames.epochs["val/macro_f1"].where(frames.epochs.trial_id != last, 0.1)})
    said = dict(frames.predictions(last))
    wrong = np.eye(CLASSES, dtype=np.float32)[(said["test"].labels + 1) % CLASSES]
    said["test"] = dataclasses.replace(said["test"], logits=wrong)
    for change, collapsed in ({}, 0), ({last: said}, 1):
        changed = dataclasses.replace(frames, epochs=epochs if change else frames.epochs, _cache=dict(change))
        rows = findings(changed).strategies
        assert rows[(rows.metric == "macro_f1") & (rows.strategy == "partial")].collapsed.tolist() == [collapsed]


def test_two_studies_are_paired_by_the_same_estimator(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a"), made(tmp_path / "b", spread=0.03)
    plain = load(write(tmp_path / "c", {"partial": [0.8], "full": [0.6]}, (1.0,), tests=300))
    found = {strategy: own for (_, strategy), own in pair_studies(a, b).items()}
    means = [findings(f).strategies.query("metric == 'macro_f1'").set_index("strategy")["mean"] for f in (a, b)]
    assert found["full"].mean == pytest.approx(means[1]["full"] - means[0]["full"]) and found["full"].low < found["full"].high
    assert all("by outer folds" in own.why_not for own in pair_studies(a, plain).values())


def test_what_a_design_can_see_goes_by_the_degrees_of_freedom_of_its_estimator(tmp_path: Path) -> None:
    """They are as many as the estimate of such a study has: K - 1 of one pass, K (m - 1) of m. Fewer see less."""
    for passes, df in ((1, 4), (2, 5), (3, 10)):
        (pair,) = findings(made(tmp_path / str(passes), passes)).pairs.to_dict("records")
        own = [design(5 * passes, 1, 300, Spread(), folds=folds) for folds in (5, 1)]
        assert pair["df_runs"] <= 2 * df + 1e-9 and all(own)
        assert own[0].half_width > own[1].half_width if passes > 1 else own[0] == own[1]
