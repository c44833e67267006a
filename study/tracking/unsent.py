"""The parts of a study's ledger that a server does not have. A pass sends them, and the rest is counted by the same rules."""

from typing import Any

from study.records import Ask, Stage
from study.tracking import events
from study.tracking.cursor import Cursor, mark
from study.tracking.ledger import STUDY_FILES, Ledger


class Unsent:
    """The ledger beside what the cursor says was sent. A file that was read once and cannot have changed is not read again."""

    def __init__(self, ledger: Ledger, cursor: Cursor) -> None:
        self.ledger, self._cursor = ledger, cursor
        self.facts: dict[str, Any] = {}
        self.asks: list[Ask] = []
        self.kept: set[str] = set()  # trials chosen by the search: beside the confirm runs, all whose networks are kept
        self.known: dict[str, Ask] = {}  # every trial ever seen; an ask is written once, so read once
        self._looked = ""  # mark of study.json when what was measured on ended trials was last looked for
        self._here: dict[str, str] = {}  # marks of the study's files on the disk
        self._same: dict[str, str] = {}  # of those that are as they were sent, the mark

    def look(self) -> None:
        """Read the ledger as it is now."""
        self._here = self.ledger.folder.marks()
        self.facts = self.ledger.facts()
        self.kept = set((self.ledger.selection() or {"chosen": {}})["chosen"].values())
        self.asks = self.ledger.asks_beside(self.known)

    def count(self) -> int:
        """Return the number of events in the ledger that have not been delivered."""
        sent, count = self._cursor, 0
        self.look()
        for ask in self.trials():
            result = self.ledger.result(ask.trial_id)
            count += max(len(self.ledger.epochs(ask.trial_id, ended=result is not None)) - sent.epochs.get(ask.trial_id, 0), 0)
            count += result is not None
        runs = {key for ask in self.asks for key in ("", ask.cell, ask.trial_id)}
        count += len(runs - sent.runs.keys()) + len(self.measurements()) + len(self.networks()) + len(self.files())
        return count + max(len(self.ledger.amendments()) - sent.amendments, 0) + (events.last_word(self.facts) != sent.closed)

    def trials(self) -> list[Ask]:
        """Return those that have not ended on the server."""
        return [a for a in self.asks if a.trial_id not in self._cursor.ended]

    def networks(self) -> list[Ask]:
        """Return the chosen trials whose networks are kept here and not registered there."""
        chosen = [a for a in self.asks if a.trial_id in self.kept and a.trial_id not in self._cursor.models]
        return [a for a in chosen if self.ledger.trial_folder(a.trial_id).exists("best/manifest.json")]

    def measurements(self) -> list[tuple[Ask, str]]:
        """Return files that were measured on trials after they had ended on the server.

        It looks once, and again whenever study.json was written, as the end of a study does.
        """
        if self._looked == self._here.get("study.json", ""):
            return []
        measured = [a for a in self.asks if a.trial_id in self.kept or a.stage in (Stage.CONFIRM, Stage.BUDGET)]
        ended = [a for a in measured if a.trial_id in self._cursor.ended]
        files = [(ask, f"measured/{name}.parquet") for ask in ended for name in self.ledger.measurements(ask.trial_id)]
        return [(ask, name) for ask, name in files if f"trials/{ask.trial_id}/{name}" not in self._cursor.files]

    def measurements_sent(self) -> None:
        """Note that none is left of those that lie here now."""
        self._looked = self._here.get("study.json", "")

    def files(self) -> dict[str, bytes]:
        """Return the study's files that differ from what was sent, by name."""
        found = ((name, self.changed(name)) for name in STUDY_FILES)
        return {name: data for name, data in found if data is not None}

    def changed(self, name: str) -> bytes | None:
        """Return the study's file where it differs from what was sent, else None. A file that was not written since is not read."""
        here = self._here.get(name)
        if here is not None and self._same.get(name) == here and name in self._cursor.files:
            return None
        data = self.ledger.folder.read(name)
        if data is not None and self._cursor.files.get(name) == mark(data):
            self._same[name] = here or ""
            return None
        return data

    def file_sent(self, name: str, data: bytes) -> None:
        """Note that the server has this content of the study's file."""
        self._cursor.files[name] = mark(data)
        self._same[name] = self._here.get(name, "")
