"""The time that a study still takes, estimated from its own trials. Before the first epoch has ended there is no answer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from study.records import Ask, Stage

Kind = tuple[str, float]
"""A cell, and the size of one of its runs: 0 in a search, which stops some early; else times the study's epochs, at the study's size of
images (True, that is 1: a plain confirm run)."""


def times(ask: Ask, max_epochs: int, image_size: int) -> float:
    """Return the size of a trial, as in `Kind`."""
    return 0.0 if ask.stage is Stage.SEARCH else ask.config["protocol"]["max_epochs"] / max_epochs * pixels(ask, image_size)


def pixels(ask: Ask, image_size: int) -> float:
    """Return the cost of an image relative to the search's: the ratio of their pixels."""
    own = ask.config.get("protocol", {}).get("image_size", image_size)
    return float((own / image_size) ** 2) if image_size else 1.0


@dataclass(frozen=True, kw_only=True)
class Running:
    cell: str
    whole: float  # as in Kind
    seconds: float  # since it started
    epochs: float  # completed, of the search's size
    trained: float  # seconds from its start to the end of the last of them


@dataclass
class Remaining:
    """The work that is left. `todo`: runs that have not ended, the running ones among them."""

    max_epochs: int
    image_size: int = 0  # of the search; 0: alike for all
    of: str = "the study"  # whose work it is
    todo: Counter[Kind] = field(default_factory=Counter)
    searched: dict[str, float] = field(default_factory=dict)  # by cell, how much a trial of its search is that is not stopped; else 1
    at_once: int = 1  # most seen running
    _ended: dict[str, tuple[int, float, float]] = field(default_factory=dict)  # by cell: how many, their seconds, their epochs

    def measured(self, cell: str, seconds: float, epochs: float) -> None:
        """Record that a trial of the cell took so many seconds of wall time for so many epochs of the search's size."""
        count, total, passed = self._ended.get(cell, (0, 0.0, 0.0))
        self._ended = {**self._ended, cell: (count + 1, total + seconds, passed + epochs)}  # another thread reads it

    def done(self, cell: str, whole: float) -> None:
        """Record that one run has ended."""
        self.todo[cell, whole] -= self.todo[cell, whole] > 0

    def size(self, cell: str, whole: float) -> float:
        """Return the size of a run, also for a run of a search that is not stopped."""
        return float(whole) or self.searched.get(cell, 1.0)

    def left(self, running: Mapping[str, Running]) -> float | None:
        """Return the seconds until the last run has ended; None where nothing has been measured yet.

        A cell none of whose trials has ended is estimated from its running ones' epochs, else from the mean of the other cells.
        """
        self.at_once = max(self.at_once, len(running))
        epoch = {cell: total / passed for cell, (_, total, passed) in self._ended.items() if passed}
        for r in running.values():
            if r.epochs:
                epoch.setdefault(r.cell, r.trained / r.epochs)
        if not epoch:
            return None
        mean = sum(epoch.values()) / len(epoch)
        late = dict(epoch)  # what is far behind that says that what follows will take as long
        for r in running.values():
            whole = self.max_epochs * self.size(r.cell, r.whole)
            if r.seconds <= epoch.get(r.cell, mean) * (r.epochs + 1 + whole / 2):  # its start and its first views take longer
                continue
            pace = r.seconds / (r.epochs + 1) if r.epochs else 2 * r.seconds / whole  # of no epoch: as long again
            late[r.cell] = max(late.get(r.cell, mean), pace)

        def price(cell: str, whole: float, epoch: Mapping[str, float]) -> float:
            count, _, passed = self._ended.get(cell, (0, 0.0, 0.0))
            epochs = self.max_epochs * self.size(cell, whole) if whole or not count else passed / count
            return epoch.get(cell, mean) * epochs

        own = [
            max(_left_of(r, price(r.cell, r.whole, pace), self.max_epochs * self.size(r.cell, r.whole)) for pace in (epoch, late))
            for r in running.values()
        ]
        waiting = Counter(dict(self.todo)) - Counter((r.cell, r.whole) for r in running.values())
        work = sum(own) + sum(count * price(cell, whole, late) for (cell, whole), count in waiting.items())
        return max([work / self.at_once, *own])


def _left_of(run: Running, expected: float, epochs: float) -> float:
    """Return the seconds left of a running trial that should take `expected` in all.

    A late trial is estimated by its own pace: the machine became busier.
    """
    if run.seconds <= expected:
        return expected - run.seconds
    done = min(run.epochs / epochs, 1.0)
    return run.seconds * (1 - done) / done if done else run.seconds
