"""The differences that a design can see are said before it is run, with the spread of earlier studies where there are any."""

import io
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.data.question import Question
from analysis.statistics.forecast import Spread, design
from analysis.words.design_power import sights, spread_for
from study.storage.folder import Folder
from study.tracking.ledger import Ledger

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def results(tmp_path: Path) -> Folder:
    shutil.copytree(GOLDEN / "tables", tmp_path / "earlier" / "tables")
    return Folder(tmp_path)


def golden_study(**fields):
    study = Ledger(GOLDEN / "study", "golden").study()
    return replace(study, **fields), {(c.dataset, c.split_protocol): (360, None) for c in study.cells}


def smallest(study, tests, results: Folder) -> list[float]:
    return [float(line.partition("differences from ")[2].split()[0]) for line in sights(study, tests, results)]


def test_more_seeds_and_more_images_see_smaller_differences(tmp_path: Path) -> None:
    study, tests = golden_study(confirm_seeds=3)
    more, images = replace(study, confirm_seeds=12), {k: (36000, None) for k in tests}
    empty = Folder(tmp_path)
    for few, many, large in zip(smallest(study, tests, empty), smallest(more, tests, empty), smallest(study, images, empty), strict=True):
        assert few > many and few > large


def test_sessions_count_and_not_their_photographs(tmp_path: Path) -> None:
    study, tests = golden_study()
    in_sessions = {k: (360, np.arange(360) // 36) for k in tests}
    for alone, together in zip(smallest(study, tests, Folder(tmp_path)), smallest(study, in_sessions, Folder(tmp_path)), strict=True):
        assert together > alone


def test_earlier_studies_of_the_question_say_its_spread(results: Folder) -> None:
    study, tests = golden_study()
    question = Question.of(vars(study.cells[0]))
    spread, source = spread_for(question, results)
    assert source == "as in earlier" and spread != Spread() and 0 < spread.seed < 0.3
    assert all(line.endswith("(spread: as in earlier)") for line in sights(study, tests, results))
    assert spread_for(replace(question, dataset="other"), results) == (Spread(), "a default, measured on a small part of DeepWeeds")


def test_the_newest_of_several_earlier_studies_is_believed(results: Folder, tmp_path: Path) -> None:
    study, _ = golden_study()
    question = Question.of(vars(study.cells[0]))

    def source() -> str:
        return spread_for(question, results)[1]

    for name, written in (("also", 10), ("before", 30), ("zuletzt", 20)):
        shutil.copytree(GOLDEN / "tables", tmp_path / name / "tables")
        os.utime(tmp_path / name / "tables" / "pairs.csv", (written, written))
    os.utime(tmp_path / "earlier" / "tables" / "pairs.csv", (5, 5))
    assert source() == "as in before"
    Ledger(tmp_path, "also").begin(study, {"finished_at": 40.0})  # what was copied or restored since keeps its place
    assert source() == "as in also"
    results.write("also/study.json", b"{damaged")
    assert source() == "as in before"


@pytest.mark.parametrize("data", [b"", b"\xff\x00", b"a,b\n1", b"[]"])
def test_tables_that_cannot_be_read_leave_the_default(data: bytes, results: Folder) -> None:
    study, _ = golden_study()
    results.write("earlier/tables/pairs.csv", data)
    assert spread_for(Question.of(vars(study.cells[0])), results)[0] == Spread()


def test_a_study_of_one_run_each_has_no_spread_to_lend(results: Folder) -> None:
    for name, column in (("strategies", "sd_seeds"), ("pairs", "se_images")):
        table = pd.read_csv(io.BytesIO(results.read(f"earlier/tables/{name}.csv")))
        results.write(f"earlier/tables/{name}.csv", table.assign(**{column: np.nan}).to_csv(index=False).encode())
    study, _ = golden_study()
    with warnings.catch_warnings(action="error"):
        assert spread_for(Question.of(vars(study.cells[0])), results)[0] == Spread()


def test_one_seed_and_one_strategy_are_told_so(tmp_path: Path) -> None:
    study, tests = golden_study(confirm_seeds=1)
    assert all("no verdict can be reached" in line for line in sights(study, tests, Folder(tmp_path)))
    alone = replace(study, cells=tuple(c for c in study.cells if c.strategy == study.cells[0].strategy))
    assert not [*sights(alone, tests, Folder(tmp_path))]


@pytest.mark.parametrize(("searches", "seeds"), [(s, k) for s in range(1, 5) for k in range(4)])
def test_a_design_without_confirm_runs_shows_nothing(searches: int, seeds: int) -> None:
    """Two searches and no confirm runs once raised ZeroDivisionError in a dry run."""
    found = design(searches, seeds, 500.0, Spread())
    assert (found is None) == (seeds < 1 or (seeds if searches == 1 else searches) < 2)


def test_a_file_of_a_tracker_beside_earlier_studies_is_in_nobodys_way(results: Folder) -> None:
    """MLflow's own file lies in the results folder: a plan that looks through it for earlier studies goes past it."""
    results.write("mlflow.db", b"")
    study, _ = golden_study()
    assert spread_for(Question.of(vars(study.cells[0])), results)[1] == "as in earlier"
    assert results.modified("mlflow.db/tables/pairs.csv") is None and results.size("mlflow.db/tables/pairs.csv") is None
