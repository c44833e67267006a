"""The line to beat: solved as scikit-learn solves it, part of every study, of every verdict, and of no search."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from analysis.verdict import findings
from study import Results, run_study
from study.conduct.lines import line_asks, line_cells
from study.errors import ConfigError
from study.networks.image_sizes import own_size
from study.question.cell import Cell, grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import Origin, Stage
from study.strategies import EVERY, LINES
from study.training.exact import STRENGTHS, choose, fit_path

CELLS = grid(["digits"], ["efficientnet_lite0"], ["linear_probe", "partial"], (0.1,))
ASKED = Study(
    name="lined",
    cells=CELLS,
    protocol=Protocol(max_epochs=1, image_size=32, batch_size=64, views=1, train_eval_images=32, warmup_epochs=0.5),
    trials=1,
    random_trials=0,
    grace_epochs=1,
    confirm_seeds=2,
    line_size=40,
    budget_check=0,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_study(ASKED, results=tmp_path_factory.mktemp("lined"), local=True)


# ---- solved -------------------------------------------------------------------------------------------------


def planted(images: int, features: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    return (rng.normal(size=(images, features)) + 1.5 * rng.normal(size=(classes, features))[labels]).astype(np.float32), labels


@pytest.mark.parametrize(("images", "features", "classes"), [(60, 5, 3), (40, 90, 3), (50, 8, 2), (30, 70, 2)])
def test_each_strength_is_the_solution_that_scikit_learn_finds_alone(images: int, features: int, classes: int) -> None:
    rows, labels = planted(images, features, classes)
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    for found in fit_path(rows, labels, classes)[::3]:
        alone = LogisticRegression(C=found.strength, max_iter=5000, tol=1e-8).fit(standard, labels)
        logits = found.logits(rows)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        assert shares / shares.sum(axis=1, keepdims=True) == pytest.approx(alone.predict_proba(standard), abs=2e-3)


def test_weights_of_images_count_as_copies_of_them_would() -> None:
    rows, labels = planted(40, 6, 2)
    weights = np.where(labels == 0, 2.0, 1.0)
    weighted = fit_path(np.concatenate([rows, rows[labels == 0]]), np.concatenate([labels, labels[labels == 0]]), 2)[4]
    standard = fit_path(rows, labels, 2, weights)[4]
    agree = (weighted.logits(rows).argmax(axis=1) == standard.logits(rows).argmax(axis=1)).mean()
    assert agree > 0.9  # the same loss; only what features are standardised by differs


def test_a_class_without_training_images_is_never_named_and_a_feature_that_never_varies_never_counts() -> None:
    rows, labels = planted(60, 6, 3)
    rows[:, 2] = 7.0
    for found in fit_path(rows, np.where(labels == 2, 3, labels), 5):
        assert not {2, 4} & set(found.logits(rows).argmax(axis=1)) and np.isfinite(found.weight).all()
        assert abs(found.weight[[0, 1, 3]][:, 2]).max() < 1e-6


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 class"):
        fit_path(np.ones((4, 2)), np.zeros(4, int), 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=11))
@settings(max_examples=100, deadline=None)
def test_the_strength_with_the_best_score_is_chosen_and_of_equal_ones_the_likeliest(figures: list[tuple[int, int]]) -> None:
    place = choose([{"macro_f1": f, "nll": n} for f, n in figures])
    assert figures[place][0] == max(f for f, _ in figures)
    assert figures[place][1] == min(n for f, n in figures if f == figures[place][0])


# ---- asked for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINES)
def test_no_study_asks_for_what_every_study_has(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is part of every study"):
        dataclasses.replace(ASKED, cells=(*CELLS, dataclasses.replace(CELLS[0], strategy=name)))


def test_seeds_solve_nothing_anew_where_all_see_the_same_images() -> None:
    whole = dataclasses.replace(ASKED, cells=grid(["digits"], ["efficientnet_lite0"], ["linear_probe", "partial"]), confirm_seeds=5)
    assert [a.config["cell"]["strategy"] for a in line_asks(whole, [])] == ["features", "features_small"]
    parts = [a for a in line_asks(ASKED, []) if a.config["cell"]["strategy"] == "features"]
    assert [a.config["subset"] for a in parts] == [1, 2] and [a.number for a in parts] == [0, 1]


def test_the_line_is_asked_at_the_networks_own_size_and_at_the_studys() -> None:
    sizes = {
        a.config["cell"]["strategy"]: a.config["protocol"]["image_size"] for a in line_asks(dataclasses.replace(ASKED, line_size=0), [])
    }
    assert sizes == {"features": own_size("tf_efficientnet_lite0"), "features_small": 32}
    large = dataclasses.replace(ASKED, protocol=dataclasses.replace(ASKED.protocol, image_size=224), line_size=0)
    assert {a.config["cell"]["strategy"] for a in line_asks(large, [])} == {"features"}


def test_what_does_not_start_from_pretrained_weights_has_no_frozen_features() -> None:
    assert line_cells(dataclasses.replace(ASKED, cells=grid(["digits"], ["resnet18"], ["scratch", "random_probe"]))) == []


def test_its_trials_have_nothing_that_was_tuned() -> None:
    ask = line_asks(ASKED, [])[0]
    config = TrialConfig.from_dict(ask.config)
    assert config.id == ask.trial_id and config.tuned() == {} and ASKED.ranges(config.cell) == {}
    assert (ask.stage, ask.origin) == (Stage.CONFIRM, Origin.LINE)


# ---- in a study ---------------------------------------------------------------------------------------------


def test_its_test_score_is_that_of_the_predictions_it_left(run: Results) -> None:
    frames = run.frames
    rows = frames.trials[frames.trials.origin == "line"]
    assert set(rows.strategy) == {"features", "features_small"} and (rows.outcome == "completed").all()
    found = findings(frames)
    own = found.strategies[(found.strategies.metric == "macro_f1") & (found.strategies.strategy == "features")].iloc[0]
    tests = [frames.predictions(t)["test"] for t in rows[rows.strategy == "features"].trial_id]
    assert own["mean"] == pytest.approx(np.mean([f1_score(p.labels, p.logits.argmax(axis=1), average="macro") for p in tests]))


def test_it_takes_part_in_the_verdict_and_the_yardstick_beside_it_does_not(run: Results) -> None:
    found = run.findings
    assert {frozenset(p) for p in zip(found.pairs.a, found.pairs.b, strict=True)} == {
        frozenset(p) for p in (("features", "partial"), ("features", "linear_probe"), ("partial", "linear_probe"))
    }
    assert "features_small" in set(found.strategies.strategy)
    assert not found.pairs.reasons.str.contains("had 0 trials").any()  # what is solved needs no search


def test_a_study_that_training_does_not_win_says_so_first(run: Results) -> None:
    (sentence,) = run.findings.sentences
    assert sentence.head.startswith("Training is not shown to beat frozen features (the line to beat)")


def test_the_network_to_use_may_be_the_line(run: Results) -> None:
    picks = {p.cell.strategy: p for p in run.findings.picks}
    assert picks["features"].settings.keys() == {"strength"} and picks["features"].settings["strength"] in STRENGTHS
    assert len(run.predictor("features").classes) == 10


def test_the_test_set_was_opened_once_and_for_the_line_as_well(run: Results) -> None:
    (opening,) = run.frames.ledger.test_openings()
    assert {a.trial_id for a in run.frames.ledger.asks(Stage.CONFIRM)} == set(opening["trials"])


def test_it_is_solved_before_anything_is_searched_and_never_again(run: Results) -> None:
    asks = run.frames.ledger.asks()
    lines = [a for a in asks if a.origin is Origin.LINE]
    assert max(a.sequence for a in lines) < min(a.sequence for a in asks if a.origin is not Origin.LINE)
    before = {a.trial_id: run.frames.ledger.attempts(a.trial_id) for a in lines}
    run_study(ASKED, results=Path(run.folder).parent, local=True)
    assert {a.trial_id: run.frames.ledger.attempts(a.trial_id) for a in lines} == before


def test_what_is_solved_once_stands_beside_every_seed(tmp_path: Path) -> None:
    whole = dataclasses.replace(ASKED, cells=tuple(Cell(**{**vars(c), "train_fraction": 1.0}) for c in CELLS),
        protocol=dataclasses.replace(ASKED.protocol, batch_size=512))  # fmt: skip
    found = run_study(whole, results=tmp_path, local=True).findings
    own = found.strategies[(found.strategies.metric == "macro_f1")].set_index("strategy")
    assert own.at["features", "se_runs"] == 0 < own.at["features", "se_images"] and own.at["partial", "se_runs"] > 0
    assert (found.runs.groupby(["trial_id", "metric"]).size() == 1).all()


def test_where_nothing_is_confirmed_the_test_set_stays_closed_for_the_line_too(tmp_path: Path) -> None:
    ledger = run_study(dataclasses.replace(ASKED, confirm_seeds=0), results=tmp_path, local=True).frames.ledger
    lines = [a for a in ledger.asks() if a.origin is Origin.LINE]
    assert lines and all(ledger.result(a.trial_id).metrics["val/macro_f1"] > 0.5 for a in lines if "small" not in a.cell)
    assert ledger.test_openings() == [] and not any(ledger.measurements(a.trial_id) for a in lines)


def test_every_line_is_known_by_its_name() -> None:
    assert LINES.items() <= EVERY.items() and all(cls.exact for cls in LINES.values())
    assert not any(cls.exact or cls.yardstick for name, cls in EVERY.items() if name not in LINES)
    assert json.dumps(sorted(LINES)) == '["features", "features_small"]'
