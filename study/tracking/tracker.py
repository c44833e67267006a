"""A tracker: whatever keeps a copy of a ledger for people to look at. The ledger is the truth, so a tracker is told nothing: it reads."""

from dataclasses import dataclass
from typing import Protocol

from study.tracking.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """How far one pass came."""

    sent: int = 0  # events delivered: run starts, epochs, endings, files of the study
    pending: int = 0
    problem: str | None = None  # one line; the way out in it


class Tracker(Protocol):
    """Brings its copy up to the ledger. May be ended anywhere and asked again: nothing stands there twice."""

    def sync(self, ledger: Ledger) -> SyncReport:
        """Send everything in the ledger that the copy has not got. Never raises for a fault of where the copy lies: the report says it."""
        ...
