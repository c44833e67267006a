"""The section "When": what a study of sizes says of itself, and that a study of one size says nothing of it."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import report
from analysis.data.frames import Frames
from analysis.figures import FIGURES, size_differences, sizes
from analysis.load import load
from analysis.verdict import Findings, findings
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.tracking.ledger import Ledger
from study.tracking.mirror import Mirror
from tests import sized
from tests.browser import page
from tests.goldens import GOLDEN

RISING = np.array([0.45, 0.53, 0.65, 0.75])
CROSSING = {"linear_probe": [0.40, 0.42, 0.45, 0.47], "partial": [0.55, 0.59, 0.65, 0.70], "full": list(RISING)}  # at 300 images
APART = {"partial": list(RISING + 0.12), "full": list(RISING)}


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return sized.write(tmp_path_factory.mktemp("crossed"), CROSSING)


@pytest.fixture(scope="module")
def found(crossed: Ledger) -> Findings:
    return findings(load(crossed), 100)


def test_one_sentence_names_the_pick_and_where_it_changes(found: Findings) -> None:
    (advice,) = found.advice
    assert advice.head.startswith("with about 1,000 images like these, full is the pick; below ") and advice.mark == "decided"
    assert " images partial is ahead, above it full (95 % interval" in advice.head
    crossing = found.when.crossings.set_index(["a", "b"]).loc[("partial", "full")]
    assert crossing.kind == "crosses" and crossing.low <= 300 <= crossing.high and crossing.a_below
    assert len(advice.pairs) == 3 and "linear_probe and partial: no crossing between 50 and 1,000 images" in advice.pairs
    assert "ten times the images (10,000) would bring full +" in advice.more
    assert advice.task.startswith("the task has 4 classes, its linear_probe scores 4") and ", full +2" in advice.task
    assert "each seed draws another part" in advice.scope and "fewer images were fewer steps" in advice.scope
    assert "\n" not in advice.text and advice.text.startswith("digits, resnet18: with about")


def test_tables_hold_every_size_and_pair(found: Findings) -> None:
    w = found.when
    assert sorted(set(w.sizes.place)) == [50, 100, 300, 1000] and len(w.sizes) == 12 and len(w.differences) == 12
    macro = found.strategies[found.strategies.metric == "macro_f1"]
    joined = w.sizes.merge(macro, on=["dataset", "train_fraction", "strategy"])
    assert (joined.mean_x == joined.mean_y).all() and np.allclose(joined.low_x, joined.low_y)
    both = w.differences.merge(found.pairs, on=["train_fraction", "a", "b"])
    assert np.allclose(both.difference_x, both.difference_y) and len(both) == 12


def test_the_reasons_are_asked_for_at_the_largest_size_alone(crossed: Ledger) -> None:
    frames = load(crossed)
    every, largest = frames.confirmed(), frames.at_largest()
    assert every.train_fraction.nunique() == 4 and set(largest.train_fraction) == {every.train_fraction.max()}
    assert set(largest.strategy) == set(every.strategy) and {q.train_fraction for q in largest.question} == {every.train_fraction.max()}
    assert len(largest) == (every.train_fraction == every.train_fraction.max()).sum()


def test_the_verdict_of_a_size_says_that_training_images_are_in_its_interval(found: Findings) -> None:
    part, whole = ([s for s in found.sentences if s.question.train_fraction == f][0].scope for f in (0.1, 1.0))
    assert "contains training images (5 parts of them, alike for both), seeds and test images" in part
    assert "one part of the training images" in part and "parts of them" not in whole and "one training set" in whole


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return load(sized.write(tmp_path_factory.mktemp("apart"), APART))


def test_where_nothing_changes_none_is_claimed(apart: Frames) -> None:
    (advice,) = findings(apart, 100).advice
    assert "partial is the pick; it does not change between 50 and 1,000 images" in advice.head
    assert "the study no linear_probe" in advice.task


def test_equal_steps_are_said_and_images_are_counted_once(apart: Frames) -> None:
    steps = dataclasses.replace(apart.study, protocol=Protocol(max_epochs=4, min_steps=500))
    passes = apart.trials.assign(images=apart.trials.images * 7)
    (advice,) = findings(dataclasses.replace(apart, study=steps, trials=passes), 100).advice
    assert "Every trial took 500 steps or more" in advice.scope and "about 1,000 images" in advice.head
    unsaid = dataclasses.replace(apart, trials=apart.trials.drop(columns="train_images"))
    assert set(findings(unsaid, 100).when.sizes.place) == {50, 100, 300, 1000}


def only(frames: Frames, keep: "pd.Series[bool]") -> Findings:
    return findings(dataclasses.replace(frames, trials=frames.trials[keep].reset_index(drop=True)), 100)


def test_few_seeds_and_few_sizes_are_said(crossed: Ledger) -> None:
    frames = load(crossed)
    t = frames.trials
    one = only(frames, t.number == 0)
    assert "with one run no interval" in one.advice[0].head and set(one.when.crossings.kind) == {"unknown"}
    assert "fewer than two runs have every size" in one.advice[0].more and one.when.sizes.low.isna().all()
    three = only(frames, t.train_fraction != 0.1)
    assert "a power law needs 4 sizes, there are 3" in three.advice[0].more
    lost = only(frames, ~((t.strategy == "full") & (t.train_fraction == 1) & (t.number < 2) & (t.stage == "confirm")))
    rows = lost.when.differences.set_index(["a", "b", "place"])
    assert rows.loc[("partial", "full", 1000.0)].runs == 3 and rows.loc[("partial", "full", 300.0)].runs == 5
    nothing = only(frames, t.stage == "search")
    assert nothing.advice == [] and nothing.when.panels == []
    half = only(frames, (t.strategy != "full") | (t.train_fraction < 1) | (t.stage == "search"))
    assert half.advice[0].head.startswith("with about 1,000 images like these, partial is the pick")


def test_a_study_of_one_size_says_nothing_of_sizes(tmp_path: Path) -> None:
    frames = load(GOLDEN.as_posix())
    found = findings(frames, 50)
    assert found.advice == [] and found.when.panels == [] and "subset" not in frames.trials
    report.write_report(str(GOLDEN), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert 'id="when"' not in text and "#when" not in text and "the study has one size of the training set" in text


@pytest.mark.slow
def test_when_is_said_the_same_from_mlflow_alone(tmp_path: Path) -> None:
    right = {"partial": [0.6, 0.7], "full": [0.4, 0.9]}
    ledger = sized.write(tmp_path / "here", right, fractions=(0.1, 1.0), seeds=3)
    own = report.write_report(ledger, tmp_path / "own.html", tables=str(tmp_path / "own"))
    ledger.add_facts(verdicts=own.verdicts)
    db = f"sqlite:///{tmp_path}/mlflow.db"
    assert not Mirror(ledger, db).sync().pending
    ledger.folder.remove("trials")
    summary = report.write_report(f"{db}#sized", tmp_path / "r.html", tables=str(tmp_path / "t"))
    assert summary.verdicts == own.verdicts and "full is the pick; below" in summary.verdicts[0]
    for name in ("sizes", "size_differences", "crossings", "ten_times", "advice", "figure_sizes", "figure_size_differences"):
        assert (tmp_path / "t" / f"{name}.csv").read_bytes() == (tmp_path / "own" / f"{name}.csv").read_bytes(), name


def test_the_page_shows_when_on_a_narrow_screen_too(crossed: Ledger, tmp_path: Path) -> None:
    summary = report.write_report(crossed, tmp_path / "r.html")
    assert (
        summary.verdicts[0].startswith("digits, resnet18: with about 1,000 images like these, full is the pick")
        and len(summary.verdicts) == 5
    )
    with page(width=390) as p:
        p.goto((tmp_path / "r.html").as_uri())
        assert p.locator(".advice").count() == 1 and p.locator("#when h3").count() == 2
        assert p.locator("#figure-sizes .main-svg").count() and p.locator("#figure-size_differences .main-svg").count()
        assert not p.requests_seen and not p.problems_seen
        assert p.evaluate("document.documentElement.scrollWidth") <= 390


def test_figures_mark_the_crossing_where_the_lines_meet(crossed: Ledger, found: Findings) -> None:
    frames = load(crossed)
    frame = sizes.compute(frames, found)
    stars = frame[(frame.kind == "crossing") & frame.shown]
    assert [(r.strategy, r.other) for r in stars.itertuples()] == [("partial", "full")]
    star = stars.iloc[0]
    for strategy in ("partial", "full"):
        curve = frame[(frame.kind == "mean") & (frame.strategy == strategy)]
        assert star.value == pytest.approx(sizes.at_size(curve, star.place))
    figure = sizes.draw(frame)
    assert sum(t.marker.symbol == "star" for t in figure.data) == 1 and figure.layout.xaxis.ticktext == ("50", "100", "300", "1,000")
    differences = size_differences.compute(frames, found)
    assert set(differences.leader) == {"full"} and set(differences.strategy) == {"partial", "linear_probe"}
    assert differences[differences.strategy == "partial"]["at"].nunique() == 1
    for spec in FIGURES:
        if spec.section == "When":
            assert "the study has one " in spec.draw(pd.DataFrame()).layout.annotations[0].text


def test_confirm_runs_of_the_made_up_study_are_those_a_sweep_would_ask_for(crossed: Ledger) -> None:
    """So these tests see what a real study leaves."""
    from study.conduct.after_search import confirm_asks

    study = crossed.study()
    assert study is not None
    planned = {a.trial_id for a in confirm_asks(study, crossed, crossed.confirmed_trials())}
    assert planned == {a.trial_id for a in crossed.asks() if a.stage.value == "confirm"}
    assert {TrialConfig.from_dict(a.config).subset for a in crossed.asks()} == set(range(6))
