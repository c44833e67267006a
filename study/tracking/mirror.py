"""MLflow as a mirror of the ledger: study > cell > trial, found again by tag, so replaying never doubles anything.

It runs in a process of its own (study.tracking.follower), so a slow or dead server costs training nothing; what was not sent is
sent by `python -m study.tracking sync RESULTS`. A pass reads the trials that have not ended on the server, and of the others only what
was made since; several trials are sent at a time, each in few requests, since a server's answers are what takes long. A study that was finished and then grew is sent on: its runs open again, what is
new comes, and its last word replaces the earlier one.
"""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from study.failpoints import failpoint
from study.question.config import Study, TrialConfig
from study.records import Ask, Origin, Outcome, Stage, TrialResult
from study.scoring.metric import DEFAULT, metric_of
from study.tracking import events
from study.tracking.client import own_uri
from study.tracking.cursor import Cursor, mark
from study.tracking.explain import explain
from study.tracking.inputs import inputs
from study.tracking.ledger import STUDY_FILES, Ledger
from study.tracking.mlflow_runs import NOTE, Runs
from study.tracking.names import cell_names, first, run_name
from study.tracking.tracker import SyncReport

SAVE_S = 5.0  # how often the cursor is written during a pass
SIDE_BY_SIDE = 4  # trials sent at a time
REFUSED = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST")  # how MLflow answers of what was deleted
FEW = 20  # runs that are looked for one by one
MOST_COLUMNS = 16  # of what was searched, in the table of runs


class Mirror:
    """One study, one server."""

    def __init__(self, ledger: Ledger, uri: str | None = None) -> None:
        self.ledger, self.uri = ledger, uri or own_uri(ledger)
        self.runs = Runs(ledger.study_name, self.uri)
        self.cursor = Cursor.load(ledger.folder, self.uri)
        self._sent, self._refused, self._saved = 0, "", 0.0
        self._asks: dict[str, Ask] = {}  # written once, so read once
        self._looked = ""  # mark of study.json when what was measured on ended trials was last looked for
        self._same: dict[str, str] = {}  # the study's files that are as they were sent, by their mark on the disk
        self._here: dict[str, str] = {}  # those marks now
        self._data: dict[str, Any] = {}  # the data report
        self._absent: set[str] = set()  # keys of which the server has no run, as this pass began
        self._alone = threading.Lock()  # what is counted while several trials are sent

    def sync(self) -> SyncReport:
        """Sends everything in the ledger that the server has not got; stops at the first refusal. Never raises for a server's fault."""
        self._sent, self._refused = 0, ""
        problem = None
        try:
            study = self.ledger.study()
            if study is not None:
                self.runs.metric = study.scored_by
                self._pass(study)
        except Exception as error:  # whatever the client raises, training goes on and the ledger keeps the events
            problem = self._deleted(error) or explain(error, self.uri)
        self.cursor.save(self.ledger.folder)
        return SyncReport(sent=self._sent, pending=self.pending(), problem=problem or self._refused or None)

    def _deleted(self, error: Exception) -> str | None:
        """Of a request that the server found wrong: whether that is because a person deleted what it was about."""
        if getattr(error, "error_code", None) not in REFUSED:
            return None
        try:
            return self.runs.deleted()
        except Exception:  # then the first error has to do
            return None

    def pending(self) -> int:
        """Events in the ledger that have not been delivered."""
        self._here = self.ledger.folder.marks()
        facts, kept, count = self.ledger.facts(), self._kept(), 0
        asks = self.ledger.asks_beside(self._asks)
        for ask in asks:
            count += ask.trial_id not in self.cursor.runs
        for ask in self._measured_late(asks, kept):
            count += len(self._unsent_measurements(ask))
        for ask in asks:
            if ask.trial_id not in self.cursor.ended:
                result = self.ledger.result(ask.trial_id)
                count += len(self.ledger.epochs(ask.trial_id, ended=result is not None)) - self.cursor.epochs.get(ask.trial_id, 0)
                count += result is not None
        count += len(self.ledger.amendments()) - self.cursor.amendments
        return count + (events.last_word(facts) != self.cursor.closed) + sum(1 for name in STUDY_FILES if self._changed(name) is not None)

    # -- one pass ----------------------------------------------------------------------------------
    def _pass(self, study: Study) -> None:
        self._here = self.ledger.folder.marks()
        facts, kept = self.ledger.facts(), self._kept()
        root = self._run(
            "", study.name, None, {"study": study.name, **events.fact_tags(facts), **events.protocol_tags(study)}, facts.get("started_at")
        )
        if self.cursor.closed and not events.last_word(facts):
            self._reopen()
        self._amendments(root)
        self._describe(study, root, facts)  # first of all: what a person sees of a running study
        asks = self.ledger.asks_beside(self._asks)
        self._trials([a for a in asks if a.trial_id not in self.cursor.ended], study, root, facts)
        for ask in self._measured_late(asks, kept):
            for name in self._unsent_measurements(ask):
                self._put_trial_file(ask, self.cursor.runs[ask.trial_id], name)
        if not self._refused:
            self._looked = self._here.get("study.json", "")
        for ask in asks:
            if ask.trial_id in kept:
                self._model(ask)
        for name in STUDY_FILES:
            self._put_study_file(root, name)
        if (word := events.last_word(facts)) and "verdicts" in facts and word != self.cursor.closed and not self._refused:
            self._close(root, facts)
        self._describe(study, root, facts)  # the report is there by now

    def _measured_late(self, asks: list[Ask], kept: set[str]) -> list[Ask]:
        """Trials that had ended on the server and may have been measured since: looked for once, and whenever study.json was written,
        which is what a study's end does."""
        if self._looked == self._here.get("study.json", ""):
            return []
        return [a for a in asks if a.trial_id in self.cursor.ended and (a.trial_id in kept or a.stage in (Stage.CONFIRM, Stage.BUDGET))]

    def _trials(self, asks: list[Ask], study: Study, root: str, facts: dict[str, Any]) -> None:
        """Sends what is new of each; several at a time over a connection, one at a time into a database beside us."""
        names = {cell.id: name for cell, name in cell_names(study.cells).items()}
        self._find_runs(asks)
        for ask in asks:  # before they are needed side by side
            if ask.cell not in self.cursor.runs:
                self._run(ask.cell, names.get(ask.cell, ask.cell), root, events.cell_tags(self._config(ask).cell), facts.get("started_at"))
        self._inputs(study, root)
        if not self.uri.startswith(("http://", "https://")):
            for ask in asks:
                self._trial(ask, names, facts)
            return
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="mirror") as pool:
            sent = [pool.submit(self._trial, ask, names, facts) for ask in asks]
            try:
                for future in sent:
                    future.result()
            finally:
                pool.shutdown(cancel_futures=True)  # the first refusal ends the pass

    def _trial(self, ask: Ask, names: dict[str, str], facts: dict[str, Any]) -> None:
        config, trial_id = self._config(ask), ask.trial_id
        name = names.get(ask.cell, ask.cell)
        result = self.ledger.result(trial_id)
        epochs = self.ledger.epochs(trial_id, ended=result is not None)
        started = result.started_at if result else (epochs[0].ended_at - epochs[0].seconds if epochs else None)
        tags = events.cell_tags(config.cell) | {"stage": ask.stage.value, "origin": ask.origin.value, "trial": trial_id}
        tags |= {"seed": str(config.seed), "number": str(ask.number)}
        run = self._run(trial_id, run_name(ask, name), self.cursor.runs[ask.cell], tags, started)
        failpoint("after_mlflow_start")
        params = dict[str, Any]()
        if trial_id not in self.cursor.epochs:
            params = events.params(config)
            looks = ask.stage is Stage.CONFIRM or ask.origin is Origin.REFIT
            splits = ("train", "val", "test") if looks else ("train", "val")
            self.runs.add_inputs(run, inputs(config.cell, self._data, splits))
        fresh = epochs[self.cursor.epochs.get(trial_id, 0) :]
        rows, ends = events.epoch_rows(fresh, metric_of(ask.config)), dict[str, str]()
        if result is not None:
            rows += events.class_rows(result)
            ends = {"outcome": result.outcome.value, "reason": result.reason, "device": result.device, "attempts": str(result.attempts)}
            ends |= events.fact_tags(facts)
        self.runs.log(run, params, rows, ends)
        with self._alone:
            self._sent += len(fresh)
            self.cursor.epochs[trial_id] = len(epochs)
        if result is not None:
            self._end(ask, run, result)

    def _end(self, ask: Ask, run: str, result: TrialResult) -> None:
        """Where the artifact store refuses a file the run stays open, and the rest goes on."""
        whole = all([self._put_trial_file(ask, run, name) for name in self.ledger.files(ask.trial_id)])
        if result.val is not None:
            rows = "\n".join(",".join(map(str, row)) for row in result.val.confusion) + "\n"
            whole &= self._put(run, "confusion_matrix.csv", rows.encode())
        if not whole:
            return
        failpoint("before_mlflow_end")
        self.runs.end(run, "FINISHED" if result.outcome in (Outcome.COMPLETED, Outcome.STOPPED) else "FAILED", result.ended_at)
        with self._alone:
            self._sent += 1
            self.cursor.ended.add(ask.trial_id)

    def _model(self, ask: Ask) -> None:
        """Registers the chosen trial's network as a model version, loadable by mlflow.pyfunc.load_model."""
        if ask.trial_id in self.cursor.models:
            return
        from study.tracking.model import register

        folder, run = self.ledger.trial_folder(ask.trial_id), self.cursor.runs[ask.trial_id]
        if not folder.exists("best/manifest.json"):
            return
        tags = events.cell_tags(self._config(ask).cell)
        name = self._model_name(*(tags[k] for k in ("dataset", "splits", "backbone", "strategy")))
        register(self.runs.client, name, run, folder, {"trial": ask.trial_id, **tags})
        self.cursor.models.add(ask.trial_id)
        self._sent += 1

    def _best_models(self, picks: list[dict[str, Any]]) -> None:
        """The network to use of every data set, by the alias `best`: chosen with the verdict, so it comes with the study's last word."""
        from study.tracking.model import BEST, register_best

        for pick in picks:
            trial, name = str(pick["trial"]), self._model_name(pick["of"])
            folder, ask, key = self.ledger.trial_folder(trial), self.ledger.ask(trial), f"{BEST}:{name}:{trial}"
            if ask is None or key in self.cursor.models or trial not in self.cursor.runs or not folder.exists("best/manifest.json"):
                continue
            tags = {"trial": trial, **events.cell_tags(self._config(ask).cell)}
            register_best(self.runs.client, name, self.cursor.runs[trial], folder, pick, tags)
            self.cursor.models = {m for m in self.cursor.models if not m.startswith(f"{BEST}:{name}:")} | {key}
            self._sent += 1

    def _model_name(self, *parts: str) -> str:
        """Of the study's; servers refuse some characters."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join([self.ledger.study_name, *parts]))

    # -- the study itself: it grows, and has a last word ----------------------------------------------
    def _reopen(self) -> None:
        for key, run in self.cursor.runs.items():
            if key not in self.cursor.ended:
                self.runs.reopen(run)
        self.cursor.closed = ""

    def _amendments(self, root: str) -> None:
        found = self.ledger.amendments()
        if len(found) != self.cursor.amendments:
            self.runs.replace_tags(root, "amendment.", [events.amendment_text(a) for a in found])
            self._sent += len(found) - self.cursor.amendments
            self.cursor.amendments = len(found)

    def _describe(self, study: Study, root: str, facts: dict[str, Any]) -> None:
        report = events.REPORT_TO_COME
        if "report.html" in self.cursor.files:
            report = f"[The report with its figures]({self.runs.page(root, 'report.html')})."
        amendments = self.ledger.amendments()
        content = mark(events.note(study, facts, amendments, report).encode())
        if self.cursor.files.get(NOTE) == content:
            return
        columns = [f"metrics.`{first(study.scored_by)}/{name}`" for name in ("test", "test_low", "test_high", "validation")]
        searched = [*dict.fromkeys(name for cell in study.cells for name in study.ranges(cell))][:MOST_COLUMNS]
        view = self.runs.offer_view("study", [*columns, *(f"params.`{name}`" for name in searched)], columns[0])
        self.runs.describe(root, events.note(study, facts, amendments, f"{report} [All runs, the best on test first]({view})."))
        self.cursor.files[NOTE] = content

    def _inputs(self, study: Study, root: str) -> None:
        """What each cell, and the study, was trained and measured on; again where the data report changed."""
        self._data = self.ledger.data_report()
        for cell in study.cells:
            run, found = self.cursor.runs.get(cell.id), inputs(cell, self._data)
            name, content = f"inputs of {cell.id}", mark("".join(i.dataset.digest for i in found).encode())
            if run is not None and found and self.cursor.files.get(name) != content:
                self.runs.add_inputs(run, found)
                self.runs.add_inputs(root, found)
                self.cursor.files[name] = content

    def _scores(self, root: str, facts: dict[str, Any]) -> None:
        """On test: known with the verdict, so they come with the study's last word."""
        at, scores, study = float(facts["finished_at"]), facts.get("scores") or {}, self.ledger.study()
        metric = study.scored_by if study else DEFAULT
        for key, own in {**scores.get("trials", {}), **scores.get("cells", {})}.items():
            if run := self.cursor.runs.get(key):
                self.runs.log_metrics(run, events.score_rows(own, at, metric=metric))
        for key, own in scores.get("cells", {}).items():
            if run := self.cursor.runs.get(key):
                self.runs.set_tags(run, {NOTE: events.cell_note(own, metric)})
        self.runs.log_metrics(root, events.best_rows(facts.get("picks", []), at, metric))

    def _close(self, root: str, facts: dict[str, Any]) -> None:
        """The runs stay open until everything is there."""
        if not all([self._put_study_file(root, f"tables/{name}") for name in self.ledger.folder.names("tables")]):
            return
        self._best_models(facts.get("picks", []))
        self._scores(root, facts)
        self.runs.replace_tags(root, "verdict.", [str(sentence) for sentence in facts["verdicts"]])
        trials = set(self._asks)
        for key, run in self.cursor.runs.items():
            if key not in self.cursor.ended:
                self.runs.end(run, "KILLED" if key in trials else "FINISHED", float(facts["finished_at"]))
        self.cursor.closed = events.last_word(facts)
        self._sent += 1

    # -- plumbing -------------------------------------------------------------------------------------
    def _find_runs(self, asks: list[Ask]) -> None:
        """Many that are not known are looked for in one go."""
        unknown = {key for a in asks for key in (a.cell, a.trial_id)} - self.cursor.runs.keys()
        self._absent = set()
        if len(unknown) > FEW:
            found = self.runs.find_all()
            self.cursor.runs.update({k: found[k] for k in unknown & found.keys()})
            self._absent = unknown - found.keys()

    def _run(self, key: str, name: str, parent: str | None, tags: dict[str, str], started: float | None) -> str:
        """The run of this key: known, else found by tag, else made."""
        if key not in self.cursor.runs:
            found = None if key in self._absent else self.runs.find(key)
            run = found or self.runs.make(key, name, parent, tags, started)
            with self._alone:
                self._sent += 1
                self.cursor.runs[key] = run
                if time.monotonic() - self._saved > SAVE_S:
                    self.cursor.save(self.ledger.folder)
                    self._saved = time.monotonic()
        return self.cursor.runs[key]

    def _put(self, run: str, name: str, data: bytes) -> bool:
        """False, and remembered, when the artifact store alone refuses: metrics go on, the file is tried again next time."""
        try:
            self.runs.put_file(run, name, data)
        except Exception as error:
            self._refused = f"missing in the artifact store: {name} of run {run}; {explain(error, self.uri)}"
            self.runs.client.get_run(run)  # raises where the whole server is away
            return False
        return True

    def _put_study_file(self, root: str, name: str) -> bool:
        data = self._changed(name)
        if data is not None:
            if not self._put(root, name, data):
                return False
            self.cursor.files[name] = mark(data)
            self._same[name] = self._here.get(name, "")
            self._sent += 1
        return True

    def _put_trial_file(self, ask: Ask, run: str, name: str) -> bool:
        data = self.ledger.trial_folder(ask.trial_id).read(name)
        if data is None:
            return True
        if not self._put(run, name, data):
            return False
        if name.startswith("measured/"):
            result = self.ledger.result(ask.trial_id)
            self.runs.log_metrics(run, events.measured_rows(name, data, result) if result else [])
            with self._alone:
                self._sent += ask.trial_id in self.cursor.ended
                self.cursor.files[f"trials/{ask.trial_id}/{name}"] = mark(data)
        return True

    def _changed(self, name: str) -> bytes | None:
        """The study's file, if it differs from what was sent; not even read where it was not written since."""
        here = self._here.get(name)
        if here is not None and self._same.get(name) == here:
            return None
        data = self.ledger.folder.read(name)
        if data is not None and self.cursor.files.get(name) == mark(data):
            self._same[name] = here or ""
            return None
        return data

    def _unsent_measurements(self, ask: Ask) -> list[str]:
        names = [f"measured/{name}.parquet" for name in self.ledger.measurements(ask.trial_id)]
        return [name for name in names if f"trials/{ask.trial_id}/{name}" not in self.cursor.files]

    def _kept(self) -> set[str]:
        """Trials chosen by the search: beside the confirm runs, all whose networks are kept."""
        return set((self.ledger.selection() or {"chosen": {}})["chosen"].values())

    @staticmethod
    def _config(ask: Ask) -> TrialConfig:
        return TrialConfig.from_dict(ask.config)
