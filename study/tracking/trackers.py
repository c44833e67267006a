"""The trackers, by the kind with which their address begins. An address without a kind is an MLflow server's."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from study.tracking.ledger import Ledger
from study.tracking.tracker import SyncReport, Tracker


class Copy(Protocol):
    """The copy of one study, with its state between passes."""

    def sync(self) -> SyncReport: ...


class OneEach:
    """A tracker of several studies, each with a copy of its own."""

    def __init__(self, make: Callable[[Ledger], Copy]) -> None:
        self._make = make
        self._copies: dict[str, Copy] = {}

    def sync(self, ledger: Ledger) -> SyncReport:
        """Run one pass for this study's copy. Raises what making the copy raises, for example for an MLflow that cannot be reached."""
        where = ledger.folder.location
        if where not in self._copies:
            self._copies[where] = self._make(ledger)
        return self._copies[where].sync()


def mlflow(uri: str | None) -> Tracker:
    """Return a tracker for the server at `uri`; None: SQLite beside the studies."""
    from study.tracking.mirror import Mirror

    return OneEach(lambda ledger: Mirror(ledger, uri))


def tensorboard(folder: str) -> Tracker:
    """Return a tracker that writes event files under `folder`."""
    from study.tracking.tensorboard import EventFiles

    return OneEach(lambda ledger: EventFiles(ledger, folder))


class Kind(NamedTuple):
    """A kind of tracker, which is at a place: a folder, or what else it writes to."""

    open: Callable[[str], Tracker]
    look: str  # what a person types to look at it; {place} stands for the place


TRACKERS = {"tensorboard": Kind(tensorboard, "tensorboard --logdir {place}")}


def open_tracker(address: str | None) -> Tracker:
    """Return the tracker at KIND:PLACE, else the MLflow server of this address."""
    kind, _, place = (address or "").partition(":")
    return TRACKERS[kind].open(place) if kind in TRACKERS else mlflow(address)
