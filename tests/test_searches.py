"""Independent searches: a cell's trials split evenly, each search with its own draws, training seed and winner."""

import dataclasses
from pathlib import Path

import pytest

from analysis.load import load
from analysis.verdict import findings
from study import sweep
from study.config import Protocol, Study, TrialConfig, grid
from study.errors import ConfigError
from study.growth import grow
from study.records import Origin, Outcome, Stage
from study.search.optuna_cells import SearchPlan
from study.tracking.ledger import Ledger
from tests import tiny

GOLDEN = Path(__file__).parent / "golden" / "study"


def study(**fields) -> Study:
    cells = grid(["digits"], ["resnet18"], ["partial", "full"])
    return Study(name="s", cells=cells, protocol=Protocol(max_epochs=4), **{"trials": 8, "random_trials": 4, **fields})


def test_one_search_asks_what_it_always_asked(tmp_path: Path) -> None:
    golden = Ledger(GOLDEN, "golden")
    plan = SearchPlan(golden.study(), Ledger(tmp_path, "golden"))
    asked = [plan.ask() for _ in range(10)]
    known = {a.trial_id for a in golden.asks(Stage.SEARCH) if a.origin is not Origin.TPE}
    assert {a.trial_id for a in asked if a.origin is not Origin.TPE} == known and len(known) == 10


def test_searches_share_the_budget_evenly_and_nothing_else(tmp_path: Path) -> None:
    plan = SearchPlan(study(searches=2), Ledger(tmp_path, "s"))
    asks = [plan.ask() for _ in range(16)]
    assert plan.ask() is None and len({a.trial_id for a in asks}) == 16
    for cell in {a.cell for a in asks}:
        for search in (0, 1):
            own = [a for a in asks if a.cell == cell and a.number % 2 == search]
            assert [a.origin for a in own] == [Origin.DEFAULT, Origin.RANDOM, Origin.RANDOM, Origin.TPE]
            assert len({TrialConfig.from_dict(a.config).seed for a in own}) == 1
        tuned = [tuple(TrialConfig.from_dict(a.config).tuned().values()) for a in asks if a.cell == cell]
        assert len(set(tuned)) == 7, "the published default is common to both, every draw is its own"
    assert len({TrialConfig.from_dict(a.config).seed for a in asks}) == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"searches": 3}, "divide trials 8 .*; choose 6 or 9 trials"),
        ({"searches": 0}, "divide"),
        ({"searches": 8, "confirm_seeds": 5}, "must be >= searches 8"),
    ],
    ids=str,
)
def test_uneven_searches_are_refused(fields: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        study(**fields)


def test_searches_do_not_grow_under_a_study() -> None:
    with pytest.raises(ConfigError, match="searches: 1 -> 2"):
        grow(study(), study(searches=2), "here")


def test_each_search_has_its_winner_confirmed_in_turn(tmp_path: Path) -> None:
    path = tiny.write(tmp_path, trials=4, seeds=4)
    path.write_text(path.read_text().replace("trials=4,", "trials=4, searches=2,"))
    assert sweep.main([str(path), "--local", "--mlflow", "off", "--results", str(tmp_path / "results")]) == 0
    ledger = Ledger(tmp_path / "results", "tiny")
    winners, asks = ledger.confirmed_trials(), {a.trial_id: a for a in ledger.asks()}
    for cell, own in winners.items():
        assert [asks[t].number % 2 for t in own] == [0, 1] and ledger.selection()["chosen"][cell] in own
        tuned = [TrialConfig.from_dict(asks[t].config).tuned() for t in own]
        for ask in (a for a in ledger.asks(Stage.CONFIRM) if a.cell == cell):
            assert TrialConfig.from_dict(ask.config).tuned() == tuned[ask.number % 2]
    confirmed = load(ledger).confirmed()
    assert set(confirmed.groupby("cell").size()) == {4}
    assert dataclasses.replace(ledger.study(), searches=1) != ledger.study()
    _a_search_that_found_nothing_keeps_its_place(path, ledger)


def _a_search_that_found_nothing_keeps_its_place(path: Path, ledger: Ledger) -> None:
    """Same study: all trials of one cell's first search diverged, as if they had from the start."""
    cell = ledger.asks()[0].cell
    for ask in ledger.asks(Stage.SEARCH):
        if ask.cell == cell and ask.number % 2 == 0:
            ledger.write_result(dataclasses.replace(ledger.result(ask.trial_id), outcome=Outcome.DIVERGED, metrics={}, best_epoch=None))
    winner = ledger.confirmed_trials()[cell][1]
    ledger.folder.remove("selection.json")
    assert sweep.main([str(path), "--local", "--mlflow", "off", "--results", str(path.parent / "results")]) == 0
    assert ledger.confirmed_trials()[cell] == ["", winner]
    frames = load(ledger)
    assert dict(frames.confirmed().groupby("cell").size())[cell] == 2 and set(frames.confirmed().query("cell == @cell").number) == {1, 3}
    found = findings(frames)
    assert f"{cell}: 1 of 2 searches found no trial that can be used, so nothing is confirmed of them" in found.warnings
    assert (
        "1 of 2 searches found nothing that can be used" in found.pairs.iloc[0].reasons and found.pairs.iloc[0].verdict == "not_comparable"
    )
