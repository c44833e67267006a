"""Requests to one MLflow server, counted, and noted beside the study (study.tracking.cursor). Several trials send at a time."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from study.tracking import held
from study.tracking.cursor import Cursor
from study.tracking.explain import explain
from study.tracking.ledger import Ledger
from study.tracking.mlflow_runs import PARENT, Runs

SAVE_S = 5.0  # how often the cursor is written during a pass


class Sender:
    """One study's runs on one server. Every method that asks the server raises what MLflow's client raises."""

    def __init__(self, ledger: Ledger, uri: str) -> None:
        self.runs, self.uri = Runs(ledger.study_name, ledger.begun, uri), uri
        self.cursor = Cursor.load(ledger.folder, uri, ledger.study_name)
        self.sent = 0  # events, in this pass
        self.refused = ""  # why the artifact store did not take a file, in this pass
        self._ledger, self._saved = ledger, 0.0
        self._looked = self._fresh = False  # whether the server was asked what it has: ever, and in this pass
        self._kept: dict[str, tuple[str, str | None]] = {}  # by key: a run that the server had, and the one above it
        self._alone = threading.Lock()

    def begin(self) -> None:
        """Begin a pass: nothing is sent yet."""
        self.sent, self.refused, self._fresh = 0, "", False

    def save(self) -> None:
        self.cursor.save(self._ledger.folder)

    @contextmanager
    def got(self, events: int) -> Iterator[Cursor]:
        """Count so many events that the server has got, and give the cursor to note them in, for this thread alone."""
        with self._alone:
            self.sent += events
            yield self.cursor

    def look(self) -> None:
        """Hold what was sent against what the server has, once for each process: where some of it is gone, all is sent again.

        Raises ConfigError where the server has what the ledger has not: it is an older copy of the study, or another one.
        """
        if self._looked:
            return
        there = self.runs.there()
        active = {self.runs.key(r): r for r in there if r.info.lifecycle_stage == "active"}  # of two, by a crash, the older one stays
        held.check_newest(self._ledger, active, self.uri)
        if not held.is_whole(self.cursor, {r.info.run_id for r in there}, self.runs):
            self.cursor.forget()
        self.cursor.runs = {k: r.info.run_id for k, r in active.items()} | self.cursor.runs
        self._kept = {k: (r.info.run_id, r.data.tags.get(PARENT)) for k, r in active.items() if k}
        self._looked = self._fresh = True

    def adopt(self, root: str) -> None:
        """Hang the runs that the server kept below those that were made anew, where what was above them is gone.

        `root`: the study's own run. Only the pass that asked what the server has knows of any.
        """
        cells = {a.trial_id: a.cell for a in self._ledger.asks()} if self._kept else {}
        for key, (run, parent) in self._kept.items():
            above = self.cursor.runs.get(cells[key]) if key in cells else root
            if above and above != parent:
                self.runs.set_tags(run, {PARENT: above})
        self._kept = {}

    def run(self, key: str, name: str, parent: str | None, tags: Mapping[str, str], started: float | None) -> str:
        """Return the id of the run of this key: known, else found by tag, else made."""
        if key not in self.cursor.runs:
            found = None if self._fresh else self.runs.find(key)
            run = found or self.runs.make(key, name, parent, tags, started)
            with self.got(1) as cursor:
                cursor.runs[key] = run
                if time.monotonic() - self._saved > SAVE_S:
                    self.save()
                    self._saved = time.monotonic()
        return self.cursor.runs[key]

    def put(self, run: str, name: str, data: bytes) -> bool:
        """Return False, and remember why, where the artifact store alone refuses: metrics go on, the file is tried again next time."""
        try:
            self.runs.put_file(run, name, data)
        except Exception as error:
            self.refused = f"missing in the artifact store: {name} of run {run}; {explain(error, self.uri)}"
            self.runs.client.get_run(run)  # raises where the whole server is away
            return False
        return True
