"""A measurement on the side never fails the run that it measures, whatever goes wrong in it."""

import dataclasses
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from study.datasets.spec import TRAIN
from study.errors import ConfigError, DataError, EnvironmentProblem
from study.measure import MEASUREMENTS
from study.measure.base import FAILED, Images, measure
from study.measure.contents import OF_DELIVERY
from study.measure.reprobe import FEWEST_A_CLASS, unfit
from study.question.cell import Cell
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import LEFT_OUT, Outcome
from study.run import run_trial
from study.storage.folder import Folder
from study.storage.places import Places

ERRORS: tuple[Exception, ...] = (
    DataError("no images there."),
    ConfigError("no weights of resnet18; put them there."),
    ValueError("Found array with 0 sample(s)\nof another line"),
    RuntimeError("Expected all tensors to be on the same device"),
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    KeyError("task"),
    IndexError("list index out of range"),
    TypeError("'NoneType' object is not iterable"),
    ZeroDivisionError("division by zero"),
    np.linalg.LinAlgError("SVD did not converge"),
    FileNotFoundError(2, "No such file or directory", "/gone.png"),
    pa.ArrowInvalid("Invalid column"),
    AssertionError(),
)
CONFIG = TrialConfig.default(
    Cell(dataset="digits", backbone="efficientnet_lite0", strategy="linear_probe", train_fraction=0.03),
    Protocol(max_epochs=1, image_size=32, batch_size=64, views=1, train_eval_images=32, warmup_epochs=0.0),
)
ASIDE = [name for name in MEASUREMENTS if name != "predictions"]


def broken(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> Any:
    measurement = (MEASUREMENTS | OF_DELIVERY)[name]

    def rows(self: object, finished: object) -> pa.Table:
        raise error

    monkeypatch.setattr(type(measurement), "rows", rows)
    return measurement


PLAIN = SimpleNamespace(tiles=(1, 1), several=False)  # a table of whole images with one label each


@pytest.mark.parametrize(("name", "error"), itertools.product(ASIDE, ERRORS), ids=lambda v: v if isinstance(v, str) else type(v).__name__)
def test_whatever_goes_wrong_aside_is_a_reason(name: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measurement, folder = broken(monkeypatch, name, error), Folder(str(tmp_path))
    finished: Any = SimpleNamespace(config=CONFIG, table=PLAIN)
    reason = measure(finished, measurement, folder)
    assert reason.startswith(FAILED) and "\n" not in reason and str(error)[:10] in reason
    table = pq.read_table(folder.path(f"measured/{name}.parquet"))
    assert table.num_rows == 0 and table.schema.metadata[LEFT_OUT.encode()].decode() == reason


@pytest.mark.parametrize("name", ["predictions", "validation"])
def test_what_a_verdict_rests_on_fails_its_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished: Any = SimpleNamespace(config=CONFIG, table=PLAIN)
    with pytest.raises(DataError):
        measure(finished, broken(monkeypatch, name, ERRORS[0]), Folder(str(tmp_path)))
    assert not (tmp_path / "measured").exists()


@pytest.mark.parametrize("error", [EnvironmentProblem("no space left on /"), InterruptedError()])
def test_what_every_run_would_meet_and_signals_pass(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished: Any = SimpleNamespace(config=CONFIG, table=PLAIN)
    with pytest.raises(type(error)):
        measure(finished, broken(monkeypatch, "cka", error), Folder(str(tmp_path)))


def test_an_error_takes_the_place_of_no_rows_that_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, finished = Folder(str(tmp_path)), SimpleNamespace(config=CONFIG, table=PLAIN)
    (tmp_path / "measured").mkdir()
    pq.write_table(pa.table({"stage": [1]}), folder.path("measured/cka.parquet"))
    assert measure(finished, broken(monkeypatch, "cka", ERRORS[0]), folder) == FAILED + "no images there."  # type: ignore[arg-type]
    assert pq.read_table(folder.path("measured/cka.parquet"))["stage"].to_pylist() == [1]


def test_a_run_of_too_few_images_for_a_probe_is_completed_and_its_predictions_stand(tmp_path: Path) -> None:
    """With three images per class, every confirm run once failed, its predictions were unread, and the study had no verdict."""
    places = Places(folder=str(tmp_path), foreign=("digits", "mini_faces"))
    ending = run_trial(CONFIG, places, lambda record: False, measurements=("predictions", "reprobe", "calibration"))
    assert ending.outcome is Outcome.COMPLETED
    found = {name: pq.read_table(tmp_path / f"measured/{name}.parquet") for name in ("predictions", "reprobe", "calibration")}
    assert found["predictions"].num_rows and found["calibration"].num_rows and not found["reprobe"].num_rows
    assert "a probe needs 5 training images of each class" in found["reprobe"].schema.metadata[LEFT_OUT.encode()].decode()


def test_a_foreign_task_that_says_nothing_leaves_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    import study.run

    def foreign(name: str, config: TrialConfig, places: Places) -> Images:
        found = dataclasses.replace(config, cell=dataclasses.replace(config.cell, dataset="mini_faces", train_fraction=1.0))
        table, pixels = study.run.open_images(found, places)
        return Images(
            table=table if name == "mini_faces" else dataclasses.replace(table, split=np.full_like(table.split, -1)), pixels=pixels
        )

    monkeypatch.setattr(study.run, "_foreign", foreign)
    config = dataclasses.replace(CONFIG, cell=dataclasses.replace(CONFIG.cell, train_fraction=0.2))
    places = Places(folder=str(tmp_path), foreign=("empty", "mini_faces"))
    run_trial(config, places, lambda record: False, measurements=("reprobe",))
    assert pq.read_table(tmp_path / "measured/reprobe.parquet")["task"].to_pylist() == ["digits", "mini_faces"]
    assert "leaves out the foreign task empty: a probe needs 5 training images" in capsys.readouterr().err


@pytest.mark.parametrize("fewest", range(8))
def test_a_task_is_fit_from_five_images_a_class_on(fewest: int) -> None:
    labels = np.repeat([0, 1, 2], [9, fewest, 9])
    table: Any = SimpleNamespace(tiles=(1, 1), several=False, classes=("a", "b", "c"), labels=labels, split=np.full(len(labels), TRAIN))
    assert (unfit(table, np.arange(len(labels))) == "") == (fewest >= FEWEST_A_CLASS)
    alone: Any = SimpleNamespace(tiles=(1, 1), several=False, classes=("a",), labels=labels)
    assert "fewer than two classes" in unfit(alone, np.arange(9))
