"""The memory of a resumed search is what it knew before: the same trials in Optuna, the same next question."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from study.question.cell import grid
from study.question.study_config import Study
from study.question.training_settings import Protocol
from study.records import OBJECTIVE, EpochRecord, Outcome, TrialResult
from study.search.optuna_cells import CellSearch, SearchPlan
from study.tracking.ledger import Ledger

CELLS = grid(["digits"], ["efficientnet_lite0"], ["partial", "full"])


def searched(folder: Path, grace: int, factor: int, asked: int) -> tuple[SearchPlan, Ledger]:
    """Run a search of `asked` trials as the conductor does: some complete, some stopped, some that failed or diverged."""
    study = Study(
        name="s",
        cells=CELLS,
        protocol=Protocol(max_epochs=9, image_size=32),
        trials=30,
        random_trials=6,
        grace_epochs=grace,
        reduction_factor=factor,
    )
    ledger = Ledger(folder, "s")
    plan = SearchPlan(ledger.begin(study, {}), ledger)
    rng = np.random.default_rng(0)
    for turn in range(asked):
        ask = plan.ask()
        ledger.write_ask(ask)
        epochs, stopped, top = [], False, rng.uniform()
        last = 9 if turn % 7 else int(rng.integers(0, 4))
        for epoch in range(1, last + 1):
            metrics = {OBJECTIVE: float(top + rng.normal(0, 0.1))} if rng.uniform() > 0.05 else {}
            epochs.append(EpochRecord(epoch=epoch, metrics=metrics, train_seconds=1, eval_seconds=1, images=1, ended_at=1.0))
            ledger.append_epoch(ask.trial_id, epochs[-1])
            if stopped := plan.report(ask, epochs[-1]):
                break
        outcome = Outcome.STOPPED if stopped else Outcome.COMPLETED if turn % 7 else (Outcome.FAILED, Outcome.DIVERGED)[turn % 2]
        best = max(epochs, key=lambda e: e.objective, default=None)
        result = TrialResult(
            trial_id=ask.trial_id, outcome=outcome, epochs=len(epochs), best_epoch=None, metrics=best.metrics if best else {},
            classes=[], val=None, seconds=1.0, images=1,
        )  # fmt: skip
        ledger.write_result(result)
        plan.tell(ask, result)
    return plan, ledger


def round6(value: object) -> object:
    """Round a value as a configuration keeps it."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def memory(plan: SearchPlan) -> list[dict]:
    return [
        {
            "state": t.state, "values": t.values, "params": {k: round6(v) for k, v in t.params.items()},
            "distributions": t.distributions, "steps": t.intermediate_values,
            "rungs": {k: v for k, v in t.system_attrs.items() if k.startswith("completed_rung")},
        }
        for cell in plan.cells.values() for t in cell.study.get_trials()
    ]  # fmt: skip


@pytest.mark.parametrize(("grace", "factor"), [(1, 2), (2, 3), (3, 2), (1, 4)])
def test_a_resumed_search_remembers_what_it_knew(grace: int, factor: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It equals the search that was told while it ran, and one that is asked, reported to and told again: both ask the same next
    questions.
    """
    plan, ledger = searched(tmp_path, grace, factor, 40)
    resumed = SearchPlan(plan.study, ledger)
    assert memory(resumed) == memory(plan) and resumed.done == 40
    assert {t["state"].name for t in memory(plan)} == {"COMPLETE", "PRUNED", "FAIL"}
    assert any(len(t["rungs"]) > 1 for t in memory(plan))
    monkeypatch.setattr(CellSearch, "_add", lambda *_: False)
    told = SearchPlan(plan.study, ledger)
    assert memory(resumed) == memory(told)
    assert [resumed.ask() for _ in range(4)] == [told.ask() for _ in range(4)]


def test_a_value_outside_todays_range_is_remembered_too(tmp_path: Path) -> None:
    plan, ledger = searched(tmp_path, 1, 2, 8)
    (name, domain), *_ = [(n, d) for n, d in plan.study.ranges(CELLS[0]).items() if hasattr(d, "low")]
    own = [t for t in memory(plan) if name in t["params"]]
    low = sorted(t["params"][name] for t in own)[1]
    assert min(t["params"][name] for t in own) < low
    narrower = dataclasses.replace(plan.study, space={f"partial.{name}": dataclasses.replace(domain, low=low)})
    again = SearchPlan(narrower, ledger)
    assert sorted(t["params"][name] for t in memory(again) if name in t["params"]) == sorted(t["params"][name] for t in own)
