"""MLflow as a mirror of the ledger: study > cell > trial, found again by tag, so sending again duplicates nothing.

It runs in a process of its own (study.tracking.follower), so a slow or dead server costs training nothing. What was not sent is sent by
`python -m study.tracking sync RESULTS`. A pass reads the trials that have not ended on the server, and of the others only what was made
since. Several trials are sent at a time, each in few requests, since a server's answers are what takes long. A study that was finished and
then grew is sent on: its runs open again, what is new comes, and its last word replaces the earlier one.
"""

import contextlib

from study.question.study_config import Study
from study.tracking import events
from study.tracking.catalogue import Catalogue
from study.tracking.client import own_uri
from study.tracking.explain import explain
from study.tracking.ledger import STUDY_FILES, Ledger
from study.tracking.mlflow_runs import Runs
from study.tracking.sender import Sender
from study.tracking.study_run import StudyRun
from study.tracking.tracker import SyncReport
from study.tracking.trial_runs import TrialRuns
from study.tracking.unsent import Unsent

REFUSED = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")  # how MLflow answers of what was deleted


class Mirror:
    """The mirror of one study on one server."""

    def __init__(self, ledger: Ledger, uri: str | None = None) -> None:
        self.ledger = ledger
        self._sender = Sender(ledger, uri or own_uri(ledger))
        self._unsent = Unsent(ledger, self._sender.cursor)

    @property
    def runs(self) -> Runs:
        return self._sender.runs

    @property
    def uri(self) -> str:
        return self._sender.uri

    def sync(self) -> SyncReport:
        """Send everything in the ledger that the server has not got; stop at the first refusal. Never raises for a server's fault."""
        self._sender.begin()
        problem = note = None
        try:
            study = self.ledger.study()
            if study is not None:
                self.runs.metric = study.scored_by
                self._pass(study)
                note = self.runs.called()
        except Exception as error:  # whatever the client raises, training goes on and the ledger keeps the events
            problem = self._deleted(error) or explain(error, self._sender.uri)
        if problem is None and not self._sender.sent and self.ledger.finished() and not self.pending():
            with contextlib.suppress(Exception):  # a last look: what was sent once may be deleted since
                problem = self.runs.deleted()
        self._sender.save()
        return SyncReport(sent=self._sender.sent, pending=self.pending(), problem=problem or self._sender.refused or None, note=note)

    def pending(self) -> int:
        """Return the number of events in the ledger that have not been delivered."""
        return self._unsent.count()

    def _pass(self, study: Study) -> None:
        unsent = self._unsent
        self._sender.look()
        unsent.look()
        whole = StudyRun(self.ledger, self._sender, study, unsent.facts)
        whole.reopen()
        whole.amendments()
        whole.describe()  # first of all: what a person sees of a running study
        trials, asks = TrialRuns(self.ledger, self._sender, study, unsent.facts), unsent.trials()
        trials.make_cells(asks, whole.root)
        self._sender.adopt(whole.root)
        data_report = self.ledger.data_report()
        whole.inputs(data_report)
        trials.send(asks, data_report)
        for ask, name in unsent.measurements():
            trials.put_file(ask, name)
        if not self._sender.refused:
            unsent.measurements_sent()
        catalogue = Catalogue(self.ledger, self._sender)
        for ask in unsent.networks():
            catalogue.register(ask)
        whole.put_files(unsent, STUDY_FILES)
        self._last_word(whole, catalogue)
        whole.describe()  # the report is there by now

    def _last_word(self, whole: StudyRun, catalogue: Catalogue) -> None:
        """Send what the study came to. Its runs stay open until everything is there."""
        facts = self._unsent.facts
        if not (word := events.last_word(facts)) or "verdicts" not in facts or word == self._sender.cursor.closed or self._sender.refused:
            return
        if not whole.put_files(self._unsent, [f"tables/{name}" for name in self.ledger.folder.names("tables")]):
            return
        catalogue.name_best(facts.get("picks", []))
        whole.scores()
        whole.close(self._unsent.known)

    def _deleted(self, error: Exception) -> str | None:
        """Return, of a request that the server found wrong, that a person deleted what it was about; None where nobody did."""
        if getattr(error, "error_code", None) not in REFUSED:
            return None
        try:
            return self.runs.deleted()
        except Exception:  # then the first error has to do
            return None
