"""How long a study still takes, from what its own trials took. Nothing is guessed: before the first epoch has ended there is no answer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

Kind = tuple[str, bool]
"""A cell, and whether its runs are trained to their end: a search stops some early."""


@dataclass(frozen=True, kw_only=True)
class Running:
    cell: str
    whole: bool
    seconds: float  # since it started
    epochs: int  # completed
    trained: float  # seconds from its start to the end of the last of them


@dataclass
class Remaining:
    """`todo`: runs that have not ended, the running ones among them."""

    max_epochs: int
    todo: Counter[Kind] = field(default_factory=Counter)
    at_once: int = 1  # most seen running
    _ended: dict[str, tuple[int, float, int]] = field(default_factory=dict)  # by cell: how many, their seconds, their epochs

    def measured(self, cell: str, seconds: float, epochs: int) -> None:
        """A trial of the cell took so many seconds of wall time."""
        count, total, passed = self._ended.get(cell, (0, 0.0, 0))
        self._ended = {**self._ended, cell: (count + 1, total + seconds, passed + epochs)}  # another thread reads it

    def done(self, cell: str, whole: bool) -> None:
        """One less to do."""
        self.todo[cell, whole] -= self.todo[cell, whole] > 0

    def left(self, running: Mapping[str, Running]) -> float | None:
        """Seconds until the last run has ended; None where nothing has been measured yet.

        A cell none of whose trials has ended goes by its running ones' epochs, else by the mean of the other cells.
        """
        self.at_once = max(self.at_once, len(running))
        epoch = {cell: total / passed for cell, (_, total, passed) in self._ended.items() if passed}
        for r in running.values():
            if r.epochs:
                epoch.setdefault(r.cell, r.trained / r.epochs)
        if not epoch:
            return None
        mean = sum(epoch.values()) / len(epoch)

        def price(cell: str, whole: bool) -> float:
            count, _, passed = self._ended.get(cell, (0, 0.0, 0))
            epochs = self.max_epochs if whole or not count else passed / count
            return epoch.get(cell, mean) * epochs

        own = [max(price(r.cell, r.whole) - r.seconds, 0.0) for r in running.values()]
        waiting = Counter(dict(self.todo)) - Counter((r.cell, r.whole) for r in running.values())
        work = sum(own) + sum(count * price(cell, whole) for (cell, whole), count in waiting.items())
        return max([work / self.at_once, *own])
