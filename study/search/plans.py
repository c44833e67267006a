"""Plans: the trials that a stage of a study runs. One interface, `Plan`; the search's own plan is in optuna_cells.py."""

from abc import ABC, abstractmethod
from collections import deque

from study.question.trial_config import TrialConfig
from study.records import Ask, EpochRecord, Origin, Stage, TrialResult
from study.search.scheduling_order import Expected


def ask_for(config: TrialConfig, cell: str, number: int, stage: Stage, origin: Origin, sequence: int) -> Ask:
    """Ask for a run of these settings; `number`: which run of its cell and stage, `sequence`: its place in the order of asking."""
    return Ask(trial_id=config.id, cell=cell, number=number, stage=stage, origin=origin, config=config.as_dict(), sequence=sequence)


def shows_curve(ask: Ask) -> bool:
    """Return True where the report draws the trial's curve: confirm runs, and budget checks, which may become some.

    For other trials the report reads the kept epoch alone.
    """
    return ask.stage in (Stage.CONFIRM, Stage.BUDGET)


class Plan(ABC):
    """A plan of trials. It gets every epoch and every ending, and says which trial runs next and which stops early."""

    total: int  # trials this stage runs in all, those done before included
    done: int  # of these, ended before

    @abstractmethod
    def ask(self) -> Ask | None:
        """Return the next trial, or None when all have been asked for."""

    @abstractmethod
    def report(self, ask: Ask, record: EpochRecord) -> bool:
        """Return True to stop this trial now."""

    @abstractmethod
    def stops(self, ask: Ask) -> tuple[int, ...]:
        """Return the epochs after which `report` may stop this trial, so that its network is ready there."""

    @abstractmethod
    def tell(self, ask: Ask, result: TrialResult) -> None:
        """Take the result of a trial that has ended, however it did."""


class FixedPlan(Plan):
    """A list of trials, none stopped early: the confirm stage. They start in order, or, with `expected`, dearest first."""

    def __init__(self, asks: list[Ask], done: set[str], expected: Expected | None = None) -> None:
        self.total = len(asks)
        left = [a for a in asks if a.trial_id not in done]
        self._queue = deque(left if expected is None else sorted(left, key=expected, reverse=True))
        self.done = self.total - len(self._queue)

    def ask(self) -> Ask | None:
        return self._queue.popleft() if self._queue else None

    def report(self, ask: Ask, record: EpochRecord) -> bool:
        del ask, record
        return False

    def stops(self, ask: Ask) -> tuple[int, ...]:
        del ask
        return ()

    def tell(self, ask: Ask, result: TrialResult) -> None:
        del ask, result
