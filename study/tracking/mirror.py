"""MLflow as a mirror of the ledger: study > cell > trial, found again by tag, so replaying never doubles anything.

It runs in a process of its own (study.tracking.follower), so a slow or dead server costs training nothing; what was not sent is
sent by `python -m study.tracking sync RESULTS`. A study that was finished and then grew is sent on: its runs open again, what is
new comes, and its last word replaces the earlier one.
"""

import re
import time
from dataclasses import dataclass
from typing import Any

from study.config import Study, TrialConfig
from study.failpoints import failpoint
from study.records import Ask, Outcome, Stage, TrialResult
from study.tracking import events
from study.tracking.client import default_uri
from study.tracking.cursor import Cursor, mark
from study.tracking.explain import explain
from study.tracking.ledger import STUDY_FILES, Ledger
from study.tracking.runs import NOTE, Runs

SAVE_S = 5.0  # how often the cursor is written during a pass


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    sent: int = 0  # events delivered: run starts, epochs, endings, files of the study
    pending: int = 0
    problem: str | None = None  # one line; the way out in it


class Mirror:
    """One study, one server."""

    def __init__(self, ledger: Ledger, uri: str | None = None) -> None:
        self.ledger, self.uri = ledger, uri or default_uri(ledger)
        self.runs = Runs(ledger.study_name, self.uri)
        self.cursor = Cursor.load(ledger.folder, self.uri)
        self._sent, self._refused, self._saved = 0, "", 0.0
        self._configs: dict[str, TrialConfig] = {}

    def sync(self) -> SyncReport:
        """Sends everything in the ledger that the server has not got; stops at the first refusal. Never raises for a server's fault."""
        self._sent, self._refused = 0, ""
        problem = None
        try:
            study = self.ledger.study()
            if study is not None:
                self._pass(study)
        except Exception as error:  # whatever the client raises, training goes on and the ledger keeps the events
            problem = explain(error, self.uri)
        self.cursor.save(self.ledger.folder)
        return SyncReport(sent=self._sent, pending=self.pending(), problem=problem or self._refused or None)

    def pending(self) -> int:
        """Events in the ledger that have not been delivered."""
        facts, kept, count = self.ledger.facts(), self._kept(), 0
        for ask in self.ledger.asks():
            count += ask.trial_id not in self.cursor.runs
            if ask.trial_id in self.cursor.ended:
                count += len(self._unsent_measurements(ask)) if ask.trial_id in kept or ask.stage is Stage.CONFIRM else 0
                continue
            count += len(self.ledger.epochs(ask.trial_id)) - self.cursor.epochs.get(ask.trial_id, 0)
            count += self.ledger.result(ask.trial_id) is not None
        count += len(self.ledger.amendments()) - self.cursor.amendments
        return count + (events.last_word(facts) != self.cursor.closed) + sum(1 for name in STUDY_FILES if self._changed(name) is not None)

    # -- one pass ----------------------------------------------------------------------------------
    def _pass(self, study: Study) -> None:
        facts, kept = self.ledger.facts(), self._kept()
        root = self._run("", study.name, None, {"study": study.name, **events.fact_tags(facts)}, facts.get("started_at"))
        names = {cell.id: name for cell, name in events.cell_names(study.cells).items()}
        if self.cursor.closed and not events.last_word(facts):
            self._reopen()
        self._amendments(root)
        self._describe(study, root, facts)
        for ask in self.ledger.asks():
            if ask.trial_id not in self.cursor.ended:
                self._trial(ask, root, names)
            elif ask.trial_id in kept or ask.stage is Stage.CONFIRM:
                for name in self._unsent_measurements(ask):  # made after the trial had ended
                    self._put_trial_file(ask, self.cursor.runs[ask.trial_id], name)
            if ask.trial_id in kept:
                self._model(ask)
        for name in STUDY_FILES:
            self._put_study_file(root, name)
        if (word := events.last_word(facts)) and "verdicts" in facts and word != self.cursor.closed and not self._refused:
            self._close(root, facts)

    def _trial(self, ask: Ask, root: str, names: dict[str, str]) -> None:
        config = self._config(ask)
        tags = events.cell_tags(config.cell)
        name = names.get(ask.cell, ask.cell)
        home = self._run(ask.cell, name, root, tags, None)
        epochs, result = self.ledger.epochs(ask.trial_id), self.ledger.result(ask.trial_id)
        started = result.started_at if result else (epochs[0].ended_at - epochs[0].seconds if epochs else None)
        tags |= {"stage": ask.stage.value, "origin": ask.origin.value, "trial": ask.trial_id}
        tags |= {"seed": str(config.seed), "number": str(ask.number)}
        suffix = {Stage.SEARCH: "", Stage.CONFIRM: " confirm", Stage.EXPLAIN: f" {ask.origin.value}"}[ask.stage]
        run = self._run(ask.trial_id, f"{name}{suffix} #{ask.number}", home, tags, started)
        failpoint("after_mlflow_start")
        if ask.trial_id not in self.cursor.epochs:
            self.runs.log_params(run, events.params(config))
        done = self.cursor.epochs.get(ask.trial_id, 0)
        if fresh := epochs[done:]:
            self.runs.log_metrics(run, events.epoch_rows(fresh))
            self._sent += len(fresh)
        self.cursor.epochs[ask.trial_id] = len(epochs)
        if result is not None:
            self._end(ask, run, result)

    def _end(self, ask: Ask, run: str, result: TrialResult) -> None:
        """Where the artifact store refuses a file the run stays open, and the rest goes on."""
        whole = all([self._put_trial_file(ask, run, name) for name in self.ledger.files(ask.trial_id)])
        if result.val is not None:
            rows = "\n".join(",".join(map(str, row)) for row in result.val.confusion) + "\n"
            whole &= self._put(run, "confusion_matrix.csv", rows.encode())
            self.runs.log_metrics(run, events.class_rows(result))
        tags = {"outcome": result.outcome.value, "reason": result.reason, "device": result.device, "attempts": str(result.attempts)}
        self.runs.set_tags(run, tags | events.fact_tags(self.ledger.facts()))
        if not whole:
            return
        failpoint("before_mlflow_end")
        self.runs.end(run, "FINISHED" if result.outcome in (Outcome.COMPLETED, Outcome.STOPPED) else "FAILED", result.ended_at)
        self.cursor.ended.add(ask.trial_id)
        self._sent += 1

    def _model(self, ask: Ask) -> None:
        """Registers the chosen trial's network as a model version, loadable by mlflow.pyfunc.load_model."""
        from study.tracking.model import register

        folder, run = self.ledger.trial_folder(ask.trial_id), self.cursor.runs[ask.trial_id]
        if ask.trial_id in self.cursor.models or not folder.exists("best/manifest.json"):
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
        text = events.note(study, facts, self.ledger.amendments())
        if self.cursor.files.get(NOTE) != mark(text.encode()):
            self.runs.set_tags(root, {NOTE: text})
            self.cursor.files[NOTE] = mark(text.encode())

    def _close(self, root: str, facts: dict[str, Any]) -> None:
        """The runs stay open until everything is there."""
        if not all([self._put_study_file(root, f"tables/{name}") for name in self.ledger.folder.names("tables")]):
            return
        self._best_models(facts.get("picks", []))
        self.runs.replace_tags(root, "verdict.", [str(sentence) for sentence in facts["verdicts"]])
        trials = {a.trial_id for a in self.ledger.asks()}
        for key, run in self.cursor.runs.items():
            if key not in self.cursor.ended:
                self.runs.end(run, "KILLED" if key in trials else "FINISHED", float(facts["finished_at"]))
        self.cursor.closed = events.last_word(facts)
        self._sent += 1

    # -- plumbing -------------------------------------------------------------------------------------
    def _run(self, key: str, name: str, parent: str | None, tags: dict[str, str], started: float | None) -> str:
        """The run of this key: known, else found by tag, else made."""
        if key not in self.cursor.runs:
            self.cursor.runs[key] = self.runs.find_or_make(key, name, parent, tags, started)
            self._sent += 1
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
            self.cursor.files[f"trials/{ask.trial_id}/{name}"] = mark(data)
            self._sent += ask.trial_id in self.cursor.ended
        return True

    def _changed(self, name: str) -> bytes | None:
        """The study's file, if it differs from what was sent."""
        data = self.ledger.folder.read(name)
        return None if data is None or self.cursor.files.get(name) == mark(data) else data

    def _unsent_measurements(self, ask: Ask) -> list[str]:
        names = [f"measured/{name}.parquet" for name in self.ledger.measurements(ask.trial_id)]
        return [name for name in names if f"trials/{ask.trial_id}/{name}" not in self.cursor.files]

    def _kept(self) -> set[str]:
        """Trials chosen by the search: beside the confirm runs, all whose networks are kept."""
        return set((self.ledger.selection() or {"chosen": {}})["chosen"].values())

    def _config(self, ask: Ask) -> TrialConfig:
        if ask.trial_id not in self._configs:
            self._configs[ask.trial_id] = TrialConfig.from_dict(ask.config)
        return self._configs[ask.trial_id]
