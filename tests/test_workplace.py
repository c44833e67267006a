"""A begun study is opened in one place, so that no command forgets its other tasks, its folder, or to check its images."""

import ast
import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from study.conduct.workplace import Workplace
from study.demo import Demo
from study.errors import DataError
from study.question.cell import grid
from study.question.trial_config import TrialConfig
from study.storage.options import Options
from study.tracking.ledger import Ledger
from tests.test_architecture import FILES
from tests.test_same_images import asked, begun, made, one_pixel

PARTS = {
    "find_places": {"study.conduct.workplace", "study.budget.choose", "study.conduct.asked", "study.screen.__main__", "cluster.preflight"},
    "with_foreign": {"study.conduct.workplace"},
    "foreign_tasks": {"study.conduct.workplace"},
    "check_begun": {"study.conduct.workplace"},
    "open_images": {"study.conduct.workplace", "study.run"},
}
"""Users of each part besides the workplace: those that choose a new study, find one by its name, or look at a cluster without one."""


def used(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


@pytest.mark.parametrize("part", PARTS)
def test_the_parts_of_a_workplace_are_put_together_there_alone(part: str) -> None:
    users = {m for m, p in FILES.items() if not m.startswith("benchmarks") and part in used(p)}
    assert users == PARTS[part], f"{part}: open a begun study through Workplace.of, one that is to run through Workplace.at"


def test_every_command_that_reads_the_images_of_a_begun_study_opens_it_so() -> None:
    """They are those that take --data and find a study. A list of label errors is made of images that somebody names."""
    own = {m: used(p) for m, p in FILES.items() if m.startswith("study.")}
    commands = {m for m, names in own.items() if names & {"add_data", "add_places"} and names & {"find", "placed"}}
    assert commands == {
        f"study.{name}"
        for name in ("deliver", "demo", "export", "predict", "replay", "measure.__main__", "datasets.__main__", "label.__main__")
    }
    others = {"study.predict", "study.datasets.__main__", "study.label.__main__"}
    for module in commands - others | {"study.conduct.pipeline", "study.label.draw", "study.conduct.known_features"}:
        assert "Workplace" in used(FILES[module]), module


def test_it_is_the_same_whether_the_study_runs_or_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = made(tmp_path / "own", "folder")
    cells = (*asked(name).cells, *grid(["mini_weeds@session:1", "mini_weeds"], ["efficientnet_lite0"], ["linear_probe"]))
    study = dataclasses.replace(asked(name), cells=cells)
    ledger = Ledger(str(tmp_path / "results"), "s")
    ledger.begin(study, {})
    monkeypatch.chdir(tmp_path)
    runs = Workplace.at(study, Options(results="results", data="own"))
    again = Workplace.of(ledger, "own")
    assert again.places == runs.places and again.study.cells == runs.study.cells == study.cells
    assert runs.ledger.folder.location == ledger.folder.location and runs.places.folder == str(tmp_path / "results")
    assert again.places.foreign == (name, "mini_weeds@session") and os.path.isabs(again.places.data or "")
    more = Workplace.of(ledger, foreign=["digits", "mini_weeds@session"])
    assert more.places.foreign == (name, "mini_weeds@session", "digits")
    assert again.of_trial("t").folder == f"{ledger.folder.location}/trials/t" and again.of_trial("t").foreign == again.places.foreign


def test_images_are_given_only_where_they_are_those_it_was_begun_with(tmp_path: Path) -> None:
    """The demo once looked for neighbours among other images than the network was trained on, and said nothing."""
    name = made(tmp_path / "own", "folder")
    ledger = begun(name, tmp_path)
    config = TrialConfig.default(asked(name).cells[0], asked(name).protocol)
    ask: Any = SimpleNamespace(trial_id=config.id, config=config.as_dict())
    table, pixels = Workplace.of(ledger).images(ask)
    assert len(table.ids) == len(pixels) == 36
    one_pixel(tmp_path / "own" / "ash" / "000.png")
    with pytest.raises(DataError, match="1 of its 36 images are not those"):
        Workplace.of(ledger).images(ask)
    page = Demo.__new__(Demo)
    page.pick, page.neighbours = SimpleNamespace(trial=config.id), None  # type: ignore[assignment]
    found: Any = SimpleNamespace(frames=SimpleNamespace(
        ledger=SimpleNamespace(ask=lambda _: ask, study=ledger.study, folder=ledger.folder, data_report=ledger.data_report,
            trial_folder=ledger.trial_folder)))  # fmt: skip
    page._look_up(found, None, 10)
    assert page.neighbours is None and "1 of its 36 images are not those" in page.missing
