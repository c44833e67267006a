"""The study's own run on an MLflow server, above all others. It grows with the study, and ends with its final facts."""

from collections.abc import Container, Iterable
from typing import Any

from study.question.study_config import Study
from study.tracking import events
from study.tracking.cursor import mark
from study.tracking.inputs import inputs
from study.tracking.ledger import Ledger
from study.tracking.mlflow_runs import NOTE
from study.tracking.names import first
from study.tracking.sender import Sender
from study.tracking.unsent import Unsent

MOST_COLUMNS = 16  # of what was searched, in the table of runs


class StudyRun:
    """One study's run, as one pass sends it; made where the server has none."""

    def __init__(self, ledger: Ledger, sender: Sender, study: Study, facts: dict[str, Any]) -> None:
        self._ledger, self._sender, self._study, self._facts = ledger, sender, study, facts
        tags = {"study": study.name, **events.fact_tags(facts), **events.protocol_tags(study)}
        self.root = sender.run("", study.name, None, tags, facts.get("started_at"))

    def reopen(self) -> None:
        """Open the runs that had ended with a last word which the study, since it grew, no longer has."""
        cursor = self._sender.cursor
        if cursor.closed and not events.last_word(self._facts):
            for key, run in cursor.runs.items():
                if key not in cursor.ended:
                    self._sender.runs.reopen(run)
            cursor.closed = ""

    def amendments(self) -> None:
        """Send how the study grew."""
        found = self._ledger.amendments()
        more = len(found) - self._sender.cursor.amendments
        if more:
            self._sender.runs.replace_tags(self.root, "amendment.", [events.amendment_text(a) for a in found])
            with self._sender.got(more) as cursor:
                cursor.amendments = len(found)

    def describe(self) -> None:
        """Send the note at the top of the study's page, and the table of its runs, where they would say something else now."""
        report, runs, files = events.REPORT_TO_COME, self._sender.runs, self._sender.cursor.files
        if "report.html" in files:
            answer, whole = (runs.page(self.root, name) for name in ("answer.html", "report.html"))
            report = f"[The answer at a glance]({answer}), [the report with its figures]({whole})."
        amendments = self._ledger.amendments()
        content = mark(events.note(self._study, self._facts, amendments, report).encode())
        if files.get(NOTE) == content:
            return
        columns = [f"metrics.`{first(self._study.scored_by)}/{name}`" for name in ("test", "test_low", "test_high", "validation")]
        searched = [*dict.fromkeys(name for cell in self._study.cells for name in self._study.ranges(cell))][:MOST_COLUMNS]
        view = runs.offer_view("study", [*columns, *(f"params.`{name}`" for name in searched)], columns[0])
        text = f"{report} [All runs, the best on test first]({view})."
        runs.describe(self.root, events.note(self._study, self._facts, amendments, text))
        files[NOTE] = content

    def inputs(self, data_report: dict[str, Any]) -> None:
        """Send what each cell, and the study, was trained and measured on; again where the data report changed."""
        cursor = self._sender.cursor
        for cell in self._study.cells:
            run, found = cursor.runs.get(cell.id), inputs(cell, data_report)
            name, content = f"inputs of {cell.id}", mark("".join(i.dataset.digest for i in found).encode())
            if run is not None and found and cursor.files.get(name) != content:
                self._sender.runs.add_inputs(run, found)
                self._sender.runs.add_inputs(self.root, found)
                cursor.files[name] = content

    def put_files(self, unsent: Unsent, names: Iterable[str]) -> bool:
        """Send those of the study's files that differ from what was sent. Return False where the artifact store refused one."""
        return all([self._put(unsent, name) for name in names])

    def _put(self, unsent: Unsent, name: str) -> bool:
        data = unsent.changed(name)
        if data is not None:
            if not self._sender.put(self.root, name, data):
                return False
            with self._sender.got(1):
                unsent.file_sent(name, data)
        return True

    def scores(self) -> None:
        """Send the scores on test: known with the verdict, so they come with the study's last word."""
        at, scores = float(self._facts["finished_at"]), self._facts.get("scores") or {}
        runs, known, metric = self._sender.runs, self._sender.cursor.runs, self._study.scored_by
        for key, own in {**scores.get("trials", {}), **scores.get("cells", {})}.items():
            if run := known.get(key):
                runs.log_metrics(run, events.score_rows(own, at, metric=metric))
        for key, own in scores.get("cells", {}).items():
            if run := known.get(key):
                runs.set_tags(run, {NOTE: events.cell_note(own, metric)})
        runs.log_metrics(self.root, events.best_rows(self._facts.get("picks", []), at, metric))

    def close(self, trials: Container[str]) -> None:
        """Send the verdicts and end all runs: a trial that has not ended was killed."""
        self._sender.runs.replace_tags(self.root, "verdict.", [str(sentence) for sentence in self._facts["verdicts"]])
        for key, run in self._sender.cursor.runs.items():
            if key not in self._sender.cursor.ended:
                self._sender.runs.end(run, "KILLED" if key in trials else "FINISHED", float(self._facts["finished_at"]))
        with self._sender.got(1) as cursor:
            cursor.closed = events.last_word(self._facts)
