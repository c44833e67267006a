"""The interface of trackers, which keep a copy of a ledger for people to look at. A tracker is told nothing: it reads the ledger."""

from dataclasses import dataclass
from typing import Protocol

from study.tracking.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """The result of one pass."""

    sent: int = 0  # events delivered: run starts, epochs, endings, files of the study
    pending: int = 0
    problem: str | None = None  # one line; the way out in it
    note: str | None = None  # one line that is no problem

    @property
    def lack(self) -> str | None:
        """Return in words what the copy has not got, or what is wrong there with all sent; None where all is well."""
        problem = (self.problem or "").rstrip(".")
        return f"{self.pending} events not sent ({problem})" if self.pending else problem or None


class Tracker(Protocol):
    """A copy of ledgers. It may be ended at any moment and called again: nothing is stored twice."""

    def sync(self, ledger: Ledger) -> SyncReport:
        """Send everything in the ledger that the copy does not have. A fault of the copy's place is reported, never raised."""
        ...
