"""Requests to one MLflow server, counted, and noted beside the study (study.tracking.cursor). Several trials send at a time."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from study.tracking.cursor import Cursor
from study.tracking.explain import explain
from study.tracking.ledger import Ledger
from study.tracking.mlflow_runs import Runs

SAVE_S = 5.0  # how often the cursor is written during a pass
FEW = 20  # runs that are looked for one by one


class Sender:
    """One study's runs on one server. Every method that asks the server raises what MLflow's client raises."""

    def __init__(self, ledger: Ledger, uri: str) -> None:
        self.runs, self.uri = Runs(ledger.study_name, uri), uri
        self.cursor = Cursor.load(ledger.folder, uri, ledger.study_name)
        self.sent = 0  # events, in this pass
        self.refused = ""  # why the artifact store did not take a file, in this pass
        self._folder, self._saved = ledger.folder, 0.0
        self._absent: set[str] = set()  # keys of which the server has no run, as this pass began
        self._alone = threading.Lock()

    def begin(self) -> None:
        """Begin a pass: nothing is sent yet."""
        self.sent, self.refused = 0, ""

    def save(self) -> None:
        self.cursor.save(self._folder)

    @contextmanager
    def got(self, events: int) -> Iterator[Cursor]:
        """Count so many events that the server has got, and give the cursor to note them in, for this thread alone."""
        with self._alone:
            self.sent += events
            yield self.cursor

    def find(self, keys: Iterable[str]) -> None:
        """Look for the runs that are not known, in one go where they are many."""
        unknown = set(keys) - self.cursor.runs.keys()
        self._absent = set()
        if len(unknown) > FEW:
            found = self.runs.find_all()
            self.cursor.runs.update({k: found[k] for k in unknown & found.keys()})
            self._absent = unknown - found.keys()

    def run(self, key: str, name: str, parent: str | None, tags: Mapping[str, str], started: float | None) -> str:
        """Return the id of the run of this key: known, else found by tag, else made."""
        if key not in self.cursor.runs:
            found = None if key in self._absent else self.runs.find(key)
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
