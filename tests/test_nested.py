"""The verdict of a study by outer folds: from what every network said of its own fold."""

from pathlib import Path

import numpy as np
import pytest

from analysis.findings.comparisons import Tables, compare_strategies, gather_all
from analysis.load import load
from analysis.statistics.cross_fitting import OuterFolds, cross_fit, difference
from analysis.verdict import findings
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
