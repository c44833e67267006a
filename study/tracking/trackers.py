"""The trackers, by the kind that their address begins with; an address without one is an MLflow server's."""

from collections.abc import Callable
from typing import Protocol

from study.tracking.ledger import Ledger
from study.tracking.tracker import SyncReport, Tracker


class Copy(Protocol):
    """One study's, with what is remembered of it between passes."""

    def sync(self) -> SyncReport: ...


class OneEach:
    """A tracker of several studies, each with a copy of its own."""

    def __init__(self, make: Callable[[Ledger], Copy]) -> None:
        self._make = make
        self._copies: dict[str, Copy] = {}

    def sync(self, ledger: Ledger) -> SyncReport:
        """One pass of this study's copy. Raises what making the copy raises, an MLflow that cannot be connected to for example."""
        where = ledger.folder.location
        if where not in self._copies:
            self._copies[where] = self._make(ledger)
        return self._copies[where].sync()


def mlflow(uri: str | None) -> Tracker:
    """The server at `uri`; None: SQLite beside the studies."""
    from study.tracking.mirror import Mirror

    return OneEach(lambda ledger: Mirror(ledger, uri))


def tensorboard(folder: str) -> Tracker:
    """Event files under `folder`."""
    from study.tracking.tensorboard import EventFiles

    return OneEach(lambda ledger: EventFiles(ledger, folder))


TRACKERS: dict[str, Callable[[str], Tracker]] = {"tensorboard": tensorboard}


def open_tracker(address: str | None) -> Tracker:
    """The tracker at KIND:PLACE, else the MLflow server of this address."""
    kind, _, place = (address or "").partition(":")
    return TRACKERS[kind](place) if kind in TRACKERS else mlflow(address)
