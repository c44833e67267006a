"""The stages of a study after its data were checked: search, select, confirm. Each can be resumed, and is skipped when done."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from study.budget.cost import Pricing
from study.conduct.after_search import check_asks, confirm_asks, controls, explain_asks
from study.conduct.lines import describe, line_asks
from study.conduct.same_images import Tables
from study.conduct.workplace import Workplace
from study.console.eta import Remaining, pixels, times
from study.console.progress import Names, Watch, warn
from study.console.signals import Interrupted
from study.measure import opens_test
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import Ask, Origin, Outcome, Stage, TrialResult
from study.search.conductor import Conductor
from study.search.confirmed import Chosen, checks, factors_of, next_round, record_of
from study.search.optuna_cells import SearchPlan
from study.search.plans import FixedPlan, Plan
from study.search.scheduling_order import Expected, expected_seconds
from study.search.selection import select, select_by_search
from study.storage.places import Places
from study.tracking.ledger import Ledger


class Runner(Protocol):
    """A function that runs a plan to its end, in this process or on a Ray cluster."""

    def __call__(
        self,
        conductor: Conductor,
        places: Callable[[Ask], Places],
        *,
        total: int,
        measurements: tuple[str, ...],
        interrupted: Interrupted,
    ) -> None:
        """Run the trials. `total`: trials left; `measurements`: made on every trial that completes."""


class Executor:
    """A function that runs a study's plans by one runner into one ledger."""

    def __init__(self, run: Runner, work: Workplace, tables: Tables, interrupted: Interrupted) -> None:
        self._run, self._work, self.tables, self.interrupted = run, work, tables, interrupted
        self.study, self.ledger, self.places = work.study, work.ledger, work.places
        self._names, self._remaining = Names([c.id for c in work.study.cells]), remaining(work.study, work.ledger)

    def __call__(self, title: str, plan: Plan, *, measurements: tuple[str, ...] = (), remaining: Remaining | None = None) -> None:
        """Run a plan. `remaining`: the rest of this plan alone, where its trials have another number of epochs than the study's."""
        if plan.done >= plan.total or self.interrupted.is_set():  # a stage is not announced after "stopping"
            return
        left_of = remaining or self._remaining
        with Watch(title, plan.total, plan.done, left_of.max_epochs, self._names, left_of) as watch:
            conductor = Conductor(plan, self.ledger, self._classes, watch, measurements)
            left = plan.total - plan.done
            self._run(conductor, self._place_of, total=left, measurements=measurements, interrupted=self.interrupted)

    def look_again(self) -> None:
        """Count the remaining trials again, after a question got a longer training."""
        self._remaining = remaining(self.study, self.ledger)

    def _classes(self, config: TrialConfig) -> list[str]:
        return list(self.tables[config.cell.dataset, config.cell.split_protocol].classes)

    def _place_of(self, ask: Ask) -> Places:
        return self._work.of_trial(ask.trial_id)


def remaining(study: Study, ledger: Ledger) -> Remaining:
    """Return what all stages still have to do, and what each cell's trials took so far.

    A longer confirmation is not counted before it is decided on.
    """
    asks, results = {a.trial_id: a for a in ledger.asks()}, ledger.results()
    p, done, runs = study.protocol, ended(study, ledger, asks, results), study.confirm_seeds
    found, factors = (
        Remaining(max_epochs=p.max_epochs, image_size=p.image_size),
        factors_of(study, ledger.budgets(), ledger.confirmed_trials()),
    )
    for cell in study.cells:
        searched, confirmed = study.protocol_of(cell), study.confirmed_protocol(cell)
        size = cell.budget * (confirmed.image_size / p.image_size) ** 2
        whole = factors.get(cell.id, 1) * size
        found.searched[cell.id] = cell.budget * (searched.image_size / p.image_size) ** 2
        found.todo[cell.id, 0] = study.trials - done[cell.id, Stage.SEARCH]
        found.todo[cell.id, whole] = (
            runs * (1 + sum(n in study.explain for n in ("memorisation", "default"))) - done[cell.id, Stage.CONFIRM]
        )
        found.todo[cell.id, study.budget_check * size] += checks(study, cell) - done[cell.id, Stage.BUDGET]
        for control in controls() if "controls" in study.explain else ():
            found.todo[dataclasses.replace(cell, strategy=control).id, whole] = runs
    for trial_id in results.keys() & {k for k, ask in asks.items() if ask.origin is not Origin.LINE}:
        ask, result = asks[trial_id], results[trial_id]
        found.measured(ask.cell, result.seconds, result.epochs * pixels(ask, p.image_size))
        if ask.stage is Stage.EXPLAIN:
            found.done(ask.cell, times(ask, p.max_epochs, p.image_size))
    return found


def set_line(executor: Executor, *, again: bool = False) -> None:
    """Solve the line to beat of every question and print its score: the first answer of a study, before anything is searched.

    `again`: the study has changed since, and where no line did, nothing is run and nothing is said.
    """
    ledger = executor.ledger
    asks = line_asks(executor.study, ledger.asks())
    done = {a.trial_id for a in asks if ledger.result(a.trial_id) is not None}
    if again and len(done) == len(asks):
        return
    executor("the line to beat", FixedPlan(asks, done), remaining=Remaining(max_epochs=1, of="this stage"))
    for ask in asks:
        if (result := ledger.result(ask.trial_id)) is not None:
            print(f"the line to beat: {ask.config['cell']['dataset']}: {describe(ask, result)}")


def line_leads(ledger: Ledger) -> bool:
    """Return True where some line to beat is at least as high on validation as everything the search chose for its data set."""
    results, best = ledger.results(), (ledger.selection() or {"chosen": {}})["chosen"]
    lines, won = dict[str, float](), dict[str, float]()
    for ask in ledger.asks():
        score = results[ask.trial_id].objective if ask.trial_id in results else None
        if score is None or not (ask.origin is Origin.LINE or best.get(ask.cell) == ask.trial_id):
            continue
        scores = lines if ask.origin is Origin.LINE else won
        name = ask.config["cell"]["dataset"]
        scores[name] = max(score, scores.get(name, -math.inf))
    return any(score >= won.get(name, -math.inf) for name, score in lines.items())


def measure_line(executor: Executor) -> None:
    """Score the line to beat on the test images, where `confirm` has opened them for it; without confirm runs they stay closed."""
    ledger, measure = executor.ledger, measured_on_line(executor.study)
    opened = {t for opening in ledger.test_openings() for t in opening["trials"]}
    asks = [a for a in line_asks(executor.study, ledger.asks()) if a.trial_id in opened and _completed(ledger, a.trial_id)]
    done = {a.trial_id for a in asks if all(ledger.measured(a.trial_id, name) for name in measure)}
    executor(
        "the line to beat, on test images", FixedPlan(asks, done), measurements=measure, remaining=Remaining(max_epochs=1, of="this stage")
    )


def measured_on_line(study: Study) -> tuple[str, ...]:
    """Return the study's measurements that make sense on a network whose features are the pretrained ones."""
    return tuple(name for name in study.measure if name in ("predictions", "calibration"))


def _completed(ledger: Ledger, trial_id: str) -> bool:
    result = ledger.result(trial_id)
    return result is not None and result.outcome is Outcome.COMPLETED


def search(executor: Executor) -> None:
    """Search. Cells are priced before their first trial only where each is tried once; otherwise the first trial tells in time."""
    study = executor.study
    pricing, cells = Pricing(study.protocol_of, executor.tables, executor.places.weights), {c.id: c for c in study.cells}
    once = study.trials == study.searches and len(study.cells) > 1
    executor("search", SearchPlan(study, executor.ledger, (lambda cell: 3600 * pricing.hours(cells[cell])) if once else None))


def choose(ledger: Ledger, searches: int = 1) -> dict[str, list[str]]:
    """Choose the trial that represents each cell, and for each of its independent searches, by a named rule, and write the choice down.

    It is made once a cell's search is done, and again where a search grew.
    """
    known, results = ledger.selection(), ledger.results()
    trials = [(a, results[a.trial_id]) for a in ledger.asks(Stage.SEARCH) if a.trial_id in results]
    if known is not None and (not ledger.amendments() or known.get("considered") == len(trials)):
        return ledger.confirmed_trials()
    rule, chosen = select(trials)
    study = ledger.study()
    by_search = select_by_search(trials, study) if study and searches > 1 else {cell: [trial_id] for cell, trial_id in chosen.items()}
    ledger.write_selection(rule, chosen, len(trials), by_search if searches > 1 else None)
    kept = {trial_id for own in by_search.values() for trial_id in own}
    for ask in ledger.asks(Stage.SEARCH):  # one network a cell is kept: forty trials of checkpoints fill disks
        if ask.trial_id not in kept:
            ledger.trial_folder(ask.trial_id).remove("best")
    return by_search


def ended(
    study: Study, ledger: Ledger, asks: Mapping[str, Ask] | None = None, results: Mapping[str, TrialResult] | None = None
) -> Counter[tuple[str, Stage]]:
    """Return by cell and stage the number of planned trials that have ended for certain.

    Confirm runs of an earlier choice do not count, and an extended search may choose again. One budget check for each cell is
    planned; more only where the question moves on.
    """
    results, chosen, budgets = ledger.results() if results is None else results, ledger.confirmed_trials(), ledger.budgets()
    asks = {a.trial_id: a for a in ledger.asks()} if asks is None else asks
    found = Counter[tuple[str, Stage]]((a.cell, a.stage) for a in asks.values() if a.stage is Stage.SEARCH and a.trial_id in results)
    searched = {cell for cell in chosen if found[cell, Stage.SEARCH] >= study.trials}
    for ask in confirm_asks(study, ledger, chosen, known=asks):
        found[ask.cell, Stage.CONFIRM] += ask.trial_id in results and ask.cell in searched
    cells = {c.id: c for c in study.cells}
    rounds = {cell: next_round(study, cells[cell], record_of(study, budgets, chosen, cell)) for cell in chosen if cell in cells}
    for ask in check_asks(study, ledger, chosen, {cell: part for cell, part in rounds.items() if part is not None}, known=asks):
        found[ask.cell, Stage.BUDGET] += ask.trial_id in results and ask.cell in searched
    for cell in searched & rounds.keys():
        found[cell, Stage.BUDGET] += checks(study, cells[cell]) and rounds[cell] is None  # settled
    return found


def confirm(executor: Executor, chosen: Chosen) -> None:
    """Train each winner again, unless the budget check did, and measure it. Where that opens the test set, the lock is asked first."""
    ledger, measure = executor.ledger, executor.study.measure
    asks = confirm_asks(executor.study, ledger, chosen)
    if not asks:
        return
    seen = {t for opening in ledger.test_openings() for t in opening["trials"]}
    if opens_test(measure):
        ledger.open_test([a.trial_id for a in (*line_asks(executor.study, ledger.asks()), *asks)])
    ends = ledger.folder.each(lambda ask: is_done(ledger, ask.trial_id, measure, said=ask.trial_id in seen), asks)
    done = {a.trial_id for a, end in zip(asks, ends, strict=True) if end}
    executor("confirm", FixedPlan(asks, done, expected_in(ledger)), measurements=measure)


def expected_in(ledger: Ledger) -> Expected:
    """Return the expected seconds of a future trial, from this ledger's; a trial that only lacks its measurements takes none."""
    results = ledger.results()
    expected = expected_seconds(((a, results[a.trial_id]) for a in ledger.asks() if a.trial_id in results), controls())
    return lambda ask: 0.0 if ask.trial_id in results else expected(ask)


def explain(executor: Executor, chosen: Chosen) -> None:
    """Train the explanatory runs. Nothing is measured and no network kept: none is a candidate, and none sees test images."""
    ledger = executor.ledger
    asks = explain_asks(executor.study, ledger, chosen) if executor.study.explain else []
    if asks:
        executor("explain", FixedPlan(asks, {a.trial_id for a in asks if ledger.result(a.trial_id) is not None}, expected_in(ledger)))
    for ask in asks:
        if ask.stage is Stage.EXPLAIN and ledger.result(ask.trial_id) is not None:
            ledger.trial_folder(ask.trial_id).remove("best")


def is_done(ledger: Ledger, trial_id: str, measurements: tuple[str, ...], *, said: bool = True) -> bool:
    """Return True where a trial has ended and left its measurements; a completed run that lacks one is asked for again
    (run.was_completed).

    `said`: it should have been measured before, so a warning names what was lost.
    """
    result = ledger.result(trial_id)
    if result is None:
        return False
    if result.outcome is not Outcome.COMPLETED:
        return True
    lost = [n for n in measurements if not ledger.measured(trial_id, n)]
    if lost and said:
        warn(f"{trial_id} was completed but left no {', '.join(lost)}: its network is measured again, or trained again where it is gone")
    return not lost
