"""The stage between the choice and the opening of the test set, which decides how long each question's winners are trained.

Every winner is trained again with its fresh seeds, and once with more epochs, all with the test set closed. The effect of the longer
training on validation (`study.question.budget_decision`) is printed and written to budgets.json. Where it gains, and `Study.longest`
allows, the whole question is confirmed at the longer budget: equal epochs for all of its strategies. Confirming at nine times the epochs
takes a check at three, and one at nine that is compared with three.

Of questions that differ in their budget alone only the longest is checked: for the others the study itself has the longer training.

Each step follows from the ledger, so it can be interrupted anywhere. A decision holds for its winners and cells: a search that chooses
again, or a strategy that joins, is decided on anew, and the earlier decision stays under `earlier`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from study.conduct.after_search import check_asks, confirm_asks
from study.conduct.stages import Executor, expected_in
from study.console.progress import Names
from study.datasets import open_dataset
from study.datasets.spec import VAL, ImageTable
from study.failpoints import failpoint
from study.question.budget_decision import Compared, Gain, Scored, decide
from study.question.cell import QUESTION, Cell, question_json, question_of
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Outcome
from study.scoring import Metric, Said
from study.search.confirmed import Chosen, Round, next_round, record_of
from study.search.plans import FixedPlan
from study.tracking.ledger import Ledger

Record = dict[str, Any]


def settle(executor: Executor, chosen: Chosen) -> bool:
    """Train and decide until every question is settled, without the test images. Returns False where a signal came first."""
    study, ledger = executor.study, executor.ledger
    if not study.budget_check or not study.confirm_seeds:
        return True
    while not executor.interrupted.is_set():
        _move(study, ledger, chosen)
        pending = next_rounds(study, ledger, chosen)
        if not pending:
            _tidy(study, ledger, chosen)
            return True
        shorter = confirm_asks(study, ledger, {c: chosen[c] for c in pending}, {c: r.against for c, r in pending.items()})
        longer = check_asks(study, ledger, chosen, pending)
        asks = [*shorter, *longer]
        done = {a.trial_id for a, r in zip(asks, ledger.folder.each(ledger.result, [a.trial_id for a in asks]), strict=True) if r}
        executor("confirm and budget check", FixedPlan(asks, done, expected_in(ledger)))
        if any(ledger.result(a.trial_id) is None for a in asks):
            return False
        failpoint("before_budgets")
        _decide(executor, chosen, pending, shorter, longer)
        executor.look_again()
        failpoint("after_budgets")
    return False


def next_rounds(study: Study, ledger: Ledger, chosen: Chosen) -> dict[str, Round]:
    """Return by cell the check that its question still needs."""
    budgets, cells = ledger.budgets(), {c.id: c for c in study.cells}
    found = {cell: next_round(study, cells[cell], record_of(study, budgets, chosen, cell)) for cell in chosen if cell in cells}
    return {cell: part for cell, part in found.items() if part is not None}


def _move(study: Study, ledger: Ledger, chosen: Chosen) -> None:
    """Change decisions made under a smaller `longest` where the study has been allowed more since."""
    budgets, changed = ledger.budgets(), False
    for record in budgets:
        factor = _factor(study, record["rounds"])
        if factor != record["factor"]:
            record["factor"], changed = factor, True
    if changed:
        ledger.write_budgets(budgets)


def _factor(study: Study, rounds: Sequence[Mapping[str, Any]]) -> int:
    """Return the multiple of epochs at which a question is confirmed: that of the last check where a strategy gained and it is allowed."""
    last = rounds[-1]
    gains = any(own["state"] == "gains" for own in last["strategies"].values())
    return int(last["factor"] if gains and last["factor"] <= study.longest else last["against"])


def _decide(executor: Executor, chosen: Chosen, pending: Mapping[str, Round], shorter: Sequence[Ask], longer: Sequence[Ask]) -> None:
    """Write the decision on every question that was checked, and print it, one line each."""
    study, ledger, cells = executor.study, executor.ledger, {c.id: c for c in executor.study.cells}
    budgets = ledger.budgets()
    for question in dict.fromkeys(cells[c].question for c in pending):
        own = [c for c in pending if cells[c].question == question]
        part, on = pending[own[0]], {c: list(chosen[c]) for c in own}
        gains, runs = _gains(executor, [cells[c] for c in own], shorter, longer)
        decided = {
            "factor": part.factor,
            "against": part.against,
            "strategies": {cells[c].strategy: {**gains[c].as_dict(), "runs": runs[c]} for c in own},
        }
        known = next((b for b in budgets if question_of(b) == question), None)
        rounds, earlier = [decided], list(known.get("earlier", [])) if known else []
        if known and known["on"] == on:
            rounds = [*known["rounds"], decided]
        elif known:
            earlier.append({k: v for k, v in known.items() if k not in (*QUESTION, "earlier")})
        record: Record = {**question_json(question), "on": on, "rounds": rounds, "factor": _factor(study, rounds)}
        budgets = [b for b in budgets if b is not known] + [record | ({"earlier": earlier} if earlier else {})]
        print(f"budget check, {_told(executor, own, decided, record['factor'])}", flush=True)
    ledger.write_budgets(budgets)


def _told(executor: Executor, cells: Sequence[str], decided: Mapping[str, Any], factor: int) -> str:
    """Return "weeds: 15 epochs instead of 5: partial +3.0 (not known), full +9.1 points on validation (gains); confirmed at 15 epochs"."""
    study, names = executor.study, Names([c.id for c in executor.study.cells])
    first = next(c for c in study.cells if c.id == cells[0])
    unit = study.scored_by.short
    once, strategy = study.protocol_of(first).max_epochs, first.strategy
    where = " ".join(part for part in names(cells[0]).split(" ") if part != strategy)
    parts = [
        f"{name} {100 * own['gain']:+.1f} ({own['state']})" if "gain" in own else f"{name} {own['state']}: {own['why']}"
        for name, own in decided["strategies"].items()
    ]
    length = f"{once * decided['factor']} epochs instead of {once * decided['against']}: {', '.join(parts)} {unit} on validation"
    return f"{where + ': ' if where else ''}{length}. Confirmed at {once * factor} epoch{'s' * (once * factor > 1)}"


# ---- from runs to figures -------------------------------------------------------------------------------------


def _gains(
    executor: Executor, cells: Sequence[Cell], shorter: Sequence[Ask], longer: Sequence[Ask]
) -> tuple[dict[str, Gain], dict[str, dict[str, list[str]]]]:
    """Return by cell of one question the gain of the longer budget, and the runs that show it."""
    study, ledger = executor.study, executor.ledger
    compared: dict[str, Compared] = {}
    runs: dict[str, dict[str, list[str]]] = {}
    labels, groups, classes = _validation(executor, next(a for a in longer if a.cell in {c.id for c in cells}))
    metric = study.scored_by.bind(classes)
    for cell in cells:
        long = [a for a in longer if a.cell == cell.id]
        searches = len((ledger.confirmed_trials() or {}).get(cell.id, [""]))
        groups_of: dict[int, list[Ask]] = {}
        for ask in shorter:
            if ask.cell == cell.id:
                groups_of.setdefault(study.search_of(ask.number, searches), []).append(ask)
        mine = study.search_of(long[0].number, searches)
        own = groups_of.pop(mine, [])
        compared[cell.id] = Compared(
            longer=_scored(ledger, long, labels, metric),
            shorter=_scored(ledger, own, labels, metric),
            others=[_scored(ledger, asks, labels, metric) for asks in groups_of.values()],
        )
        runs[cell.id] = {"longer": [a.trial_id for a in long], "shorter": [a.trial_id for a in own]}
    known = all(r.said is not None for c in compared.values() for g in (c.longer, c.shorter, *c.others) for r in g)
    return decide(compared, labels if known else None, groups, len(labels), metric), runs


def _scored(ledger: Ledger, asks: Sequence[Ask], labels: np.ndarray, metric: Metric) -> list[Scored]:
    """Return the completed runs, scored at their last epoch. Predictions that do not give the run's score belong to other images: left
    out."""
    found = []
    for ask in asks:
        result = ledger.result(ask.trial_id)
        if result is None or result.outcome is not Outcome.COMPLETED:
            continue
        last = ledger.epochs(ask.trial_id, ended=True)[-1]
        if not math.isfinite(last.objective):
            continue
        said = None if last.said is None else np.array(last.said, dtype=np.int64)
        same = said is not None and len(said) == len(labels) and _gives(metric, said, labels, last.objective)
        found.append(Scored(score=last.objective, said=said if same else None))
    return found


def _gives(metric: Metric, said: np.ndarray, labels: np.ndarray, score: float) -> bool:
    """Return True where the predicted classes give the score; always False for a metric that needs probabilities."""
    return not metric.probable and abs(float(metric.score(labels, Said(named=said))) - score) < 1e-9


def _validation(executor: Executor, ask: Ask) -> tuple[np.ndarray, np.ndarray | None, Sequence[str]]:
    """Labels and sessions of the validation images that a run was scored on, and the classes."""
    cell = TrialConfig.from_dict(ask.config).cell
    table: ImageTable = executor.tables[cell.dataset, cell.split_protocol]
    if cell.data.fold is not None:
        table = open_dataset(cell.dataset, splits=cell.splits, root=executor.places.data_root)
    val = table.split == VAL
    return table.labels[val], None if table.groups is None else table.groups[val], table.classes


def _tidy(study: Study, ledger: Ledger, chosen: Chosen) -> None:
    """Remove the networks of runs trained only to decide; a network that was measured stays."""
    speak = {a.trial_id for a in confirm_asks(study, ledger, chosen)}
    for ask in ledger.asks():
        if ask.origin is Origin.CONFIRM and ask.trial_id not in speak and not ledger.measurements(ask.trial_id):
            ledger.trial_folder(ask.trial_id).remove("best")
