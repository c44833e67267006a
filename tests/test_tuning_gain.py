"""The gain of tuning over the published defaults: trained besides, scored on test, no look and no part of the verdict."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from analysis.data.frames import Frames
from analysis.data.predictions import read_predictions
from analysis.findings.tuning_gain import tuning_gains
from analysis.load import load
from analysis.report import write_report
from analysis.statistics.intervals import difference_interval
from analysis.verdict import findings
from study import Protocol, Study, grid, run_study
from study.conduct.confirm_defaults import default_asks
from study.metrics import counts, macro_f1
from study.question.trial_config import TrialConfig
from study.records import Origin, Stage
from study.results import Results
from study.search.seeds import confirm_config
from study.space import Log
from study.tracking.ledger import Ledger
from tests import sized

QUESTION = Study(
    name="defaults",
    cells=grid(["digits"], ["mobilenetv3_small_050"], ["random_probe"], (0.1,)),
    protocol=Protocol(max_epochs=1, image_size=32, batch_size=64, views=1, train_eval_images=32, warmup_epochs=0.5),
    trials=2,
    random_trials=1,
    grace_epochs=1,
    confirm_seeds=2,
    line_size=32,
    budget_check=0,
    space={"random_probe.lr": Log(1e-6, 3e-3)},  # its default and poorer ones: it wins
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_study(QUESTION, results=tmp_path_factory.mktemp("defaults"), local=True)


def test_where_the_search_chose_the_default_nothing_is_trained_and_tuning_brought_nothing(run: Results, tmp_path: Path) -> None:
    again = run_study(dataclasses.replace(QUESTION, explain=("default",)), results=Path(run.folder).parent, local=True)
    assert not len(again.frames.explained("default")), "the confirm runs are the default's"
    (line,) = again.tuned
    assert "random_probe: tuning brought +0.0 [" in line and "(2 runs each; in 2 of them the search had chosen the default)" in line
    assert len(again.frames.ledger.looks()) == 1 and again.findings.tuned[0].estimate.mean == 0


def test_what_is_trained_is_the_published_default_with_the_confirm_runs_seeds(run: Results) -> None:
    ledger = run.frames.ledger
    cell = run.study.cells[0]
    lower = TrialConfig.default(cell, run.study.protocol).with_values({"lr": 1.5e-5})
    asks = default_asks(run.study, ledger, {cell.id: ["x"]})
    assert [a.config for a in asks] == [
        confirm_config(run.study, TrialConfig.default(cell, run.study.protocol_of(cell)), n).as_dict() for n in (0, 1)
    ]
    assert {a.stage for a in asks} == {Stage.CONFIRM} and lower.id not in {a.trial_id for a in asks}
    fresh = dataclasses.replace(run.study, seed=1)
    assert {(a.stage, a.origin) for a in default_asks(fresh, ledger, {cell.id: ["x"]})} == {(Stage.EXPLAIN, Origin.DEFAULT)}
    assert default_asks(run.study, ledger, {}) == []


def with_defaults(folder: Path, share: float, monkeypatch: pytest.MonkeyPatch, **fields: object) -> Results:
    """Return tuned runs that predict 70 % correctly, and runs of their defaults that predict `share` correctly."""
    monkeypatch.setattr("analysis.findings.tuning_gain._is_default", lambda frames, trial: False)
    ledger = sized.write(folder, {"partial": [0.7], "full": [0.7]}, (1.0,), explain=("default",), **fields)  # type: ignore[arg-type]
    study, rng = ledger.study(), np.random.default_rng(3)
    assert study is not None
    order = 1000
    for cell in study.cells:
        for number in range(study.confirm_seeds):
            other = TrialConfig.default(cell, study.protocol_of(cell)).with_values({"lr": 7e-4})
            config = confirm_config(study, other, number)
            trial = sized._trial(ledger, config, Stage.EXPLAIN, number, order, cell.id)
            ledger.write_ask(dataclasses.replace(ledger.ask(trial), origin=Origin.DEFAULT))
            twin = next(
                a.trial_id for a in ledger.asks(Stage.CONFIRM) if (a.cell, a.number) == (cell.id, number)
            )  # whose images and labels these are
            labels, names = said_by(ledger, twin)
            said = np.where(rng.random(len(labels)) < share, labels, (labels + 1) % sized.CLASSES)
            sized.predict(ledger, trial, labels, said, names=names)
            order += 1
    return Results(load(ledger))


def said_by(ledger: Ledger, trial: str) -> tuple[np.ndarray, list[str]]:
    test = read_predictions(ledger, trial)["test"]
    return test.labels, test.images.tolist()


@pytest.mark.parametrize("folds", [1, 5])
def test_the_gain_is_the_difference_of_the_means_with_an_interval(folds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"folds": 5, "searches": 5, "budget_check": 0} if folds > 1 else {}
    found = with_defaults(tmp_path, 0.6, monkeypatch, **fields)
    gains = {g.strategy: g for g in found.findings.tuned}
    assert set(gains) == {"partial", "full"}
    for strategy, gain in gains.items():
        low, high = difference_interval(gain.estimate)
        assert 0.02 < low < gain.estimate.mean < high < 0.18 and (gain.runs, gain.same) == (5, 0), strategy
        assert gain.text.startswith(f"digits, resnet18, {strategy}: tuning brought +") and "(5 runs each)" in gain.text
    if folds == 1:
        own = found.seeds[(found.seeds.metric == "macro_f1") & (found.seeds.strategy == "partial")]["score"].mean()
        runs = found.trials[(found.trials.stage == "explain") & (found.trials.strategy == "partial")]["trial_id"]
        told = [found.frames.predictions(t)["test"] for t in runs]
        default = np.mean([macro_f1(counts(p.logits.argmax(1), p.labels, sized.CLASSES)) for p in told])
        assert gains["partial"].estimate.mean == pytest.approx(own - default)


def test_it_stands_on_the_page_and_changes_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = with_defaults(tmp_path / "a", 0.6, monkeypatch)
    plain = load(sized.write(tmp_path / "b", {"partial": [0.7], "full": [0.7]}, (1.0,)))
    assert [s.text for s in findings(plain).sentences] == [s.text for s in found.findings.sentences]
    write_report(found.folder, tmp_path / "r.html", tables=str(tmp_path / "t"), images=False)
    page = (tmp_path / "r.html").read_text()
    assert "What tuning brought" in page and all(line in page for line in found.tuned)
    assert len((tmp_path / "t" / "tuning_gain.csv").read_text().splitlines()) == 3
    assert tuning_gains(plain, 50) == [] and "What tuning brought" not in _page(plain, tmp_path)


def _page(frames: Frames, folder: Path) -> str:
    write_report(frames.ledger, folder / "plain.html", images=False)
    return (folder / "plain.html").read_text()
