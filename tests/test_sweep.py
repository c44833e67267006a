"""A study from end to end, in this process: every stage, resume, the plan, and the errors a user meets."""

import dataclasses
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from study import sweep
from study.errors import ConfigError, EnvironmentProblem
from study.question.cell import Cell, grid
from study.question.studies import QUICKSTART, STUDIES, find_study, narrow
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Outcome, Stage
from study.search.optuna_cells import SearchPlan
from study.tracking.ledger import Ledger
from study.use.predictor import Predictor
from tests import tiny


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep")
    study = tiny.write(root)
    assert sweep.main([str(study), "--local", "--mlflow", "off", "--results", str(root / "results")]) == 0
    return root


def ledger_of(root: Path) -> Ledger:
    return Ledger(root / "results", "tiny")


def test_every_planned_trial_is_there_once(done: Path) -> None:
    ledger = ledger_of(done)
    asks, results = ledger.asks(), ledger.results()
    assert len(asks) == 2 + 2 * 2 + 2 * 2 and set(results) == {a.trial_id for a in asks}
    assert [a.sequence for a in asks] == list(range(10))
    assert [a.origin for a in asks][:2] == [Origin.LINE] * 2
    for cell in {a.cell for a in asks[2:]}:
        own = [a for a in asks if a.cell == cell and a.stage is Stage.SEARCH]
        assert [a.number for a in own] == [0, 1] and [a.origin for a in own] == [Origin.DEFAULT, Origin.RANDOM]
    assert all(results[a.trial_id].outcome is Outcome.COMPLETED and results[a.trial_id].epochs == 2 - (a in asks[:2]) for a in asks)


def test_only_confirm_runs_have_predictions_and_the_lock_names_them(done: Path) -> None:
    ledger = ledger_of(done)
    confirm = {a.trial_id for a in ledger.asks(Stage.CONFIRM)}
    assert {a.trial_id for a in ledger.asks() if ledger.trial_folder(a.trial_id).exists("measured/predictions.parquet")} == confirm
    (opening,) = ledger.test_openings()
    assert set(opening["trials"]) == confirm


def test_fresh_seeds_pair_up_and_nothing_else_changes(done: Path) -> None:
    ledger = ledger_of(done)
    chosen = ledger.selection()["chosen"]
    seeds: dict[str, list[int]] = {}
    for ask in (a for a in ledger.asks(Stage.CONFIRM) if a.origin is not Origin.LINE):
        winner = TrialConfig.from_dict(ledger.ask(chosen[ask.cell]).config)
        config = TrialConfig.from_dict(ask.config)
        assert config.tuned() == winner.tuned() and config.seed != winner.seed
        seeds.setdefault(ask.cell, []).append(config.seed)
    assert len({tuple(s) for s in seeds.values()}) == 1


def test_the_same_command_again_does_nothing_new(done: Path, capsys) -> None:
    before = {a.trial_id: ledger_of(done).result(a.trial_id) for a in ledger_of(done).asks()}
    assert sweep.main([str(done / "my_study.py"), "--local", "--mlflow", "off", "--results", str(done / "results")]) == 0
    assert {a.trial_id: ledger_of(done).result(a.trial_id) for a in ledger_of(done).asks()} == before
    assert "epoch" not in [w for line in capsys.readouterr().out.splitlines() if "macro-F1 0" in line for w in line.split()[:4]]


def test_H10_other_settings_under_the_same_name_are_refused_with_the_difference(done: Path, capsys) -> None:
    assert sweep.main([str(done / "my_study.py"), "--trials", "1", "--local", "--mlflow", "off", "--results", str(done / "results")]) == 2
    assert "trials: 2 -> 1" in capsys.readouterr().err


def test_the_plan_says_what_is_done(done: Path, capsys) -> None:
    assert sweep.main([str(done / "my_study.py"), "--dry-run", "--results", str(done / "results")]) == 0
    out = capsys.readouterr().out
    assert "at most" in out and "Disk" in out and "linear_probe" in out
    assert "design: digits" in out and "(spread: as in tiny)" in out, "its own runs say what more of them would see"


def test_the_kept_network_predicts_what_was_recorded(done: Path) -> None:
    from analysis.load import load
    from study.datasets import open_dataset
    from study.datasets.cache import pixels

    frames = load(str(done / "results"))
    ask = ledger_of(done).asks(Stage.CONFIRM)[0]
    predictor = Predictor.from_folder(ledger_of(done).trial_folder(ask.trial_id))
    table = open_dataset("digits")
    images = pixels(table, 40)
    recorded = frames.predictions(ask.trial_id)["test"]
    at = [table.ids.index(n) for n in recorded.images[:9]]
    np.testing.assert_allclose(predictor.logits(images[at]), recorded.logits[:9], atol=1e-4)
    assert np.allclose(predictor(images[at]).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["quickstrat"], 2, "quickstart"),
        (["nothere.py"], 2, "does not exist"),
        (["quickstart", "--datasets", "fer203"], 2, "fer2013"),
        (["quickstart", "--strategies", "ful"], 2, "full"),
        (["quickstart", "--local", "--workers", "2"], 2, "--local runs 1 worker a trial, not 2"),
        (["quickstart", "--backbones", "resnet5000"], 2, "resnet50"),
        (["pilot", "--data", "/nowhere"], 3, "No FER2013"),
        (["quickstart", "--name", "../x"], 2, "must match"),
        (["quickstart", "--trials", "0"], 2, "trials"),
        (["quickstart", "--weights", "/nowhere"], 2, "does not exist"),
    ],
)
def test_H5_H7_H9_what_is_wrong_is_one_line_before_anything_starts(
    arguments: list[str], code: int, message: str, tmp_path: Path, capsys
) -> None:
    assert sweep.main([*arguments, "--results", str(tmp_path)]) == code
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("error: ") and message in error[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "values",
    [{"lr": v} for v in (-1, "inf", "nan", "abc", True)]
    + [
        {"weight_decay": "inf"},
        {"weight_decay": -1},
        {"label_smoothing": 1},
        {"augmentation": 1.5},
        {"batch_size": 0},
        {"max_epochs": 1.5},
        {"unfreeze_depth": 0},
    ],
    ids=str,
)
def test_H1_values_outside_their_range_are_refused(values: dict[str, object]) -> None:
    config = TrialConfig.default(Cell(dataset="digits", backbone="resnet18", strategy="partial"), Protocol())
    with pytest.raises(ConfigError):
        config.with_values(values)
    assert config.with_values({"lr": "1e-3"}).tuned()["lr"] == 1e-3


def test_H8_ranges_are_checked() -> None:
    from study.space import Choice, Integer, Log, Uniform

    for bad in (lambda: Log(0, 1), lambda: Log(2, 1), lambda: Uniform(1, 1), lambda: Integer(3, 2), lambda: Choice()):
        with pytest.raises(ValueError):
            bad()
    assert Choice("one").options == ("one",)


def study(**fields) -> Study:
    return Study(
        name="s",
        cells=grid(["digits"], ["resnet18"], ["partial", "full"]),
        protocol=Protocol(max_epochs=4),
        **{"trials": 6, "random_trials": 3, "grace_epochs": 1, **fields},
    )


def test_the_search_asks_the_cell_that_is_furthest_behind(tmp_path: Path) -> None:
    plan = SearchPlan(study(), Ledger(tmp_path, "s"))
    asks = [plan.ask() for _ in range(12)]
    assert plan.ask() is None and all(isinstance(a, Ask) for a in asks)
    assert all(abs(sum(a.cell == asks[0].cell for a in asks[:k]) - k / 2) <= 1 for k in range(1, 13))
    assert [a.origin for a in asks if a.cell == asks[0].cell] == [Origin.DEFAULT, *[Origin.RANDOM] * 3, *[Origin.TPE] * 2]
    assert len({a.trial_id for a in asks}) == 12


def test_default_and_random_trials_are_the_same_in_any_order(tmp_path: Path) -> None:
    one, two = (SearchPlan(study(), Ledger(tmp_path, "s")) for _ in range(2))
    first = [one.ask().trial_id for _ in range(8)]
    cells = list(two.cells.values())
    backwards = [cell.ask(0).trial_id for _ in range(4) for cell in reversed(cells)]
    assert set(first) == set(backwards)


def test_an_interrupt_before_the_study_begins_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "asked", interrupted)
    assert sweep.main(["mine", "--datasets", "digits"]) == 130
    assert capsys.readouterr().err == "stopped. Start again with the same command\n"


def test_every_study_builds_and_narrows() -> None:
    for s in STUDIES.values():
        assert Study.from_dict(json.loads(json.dumps(s.as_dict()))) == s
        for cell in s.cells:
            TrialConfig.default(cell, dataclasses.replace(s.protocol, precision="fp32"))  # "auto" is settled when a study starts
    pilot = narrow(find_study("pilot"), datasets=["deepweeds@session"], strategies=["full"], backbones=["resnet18"], workers=2, trials=5)
    assert [c.id for c in pilot.cells] == ["deepweeds/session/resnet18/full/1"]
    assert pilot.protocol.workers == 2 and pilot.random_trials == 4


def test_a_relative_folder_is_the_same_for_workers_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = narrow(find_study("quickstart"), datasets=["folder:my_images"]).cells
    assert {c.dataset for c in cells} == {f"folder:{tmp_path}/my_images"}
    assert {c.dataset for c in narrow(find_study("quickstart")).cells} == {"mini_faces", "mini_weeds"}


def test_W8_a_study_in_use_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path: Path) -> None:
    from study.storage import lock
    from study.storage.folder import Folder

    folder = Folder(str(tmp_path))
    with lock.held(folder), pytest.raises(EnvironmentProblem, match="in use by pid"):
        lock.held(folder).__enter__()
    dead = {"host": __import__("socket").gethostname(), "machine": lock.machine(), "pid": 2**22 + 1, "since": 0, "started": 0}
    (tmp_path / ".lock").write_text(json.dumps(dead))
    with lock.held(folder):
        pass
    (tmp_path / ".lock").write_text(json.dumps({**dead, "host": "elsewhere", "machine": "another"}))
    with pytest.raises(EnvironmentProblem, match="elsewhere"):
        lock.held(folder).__enter__()


def test_a_lock_is_kept_fresh_in_silence_and_no_longer_than_held(tmp_path: Path, monkeypatch) -> None:
    """A long decode or epoch says nothing, and a sweep on another host must not take its lock for a dead one's."""
    from study.storage import lock
    from study.storage.folder import Folder

    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    path = tmp_path / ".lock"

    def fresh_within(seconds: float) -> bool:
        os.utime(path, (0, 0))
        end = time.monotonic() + seconds
        while time.monotonic() < end and path.stat().st_mtime == 0:
            time.sleep(0.01)
        return path.stat().st_mtime > 0

    with lock.held(Folder(str(tmp_path))):
        assert fresh_within(10)
        theirs = json.dumps({"host": "elsewhere", "pid": os.getpid(), "since": 0, "started": 0})
        path.write_text(theirs)
        assert not fresh_within(0.3), "a lock taken over by another is theirs to touch"
    assert path.read_text() == theirs and "study-lock" not in [t.name for t in threading.enumerate()]


def test_precision_is_measured_once_and_kept(tmp_path: Path, monkeypatch) -> None:
    """The precision a study was started with decides, not what the machine that resumes it would choose."""
    from study.conduct import checks
    from study.storage.places import find_places

    study = dataclasses.replace(QUICKSTART, name="auto", protocol=dataclasses.replace(QUICKSTART.protocol, precision="auto"))
    ledger, places = Ledger(tmp_path, "auto"), find_places(str(tmp_path))
    settled, probe = checks.settle_precision(study, ledger, places)
    assert settled.protocol.precision in ("fp32", "bf16") and set(probe["precision_probe"]["efficientnet_lite0"]) == {"fp32", "bf16"}
    ledger.begin(settled, probe)
    other = {"fp32": "bf16", "bf16": "fp32"}[settled.protocol.precision]
    monkeypatch.setattr(checks, "fastest_precision", lambda *a: (other, {}))
    assert checks.settle_precision(study, ledger, places)[0] == settled
    with pytest.raises(ConfigError, match="precision"):
        TrialConfig.default(study.cells[0], study.protocol)
