"""Trainings that explain a verdict: wrong labels and controls, resumable, and never a candidate."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.load import load
from analysis.report import write_report
from study import grid, run_study
from study.conduct.after_search import controls
from study.errors import ConfigError
from study.measure import MEASUREMENTS
from study.question.studies import EVERY_MEASURE
from study.question.trial_config import TrialConfig
from study.records import Origin, Outcome, Stage
from study.results import Results
from study.run import open_inputs
from study.storage.places import Places
from study.strategies import STRATEGIES
from study.training.inputs import Inputs, made_wrong
from study.training.loop import fine_tune
from tests import used

QUESTION = dataclasses.replace(
    used.QUESTION,
    name="explained",
    cells=grid(["digits"], ["mobilenetv3_small_050"], ["scratch", "random_probe"], (0.1,)),
    protocol=dataclasses.replace(used.QUESTION.protocol, max_epochs=2),
)
EXPLAINED = dataclasses.replace(QUESTION, cells=used.QUESTION.cells, explain=("memorisation", "controls"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_study(EXPLAINED, results=tmp_path_factory.mktemp("explained"), local=True)


def test_wrong_labels_are_wrong_spread_evenly_and_the_seeds_alone() -> None:
    labels = np.repeat(np.arange(5), 400)
    train = np.arange(0, 2000, 2)
    wrong, told = made_wrong(train, labels, 5, 0.2, seed=7)
    assert len(wrong) == 200 and set(wrong) <= set(train) and (told[wrong] != labels[wrong]).all()
    untouched = np.setdiff1d(np.arange(2000), wrong)
    assert np.array_equal(told[untouched], labels[untouched])
    assert np.bincount((told[wrong] - labels[wrong]) % 5, minlength=5)[1:].min() > 30, "uniform among the other classes"
    assert np.array_equal(wrong, made_wrong(train, labels, 5, 0.2, seed=7)[0]) and not np.array_equal(
        wrong, made_wrong(train, labels, 5, 0.2, seed=8)[0]
    )
    assert len(made_wrong(train, labels, 5, 0.0, seed=7)[0]) == 0


def test_disputed_and_soft_labels_are_told_as_they_are(tmp_path: Path) -> None:
    places = Places(folder="")
    config = TrialConfig.default(
        dataclasses.replace(EXPLAINED.cells[0], train_fraction=0.3), dataclasses.replace(EXPLAINED.protocol, wrong_labels=0.5)
    )
    plain = open_inputs(config, places)
    labels = plain.table.labels
    second = np.where(np.arange(len(labels)) % 3 == 0, (labels + 1) % 10, -1)
    soft = np.full((len(labels), 10), 0.1, np.float32)
    table = dataclasses.replace(plain.table, second=second, soft=soft)
    inputs = Inputs(dataclasses.replace(plain.images, table=table), config, tmp_path)
    wrong, disputed = inputs.doubtful["wrong"], inputs.doubtful["disputed"]
    assert not set(wrong.rows) & set(disputed.rows) and set(disputed.rows) <= set(inputs.train) and len(disputed.rows) <= 32
    assert (disputed.told == labels[disputed.rows]).all() and (disputed.true == second[disputed.rows]).all()
    targets = inputs.targets(np.arange(len(inputs.train)))
    assert targets.shape == (len(inputs.train), 10) and targets.sum(dim=1).numpy() == pytest.approx(1)
    unanimous = np.isin(inputs.train, wrong.rows)
    assert (targets.max(dim=1).values.numpy() == 1).tolist() == unanimous.tolist()
    record, _ = next(iter(fine_tune(config, inputs)))
    assert {"wrong/memorised", "disputed/resisted"} <= set(record.metrics) and np.isfinite(record.metrics["train/loss"])


def test_everything_asked_for_is_trained_once_and_no_candidate(run: Results) -> None:
    ledger = run.frames.ledger
    asks = ledger.asks(Stage.EXPLAIN)
    assert {o: sum(a.origin is o for a in asks) for o in (Origin.MEMORISATION, Origin.CONTROL)} == {
        Origin.MEMORISATION: 4,
        Origin.CONTROL: 4,
    }
    assert all(r.outcome is Outcome.COMPLETED for a in asks if (r := ledger.result(a.trial_id)))
    assert (
        len(ledger.test_openings()) == 1
        and set(run.strategies.strategy) == {"features", "linear_probe", "partial"}
        and set(run.seeds.strategy) == {"features", "linear_probe", "partial"}
    )
    assert not any(ledger.trial_folder(a.trial_id).exists("best/manifest.json") for a in asks), "their networks are not kept"
    assert not any(ledger.measurements(a.trial_id) for a in asks), "they see no test image"
    confirmed = {a.number: a for a in ledger.asks(Stage.CONFIRM) if "partial" in a.cell}
    for ask in (a for a in asks if a.origin is Origin.MEMORISATION and "partial" in a.cell):
        told, true = (TrialConfig.from_dict(a.config) for a in (ask, confirmed[ask.number]))
        assert told.protocol.wrong_labels == 0.2 and dataclasses.replace(told, protocol=true.protocol) == true


def test_memorised_and_resisted_stand_in_every_epoch(run: Results) -> None:
    told = run.frames.explained("memorisation")
    rows = run.epochs[run.epochs.trial_id.isin(told.trial_id)]
    assert len(rows) == 8 and rows["wrong/memorised"].between(0, 1).all() and (rows["wrong/memorised"] + rows["wrong/resisted"] <= 1).all()
    assert run.epochs[~run.epochs.trial_id.isin(told.trial_id)]["wrong/memorised"].isna().all()


def test_the_page_says_what_pretrained_weights_are_worth(run: Results, tmp_path: Path) -> None:
    summary = write_report(run.folder, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert (
        "Controls from random weights" in page
        and "linear_probe" in run.findings.controls[-1]
        and "random_probe" in run.findings.controls[-1]
    )
    assert 'id="figure-why_memorisation"' in page
    assert any(c.measure.name == "memorised" and c.units == 2 for w in run.findings.why for c in w.contrasts)
    assert len(summary.verdicts) == 1


def test_what_was_trained_stays_and_a_finished_study_can_be_explained_later(run: Results, tmp_path: Path) -> None:
    shutil.copytree(Path(run.folder).parent, tmp_path / "results")
    kept = run.frames.ledger
    before = {a.trial_id: json.dumps(r.as_dict(), sort_keys=True) for a in kept.asks() if (r := kept.result(a.trial_id))}
    again = run_study(EXPLAINED, results=tmp_path / "results", local=True)
    after = {
        a.trial_id: json.dumps(r.as_dict(), sort_keys=True)
        for a in again.frames.ledger.asks()
        if (r := again.frames.ledger.result(a.trial_id))
    }
    assert after == before
    lost = next(a for a in again.frames.ledger.asks(Stage.EXPLAIN) if a.origin is Origin.CONTROL)
    again.frames.ledger.folder.remove(f"trials/{lost.trial_id}")
    assert load(run_study(EXPLAINED, results=tmp_path / "results", local=True).folder).trials.trial_id.tolist().count(lost.trial_id) == 1


def test_explaining_is_a_growth_that_needs_no_new_name(tmp_path: Path) -> None:
    plain = dataclasses.replace(QUESTION, cells=QUESTION.cells[1:], confirm_seeds=2)
    run_study(plain, results=tmp_path, local=True)
    grown = run_study(dataclasses.replace(plain, explain=("memorisation",)), results=tmp_path, local=True)
    assert len(grown.frames.explained("memorisation")) == 2 and any("explain: + memorisation" in w for w in grown.warnings)
    with pytest.raises(ConfigError, match="explain"):
        run_study(plain, results=tmp_path, local=True)


def test_an_unknown_wish_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="Choose from memorisation, controls"):
        dataclasses.replace(QUESTION, explain=("memorization",))  # type: ignore[arg-type]


def test_every_control_has_the_fields_of_what_it_controls() -> None:
    for control, of in controls().items():
        assert STRATEGIES[control].start == "random" and STRATEGIES[of].start == "pretrained"
        assert {f.name for f in dataclasses.fields(STRATEGIES[control])} == {f.name for f in dataclasses.fields(STRATEGIES[of])}


def test_the_studies_measure_all_that_can_be_measured() -> None:
    assert set(EVERY_MEASURE) == set(MEASUREMENTS)
