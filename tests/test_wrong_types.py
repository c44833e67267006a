"""Values of another type than is asked: refused where they are given, in the words of whoever gave them, never by an error of Python's."""

import dataclasses
import fractions
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.load import load
from study import Predictor, load_study, run_study, sweep, trial
from study.bounds import BOUNDS, bound_of
from study.datasets import __main__ as check
from study.datasets.imagefiles import decode_file
from study.errors import ConfigError, DataError
from study.question.cell import Cell, grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.tracking.ledger import Ledger
from tests.goldens import GOLDEN

GRID = {"datasets": ["digits"], "backbones": ["resnet18"], "strategies": ["full"]}
CELLS = grid(**GRID)
STRANGE: list[Any] = [None, 3, 1.5, True, b"x", Path("x"), ["x"], {"x": 1}, object(), np.array([1, 2]), 3j]


def study(**values: Any) -> Study:
    return Study(**{"name": "x", "cells": CELLS, "protocol": Protocol(), "trials": 2, "confirm_seeds": 2, **values})


@pytest.mark.parametrize(
    ("make", "field"),
    [(study, "name"), (study, "cells"), (study, "protocol")]
    + [(lambda **v: dataclasses.replace(CELLS[0], **v), field) for field in ("dataset", "splits", "backbone", "strategy")],
)
@pytest.mark.parametrize("value", STRANGE, ids=lambda v: type(v).__name__)
def test_a_field_of_another_type_is_refused_by_its_name(make: Callable[..., object], field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field}") as raised:
        make(**{field: value})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("field", [*GRID, "train_fractions"])
@pytest.mark.parametrize("value", ["digits", 0.1, None, Path("x")], ids=lambda v: type(v).__name__)
def test_a_grid_of_one_value_is_told_to_be_a_list(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{field} must be a list of "):
        grid(**{**GRID, field: value})


@pytest.mark.parametrize("value", [Path("photos"), None, 3, b"digits"])
def test_a_data_set_that_is_no_text_is_told_how_it_is_named(value: Any) -> None:
    with pytest.raises(ConfigError, match="must be a list of names, each a text"):
        grid(**{**GRID, "datasets": [value]})


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Protocol) if bound_of("Protocol", f.name) in BOUNDS])
@pytest.mark.parametrize(
    "value", [np.int64(4), np.float32(4), fractions.Fraction(1, 2), "4", True, (4, 4), None], ids=lambda v: type(v).__name__
)
def test_numbers_that_are_not_pythons_are_told_so(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be ") as raised:
        Protocol(**{field: value})
    assert ("Write " in str(raised.value)) == (type(value).__module__ == "numpy")


@pytest.mark.parametrize(
    ("option", "text"),
    itertools.product(["--trials", "--max-failed", "--hours", "--budget-check", "--gpus-per-trial"], ["two", "1,5", "none", "1e", "0x10"]),
)
def test_an_option_that_is_no_number_is_told_what_it_must_be(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        sweep.main(["quickstart", option, text, "--dry-run"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"argument {option}: must be a" in said and "invalid" not in said and "_factor" not in said


@pytest.mark.parametrize("setting", ["views=1e3", "batch_size=16.0", "max_epochs=", "seed=true", "lr=1,5", "lr=None"])
def test_a_setting_that_is_no_number_is_told_its_rule(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.main(["digits/resnet18/full", "--set", setting]) == 2
    said = capsys.readouterr().err
    assert "number" in said or "finite" in said
    assert "must be int" not in said and "must be float" not in said


def test_a_setting_that_is_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.main(["digits/resnet18/full", "--set", "lr=1e-3", "lr=1e-2"]) == 2
    assert "--set lr is given twice. Keep one" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--results", "--data", "--weights", "--address", "--mlflow", "--name", "--datasets"])
def test_an_empty_option_is_refused_and_not_passed_over(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sweep.main(["quickstart", option, "", "--dry-run"])
    assert f"{option} is empty (a variable without a value?)" in capsys.readouterr().err


def test_an_empty_place_and_an_empty_option_of_a_subcommand_are_refused_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["check", ""], ["check", "digits", "--csv", ""], ["check", "digits", "--html="]):
        with pytest.raises(SystemExit):
            check.main(words)
        assert "is empty" in capsys.readouterr().err


@pytest.mark.parametrize("place", [0, 1])
def test_a_folder_of_data_is_taken_on_either_side_of_check(place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", "deepweeds"]
    words[place:place] = ["--data", str(tmp_path)]
    assert check.main(words) == 3
    assert str(tmp_path) in capsys.readouterr().err


def test_an_empty_variable_of_the_environment_is_none_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_DATA", "")
    assert sweep.parser().parse_args(["quickstart"]).data == ""


def test_a_cell_as_it_should_be_is_taken() -> None:
    assert study(cells=list(CELLS)).cells == list(CELLS) and isinstance(CELLS[0], Cell)


PLACES: dict[str, Callable[[Any], object]] = {
    "load_study": load_study,
    "load": load,
    "Ledger": lambda place: Ledger(place, "golden"),
    "Ledger, study": lambda name: Ledger(str(GOLDEN), name),
    "load_study, study": lambda name: load_study(str(GOLDEN), name),
    "run_study, results": lambda place: run_study("quickstart", results=place),
    "run_study, data": lambda place: run_study("quickstart", data=place),
    "Predictor.from_folder": Predictor.from_folder,
    "pick": lambda cell: load_study(str(GOLDEN)).pick(cell),
    "predictor": lambda cell: load_study(str(GOLDEN)).predictor(cell),
}
NO_PLACES = [None, 0, 1.5, True, [], {}, b"x", object(), np.zeros(3), float("nan"), "a\0b"]


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("value", NO_PLACES, ids=lambda v: type(v).__name__)
def test_what_is_no_place_and_no_name_is_refused(name: str, value: Any) -> None:
    if value is None and name in ("load_study, study", "run_study, data"):
        pytest.skip("it may be left out")
    with pytest.raises(ConfigError):
        PLACES[name](value)


@pytest.mark.parametrize("place", ["absent", Path("absent/too")], ids=str)
def test_what_is_not_there_is_said_to_be_absent(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("load_study", "load", "Predictor.from_folder"):
        with pytest.raises(ConfigError, match="absent"):
            PLACES[name](place)
    with pytest.raises(DataError, match="absent.* does not exist"):
        decode_file(Path(place), 3)
