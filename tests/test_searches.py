"""Independent searches: a cell's trials split evenly, each search with its own draws, training seed and winner."""

import dataclasses
import math
from pathlib import Path

import pytest

from analysis.load import load
from analysis.verdict import findings
from study import sweep
from study.errors import ConfigError
from study.question.cell import grid
from study.question.growth import grow
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Outcome, Stage, TrialResult
from study.search.optuna_cells import SearchPlan
from study.search.plans import FixedPlan
from study.search.scheduling_order import expected_seconds
from study.tracking.ledger import Ledger
from tests import tiny
from tests.goldens import GOLDEN


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


def seconds_of(ask: Ask) -> float:
    return {"full": 9.0, "partial": 3.0}[ask.config["cell"]["strategy"]]


def ended(ask: Ask, seconds: float) -> TrialResult:
    return TrialResult(
        trial_id=ask.trial_id, outcome=Outcome.COMPLETED, reason="", epochs=3, best_epoch=1, metrics={"val/macro_f1": 0.5}, classes=[],
        val=None,
        seconds=seconds, images=1, workers=1, device="cpu", attempts=1,
    )  # fmt: skip


def test_the_dearest_starts_first_and_nothing_else_is_asked(tmp_path: Path) -> None:
    """Rounds stay rounds: only the first in a round follows the measured seconds, and the questions of each cell do not."""
    asked: dict[str, list[Ask]] = {}
    for name, seconds in {"dear full": {"full": 9.0, "partial": 3.0}, "dear partial": {"full": 3.0, "partial": 9.0}}.items():
        plan = SearchPlan(study(), Ledger(tmp_path, name))
        while (ask := plan.ask()) is not None:
            plan.tell(ask, ended(ask, seconds[ask.config["cell"]["strategy"]]))
            asked.setdefault(name, []).append(ask)
        first = [a.config["cell"]["strategy"] for a in asked[name][2::2]]
        assert set(first) == {name.removeprefix("dear ")}, "from the second round on"
    one, two = ({c: [a.trial_id for a in asks if a.cell == c] for c in {a.cell for a in asks}} for asks in asked.values())
    assert one == two
    asked = study(trials=1, random_trials=0)
    priced = SearchPlan(asked, Ledger(tmp_path, "priced"), lambda cell: 9.0 if cell.endswith("partial") else 1.0)
    assert priced.ask().config["cell"]["strategy"] == "partial"


def test_confirm_runs_start_with_those_that_took_longest(tmp_path: Path) -> None:
    plan = SearchPlan(study(), Ledger(tmp_path, "s"))
    asks = [plan.ask() for _ in range(12)]
    expected = expected_seconds([(a, ended(a, seconds_of(a))) for a in asks[:4]], {"scratch": "full"})
    control = dataclasses.replace(
        asks[0], cell="other", config={**asks[0].config, "cell": {**asks[0].config["cell"], "strategy": "scratch"}}
    )
    unknown = dataclasses.replace(
        asks[0], cell="new", config={**asks[0].config, "cell": {**asks[0].config["cell"], "dataset": "mini_weeds"}}
    )
    epochs = asks[0].config["protocol"]["max_epochs"]
    assert (expected(control), expected(unknown)) == (3.0 * epochs, math.inf), "as the strategy it is the control of; unknown first"
    queue = FixedPlan([*asks[4:], unknown], {asks[4].trial_id}, expected)
    started = [queue.ask() for _ in range(8)]
    assert queue.ask() is None and started[0] is unknown
    costs = [expected(a) for a in started]
    assert costs == sorted(costs, reverse=True) and {a.trial_id for a in started[1:]} == {a.trial_id for a in asks[5:]}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"searches": 3}, "divide trials 8 .*. Choose 6 or 9 trials"),
        ({"searches": 0}, "searches must be a whole number >= 1"),
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
    """All trials of one cell's first search diverge, as if they had from the start, in the same study."""
    cell = ledger.asks(Stage.SEARCH)[0].cell
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
    strategy = next(a for a in ledger.asks(Stage.SEARCH) if a.cell == cell).config["cell"]["strategy"]
    own = found.pairs[(found.pairs.a == strategy) | (found.pairs.b == strategy)]
    assert len(own) == 2, "with the other strategy, and with the line to beat"
    assert all("1 of 2 searches found nothing that can be used" in reasons for reasons in own.reasons)
    assert set(own.verdict) == {"not_comparable"}
