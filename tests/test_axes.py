"""Budgets and image sizes as questions: from a study's file to its page, and the parts that such a study leaves unchanged."""

import dataclasses
import json
import shutil
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from analysis import report
from analysis.data.axes import AXES, IMAGES, PIXELS, STEPS
from analysis.data.frames import Frames
from analysis.data.question import COLUMNS, Question
from analysis.figures import sizes
from analysis.load import load
from analysis.page.model_card import model_card
from analysis.verdict import Findings, findings
from study import deliver, load_study, run_study
from study.conduct.lines import line_asks, line_cells, line_config
from study.console.progress import Names
from study.errors import ConfigError
from study.question.as_python import as_source
from study.question.cell import QUESTION, Cell, grid, question_json, question_of
from study.question.growth import compare, grow
from study.question.studies import find_study, narrow
from study.question.study_config import Study
from study.question.training_settings import Protocol, stretched
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Stage
from study.search.confirmed import checks, factors_of
from study.search.optuna_cells import CellSearch
from study.tracking.ledger import Ledger
from study.tracking.mirror import Mirror
from study.tracking.names import cell_names
from study.tracking.reader import ask_of
from tests import sized
from tests.browser import page

DIGITS = (["digits"], ["efficientnet_lite0"], ["linear_probe", "partial"])
PLAIN = Cell(dataset="digits", backbone="efficientnet_lite0", strategy="partial", train_fraction=0.1)


def asking(budgets: tuple[int, ...] = (1, 3), image_sizes: tuple[int, ...] = (0,), **fields: Any) -> Study:
    protocol = Protocol(max_epochs=1, image_size=32, batch_size=64, views=1, train_eval_images=32, warmup_epochs=0.5)
    own = {
        "name": "asking",
        "cells": grid(*DIGITS, (0.1,), budgets, image_sizes),
        "protocol": protocol,
        "trials": 1,
        "random_trials": 0,
        "grace_epochs": 1,
        "confirm_seeds": 2,
        "line_size": 32,
        "budget_check": 0,
    }
    return Study(**{**own, **fields})


# ---- what is asked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [PLAIN, *(dataclasses.replace(PLAIN, budget=b, image_size=s) for b, s in product((1, 3), (0, 64)))])
def test_a_cell_is_its_json_and_its_id_and_says_only_what_it_uses(value: Cell) -> None:
    config = TrialConfig.default(value, Protocol())
    assert TrialConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    used = set(config.as_dict()["cell"]) & {"budget", "image_size"}
    assert used == {n for n, usual in (("budget", 1), ("image_size", 0)) if getattr(value, n) != usual}
    assert (config.id == TrialConfig.default(PLAIN, Protocol()).id) == (not used)
    assert value.id.startswith(PLAIN.id) and (value.id == PLAIN.id) == (not used) and value.id.count("/") == PLAIN.id.count("/")
    assert question_of(question_json(value.question)) == value.question == question_of(config.as_dict()["cell"])


def test_ids_names_and_questions_tell_all_cells_of_a_study_apart() -> None:
    study = asking((1, 3, 10), (24, 32))
    for told in (lambda c: c.id, Names([c.id for c in study.cells]), cell_names(study.cells).get):
        keys = {told(c.id if isinstance(told, Names) else c) for c in study.cells}
        assert len(keys) == len(study.cells)
    same = {c: Question.of_cell(c, study) for c in study.cells}
    for a, b in product(study.cells, repeat=2):
        assert (a.question == b.question) == (same[a] == same[b])
    for q in same.values():
        assert Question.of(q.columns) == q and tuple(q.columns) == COLUMNS and len(COLUMNS) == len(QUESTION)
    assert {q.lines[-2:] for q in same.values()} == {(f"{e} epoch{'s' * (e > 1)}", f"{px} px") for e, px in product((1, 3, 10), (24, 32))}


def test_a_question_of_a_study_that_varies_neither_is_what_it_was() -> None:
    (question,) = {Question.of_cell(c, asking((1,))) for c in asking((1,)).cells}
    assert question == Question.of(vars(PLAIN)) and question.name == "digits, efficientnet_lite0, 10% of the training images"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budgets": (0,)}, r"budget must be a whole number >= 1 .*budgets=\(1, 3, 10\)\), not 0"),
        ({"budgets": (1, -3)}, r"not -3"),
        ({"budgets": (1, 1.5)}, r"not 1\.5"),
        ({"budgets": (True,)}, r"not True"),
        ({"budgets": (1, 3, 1)}, r"budgets names 1 twice\. Give a budget once"),
        ({"budgets": ()}, r"budgets must be a tuple .* not \(\)"),
        ({"budgets": 3}, r"budgets must be a tuple .* not 3"),
        ({"image_sizes": (-64,)}, r"image_size must be a whole number >= 0 pixels \(0 = the protocol's\), not -64"),
        ({"image_sizes": (64.0,)}, r"not 64\.0"),
        ({"image_sizes": (64, 64)}, r"image_sizes names 64 twice"),
    ],
)
def test_what_cannot_be_asked_is_one_line(given: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        grid(*DIGITS, **given)
    assert "\n" not in str(error.value)


def test_a_size_of_images_is_named_once() -> None:
    with pytest.raises(ConfigError, match=r"confirm_size 64 and image_sizes do not go together.*Leave out one"):
        asking((1,), (24, 32), confirm_size=64)
    with pytest.raises(ConfigError, match=r"twice: image_size 0 means the protocol's, which is 32\. Leave out one of 0 and 32"):
        asking((1,), (0, 32))
    assert len(asking((1,), (0, 24)).cells) == 4
    with pytest.raises(ConfigError, match=r"image_size 64 would change nothing: asking asks at 24, 32 px"):
        narrow(asking((1,), (24, 32)), image_size=64)


def test_a_study_written_as_source_asks_the_same(tmp_path: Path) -> None:
    for study in (asking((1,)), asking((1, 3)), asking((3,), (24, 32)), asking((1, 3), (24, 32))):
        uneven = dataclasses.replace(study, cells=study.cells[1:])
        for own in (study, uneven):
            path = tmp_path / "written.py"
            path.write_text(as_source(own, "A study."))
            assert find_study(str(path)) == own and Study.from_dict(json.loads(json.dumps(own.as_dict()))) == own
    other = narrow(asking((1, 3)), datasets=["mini_weeds"])
    assert {c.budget for c in other.cells} == {1, 3} and {c.dataset for c in other.cells} == {"mini_weeds"}


# ---- how it is trained ---------------------------------------------------------------------------------------


def test_a_budget_stretches_all_that_goes_by_epochs() -> None:
    study = asking((1, 4), (0, 24), protocol=Protocol(max_epochs=5, image_size=32, views=5, min_steps=7), grace_epochs=2)
    for cell in study.cells:
        own = study.protocol_of(cell)
        assert own == dataclasses.replace(stretched(study.protocol, cell.budget), image_size=cell.image_size or 32)
        ask = CellSearch(cell, study).ask(0)
        assert TrialConfig.from_dict(ask.config).protocol == own
        stops = CellSearch(cell, study).stops(dataclasses.replace(ask, origin=Origin.TPE))
        assert stops == tuple(n * cell.budget for n in (2,)), "the same shares of the schedule"


def test_the_line_to_beat_is_solved_once_for_all_budgets_and_sizes_below_the_networks() -> None:
    plain, asked = asking((1,)), asking((1, 3, 10))
    assert [a.config for a in line_asks(asked, ())] == [a.config for a in line_asks(plain, ())]
    several = asking((1, 3), (16, 24, 32, 48))
    solved = {(c.strategy, config.protocol.image_size) for c in line_cells(several) if (config := line_config(c, several)) is not None}
    assert solved == {("features", 32), ("features", 48), ("features_small", 16), ("features_small", 24)}
    ids = [a.trial_id for a in line_asks(several, ())]
    assert len(set(ids)) == len(ids)


def test_only_the_longest_of_several_budgets_is_checked() -> None:
    study = asking((1, 3, 10), (24, 32), budget_check=3)
    assert {c.budget for c in study.cells if checks(study, c)} == {10}
    assert not any(checks(dataclasses.replace(study, budget_check=0), c) for c in study.cells)
    uneven = dataclasses.replace(study, cells=tuple(c for c in study.cells if (c.budget, c.image_size) != (10, 24)))
    assert {(c.budget, c.image_size) for c in uneven.cells if checks(uneven, c)} == {(3, 24), (10, 32)}


def test_a_record_of_another_kind_is_refused() -> None:
    config = TrialConfig.default(dataclasses.replace(PLAIN, budget=3), Protocol())
    values = {"trial_id": config.id, "cell": "c", "number": 0, "stage": "search", "origin": "default", "sequence": 0}

    def read(config_of: dict) -> Ask:
        return ask_of(json.dumps({"schema": 1, **values, "config": config_of}).encode(), config.id, "config.json")

    assert read(config.as_dict()).trial_id == config.id
    for wrong in ("3", 1.5, True, None):
        spoilt = {**config.as_dict(), "cell": {**config.as_dict()["cell"], "budget": wrong}}
        with pytest.raises(ValueError, match="budget\n.*valid integer"):
            read(spoilt)


def test_a_budget_may_join_and_none_may_leave() -> None:
    one, both = asking((1,)), asking((1, 3))
    grown, changes = grow(one, both, "here")
    assert grown.cells[: len(one.cells)] == one.cells and [c.field for c in changes] == ["cells"] and len(grown.cells) == 4
    with pytest.raises(ConfigError, match="cells: .*,3x"):
        grow(both, one, "here")
    assert not compare(one, asking((1,)))


# ---- a study of both, from its first trial to its page -------------------------------------------------------


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one question, then grow it by a longer budget and a larger image size."""
    folder = tmp_path_factory.mktemp("asking")
    first = run_study(asking((1,), (24,)), results=folder, local=True)
    before = {t.ask.trial_id: t.result for t in first.frames.ledger.trials()}
    run_study(asking((1, 3), (24, 32)), results=folder, local=True)
    ledger = Ledger(folder, "asking")
    after = {t.ask.trial_id: t.result for t in ledger.trials()}
    assert {k: after[k] for k in before} == before, "what was trained is kept"
    return folder


@pytest.fixture(scope="module")
def frames(results: Path) -> Frames:
    return load(Ledger(results, "asking"))


@pytest.fixture(scope="module")
def found(frames: Frames) -> Findings:
    return findings(frames, 50)


def test_every_trial_ran_at_its_own_budget_and_size(frames: Frames) -> None:
    asks = [a for a in frames.ledger.asks() if a.origin is not Origin.LINE]
    for ask in asks:
        config, result = TrialConfig.from_dict(ask.config), frames.ledger.result(ask.trial_id)
        assert config.protocol.max_epochs == config.cell.budget and config.protocol.image_size == config.cell.image_size
        assert result is not None and result.epochs == config.cell.budget
    planned = ((Stage.SEARCH, 1), (Stage.CONFIRM, 2))
    assert Counter((a.cell, a.stage) for a in asks) == {(c.id, stage): n for c in frames.study.cells for stage, n in planned}


def test_the_line_stands_beside_every_question_and_was_solved_once(frames: Frames, found: Findings) -> None:
    solved = [a for a in frames.ledger.asks() if a.origin is Origin.LINE]
    assert sorted(a.config["cell"]["strategy"] for a in solved) == ["features"] * 2 + ["features_small"] * 2  # a part each of two seeds
    rows = found.strategies[(found.strategies.metric == "macro_f1") & (found.strategies.strategy == "features")]
    assert len(rows) == 4 and rows["mean"].nunique() == 1
    small = found.strategies[(found.strategies.metric == "macro_f1") & (found.strategies.strategy == "features_small")]
    assert set(zip(small.max_epochs, small.image_size, strict=True)) == {(1, 24), (3, 24)}
    assert {(p.a, p.b) for p in findings(frames, 50).over_datasets.itertuples()} == set(), "one data set is no several"


def test_tables_and_figures_have_every_axis_with_two_places(frames: Frames, found: Findings) -> None:
    assert {(p.axis.name, p.question.lines[2:]) for p in found.when.panels} == {
        ("steps", ("10% of the training images", "24 px")),
        ("steps", ("10% of the training images", "32 px")),
        ("pixels", ("10% of the training images", "1 epoch")),
        ("pixels", ("10% of the training images", "3 epochs")),
    }
    trained = next(iter(frames.training_images().values()))
    one = frames.study.protocol.steps(int(trained))
    for name, places in (("steps", {one, 3 * one}), ("pixels", {24, 32})):
        for table in (found.when.sizes, found.when.differences):
            assert set(table[table.axis == name].place) == places
    assert set(found.when.crossings.axis) == {"steps", "pixels"} and (found.when.sizes.seconds > 0).all()
    macro = found.strategies[found.strategies.metric == "macro_f1"]
    for axis in ("steps", "pixels"):
        own = found.when.sizes[found.when.sizes.axis == axis].merge(macro, on=[*COLUMNS, "strategy"])
        assert len(own) == len(macro) and (own.mean_x == own.mean_y).all()
    for axis in (STEPS, PIXELS):
        assert len(sizes.compute(frames, found, axis)) and not len(sizes.compute(frames, found, IMAGES))


def test_the_page_has_a_figure_for_each_and_says_what_is_what(results: Path, frames: Frames, tmp_path: Path) -> None:
    text = (results / "asking" / "report.html").read_text()
    for name in ("steps", "step_differences", "pixels", "pixel_differences"):
        assert f'id="figure-{name}"' in text
    assert 'id="figure-sizes"' not in text and "3 epochs, 32 px" in text
    tables = {p.stem for p in (results / "asking" / "tables").iterdir()}
    assert {"crossings", "sizes", "size_differences", "figure_steps", "figure_pixels"} <= tables
    with page(width=390) as p:
        p.goto((results / "asking" / "report.html").as_uri())
        assert p.locator("#figure-steps .main-svg").count() and p.locator("#figure-pixels .main-svg").count()
        assert not p.problems_seen and p.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_network_to_use_is_of_its_own_question(results: Path, frames: Frames, found: Findings) -> None:
    done = load_study(str(results / "asking"))
    ask = frames.ledger.ask(done.pick().trial)
    assert ask is not None
    assert done.predictor().kept.image_size == TrialConfig.from_dict(ask.config).protocol.image_size
    assert done.predictor("partial/3x/24px").kept.image_size == 24 != done.predictor("partial/3x/32px").kept.image_size
    for words, budget in (
        ("partial/3x/24px", 3),
        ("partial/1 epoch/24 px", 1),
        (next(c.id for c in frames.study.cells if c.budget == 3), 3),
    ):
        assert done.pick(words).cell.budget == budget
    assert done.pick("partial/3 epochs").among.startswith(" (10% of the training images, 3 epochs, ")


def test_a_study_that_is_resumed_half_way_is_the_same(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "asking", tmp_path / "asking")
    ledger = Ledger(tmp_path, "asking")
    kept, lost = {t.ask.trial_id: t for t in ledger.trials()}, []
    for trial in kept.values():
        if trial.ask.stage is Stage.CONFIRM and trial.ask.origin is not Origin.LINE and ",3x,24px" in trial.ask.cell:
            ledger.folder.remove(f"trials/{trial.ask.trial_id}")
            lost.append(trial.ask.trial_id)
    assert len(lost) == 4
    run_study(asking((1, 3), (24, 32)), results=tmp_path, local=True)
    for trial in ledger.trials():
        before, now = kept[trial.ask.trial_id].result, trial.result
        assert now is not None and before is not None
        assert {k: v for k, v in now.metrics.items() if "seconds" not in k} == {
            k: v for k, v in before.metrics.items() if "seconds" not in k
        }


@pytest.mark.slow
def test_what_is_delivered_is_of_the_question_that_was_named(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "asking", tmp_path / "asking")
    assert deliver.main([f"{tmp_path / 'asking'}:partial/3x/24px", "--mlflow", "off"]) == 0
    ledger = Ledger(tmp_path, "asking")
    (entry,) = ledger.delivered().values()
    ask = ledger.ask(entry["trial"])
    assert ask is not None and entry["cell"] == ask.cell == "digits/official/efficientnet_lite0/partial/0.1,3x,24px"
    own = TrialConfig.from_dict(ask.config)
    assert own.protocol.image_size == 24 and own.protocol.max_epochs == entry["epochs"] and entry["epochs"] % 3 == 0
    assert {length["epochs"] for length in entry["lengths"]} <= {3, 9, 30}
    frames = load(ledger)
    found = findings(frames, 50)
    assert "24 x 24 pixels" in model_card(frames, found, found.picks[-1])


def test_the_longest_budget_alone_is_checked_and_lengthened(tmp_path: Path) -> None:
    study = asking((1, 2), budget_check=2, longest=2, confirm_seeds=2)
    done = run_study(study, results=tmp_path, local=True)
    ledger = done.frames.ledger
    (record,) = ledger.budgets()
    assert record["budget"] == 2 and "image_size" not in record and record["rounds"][0]["factor"] == 2
    epochs = done.frames.confirmed().query("strategy == 'partial'").groupby("max_epochs").epochs.agg(["min", "max"])
    assert epochs.loc[1].tolist() == [1, 1] and epochs.loc[2].tolist() == [2 * record["factor"]] * 2
    assert all(",2x" in a.cell for a in ledger.asks() if a.stage is Stage.BUDGET)
    (panel,) = findings(done.frames, 50).when.panels
    one = study.protocol.steps(int(next(iter(done.frames.training_images().values()))))
    assert sorted(panel.sizes) == [one, 2 * record["factor"] * one], "the steps that were confirmed"
    longer = asking((1, 2, 4), budget_check=2, longest=2)
    assert factors_of(study, ledger.budgets(), ledger.confirmed_trials()).keys() == {c.id for c in study.cells if c.budget == 2}
    assert factors_of(longer, ledger.budgets(), ledger.confirmed_trials()) == {}, (
        "once the study trains longer itself, nothing is lengthened"
    )


@pytest.mark.slow
def test_all_is_said_the_same_from_mlflow_alone(results: Path, tmp_path: Path) -> None:
    ledger = Ledger(results, "asking")
    own = report.write_report(ledger, tmp_path / "own.html", tables=str(tmp_path / "own"))
    db = f"sqlite:///{tmp_path}/mlflow.db"
    assert not Mirror(ledger, db).sync().pending
    summary = report.write_report(f"{db}#asking", tmp_path / "r.html", tables=str(tmp_path / "t"))
    assert summary.verdicts == own.verdicts
    for name in ("sizes", "size_differences", "crossings", "advice", "figure_steps", "figure_pixels"):
        assert (tmp_path / "t" / f"{name}.csv").read_bytes() == (tmp_path / "own" / f"{name}.csv").read_bytes(), name


# ---- what is said --------------------------------------------------------------------------------------------


def test_words_of_a_crossing_in_steps(tmp_path: Path) -> None:
    right = {"linear_probe": [0.50, 0.54, 0.60], "partial": [0.40, 0.60, 0.70], "full": [0.30, 0.55, 0.80]}
    ledger = sized.write(tmp_path, right, (1.0,), budgets=(1, 3, 10), fitted={"full": 0.5}, budget_check=0)
    found = findings(load(ledger), 100)
    (advice,) = found.advice
    assert advice.head.startswith("trained for 320 steps (10 epochs), full ") and "linear_probe below, partial above" in advice.pairs[0]
    crossing = found.when.crossings.set_index(["a", "b"]).loc[("partial", "full")]
    assert crossing.axis == "steps" and 96 < crossing.low < crossing["at"] < crossing.high < 320
    assert not any("not judged" in pair for pair in advice.pairs), "that it was cut short is what a short budget shows"
    assert [w for w in found.warnings if "learned" in w] == [
        "digits, resnet18: full had learned 50 % of its own training images after 10 epochs, so longer training may raise its score"
    ]
    texts = [step.text for s in found.sentences for step in s.steps if "trains longer too" in step.text]
    assert texts and all("see its answer at 10 epochs" in text for text in texts)
    (last,) = (s for s in found.sentences if s.question.max_epochs == 10)
    assert any("Add 30 to the budgets of this study" in step.text and not step.command for step in last.steps)
    assert {axis.name for axis in AXES} == {"images", "steps", "pixels"}


def test_what_the_longest_question_would_be_confirmed_at_is_bounded() -> None:
    """The bound is on its own budget times the factor by which a check may lengthen it."""
    with pytest.raises(ConfigError, match="max_epochs at 30 times its number must be at most 100,000, not 150000. Lower max_epochs"):
        Study(name="s", cells=grid(["digits"], ["resnet18"], ["full"], budgets=(1, 10)), protocol=Protocol(max_epochs=5000))
