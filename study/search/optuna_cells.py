"""The search: one Optuna study and one asynchronous successive halving (ASHA, Li et al. 2020) per cell and independent search.

Optuna's state is rebuilt from the ledger whenever a sweep starts, so none can be lost. Samplers are seeded by (study, cell, trial
number): the default and the random trials are the same on every machine and in any order. The guided ones, which the study's sampler
proposes, are functions of the results before them.
"""

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from study.question.cell import Cell
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import Ask, EpochRecord, Origin, Outcome, Stage, TrialResult
from study.search.plans import Plan, ask_for
from study.search.sample import default_values, distributions, suggest
from study.search.samplers import SAMPLERS
from study.search.scheduling_order import SecondsByCell
from study.search.seeds import seed_for
from study.tracking.ledger import Ledger

optuna.logging.set_verbosity(optuna.logging.WARNING)

STATES = {
    Outcome.COMPLETED: TrialState.COMPLETE,
    Outcome.STOPPED: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.FAIL,
    Outcome.FAILED: TrialState.FAIL,
}
RESAMPLES = 20  # a space that keeps repeating itself is exhausted


class SearchPlan(Plan):
    """A plan that asks the cell that is furthest behind in its budget, the dearest one of several.

    Unfinished trials of an earlier run come first, under their own ids. The order of cells changes no cell's trials: each asks and is
    told for itself.
    """

    def __init__(self, study: Study, ledger: Ledger, price: Callable[[str], float] | None = None) -> None:
        """Set up the search. `price`: seconds of a trial of the cell with this id, used where none was measured."""
        self.study, self._seconds = study, SecondsByCell(price)
        self.cells = {(cell.id, search): CellSearch(cell, study, search) for search in range(study.searches) for cell in study.cells}
        self.total, self.done = study.trials * len(study.cells), 0
        self._again: deque[Ask] = deque()
        asks = ledger.asks()
        self._sequence = max((a.sequence for a in asks), default=-1) + 1
        own = [a for a in asks if a.stage is Stage.SEARCH and (a.cell, 0) in self.cells]
        for ask, epochs, result in ledger.trials(own):
            self._search_of(ask).replay(ask, epochs if result else [], result)
            if result is None:
                self._again.append(ask)
            else:
                self._seconds.add(ask, result)
                self.done += 1

    def ask(self) -> Ask | None:
        if self._again:
            return self._again.popleft()
        behind = [c for c in self.cells.values() if c.asked < self.study.trials // self.study.searches]
        if not behind:
            return None
        ask = min(behind, key=lambda c: (c.asked, -self._seconds[c.cell.id])).ask(self._sequence)
        self._sequence += 1
        return ask

    def report(self, ask: Ask, record: EpochRecord) -> bool:
        return self._search_of(ask).report(ask, record)

    def stops(self, ask: Ask) -> tuple[int, ...]:
        return self._search_of(ask).stops(ask)

    def tell(self, ask: Ask, result: TrialResult) -> None:
        self._seconds.add(ask, result)
        self._search_of(ask).tell(ask, result)

    def _search_of(self, ask: Ask) -> "CellSearch":
        return self.cells[ask.cell, self.study.place_of(ask.number)[0]]


class CellSearch:
    """Ask and tell for one search of a cell.

    Its rungs follow the cell's own budget: of a schedule ten times as long, the same shares are trained before a trial may be stopped. A
    trial's number says to which search of a cell it belongs (`Study.place_of`). Each search has its own published default, draws and
    training seed, so its result is independent of another's.
    """

    def __init__(self, cell: Cell, study: Study, search: int = 0) -> None:
        self.cell, self.settings, self.search = cell, study, search
        self.grace, self.max_epochs = max(study.grace_epochs, 1) * cell.budget, study.protocol_of(cell).max_epochs
        self.seed = seed_for(study.seed, "search", search) % 2**31 if search else study.seed  # of training
        self._numbers: set[int] = set()  # asked for; one may be missing, when a damaged trial's folder was removed
        self.study = optuna.create_study(
            direction="maximize",
            pruner=SuccessiveHalvingPruner(min_resource=self.grace, reduction_factor=study.reduction_factor),
        )
        self._live: dict[str, optuna.Trial] = {}
        self._ids: set[str] = set()

    @property
    def asked(self) -> int:
        return len(self._numbers)

    def origin(self, number: int) -> Origin:
        """Return the origin of trial `number` of the cell; its random trials are split as all are, rounded up."""
        own = self.settings.place_of(number)[1]
        if own == 0:
            return Origin.DEFAULT
        return Origin.RANDOM if own <= -(-self.settings.random_trials // self.settings.searches) else Origin(self.settings.sampler)

    def ask(self, sequence: int) -> Ask:
        numbers = (self.settings.number_of(self.search, nth) for nth in itertools.count())
        number = next(n for n in numbers if n not in self._numbers)
        origin = self.origin(number)
        for attempt in range(RESAMPLES):
            seed = seed_for(self.settings.seed, self.cell.id, number, attempt)
            self.study.sampler = SAMPLERS[self.settings.sampler](seed) if origin.guided else RandomSampler(seed=seed)
            if origin is Origin.DEFAULT:
                self.study.enqueue_trial(default_values(self.settings, self.cell))
            trial = self.study.ask()
            config = suggest(trial, self.settings, self.settings.cell_of(self.cell, self.search), self.seed)
            if config.id in self._ids and attempt == RESAMPLES - 1:  # nothing new is left: a known point again, with another seed
                config = dataclasses.replace(config, seed=seed % 2**31)
            if config.id not in self._ids:
                break
            self.study.tell(trial, state=TrialState.FAIL)
        self._numbers.add(number)
        self._live[config.id] = trial
        self._ids.add(config.id)
        return ask_for(config, self.cell.id, number, Stage.SEARCH, origin, sequence)

    def report(self, ask: Ask, record: EpochRecord) -> bool:
        """Return True where the trial must stop. Random trials are never stopped, but the others are compared with them."""
        trial = self._live[ask.trial_id]
        trial.report(record.objective, record.epoch)
        promising = not trial.should_prune()
        return not promising and ask.origin.guided and record.epoch < self.max_epochs

    def stops(self, ask: Ask) -> tuple[int, ...]:
        """Return the rungs below the last epoch: `report` stops a trial nowhere else."""
        if not ask.origin.guided:
            return ()
        rungs = (self._rung(k) for k in itertools.count())
        return tuple(itertools.takewhile(lambda epoch: epoch < self.max_epochs, rungs))

    def _rung(self, number: int) -> int:
        return self.grace * self.settings.reduction_factor**number

    def tell(self, ask: Ask, result: TrialResult) -> None:
        trial = self._live.pop(ask.trial_id, None)
        if trial is not None:
            state = STATES[result.outcome]
            value = result.objective if state is TrialState.COMPLETE else None
            self.study.tell(trial, value, state=state if value is not None or state is not TrialState.COMPLETE else TrialState.FAIL)

    def replay(self, ask: Ask, epochs: list[EpochRecord], result: TrialResult | None) -> None:
        """Tell Optuna, and its pruner, the results of an earlier run of the sweep."""
        config = TrialConfig.from_dict(ask.config)
        self._ids.add(ask.trial_id)
        self._numbers.add(ask.number)
        if result is not None and self._add(config, epochs, result):
            return
        self.study.enqueue_trial(config.values(self.settings.ranges(self.cell)))
        trial = self.study.ask()
        suggest(trial, self.settings, self.cell, config.seed)
        self._live[ask.trial_id] = trial
        for record in epochs:
            self.report(ask, record)
        if result is not None:
            self.tell(ask, result)

    def _add(self, config: TrialConfig, epochs: list[EpochRecord], result: TrialResult) -> bool:
        """Add to Optuna at once what asking, reporting and telling would leave there, since the pruner compares each trial with all
        others.

        Returns False where Optuna refuses: a value that lies outside the range it has today.
        """
        ranges, scores = self.settings.ranges(self.cell), {e.epoch: e.objective for e in epochs}
        state = STATES[result.outcome]
        value = result.objective if state is TrialState.COMPLETE else None
        if state is TrialState.COMPLETE and value is None:
            state = TrialState.FAIL
        if state is TrialState.PRUNED and scores:
            value = scores[max(scores)]
        try:
            params = config.values(ranges)
            told = optuna.trial.create_trial(
                state=state,
                value=value,
                params=params,
                distributions=distributions(ranges),
                intermediate_values=scores,
                system_attrs=self._rungs(scores),
            )
            self.study.add_trial(told)
        except (KeyError, ValueError):
            return False
        return True

    def _rungs(self, scores: dict[int, float]) -> dict[str, float]:
        """Return the pruner's notes on a trial: its score at the first epoch at or past each rung.

        It notes one rung an epoch while the trial is not promoted; promoted or not, the next rung lies epochs ahead.
        """
        noted: dict[str, float] = {}
        for epoch, score in sorted(scores.items()):
            if epoch >= self._rung(len(noted)):
                noted[f"completed_rung_{len(noted)}"] = score
        return noted
