"""A study from Python, as a notebook runs one, and measurements made afterwards."""

import dataclasses
import inspect
import shutil
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import study as package
from study import Log, load_study, run_study
from study.errors import ConfigError
from study.measure import MEASUREMENTS, Finished, Measurement
from study.measure import __main__ as command
from study.question.trial_config import TrialConfig
from study.records import Stage
from study.storage.options import Options
from study.tracking.ledger import Ledger
from tests import used
from tests.goldens import GOLDEN

QUESTION = dataclasses.replace(used.QUESTION, name="notebook", space={"partial.lr": Log(1e-4, 1e-2)})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> package.Results:
    return run_study(QUESTION, results=tmp_path_factory.mktemp("notebook"), local=True)


def test_a_study_run_from_python_answers_in_frames(run: package.Results) -> None:
    assert not run.in_progress and run.study == QUESTION.begun({})
    assert len(run.trials) == 2 + 2 + 4 and set(run.trials.stage) == {"search", "confirm"}
    assert len(run.verdicts) == 1 and "macro-F1" in run.verdicts.sentence[0]
    assert len(run.pairs) == 3 and set(run.strategies.strategy) == {"features", "linear_probe", "partial"} and len(run.seeds) == 6 * 4
    assert {"distance/head", "val/macro_f1"} <= set(run.epochs.columns)
    assert run.epochs["distance/head"].min() > 0 and "partial" in run._repr_html_()


def test_what_was_run_is_loaded_alike(run: package.Results) -> None:
    again = load_study(run.folder)
    pd.testing.assert_frame_equal(again.strategies, run.strategies)
    assert list(again.verdicts.sentence) == list(run.verdicts.sentence)


def test_it_is_extended_from_python(run: package.Results, tmp_path: Path) -> None:
    shutil.copytree(Path(run.folder).parent, tmp_path / "results")
    more = run_study(dataclasses.replace(QUESTION, confirm_seeds=3), results=tmp_path / "results", local=True)
    assert set(more.strategies.seeds) == {3} and any("confirm_seeds: 2 -> 3" in w for w in more.warnings)
    assert len(more.trials) == 2 + 3 * 3


def test_figures_and_networks_by_name(run: package.Results) -> None:
    import plotly.graph_objects as go

    assert isinstance(run.figure("strategies"), go.Figure)
    with pytest.raises(ConfigError, match="Choose from cost"):
        run.figure("costs")
    predictor = run.predictor("partial")
    shares = predictor(np.zeros((2, 40, 40, predictor.channels), np.uint8))
    assert shares.shape == (2, 10) and np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    with pytest.raises(ConfigError, match="names 0 cells"):
        run.predictor("full")


def test_in_a_thread_signals_stay_the_main_threads(tmp_path: Path) -> None:
    """A notebook server runs cells in threads of its own."""
    seen: list[object] = []

    def work() -> None:
        try:
            run_study(dataclasses.replace(QUESTION, name=""), results=tmp_path, local=True)
        except Exception as error:
            seen.append(error)

    def ask() -> None:
        from study.console.signals import interruptible

        with interruptible() as event:
            seen.append(event.is_set())

    for target in (work, ask):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert isinstance(seen[0], ConfigError) and seen[1] is False


class MeanPixel(Measurement):
    """Mean brightness by class: a measurement of its own, made in a test."""

    name: ClassVar[str] = "mean_pixel"
    splits: ClassVar[tuple[str, ...]] = ("val",)

    def rows(self, finished: Finished) -> pa.Table:
        val = np.flatnonzero(finished.table.split == 1)
        assert finished.start().num_stages >= 1, "the network it was before training"
        return pa.table({"image": [finished.table.ids[k] for k in val], "mean": finished.pixels[val].mean(axis=(1, 2, 3))})


def test_a_measurement_is_made_afterwards_and_read_as_a_frame(run: package.Results, tmp_path: Path, monkeypatch, capsys) -> None:
    shutil.copytree(Path(run.folder).parent, tmp_path / "results")
    monkeypatch.setitem(MEASUREMENTS, "mean_pixel", MeanPixel())
    assert command.main([str(tmp_path / "results"), "mean_pixel"]) == 0
    ledger = Ledger(tmp_path / "results", "notebook")
    made = [a.trial_id for a in ledger.asks() if ledger.measured(a.trial_id, "mean_pixel") is not None]
    assert len(made) == 4 and all("measured/mean_pixel.parquet" in ledger.files(t) for t in made)
    assert len(ledger.test_openings()) == 1, "it looks at validation images alone: the lock is not asked"
    assert pq.read_table(ledger.folder.path(f"trials/{made[0]}/measured/mean_pixel.parquet")).num_rows == 360
    before = ledger.folder.read(f"trials/{made[0]}/measured/predictions.parquet")
    capsys.readouterr()
    assert command.main([str(tmp_path / "results"), "predictions", "mean_pixel"]) == 0
    assert "nothing left" in capsys.readouterr().out
    assert command.main([str(tmp_path / "results"), "predictions", "--again"]) == 0
    assert ledger.folder.read(f"trials/{made[0]}/measured/predictions.parquet") == before and len(ledger.test_openings()) == 1


def test_only_what_speaks_today_is_measured_and_looking_again_is_no_further_opening(run: package.Results, tmp_path: Path, capsys) -> None:
    """A search that grew chooses anew, and the runs of its earlier choice stay. To measure them would be one more look at the test set."""
    shutil.copytree(Path(run.folder).parent, tmp_path / "results")
    ledger = Ledger(tmp_path / "results", "notebook")
    winner, loser = (ledger.ask(t) for t in ledger.selection()["chosen"].values())
    other = TrialConfig.from_dict({**winner.config, "recipe": {**winner.config["recipe"], "weight_decay": 0.033}})
    ledger.write_ask(dataclasses.replace(winner, trial_id=other.id, config=other.as_dict(), number=1))
    ledger.write_selection("another rule", {winner.cell: other.id, loser.cell: loser.trial_id}, 3)
    stale = [a.trial_id for a in ledger.asks(Stage.CONFIRM) if a.cell == winner.cell]
    for trial in stale:
        (tmp_path / "results/notebook/trials" / trial / "measured/predictions.parquet").unlink()
    assert command.main([str(tmp_path / "results"), "predictions", "--again"]) == 0
    said = capsys.readouterr().out
    assert said.count("seed #") == 2 and winner.cell not in said and len(ledger.test_openings()) == 1
    assert [ledger.measured(t, "predictions") for t in stale] == [None, None]
    ledger.folder.remove("selection.json")
    assert command.main([str(tmp_path / "results"), "predictions"]) == 2
    assert "selection.json is not there" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [(["cka2"], "Unknown measurement 'cka2'. Choose from cka"), ([], "required: NAME")])
def test_an_unknown_measurement_lists_the_known_ones(arguments: list[str], said: str, capsys) -> None:
    try:
        code = command.main([str(GOLDEN), *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2 and said in capsys.readouterr().err
    with pytest.raises(ConfigError, match="Unknown measurement"):
        run_study(dataclasses.replace(QUESTION, measure=("cka2",)), results="nowhere", local=True)


def test_a_study_without_a_confirm_run_says_that_nothing_is_measured(tmp_path: Path, capsys) -> None:
    shutil.copytree(GOLDEN, tmp_path / "results")
    ledger = Ledger(tmp_path / "results", "golden")
    for ask in ledger.asks(Stage.CONFIRM):
        ledger.trial_folder(ask.trial_id).remove("")
    assert command.main([str(tmp_path / "results"), "predictions"]) == 0
    assert "no completed confirm run: nothing to measure" in capsys.readouterr().err


def test_a_trial_whose_network_is_gone_is_named(tmp_path: Path, capsys) -> None:
    """The golden study keeps no networks."""
    shutil.copytree(GOLDEN, tmp_path / "results")
    assert command.main([str(tmp_path / "results"), "predictions", "--again"]) == 5
    assert "the trial's network, best/, is gone or damaged" in capsys.readouterr().err


def test_what_can_be_asked_of_a_sweep_can_be_asked_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This covers every option except its end, which `mine` sets, and how it was asked for. Images are left out where that is asked."""
    own = {f.name for f in dataclasses.fields(Options)} - {"ends_at", "aside", "command", "arguments"}
    assert own <= set(inspect.signature(run_study).parameters)
    seen: list[Options] = []

    class Asked(Exception):
        pass

    def conduct(study: object, options: Options, interrupted: object) -> None:
        seen.append(options)
        raise Asked

    monkeypatch.setattr("study.conduct.pipeline.conduct", conduct)
    for images in (True, False):
        with pytest.raises(Asked):
            run_study("quickstart", results=tmp_path, images=images)
        assert seen[-1].images is images
