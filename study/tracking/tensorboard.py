"""Event files for TensorBoard: one run for each trial, with metrics by epoch, searched settings, and test scores with the verdict.

    FOLDER/STUDY/partial #5 1f0c3a/events.out.tfevents.ANY    the trial's id behind its name: a search that grew may confirm another #0
    FOLDER/STUDY/sent.json                                    what was written; remove it with the whole of STUDY to have all written again

TensorBoard reads several event files of a run as one, so each process that writes begins a file of its own.
"""

import json
import os
import re
import uuid
from contextlib import suppress
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams

from study.errors import EnvironmentProblem
from study.question.study_config import Study
from study.question.trial_config import TrialConfig
from study.records import Ask, TrialResult, dumps
from study.scoring import metric_of
from study.storage.folder import Folder
from study.tracking import events
from study.tracking.ledger import Ledger
from study.tracking.mlflow_runs import Row
from study.tracking.names import names_by_cell, run_name
from study.tracking.tracker import SyncReport

SENT = "sent.json"


class EventFiles:
    """The event files of one study."""

    def __init__(self, ledger: Ledger, folder: str) -> None:
        self.ledger = ledger
        self.folder = Folder(os.path.join(os.path.abspath(folder), ledger.study_name))
        self._asks: dict[str, Ask] = {}  # written once, so read once
        self._open: dict[str, EventsWriter] = {}  # of trials that have not ended
        self._epochs: dict[str, int] = {}  # written, by trial
        self._ended: set[str] = set()
        self._word = ""  # mark of the study's last word that was written
        self._loaded = False

    def sync(self) -> SyncReport:
        """Write the new events. Where the disk refuses, the report says so."""
        written, problem = 0, None
        try:
            self._load()
            if (study := self.ledger.study()) is not None:
                written = self._pass(study)
        except (OSError, EnvironmentProblem) as error:
            said = getattr(error, "strerror", None) or str(error).rstrip(".")
            problem = f"{self.folder.location} takes no event files ({said}). Free some room, or name another folder with --track."
        return SyncReport(sent=written, pending=self._pending() if problem else 0, problem=problem)

    def _pass(self, study: Study) -> int:
        names, written = names_by_cell(study.cells), 0
        for ask in self.ledger.asks_beside(self._asks):
            if ask.trial_id not in self._ended:
                written += self._trial(ask, run_name(ask, names.get(ask.cell, ask.cell)))
        facts = self.ledger.facts()
        if (word := events.last_word(facts)) and word != self._word:
            for trial_id, scores in facts.get("scores", {}).get("trials", {}).items():
                if (known := self._asks.get(trial_id)) is not None:
                    writer = self._writer(known, run_name(known, names.get(known.cell, known.cell)))
                    _rows(writer, events.score_rows(scores, float(facts["finished_at"]), metric=metric_of(known.config)))
                    writer.close()
            self._word, written = word, written + 1
        if written:
            self._save()
        return written

    def _trial(self, ask: Ask, name: str) -> int:
        """Write a trial's new epochs and its end; return the number of events written."""
        result = self.ledger.result(ask.trial_id)
        epochs = self.ledger.epochs(ask.trial_id, ended=result is not None)
        fresh = epochs[self._epochs.get(ask.trial_id, 0) :]
        if not fresh and result is None:
            return 0
        writer = self._open.pop(ask.trial_id, None) or self._writer(ask, name)
        _rows(writer, events.epoch_rows(fresh, metric_of(ask.config)))
        if result is not None:
            _rows(writer, events.class_rows(result))
            _hyperparameters(writer, ask, result)
            writer.close()
            self._ended.add(ask.trial_id)
        else:
            writer.flush()
            self._open[ask.trial_id] = writer
        self._epochs[ask.trial_id] = len(epochs)
        return len(fresh) + (result is not None)

    def _writer(self, ask: Ask, name: str) -> EventsWriter:
        """Return a writer to a new file of the trial's run. It writes at once, in this thread, so a full disk is noticed."""
        plain = re.sub(r"[/\\]", "-", name)
        run = self.folder.path(f"{plain} {ask.trial_id[:6]}")
        os.makedirs(run, exist_ok=True)
        return EventsWriter(f"{run}/events", f".{uuid.uuid4().hex[:8]}")  # its own name has but the second in it

    def _pending(self) -> int:
        left = [a.trial_id for a in self.ledger.asks() if a.trial_id not in self._ended]
        return max(sum(1 + len(self.ledger.epochs(t)) - self._epochs.get(t, 0) for t in left), 1)

    def _load(self) -> None:
        """Load the saved state; begin anew where there is none or it cannot be read."""
        if self._loaded:
            return
        known: Any = None
        with suppress(ValueError, RecursionError):
            known = json.loads(self.folder.read(SENT) or b"{}")
        if (
            isinstance(known, dict)
            and isinstance(epochs := known.get("epochs", {}), dict)
            and isinstance(ended := known.get("ended", []), list)
        ):
            self._epochs = {k: v for k, v in epochs.items() if type(v) is int}
            self._ended, self._word = {t for t in ended if isinstance(t, str)}, str(known.get("word", ""))
        self._loaded = True

    def _save(self) -> None:
        self.folder.write(SENT, dumps({"epochs": self._epochs, "ended": sorted(self._ended), "word": self._word}).encode())


def _rows(writer: EventsWriter, rows: list[Row]) -> None:
    for name, value, at, step in rows:
        writer.write_event(Event(summary=Summary(value=[Summary.Value(tag=name, simple_value=value)]), step=step, wall_time=at))


def _hyperparameters(writer: EventsWriter, ask: Ask, result: TrialResult) -> None:
    """Write what was searched beside the score, for the tab HParams."""
    config = TrialConfig.from_dict(ask.config)
    name = config.protocol.scored_by.recorded
    scores = {name: result.metrics[name]} if name in result.metrics else {}
    for summary in hparams({"strategy": config.cell.strategy, **events.params(config)}, scores):
        writer.write_event(Event(summary=summary, wall_time=result.ended_at))
